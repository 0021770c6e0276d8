//! May a stored response answer this request, now (RFC 9111 §4)?

use std::time::Duration;

use http::{HeaderMap, Method, header};

use super::cache_control::{RequestDirectives, Seconds};
use super::early::{self, Odds};
use super::freshness::Freshness;
use super::staleness::{Trouble, asks_for_fresher};
use super::time::Timestamp;
use super::{PresentedRequest, Rules};
use crate::observe::{ForwardReason, Ttl};

/// What the store had for a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<T> {
    Response(T),
    /// Responses for the URI, none of which matches the request's nominated fields.
    VaryMiss,
    UriMiss,
    /// The store gave no answer.
    Unavailable,
}

/// Something that was stored and tells its freshness.
pub(crate) trait Stored {
    fn freshness(&self) -> &Freshness;

    /// Whether it is a whole response, or the start of one (§3.3).
    fn is_whole(&self) -> bool;
}

/// What to do with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision<T> {
    Hit(Reuse, T),
    /// With what was found, if it may not be used as it is.
    Forward(ForwardReason, Option<T>),
    /// only-if-cached, and nothing that may be used (§5.2.1.7).
    Unsatisfiable(ForwardReason),
}

/// A stored response that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reuse {
    pub(crate) age: Duration,
    pub(crate) ttl: Ttl,
    pub(crate) refresh: Refresh,
}

/// Whether to validate a response after it has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    NotNeeded,
    /// RFC 5861 §3: it is stale.
    InBackground,
    /// It will be soon.
    Early,
}

/// An entry from further in the future than this was written by a clock that cannot be trusted.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// The directives of a request, as far as the operator lets clients have a say.
pub(crate) fn request_directives(request: &PresentedRequest<'_>, rules: &Rules) -> RequestDirectives {
    if rules.obeys_request_directives && has_directives(request.headers) {
        RequestDirectives::parse(request.headers)
    } else {
        RequestDirectives::default()
    }
}

/// Whether a request has directives at all. Most have few fields: looking at each takes less than looking for these.
pub(crate) fn has_directives(request: &HeaderMap) -> bool {
    request.keys().any(|name| [header::CACHE_CONTROL, header::PRAGMA].contains(name))
}

/// Decides. But for max-stale, which cannot go past what the response forbids, a request directive can only make the
/// cache stricter.
pub(crate) fn decide<T: Stored>(
    request: &PresentedRequest<'_>,
    found: Found<T>,
    now: Timestamp,
    rules: &Rules,
) -> Decision<T> {
    let directives = request_directives(request, rules);
    let (reason, stored) = match found {
        // §3.3: a part answers no request for the whole.
        Found::Response(stored) if !stored.is_whole() => (ForwardReason::Partial, Some(stored)),
        Found::Response(stored) => match reuse(&directives, stored.freshness(), now, rules) {
            Ok(reuse) => return Decision::Hit(reuse, stored),
            Err(reason) => (reason, Some(stored)),
        },
        Found::VaryMiss => (ForwardReason::VaryMiss, None),
        Found::UriMiss => (ForwardReason::UriMiss, None),
        Found::Unavailable => (ForwardReason::Miss, None),
    };
    if directives.only_if_cached { Decision::Unsatisfiable(reason) } else { Decision::Forward(reason, stored) }
}

/// A stored response that is sent because nothing better can be had (§4.2.4).
pub(crate) fn reuse_stale(freshness: &Freshness, now: Timestamp) -> Reuse {
    let age = freshness.current_age(now);
    Reuse { age, ttl: Ttl::between(freshness.lifetime, age), refresh: Refresh::NotNeeded }
}

/// A hit that may have to be refreshed early: only one for a GET brings what a refresh replaces.
pub(crate) fn refresh_of(
    request: &PresentedRequest<'_>,
    reuse: &Reuse,
    freshness: &Freshness,
    now: Timestamp,
    odds: Odds,
) -> Refresh {
    match reuse.refresh {
        Refresh::NotNeeded if *request.method == Method::GET && early::is_due(freshness, now, odds) => Refresh::Early,
        refresh => refresh,
    }
}

/// What has kept a request from a better answer than the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its own attempt.
    Own(Trouble),
    /// That of another, a moment ago.
    Others(Trouble),
}

/// A stored response that may be sent in trouble (§4.2.4). One that is still fresh needs no permission.
pub(crate) fn reuse_in_trouble(
    request: &PresentedRequest<'_>,
    stored: &impl Stored,
    cause: Cause,
    now: Timestamp,
    rules: &Rules,
) -> Option<Reuse> {
    let (freshness, directives) = (stored.freshness(), request_directives(request, rules));
    let is_fresh = freshness.remaining(now).is_some() && freshness.response_time.since(now) <= CLOCK_TOLERANCE;
    let staleness = freshness.staleness(now);
    let is_allowed = match cause {
        _ if is_fresh && !asks_for_fresher(&directives) => true,
        Cause::Own(trouble) => freshness.stale.on(trouble, staleness, &directives, &rules.grace),
        Cause::Others(trouble) => freshness.stale.again_on(trouble, staleness, &directives, &rules.grace),
    };
    let may_be_sent = stored.is_whole() && !freshness.always_validate && is_allowed;
    may_be_sent.then(|| reuse_stale(freshness, now))
}

fn reuse(
    directives: &RequestDirectives,
    freshness: &Freshness,
    now: Timestamp,
    rules: &Rules,
) -> Result<Reuse, ForwardReason> {
    // §5.2.2.4: no-cache, like a clock that cannot be trusted, demands validation.
    if freshness.always_validate || freshness.response_time.since(now) > CLOCK_TOLERANCE {
        return Err(ForwardReason::Stale);
    }
    let age = freshness.current_age(now);
    let refresh = match freshness.remaining(now) {
        Some(remaining) => {
            refuse_by_request(directives, age, remaining)?;
            Refresh::NotNeeded
        }
        None => {
            refuse_by_request(directives, age, Duration::ZERO)?;
            use_of_stale(directives, freshness, now, rules)?
        }
    };
    Ok(Reuse { age, ttl: Ttl::between(freshness.lifetime, age), refresh })
}

fn use_of_stale(
    directives: &RequestDirectives,
    freshness: &Freshness,
    now: Timestamp,
    rules: &Rules,
) -> Result<Refresh, ForwardReason> {
    let staleness = freshness.staleness(now);
    if freshness.stale.while_revalidating(staleness, &rules.grace) {
        return Ok(Refresh::InBackground);
    }
    if freshness.stale.accepted_by(directives.max_stale, staleness) {
        return Ok(Refresh::NotNeeded);
    }
    Err(ForwardReason::Stale)
}

fn refuse_by_request(directives: &RequestDirectives, age: Duration, remaining: Duration) -> Result<(), ForwardReason> {
    // §5.2.1.4: no-cache asks for validation.
    if directives.no_cache {
        return Err(ForwardReason::Request);
    }
    // §5.2.1.1: no older than max-age. An argument that makes no sense is taken as the strictest.
    match directives.max_age {
        Seconds::Absent => {}
        Seconds::Of(limit) if age <= limit.as_duration() => {}
        Seconds::Of(_) | Seconds::Invalid => return Err(ForwardReason::Request),
    }
    // §5.2.1.3: fresh for at least min-fresh more.
    match directives.min_fresh {
        Seconds::Absent => {}
        Seconds::Of(limit) if remaining >= limit.as_duration() => {}
        Seconds::Of(_) | Seconds::Invalid => return Err(ForwardReason::Request),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
