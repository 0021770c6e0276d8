//! What the last hour was like, in samples.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tower_redis_cache::Stats;

use crate::watch::{Kind, Seen};

/// Between two samples.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// An hour of them.
const MOST: usize = 720;

/// Totals at one moment: what happened between two is their difference.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) kinds: [u64; Kind::ALL.len()],
    pub(super) saved: u64,
    pub(super) origin: u64,
    pub(super) origin_errors: u64,
    pub(super) origin_micros: u64,
    pub(super) stored: u64,
    pub(super) refused: u64,
    pub(super) near_hits: u64,
    pub(super) store_trouble: u64,
    /// No total: whether it was away.
    pub(super) store_unavailable: u64,
}

/// The last of them, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: Mutex<VecDeque<Sample>>,
}

// ===== impl Sample =====

impl Sample {
    pub(super) fn of(stats: &Stats, seen: &Seen) -> Self {
        Self {
            kinds: seen.kinds,
            saved: seen.saved,
            origin: seen.latencies.iter().sum(),
            origin_errors: seen.origin_errors,
            origin_micros: seen.origin_micros,
            stored: stats.stored,
            refused: stats.refused,
            near_hits: stats.near_hits,
            store_trouble: stats.store_errors + stats.store_timeouts + stats.dropped_writes,
            store_unavailable: stats.store_unavailable,
        }
    }
}

// ===== impl History =====

impl History {
    pub(super) fn note(&self, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == MOST {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let history = History::default();
        for saved in 0..MOST as u64 + 10 {
            history.note(Sample { saved, ..Sample::default() });
        }
        let samples = history.samples();
        assert_eq!((samples.len(), samples[0].saved), (MOST, 10));
    }
}
