//! What people want to see of the cache: hits by kind, what was not stored and why, what is asked for most, and how the
//! origin does.

mod service;
mod top;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use tower_redis_cache::Outcome;
pub(crate) use tower_redis_cache::OutcomeKind as Kind;

pub(crate) use service::WatchLayer;
pub(crate) use top::Top;

/// Upper bounds of the origin's latency in milliseconds; what takes longer has a place of its own.
pub(crate) const LATENCIES: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// Counts since the start. Shared by all who have a clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    shared: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    kinds: [AtomicU64; Kind::ALL.len()],
    /// Requests that were not let in, by the status that says why.
    turned_away: Mutex<BTreeMap<u16, u64>>,
    /// Octets of bodies that came from the cache.
    saved: AtomicU64,
    /// Why responses were not stored, and whatever else `Cache-Status` has a word for.
    details: Mutex<BTreeMap<&'static str, u64>>,
    top: Mutex<Top>,
    origin_errors: AtomicU64,
    origin_micros: AtomicU64,
    latencies: [AtomicU64; LATENCIES.len() + 1],
}

/// The counts at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) kinds: [u64; Kind::ALL.len()],
    pub(crate) saved: u64,
    pub(crate) turned_away: BTreeMap<u16, u64>,
    pub(crate) details: BTreeMap<&'static str, u64>,
    pub(crate) origin_errors: u64,
    pub(crate) origin_micros: u64,
    pub(crate) latencies: [u64; LATENCIES.len() + 1],
}

// ===== impl Watch =====

impl Watch {
    /// A request for `target` was answered, with a body of about so many octets.
    fn answered(&self, target: &str, outcome: &Outcome, octets: u64) {
        let counts = &self.shared;
        let kind = outcome.kind();
        counts.kinds[kind as usize].fetch_add(1, Ordering::Relaxed);
        if kind.is_saved() {
            counts.saved.fetch_add(octets, Ordering::Relaxed);
        }
        if let Some(detail) = outcome.detail() {
            *lock(&counts.details).entry(detail).or_default() += 1;
        }
        lock(&counts.top).count(target, kind.is_saved());
    }

    /// The origin was asked. What has not answered has taken no time.
    fn asked(&self, status: StatusCode, took: Option<Duration>) {
        let counts = &self.shared;
        if status.is_server_error() {
            counts.origin_errors.fetch_add(1, Ordering::Relaxed);
        }
        let Some(took) = took else { return };
        let place = LATENCIES.partition_point(|most| Duration::from_millis(*most) < took);
        counts.latencies[place].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.origin_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// A request was not let in.
    pub(crate) fn turned_away(&self, status: StatusCode) {
        *lock(&self.shared.turned_away).entry(status.as_u16()).or_default() += 1;
    }

    pub(crate) fn seen(&self) -> Seen {
        let counts = &self.shared;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Seen {
            kinds: counts.kinds.each_ref().map(read),
            saved: read(&counts.saved),
            turned_away: lock(&counts.turned_away).clone(),
            details: lock(&counts.details).clone(),
            origin_errors: read(&counts.origin_errors),
            origin_micros: read(&counts.origin_micros),
            latencies: counts.latencies.each_ref().map(read),
        }
    }

    /// What is asked for most, the first of them first: about how often, and how often the cache had it.
    pub(crate) fn top(&self, most: usize) -> Vec<(String, u64, u64)> {
        lock(&self.shared.top).first(most)
    }
}

/// Counts are right in themselves, whatever happened to who held them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
