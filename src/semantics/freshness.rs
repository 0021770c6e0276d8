//! How long a response is fresh (RFC 9111 §4.2.1, §4.2.2), and what the operator has to say about it.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use super::age::date_value;
use super::cache_control::{ResponseDirectives, Seconds};
use super::time::Timestamp;
use super::{RouteRules, Rules};

/// Where a freshness lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FreshnessSource {
    SMaxage,
    MaxAge,
    Expires,
    /// §4.2.2, from Last-Modified.
    Heuristic,
    /// The configuration's default or fixed TTL.
    Configured,
    /// The application's own word for this request.
    Route,
}

/// A freshness lifetime and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FreshnessLifetime {
    pub(crate) lifetime: Duration,
    pub(crate) source: FreshnessSource,
}

/// The facts about a stored response's freshness, as they are kept with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    pub(crate) lifetime: Duration,
    pub(crate) corrected_initial_age: Duration,
    pub(crate) response_time: Timestamp,
}

/// The tenth of the time since Last-Modified that §4.2.2 calls typical, and a day at the most.
const HEURISTIC_FRACTION: u32 = 10;
const HEURISTIC_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl FreshnessSource {
    /// Whether the response itself states its freshness (§3: "explicit").
    pub(crate) fn is_stated(self) -> bool {
        matches!(self, Self::SMaxage | Self::MaxAge | Self::Expires)
    }
}

impl Freshness {
    pub(crate) fn current_age(&self, now: Timestamp) -> Duration {
        super::age::current_age(self.corrected_initial_age, self.response_time, now)
    }

    /// What is left of the lifetime; `None` when it is over (§4.2: fresh ⇔ lifetime > current age).
    pub(crate) fn remaining(&self, now: Timestamp) -> Option<Duration> {
        self.lifetime.checked_sub(self.current_age(now)).filter(|left| !left.is_zero())
    }
}

/// The freshness lifetime of a response, or `None` where neither it nor the configuration gives it any.
pub(crate) fn freshness_lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    response_time: Timestamp,
    route: &RouteRules,
    rules: &Rules,
) -> Option<FreshnessLifetime> {
    let configured_applies = takes_configured_ttl(status, rules);
    if let Some(lifetime) = route.ttl.filter(|_| configured_applies) {
        return Some(FreshnessLifetime { lifetime, source: FreshnessSource::Route });
    }
    let configured = |ttl: Duration| FreshnessLifetime { lifetime: ttl, source: FreshnessSource::Configured };
    let found = match rules.fixed_ttl.filter(|_| configured_applies) {
        Some(ttl) => configured(ttl),
        None => stated_lifetime(headers, directives, response_time)
            .or_else(|| rules.default_ttl.filter(|_| configured_applies).map(configured))
            .or_else(|| heuristic_lifetime(status, headers, directives, response_time, rules))?,
    };
    Some(FreshnessLifetime { lifetime: within_bounds(found.lifetime, rules), ..found })
}

/// §4.2.1: s-maxage, then max-age, then Expires.
fn stated_lifetime(
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    response_time: Timestamp,
) -> Option<FreshnessLifetime> {
    let from = |seconds: Seconds, source| match seconds {
        Seconds::Absent => None,
        Seconds::Of(delta) => Some(FreshnessLifetime { lifetime: delta.as_duration(), source }),
        // §4.2.1: invalid freshness information is considered stale.
        Seconds::Invalid => Some(FreshnessLifetime { lifetime: Duration::ZERO, source }),
    };
    from(directives.s_maxage, FreshnessSource::SMaxage)
        .or_else(|| from(directives.max_age, FreshnessSource::MaxAge))
        .or_else(|| expires(headers, response_time))
}

/// §5.3: Expires minus Date; an invalid date, "0" above all, is one in the past.
fn expires(headers: &HeaderMap, response_time: Timestamp) -> Option<FreshnessLifetime> {
    let mut lines = headers.get_all(header::EXPIRES).iter();
    let value = lines.next()?;
    let date = date_value(headers).unwrap_or(response_time);
    let lifetime = match (Timestamp::from_http_date(value.as_bytes()), lines.next()) {
        (Some(expires), None) => expires.since(date),
        _ => Duration::ZERO,
    };
    Some(FreshnessLifetime { lifetime, source: FreshnessSource::Expires })
}

fn heuristic_lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    response_time: Timestamp,
    rules: &Rules,
) -> Option<FreshnessLifetime> {
    if !rules.policy.heuristic || !(is_heuristically_cacheable(status) || directives.public) {
        return None;
    }
    let last_modified = Timestamp::from_http_date(headers.get(header::LAST_MODIFIED)?.as_bytes())?;
    let since = date_value(headers).unwrap_or(response_time).since(last_modified);
    let lifetime = (since / HEURISTIC_FRACTION).min(HEURISTIC_MAX);
    Some(FreshnessLifetime { lifetime, source: FreshnessSource::Heuristic })
}

/// RFC 9110 §15.1, without 206, which is not stored.
pub(crate) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

fn takes_configured_ttl(status: StatusCode, rules: &Rules) -> bool {
    match status.as_u16() {
        200 | 203 | 300 | 301 | 308 => true,
        _ => rules.policy.configured_ttl_for_errors && is_heuristically_cacheable(status),
    }
}

/// The operator's minimum and maximum. What the origin calls stale from the start stays so.
fn within_bounds(lifetime: Duration, rules: &Rules) -> Duration {
    if lifetime.is_zero() { lifetime } else { lifetime.max(rules.min_ttl).min(rules.max_ttl) }
}
