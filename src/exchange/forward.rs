//! A request goes on to the service; its answer goes to the client, and past the recorder if it may be kept.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::header;
use http::{Method, Request, Response, StatusCode, request, response};
use http_body::Body;
use tower_service::Service;

use super::fill::{self, Fill};
use super::{Miss, Shared, complete, conclude, revalidate, route_rules, unavailable_detail};
use crate::body::CacheBody;
use crate::body::recorder::{Limits, Recorder};
use crate::body::tee::Tee;
use crate::clock::Stopwatch;
use crate::collapse::order::Departure;
use crate::config::{Disconnected, EmptyBody};
use crate::error::StoreErrorKind;
use crate::observe::{ForwardReason, Outcome, Ttl};
use crate::semantics::admission::is_retrieval;
use crate::semantics::precondition::{self, Precondition};
use crate::semantics::reuse::request_directives;
use crate::semantics::staleness::Trouble;
use crate::semantics::storing::{BodyLength, ReceivedHead, Refusal, Storability, Storable, storability};
use crate::semantics::time::Timestamp;
use crate::semantics::validation::{Validated, ValidationRequest};
use crate::semantics::{PresentedRequest, RouteRules};

/// What must be known of a request after it has been given away.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) miss: Miss,
    /// The request as it was received.
    pub(super) parts: request::Parts,
    pub(super) route: RouteRules,
    pub(super) request_time: Timestamp,
    pub(super) stopwatch: Stopwatch,
    pub(super) departure: Departure,
    /// The client's own conditions were taken off.
    stripped: bool,
    /// It went out with the stored response's validators.
    pub(super) validates: bool,
    pub(super) represents_target: bool,
    /// It went out for the rest of a response of which the start is stored.
    pub(super) completes: bool,
}

impl Sent {
    pub(super) fn new(shared: &Shared, miss: Miss, parts: &request::Parts) -> Self {
        Self {
            miss,
            parts: parts.clone(),
            route: route_rules(parts),
            request_time: shared.clock().now(),
            stopwatch: Stopwatch::start(),
            departure: shared.order.depart(),
            stripped: false,
            validates: false,
            represents_target: false,
            completes: false,
        }
    }

    pub(super) fn request(&self) -> PresentedRequest<'_> {
        PresentedRequest::of(&self.parts)
    }

    /// The GET that a HEAD stands beside.
    pub(super) fn as_get(&self) -> PresentedRequest<'_> {
        PresentedRequest { method: &Method::GET, headers: &self.parts.headers }
    }
}

/// What becomes of a response.
pub(super) enum Prospect {
    /// It passes, and that is all.
    Pass(Outcome),
    /// It is recorded as it passes.
    Record(Outcome, Tee),
}

pub(super) async fn forward<S, Q, R>(
    shared: Arc<Shared>,
    mut service: S,
    miss: Miss,
    mut parts: request::Parts,
    body: Q,
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    Q: 'static,
    R: Body + Send + 'static,
{
    let mut sent = Sent::new(&shared, miss, &parts);
    let again = parts.extensions.get::<EmptyBody<Q>>().copied();
    prepare_request(&shared, &mut sent, &mut parts, again.is_some());
    let spare = again.filter(|_| sent.completes || sent.validates).map(|empty| (plain(&parts), empty));
    let mut reply = service.call(Request::from_parts(parts, body)).await;
    let is_of_no_use = |reply: &Response<R>| !complete::fits(&sent, reply) || !revalidate::fits(&sent, reply);
    if let Some((parts, empty)) = spare
        && reply.as_ref().is_ok_and(is_of_no_use)
    {
        // A service may not be ready again before its last response has been let go.
        drop(reply);
        (sent.completes, sent.validates) = (false, false);
        sent.miss.variants.clear();
        sent.miss.stored = sent.miss.stored.take().filter(|stored| !stored.freshness.stale.forbidden);
        reply = match poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => service.call(Request::from_parts(parts, empty.make())).await,
            Err(error) => Err(error),
        };
    }
    drop(service);
    match reply {
        Ok(response) => Ok(receive(&shared, &sent, response)),
        // Only this call's error is ever the client's, and only where no stale response may do instead.
        Err(error) => revalidate::stale_instead(&shared, &sent, Trouble::Disconnected, None).ok_or(error),
    }
}

/// The request as the service gets it: its target as the key knows it; with the stored response's validators, or
/// without the client's own conditions where the whole response may be stored.
fn prepare_request(shared: &Shared, sent: &mut Sent, parts: &mut request::Parts, may_ask_again: bool) {
    if let Some(uri) = shared.config.key.forwarded_uri(parts) {
        parts.uri = uri;
    }
    if !is_retrieval(&sent.parts.method) {
        return;
    }
    if let Some(rest) = complete::rest_of(sent, may_ask_again) {
        rest.apply(&mut parts.headers);
        (sent.completes, sent.stripped) = (true, true);
        return;
    }
    let whole = sent.miss.stored.as_ref().filter(|stored| stored.status != StatusCode::PARTIAL_CONTENT);
    if let Some(validation) = whole.and_then(|stored| ValidationRequest::of(&stored.headers)) {
        validation.apply(&mut parts.headers);
        parts.headers.remove(header::RANGE);
        parts.headers.remove(header::IF_RANGE);
        (sent.validates, sent.stripped) = (true, true);
        return;
    }
    let has_range = parts.headers.contains_key(header::RANGE);
    let tags = ValidationRequest::of_variants(sent.miss.variants.iter().map(|stored| &stored.headers));
    if let Some(validation) = tags.filter(|_| !has_range) {
        validation.apply(&mut parts.headers);
        (sent.validates, sent.stripped) = (true, true);
        return;
    }
    sent.miss.variants.clear();
    sent.stripped = sent.miss.reason != ForwardReason::Miss
        && shared.store.takes_writes()
        && !has_range
        && !request_directives(&sent.request(), &shared.config.rules).no_store
        && !shared.uncacheable.has(&sent.miss.key, sent.request_time);
    if sent.stripped {
        precondition::strip_conditions(&mut parts.headers);
    }
}

/// The request without anything that the cache put into it.
fn plain(parts: &request::Parts) -> request::Parts {
    let mut plain = parts.clone();
    precondition::strip_conditions(&mut plain.headers);
    plain.headers.remove(header::RANGE);
    plain.headers.remove(header::IF_RANGE);
    plain
}

fn receive<R>(shared: &Arc<Shared>, sent: &Sent, response: Response<R>) -> Response<CacheBody<R>>
where
    R: Body + Send + 'static,
{
    if sent.completes
        && response.status() == StatusCode::PARTIAL_CONTENT
        && let Some(stored) = &sent.miss.stored
    {
        return complete::join(shared, sent, stored, response);
    }
    let (head, body) = response.into_parts();
    match revalidate::judge(sent, &head) {
        Some((stored, Validated::Freshen)) => revalidate::freshen(shared, sent, &stored, &head),
        Some((stored, Validated::UseUnchanged)) => revalidate::use_unchanged(shared, sent, stored),
        Some((_, Validated::Error)) => {
            let trouble = match head.extensions.get::<Disconnected>() {
                Some(_) => Trouble::Disconnected,
                None => Trouble::ErrorStatus,
            };
            revalidate::stale_instead(shared, sent, trouble, Some(head.status))
                .unwrap_or_else(|| answer(shared, sent, head, body))
        }
        Some((_, Validated::Replace)) | None => {
            if sent.parts.method == Method::HEAD {
                revalidate::learn_from_head(shared, sent, &head);
            }
            answer(shared, sent, head, body)
        }
    }
}

/// The service's own response, recorded on its way if it may be stored.
pub(super) fn answer<R>(shared: &Arc<Shared>, sent: &Sent, mut head: response::Parts, body: R) -> Response<CacheBody<R>>
where
    R: Body + Send + 'static,
{
    let length = BodyLength { at_least: body.size_hint().lower(), exactly: body.size_hint().exact() };
    let (outcome, body) = match prospect(shared, sent, &head, length) {
        Prospect::Pass(outcome) => match judge_conditions(sent, &head) {
            Precondition::Proceed => (outcome, CacheBody::passing(body)),
            Precondition::NotModified => {
                // The client has it; nobody else wants the rest.
                drop(body);
                (outcome, become_not_modified(&mut head))
            }
        },
        Prospect::Record(outcome, tee) => match judge_conditions(sent, &head) {
            Precondition::Proceed => (outcome, CacheBody::recorded(body, tee)),
            Precondition::NotModified => (outcome, not_modified(shared, &mut head, body, tee)),
        },
    };
    let mut response = Response::from_parts(head, body);
    conclude(outcome, &mut response);
    response
}

/// The conditions that were taken off the request.
fn judge_conditions(sent: &Sent, head: &response::Parts) -> Precondition {
    if !sent.stripped {
        return Precondition::Proceed;
    }
    precondition::evaluate(&sent.request(), head.status, &head.headers)
}

/// The client gets a 304, and the body is read for the store alone, in the background; without room for that, the
/// client gets the body after all.
fn not_modified<R>(shared: &Shared, head: &mut response::Parts, body: R, tee: Tee) -> CacheBody<R>
where
    R: Body + Send + 'static,
{
    match fill::read_in_background(shared, body, tee) {
        Ok(()) => become_not_modified(head),
        Err((body, tee)) => CacheBody::recorded(body, tee),
    }
}

fn become_not_modified<R>(head: &mut response::Parts) -> CacheBody<R> {
    head.status = StatusCode::NOT_MODIFIED;
    precondition::reduce_to_not_modified(&mut head.headers);
    CacheBody::empty()
}

pub(super) fn prospect(shared: &Arc<Shared>, sent: &Sent, head: &response::Parts, body_length: BodyLength) -> Prospect {
    let outcome = Outcome::forwarded(sent.miss.reason).with_status(head.status);
    let received = ReceivedHead {
        status: head.status,
        headers: &head.headers,
        body_length,
        represents_target: sent.represents_target,
        request_time: sent.request_time,
        response_time: shared.clock().now(),
    };
    let storable = match storability(&sent.request(), &received, &sent.route, &shared.config.rules) {
        Storability::Refuse(refusal) => return Prospect::Pass(refused(shared, sent, outcome, refusal)),
        Storability::Store(storable) => storable,
    };
    shared.uncacheable.forget(&sent.miss.key);
    match obstacle(shared, sent) {
        Some(detail) => Prospect::Pass(dropped(shared, outcome, detail)),
        None => record(shared, sent, &received, storable, outcome),
    }
}

fn refused(shared: &Shared, sent: &Sent, outcome: Outcome, refusal: Refusal) -> Outcome {
    shared.counters.refused.increment();
    shared.uncacheable.note(&sent.miss.key, refusal, shared.clock().now());
    match sent.miss.reason {
        // That the store was away says more than what would have become of the response.
        ForwardReason::Miss => outcome.with_detail(unavailable_detail(sent.miss.asked.failure)),
        _ => outcome.refused(refusal),
    }
}

fn dropped(shared: &Shared, outcome: Outcome, detail: &'static str) -> Outcome {
    shared.counters.dropped_writes.increment();
    outcome.with_detail(detail)
}

/// What stands between a storable response and the store.
pub(super) fn obstacle(shared: &Shared, sent: &Sent) -> Option<&'static str> {
    if sent.miss.reason == ForwardReason::Miss || !shared.store.is_available() {
        return Some(unavailable_detail(sent.miss.asked.failure));
    }
    if !shared.store.takes_writes() {
        return Some("store-full");
    }
    let stored_under = sent.miss.found_under.as_ref().unwrap_or(&sent.miss.key);
    if shared.slow_bodies.has(stored_under, sent.request_time) {
        return Some("store-slow");
    }
    None
}

fn record(
    shared: &Arc<Shared>,
    sent: &Sent,
    received: &ReceivedHead<'_>,
    mut storable: Storable,
    outcome: Outcome,
) -> Prospect {
    storable.freshness.lifetime = jittered(storable.freshness.lifetime, shared.config.ttl_jitter);
    let age = storable.freshness.current_age(received.response_time);
    let ttl = Ttl::between(storable.freshness.lifetime, age);
    // Room is taken as the body comes; a body that cannot have it is not begun.
    let Some(reservation) = shared.recording.open(storable.stated_length.unwrap_or(1)) else {
        return Prospect::Pass(dropped(shared, outcome, unavailable_detail(Some(StoreErrorKind::Busy))));
    };
    let rules = &shared.config.rules;
    let limits =
        Limits { max_length: rules.max_body_size, max_head_size: rules.max_head_size, max_fields: rules.max_fields };
    let recorder = Recorder::new(storable.stated_length, limits, reservation);
    let variant = storable.nominated.select(&sent.parts.headers);
    let fill = Fill::new(shared, sent, received, storable, variant, sent.stopwatch.elapsed());
    Prospect::Record(outcome.with_ttl(ttl).being_stored(), Tee::new(recorder, fill))
}

/// Shortened by a random part of up to so many per cent.
fn jittered(lifetime: Duration, percent: u8) -> Duration {
    match percent {
        0 => lifetime,
        _ => lifetime.mul_f64(1.0 - fastrand::f64() * f64::from(percent) / 100.0),
    }
}
