//! The responses to QUERY, and how an unsafe request ends them (RFC 9111 §4.4).
//!
//! Their keys hold the content of the requests, so nobody can name all those of a target. But each holds the target's
//! *epoch* as well: a random number in a cell of its own, read before anything is looked up. With that cell all of them
//! are out of reach at once. An epoch that is lost is a miss, and nothing worse.

use std::time::Duration;

use http::{Method, request};

use super::Shared;
use crate::collapse::order::Departure;
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::purge::label::Label;
use crate::semantics::time::Timestamp;
use crate::store::entry::Cell;
use crate::store::select::{self, Kept, Lookup};
use crate::store::{AnyStore, CellKey, Sight, Store};

/// The epoch of a QUERY's target.
#[derive(Clone, Debug)]
pub(super) struct Epoch {
    /// The key of a GET of the target.
    target: CacheKey,
    number: u128,
    /// The look-up found none: the first fill begins this one.
    is_new: bool,
}

/// What is stored for a QUERY, and under which key if not the request's own, `key`.
pub(super) async fn look_up(
    shared: &Shared,
    key: &CacheKey,
    parts: &request::Parts,
    now: Timestamp,
    sight: Sight,
) -> Result<(Lookup, Kept, Option<Box<CacheKey>>, Option<Box<Epoch>>), StoreError> {
    let nothing = |epoch: Option<Epoch>| Ok((Lookup::UriMiss, Kept::Alone, None, epoch.map(Box::new)));
    let Some(target) = target_of(shared, parts) else { return nothing(None) };
    let Some(Cell::Epoch(number)) = shared.store.get(CellKey::base(&cell_of(&target)), sight).await? else {
        return nothing(Some(Epoch { target, number: fastrand::u128(..), is_new: true }));
    };
    let epoch = Epoch { target, number, is_new: false };
    let key = epoch.key(key);
    let (lookup, seen) = select::look_up(&shared.store, &key, &parts.headers, now, sight).await?;
    match lookup {
        // By a purge that could not find its epoch: it was yet to be stored.
        Lookup::Found(response, _) if shared.store.plane().is_outdated(&epoch.target, &response.label) => {
            nothing(Some(epoch))
        }
        lookup => Ok((lookup, seen, Some(Box::new(key)), Some(Box::new(epoch)))),
    }
}

impl Epoch {
    /// Where a response to the request with this key is kept.
    pub(super) fn key(&self, request: &CacheKey) -> CacheKey {
        CacheKey::from_parts([&b"query"[..], &self.number.to_be_bytes(), request.parts()])
    }

    /// The key of a GET of the target.
    pub(super) fn target(&self) -> &CacheKey {
        &self.target
    }

    /// Whether this process knows that the target has changed since.
    pub(super) fn is_outdated(&self, shared: &Shared, departure: Departure, label: &Label) -> bool {
        shared.order.is_outdated(&self.target, departure) || shared.store.plane().is_outdated(&self.target, label)
    }

    /// Makes the epoch last as long as a response that is about to be stored; `false` if it is over. One that is over
    /// is never begun again, nor is another taken in its place: it may be younger than the change that the response
    /// does not know of.
    pub(super) async fn outlive(&self, store: &AnyStore, ttl: Duration) -> Result<bool, StoreError> {
        /// Other responses of the target may live longer than this one, and none longer than this but by configuration.
        const LEAST_TTL: Duration = Duration::from_secs(31 * 24 * 60 * 60);
        let cell = cell_of(&self.target);
        let (cell, ttl) = (CellKey::base(&cell), ttl.max(LEAST_TTL));
        if !self.is_new {
            return store.renew(cell, ttl).await;
        }
        if let Some(Cell::Epoch(number)) = store.peek(cell).await? {
            return Ok(number == self.number);
        }
        store.set(cell, &Cell::Epoch(self.number), ttl).await?;
        Ok(true)
    }
}

/// Ends what is stored for a target: for its GET, and for all its queries.
pub(super) async fn invalidate(store: &AnyStore, target: &CacheKey) -> Result<(), StoreError> {
    let (removed, ended) = tokio::join!(select::invalidate(store, target), end(store, target));
    removed.and(ended)
}

/// Ends the responses to a target's queries.
pub(super) async fn end(store: &AnyStore, target: &CacheKey) -> Result<(), StoreError> {
    let cell = cell_of(target);
    store.remove(CellKey::base(&cell), false).await
}

/// Whether this process knows that the target of a QUERY has changed since.
pub(super) fn is_target_outdated(shared: &Shared, parts: &request::Parts, departure: Departure) -> bool {
    let is_outdated = |target: CacheKey| {
        shared.order.is_outdated(&target, departure) || shared.is_purged_since(departure, &target, parts)
    };
    target_of(shared, parts).is_some_and(is_outdated)
}

fn cell_of(target: &CacheKey) -> CacheKey {
    CacheKey::from_parts([&b"query-epoch"[..], target.parts()])
}

/// The key that unsafe requests to the same target have.
fn target_of(shared: &Shared, parts: &request::Parts) -> Option<CacheKey> {
    let mut parts = parts.clone();
    parts.method = Method::GET;
    shared.config.key.key(&parts)
}
