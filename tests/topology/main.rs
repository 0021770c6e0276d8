//! Redis as it is run: behind TLS, watched by Sentinel, with passwords that change.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod doctor;
mod password;
mod replicas;
mod sentinel;
#[cfg(feature = "zstd")]
mod squeezed;
#[cfg(feature = "tls")]
mod tls;

use std::time::Instant;

use tower_redis_cache::{CacheConfig, RedisCacheLayer};

use crate::support::gate::PATIENCE;
use crate::support::scripted::ok;
use crate::support::story::{Story, get, whole_second};

fn story(config: CacheConfig) -> Story {
    let time = whole_second();
    let config = config.clock(time.clock()).store_timeout(PATIENCE / 4).store_write_timeout(PATIENCE / 4);
    let story = Story::told_by(RedisCacheLayer::new(config), time);
    story.origin.answers(|_| ok("page").cache_control("max-age=600"));
    story
}

/// Requests are answered all the while, and in the end from the cache.
async fn is_cached(story: &Story, target: &str) {
    let begun = Instant::now();
    while !story.client_asks(get(target)).await.has_status(200).has_body("page").outcome().is_hit() {
        assert!(begun.elapsed() < PATIENCE, "{target} is not cached: {:?}", story.handle.stats());
    }
}
