//! A request goes on to the service; its answer goes to the client, and past the recorder if it may be kept.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::header;
use http::{Method, Request, Response, StatusCode, request, response};
use http_body::Body;
use tower_service::Service;

use super::flight::FlightGuard;
use super::prospect::{Prospect, prospect};
use super::record::Recording;
use super::{Miss, SetsOut, Shared, complete, conclude, patience, revalidate, route_rules};
use crate::body::CacheBody;
use crate::clock::Stopwatch;
use crate::collapse::order::Departure;
use crate::collapse::permits::Permit;
use crate::config::{Disconnected, EmptyBody};
use crate::error::BoxError;
use crate::observe::{ForwardReason, Outcome};
use crate::semantics::admission::{is_retrieval, is_retrieval_without_content};
use crate::semantics::precondition::{self, Precondition};
use crate::semantics::reuse::request_directives;
use crate::semantics::staleness::Trouble;
use crate::semantics::storing::BodyLength;
use crate::semantics::time::Timestamp;
use crate::semantics::validation::{Validated, ValidationRequest};
use crate::semantics::{PresentedRequest, RouteRules};

/// What must be known of a request after it has been given away.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) miss: Box<Miss>,
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
    /// Others wait for what comes.
    pub(super) flight: Option<FlightGuard>,
    /// Held until the body of the response has ended.
    pub(super) permit: Permit,
}

impl Sent {
    pub(super) fn new(shared: &Shared, miss: Box<Miss>, parts: &request::Parts) -> Self {
        let now = || SetsOut { time: shared.clock().now(), stopwatch: Stopwatch::start() };
        let SetsOut { time, stopwatch } = miss.sets_out.unwrap_or_else(now);
        Self {
            miss,
            parts: parts.clone(),
            route: route_rules(parts),
            request_time: time,
            stopwatch,
            departure: shared.depart(),
            stripped: false,
            validates: false,
            represents_target: false,
            completes: false,
            flight: None,
            permit: Permit::default(),
        }
    }

    pub(super) fn request(&self) -> PresentedRequest<'_> {
        PresentedRequest::of(&self.parts)
    }

    /// What comes is for nobody but the one who asked.
    pub(super) fn decline(&self) {
        if let Some(flight) = &self.flight {
            flight.decline();
        }
    }

    /// The GET that a HEAD stands beside.
    pub(super) fn as_get(&self) -> PresentedRequest<'_> {
        PresentedRequest { method: &Method::GET, headers: &self.parts.headers }
    }
}

/// A response for the client, and what is to be done beside it.
pub(super) struct Answered<R> {
    pub(super) response: Response<CacheBody<R>>,
    pub(super) recording: Option<Recording<R>>,
}

impl<R> Answered<R> {
    pub(super) fn alone(response: Response<CacheBody<R>>) -> Self {
        Self { response, recording: None }
    }
}

/// A service that has not answered by then is not waited for where nobody else waits.
pub(super) const UNAWAITED_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn forward<S, Q, R>(
    shared: Arc<Shared>,
    mut service: S,
    miss: Box<Miss>,
    mut parts: request::Parts,
    body: Q,
    flight: Option<FlightGuard>,
    permit: Permit,
) -> Result<Answered<R>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    Q: 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let mut sent = Sent { flight, permit, ..Sent::new(&shared, miss, &parts) };
    // What is asked for with content cannot be asked for without it.
    let again = parts.extensions.get::<EmptyBody<Q>>().copied();
    let again = again.filter(|_| is_retrieval_without_content(&parts.method));
    prepare_request(&shared, &mut sent, &mut parts, again.is_some());
    let spare = again.filter(|_| sent.completes || sent.validates).map(|empty| (plain(&parts), empty));
    let mut reply = service.call(Request::from_parts(parts, body)).await;
    if reply.is_ok() {
        shared.meter.service_answered(sent.stopwatch);
    }
    let is_of_no_use = |reply: &Response<R>| {
        // What was purged while the service was asked about it has to be fetched anew.
        let builds_on_stored = matches!(reply.status(), StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT);
        !complete::fits(&sent, reply)
            || !revalidate::fits(&sent, reply)
            || (builds_on_stored && sent.miss.is_purged(&shared))
    };
    if let Some((parts, empty)) = spare
        && reply.as_ref().is_ok_and(is_of_no_use)
    {
        // A service may not be ready again before its last response has been let go.
        drop(reply);
        (sent.completes, sent.validates) = (false, false);
        sent.miss.variants.clear();
        sent.departure = shared.depart();
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
        Err(error) => {
            let stale = revalidate::stale_instead(&shared, &sent, Trouble::Disconnected, None);
            stale.map(Answered::alone).ok_or(error)
        }
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
    sent.stripped = precondition::has_conditions(&parts.headers)
        && sent.miss.reason != ForwardReason::Miss
        && shared.store.takes_writes(&sent.miss.key)
        && !has_range
        && !shared.uncacheable.has(&sent.miss.key, &sent.request(), shared.clock())
        && !request_directives(&sent.request(), &shared.config.rules).no_store;
    if sent.stripped {
        precondition::strip_conditions(&mut parts.headers);
    }
}

/// The request without anything that the cache put into it.
pub(super) fn plain(parts: &request::Parts) -> request::Parts {
    let mut plain = parts.clone();
    precondition::strip_conditions(&mut plain.headers);
    plain.headers.remove(header::RANGE);
    plain.headers.remove(header::IF_RANGE);
    plain
}

fn receive<R>(shared: &Arc<Shared>, sent: &Sent, response: Response<R>) -> Answered<R>
where
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    if sent.completes
        && response.status() == StatusCode::PARTIAL_CONTENT
        && let Some(stored) = &sent.miss.stored
    {
        return complete::join(shared, sent, stored, response);
    }
    let (head, body) = response.into_parts();
    let verdict = revalidate::judge(sent, &head);
    if !matches!(verdict, Some((_, Validated::Error))) {
        patience::has_answered(shared, sent);
    }
    match verdict {
        Some((stored, Validated::Freshen)) => Answered::alone(revalidate::freshen(shared, sent, &stored, &head)),
        Some((stored, Validated::UseUnchanged)) => Answered::alone(revalidate::use_unchanged(shared, sent, stored)),
        Some((_, Validated::Error)) => {
            let trouble = match head.extensions.get::<Disconnected>() {
                Some(_) => Trouble::Disconnected,
                None => Trouble::ErrorStatus,
            };
            match revalidate::stale_instead(shared, sent, trouble, Some(head.status)) {
                Some(response) => Answered::alone(response),
                None => answer(shared, sent, head, body),
            }
        }
        replaced @ (Some((_, Validated::Replace)) | None) => {
            if replaced.is_some() {
                revalidate::replace(shared, sent, &head, length_of(&body));
            }
            if sent.parts.method == Method::HEAD {
                revalidate::learn_from_head(shared, sent, &head);
            }
            answer(shared, sent, head, body)
        }
    }
}

/// The service's own response, recorded on its way if it may be stored.
pub(super) fn answer<R>(shared: &Arc<Shared>, sent: &Sent, mut head: response::Parts, body: R) -> Answered<R>
where
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let length = length_of(&body);
    let verdict = judge_conditions(sent, &head);
    match prospect(shared, sent, &head, length) {
        Prospect::Pass(outcome) => {
            sent.decline();
            let body = match verdict {
                Precondition::Proceed => CacheBody::passing(body).under(sent.permit.clone()),
                // The client has it; nobody else wants the rest.
                Precondition::NotModified => become_not_modified(&mut head),
            };
            Answered::alone(concluded(outcome, head, body))
        }
        Prospect::Record(outcome, desk) => {
            let client = match verdict {
                Precondition::Proceed => desk.seat(),
                // The body is read for the others, and for the store.
                Precondition::NotModified => become_not_modified(&mut head),
            };
            let recording = Some(desk.record(body, Vec::new()));
            Answered { response: concluded(outcome, head, client), recording }
        }
    }
}

fn length_of<R: Body>(body: &R) -> BodyLength {
    let hint = body.size_hint();
    BodyLength { at_least: hint.lower(), exactly: hint.exact() }
}

pub(super) fn concluded<R>(outcome: Outcome, head: response::Parts, body: CacheBody<R>) -> Response<CacheBody<R>> {
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

fn become_not_modified<R>(head: &mut response::Parts) -> CacheBody<R> {
    head.status = StatusCode::NOT_MODIFIED;
    precondition::reduce_to_not_modified(&mut head.headers);
    CacheBody::empty()
}
