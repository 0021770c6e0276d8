//! Doors into the law for the benches of this crate. No promise of stability stands behind anything here.

use std::time::Duration;

use http::{HeaderMap, request, response};

use crate::config::CacheConfig;
use crate::semantics::cache_control::ResponseDirectives;
use crate::semantics::freshness::Freshness;
use crate::semantics::reuse::{self, Decision, Found, Stored};
use crate::semantics::storing::{BodyLength, ReceivedHead, Storability, storability};
use crate::semantics::time::Timestamp;
use crate::semantics::{PresentedRequest, RouteRules, fields};

/// The directives of a response.
#[derive(Debug)]
pub struct Directives {
    _found: ResponseDirectives,
}

/// What is known of a response that may be stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredHead {
    freshness: Freshness,
}

impl Stored for &StoredHead {
    fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    fn is_whole(&self) -> bool {
        true
    }
}

/// Reads Cache-Control.
pub fn directives(headers: &HeaderMap) -> Directives {
    Directives { _found: ResponseDirectives::parse(headers) }
}

/// Judges whether a response that was received at once may be stored.
pub fn store(
    config: &CacheConfig,
    request: &request::Parts,
    response: &response::Parts,
    now_millis: u64,
) -> Option<StoredHead> {
    let head = ReceivedHead {
        status: response.status,
        headers: &response.headers,
        body_length: BodyLength::default(),
        represents_target: false,
        request_time: Timestamp::from_millis(now_millis),
        response_time: Timestamp::from_millis(now_millis),
    };
    match storability(&PresentedRequest::of(request), &head, &RouteRules::default(), &config.rules) {
        Storability::Store(storable) => Some(StoredHead { freshness: storable.freshness }),
        Storability::Refuse(_) => None,
    }
}

/// The fields of a response that are stored.
pub fn stored_fields(received: &HeaderMap) -> HeaderMap {
    fields::stored_fields(received)
}

/// Decides whether a stored response answers a request, and how old it is then.
pub fn decide(
    config: &CacheConfig,
    request: &request::Parts,
    stored: &StoredHead,
    now_millis: u64,
) -> Option<Duration> {
    let now = Timestamp::from_millis(now_millis);
    match reuse::decide(&PresentedRequest::of(request), Found::Response(stored), now, &config.rules) {
        Decision::Hit(reuse, _) => Some(reuse.age),
        Decision::Forward(..) | Decision::Unsatisfiable(_) => None,
    }
}
