//! The layer over the client.

use std::time::Duration;

use tower::Layer;
use tower_redis_cache::{CacheConfig, RedisCacheLayer};

use super::upstream::Upstream;
use super::{LARGEST, listen};

pub(super) async fn serve(origin: &str, redis_url: &str, near: u64) {
    // Redis and the load share a core, so that a megabyte for each of many connections takes longer than the 100 ms after
    // which the origin is asked.
    let config = CacheConfig::new(redis_url).expect("a URL").store_timeout(Duration::from_secs(10));
    let config = config.store_write_timeout(Duration::from_secs(10)).max_inflight_bytes(256 * 1024 * 1024);
    let config = config.near_cache(near).near_cache_max_entry(2 * LARGEST as u64);
    listen(RedisCacheLayer::new(config).layer(Upstream::new(origin))).await;
}
