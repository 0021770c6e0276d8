//! A request goes on to the service; its answer goes to the client, and past the recorder if it may be kept.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, request, response};
use http_body::Body;
use tower_service::Service;

use super::fill::Fill;
use super::{Shared, route_rules, unavailable_detail};
use crate::body::CacheBody;
use crate::body::recorder::Recorder;
use crate::body::tee::Tee;
use crate::clock::Stopwatch;
use crate::error::StoreErrorKind;
use crate::key::CacheKey;
use crate::observe::{ForwardReason, Outcome, report};
use crate::semantics::storing::{ReceivedHead, Refusal, Storability, Storable, storability};
use crate::semantics::time::Timestamp;
use crate::semantics::{PresentedRequest, RouteRules};

/// What must be known of a request after it has been given away.
#[derive(Debug)]
struct Sent {
    key: CacheKey,
    method: Method,
    headers: HeaderMap,
    route: RouteRules,
    request_time: Timestamp,
    stopwatch: Stopwatch,
}

pub(super) async fn forward<S, Q, R>(
    shared: Arc<Shared>,
    mut service: S,
    key: CacheKey,
    mut parts: request::Parts,
    body: Q,
    outcome: Outcome,
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body,
{
    shared.counters.misses.increment();
    let sent = Sent {
        key,
        method: parts.method.clone(),
        headers: parts.headers.clone(),
        route: route_rules(&parts),
        request_time: shared.clock().now(),
        stopwatch: Stopwatch::start(),
    };
    if let Some(uri) = shared.config.key.forwarded_uri(&parts) {
        parts.uri = uri;
    }
    // Only this call's error is ever the client's.
    let response = service.call(Request::from_parts(parts, body)).await?;
    drop(service);
    let (head, body) = response.into_parts();
    let outcome = outcome.with_status(head.status);
    Ok(answer(shared, sent, head, body, outcome))
}

fn answer<R: Body>(
    shared: Arc<Shared>,
    sent: Sent,
    head: response::Parts,
    body: R,
    outcome: Outcome,
) -> Response<CacheBody<R>> {
    let received = ReceivedHead {
        status: head.status,
        headers: &head.headers,
        request_time: sent.request_time,
        response_time: shared.clock().now(),
    };
    let request = PresentedRequest { method: &sent.method, headers: &sent.headers };
    let (outcome, fill) = match storability(&request, &received, &sent.route, &shared.config.rules) {
        Storability::Refuse(refusal) => (refused(&shared, outcome, refusal), None),
        Storability::Store(storable) => match obstacle(&shared, &outcome) {
            Some(detail) => (dropped(&shared, outcome, detail), None),
            None => prepare(&shared, sent, &received, storable, outcome),
        },
    };
    let cache_name = shared.config.cache_name.clone();
    let body = match fill {
        Some((recorder, fill)) => CacheBody::recorded(body, Tee::new(recorder, fill)),
        None => CacheBody::passing(body),
    };
    let mut response = Response::from_parts(head, body);
    report(&cache_name, outcome, &mut response);
    response
}

fn refused(shared: &Shared, outcome: Outcome, refusal: Refusal) -> Outcome {
    shared.counters.refused.increment();
    match outcome.forward {
        // That the store was away says more than what would have become of the response.
        Some(ForwardReason::Miss) => outcome.with_detail(unavailable_detail(StoreErrorKind::Unavailable)),
        _ => outcome.refused(refusal),
    }
}

fn dropped(shared: &Shared, outcome: Outcome, detail: &'static str) -> Outcome {
    shared.counters.dropped_writes.increment();
    outcome.with_detail(detail)
}

/// What stands between a storable response and the store.
fn obstacle(shared: &Shared, outcome: &Outcome) -> Option<&'static str> {
    if outcome.forward == Some(ForwardReason::Miss) || !shared.store.is_available() {
        return Some(unavailable_detail(StoreErrorKind::Unavailable));
    }
    if !shared.store.takes_writes() {
        return Some("store-full");
    }
    None
}

fn prepare(
    shared: &Arc<Shared>,
    sent: Sent,
    received: &ReceivedHead<'_>,
    mut storable: Storable,
    outcome: Outcome,
) -> (Outcome, Option<(Recorder, Fill)>) {
    let stated = storable.stated_length;
    let Some(reservation) = shared.recording.reserve(0) else {
        return (dropped(shared, outcome, "store-busy"), None);
    };
    storable.freshness.lifetime = jittered(storable.freshness.lifetime, shared.config.ttl_jitter);
    let Some(remaining) = storable.freshness.remaining(received.response_time) else {
        return (refused(shared, outcome, Refusal::Stale), None);
    };
    let recorder = Recorder::new(stated, shared.config.rules.max_body_size, reservation);
    let variant = storable.nominated.select(&sent.headers);
    let latency = sent.stopwatch.elapsed();
    let fill = Fill::new(Arc::clone(shared), sent.key, received, storable, variant, latency);
    (outcome.being_stored(remaining), Some((recorder, fill)))
}

/// Shortened by a random part of up to so many per cent.
fn jittered(lifetime: std::time::Duration, percent: u8) -> std::time::Duration {
    match percent {
        0 => lifetime,
        _ => lifetime.mul_f64(1.0 - fastrand::f64() * f64::from(percent) / 100.0),
    }
}
