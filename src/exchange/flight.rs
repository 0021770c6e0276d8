//! What holds a key for the one who fetches it, in this process and in the fleet, and keeps holding it.

use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use super::collapse::Landing;
use super::lease::Lease;
use crate::body::recorder::Abandoned;
use crate::collapse::flight::LeadGuard;
use crate::collapse::lease::Release;
use crate::semantics::staleness::Trouble;
use crate::store::LeaseKey;
use crate::store::select::PutOutcome;

/// What holds a key for the one who fetches it: in this process, and where there are leases in the whole fleet.
#[derive(Debug)]
pub(super) struct Flight {
    /// Given back before others in this process may lead: they would find it taken.
    lease: OnceLock<Lease>,
    lead: LeadGuard<Landing>,
}

/// Renews a lease for as long as something is done under it, one thing after another.
#[derive(Default)]
pub(super) struct Heart {
    /// The next one, which begins with the first of them.
    beat: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

/// Shared by those who work for it.
pub(super) type FlightGuard = Arc<Flight>;

// ===== impl Flight =====

impl Flight {
    pub(super) fn new(lead: LeadGuard<Landing>) -> Self {
        Self { lease: OnceLock::new(), lead }
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.get()
    }

    /// By which what was fetched is written.
    pub(super) fn lease_key(&self) -> Option<LeaseKey<'_>> {
        self.lease().map(Lease::key)
    }

    /// What has become of the write.
    pub(super) fn has_put(&self, outcome: PutOutcome) {
        match outcome {
            // It has been given back with the write.
            PutOutcome::Stored => {
                self.lease().map(Lease::end);
            }
            PutOutcome::TooManyVariants => self.release(Release::Unshared),
            PutOutcome::OutOfDate | PutOutcome::Fenced => self.release(Release::Free),
        }
    }

    pub(super) fn land(&self, landing: Landing) {
        self.lead.land(landing);
    }

    /// Nobody else may have what came.
    pub(super) fn decline(&self) {
        self.release(Release::Unshared);
        self.lead.decline();
    }

    /// Nobody else may have what came, but it is stored.
    pub(super) fn decline_and_store(&self) {
        if let Some(lease) = self.lease() {
            lease.give_way();
        }
        self.lead.decline();
    }

    /// Nothing came.
    pub(super) fn fail(&self, trouble: Trouble) {
        if let Some(lease) = self.lease() {
            lease.release_failed(trouble);
        }
        self.lead.fail(trouble);
    }

    /// What has landed is not to be had by anybody who comes from now on, nor will it be stored.
    pub(super) fn abandon(&self, reason: Abandoned) {
        self.release(match reason {
            Abandoned::Capped | Abandoned::NoRoom | Abandoned::SlowStore | Abandoned::TooLong => Release::Unshared,
            Abandoned::WrongLength | Abandoned::Failed | Abandoned::ClientLeft => Release::Free,
        });
        self.lead.close();
    }

    /// It is for this process alone.
    pub(super) fn keep_to_itself(&self) {
        self.release(Release::Unshared);
    }

    pub(super) fn close(&self) {
        self.lead.close();
    }

    pub(super) fn followers(&self) -> usize {
        self.lead.followers()
    }

    fn release(&self, release: Release) {
        if let Some(lease) = self.lease() {
            lease.release(release);
        }
    }

    pub(super) fn hold(&self, lease: Lease) {
        // One that is held already stays: the other is given back.
        let _ = self.lease.set(lease);
    }
}

// ===== impl Heart =====

impl Heart {
    /// Does some work of the flight, and renews its lease meanwhile.
    pub(super) async fn beats_for<T>(
        &mut self,
        flight: &FlightGuard,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        // By reference: a future that takes another by value keeps room for it twice.
        if flight.lease().is_none() {
            return work.await;
        }
        loop {
            let beat = self.beat.get_or_insert_with(|| Box::pin(beat(Arc::clone(flight))));
            tokio::select! {
                biased;
                done = &mut work => return done,
                is_held = beat => {
                    self.beat = None;
                    // It may have been taken away for a change: what comes now is for those who have come by now.
                    if !is_held {
                        flight.close();
                    }
                }
            }
        }
    }
}

async fn beat(flight: FlightGuard) -> bool {
    match flight.lease() {
        Some(lease) => lease.beat().await,
        None => pending().await,
    }
}
