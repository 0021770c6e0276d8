//! A lease that is asked for together with the look-up: while look-ups find nothing, a miss waits once for the store
//! before it goes to the service, and not twice.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request;

use super::lease::Lease;
use super::{Shared, collapse, search};
use crate::clock::Stopwatch;
use crate::collapse::flight::FlightKey;
use crate::collapse::lease::Leased;
use crate::error::{StoreError, StoreErrorKind};
use crate::key::CacheKey;
use crate::semantics::reuse::has_directives;

/// Dropped, it is given back, unless another request in this process has taken it over.
#[derive(Debug)]
pub(super) struct Bid {
    shared: Arc<Shared>,
    lease: Option<Lease>,
    standing: Standing,
    /// Others can take it over.
    is_entered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nobody has asked for it as yet, the store has done nothing, or another request has taken it over.
    NotHeld,
    /// It was asked for, and may be held or not.
    Unknown,
    Granted,
    /// Somebody else has it.
    NotFree,
}

impl Bid {
    /// `None` where it is likely that something is found, or what is fetched would not be for others, or somebody is at it.
    pub(super) fn wanted(
        shared: &Arc<Shared>,
        key: &CacheKey,
        parts: &request::Parts,
        now: Stopwatch,
    ) -> Option<Box<Self>> {
        if !shared.bids.are_worth_it() || !shared.store.takes_bids() || !shared.store.takes_writes(key) {
            return None;
        }
        // One that has some may not want to be answered by a fetch at all.
        if has_directives(&parts.headers)
            || !collapse::may_join(shared, key, parts, true)
            || !search::are_none(shared, shared.clock().now())
        {
            return None;
        }
        let lease = Lease::to_bid_for(shared, key, now)?;
        if !shared.bids.enter(key, lease.key().token) {
            lease.end();
            return None;
        }
        let bid = Self::of(shared, lease, Standing::NotHeld, true);
        // Only now: whoever leads from here on finds the bid, and takes it over.
        let is_led = shared.flights.has(FlightKey::new(key, None));
        (!is_led).then_some(bid)
    }

    /// What another request has bid, for the one who is to fetch for all: it may be granted or not.
    pub(super) fn taken_over(shared: &Arc<Shared>, key: &CacheKey) -> Option<Box<Self>> {
        let token = shared.bids.take_over(key)?;
        Some(Self::of(shared, Lease::of_bid(shared, key, token), Standing::Unknown, false))
    }

    fn of(shared: &Arc<Shared>, lease: Lease, standing: Standing, is_entered: bool) -> Box<Self> {
        Box::new(Self { shared: Arc::clone(shared), lease: Some(lease), standing, is_entered })
    }

    /// Looks, and bids before, if it is to bid: whoever gets the lease sees what its last holder wrote. Where a cluster has
    /// sent one of the two elsewhere they may come the other way round, and something be fetched that is there.
    pub(super) async fn before<T>(bid: Option<&mut Self>, mut looking: Pin<&mut impl Future<Output = T>>) -> T {
        let Some((standing, lease)) = bid.and_then(|bid| Some((&mut bid.standing, bid.lease.as_ref()?))) else {
            return looking.await;
        };
        *standing = Standing::Unknown;
        // In a box of its own: most look without.
        let mut bidding = Box::pin(lease.bid());
        let mut hear = |cx: &mut Context<'_>| match bidding.as_mut().poll(cx) {
            Poll::Ready(leased) => Some(Standing::of(&leased)),
            Poll::Pending => None,
        };
        let mut heard = None;
        let looked = poll_fn(|cx| {
            heard = heard.or_else(|| hear(cx));
            let looked = looking.as_mut().poll(cx);
            // The answers come in the order of the questions, both in between maybe. That to the bid is not waited for.
            if looked.is_ready() {
                heard = heard.or_else(|| hear(cx));
            }
            looked
        });
        let looked = looked.await;
        *standing = heard.unwrap_or(Standing::Unknown);
        looked
    }

    /// The lease, if it is held, and for long enough to be renewed in time.
    pub(super) fn won(&mut self, now: Stopwatch) -> Option<Lease> {
        self.leave();
        let is_fresh = self.lease.as_ref().is_some_and(|lease| lease.is_fresh(now));
        if self.standing == Standing::Granted && is_fresh { self.lease.take() } else { None }
    }

    /// What there is of one that was not won: the lease that may be held, and whether it is asked at once who has it.
    pub(super) fn rest(mut self) -> (Option<Lease>, bool) {
        self.leave();
        match self.standing {
            Standing::Unknown | Standing::Granted => (self.lease.take(), true),
            Standing::NotFree => (None, true),
            Standing::NotHeld => (None, false),
        }
    }

    /// Nobody can take it over from now on. What somebody has taken over is held no more.
    fn leave(&mut self) {
        if let Some(lease) = self.lease.as_ref().filter(|_| mem::take(&mut self.is_entered))
            && !self.shared.bids.leave(lease.key().cell.primary, lease.key().token)
        {
            self.standing = Standing::NotHeld;
        }
    }
}

impl Drop for Bid {
    fn drop(&mut self) {
        self.leave();
        if let Some(lease) = &self.lease
            && matches!(self.standing, Standing::NotFree | Standing::NotHeld)
        {
            lease.end();
        }
    }
}

impl Standing {
    fn of(leased: &Result<Leased, StoreError>) -> Self {
        match leased {
            Ok(Leased::Granted(_)) => Self::Granted,
            Ok(Leased::NotFree) => Self::NotFree,
            Ok(_) => Self::NotHeld,
            // It was not sent, or refused.
            Err(error) if matches!(error.kind(), StoreErrorKind::Busy | StoreErrorKind::Full) => Self::NotHeld,
            Err(_) => Self::Unknown,
        }
    }
}
