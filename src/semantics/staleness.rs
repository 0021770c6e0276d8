//! When a stale response may be sent all the same (RFC 9111 §4.2.4, RFC 5861).

use std::time::Duration;

use super::cache_control::{MaxStale, RequestDirectives, ResponseDirectives};

/// What a stored response says of its own staleness, as it is kept with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StalePermission {
    /// §4.2.4: no-cache, must-revalidate, proxy-revalidate or s-maxage forbid any use without validation.
    pub(crate) forbidden: bool,
    /// RFC 5861 §3: while it is validated in the background.
    pub(crate) while_revalidate: Duration,
    /// RFC 5861 §4: when validation ends in an error. `None` where the response does not speak of it.
    pub(crate) if_error: Option<Duration>,
}

/// What the operator allows where the response says nothing: zero by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grace {
    pub(crate) while_revalidate: Duration,
    pub(crate) if_error: Duration,
}

/// How an attempt at validation ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// 500, 502, 503 or 504 (RFC 5861 §4).
    ErrorStatus,
    /// Nobody answered: the cache is disconnected (§4.2.4).
    Disconnected,
    /// No answer has come yet.
    Slow,
    /// The service is at work on as much as it may.
    Busy,
}

impl StalePermission {
    pub(crate) fn of(directives: &ResponseDirectives) -> Self {
        Self {
            forbidden: directives.no_cache.is_whole()
                || directives.must_revalidate
                || directives.proxy_revalidate
                || directives.s_maxage.is_present(),
            while_revalidate: directives.stale_while_revalidate.valid().unwrap_or_default(),
            if_error: directives.stale_if_error.valid(),
        }
    }

    /// The same where an application grants more; what is forbidden stays so.
    pub(crate) fn with(self, grace: &Grace) -> Self {
        let if_error = match self.if_error {
            None if grace.if_error.is_zero() => None,
            own => Some(own.unwrap_or_default().max(grace.if_error)),
        };
        Self { while_revalidate: self.while_revalidate.max(grace.while_revalidate), if_error, ..self }
    }

    /// How long after it became stale the response may be of use without validation.
    pub(crate) fn longest(&self, grace: &Grace) -> Duration {
        if self.forbidden {
            return Duration::ZERO;
        }
        let own = self.while_revalidate.max(self.if_error.unwrap_or_default());
        own.max(grace.while_revalidate).max(grace.if_error)
    }

    /// The client itself accepts it (§5.2.1.2); nothing that the response forbids is allowed by that.
    pub(crate) fn accepted_by(&self, max_stale: MaxStale, staleness: Duration) -> bool {
        !self.forbidden && max_stale.allows(staleness)
    }

    /// It may be sent at once, and be validated in the background.
    pub(crate) fn while_revalidating(&self, staleness: Duration, grace: &Grace) -> bool {
        !self.forbidden && staleness < self.while_revalidate.max(grace.while_revalidate)
    }

    /// It may be sent instead of the error.
    pub(crate) fn on(&self, trouble: Trouble, staleness: Duration, request: &RequestDirectives, grace: &Grace) -> bool {
        if self.forbidden || request.no_cache {
            return false;
        }
        let if_error = self.if_error.or(request.stale_if_error.valid()).unwrap_or_default().max(grace.if_error);
        match trouble {
            // §4.2.4: a cache that is disconnected may, unless it is forbidden.
            Trouble::Disconnected => true,
            Trouble::ErrorStatus => staleness < if_error,
            // Nobody knows what would come: an answer later, or an error.
            Trouble::Slow | Trouble::Busy => {
                !asks_for_fresher(request) && (self.while_revalidating(staleness, grace) || staleness < if_error)
            }
        }
    }

    /// It may be sent in the trouble that another request had a moment ago, though this one's might end well.
    pub(crate) fn again_on(
        &self,
        trouble: Trouble,
        staleness: Duration,
        request: &RequestDirectives,
        grace: &Grace,
    ) -> bool {
        !asks_for_fresher(request) && self.on(trouble, staleness, request, grace)
    }
}

/// Whether a request wants something fresher than may be stored (§5.2.1): then the service is asked, and waited for.
pub(crate) fn asks_for_fresher(request: &RequestDirectives) -> bool {
    request.no_cache || request.max_age.is_present() || request.min_fresh.is_present()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn permission(line: &'static str) -> StalePermission {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static(line));
        StalePermission::of(&ResponseDirectives::parse(&headers))
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    const NONE: Grace = Grace { while_revalidate: Duration::ZERO, if_error: Duration::ZERO };

    #[test]
    fn what_demands_validation_is_never_sent_stale() {
        let grace = Grace { while_revalidate: seconds(99), if_error: seconds(99) };
        for demand in ["no-cache", "must-revalidate", "proxy-revalidate", "s-maxage=1"] {
            let line = format!("{demand}, max-age=1, stale-while-revalidate=99, stale-if-error=99").leak();
            let permission = permission(line);
            let request = RequestDirectives::default();
            assert!(!permission.accepted_by(MaxStale::Any, seconds(1)), "{demand}");
            assert!(!permission.while_revalidating(seconds(1), &grace), "{demand}");
            assert!(!permission.on(Trouble::Disconnected, seconds(1), &request, &grace), "{demand}");
            assert!(!permission.on(Trouble::ErrorStatus, seconds(1), &request, &grace), "{demand}");
            assert!(!permission.on(Trouble::Slow, seconds(1), &request, &grace), "{demand}");
            assert_eq!(permission.longest(&grace), Duration::ZERO, "{demand}");
        }
        assert!(permission("no-cache=\"x\"").accepted_by(MaxStale::Any, seconds(1)));
    }

    #[test]
    fn windows_begin_when_freshness_ends_and_are_half_open() {
        let permission = permission("max-age=1, stale-while-revalidate=10, stale-if-error=20");
        let request = RequestDirectives::default();
        assert!(permission.while_revalidating(seconds(9), &NONE));
        assert!(!permission.while_revalidating(seconds(10), &NONE));
        assert!(permission.on(Trouble::ErrorStatus, seconds(19), &request, &NONE));
        assert!(!permission.on(Trouble::ErrorStatus, seconds(20), &request, &NONE));
        assert_eq!(permission.longest(&NONE), seconds(20));
        assert!(permission.on(Trouble::Slow, seconds(19), &request, &NONE));
        assert!(!permission.on(Trouble::Slow, seconds(20), &request, &NONE));
    }

    #[test]
    fn who_asks_for_something_fresher_waits_for_it() {
        let permission = permission("max-age=1, stale-while-revalidate=10, stale-if-error=20");
        let parse = |line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("cache-control", HeaderValue::from_static(line));
            RequestDirectives::parse(&headers)
        };
        for line in ["no-cache", "max-age=0", "max-age=60", "min-fresh=0", "max-age=x"] {
            for trouble in [Trouble::Slow, Trouble::Disconnected, Trouble::ErrorStatus] {
                assert!(!permission.again_on(trouble, seconds(1), &parse(line), &NONE), "{line}");
            }
            assert!(!permission.on(Trouble::Slow, seconds(1), &parse(line), &NONE), "{line}");
        }
        // It was asked, and there is nothing fresher.
        assert!(permission.on(Trouble::ErrorStatus, seconds(1), &parse("max-age=0"), &NONE));
        assert!(permission.again_on(Trouble::Slow, seconds(1), &parse("max-stale, no-store"), &NONE));
    }

    #[test]
    fn grace_and_the_request_speak_where_the_response_is_silent() {
        let silent = permission("max-age=1");
        let mut request = RequestDirectives::default();
        let grace = Grace { while_revalidate: seconds(5), if_error: seconds(50) };
        assert!(silent.while_revalidating(seconds(4), &grace));
        assert!(silent.on(Trouble::ErrorStatus, seconds(49), &request, &grace));
        assert!(!silent.on(Trouble::ErrorStatus, seconds(1), &request, &NONE));
        assert!(silent.on(Trouble::Disconnected, seconds(1), &request, &NONE));
        request.stale_if_error = super::super::cache_control::Seconds::Of(super::super::time::DeltaSeconds::new(9));
        assert!(silent.on(Trouble::ErrorStatus, seconds(8), &request, &NONE));
        request.no_cache = true;
        assert!(!silent.on(Trouble::Disconnected, seconds(1), &request, &NONE));
    }
}
