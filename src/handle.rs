//! The operators' side of a cache.

use std::sync::Arc;
use std::time::Duration;

use http::request;
use tokio::time;

use crate::doctor::Diagnosis;
use crate::exchange::{self, Shared};
use crate::inspect::Inspection;
use crate::observe::counters::Stats;
use crate::purge::target::MAX_TARGETS;
use crate::purge::{PurgeError, PurgeMode, PurgeTarget, Purged};

/// A cache, seen from outside the request path: [`RedisCacheLayer::handle`](crate::RedisCacheLayer::handle).
///
/// # Clone
///
/// Clones are cheap and speak of the same cache.
#[derive(Clone, Debug)]
pub struct CacheHandle {
    shared: Arc<Shared>,
}

impl CacheHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What happened so far. With the feature `metrics` this sets the gauges there as well.
    pub fn stats(&self) -> Stats {
        let stats = Stats {
            fills_in_flight: self.shared.background.running(),
            flights: self.shared.flights.count() as u64,
            fetches: self.shared.permits.in_use() as u64,
            queued_fetches: self.shared.permits.queued() as u64,
            bytes_in_flight: self.shared.recording.used(),
            bytes_read_ahead: self.shared.reading.used(),
            near_bytes: self.shared.store.near_octets(),
            purge_records: self.shared.store.plane().records() as u64,
            purge_news: self.shared.store.purge_news(),
            store_unavailable: u64::from(!self.shared.store.is_available()),
            ..self.shared.counters.snapshot()
        };
        self.shared.meter.gauges(&stats);
        stats
    }

    /// Ends what the targets name, at most 1024 of them, for all instances of the fleet that share the store and the
    /// namespace. It costs the same whatever it covers, and ends responses as well that are being fetched at the time.
    ///
    /// It is known here at once, and to the others within milliseconds: within a fifth of
    /// [`max_unsynced`](crate::CacheConfig::max_unsynced) if the message is lost, and an instance that cannot read Redis
    /// serves nothing that is stored once that span is over. With
    /// [`strict_purges`](crate::CacheConfig::strict_purges), whoever looks something up after this has returned knows it.
    ///
    /// # Errors
    ///
    /// A target that cannot be named, none or too many, or a store that does not confirm it within
    /// [`store_write_timeout`](crate::CacheConfig::store_write_timeout): then it may have been purged or not, and can be
    /// purged again.
    ///
    /// ```
    /// # use tower_redis_cache::{CacheConfig, MemoryStore, PurgeError, PurgeMode, PurgeTarget, RedisCacheLayer};
    /// # async fn example() -> Result<(), PurgeError> {
    /// let layer = RedisCacheLayer::with_store(MemoryStore::new(1 << 20), CacheConfig::default());
    /// let purged = layer.handle().purge([PurgeTarget::tag("product-7")], PurgeMode::Soft).await?;
    /// println!("purge {}", purged.number);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn purge(
        &self,
        targets: impl IntoIterator<Item = PurgeTarget>,
        mode: PurgeMode,
    ) -> Result<Purged, PurgeError> {
        // One more than there may be, to be refused.
        let targets = targets.into_iter().take(MAX_TARGETS + 1).collect();
        exchange::purge::purge(&self.shared, targets, mode).await
    }

    /// What the cache would do with a GET or HEAD that has this head, and what is stored for it: the key, the responses
    /// with their age, freshness, tags and purges, and why it would go to the service. Nothing is fetched for it, and
    /// nothing counted but errors of the store; it takes at most [`store_timeout`](crate::CacheConfig::store_timeout).
    ///
    /// ```
    /// # use tower_redis_cache::{CacheConfig, MemoryStore, RedisCacheLayer};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = RedisCacheLayer::with_store(MemoryStore::new(1 << 20), CacheConfig::default());
    /// let (request, ()) = http::Request::get("http://example.com/products/7").body(())?.into_parts();
    /// let inspection = layer.handle().inspect(&request).await;
    /// println!("{:?} because of {:?}", inspection.key, inspection.outcome.forward_reason());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn inspect(&self, request: &request::Parts) -> Inspection {
        exchange::inspect::inspect(&self.shared, request.clone()).await
    }

    /// Looks at the store: whether and how fast it answers, kind and version of the server, its memory and what becomes of
    /// it when that is full, which of the commands that are used this user may run, how far the clocks are apart, how
    /// purges are heard of; and what is degraded by what is missing. It asks a few dozen small questions, each for at most
    /// two seconds, and works where CONFIG, INFO and HELLO are not granted. Nothing that is stored is touched.
    pub async fn doctor(&self) -> Diagnosis {
        Diagnosis::new(self.shared.store.diagnose().await)
    }

    /// Whether the store answers. Connects if nobody has yet, and waits for that up to
    /// [`store_timeout`](crate::CacheConfig::store_timeout). A service whose store does not answer works all the same,
    /// uncached: take `false` for "degraded", not for "down".
    pub async fn ready(&self) -> bool {
        let limit = self.shared.config.store_timeout;
        matches!(time::timeout(limit, self.shared.store.ready()).await, Ok(Ok(())))
    }

    /// Waits until all fetches, fills and refreshes have come to their end, what was recorded is written, and what unsafe
    /// requests ended is removed. Meanwhile no refresh begins. What still runs when `limit` is over is stopped, and this
    /// is `false`: those responses are not stored, the service is let go, and a client that still waits for one gets 503,
    /// or a body that breaks off.
    ///
    /// For the end of a graceful shutdown, when no request is running any more. A cache that is used afterwards goes on
    /// as before.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.shared.background.drain(limit).await
    }
}
