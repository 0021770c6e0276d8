//! Other caches as tower layers, each as its documentation sets it up, over the same client.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum_response_cache::CacheLayer as AxumCacheLayer;
use http_cache::MokaManager;
use http_cache_tower_server::{QueryKeyer, ServerCacheLayer};
use redis::aio::ConnectionManagerConfig;
use tower::{Layer, Service};
use tower_http_cache::backend::memory::InMemoryBackend;
use tower_http_cache::backend::redis::RedisBackend;
use tower_http_cache::layer::CacheLayer;

use super::listen;
use super::upstream::Upstream;

const LIFETIME: Duration = Duration::from_secs(3600);
const ENTRIES: u64 = 10_000;

pub(super) async fn tower_http_cache_memory(origin: &str) {
    let layer = CacheLayer::builder(InMemoryBackend::new(ENTRIES)).ttl(LIFETIME).build();
    listen(layer.layer(Upstream::new(origin))).await;
}

/// With the timeouts of its example for Redis.
pub(super) async fn tower_http_cache_redis(origin: &str, redis_url: &str) {
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(Duration::from_secs(10)))
        .set_connection_timeout(Some(Duration::from_secs(5)));
    let client = redis::Client::open(redis_url).expect("a URL");
    let manager = client.get_connection_manager_with_config(config).await.expect("a connection");
    let layer = CacheLayer::builder(RedisBackend::new(manager)).ttl(LIFETIME).build();
    listen(layer.layer(Upstream::new(origin))).await;
}

pub(super) async fn http_cache_tower_server(origin: &str) {
    let manager = MokaManager::new(moka::future::Cache::new(ENTRIES));
    let layer = ServerCacheLayer::with_keyer(manager, QueryKeyer);
    listen(layer.layer(Upstream::new(origin))).await;
}

/// It is for axum alone: the client is the fallback of a router.
pub(super) async fn axum_response_cache(origin: &str) {
    let upstream = Upstream::<Body>::new(origin);
    let fetch = move |request: Request| {
        let mut upstream = upstream.clone();
        async move {
            let response = upstream.call(request).await.expect("the origin answers");
            Ok::<Response, Infallible>(response.map(Body::new))
        }
    };
    let router: Router =
        Router::new().fallback_service(tower::service_fn(fetch)).layer(AxumCacheLayer::with_lifespan(LIFETIME));
    listen(router).await;
}
