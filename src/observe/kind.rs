//! How a request was answered, in one word.

use super::{ForwardReason, Outcome};

/// How a request was answered. Each request has one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// From the cache, and fresh.
    Fresh,
    /// From the cache, and stale: it is refreshed behind (RFC 5861 §3), or the client took it so (max-stale).
    StaleWhileRevalidate,
    /// A stale response in place of an error of the service (RFC 5861 §4), or of one that is slow or busy.
    StaleIfError,
    /// With what another request like it had fetched.
    Collapsed,
    /// From the cache, after the service had found it to be still right (304).
    Validated,
    /// By the service.
    Fetched,
    /// By the service, and not for the cache.
    Passed,
    /// By the cache itself, without a stored response: 503 or 504.
    Unanswered,
}

impl OutcomeKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Fresh,
        Self::StaleWhileRevalidate,
        Self::StaleIfError,
        Self::Collapsed,
        Self::Validated,
        Self::Fetched,
        Self::Passed,
        Self::Unanswered,
    ];

    /// The word for it, as it is in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::StaleWhileRevalidate => "stale-while-revalidate",
            Self::StaleIfError => "stale-if-error",
            Self::Collapsed => "collapsed",
            Self::Validated => "validated",
            Self::Fetched => "fetched",
            Self::Passed => "passed",
            Self::Unanswered => "unanswered",
        }
    }

    /// Whether the service did not have to send the response for this request.
    pub fn is_saved(self) -> bool {
        !matches!(self, Self::Fetched | Self::Passed | Self::Unanswered)
    }
}

impl Outcome {
    /// How the request was answered, in one word.
    pub fn kind(&self) -> OutcomeKind {
        const INSTEAD: [&str; 3] = ["stale-if-error", "stale-while-slow", "origin-busy"];
        let is_instead = self.detail.is_some_and(|detail| INSTEAD.contains(&detail));
        match self.forward {
            _ if is_instead && self.ttl.is_some() => OutcomeKind::StaleIfError,
            _ if self.collapsed => OutcomeKind::Collapsed,
            None if !self.hit => OutcomeKind::Unanswered,
            // What is fresh for less than a second has a whole one left.
            None if self.ttl.is_some_and(|left| left.as_secs() <= 0) => OutcomeKind::StaleWhileRevalidate,
            None => OutcomeKind::Fresh,
            Some(ForwardReason::Bypass | ForwardReason::Method) => OutcomeKind::Passed,
            Some(_) if self.validated => OutcomeKind::Validated,
            Some(_) => OutcomeKind::Fetched,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::observe::Ttl;

    #[test]
    fn each_outcome_has_one_kind() {
        let [left, past, just] = [(60_000, 10_000), (10_000, 60_000), (10_000, 10_001)].map(|(lifetime, age)| {
            let [lifetime, age] = [lifetime, age].map(Duration::from_millis);
            Ttl::between(lifetime, age)
        });
        let fetched = || Outcome::forwarded(ForwardReason::Stale).with_status(StatusCode::OK);
        let cases = [
            (Outcome::hit(left), OutcomeKind::Fresh),
            (Outcome::hit(past), OutcomeKind::StaleWhileRevalidate),
            (Outcome::hit(past).with_detail("stale-if-error"), OutcomeKind::StaleIfError),
            (fetched().with_ttl(past).with_detail("stale-while-slow"), OutcomeKind::StaleIfError),
            (fetched().having_collapsed(), OutcomeKind::Collapsed),
            (fetched().with_status(StatusCode::NOT_MODIFIED).having_validated(), OutcomeKind::Validated),
            // To a condition of the client's own.
            (fetched().with_status(StatusCode::NOT_MODIFIED), OutcomeKind::Fetched),
            (Outcome::hit(just), OutcomeKind::StaleWhileRevalidate),
            (fetched().with_detail("private"), OutcomeKind::Fetched),
            (Outcome::forwarded(ForwardReason::Method), OutcomeKind::Passed),
            (Outcome::unanswered("origin-busy"), OutcomeKind::Unanswered),
        ];
        for (outcome, kind) in cases {
            assert_eq!(outcome.kind(), kind, "{outcome:?}");
        }
    }
}
