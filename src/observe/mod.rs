//! The window: one [`Outcome`] a request, shown as a `Cache-Status` field, a debug event, counters and a response
//! extension, which therefore never disagree.

pub(crate) mod cache_status;
pub(crate) mod counters;
mod events;
mod kind;
pub(crate) mod meter;
mod purge_news;

use std::time::Duration;

use http::{Response, StatusCode};

use self::cache_status::CacheName;
pub use self::kind::OutcomeKind;
pub use self::purge_news::PurgeNews;
use crate::key::CacheKey;
use crate::semantics::storing::Refusal;

/// Why a request went on to the service (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardReason {
    /// The cache was not to be used for this request.
    Bypass,
    /// The method's semantics require it.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored for the URI, but for other values of the fields that Vary names.
    VaryMiss,
    /// The store could not be asked.
    Miss,
    /// The request's own directives do not let the stored response be used.
    Request,
    /// The stored response is stale.
    Stale,
    /// Only a part of the response is stored.
    Partial,
}

/// What the cache did with one request. It is found in the extensions of every response that leaves the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub(crate) hit: bool,
    pub(crate) forward: Option<ForwardReason>,
    pub(crate) forward_status: Option<StatusCode>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) stored: bool,
    pub(crate) collapsed: bool,
    /// The service found what is stored to be still right.
    pub(crate) validated: bool,
    pub(crate) detail: Option<&'static str>,
    /// It is on the response already, on its way out.
    pub(crate) is_told: bool,
}

/// What is left of a response's freshness in whole seconds; below zero, for how long it has been stale (RFC 9211 §2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ttl(i64);

impl Ttl {
    /// Rounded up, as Age is rounded down: together they are the lifetime.
    pub(crate) fn between(lifetime: Duration, age: Duration) -> Self {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let left = millis(lifetime).saturating_sub(millis(age));
        Self(left.div_euclid(1000) + i64::from(left.rem_euclid(1000) != 0))
    }

    pub(crate) fn as_secs(self) -> i64 {
        self.0
    }
}

/// Shows what was done with a request, wherever it is to be seen on the response.
pub(crate) fn report<B>(name: &CacheName, key: Option<&CacheKey>, outcome: &Outcome, response: &mut Response<B>) {
    events::record(outcome, response.status());
    cache_status::append(response.headers_mut(), name, key, outcome);
}

impl ForwardReason {
    /// The value of the `fwd` parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

impl Outcome {
    pub(crate) fn hit(ttl: Ttl) -> Self {
        Self {
            hit: true,
            forward: None,
            forward_status: None,
            ttl: Some(ttl),
            stored: false,
            collapsed: false,
            validated: false,
            detail: None,
            is_told: false,
        }
    }

    pub(crate) fn forwarded(reason: ForwardReason) -> Self {
        Self {
            hit: false,
            forward: Some(reason),
            forward_status: None,
            ttl: None,
            stored: false,
            collapsed: false,
            validated: false,
            detail: None,
            is_told: false,
        }
    }

    /// Neither a hit nor forwarded.
    pub(crate) fn unanswered(detail: &'static str) -> Self {
        Self {
            hit: false,
            forward: None,
            forward_status: None,
            ttl: None,
            stored: false,
            collapsed: false,
            validated: false,
            detail: Some(detail),
            is_told: false,
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.forward_status = Some(status);
        self
    }

    /// What the service answered says nothing of what it would answer when it is well.
    pub(crate) fn is_server_error(&self) -> bool {
        self.forward_status.is_some_and(|status| status.is_server_error())
    }

    pub(crate) fn with_detail(mut self, detail: &'static str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// The service speaks in the place of an origin that has not answered: its status is none of the next hop's (RFC 9211
    /// §2.3), and why it is not stored is no question. That of the store is one still.
    pub(crate) fn without_answer(self) -> Self {
        let detail = self.detail.filter(|detail| detail.starts_with("store-")).unwrap_or("disconnected");
        Self { forward_status: None, ..self.with_detail(detail) }
    }

    pub(crate) fn refused(self, refusal: Refusal) -> Self {
        self.with_detail(refusal.as_str())
    }

    pub(crate) fn with_ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = Some(ttl);
        self
    }

    pub(crate) fn being_stored(mut self) -> Self {
        self.stored = true;
        self
    }

    pub(crate) fn having_collapsed(mut self) -> Self {
        self.collapsed = true;
        self
    }

    pub(crate) fn having_validated(mut self) -> Self {
        self.validated = true;
        self
    }

    /// The one event of a request.
    pub(crate) fn record(&self, status: StatusCode) {
        events::record(self, status);
    }

    /// Whether the response was fetched for another request like this one, at the same time (RFC 9211 §2.6).
    pub fn is_collapsed(&self) -> bool {
        self.collapsed
    }

    /// Whether the response came from the cache.
    pub fn is_hit(&self) -> bool {
        self.hit
    }

    /// Why the request went on to the service; `None` if it did not.
    pub fn forward_reason(&self) -> Option<ForwardReason> {
        self.forward
    }

    /// The status of the service's response; `None` where there was none.
    pub fn forward_status(&self) -> Option<StatusCode> {
        self.forward_status
    }

    /// What is left of the response's freshness in seconds, for a response out of the cache and for one that is being
    /// stored; below zero for a stale one.
    pub fn ttl(&self) -> Option<i64> {
        self.ttl.map(Ttl::as_secs)
    }

    /// Whether the response was fit for the store and is being written there as its body passes.
    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// One word more: why a response is not stored, or that the store was away.
    pub fn detail(&self) -> Option<&'static str> {
        self.detail
    }
}
