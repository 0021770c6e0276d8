//! May a response be stored (RFC 9111 §3)? Independent predicates: none can switch off another.

use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, Method, StatusCode};

use super::admission::is_retrieval;
use super::age::corrected_initial_age;
use super::cache_control::ResponseDirectives;
use super::fields::{has_foreign_coding, stated_length, wire_size};
use super::freshness::{
    Freshness, FreshnessLifetime, FreshnessSource, Statement, freshness_lifetime, is_heuristically_cacheable,
};
use super::partial::ContentRange;
use super::reuse::request_directives;
use super::staleness::StalePermission;
use super::time::Timestamp;
use super::vary::NominatedFields;
use super::{PresentedRequest, RouteRules, Rules};

/// A response's head as it was received, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedHead<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body_length: BodyLength,
    /// RFC 9110 §8.7: Content-Location says that this is a representation of the request's target.
    pub(crate) represents_target: bool,
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
    /// Fields that no-cache or private name: they are not stored (§5.2.2.4, §5.2.2.7).
    pub(crate) withheld: Vec<HeaderName>,
    /// How long the response may be of any use: fresh, stale, or to be validated.
    pub(crate) shelf_life: Duration,
}

/// Why a response is not stored: the `detail` of `Cache-Status`, and the label in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The request's method makes no entry: it is neither GET, nor a POST whose response says that it is a representation
    /// of the target and how long it is fresh (RFC 9110 §9.3.3).
    Method,
    /// The status is interim, of a condition or range that failed, or of a part that is not kept.
    Status,
    /// The response has `must-understand`, and its status is not known here (RFC 9111 §5.2.2.3).
    NotUnderstood,
    /// The request has `no-store`.
    RequestNoStore,
    /// The response has `no-store`.
    NoStore,
    /// The response is `private`.
    Private,
    /// The response has `no-cache`, and nothing to validate it by.
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
    /// The response is stale already, and there is nothing to validate it by.
    Stale,
    /// The response is an endless stream of events.
    EventStream,
    /// The response has no single valid `Content-Length`.
    InvalidLength,
    /// The content has a transfer coding besides `chunked`, which would be lost.
    TransferCoding,
    /// The body is larger than `max_body_size`.
    BodySize,
    /// The header fields are larger than `max_head_size`.
    HeadSize,
    /// There are more header fields than `max_fields`.
    Fields,
    /// The response has more tags than it may, or some that nobody could purge by.
    Tags,
}

impl Refusal {
    /// The word for it in `Cache-Status`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::NotUnderstood => "not-understood",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::NoCache => "no-cache",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::Cookie => "cookie",
            Self::VaryStar => "vary-star",
            Self::Tags => "tags",
            Self::NoFreshness => "no-freshness",
            Self::Stale => "stale",
            Self::EventStream => "event-stream",
            Self::InvalidLength => "invalid-length",
            Self::TransferCoding => "transfer-coding",
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
    let (directives, source) = rules.targets.directives(response.headers);
    refuse_by_request(request, response, route, rules)?;
    let partial = refuse_by_status(response, rules)?;
    refuse_by_directives(response.status, &directives)?;
    let is_authorized = request.headers.contains_key(header::AUTHORIZATION);
    refuse_shared_secrets(is_authorized, response, &directives, rules)?;
    let nominated = NominatedFields::of_response(response.headers).map_err(|_| Refusal::VaryStar)?;
    let stated_length = refuse_by_size(response.headers, response.body_length, rules)?;
    let stated_length = match partial {
        // A part that is not as long as it says is no part of anything.
        Some(part) if stated_length.is_some_and(|stated| stated != part.last + 1) => {
            return Err(Refusal::InvalidLength);
        }
        Some(part) => Some(part.last + 1),
        None => stated_length,
    };
    let said = Statement {
        status: response.status,
        headers: response.headers,
        directives: &directives,
        source,
        response_time: response.response_time,
        own_word_only: is_authorized,
    };
    let found = freshness_lifetime(&said, route, rules);
    refuse_by_source(request, found.as_ref(), rules)?;
    let freshness = freshness_of(response, &directives, found.as_ref());
    refuse_if_useless(request, response, found.as_ref(), &freshness, rules)?;
    let freshness = Freshness { stale: freshness.stale.with(&route.grace), ..freshness };
    Ok(Storable {
        freshness,
        nominated,
        stated_length,
        withheld: [directives.no_cache.fields(), directives.private.fields()].concat(),
        shelf_life: shelf_life(response, &freshness, rules),
    })
}

/// §3: fresh for a time, or with something to validate it by. A response with neither could never be used.
fn refuse_if_useless(
    request: &PresentedRequest<'_>,
    response: &ReceivedHead<'_>,
    found: Option<&FreshnessLifetime>,
    freshness: &Freshness,
    rules: &Rules,
) -> Result<(), Refusal> {
    let staleness = freshness.staleness(response.response_time);
    // RFC 5861 §3: stale from the start, and to be sent all the same.
    let stated = found.is_some_and(|found| found.source.is_stated());
    let sendable_stale = stated && !freshness.stale.forbidden && staleness < freshness.stale.while_revalidate;
    if !freshness.always_validate && (freshness.remaining(response.response_time).is_some() || sendable_stale) {
        return Ok(());
    }
    let reason = match found {
        _ if freshness.always_validate => Refusal::NoCache,
        Some(_) => Refusal::Stale,
        None => Refusal::NoFreshness,
    };
    if may_be_validated(request, response, reason, rules) { Ok(()) } else { Err(reason) }
}

fn may_be_validated(
    request: &PresentedRequest<'_>,
    response: &ReceivedHead<'_>,
    reason: Refusal,
    rules: &Rules,
) -> bool {
    let has = |name: HeaderName| response.headers.contains_key(name);
    if rules.policy.validates_by_date {
        let described = reason != Refusal::NoFreshness || is_heuristically_cacheable(response.status);
        return described && (has(header::ETAG) || has(header::LAST_MODIFIED));
    }
    // One user's page and another's may share a date; an entity tag is the content's own. Who has a cookie may be
    // somebody, and who states nothing has thought of nothing.
    reason != Refusal::NoFreshness && has(header::ETAG) && !request.headers.contains_key(header::COOKIE)
}

fn shelf_life(response: &ReceivedHead<'_>, freshness: &Freshness, rules: &Rules) -> Duration {
    let fresh = freshness.remaining(response.response_time).unwrap_or_default();
    let has = |name: HeaderName| response.headers.contains_key(name);
    let of_use_when_stale = !freshness.stale.forbidden || has(header::ETAG) || has(header::LAST_MODIFIED);
    let kept = if of_use_when_stale { rules.keep_stale } else { Duration::ZERO };
    fresh + kept.max(freshness.stale.longest(&rules.grace))
}

/// §3: the method is understood, and the request does not forbid it (§5.2.1.5).
fn refuse_by_request(
    request: &PresentedRequest<'_>,
    response: &ReceivedHead<'_>,
    route: &RouteRules,
    rules: &Rules,
) -> Result<(), Refusal> {
    match *request.method {
        Method::POST if response.represents_target => {}
        ref method if is_retrieval(method) => {}
        _ => return Err(Refusal::Method),
    }
    if route.no_store || request_directives(request, rules).no_store {
        return Err(Refusal::RequestNoStore);
    }
    Ok(())
}

/// §3: the status is final. Of parts only the start of something is of use (§3.3, §3.4).
fn refuse_by_status(response: &ReceivedHead<'_>, rules: &Rules) -> Result<Option<ContentRange>, Refusal> {
    match response.status {
        s if s.is_informational() => Err(Refusal::Status),
        StatusCode::PARTIAL_CONTENT => match ContentRange::of(response.headers) {
            Some(part) if rules.policy.stores_partial && part.is_prefix() => Ok(Some(part)),
            _ => Err(Refusal::Status),
        },
        StatusCode::NOT_MODIFIED => Err(Refusal::Status),
        // The precondition or range that failed was one client's own.
        StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => Err(Refusal::Status),
        _ => Ok(None),
    }
}

fn refuse_by_directives(status: StatusCode, directives: &ResponseDirectives) -> Result<(), Refusal> {
    // §5.2.2.3: must-understand limits storing to what is understood, and there it overrides no-store.
    if directives.must_understand && !is_understood(status) {
        return Err(Refusal::NotUnderstood);
    }
    if directives.no_store && !directives.must_understand {
        return Err(Refusal::NoStore);
    }
    // §5.2.2.7: a shared cache MUST NOT store it.
    if directives.private.is_whole() {
        return Err(Refusal::Private);
    }
    Ok(())
}

/// The final statuses whose caching rules are known here: those of RFC 9110 §15, and those of the registry that change
/// nothing about them.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 511
    )
}

fn refuse_shared_secrets(
    is_authorized: bool,
    response: &ReceivedHead<'_>,
    directives: &ResponseDirectives,
    rules: &Rules,
) -> Result<(), Refusal> {
    // §3.5: only a response that says so may be shared.
    let allowed = directives.public || directives.must_revalidate || directives.s_maxage.valid().is_some();
    if is_authorized && !allowed {
        return Err(Refusal::Authorization);
    }
    // One look at all names costs less than two look-ups, which hash theirs.
    let sets_cookie = |name: &HeaderName| matches!(name.as_str(), "set-cookie" | "set-cookie2");
    if !rules.policy.stores_set_cookie && response.headers.keys().any(sets_cookie) {
        return Err(Refusal::SetCookie);
    }
    Ok(())
}

fn refuse_by_size(headers: &HeaderMap, known: BodyLength, rules: &Rules) -> Result<Option<u64>, Refusal> {
    let stated = stated_length(headers).map_err(|_| Refusal::InvalidLength)?.or(known.exactly);
    if has_foreign_coding(headers) {
        return Err(Refusal::TransferCoding);
    }
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

fn refuse_by_source(
    request: &PresentedRequest<'_>,
    found: Option<&FreshnessLifetime>,
    rules: &Rules,
) -> Result<(), Refusal> {
    let stated = found.is_some_and(|found| found.source.is_stated());
    // RFC 9110 §9.3.3: a POST needs explicit freshness.
    if *request.method == Method::POST && !stated {
        return Err(Refusal::Method);
    }
    let configured = found.is_some_and(|found| !found.source.is_stated() && found.source != FreshnessSource::Route);
    if rules.policy.cookie_needs_stated_freshness && configured && request.headers.contains_key(header::COOKIE) {
        return Err(Refusal::Cookie);
    }
    Ok(())
}

fn freshness_of(
    response: &ReceivedHead<'_>,
    directives: &ResponseDirectives,
    found: Option<&FreshnessLifetime>,
) -> Freshness {
    let initial_age = corrected_initial_age(response.headers, response.request_time, response.response_time);
    let lifetime = match found {
        // What the operator says counts from when the response was received, however old it was then.
        Some(found) if !found.source.is_stated() && found.source != FreshnessSource::Heuristic => {
            found.lifetime.saturating_add(initial_age)
        }
        Some(found) => found.lifetime,
        None => Duration::ZERO,
    };
    Freshness {
        lifetime,
        corrected_initial_age: initial_age,
        response_time: response.response_time,
        stale: StalePermission::of(directives),
        always_validate: directives.no_cache.is_whole(),
    }
}

#[cfg(test)]
mod tests;
