//! The rest of a response of which the start is stored (RFC 9111 §3.3, §3.4).

use std::sync::Arc;

use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::Body;

use super::Shared;
use super::forward::{Answered, Sent, concluded};
use super::prospect::{Prospect, prospect};
use crate::body::CacheBody;
use crate::error::BoxError;
use crate::semantics::partial::{ContentRange, RestRequest, completed_fields, completes};
use crate::semantics::storing::BodyLength;
use crate::store::entry::StoredResponse;

/// What to ask for, if the start is there, the client wants the whole, and the service can be asked again should what
/// comes not fit.
pub(super) fn rest_of(sent: &Sent, may_ask_again: bool) -> Option<RestRequest> {
    let start = start_of(sent)?;
    let wanted = sent.parts.method == Method::GET && !sent.parts.headers.contains_key(header::RANGE);
    (wanted && may_ask_again).then(|| RestRequest::of(start)).flatten()
}

/// Whether a reply is the rest, or something that needs no rest.
pub(super) fn fits<R>(sent: &Sent, reply: &Response<R>) -> bool {
    match (reply.status(), start_of(sent)) {
        (StatusCode::PARTIAL_CONTENT, Some(start)) => completes(start, reply.status(), reply.headers()),
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => false,
        _ => true,
    }
}

fn start_of(sent: &Sent) -> Option<&HeaderMap> {
    let stored = sent.miss.stored.as_ref()?;
    (stored.status == StatusCode::PARTIAL_CONTENT && stored.body.is_loaded()).then_some(&stored.headers)
}

/// The start and the rest, which [fits](fits), as one response.
pub(super) fn join<R>(shared: &Arc<Shared>, sent: &Sent, stored: &StoredResponse, response: Response<R>) -> Answered<R>
where
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let (mut head, body) = response.into_parts();
    head.status = StatusCode::OK;
    let total = ContentRange::of(&head.headers).map(|range| range.total);
    head.headers = completed_fields(&stored.headers, &head.headers);
    let length = BodyLength { at_least: total.unwrap_or_default(), exactly: total };
    let front = stored.body.pieces().to_vec();
    match prospect(shared, sent, &head, length) {
        Prospect::Pass(outcome) => {
            sent.decline();
            let outcome = outcome.with_status(StatusCode::PARTIAL_CONTENT);
            let body = CacheBody::joined(stored.body.clone(), body).under(sent.permit.clone());
            Answered::alone(concluded(outcome, head, body))
        }
        Prospect::Record(outcome, desk) => {
            let outcome = outcome.with_status(StatusCode::PARTIAL_CONTENT);
            let response = concluded(outcome, head, desk.seat());
            Answered { response, recording: Some(desk.record(body, front)) }
        }
    }
}
