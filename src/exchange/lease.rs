//! The right to fetch for the whole fleet: held, renewed, given back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::runtime::Handle;
use tokio::time;

use super::{Miss, Shared};
use crate::clock::Stopwatch;
use crate::collapse::failing::Bearable;
use crate::collapse::lease::{Claim, Leased, Release, Token};
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::semantics::staleness::Trouble;
use crate::semantics::vary::VariantKey;
use crate::store::{CellKey, LeaseKey, Store};

/// A lease that this request holds, or tries to take. Dropped, it is given back; what cannot be given back ends by
/// itself within two heartbeats.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    key: CacheKey,
    variant: Option<VariantKey>,
    token: Token,
    /// It is another's, lost, or given back.
    is_over: AtomicBool,
    /// What came under it, and what comes next, is for nobody else.
    is_uncacheable: AtomicBool,
    /// Others may be reading what is fetched under it, and are to learn it if that is not to be had to its end.
    is_told: AtomicBool,
    /// Where it was taken for a short time, as long as it has yet to be renewed.
    bid: Mutex<Option<Short>>,
}

/// A lease that was taken for a short time.
#[derive(Clone, Copy, Debug)]
struct Short {
    at: Stopwatch,
    /// When it was asked for, or its renewal was, which comes again soon after that.
    asked: Stopwatch,
}

impl Lease {
    /// None where the store has none.
    pub(super) fn wanted(shared: &Arc<Shared>, miss: &Miss) -> Option<Self> {
        Some(Self::of(shared, &miss.key, miss.variant, shared.store.instance()?.token()))
    }

    /// For whatever the key has, to be [bid](Self::bid) for now.
    pub(super) fn to_bid_for(shared: &Arc<Shared>, key: &CacheKey, now: Stopwatch) -> Option<Self> {
        let mut lease = Self::of(shared, key, None, shared.store.instance()?.token());
        lease.bid = Mutex::new(Some(Short { at: now, asked: now }));
        Some(lease)
    }

    /// One that another request has bid for, to be taken under this token.
    pub(super) fn of_bid(shared: &Arc<Shared>, key: &CacheKey, token: Token) -> Self {
        Self::of(shared, key, None, token)
    }

    fn of(shared: &Arc<Shared>, key: &CacheKey, variant: Option<VariantKey>, token: Token) -> Self {
        let [is_over, is_uncacheable, is_told] = [(); 3].map(|()| AtomicBool::new(false));
        let (shared, key, bid) = (Arc::clone(shared), key.clone(), Mutex::default());
        Self { shared, key, variant, token, is_over, is_uncacheable, is_told, bid }
    }

    /// Whether one that was bid for is renewed well before it is over.
    pub(super) fn is_fresh(&self, now: Stopwatch) -> bool {
        let limit = self.shared.config.pace.lifetime_of_bid() / 2;
        self.short().is_some_and(|short| short.at.elapsed_at(now) < limit)
    }

    /// No panic can leave it half changed.
    fn short(&self) -> MutexGuard<'_, Option<Short>> {
        self.bid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it for a short time if it is free, and asks no more.
    pub(super) async fn bid(&self) -> Result<Leased, StoreError> {
        self.shared.store.bid(self.key(), self.shared.config.pace.lifetime_of_bid()).await
    }

    /// Where it `looks`, it is seen in the same round trip whether the key has anything.
    pub(super) async fn take(&self, bearable: Bearable, looks: bool) -> Result<Leased, StoreError> {
        // Who remembers no failure heeds none.
        let bearable = if self.shared.config.origin.failure_backoff.is_zero() { Bearable::NONE } else { bearable };
        let claim = Claim { lifetime: self.shared.config.pace.lifetime(), bearable, looks };
        let leased = self.shared.store.lease(self.key(), claim).await?;
        match leased {
            Leased::Granted(_) => *self.short() = None,
            Leased::NotFree => {}
            _ => _ = self.end(),
        }
        Ok(leased)
    }

    /// By which what comes is written.
    pub(super) fn key(&self) -> LeaseKey<'_> {
        LeaseKey { cell: CellKey { primary: &self.key, variant: self.variant }, token: &self.token }
    }

    /// Waits for the next heartbeat, and gives it. One that the store does not take is followed by the next: only who is
    /// told so has lost the lease: then it is `false`. Those who read what is fetched under it have it to the end.
    pub(super) async fn beat(&self) -> bool {
        let (pace, short) = (self.shared.config.pace, *self.short());
        match short {
            Some(short) => time::sleep_until(short.asked.after(pace.first_beat_of_bid())).await,
            None => time::sleep(pace.heartbeat).await,
        }
        // Others may yet be told of what is fetched.
        if self.is_over.load(Ordering::Acquire) && !self.is_told.load(Ordering::Acquire) {
            *self.short() = None;
            return true;
        }
        let asked = Stopwatch::start();
        let renewing = self.shared.store.renew_lease(self.key(), pace.lifetime());
        // In a box: whoever works under a lease would have to have room for it.
        let limit = short.map_or(pace.heartbeat, |_| pace.first_beat_of_bid());
        let renewed = time::timeout(limit, Box::pin(renewing)).await;
        // One that was bid for has little time: where it is not known to be renewed, that is tried again as soon, for as
        // long as it may be held.
        let is_short =
            |short: &Short| short.at.elapsed_at(asked) < pace.lifetime_of_bid() && !matches!(renewed, Ok(Ok(_)));
        *self.short() = short.filter(is_short).map(|short| Short { asked, ..short });
        let is_lost = matches!(renewed, Ok(Ok(false)));
        if is_lost && self.end() {
            tracing::debug!(key = ?self.key, "a lease is lost");
        }
        !is_lost
    }

    /// Others are told of the fetch from now on.
    pub(super) fn begins_to_tell(&self) {
        self.is_told.store(true, Ordering::Release);
    }

    /// All of it is there for those who read it, whatever becomes of the lease. Whether they had been told of it.
    pub(super) fn has_told_all(&self) -> bool {
        self.is_told.swap(false, Ordering::AcqRel)
    }

    /// What comes next for the key will be for nobody else either.
    pub(super) fn note_uncacheable(&self) {
        self.is_uncacheable.store(true, Ordering::Release);
    }

    /// There is nothing more to give back; whether there was.
    pub(super) fn end(&self) -> bool {
        !self.is_over.swap(true, Ordering::AcqRel)
    }

    /// Keeps it, and makes nobody wait for it.
    pub(super) fn give_way(&self) {
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        let lifetime = self.shared.config.pace.lifetime();
        self.send(move |shared, key, variant, token| async move {
            let lease = LeaseKey { cell: CellKey { primary: &key, variant }, token: &token };
            // Where this is not known, others wait for longer than they need.
            let _ = shared.store.yield_lease(lease, lifetime).await;
        });
    }

    /// Gives it back, since the service has failed; the others are told where it is remembered.
    pub(super) fn release_failed(&self, trouble: Trouble) {
        let failure = self.shared.failing.failure(trouble, self.shared.clock().now());
        self.release(failure.map_or(Release::Free, Release::Failed));
    }

    /// Gives it back, unless that has been done.
    pub(super) fn release(&self, release: Release) {
        let is_told = self.has_told_all();
        if !self.end() && !is_told {
            return;
        }
        let release = match self.is_uncacheable.load(Ordering::Acquire) {
            true if release == Release::Unshared => Release::Uncacheable,
            _ => release,
        };
        self.send(move |shared, key, variant, token| async move {
            let lease = LeaseKey { cell: CellKey { primary: &key, variant }, token: &token };
            // What is not given back in time ends by itself.
            let _ = shared.store.release(lease, release, is_told).await;
        });
    }

    /// Tells the store something without waiting for it. It has been sent when this returns, unless too much of the kind
    /// waits, so that whatever this process asks next comes after it.
    fn send<F>(&self, message: impl FnOnce(Arc<Shared>, CacheKey, Option<VariantKey>, Token) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if !self.shared.store.is_available() {
            return;
        }
        let (Ok(runtime), Some(place)) = (Handle::try_current(), self.shared.background.enter_first()) else { return };
        let sending = message(Arc::clone(&self.shared), self.key.clone(), self.variant, self.token.clone());
        let limit = self.shared.config.store_write_timeout;
        let mut sending = Box::pin(async move {
            let _ = time::timeout(limit, sending).await;
        });
        if sending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            place.begin_in(&runtime, "lease", sending);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release(Release::Free);
    }
}
