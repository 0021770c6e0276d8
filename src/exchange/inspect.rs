//! What the cache would do with a request, and what it has for it: for people who ask why.

use std::sync::Arc;

use http::request;
use tokio::time;

use super::admit::Admitted;
use super::near::NearHit;
use super::{Looked, Shared, look, unavailable_detail};
use crate::clock::Stopwatch;
use crate::collapse::flight::FlightKey;
use crate::error::StoreError;
use crate::inspect::{InspectedResponse, Inspection, PurgeState, Tier};
use crate::key::CacheKey;
use crate::observe::{ForwardReason, Outcome, Ttl};
use crate::purge::clock::Verdict;
use crate::semantics::PresentedRequest;
use crate::semantics::reuse::Decision;
use crate::store::entry::{Cell, StoredResponse};
use crate::store::{CellKey, Sight, Store};

/// Responses under one key that are looked at, the newest first.
const MOST: usize = 64;

/// Asks the store as the request would, within the same deadline, and nobody else.
pub(crate) async fn inspect(shared: &Arc<Shared>, mut parts: request::Parts) -> Inspection {
    let blank = |outcome| Inspection {
        key: None,
        outcome,
        tier: None,
        selected: None,
        responses: Vec::new(),
        vary: Vec::new(),
        last_purge: shared.store.plane().stamp().number,
        knows_purges: shared.store.plane().is_in_sync(),
        is_uncacheable: false,
        is_being_fetched: false,
    };
    let key = match Admitted::of(shared, &mut parts, false) {
        Admitted::Passthrough(outcome) => return blank(outcome),
        Admitted::Invalidating(key) => {
            return Inspection { key: Some(key), ..blank(Outcome::forwarded(ForwardReason::Method)) };
        }
        Admitted::Cacheable(key) => key,
    };
    let is_near = NearHit::find(shared, &key, &parts).is_some();
    let since = Stopwatch::start();
    let looked = look(shared, &key, &parts, Sight::Again, since).await;
    let time_left = looked.asked.time_left(shared);
    // What cannot be read in time is not shown.
    let (responses, vary) =
        time::timeout(time_left, all(shared, &key)).await.ok().and_then(Result::ok).unwrap_or_default();
    let Looked { decision, asked, variant, .. } = looked;
    let (outcome, held) = match decision {
        Decision::Hit(reuse, held) => (Outcome::hit(reuse.ttl), Some(held)),
        Decision::Forward(ForwardReason::Miss, held) => {
            (Outcome::forwarded(ForwardReason::Miss).with_detail(unavailable_detail(asked.failure)), held)
        }
        Decision::Forward(reason, held) => (Outcome::forwarded(reason), held),
        Decision::Unsatisfiable(_) => (Outcome::unanswered("only-if-cached"), None),
    };
    let tier = held.as_ref().map(|_| match (is_near, shared.store.chunk_size()) {
        (true, _) => Tier::Near,
        (false, Some(_)) => Tier::Redis,
        (false, None) => Tier::Memory,
    });
    let selected = held.map(|held| shown(shared, held.key(&key), &held.response));
    let outcome = match &selected {
        Some(response) if !outcome.is_hit() => outcome.with_ttl(Ttl::between(response.lifetime, response.age)),
        _ => outcome,
    };
    Inspection {
        tier,
        selected,
        responses,
        vary,
        is_uncacheable: shared.uncacheable.has(&key, &PresentedRequest::of(&parts), shared.clock()),
        is_being_fetched: shared.flights.has(FlightKey::new(&key, variant)),
        key: Some(key),
        ..blank(outcome)
    }
}

/// All that a key has, purged or not, and the fields that select it.
async fn all(shared: &Shared, key: &CacheKey) -> Result<(Vec<InspectedResponse>, Vec<String>), StoreError> {
    let mut responses = Vec::new();
    let index = match shared.store.peek(CellKey::base(key)).await? {
        Some(Cell::Response(response)) => {
            responses.push(shown(shared, key, &response));
            return Ok((responses, Vec::new()));
        }
        Some(Cell::Index(index)) => index,
        Some(Cell::Search(_) | Cell::Epoch(_) | Cell::Uncacheable) | None => return Ok((responses, Vec::new())),
    };
    for variant in index.variants.iter().rev().take(MOST) {
        if let Some(Cell::Response(response)) = shared.store.peek(CellKey::variant(key, variant.key)).await? {
            responses.push(shown(shared, key, &response));
        }
    }
    let names = index.nominations.iter().flat_map(|nominated| nominated.names());
    let mut vary: Vec<String> = names.map(ToString::to_string).collect();
    vary.sort_unstable();
    vary.dedup();
    Ok((responses, vary))
}

fn shown(shared: &Shared, key: &CacheKey, stored: &StoredResponse) -> InspectedResponse {
    let plane = shared.store.plane();
    let purge = match plane.judge(key, &stored.label) {
        Verdict::Good => PurgeState::NotPurged,
        Verdict::Stale(number) => PurgeState::Stale { number },
        Verdict::Purged => PurgeState::Purged,
        Verdict::Ahead => PurgeState::Unknown,
    };
    InspectedResponse {
        status: stored.status,
        length: stored.body.len(),
        age: stored.freshness.current_age(shared.clock().now()),
        lifetime: stored.freshness.lifetime,
        tags: stored.label.tags.iter().map(ToString::to_string).collect(),
        fetched_at_purge: stored.label.stamp.number,
        purge,
    }
}
