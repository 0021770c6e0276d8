//! The layer: one line that puts the cache in front of a service.

use std::sync::Arc;

use tower_layer::Layer;

use crate::body::Budget;
use crate::collapse::bids::Bids;
use crate::collapse::failing::FailingKeys;
use crate::collapse::flight::Flights;
use crate::collapse::imminent::ImminentWrites;
use crate::collapse::order::Order;
use crate::collapse::permits::Permits;
use crate::collapse::slow::SlowBodies;
use crate::collapse::uncacheable::UncacheableKeys;
use crate::config::CacheConfig;
use crate::exchange::Shared;
use crate::exchange::background::Background;
use crate::exchange::search::Searches;
use crate::exchange::told::ToldHeads;
use crate::handle::CacheHandle;
use crate::observe::counters::Counters;
use crate::observe::meter::Meter;
use crate::service::RedisCache;
use crate::store::{AnyStore, MemoryStore, RedisStore};

/// Puts a shared HTTP cache in front of a service.
///
/// ```
/// use tower_redis_cache::{CacheConfig, RedisCacheLayer};
///
/// # fn main() -> Result<(), tower_redis_cache::ConfigError> {
/// let layer = RedisCacheLayer::new(CacheConfig::new("redis://127.0.0.1:6379")?);
/// # drop(layer);
/// # Ok(())
/// # }
/// ```
///
/// # Where to put it
///
/// Around the whole service, outside anything that rewrites a request's target. A router nested in another sees only the
/// rest of the path: two layers there, in one namespace, would take `/shop/orders` and `/admin/orders` for one resource.
/// Give each its own [`tenant`](crate::DefaultKey::tenant), or the whole target back with
/// [`target`](crate::DefaultKey::target). Authentication belongs outside the cache as well, or its answer is cached too.
///
/// # Clone
///
/// Clones share one cache: one set of connections, one set of counters.
#[derive(Clone, Debug)]
pub struct RedisCacheLayer {
    shared: Arc<Shared>,
}

/// What one body in chunks takes while it is recorded.
const LEAST_RECORDED: u64 = 1024 * 1024;
/// What large bodies may hold while they are sent, as a multiple of what recording may.
const READING_SHARE: u64 = 4;

impl RedisCacheLayer {
    /// A cache in Redis. Nothing is connected and nothing can fail here: the first request connects, and as long as
    /// Redis cannot be reached, requests go on to the service as if there were no cache.
    pub fn new(config: CacheConfig) -> Self {
        let counters = Arc::new(Counters::of(&config.cache_name));
        let store = AnyStore::Redis(RedisStore::new(&config, Arc::clone(&counters)));
        Self::build(store, config, counters)
    }

    /// A cache in this process's memory. The settings that concern Redis have no effect.
    pub fn with_store(mut store: MemoryStore, config: CacheConfig) -> Self {
        store.clock = config.clock.clone();
        let counters = Arc::new(Counters::of(&config.cache_name));
        Self::build(AnyStore::Memory(store), config, counters)
    }

    /// A handle for use outside the request path.
    pub fn handle(&self) -> CacheHandle {
        CacheHandle::new(Arc::clone(&self.shared))
    }

    fn build(store: AnyStore, config: CacheConfig, counters: Arc<Counters>) -> Self {
        // A store that takes a body only as a whole needs room for one.
        let least = store.chunk_size().map_or(u64::MAX, |_| LEAST_RECORDED).min(config.rules.max_body_size);
        let recording = Budget::new(config.max_inflight_bytes.max(least));
        let reading = Budget::new(config.max_inflight_bytes.saturating_mul(READING_SHARE));
        let failing = FailingKeys::new(config.origin.failure_backoff);
        let permits = Permits::new(config.origin.max_fetches, config.origin.max_queued_fetches);
        let shared = Shared {
            store,
            meter: Meter::new(&config.cache_name),
            config,
            counters,
            recording,
            reading,
            uncacheable: UncacheableKeys::new(),
            flights: Flights::default(),
            bids: Bids::default(),
            slow_bodies: SlowBodies::new(),
            searches: Searches::new(),
            failing,
            permits,
            order: Order::new(),
            imminent: ImminentWrites::default(),
            told: ToldHeads::new(),
            background: Background::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl<S> Layer<S> for RedisCacheLayer {
    type Service = RedisCache<S>;

    fn layer(&self, inner: S) -> RedisCache<S> {
        RedisCache::new(inner, Arc::clone(&self.shared))
    }
}
