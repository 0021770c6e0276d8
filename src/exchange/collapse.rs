//! Requests for the same thing at the same time: one of them is forwarded, and its response answers all (RFC 9111 §4).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, request};
use http_body::Body;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;
use tokio::time;
use tower_service::Service;

use super::background::Place;
use super::bid::Bid;
use super::fleet::{self, Clearance};
use super::flight::{Flight, FlightGuard, Heart};
use super::forward::{self, Answered};
use super::patience::{self, Standby};
use super::{Looked, Miss, Shared, busy, epoch, hit, look, revalidate, spare, unavailable_detail};
use crate::body::CacheBody;
use crate::body::chunks::OpenBody;
use crate::body::shared::SharedBody;
use crate::clock::Stopwatch;
use crate::collapse::flight::{FlightKey, Follower, News, Turn};
use crate::collapse::order::Departure;
use crate::error::BoxError;
use crate::key::CacheKey;
use crate::observe::{ForwardReason, Outcome};
use crate::semantics::PresentedRequest;
use crate::semantics::admission::is_query;
use crate::semantics::collapse::{asks_for_more, is_for_others, may_collapse};
use crate::semantics::reuse::{Decision, Found, decide, reuse_stale};
use crate::semantics::staleness::Trouble;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::{NominatedFields, VariantKey};
use crate::store::Sight;
use crate::store::entry::StoredResponse;

/// A response that others may have before it is stored.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(super) response: Arc<StoredResponse>,
    /// Its body, as long as it is on its way.
    pub(super) body: Option<Arc<SharedBody>>,
    pub(super) nominated: NominatedFields,
    pub(super) variant: VariantKey,
}

/// How long a fetch goes on that nobody waits for.
const FORSAKEN: Duration = Duration::from_secs(5);
/// Variants that a request may turn out to want, one after another, before it goes alone.
const MOST_TURNS: usize = 4;

impl Landing {
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        self.response.freshness.remaining(now).is_none()
    }

    /// Tells those who wait, if they may have it.
    pub(super) fn offer(self, shared: &Shared, flight: &Flight, now: Timestamp) {
        match is_for_others(&self.response.freshness, now, &shared.config.rules.grace) {
            true => flight.land(self),
            false => flight.decline_and_store(),
        }
    }
}

/// Forwards the request, or waits for the answer to one like it.
pub(super) async fn fetch<S, Q, R>(
    shared: Arc<Shared>,
    mut service: S,
    mut miss: Box<Miss>,
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
    let since = Stopwatch::start();
    let mut variant = miss.variant;
    for _ in 0..MOST_TURNS {
        match join(&shared, &miss, &parts, variant) {
            Turn::Alone => break,
            Turn::Lead(guard) if shared.order.is_written_since(&miss.key, miss.asked.at) => {
                drop(guard);
                miss.bid = None;
                // In boxes of their own, here and below, as all that most misses have no use for.
                if let Some(response) = Box::pin(look_again(&shared, &mut service, &mut miss, &parts)).await {
                    return Ok(response);
                }
            }
            Turn::Lead(guard) => {
                let Some(place) = shared.background.enter() else { break };
                miss.variant = variant;
                if miss.bid.is_none() && variant.is_none() {
                    miss.bid = Bid::taken_over(&shared, &miss.key);
                }
                return lead(shared, service, miss, parts, body, (Arc::new(Flight::new(guard)), place, since)).await;
            }
            Turn::Follow(follower) => {
                miss.bid = None;
                match Box::pin(follow(&shared, &miss, &parts, (follower, variant), since)).await {
                    Followed::Answer(response) => return Ok(*response),
                    Followed::Again => {}
                    Followed::Vary(own) => variant = Some(own),
                    Followed::Over | Followed::Alone => break,
                }
            }
        }
    }
    miss.bid = None;
    if let Some(standby) = Standby::of(&shared, &miss, &parts)
        && let Some(place) = shared.background.enter()
    {
        return Box::pin(patience::go_alone(service, miss, parts, body, (standby, place, since))).await;
    }
    let answered = Box::pin(busy::forward(Arc::clone(&shared), service, miss, parts, body, None, None)).await?;
    Ok(answered.recorded_by_a_task())
}

fn join(shared: &Shared, miss: &Miss, parts: &request::Parts, variant: Option<VariantKey>) -> Turn<Landing> {
    let can_be_stored = miss.reason != ForwardReason::Miss && shared.store.takes_writes(&miss.key);
    if !may_join(shared, &miss.key, parts, can_be_stored) {
        return Turn::Alone;
    }
    let key = FlightKey::new(&miss.key, variant);
    match shared.flights.join(key, shared.depart()) {
        // What it will bring was asked for before the key was invalidated.
        Turn::Follow(follower) if is_outdated(shared, miss, parts, follower.departure) => {
            shared.flights.retire(key, follower.departure);
            shared.flights.join(key, shared.depart())
        }
        turn => turn,
    }
}

/// Whether what comes may be for others.
pub(super) fn may_join(shared: &Shared, key: &CacheKey, parts: &request::Parts, can_be_stored: bool) -> bool {
    let request = PresentedRequest::of(parts);
    !shared.config.collapse_timeout.is_zero()
        && may_collapse(&request, can_be_stored, &shared.config.rules)
        && !shared.uncacheable.has(key, &request, shared.clock())
}

fn is_outdated(shared: &Shared, miss: &Miss, parts: &request::Parts, departure: Departure) -> bool {
    shared.order.is_outdated(&miss.key, departure)
        || shared.is_purged_since(departure, &miss.key, parts)
        || (is_query(&parts.method) && epoch::is_target_outdated(shared, parts, departure))
}

/// Waits for what the store is about to have under this key, where it has nothing as yet: its client has all of it already.
/// That takes half of what is left of the deadline at the most. `false` where there is no such thing, or the request has
/// it from the flight.
pub(super) async fn is_written_soon(
    shared: &Shared,
    key: &CacheKey,
    parts: &request::Parts,
    looked: &Looked,
    // As of before the look-up: what was written meanwhile it may have missed.
    ended: Option<OwnedNotified>,
) -> bool {
    let can_do_with_it = match looked.decision {
        Decision::Forward(ForwardReason::UriMiss | ForwardReason::VaryMiss, None) => {
            !asks_for_more(&PresentedRequest::of(parts), &shared.config.rules)
        }
        // It has no other way.
        Decision::Unsatisfiable(reason) => matches!(reason, ForwardReason::UriMiss | ForwardReason::VaryMiss),
        Decision::Hit(..) | Decision::Forward(..) => false,
    };
    if !can_do_with_it {
        return false;
    }
    // Or it is about to be written only now.
    let Some(ended) = ended.or_else(|| shared.imminent.ended(key)) else { return false };
    let follows = may_collapse(&PresentedRequest::of(parts), true, &shared.config.rules)
        && shared.flights.has(FlightKey::new(key, looked.variant));
    !follows && time::timeout(looked.asked.time_left(shared) / 2, ended).await.is_ok()
}

/// The store's answer, where another has just stored one that this request came too early to find.
async fn look_again<S, Q, R>(
    shared: &Arc<Shared>,
    service: &mut S,
    miss: &mut Miss,
    parts: &request::Parts,
) -> Option<Response<CacheBody<R>>>
where
    S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let Looked { decision, mut asked, .. } = look(shared, &miss.key, parts, Sight::Again, Stopwatch::start()).await;
    miss.asked.at = asked.at;
    match decision {
        Decision::Hit(reuse, held) => {
            let (stored, _) = hit::take(shared, &miss.key, parts, held, &mut asked).await?;
            spare::stand_by(shared, service, parts, &stored);
            Some(hit::serve(shared, &PresentedRequest::of(parts), stored, &reuse, Outcome::hit(reuse.ttl)))
        }
        Decision::Forward(..) | Decision::Unsatisfiable(_) => None,
    }
}

/// The fetch is a task of its own: neither its followers nor the store lose it when the client that began it leaves.
async fn lead<S, Q, R>(
    shared: Arc<Shared>,
    service: S,
    miss: Box<Miss>,
    parts: request::Parts,
    body: Q,
    (flight, place, since): (FlightGuard, Place, Stopwatch),
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: Body + Send + 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let ((mut reply, answer), (_client, client_left)) = (oneshot::channel(), oneshot::channel());
    let standby = Standby::of(&shared, &miss, &parts);
    // Who has gone with a stale response left the fetch to those who come next.
    let span = match &standby {
        Some(_) => forward::UNAWAITED_LIMIT,
        None => shared.config.unread_timeout.min(FORSAKEN),
    };
    let fetching = || async move {
        let mut heart = Heart::default();
        let fetched = {
            // Pinned where it is: whatever it is passed to would keep room for it once more.
            let fetched = pin!(async {
                match fleet::clear(&shared, miss, &parts, &flight, since).await {
                    Clearance::Answer(response) => Ok(Answered::alone(*response)),
                    Clearance::Fetch(miss) => {
                        let (shared, held) = (Arc::clone(&shared), Some(Arc::clone(&flight)));
                        // Made where it is pinned.
                        let mut forwarding =
                            pin!(busy::forward(shared, service, miss, parts, body, held, Some(client_left)));
                        heart.beats_for(&flight, forwarding.as_mut()).await
                    }
                }
            });
            tokio::select! {
                biased;
                fetched = fetched => fetched,
                () = forsaken(&mut reply, &flight, span) => return,
            }
        };
        let (response, recording) = match fetched {
            Ok(Answered { response, recording }) => (Ok(response), recording),
            Err(error) => (Err(error), None),
        };
        // What nobody records is over: whoever asks next finds the key free.
        let held = recording.is_some().then_some((flight, heart));
        // Whoever asked may have left.
        let _ = reply.send(response);
        if let (Some(recording), Some((flight, mut heart))) = (recording, held) {
            heart.beats_for(&flight, pin!(recording.run())).await;
        }
    };
    let task = place.begin("fetch", fetching);
    patience::answer(standby, since, answer, task).await
}

/// Resolves when the client has left and for so long nobody has come to wait in its place: nothing says yet that the
/// answer will be of use to anybody.
async fn forsaken<T>(reply: &mut oneshot::Sender<T>, flight: &FlightGuard, span: Duration) {
    reply.closed().await;
    loop {
        time::sleep(span).await;
        flight.close();
        if flight.followers() == 0 {
            return;
        }
    }
}

/// What became of waiting.
pub(super) enum Followed<R> {
    Answer(Box<Response<CacheBody<R>>>),
    /// The key may be free: join again.
    Again,
    /// The response is for other values of the fields that it nominates: this is the request's own variant.
    Vary(VariantKey),
    /// What has landed is of no use to anybody who comes now.
    Over,
    Alone,
}

async fn follow<R>(
    shared: &Shared,
    miss: &Miss,
    parts: &request::Parts,
    (mut follower, variant): (Follower<Landing>, Option<VariantKey>),
    since: Stopwatch,
) -> Followed<R> {
    let came_late = follower.landed().is_some();
    if let Some(response) = patience::instead_of_news(shared, miss, parts, &mut follower, since).await {
        return Followed::Answer(Box::new(response));
    }
    let left = shared.config.collapse_timeout.saturating_sub(since.elapsed());
    let Ok(news) = time::timeout(left, follower.news()).await else {
        shared.counters.collapse_timeouts.increment();
        // Nobody else is to wait so long for this one in vain.
        shared.flights.retire(FlightKey::new(&miss.key, variant), follower.departure);
        return Followed::Alone;
    };
    match news {
        News::Landed(landing) => match serve(shared, miss, parts, &landing, came_late) {
            Followed::Over => {
                // It may be a long body, or one that hangs: the next leads anew.
                shared.flights.retire(FlightKey::new(&miss.key, variant), follower.departure);
                Followed::Again
            }
            followed => followed,
        },
        News::Failed(Some(Trouble::Busy)) => Followed::Answer(Box::new(busy::refused(shared, miss, parts))),
        News::Failed(Some(trouble)) => match revalidate::stale_for(shared, miss, parts, trouble, None) {
            Some(response) => Followed::Answer(Box::new(response)),
            None => Followed::Again,
        },
        News::Failed(None) | News::Underway => Followed::Again,
        News::Unshared => Followed::Alone,
    }
}

/// The landed response as the answer to a request that has waited for it, or has come after it.
pub(super) fn serve<R>(
    shared: &Shared,
    miss: &Miss,
    parts: &request::Parts,
    landing: &Landing,
    came_late: bool,
) -> Followed<R> {
    let own = landing.nominated.select(&parts.headers);
    if own != landing.variant {
        return Followed::Vary(own);
    }
    let (request, now) = (PresentedRequest::of(parts), shared.clock().now());
    let stored = &landing.response;
    // A QUERY that was asked before its target was purged may have what it waited for; a later one does not follow.
    let is_purged = || shared.store.plane().is_outdated(&miss.key, &stored.label);
    if stored.body.open().is_some_and(OpenBody::is_broken) || is_purged() {
        return Followed::Over;
    }
    // Whoever has waited for this very response need not ask how fresh it is.
    let reuse = match came_late {
        false => reuse_stale(&stored.freshness, now),
        true => match decide(&request, Found::Response(stored.as_ref()), now, &shared.config.rules) {
            Decision::Hit(reuse, _) => reuse,
            Decision::Forward(..) | Decision::Unsatisfiable(_) => return Followed::Over,
        },
    };
    let outcome = Outcome::forwarded(miss.reason).with_status(stored.status).with_ttl(reuse.ttl).having_collapsed();
    let outcome = match miss.reason {
        ForwardReason::Miss => outcome.with_detail(unavailable_detail(miss.asked.failure)),
        _ => outcome,
    };
    let response = match &landing.body {
        None => hit::serve(shared, &request, Arc::clone(stored), &reuse, outcome),
        Some(body) => match body.reader(shared.config.collapse_timeout) {
            Some(reader) => hit::serve_live(&request, stored, reader, &reuse, outcome),
            None => return Followed::Over,
        },
    };
    shared.counters.collapsed.increment();
    Followed::Answer(Box::new(response))
}

impl<R> Answered<R>
where
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    /// The response; what is to be recorded of it is, beside it.
    pub(super) fn recorded_by_a_task(self) -> Response<CacheBody<R>> {
        if let Some(recording) = self.recording {
            recording.begin();
        }
        self.response
    }
}
