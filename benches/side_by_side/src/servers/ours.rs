//! The layer over the client.

use std::time::Duration;

use tower::Layer;
use tower_redis_cache::{CacheConfig, MemoryStore, RedisCacheLayer};

use super::listen;
use super::upstream::Upstream;

/// All of the cache in this process.
pub(super) async fn in_memory(origin: &str) {
    let layer = RedisCacheLayer::with_store(MemoryStore::new(256 * 1024 * 1024), CacheConfig::default());
    listen(layer.layer(Upstream::new(origin))).await;
}

/// The cache in Redis, with as much memory in front of it.
pub(super) async fn serve(origin: &str, redis_url: &str, near: u64) {
    // Redis shares its core with the load: what it has may come later than the 100 ms after which the origin is asked.
    let config = CacheConfig::new(redis_url).expect("a URL").store_timeout(Duration::from_secs(10));
    listen(RedisCacheLayer::new(config.near_cache(near)).layer(Upstream::new(origin))).await;
}
