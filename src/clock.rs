//! The only reader of time.
//!
//! [`Clock`] gives wall-clock time in milliseconds, which is what RFC 9111's age arithmetic is made of and what
//! is written into entries; [`Stopwatch`] measures short spans with the monotonic clock. Nothing else in the crate
//! asks what time it is, so a test that holds a [`ManualClock`] owns time altogether.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time;

use crate::semantics::time::Timestamp;

/// Where the cache reads the time of day from. The default is the system's clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
}

/// A clock that stands still until it is told to move: for tests of freshness without waiting.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_cache::{CacheConfig, ManualClock};
///
/// let time = ManualClock::new();
/// let config = CacheConfig::default().clock(time.clock());
/// time.advance(Duration::from_secs(61));
/// # drop(config);
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    millis: Arc<AtomicU64>,
}

/// Measures a span with the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
}

// ===== impl Clock =====

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    pub(crate) fn now(&self) -> Timestamp {
        match &self.source {
            Source::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
            }
            Source::Manual(millis) => Timestamp::from_millis(millis.load(Ordering::SeqCst)),
        }
    }
}

// ===== impl ManualClock =====

impl ManualClock {
    /// Starts at the system's present time, and stands still.
    pub fn new() -> Self {
        let now = Clock::system().now();
        Self { millis: Arc::new(AtomicU64::new(now.as_millis())) }
    }

    /// A handle for [`CacheConfig::clock`](crate::CacheConfig::clock).
    pub fn clock(&self) -> Clock {
        Clock { source: Source::Manual(Arc::clone(&self.millis)) }
    }

    /// Moves time forward.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.millis.fetch_add(by, Ordering::SeqCst);
    }

    /// The present time as seconds since 1970, for writing `Date` fields in tests.
    pub fn unix_seconds(&self) -> u64 {
        self.millis.load(Ordering::SeqCst) / 1000
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

// ===== impl Stopwatch =====

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.started.elapsed()
    }

    /// What had elapsed when another was started.
    pub(crate) fn elapsed_at(self, other: Self) -> Duration {
        other.started.saturating_duration_since(self.started)
    }

    /// When so much will have elapsed, for who waits until then. Where tokio's clock is paused, that is another time.
    pub(crate) fn after(self, span: Duration) -> time::Instant {
        const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        time::Instant::from_std(self.started + span.min(FAR))
    }
}
