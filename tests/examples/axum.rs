//! `examples/axum.rs`.

use tower_redis_cache::{CacheConfig, ManualClock};

use crate::asking::{get, in_memory, seconds, stored};

#[allow(dead_code)]
#[path = "../../examples/axum.rs"]
mod example;

#[tokio::test]
async fn what_may_be_shared_is_a_hit_the_second_time() {
    let time = ManualClock::new();
    let cache = in_memory(CacheConfig::default().clock(time.clock()));
    let handle = cache.handle();
    let app = example::app(cache);

    let first = get(&app, "/time").await;
    first.is_stored();
    get(&app, "/hello/you").await.is_stored().says("Hello, you!\n");
    stored(&handle).await;
    get(&app, "/time").await.is_hit_with_ttl(10).says(&first.text);
    get(&app, "/hello/you").await.is_hit_with_ttl(300).says("Hello, you!\n");
    get(&app, "/hello/me").await.is_stored().says("Hello, me!\n");
    stored(&handle).await;

    time.advance(seconds(11));
    get(&app, "/time").await.is_stored();
    get(&app, "/hello/you").await.is_hit_with_ttl(289);
}

#[tokio::test]
async fn one_users_own_is_never_stored() {
    let cache = in_memory(CacheConfig::default());
    let handle = cache.handle();
    let app = example::app(cache);
    for _ in 0..2 {
        let account = get(&app, "/account").await;
        account.is_not_stored();
        assert_eq!(account.outcome().and_then(|outcome| outcome.detail()), Some("private"));
        stored(&handle).await;
    }
}
