//! The law: HTTP caching as pure, total, synchronous functions that know no clock.
//!
//! | RFC 9111 | file | what it answers |
//! |---|---|---|
//! | §4 | [`admission`] | may this request touch the cache at all |
//! | §1.2.2 | [`time`] | delta-seconds and HTTP-dates |
//! | §5.2 | [`cache_control`] | which directives are there |
//! | §3, §3.5 | [`storing`] | may this response be stored |
//! | §3.1 | [`fields`] | which of its fields |
//! | §3.3, §3.4 | [`partial`] | what the start of a response is good for |
//! | §4.1 | [`vary`] | which requests it may answer |
//! | §4.2.1 | [`freshness`] | how long it is fresh |
//! | §4.2.3 | [`age`] | how old it is |
//! | §4 | [`reuse`] | may it answer this request now |
//! | §4.2.4, RFC 5861 | [`staleness`] | may it though it is stale |
//! | XFetch | [`early`] | is it refreshed before it is stale |
//! | §4 | [`collapse`] | may one response answer several requests |
//! | §4.3 | [`validation`] | is it still right |
//! | §4.3.2 | [`precondition`] | or is 304 the answer |
//! | §4.4 | [`invalidation`] | what an unsafe request ends |
//! | RFC 9110 §14 | [`range`] | or a part of it |
//! | RFC 9213 | [`targeted`] | which field the directives come from |
//! | No-Vary-Search | [`search`] | which queries are one |

pub(crate) mod admission;
pub(crate) mod age;
pub(crate) mod cache_control;
pub(crate) mod collapse;
pub(crate) mod early;
pub(crate) mod fields;
pub(crate) mod freshness;
pub(crate) mod invalidation;
pub(crate) mod partial;
pub(crate) mod precondition;
#[cfg(test)]
mod properties;
pub(crate) mod range;
pub(crate) mod reuse;
pub(crate) mod search;
pub(crate) mod staleness;
pub(crate) mod storing;
pub(crate) mod targeted;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod time;
pub(crate) mod validation;
pub(crate) mod vary;

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, request};

use self::staleness::Grace;
use self::targeted::TargetList;

/// A request as the cache sees it (RFC 9111 §4, "presented request").
#[derive(Clone, Copy, Debug)]
pub(crate) struct PresentedRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

impl<'a> PresentedRequest<'a> {
    pub(crate) fn of(parts: &'a request::Parts) -> Self {
        Self { method: &parts.method, headers: &parts.headers }
    }
}

/// Which responses a cache stores beyond what the origin must allow in any case.
///
/// RFC 9111 leaves a shared cache free to be stricter than it must be. [`CachePolicy::safe`] uses that freedom wherever
/// a mistake of the origin would show one user's data to another; [`CachePolicy::rfc9111`] stores all that the RFC
/// lets a shared cache store. Under both, `no-store`, `private`, `Vary: *` and the rule for `Authorization` (§3.5) hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// Store a response that has Set-Cookie.
    pub(crate) stores_set_cookie: bool,
    /// Freshness from the age of Last-Modified (§4.2.2).
    pub(crate) heuristic: bool,
    /// A configured TTL also serves errors that §4.2.2 calls heuristically cacheable (404, 405, 410, 414, 501).
    pub(crate) configured_ttl_for_errors: bool,
    /// A request with Cookie needs freshness stated by the response itself.
    pub(crate) cookie_needs_stated_freshness: bool,
    /// The start of a response, out of a 206, is stored and completed.
    pub(crate) stores_partial: bool,
    /// A response that is not fresh is stored for validation by a date alone, and where it states nothing.
    pub(crate) validates_by_date: bool,
}

/// Everything the law needs to know of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: CachePolicy,
    pub(crate) targets: TargetList,
    pub(crate) grace: Grace,
    /// How long a response that can be validated is kept after it has become stale.
    pub(crate) keep_stale: Duration,
    /// β of XFetch: zero refreshes nothing early.
    pub(crate) early_refresh: f64,
    pub(crate) obeys_request_directives: bool,
    pub(crate) negative_ttls: Vec<(StatusCode, Duration)>,
    pub(crate) default_ttl: Option<Duration>,
    pub(crate) fixed_ttl: Option<Duration>,
    pub(crate) min_ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) max_body_size: u64,
    pub(crate) max_head_size: usize,
    pub(crate) max_fields: usize,
}

impl Rules {
    /// The operator's own lifetime for a status.
    pub(crate) fn negative_ttl(&self, status: StatusCode) -> Option<Duration> {
        self.negative_ttls.iter().find(|(known, _)| *known == status).map(|(_, ttl)| *ttl)
    }
}

/// What the application says of one request, stronger than the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteRules {
    pub(crate) ttl: Option<Duration>,
    /// In place of the configuration's.
    pub(crate) default_ttl: Option<Duration>,
    /// Nothing is stored.
    pub(crate) no_store: bool,
    /// Beside the configuration's and the response's own: the longest counts.
    pub(crate) grace: Grace,
}

impl CachePolicy {
    /// The default: what could leak is not stored.
    ///
    /// Besides the RFC's own prohibitions it refuses responses with `Set-Cookie`, guesses no freshness (no heuristic
    /// from `Last-Modified`), applies configured TTLs to 200, 203, 300, 301 and 308 alone, and lets a request that has a
    /// `Cookie` be answered for others only where the response itself states its freshness.
    pub fn safe() -> Self {
        Self {
            stores_set_cookie: false,
            heuristic: false,
            configured_ttl_for_errors: false,
            cookie_needs_stated_freshness: true,
            stores_partial: false,
            validates_by_date: false,
        }
    }

    /// All that RFC 9111 lets a shared cache store: `Set-Cookie` included (it is replayed to every client), heuristic
    /// freshness (§4.2.2) of a tenth of the time since `Last-Modified`, responses that state nothing but can be
    /// validated, and the start of a partial response (§3.3), to be completed by the next request for the whole.
    pub fn rfc9111() -> Self {
        Self {
            stores_set_cookie: true,
            heuristic: true,
            configured_ttl_for_errors: true,
            cookie_needs_stated_freshness: false,
            stores_partial: true,
            validates_by_date: true,
        }
    }
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self::safe()
    }
}
