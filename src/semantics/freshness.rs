//! How long a response is fresh (RFC 9111 §4.2.1, §4.2.2), and what the operator has to say about it.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use super::age::date_value;
use super::cache_control::{ResponseDirectives, Seconds};
use super::staleness::StalePermission;
use super::targeted::DirectiveSource;
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
    pub(crate) stale: StalePermission,
    /// §5.2.2.4: no-cache without names; every use needs validation.
    pub(crate) always_validate: bool,
}

/// What a response's head says of its freshness, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) directives: &'a ResponseDirectives,
    pub(crate) source: DirectiveSource,
    pub(crate) response_time: Timestamp,
    /// Only the response itself may say for how long it is shared.
    pub(crate) own_word_only: bool,
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

    /// For how long the response has been stale.
    pub(crate) fn staleness(&self, now: Timestamp) -> Duration {
        self.current_age(now).saturating_sub(self.lifetime)
    }
}

/// The freshness lifetime of a response, or `None` where neither it nor the configuration gives it any.
pub(crate) fn freshness_lifetime(said: &Statement<'_>, route: &RouteRules, rules: &Rules) -> Option<FreshnessLifetime> {
    if said.own_word_only {
        return stated_lifetime(said)
            .map(|found| FreshnessLifetime { lifetime: found.lifetime.min(rules.max_ttl), ..found });
    }
    let configured_applies = takes_configured_ttl(said.status, rules);
    if let Some(lifetime) = route.ttl.filter(|_| configured_applies) {
        return Some(FreshnessLifetime { lifetime, source: FreshnessSource::Route });
    }
    let configured = |ttl: Duration| FreshnessLifetime { lifetime: ttl, source: FreshnessSource::Configured };
    let found = match rules.fixed_ttl.filter(|_| configured_applies) {
        Some(ttl) => configured(ttl),
        None => stated_lifetime(said)
            .or_else(|| rules.negative_ttl(said.status).map(configured))
            .or_else(|| route.default_ttl.or(rules.default_ttl).filter(|_| configured_applies).map(configured))
            .or_else(|| heuristic_lifetime(said, rules))?,
    };
    Some(FreshnessLifetime { lifetime: within_bounds(found.lifetime, rules), ..found })
}

/// §4.2.1: s-maxage, then max-age, then Expires, which does not count beside a targeted field (RFC 9213 §2.2).
fn stated_lifetime(said: &Statement<'_>) -> Option<FreshnessLifetime> {
    let from = |seconds: Seconds, source| match seconds {
        Seconds::Absent => None,
        Seconds::Of(delta) => Some(FreshnessLifetime { lifetime: delta.as_duration(), source }),
        // §4.2.1: invalid freshness information is considered stale.
        Seconds::Invalid => Some(FreshnessLifetime { lifetime: Duration::ZERO, source }),
    };
    from(said.directives.s_maxage, FreshnessSource::SMaxage)
        .or_else(|| from(said.directives.max_age, FreshnessSource::MaxAge))
        .or_else(|| match said.source {
            DirectiveSource::CacheControl => expires(said.headers, said.response_time),
            DirectiveSource::Targeted => None,
        })
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

fn heuristic_lifetime(said: &Statement<'_>, rules: &Rules) -> Option<FreshnessLifetime> {
    if !rules.policy.heuristic || !(is_heuristically_cacheable(said.status) || said.directives.public) {
        return None;
    }
    let last_modified = Timestamp::from_http_date(said.headers.get(header::LAST_MODIFIED)?.as_bytes())?;
    let since = date_value(said.headers).unwrap_or(said.response_time).since(last_modified);
    // Whole milliseconds, as everything is that is stored.
    let lifetime = Duration::from_millis(super::time::millis(since / HEURISTIC_FRACTION)).min(HEURISTIC_MAX);
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
