//! `examples/policies.rs`.

use axum::Router;
use http::Request;
use tower_redis_cache::{CacheConfig, CacheHandle, ManualClock, PurgeMode, PurgeTarget, RedisCacheLayer};

use crate::asking::{get, in_memory, seconds, send, settings_for, stored, with_handles};
use crate::support::redis::RedisServer;

#[allow(dead_code)]
#[path = "../../examples/policies.rs"]
mod example;

/// The application, and the handles of its two caches: that of the assets and that of the API.
fn app(settings: &CacheConfig, layer: fn(CacheConfig) -> RedisCacheLayer) -> (Router, [CacheHandle; 2]) {
    let (app, handles) = with_handles(layer, |layer| example::app(settings, layer));
    (app, handles.try_into().expect("two layers"))
}

#[tokio::test]
async fn each_part_is_cached_by_its_own_policy() {
    let time = ManualClock::new();
    let (app, [assets, api]) = app(&CacheConfig::default().clock(time.clock()), in_memory);
    get(&app, "/assets/logo.svg").await.is_stored().says("the asset logo.svg\n");
    get(&app, "/api/news?utm_source=x").await.is_stored();
    stored(&assets).await;
    stored(&api).await;
    get(&app, "/assets/logo.svg").await.is_hit_with_ttl(86_400).says("the asset logo.svg\n");
    get(&app, "/api/news?utm_source=y").await.is_hit_with_ttl(10);

    time.advance(seconds(11));
    get(&app, "/assets/logo.svg").await.is_hit_with_ttl(86_389);
    get(&app, "/api/news").await.is_hit_with_ttl(-1);
    stored(&api).await;
    get(&app, "/api/news").await.is_hit_with_ttl(10);

    time.advance(seconds(71));
    get(&app, "/api/news").await.is_stored();
}

#[tokio::test]
async fn a_reload_reaches_the_api_and_not_the_assets() {
    let (app, [assets, api]) = app(&CacheConfig::default(), in_memory);
    for path in ["/assets/logo.svg", "/api/news"] {
        get(&app, path).await.is_stored();
    }
    stored(&assets).await;
    stored(&api).await;
    let reload = |path: &'static str| send(&app, Request::get(path).header("cache-control", "no-cache"), "");
    reload("/assets/logo.svg").await.is_a_hit();
    reload("/api/news").await.is_stored();
}

#[tokio::test]
async fn the_account_has_no_cache() {
    let (app, _) = app(&CacheConfig::default(), in_memory);
    for _ in 0..2 {
        let account = get(&app, "/account").await;
        account.says("your account\n");
        assert!(account.outcome().is_none() && !account.head.headers().contains_key("cache-status"), "{account:?}");
    }
}

#[tokio::test]
async fn in_one_redis_a_purge_of_the_api_leaves_the_assets_alone() {
    let server = RedisServer::start();
    // Strictly, so that a purge which did reach the assets would be seen at once.
    let (app, [assets, api]) = app(&settings_for(&server).strict_purges(true), RedisCacheLayer::new);
    for path in ["/assets/logo.svg", "/api/news"] {
        get(&app, path).await.is_stored();
    }
    stored(&assets).await;
    stored(&api).await;
    api.purge([PurgeTarget::everything()], PurgeMode::Hard).await.unwrap();
    get(&app, "/assets/logo.svg").await.is_a_hit();
    get(&app, "/api/news").await.is_stored();
}
