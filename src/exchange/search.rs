//! `No-Vary-Search` at work: one stored response for all queries that differ in nothing that matters.
//!
//! Such a response is stored under the canonical form of its target, and its variance under the target's path, where a
//! look-up that found nothing under the request's own target finds it.

use std::time::Duration;

use http::{HeaderMap, Uri, request};

use super::Shared;
use crate::collapse::recent::RecentKeys;
use crate::error::StoreError;
use crate::key::{CacheKey, key_for};
use crate::semantics::search::{SearchVariance, without_query};
use crate::semantics::time::Timestamp;
use crate::store::entry::Cell;
use crate::store::{CellKey, Sight, Store};

/// What is known of where such responses are.
#[derive(Debug)]
pub(crate) struct Searches {
    /// Paths for which no response has stated a variance.
    none: RecentKeys,
    /// What says that some response in this namespace has; as a key in `none`, that none has.
    marker: CacheKey,
    /// The marker, where it was seen.
    some: RecentKeys,
}

/// Of the marker, at the least: longer than most of what is stored.
const MARKED: Duration = Duration::from_secs(31 * 24 * 60 * 60);

impl Searches {
    pub(crate) fn new() -> Self {
        let marker = CacheKey::from_parts(["no-vary-search", ""]);
        Self { none: RecentKeys::new(), marker, some: RecentKeys::new() }
    }

    fn are_somewhere(&self, now: Timestamp) {
        self.none.forget(&self.marker);
        self.some.note(&self.marker, now);
    }
}

/// A variance that a response states, and the keys that follow from it.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// Where the variances of the path are kept.
    pub(super) index: CacheKey,
    /// Where the response is kept.
    pub(super) canonical: CacheKey,
    pub(super) variance: SearchVariance,
}

impl Search {
    /// What a response says, if it says anything.
    pub(super) fn of(shared: &Shared, request: &request::Parts, response: &HeaderMap) -> Option<Self> {
        let variance = SearchVariance::of(response)?;
        let target = target_of(shared, request);
        let canonical = key_of(shared, request, variance.canonical(&target)?)?;
        Some(Self { index: index_key(shared, request, &target)?, canonical, variance })
    }
}

/// Whether no response in the namespace has stated a variance, as far as is known: most sites know nothing of it, and pay
/// nothing for those that do.
pub(super) fn are_none(shared: &Shared, now: Timestamp) -> bool {
    let Searches { none, some, marker } = &shared.searches;
    // A look-up that began before the first of them was stored may have noted late that there is none.
    none.has(marker, now) && !some.has(marker, now)
}

/// The keys under which a response for the request's target may be kept besides its own, and by which variance. That a
/// path has none, or the whole namespace, is remembered for a while.
pub(super) async fn alternatives(
    shared: &Shared,
    request: &request::Parts,
    sight: Sight,
) -> Result<Vec<(CacheKey, SearchVariance)>, StoreError> {
    let (searches, now) = (&shared.searches, shared.clock().now());
    if !searches.some.has(&searches.marker, now) {
        match shared.store.get(CellKey::base(&searches.marker), sight).await {
            Ok(Some(Cell::Search(_))) => searches.are_somewhere(now),
            Ok(_) => {
                searches.none.note(&searches.marker, now);
                return Ok(Vec::new());
            }
            // It may be with another node than the key.
            Err(error) => tracing::debug!(store.error = %error, "it is not known whether there are such"),
        }
    }
    let target = target_of(shared, request);
    match index_key(shared, request, &target).is_some_and(|index| searches.none.has(&index, now)) {
        true => Ok(Vec::new()),
        false => alternatives_of(shared, request, &target, sight).await,
    }
}

/// The same for any target, whatever is remembered: another process may know better.
pub(super) async fn alternatives_of(
    shared: &Shared,
    request: &request::Parts,
    target: &Uri,
    sight: Sight,
) -> Result<Vec<(CacheKey, SearchVariance)>, StoreError> {
    let Some(index) = index_key(shared, request, target) else { return Ok(Vec::new()) };
    let Some(Cell::Search(variances)) = shared.store.get(CellKey::base(&index), sight).await? else {
        shared.searches.none.note(&index, shared.clock().now());
        return Ok(Vec::new());
    };
    let keyed = |variance: &SearchVariance| {
        let canonical = variance.canonical(target)?;
        Some((key_of(shared, request, canonical)?, variance.clone()))
    };
    Ok(variances.iter().rev().filter_map(keyed).collect())
}

/// Adds a variance to those of its path, or renews it.
pub(super) async fn note(shared: &Shared, search: &Search, ttl: Duration) -> Result<(), StoreError> {
    /// More than these, and the oldest is forgotten: each costs a read per look-up that finds nothing.
    const MOST: usize = 4;
    /// Other responses of the path may live longer than this one.
    const LEAST_TTL: Duration = Duration::from_secs(24 * 60 * 60);
    let (searches, now) = (&shared.searches, shared.clock().now());
    if ttl > MARKED || !searches.some.has(&searches.marker, now) {
        let marker = Cell::Search(vec![search.variance.clone()].into());
        // It may be with another node than the response, which is no worse for it.
        if let Err(error) = shared.store.set(CellKey::base(&searches.marker), &marker, ttl.max(MARKED)).await {
            tracing::debug!(store.error = %error, "others are not told that there are such");
        }
        searches.are_somewhere(now);
    }
    let index = CellKey::base(&search.index);
    let mut variances = match shared.store.peek(index).await? {
        Some(Cell::Search(known)) => known.as_ref().clone(),
        _ => Vec::new(),
    };
    variances.retain(|known| *known != search.variance);
    variances.push(search.variance.clone());
    let surplus = variances.len().saturating_sub(MOST);
    variances.drain(..surplus);
    shared.store.set(index, &Cell::Search(variances.into()), ttl.max(LEAST_TTL)).await?;
    shared.searches.none.forget(&search.index);
    Ok(())
}

fn index_key(shared: &Shared, request: &request::Parts, target: &Uri) -> Option<CacheKey> {
    let path = key_of(shared, request, without_query(target)?)?;
    Some(CacheKey::from_parts([&b"no-vary-search"[..], path.parts()]))
}

/// The target that the client sent.
pub(super) fn target_of(shared: &Shared, request: &request::Parts) -> Uri {
    shared.config.key.target(request).unwrap_or_else(|| request.uri.clone())
}

fn key_of(shared: &Shared, request: &request::Parts, target: Uri) -> Option<CacheKey> {
    key_for(shared.config.key.as_ref(), request, target)
}
