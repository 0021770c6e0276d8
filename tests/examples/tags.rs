//! `examples/tags.rs`, in a real Redis.

use axum::Router;
use http::{Request, StatusCode};
use tower_redis_cache::{CacheHandle, RedisCacheLayer};

use crate::asking::{get, send, settings_for, stored};
use crate::support::redis::RedisServer;

#[allow(dead_code)]
#[path = "../../examples/tags.rs"]
mod example;

const AT_FIRST: &str = "1 green tea\n2 coffee\nafter 0 deliveries\n";

fn app_on(server: &RedisServer) -> (Router, CacheHandle) {
    let cache = RedisCacheLayer::new(settings_for(server));
    let handle = cache.handle();
    (example::app(cache), handle)
}

#[tokio::test]
async fn a_change_ends_all_pages_that_show_the_product_and_no_other() {
    let server = RedisServer::start();
    let (app, cache) = app_on(&server);
    get(&app, "/products").await.is_stored().says(AT_FIRST);
    get(&app, "/products/1").await.is_stored().says("green tea\n");
    get(&app, "/products/2").await.is_stored().says("coffee\n");
    stored(&cache).await;
    get(&app, "/products").await.is_a_hit().says(AT_FIRST);

    send(&app, Request::put("/products/1"), "red tea").await.has_status(StatusCode::NO_CONTENT);
    stored(&cache).await;
    get(&app, "/products").await.is_stored().says("1 red tea\n2 coffee\nafter 0 deliveries\n");
    get(&app, "/products/1").await.is_stored().says("red tea\n");
    get(&app, "/products/2").await.is_a_hit().says("coffee\n");
}

#[tokio::test]
async fn after_a_soft_purge_one_reader_has_the_old_page_and_the_next_the_new_one() {
    let server = RedisServer::start();
    let (app, cache) = app_on(&server);
    get(&app, "/products").await.is_stored().says(AT_FIRST);
    get(&app, "/products/1").await.is_stored();
    stored(&cache).await;

    send(&app, Request::post("/restock"), "").await.has_status(StatusCode::NO_CONTENT);
    stored(&cache).await;
    get(&app, "/products").await.is_stale_hit().says(AT_FIRST);
    stored(&cache).await;
    let renewed = get(&app, "/products").await;
    renewed.is_a_hit().says("1 green tea\n2 coffee\nafter 1 deliveries\n");
    assert!(renewed.outcome().and_then(|outcome| outcome.ttl()) > Some(0), "{renewed:?}");
    get(&app, "/products/1").await.is_a_hit();
}

#[tokio::test]
async fn clients_do_not_see_the_tags() {
    let server = RedisServer::start();
    let (app, cache) = app_on(&server);
    for _ in 0..2 {
        let page = get(&app, "/products").await;
        assert!(page.head.headers().contains_key("cache-control"), "{page:?}");
        assert!(!page.head.headers().contains_key("surrogate-key"), "{page:?}");
        stored(&cache).await;
    }
}

#[tokio::test]
async fn a_purge_that_redis_does_not_confirm_is_no_success() {
    let mut server = RedisServer::start();
    let (app, _) = app_on(&server);
    get(&app, "/products").await.is_stored();
    server.kill();
    let changed = send(&app, Request::put("/products/1"), "red tea").await;
    changed.has_status(StatusCode::SERVICE_UNAVAILABLE);
    assert!(changed.text.starts_with("changed, but not purged: "), "{changed:?}");
}
