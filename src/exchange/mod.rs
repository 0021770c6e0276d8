//! The story of one request, in order: all the waiting, none of the decisions.

pub(crate) mod admit;
pub(crate) mod background;
mod bid;
mod busy;
mod collapse;
mod complete;
mod epoch;
pub(crate) mod fill;
mod fleet;
mod flight;
mod forward;
mod hit;
pub(crate) mod inspect;
mod invalidate;
mod keep;
mod keeper;
mod lease;
mod lookup;
pub(crate) mod near;
mod open;
mod patience;
mod prospect;
mod publish;
pub(crate) mod purge;
mod record;
mod refresh;
mod relay;
mod revalidate;
pub(crate) mod search;
mod spare;
pub(crate) mod told;
mod upload;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, Request, Response, StatusCode, request};
use http_body::Body;
use tower_service::Service;

use crate::body::{Budget, CacheBody};
use crate::clock::{Clock, Stopwatch};
use crate::collapse::bids::Bids;
use crate::collapse::failing::FailingKeys;
use crate::collapse::flight::Flights;
use crate::collapse::imminent::ImminentWrites;
use crate::collapse::order::{Departure, Order};
use crate::collapse::permits::{Admission, Permits};
use crate::collapse::slow::SlowBodies;
use crate::collapse::uncacheable::UncacheableKeys;
use crate::config::{CacheConfig, CacheOverride, Disconnected, EmptyBody};
use crate::error::{BoxError, StoreErrorKind};
use crate::key::CacheKey;
use crate::observe::counters::Counters;
use crate::observe::meter::Meter;
use crate::observe::{ForwardReason, Outcome, report};
use crate::purge::label::{Label, Site};
use crate::semantics::admission::is_retrieval_without_content;
use crate::semantics::reuse::{Decision, Refresh, decide, has_directives, request_directives};
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;
use crate::semantics::{PresentedRequest, RouteRules};
use crate::store::entry::StoredResponse;
use crate::store::{AnyStore, Sight};

use self::bid::Bid;
pub(crate) use self::invalidate::run_invalidating;

/// What all requests of a layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: AnyStore,
    pub(crate) config: CacheConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) meter: Meter,
    pub(crate) recording: Budget,
    /// Bounds what has been read of large bodies and not yet been sent, or is to be kept in memory.
    pub(crate) reading: Budget,
    pub(crate) uncacheable: UncacheableKeys,
    pub(crate) flights: Flights<collapse::Landing>,
    pub(crate) bids: Bids,
    pub(crate) slow_bodies: SlowBodies,
    pub(crate) searches: search::Searches,
    pub(crate) failing: FailingKeys,
    pub(crate) permits: Permits,
    pub(crate) order: Order,
    pub(crate) imminent: ImminentWrites,
    pub(crate) told: told::ToldHeads,
    pub(crate) background: background::Background,
}

impl Shared {
    pub(crate) fn clock(&self) -> &Clock {
        &self.config.clock
    }

    /// The octets of one body that are held at the most while it is recorded: all of it where the store takes it only
    /// as a whole.
    fn most_held(&self) -> u64 {
        const LEAST: u64 = 1024 * 1024;
        match self.store.chunk_size() {
            Some(_) => LEAST.max(self.config.max_inflight_bytes / 8),
            None => u64::MAX,
        }
    }

    /// A request sets out.
    fn depart(&self) -> Departure {
        let (purges, connection) = self.store.stamp();
        self.order.depart(purges, connection)
    }

    /// Whether what set out then is known to have been purged since, as far as can be told before its response has come.
    fn is_purged_since(&self, departure: Departure, key: &CacheKey, parts: &request::Parts) -> bool {
        let plane = self.store.plane();
        departure.purges != plane.stamp() && plane.is_outdated(key, &label(self, departure, parts))
    }

    /// What a look-up may wait for the store.
    fn store_deadline(&self) -> Duration {
        in_whole_millis(self.store.deadline().unwrap_or(self.config.store_timeout))
    }

    /// What all else may wait for it.
    fn store_patience(&self) -> Duration {
        in_whole_millis(self.config.store_timeout)
    }

    /// Shows what was done with a request, on the response that goes to the client.
    pub(crate) fn report<B>(&self, key: Option<&CacheKey>, outcome: &Outcome, response: &mut Response<B>) {
        let targets = self.config.rules.targets.names();
        let targets = if self.config.pass_targeted_fields { &[] } else { targets };
        let tags = || self.config.purges.tagger.withheld();
        let headers = response.headers_mut();
        // Most have few fields, and none of these: looking at each of those takes less than looking for each of these.
        if headers.keys().any(|name| targets.contains(name) || tags().any(|other| name == other)) {
            let mut remove = |name: &HeaderName| drop(headers.remove(name));
            targets.iter().for_each(&mut remove);
            tags().for_each(&mut remove);
        }
        self.meter.request(outcome);
        report(&self.config.cache_name, key, outcome, response);
    }
}

/// Leaves what was done with a request on its response, where it stays, and is told at the end.
fn conclude<B>(outcome: Outcome, response: &mut Response<B>) {
    let outcome = match response.extensions().get::<Disconnected>() {
        Some(Disconnected) => outcome.without_answer(),
        None => outcome,
    };
    response.extensions_mut().insert(outcome);
}

/// Tells at the end of a story what it came to.
#[derive(Debug)]
pub(crate) struct Teller {
    shared: Arc<Shared>,
    /// Where it is to be shown.
    key: Option<Box<CacheKey>>,
}

impl Teller {
    pub(crate) fn new(shared: Arc<Shared>, key: &CacheKey) -> Self {
        let key = shared.config.cache_status_key.then(|| Box::new(key.clone()));
        Self { shared, key }
    }

    pub(crate) fn tell<B>(&self, response: &mut Response<B>) {
        match response.extensions_mut().get_mut::<Outcome>() {
            // What leaves the layer says nothing of that.
            Some(Outcome { is_told, .. }) if *is_told => *is_told = false,
            Some(outcome) => {
                let outcome = outcome.clone();
                self.shared.report(self.key.as_deref(), &outcome, response);
            }
            None => {}
        }
    }
}

/// A request that the cache could not answer, and what it had for it.
#[derive(Debug)]
struct Miss {
    key: CacheKey,
    /// The key of what is stored, where that is another: queries are equal by No-Vary-Search, or it is that of a QUERY.
    found_under: Option<Box<CacheKey>>,
    /// The variant that the request wants, as far as it can be known.
    variant: Option<VariantKey>,
    reason: ForwardReason,
    asked: lookup::Asked,
    /// A response that may not be used as it is: it may turn out to be valid, or better than none.
    stored: Option<Arc<StoredResponse>>,
    /// When what was found was received, whether it is of use or not.
    found_at: Option<Timestamp>,
    /// Responses for other values of the fields that Vary names (§4.3.1).
    variants: Vec<Arc<StoredResponse>>,
    /// The lease, if it was asked for together with the look-up.
    bid: Option<Box<Bid>>,
    /// When it sets out for the service, if that is at once.
    sets_out: Option<SetsOut>,
}

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
struct SetsOut {
    time: Timestamp,
    stopwatch: Stopwatch,
}

impl Miss {
    /// With nothing found.
    fn of_nothing(key: CacheKey, reason: ForwardReason, asked: lookup::Asked) -> Box<Self> {
        Box::new(Self {
            key,
            found_under: None,
            variant: None,
            reason,
            asked,
            stored: None,
            found_at: None,
            variants: Vec::new(),
            bid: None,
            sets_out: None,
        })
    }

    fn stored_under(&self) -> &CacheKey {
        self.found_under.as_deref().unwrap_or(&self.key)
    }

    /// All that a purge of it may be by: that of the URL names neither a response to QUERY nor one that was found under
    /// an equal query.
    fn names(&self) -> Names<'_> {
        Names([Some(self.stored_under()), Some(&self.key), self.asked.epoch.as_deref().map(epoch::Epoch::target)])
    }

    /// Whether any of what was found was purged since, so that nothing may be made of it.
    fn is_purged(&self, shared: &Shared) -> bool {
        self.stored.iter().chain(&self.variants).any(|stored| self.names().are_purged(shared, stored))
    }
}

/// The keys by which a response may be purged.
#[derive(Clone, Copy, Debug)]
struct Names<'a>([Option<&'a CacheKey>; 3]);

impl Names<'_> {
    fn are_purged(self, shared: &Shared, stored: &StoredResponse) -> bool {
        self.0.into_iter().flatten().any(|key| shared.store.plane().is_purged(key, &stored.label))
    }
}

/// Look up; decide; serve a hit (and perhaps refresh it behind), or forward and see what may be kept.
pub(crate) async fn run<S, Q, R>(
    shared: Arc<Shared>,
    service: S,
    key: CacheKey,
    parts: request::Parts,
    body: Q,
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: Body + Send + 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let Looked { decision, mut asked, now, variant, found_at, bid } = look_first(&shared, &key, &parts).await;
    let mut found_under = None;
    let (reason, stored) = match decision {
        Decision::Unsatisfiable(_) => return Ok(unsatisfiable(&shared)),
        Decision::Hit(reuse, held) => match hit::take(&shared, &key, &parts, held, &mut asked).await {
            Some((stored, elsewhere)) => {
                spare::stand_by(&shared, &service, &parts, &stored);
                let held_key = elsewhere.as_deref().unwrap_or(&key);
                hit::note_use(&shared, held_key, variant);
                let refresh = refresh::of_hit(&shared, held_key, &parts, &reuse, &stored, now);
                let behind = (refresh != Refresh::NotNeeded).then(|| Arc::clone(&stored));
                let own_key = elsewhere.is_none().then_some(&key);
                let response = hit::answer(&shared, own_key, &PresentedRequest::of(&parts), stored, &reuse);
                if behind.is_some() {
                    let mut miss = Miss::of_nothing(key, ForwardReason::Stale, asked);
                    (miss.found_under, miss.variant, miss.stored, miss.found_at) =
                        (elsewhere, variant, behind, found_at);
                    refresh::begin(shared, service, miss, parts, body, refresh);
                }
                return Ok(response);
            }
            None if only_if_cached(&shared, &parts) => return Ok(unsatisfiable(&shared)),
            // The body was not to be had in time, or it is there no more.
            None if asked.failure.is_some() => (ForwardReason::Miss, None),
            None => (ForwardReason::UriMiss, None),
        },
        Decision::Forward(reason, held) => {
            found_under = held.as_ref().and_then(|held| held.elsewhere.clone());
            let candidate = revalidate::candidate(&shared, &key, &parts, held, &mut asked).await;
            candidate.iter().for_each(|stored| spare::stand_by(&shared, &service, &parts, stored));
            (reason, candidate)
        }
    };
    let mut miss = Miss::of_nothing(key, reason, asked);
    (miss.found_under, miss.variant, miss.stored, miss.found_at, miss.bid) =
        (found_under, variant, stored, found_at, bid);
    if let Some(response) = patience::after_failure(&shared, &miss, &parts) {
        return Ok(response);
    }
    shared.counters.misses.increment();
    // Should the service answer with a validator of none of them, it has to be asked again.
    if parts.method == Method::GET && parts.extensions.get::<EmptyBody<Q>>().is_some() {
        miss.variants = lookup::variants(&shared, &miss.key, &mut miss.asked).await;
    }
    collapse::fetch(shared, service, miss, parts, body).await
}

/// That nobody need look: a moment ago there was nothing, and what came might not be stored.
///
/// The future that is made of it sets out now: should it be polled only later, what comes is taken for older than it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barren {
    now: SetsOut,
}

impl Barren {
    pub(crate) fn find(shared: &Shared, key: &CacheKey, parts: &request::Parts) -> Option<Self> {
        if !shared.uncacheable.may_be_barren() {
            return None;
        }
        let now = shared.clock().now();
        let is_barren = shared.uncacheable.is_barren(key, now)
            && is_retrieval_without_content(&parts.method)
            && !has_directives(&parts.headers);
        is_barren.then(|| Self { now: SetsOut { time: now, stopwatch: Stopwatch::start() } })
    }
}

/// Forward at once, and see what may be kept.
pub(crate) async fn run_barren<S, Q, R>(
    shared: Arc<Shared>,
    service: S,
    key: CacheKey,
    parts: request::Parts,
    body: Q,
    Barren { now }: Barren,
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    Q: 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    shared.counters.misses.increment();
    let asked = lookup::Asked::since(shared.order.present(), now.stopwatch);
    let mut miss = Miss::of_nothing(key, ForwardReason::UriMiss, asked);
    miss.sets_out = Some(now);
    // Most wait for no turn, and need no room for that.
    let answered = match shared.permits.try_enter() {
        Admission::Granted(permit) => forward::forward(shared, service, miss, parts, body, None, permit).await,
        Admission::Busy => Box::pin(busy::forward(shared, service, miss, parts, body, None, None)).await,
    };
    answered.map(forward::Answered::recorded_by_a_task)
}

/// What the store has for a request, and what is to be done with it.
#[derive(Debug)]
struct Looked {
    decision: Decision<lookup::Held>,
    asked: lookup::Asked,
    /// When it was found.
    now: Timestamp,
    variant: Option<VariantKey>,
    found_at: Option<Timestamp>,
    /// Only where nothing was found.
    bid: Option<Box<Bid>>,
}

/// Looks, and again where what was not there was being written.
async fn look_first(shared: &Arc<Shared>, key: &CacheKey, parts: &request::Parts) -> Looked {
    let written = shared.imminent.ended(key);
    // Where something is being written the lease is this process's own.
    let since = Stopwatch::start();
    let mut bid = if written.is_none() { Bid::wanted(shared, key, parts, since) } else { None };
    let looking = pin!(look(shared, key, parts, Sight::First, since));
    let mut looked = Bid::before(bid.as_deref_mut(), looking).await;
    match looked.decision {
        Decision::Forward(ForwardReason::UriMiss, None) => {
            shared.bids.looked(true);
            looked.bid = bid;
        }
        Decision::Hit(..) | Decision::Forward(ForwardReason::VaryMiss, _) | Decision::Forward(_, Some(_)) => {
            shared.bids.looked(false);
            drop(bid);
        }
        Decision::Forward(..) | Decision::Unsatisfiable(_) => drop(bid),
    }
    if !collapse::is_written_soon(shared, key, parts, &looked, written).await {
        return looked;
    }
    let again = Box::pin(look(shared, key, parts, Sight::Again, looked.asked.since)).await;
    if again.asked.failure.is_none() { again } else { looked }
}

async fn look(shared: &Arc<Shared>, key: &CacheKey, parts: &request::Parts, sight: Sight, since: Stopwatch) -> Looked {
    let (found, asked) = lookup::look_up(shared, key, parts, sight, since).await;
    let now = shared.clock().now();
    let (variant, found_at) = (lookup::variant_wanted(&found, &asked, parts), lookup::found_at(&found));
    let decision = decide(&PresentedRequest::of(parts), found, now, &shared.config.rules);
    Looked { decision, asked, now, variant, found_at, bid: None }
}

/// RFC 9111 §5.2.1.7: only-if-cached, and nothing that may be used. Nothing is forwarded.
fn unsatisfiable<R>(shared: &Shared) -> Response<CacheBody<R>> {
    shared.counters.misses.increment();
    let outcome = Outcome::unanswered("only-if-cached");
    let mut response = Response::new(CacheBody::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    conclude(outcome, &mut response);
    response
}

fn only_if_cached(shared: &Shared, parts: &request::Parts) -> bool {
    request_directives(&PresentedRequest::of(parts), &shared.config.rules).only_if_cached
}

/// The runtime's timers count whole milliseconds and round up.
fn in_whole_millis(span: Duration) -> Duration {
    const GRAIN: Duration = Duration::from_millis(1);
    span.saturating_sub(GRAIN).max(GRAIN)
}

/// By which the response to a request is purged, but for its tags.
fn label(shared: &Shared, departure: Departure, parts: &request::Parts) -> Label {
    let site = Site::of(&search::target_of(shared, parts), &parts.headers);
    Label { stamp: departure.purges, site, tags: Box::default() }
}

fn route_rules(parts: &request::Parts) -> RouteRules {
    parts.extensions.get::<CacheOverride>().map(|route| route.rules).unwrap_or_default()
}

/// The word in `Cache-Status` for a store that gave no answer.
fn unavailable_detail(kind: Option<StoreErrorKind>) -> &'static str {
    match kind {
        Some(StoreErrorKind::Busy) => "store-busy",
        _ => "store-unavailable",
    }
}
