//! What is fetched here is told to the other processes as it is written, so that those who wait there read it meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time;

use super::Shared;
use super::flight::FlightGuard;
use super::lease::Lease;
use crate::clock::Stopwatch;
use crate::store::Store;
use crate::store::entry::Live;

/// A fetch of which the other processes are told.
#[derive(Debug)]
pub(super) struct Publication {
    shared: Arc<Shared>,
    flight: FlightGuard,
    live: Live,
    /// What was told last.
    told: AtomicU64,
    /// When it was last heard that somebody reads it elsewhere.
    read: Mutex<Option<Stopwatch>>,
}

/// For so long it is told that all of it is there: who reads it elsewhere has looked by then.
const LAST_WORD: Duration = Duration::from_secs(5);

impl Publication {
    /// `None` where the others do not wait for it: it has no lease.
    pub(super) fn of(shared: &Arc<Shared>, flight: Option<&FlightGuard>, live: Live) -> Option<Self> {
        let flight = flight.filter(|flight| flight.lease().is_some())?;
        let (shared, flight) = (Arc::clone(shared), Arc::clone(flight));
        Some(Self { shared, flight, live, told: AtomicU64::new(0), read: Mutex::default() })
    }

    /// So many octets of its body are there. Where this is not heard, the next is, or the stored response is found.
    pub(super) async fn tell(&self, written: u64) {
        self.tell_for(written, self.shared.config.pace.lifetime()).await;
    }

    async fn tell_for(&self, written: u64, lifetime: Duration) {
        let Some(lease) = self.flight.lease() else { return };
        lease.begins_to_tell();
        self.told.store(written, Ordering::Relaxed);
        let live = Live { written, ..self.live.clone() };
        let telling = self.shared.store.announce(lease.key(), &live, lifetime);
        match time::timeout(self.shared.store_patience(), telling).await {
            Ok(Ok(is_read)) => self.note(is_read),
            Ok(Err(error)) => tracing::debug!(store.error = %error, "the others are not told of a fetch"),
            Err(_) => tracing::debug!("the others are not told of a fetch in time"),
        }
    }

    /// The same as before, to learn whether somebody reads it by now.
    pub(super) async fn tell_again(&self) {
        self.tell(self.told.load(Ordering::Relaxed)).await;
    }

    /// All of it is there: those who read it have it, whatever becomes of the lease.
    pub(super) async fn tell_all(&self, length: u64) {
        self.tell_for(length, LAST_WORD.min(self.shared.config.pace.lifetime())).await;
        self.flight.lease().map(Lease::has_told_all);
    }

    /// Whether somebody reads it elsewhere, as far as that is known.
    pub(super) fn is_read(&self) -> bool {
        let heartbeat = self.shared.config.pace.heartbeat;
        self.read.lock().is_ok_and(|read| read.as_ref().is_some_and(|since| since.elapsed() < heartbeat))
    }

    /// Ceases to tell of it, unless somebody reads it elsewhere: then it is `false`.
    pub(super) async fn withdraw(&self) -> bool {
        let Some(lease) = self.flight.lease() else { return true };
        let withdrawing = self.shared.store.withdraw(lease.key());
        // Who cannot be reached reads nothing either.
        let is_withdrawn = time::timeout(self.shared.store_patience(), withdrawing).await;
        let is_read = matches!(is_withdrawn, Ok(Ok(false)));
        self.note(is_read);
        !is_read
    }

    /// It hangs: nobody else is to wait for it.
    pub(super) fn give_way(&self) {
        self.flight.lease().map(Lease::give_way);
    }

    fn note(&self, is_read: bool) {
        if let Ok(mut read) = self.read.lock() {
            *read = is_read.then(Stopwatch::start);
        }
    }
}
