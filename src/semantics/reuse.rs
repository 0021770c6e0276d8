//! May a stored response answer this request, now (RFC 9111 §4)?

use std::time::Duration;

use super::PresentedRequest;
use super::cache_control::{RequestDirectives, Seconds};
use super::freshness::Freshness;
use super::time::Timestamp;
use crate::observe::ForwardReason;

/// What the store had for a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    Response(&'a Freshness),
    /// Responses for the URI, none of which matches the request's nominated fields.
    VaryMiss,
    UriMiss,
    /// The store gave no answer.
    Unavailable,
}

/// What to do with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Hit(Reuse),
    Forward(ForwardReason),
    /// only-if-cached, and nothing that may be used (§5.2.1.7).
    Unsatisfiable(ForwardReason),
}

/// A stored response that may be sent, its age and what is left of its freshness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reuse {
    pub(crate) age: Duration,
    pub(crate) remaining: Duration,
}

/// An entry from further in the future than this was written by a clock that cannot be trusted.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Decides. A request directive can only make the cache stricter.
pub(crate) fn decide(request: &PresentedRequest<'_>, found: Found<'_>, now: Timestamp) -> Decision {
    let directives = RequestDirectives::parse(request.headers);
    let outcome = match found {
        Found::Response(freshness) => reuse(&directives, freshness, now),
        Found::VaryMiss => Err(ForwardReason::VaryMiss),
        Found::UriMiss => Err(ForwardReason::UriMiss),
        Found::Unavailable => Err(ForwardReason::Miss),
    };
    match outcome {
        Ok(reuse) => Decision::Hit(reuse),
        Err(reason) if directives.only_if_cached => Decision::Unsatisfiable(reason),
        Err(reason) => Decision::Forward(reason),
    }
}

fn reuse(directives: &RequestDirectives, freshness: &Freshness, now: Timestamp) -> Result<Reuse, ForwardReason> {
    if freshness.response_time.since(now) > CLOCK_TOLERANCE {
        return Err(ForwardReason::Stale);
    }
    let age = freshness.current_age(now);
    let remaining = freshness.remaining(now).ok_or(ForwardReason::Stale)?;
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
    Ok(Reuse { age, remaining })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue, Method};

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn at(seconds_later: u64, cache_control: &str) -> Decision {
        let freshness = Freshness {
            lifetime: Duration::from_secs(60),
            corrected_initial_age: Duration::from_secs(10),
            response_time: T0,
        };
        let mut headers = HeaderMap::new();
        if !cache_control.is_empty() {
            headers.insert("cache-control", HeaderValue::from_str(cache_control).unwrap());
        }
        let request = PresentedRequest { method: &Method::GET, headers: &headers };
        decide(&request, Found::Response(&freshness), T0.plus(Duration::from_secs(seconds_later)))
    }

    fn hit(age: u64) -> Decision {
        Decision::Hit(Reuse { age: Duration::from_secs(age), remaining: Duration::from_secs(60 - age) })
    }

    #[test]
    fn a_response_is_fresh_until_its_age_reaches_its_lifetime() {
        assert_eq!(at(0, ""), hit(10));
        assert_eq!(at(49, ""), hit(59));
        assert_eq!(at(50, ""), Decision::Forward(ForwardReason::Stale));
        assert_eq!(at(5_000_000, ""), Decision::Forward(ForwardReason::Stale));
    }

    #[test]
    fn request_directives_make_the_cache_stricter() {
        for line in ["no-cache", "No-Cache", "max-age=0", "max-age=19", "max-age=x", "min-fresh=41", "min-fresh=x"] {
            assert_eq!(at(10, line), Decision::Forward(ForwardReason::Request), "{line}");
        }
        for line in ["max-age=20", "min-fresh=40", "no-store", "no-transform", "max-stale", "max-stale=9999"] {
            assert_eq!(at(10, line), hit(20), "{line}");
        }
    }

    #[test]
    fn max_stale_revives_nothing() {
        for line in ["max-stale", "max-stale=9999"] {
            assert_eq!(at(60, line), Decision::Forward(ForwardReason::Stale), "{line}");
        }
    }

    #[test]
    fn only_if_cached_is_never_forwarded() {
        assert_eq!(at(0, "only-if-cached"), hit(10));
        assert_eq!(at(60, "only-if-cached"), Decision::Unsatisfiable(ForwardReason::Stale));
        assert_eq!(at(0, "only-if-cached, no-cache"), Decision::Unsatisfiable(ForwardReason::Request));
    }

    #[test]
    fn an_entry_from_the_future_is_not_trusted() {
        let freshness = Freshness {
            lifetime: Duration::from_secs(60),
            corrected_initial_age: Duration::ZERO,
            response_time: T0.plus(Duration::from_secs(6)),
        };
        let request = PresentedRequest { method: &Method::GET, headers: &HeaderMap::new() };
        assert_eq!(decide(&request, Found::Response(&freshness), T0), Decision::Forward(ForwardReason::Stale));
    }
}
