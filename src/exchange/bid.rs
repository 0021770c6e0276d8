//! A lease that is asked for together with the look-up: while look-ups find nothing, a miss waits once for the store
//! before it goes to the service, and not twice.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use http::{header, request};

use super::lease::Lease;
use super::{Shared, collapse, search};
use crate::collapse::flight::FlightKey;
use crate::collapse::lease::Leased;
use crate::error::StoreError;
use crate::key::CacheKey;

/// Dropped, it is given back, unless somebody else in this process has taken it over.
#[derive(Debug)]
pub(super) struct Bid {
    shared: Arc<Shared>,
    lease: Option<Lease>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is asked for, and there is no answer as yet.
    Unknown,
    Granted,
    /// Somebody else has it, or nobody has asked for it.
    NotFree,
    /// It may be held or not.
    Failed,
}

/// What has come of a bid: neither of these, if somebody else has taken it over, or nobody knows.
#[derive(Default)]
pub(super) struct Settled {
    pub(super) lease: Option<Lease>,
    /// Somebody has the lease.
    pub(super) is_taken: bool,
}

impl Bid {
    /// `None` where it is likely that something is found, or what is fetched would not be for others, or somebody is at it.
    pub(super) fn wanted(shared: &Arc<Shared>, key: &CacheKey, parts: &request::Parts) -> Option<Box<Self>> {
        if !shared.bids.are_worth_it() || !shared.store.takes_bids() || !shared.store.takes_writes(key) {
            return None;
        }
        // One that has some may not want to be answered by a fetch at all.
        let has_directives = parts.headers.keys().any(|name| [header::CACHE_CONTROL, header::PRAGMA].contains(name));
        if has_directives
            || !collapse::may_join(shared, key, parts, true)
            || !search::are_none(shared, shared.clock().now())
        {
            return None;
        }
        let lease = Lease::to_bid_for(shared, key)?;
        if !shared.bids.enter(key, lease.key().token) {
            lease.end();
            return None;
        }
        let bid = Box::new(Self { shared: Arc::clone(shared), lease: Some(lease), standing: Standing::NotFree });
        // Whoever leads later finds the bid, and takes it over; whoever does so by now is going to ask for the lease.
        if shared.flights.has(FlightKey::new(key, None)) {
            return None;
        }
        Some(bid)
    }

    /// Looks, and bids before, if it is to bid: whoever gets the lease sees what its last holder wrote.
    pub(super) async fn before<T>(bid: Option<&mut Self>, mut looking: Pin<&mut impl Future<Output = T>>) -> T {
        let Some((standing, lease)) = bid.and_then(|bid| Some((&mut bid.standing, bid.lease.as_ref()?))) else {
            return looking.await;
        };
        *standing = Standing::Unknown;
        // In a box of its own: most look without.
        let mut bidding = Box::pin(lease.bid());
        poll_fn(|cx| {
            // The answers come in this order, and that to the bid is not waited for.
            if *standing == Standing::Unknown
                && let Poll::Ready(leased) = bidding.as_mut().poll(cx)
            {
                *standing = Standing::of(leased);
            }
            looking.as_mut().poll(cx)
        })
        .await
    }

    /// What is not known to be held is given back.
    pub(super) fn settle(mut self) -> Settled {
        let (is_own, is_granted) = (self.leave(), self.standing == Standing::Granted);
        Settled {
            lease: self.lease.take().filter(|_| is_own && is_granted),
            is_taken: is_own && self.standing == Standing::NotFree,
        }
    }

    /// Whether nobody else has taken it over.
    fn leave(&self) -> bool {
        let Some(lease) = &self.lease else { return false };
        let is_own = self.shared.bids.leave(lease.key().cell.primary, lease.key().token);
        if !is_own || self.standing == Standing::NotFree {
            lease.end();
        }
        is_own
    }
}

impl Drop for Bid {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Standing {
    fn of(leased: Result<Leased, StoreError>) -> Self {
        match leased {
            Ok(Leased::Granted(_)) => Self::Granted,
            Ok(Leased::NotFree) => Self::NotFree,
            Ok(_) | Err(_) => Self::Failed,
        }
    }
}
