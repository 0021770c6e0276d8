//! The operators' side of a cache.

use std::sync::Arc;
use std::time::Duration;

use tokio::time;

use crate::exchange::Shared;
use crate::observe::counters::Stats;

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

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        Stats {
            fills_in_flight: self.shared.background.running(),
            flights: self.shared.flights.count() as u64,
            fetches: self.shared.permits.in_use() as u64,
            queued_fetches: self.shared.permits.queued() as u64,
            bytes_in_flight: self.shared.recording.used(),
            bytes_read_ahead: self.shared.reading.used(),
            store_unavailable: u64::from(!self.shared.store.is_available()),
            ..self.shared.counters.snapshot()
        }
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
