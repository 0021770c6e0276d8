//! May a response be stored (RFC 9111 §3)? Independent predicates: none can switch off another.

use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, Method, StatusCode};

use super::age::corrected_initial_age;
use super::cache_control::{RequestDirectives, ResponseDirectives};
use super::fields::{stated_length, wire_size};
use super::freshness::{Freshness, FreshnessLifetime, FreshnessSource, freshness_lifetime};
use super::time::Timestamp;
use super::vary::NominatedFields;
use super::{PresentedRequest, RouteRules, Rules};

/// A response's head as it was received, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedHead<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body_length: BodyLength,
    pub(crate) request_time: Timestamp,
    pub(crate) response_time: Timestamp,
}

/// What is known of a body's length apart from the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyLength {
    pub(crate) at_least: u64,
    pub(crate) exactly: Option<u64>,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Storability {
    Store(Storable),
    Refuse(Refusal),
}

/// What is to be known of a response that may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Storable {
    pub(crate) freshness: Freshness,
    pub(crate) nominated: NominatedFields,
    pub(crate) stated_length: Option<u64>,
}

/// Why a response is not stored: the `detail` of `Cache-Status`, and the label in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The request's method is not GET.
    Method,
    /// The status is interim, partial or otherwise never stored.
    Status,
    /// The request has `no-store`.
    RequestNoStore,
    /// The response has `no-store`.
    NoStore,
    /// The response is `private`.
    Private,
    /// The response has `no-cache`.
    NoCache,
    /// The request has `Authorization`, and the response does not allow sharing (RFC 9111 §3.5).
    Authorization,
    /// The response sets a cookie.
    SetCookie,
    /// The request has a cookie, and the response does not state its freshness.
    Cookie,
    /// The response varies by `*`.
    VaryStar,
    /// Nothing gives the response a freshness lifetime.
    NoFreshness,
    /// The response is stale already.
    Stale,
    /// The response is an endless stream of events.
    EventStream,
    /// The response has no single valid `Content-Length`.
    InvalidLength,
    /// The body is larger than `max_body_size`.
    BodySize,
    /// The header fields are larger than `max_head_size`.
    HeadSize,
    /// There are more header fields than `max_fields`.
    Fields,
}

impl Refusal {
    /// The word for it in `Cache-Status`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::NoCache => "no-cache",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::Cookie => "cookie",
            Self::VaryStar => "vary-star",
            Self::NoFreshness => "no-freshness",
            Self::Stale => "stale",
            Self::EventStream => "event-stream",
            Self::InvalidLength => "invalid-length",
            Self::BodySize => "body-size",
            Self::HeadSize => "head-size",
            Self::Fields => "fields",
        }
    }
}

/// Judges a response to a request.
pub(crate) fn storability(
    request: &PresentedRequest<'_>,
    response: &ReceivedHead<'_>,
    route: &RouteRules,
    rules: &Rules,
) -> Storability {
    match storable(request, response, route, rules) {
        Ok(storable) => Storability::Store(storable),
        Err(refusal) => Storability::Refuse(refusal),
    }
}

fn storable(
    request: &PresentedRequest<'_>,
    response: &ReceivedHead<'_>,
    route: &RouteRules,
    rules: &Rules,
) -> Result<Storable, Refusal> {
    let directives = ResponseDirectives::parse(response.headers);
    refuse_by_request(request)?;
    refuse_by_status(response.status)?;
    refuse_by_directives(&directives)?;
    refuse_shared_secrets(request, response, &directives, rules)?;
    let nominated = NominatedFields::of_response(response.headers).map_err(|_| Refusal::VaryStar)?;
    let stated_length = refuse_by_size(response.headers, response.body_length, rules)?;
    let found =
        freshness_lifetime(response.status, response.headers, &directives, response.response_time, route, rules)
            .ok_or(Refusal::NoFreshness)?;
    refuse_cookie_without_statement(request, &found, rules)?;
    let freshness = freshness_of(response, found.lifetime);
    if freshness.remaining(response.response_time).is_none() {
        return Err(Refusal::Stale);
    }
    Ok(Storable { freshness, nominated, stated_length })
}

/// §3: the method is understood (only GET makes entries here), and the request does not forbid it (§5.2.1.5).
fn refuse_by_request(request: &PresentedRequest<'_>) -> Result<(), Refusal> {
    if request.method != Method::GET {
        return Err(Refusal::Method);
    }
    if RequestDirectives::parse(request.headers).no_store {
        return Err(Refusal::RequestNoStore);
    }
    Ok(())
}

/// §3: the status is final; 206 and 304 are not combined (§3.3, §3.4), and need a stored response to mean anything.
fn refuse_by_status(status: StatusCode) -> Result<(), Refusal> {
    match status {
        s if s.is_informational() => Err(Refusal::Status),
        StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED => Err(Refusal::Status),
        // The precondition or range that failed was one client's own.
        StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => Err(Refusal::Status),
        _ => Ok(()),
    }
}

fn refuse_by_directives(directives: &ResponseDirectives) -> Result<(), Refusal> {
    if directives.no_store {
        return Err(Refusal::NoStore);
    }
    // §5.2.2.7: a shared cache MUST NOT store it.
    if directives.private {
        return Err(Refusal::Private);
    }
    // §5.2.2.4: it could not be used without validation.
    if directives.no_cache {
        return Err(Refusal::NoCache);
    }
    Ok(())
}

fn refuse_shared_secrets(
    request: &PresentedRequest<'_>,
    response: &ReceivedHead<'_>,
    directives: &ResponseDirectives,
    rules: &Rules,
) -> Result<(), Refusal> {
    // §3.5: only a response that says so may be shared.
    let allowed = directives.public || directives.must_revalidate || directives.s_maxage.is_present();
    if request.headers.contains_key(header::AUTHORIZATION) && !allowed {
        return Err(Refusal::Authorization);
    }
    if !rules.policy.stores_set_cookie
        && [header::SET_COOKIE, HeaderName::from_static("set-cookie2")]
            .iter()
            .any(|name| response.headers.contains_key(name))
    {
        return Err(Refusal::SetCookie);
    }
    Ok(())
}

fn refuse_by_size(headers: &HeaderMap, known: BodyLength, rules: &Rules) -> Result<Option<u64>, Refusal> {
    let stated = stated_length(headers).map_err(|_| Refusal::InvalidLength)?.or(known.exactly);
    if is_event_stream(headers) {
        return Err(Refusal::EventStream);
    }
    if stated.unwrap_or(known.at_least) > rules.max_body_size {
        return Err(Refusal::BodySize);
    }
    if headers.len() > rules.max_fields {
        return Err(Refusal::Fields);
    }
    if wire_size(headers) > rules.max_head_size {
        return Err(Refusal::HeadSize);
    }
    Ok(stated)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().trim_ascii_start().get(..TYPE.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
}

fn refuse_cookie_without_statement(
    request: &PresentedRequest<'_>,
    found: &FreshnessLifetime,
    rules: &Rules,
) -> Result<(), Refusal> {
    let stated = found.source.is_stated() || found.source == FreshnessSource::Route;
    if rules.policy.cookie_needs_stated_freshness && !stated && request.headers.contains_key(header::COOKIE) {
        return Err(Refusal::Cookie);
    }
    Ok(())
}

fn freshness_of(response: &ReceivedHead<'_>, lifetime: Duration) -> Freshness {
    Freshness {
        lifetime,
        corrected_initial_age: corrected_initial_age(response.headers, response.request_time, response.response_time),
        response_time: response.response_time,
    }
}

#[cfg(test)]
mod tests;
