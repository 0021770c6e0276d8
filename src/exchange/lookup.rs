//! Asking the store, within the one deadline that a request has for it.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, header, request};
use tokio::time;

use super::epoch::{self, Epoch};
use super::{Miss, Shared, search};
use crate::boxed::boxed;
use crate::clock::Stopwatch;
use crate::collapse::order::Departure;
use crate::error::{StoreError, StoreErrorKind};
use crate::key::CacheKey;
use crate::observe::ForwardReason;
use crate::observe::meter::Meter;
use crate::semantics::admission::{is_query, is_retrieval_without_content};
use crate::semantics::freshness::Freshness;
use crate::semantics::reuse::{Found, Stored};
use crate::semantics::search::SearchVariance;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;
use crate::store::entry::{StoredBody, StoredResponse, VaryIndex};
use crate::store::{CellKey, Kept, Lookup, Sight, Store, select};

/// A response that was found, whose body may still have to be loaded.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) response: Arc<StoredResponse>,
    /// The key that it is stored under, where that is not the one it was looked up by.
    pub(super) elsewhere: Option<Box<CacheKey>>,
    pub(super) variant: Option<VariantKey>,
}

impl Held {
    /// The key that it is stored under; `own` is the one it was looked up by.
    pub(super) fn key<'a>(&'a self, own: &'a CacheKey) -> &'a CacheKey {
        self.elsewhere.as_deref().unwrap_or(own)
    }

    pub(super) fn cell<'a>(&'a self, own: &'a CacheKey) -> CellKey<'a> {
        CellKey { primary: self.key(own), variant: self.variant }
    }

    pub(super) fn with_body(self, body: StoredBody) -> Arc<StoredResponse> {
        let mut response = Arc::unwrap_or_clone(self.response);
        response.body = body;
        Arc::new(response)
    }
}

impl Stored for Held {
    fn freshness(&self) -> &Freshness {
        &self.response.freshness
    }

    fn is_whole(&self) -> bool {
        self.response.status != StatusCode::PARTIAL_CONTENT
    }
}

impl Stored for &StoredResponse {
    fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    fn is_whole(&self) -> bool {
        self.status != StatusCode::PARTIAL_CONTENT
    }
}

/// What is known of the look-up besides what it found.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    index: Option<Arc<VaryIndex>>,
    pub(super) seen: Kept,
    /// For a QUERY, the epoch of its target.
    pub(super) epoch: Option<Box<Epoch>>,
    /// The store was asked, and answered.
    pub(super) is_answered: bool,
    /// Why there was no answer.
    pub(super) failure: Option<StoreErrorKind>,
    /// When the store was asked.
    pub(super) at: Departure,
    /// When its time began.
    pub(super) since: Stopwatch,
}

impl Asked {
    /// Nobody was asked.
    pub(super) fn nothing() -> Self {
        Self::since(Departure::default(), Stopwatch::start())
    }

    pub(super) fn since(at: Departure, since: Stopwatch) -> Self {
        Self { index: None, seen: Kept::Alone, epoch: None, is_answered: false, failure: None, at, since }
    }

    /// Nobody was asked: the response, or this variant of it, was at hand.
    pub(super) fn near(shared: &Shared, variant: Option<VariantKey>) -> Self {
        let seen = variant.map_or(Kept::Alone, |_| Kept::Indexed);
        Self { seen, ..Self::since(shared.order.present(), Stopwatch::start()) }
    }

    /// Whether the key, as it was found, has room for a variant.
    pub(super) fn has_room_for(&self, shared: &Shared, variant: VariantKey) -> bool {
        let most = shared.config.max_variants;
        self.index.as_ref().is_none_or(|index| index.has_room_for(variant, shared.clock().now(), most))
    }

    /// What is left of the deadline.
    pub(super) fn time_left(&self, shared: &Shared) -> Duration {
        self.time_left_at(Stopwatch::start(), shared)
    }

    /// The same for who has started a stopwatch a moment ago.
    pub(super) fn time_left_at(&self, now: Stopwatch, shared: &Shared) -> Duration {
        shared.store_deadline().saturating_sub(self.since.elapsed_at(now))
    }
}

pub(super) async fn look_up(
    shared: &Arc<Shared>,
    key: &CacheKey,
    parts: &request::Parts,
    sight: Sight,
    since: Stopwatch,
) -> (Found<Held>, Asked) {
    let mut asked = Asked::since(shared.order.present(), since);
    if !shared.store.is_available_at(since) {
        asked.failure = Some(StoreErrorKind::Unavailable);
        return (Found::Unavailable, asked);
    }
    let (now, begun) = (shared.clock().now(), Meter::stopwatch());
    let asking = pin!(async {
        match is_query(&parts.method) {
            true => boxed(|| epoch::look_up(shared, key, parts, now, sight)).await,
            false => {
                let found = look_up_all(shared, key, parts, now, sight).await;
                found.map(|(lookup, seen, elsewhere)| (lookup, seen, elsewhere, None))
            }
        }
    });
    let answer = in_time(shared, asked.since, shared.store_deadline(), asking).await;
    shared.meter.store_answered(begun);
    reclaim(shared);
    match answer {
        Ok((lookup, seen, elsewhere, epoch)) => {
            (asked.seen, asked.epoch, asked.is_answered) = (seen, epoch, true);
            let found = match lookup {
                Lookup::Found(response, variant) => Found::Response(Held { response, elsewhere, variant }),
                Lookup::VaryMiss(index) => {
                    asked.index = Some(index);
                    Found::VaryMiss
                }
                Lookup::UriMiss => Found::UriMiss,
                Lookup::Uncacheable => {
                    shared.uncacheable.heard(elsewhere.as_deref().unwrap_or(key), now);
                    Found::UriMiss
                }
            };
            (found, asked)
        }
        Err(kind) => {
            asked.failure = Some(kind);
            (Found::Unavailable, asked)
        }
    }
}

/// What was found dead is removed, off the client's path.
fn reclaim(shared: &Arc<Shared>) {
    let dead = shared.store.plane().take_dead();
    if dead.is_empty() {
        return;
    }
    let Some(place) = shared.background.enter() else { return };
    let shared = Arc::clone(shared);
    place.begin("reclaim", || async move {
        let reclaiming = async {
            for dead in &dead {
                // What this process stores in its place meanwhile stays. What another does may be fetched once more.
                let _turn = shared.order.turn(&dead.key).await;
                shared.store.reclaim(dead).await?;
                shared.counters.reclaimed.increment();
            }
            Ok::<_, StoreError>(())
        };
        // What cannot be removed in time ends by itself.
        let _ = time::timeout(shared.config.store_write_timeout, reclaiming).await;
    });
}

/// Whether a look-up found nothing, and could have found it under the request's own key alone. There may be something there
/// that is of no use, as what was purged is.
pub(super) fn has_found_nothing(shared: &Shared, miss: &Miss, parts: &request::Parts) -> bool {
    miss.reason == ForwardReason::UriMiss
        && miss.asked.is_answered
        && !is_query(&parts.method)
        && (!is_retrieval_without_content(&parts.method) || search::are_none(shared, shared.clock().now()))
}

/// When what was found was received: by this it is told from what is stored later.
pub(super) fn found_at(found: &Found<Held>) -> Option<Timestamp> {
    match found {
        Found::Response(held) => Some(held.response.freshness.response_time),
        Found::VaryMiss | Found::UriMiss | Found::Unavailable => None,
    }
}

/// The variant that a request wants, where it is known which fields select it.
pub(super) fn variant_wanted(found: &Found<Held>, asked: &Asked, parts: &request::Parts) -> Option<VariantKey> {
    match found {
        Found::Response(held) => held.variant,
        Found::VaryMiss => {
            let newest = asked.index.as_ref()?.nominations.last()?;
            Some(newest.select(&parts.headers))
        }
        Found::UriMiss | Found::Unavailable => None,
    }
}

/// Under the request's own key, and where that has nothing, under those of equal queries: then with the one that has it.
async fn look_up_all(
    shared: &Shared,
    key: &CacheKey,
    parts: &request::Parts,
    now: Timestamp,
    sight: Sight,
) -> Result<(Lookup, Kept, Option<Box<CacheKey>>), StoreError> {
    let (lookup, seen) = select::look_up(&shared.store, key, &parts.headers, now, sight).await?;
    let is_found = !matches!(lookup, Lookup::UriMiss | Lookup::Uncacheable);
    if is_found || !is_retrieval_without_content(&parts.method) || search::are_none(shared, now) {
        return Ok((lookup, seen, None));
    }
    // In a box of its own, as all that a hit has no use for.
    match boxed(|| look_up_equal(shared, key, parts, now, sight)).await? {
        Some((lookup, seen, canonical)) => Ok((lookup, seen, Some(Box::new(canonical)))),
        None => Ok((lookup, seen, None)),
    }
}

/// A response for a query that differs from the request's in nothing that matters.
async fn look_up_equal(
    shared: &Shared,
    own: &CacheKey,
    parts: &request::Parts,
    now: Timestamp,
    sight: Sight,
) -> Result<Option<(Lookup, Kept, CacheKey)>, StoreError> {
    for (canonical, variance) in search::alternatives(shared, parts, sight).await? {
        let (lookup, seen) = select::look_up(&shared.store, &canonical, &parts.headers, now, sight).await?;
        match lookup {
            Lookup::Found(response, variant)
                if SearchVariance::of(&response.headers).as_ref() == Some(&variance)
                    && !shared.store.plane().is_outdated(own, &response.label) =>
            {
                return Ok(Some((Lookup::Found(response, variant), seen, canonical)));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Loads the whole body of a response that was found, in what is left of the deadline; `None` where it is not to be had.
pub(super) async fn load(
    shared: &Shared,
    own: &CacheKey,
    held: Held,
    asked: &mut Asked,
) -> Option<Arc<StoredResponse>> {
    let Some(chunks) = held.response.body.chunks().filter(|_| !held.response.body.is_loaded()) else {
        return Some(held.response);
    };
    let loading = async {
        let room = shared.reading.reserve(chunks.length).ok_or(StoreError::new(StoreErrorKind::Busy))?;
        let pieces = shared.store.load(held.cell(own), chunks).await?;
        Ok(pieces.map(|pieces| held.response.body.loaded(pieces, Arc::new(room))))
    };
    let body = read_body(shared, held.key(own), asked, Box::pin(loading).as_mut()).await?;
    Some(held.with_body(body))
}

/// Reads of a body in what is left of the deadline, unless that has just been tried in vain.
pub(super) async fn read_body<T>(
    shared: &Shared,
    key: &CacheKey,
    asked: &mut Asked,
    reading: Pin<&mut impl Future<Output = Result<Option<T>, StoreError>>>,
) -> Option<T> {
    let now = shared.clock().now();
    if shared.slow_bodies.has(key, now) {
        asked.failure = Some(StoreErrorKind::Timeout);
        return None;
    }
    // With less it would be no wonder.
    let left = shared.store_patience().saturating_sub(asked.since.elapsed());
    let had_time = left * 3 >= shared.store_patience();
    match in_time(shared, asked.since, shared.store_patience(), reading).await {
        Ok(read) => {
            shared.slow_bodies.came(key, now);
            read
        }
        Err(kind) => {
            if kind == StoreErrorKind::Timeout && had_time {
                // It would be asked for, waited for and not had each time.
                shared.slow_bodies.came_late(key, now);
            }
            asked.failure = Some(kind);
            None
        }
    }
}

/// The responses that a key has for other values of the nominated fields, as far as their validators and bodies are at
/// hand, in what is left of the deadline.
pub(super) async fn variants(shared: &Shared, key: &CacheKey, asked: &mut Asked) -> Vec<Arc<StoredResponse>> {
    let Some(index) = asked.index.clone() else { return Vec::new() };
    let now = shared.clock().now();
    let asking = pin!(select::variants(&shared.store, key, &index, now));
    let found = in_time(shared, asked.since, shared.store_deadline(), asking).await.unwrap_or_default();
    let strong = |stored: &StoredResponse| {
        stored.headers.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned()
    };
    // A weak tag, or one that two variants share, may name codings that this client does not accept.
    let at_hand = |stored: &Arc<StoredResponse>| {
        let tag = strong(stored);
        stored.status == StatusCode::OK
            && stored.body.is_loaded()
            && !stored.headers.contains_key(header::CONTENT_ENCODING)
            && tag.is_some()
            && found.iter().filter(|other| strong(other) == tag).count() == 1
    };
    found.iter().filter(|stored| at_hand(stored)).cloned().collect()
}

/// What is asked for is pinned where it is: passed by value, each of these futures would keep room for it once more.
async fn in_time<T>(
    shared: &Shared,
    since: Stopwatch,
    limit: Duration,
    asking: Pin<&mut impl Future<Output = Result<T, StoreError>>>,
) -> Result<T, StoreErrorKind> {
    match time::timeout_at(since.after(limit), asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::debug!(store.error = %error, "look-up failed");
            shared.counters.store_errors.increment();
            Err(error.kind())
        }
        Err(_) => {
            shared.counters.store_timeouts.increment();
            Err(StoreErrorKind::Timeout)
        }
    }
}
