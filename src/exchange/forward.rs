//! A request goes on to the service; its answer goes to the client, and past the recorder if it may be kept.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, request, response};
use http_body::Body;
use tower_service::Service;

use super::fill::{self, Fill};
use super::{Miss, Shared, route_rules, unavailable_detail};
use crate::body::CacheBody;
use crate::body::recorder::Recorder;
use crate::body::tee::Tee;
use crate::clock::Stopwatch;
use crate::error::StoreErrorKind;
use crate::observe::{ForwardReason, Outcome, report};
use crate::semantics::precondition::{self, Precondition};
use crate::semantics::storing::{BodyLength, ReceivedHead, Refusal, Storability, Storable, storability};
use crate::semantics::time::Timestamp;
use crate::semantics::{PresentedRequest, RouteRules};

/// What must be known of a request after it has been given away.
#[derive(Debug)]
struct Sent {
    miss: Miss,
    method: Method,
    headers: HeaderMap,
    route: RouteRules,
    request_time: Timestamp,
    stopwatch: Stopwatch,
}

/// What becomes of a response.
enum Prospect {
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
    R: Body + Send + 'static,
{
    shared.counters.misses.increment();
    let sent = Sent {
        miss,
        method: parts.method.clone(),
        headers: parts.headers.clone(),
        route: route_rules(&parts),
        request_time: shared.clock().now(),
        stopwatch: Stopwatch::start(),
    };
    prepare_request(&shared, &sent, &mut parts);
    // Only this call's error is ever the client's.
    let response = service.call(Request::from_parts(parts, body)).await?;
    drop(service);
    let (head, body) = response.into_parts();
    Ok(answer(&shared, &sent, head, body))
}

/// The request as the service gets it: its target as the key knows it, and without the client's own conditions where
/// the whole response may be stored.
fn prepare_request(shared: &Shared, sent: &Sent, parts: &mut request::Parts) {
    if let Some(uri) = shared.config.key.forwarded_uri(parts) {
        parts.uri = uri;
    }
    let may_be_stored = sent.method == Method::GET
        && sent.miss.reason != ForwardReason::Miss
        && !shared.uncacheable.has(&sent.miss.key, sent.request_time);
    if may_be_stored {
        precondition::strip_conditions(&mut parts.headers);
    }
}

fn answer<R>(shared: &Arc<Shared>, sent: &Sent, mut head: response::Parts, body: R) -> Response<CacheBody<R>>
where
    R: Body + Send + 'static,
{
    let length = BodyLength { at_least: body.size_hint().lower(), exactly: body.size_hint().exact() };
    let (outcome, body) = match prospect(shared, sent, &head, length) {
        Prospect::Pass(outcome) => (outcome, CacheBody::passing(body)),
        Prospect::Record(outcome, tee) => match judge_conditions(sent, &head) {
            Precondition::Proceed => (outcome, CacheBody::recorded(body, tee)),
            Precondition::NotModified => (outcome, not_modified(shared, &mut head, body, tee)),
        },
    };
    let mut response = Response::from_parts(head, body);
    report(&shared.config.cache_name, outcome, &mut response);
    response
}

/// The conditions that were taken off the request.
fn judge_conditions(sent: &Sent, head: &response::Parts) -> Precondition {
    let request = PresentedRequest { method: &sent.method, headers: &sent.headers };
    precondition::evaluate(&request, head.status, &head.headers)
}

/// The client gets a 304, and the body is read for the store alone, in the background; without room for that, the
/// client gets the body after all.
fn not_modified<R>(shared: &Shared, head: &mut response::Parts, body: R, tee: Tee) -> CacheBody<R>
where
    R: Body + Send + 'static,
{
    match fill::read_in_background(shared, body, tee) {
        Ok(()) => {
            head.status = StatusCode::NOT_MODIFIED;
            precondition::reduce_to_not_modified(&mut head.headers);
            CacheBody::empty()
        }
        Err((body, tee)) => CacheBody::recorded(body, tee),
    }
}

fn prospect(shared: &Arc<Shared>, sent: &Sent, head: &response::Parts, body_length: BodyLength) -> Prospect {
    let outcome = Outcome::forwarded(sent.miss.reason).with_status(head.status);
    let received = ReceivedHead {
        status: head.status,
        headers: &head.headers,
        body_length,
        request_time: sent.request_time,
        response_time: shared.clock().now(),
    };
    let request = PresentedRequest { method: &sent.method, headers: &sent.headers };
    let storable = match storability(&request, &received, &sent.route, &shared.config.rules) {
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
        ForwardReason::Miss => outcome.with_detail(unavailable_detail(StoreErrorKind::Unavailable)),
        _ => outcome.refused(refusal),
    }
}

fn dropped(shared: &Shared, outcome: Outcome, detail: &'static str) -> Outcome {
    shared.counters.dropped_writes.increment();
    outcome.with_detail(detail)
}

/// What stands between a storable response and the store.
fn obstacle(shared: &Shared, sent: &Sent) -> Option<&'static str> {
    if sent.miss.reason == ForwardReason::Miss || !shared.store.is_available() {
        return Some(unavailable_detail(StoreErrorKind::Unavailable));
    }
    if !shared.store.takes_writes() {
        return Some("store-full");
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
    let Some(remaining) = storable.freshness.remaining(received.response_time) else {
        return Prospect::Pass(refused(shared, sent, outcome, Refusal::Stale));
    };
    // Room is taken as the body comes; a body that cannot have it is not begun.
    let Some(reservation) = shared.recording.open(storable.stated_length.unwrap_or(1)) else {
        return Prospect::Pass(dropped(shared, outcome, unavailable_detail(StoreErrorKind::Busy)));
    };
    let recorder = Recorder::new(storable.stated_length, shared.config.rules.max_body_size, reservation);
    let variant = storable.nominated.select(&sent.headers);
    let fill = Fill::new(shared, &sent.miss, received, storable, variant, sent.stopwatch.elapsed());
    Prospect::Record(outcome.being_stored(remaining), Tee::new(recorder, fill))
}

/// Shortened by a random part of up to so many per cent.
fn jittered(lifetime: Duration, percent: u8) -> Duration {
    match percent {
        0 => lifetime,
        _ => lifetime.mul_f64(1.0 - fastrand::f64() * f64::from(percent) / 100.0),
    }
}
