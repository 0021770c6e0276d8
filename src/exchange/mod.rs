//! The story of one request, in order: all the waiting, none of the decisions.

pub(crate) mod background;
pub(crate) mod fill;
mod forward;
mod hit;
mod invalidate;
mod lookup;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, request};
use http_body::Body;
use tower_service::Service;

use crate::body::{Budget, CacheBody};
use crate::clock::Clock;
use crate::collapse::uncacheable::UncacheableKeys;
use crate::config::{CacheConfig, CacheOverride};
use crate::error::StoreErrorKind;
use crate::key::CacheKey;
use crate::observe::counters::Counters;
use crate::observe::{ForwardReason, Outcome, report};
use crate::semantics::reuse::{Decision, decide};
use crate::semantics::{PresentedRequest, RouteRules};
use crate::store::{AnyStore, Kept};

pub(crate) use self::invalidate::run_invalidating;

/// What all requests of a layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: AnyStore,
    pub(crate) config: CacheConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) recording: Budget,
    pub(crate) uncacheable: UncacheableKeys,
    pub(crate) background: background::Background,
}

impl Shared {
    pub(crate) fn clock(&self) -> &Clock {
        &self.config.clock
    }

    /// What a request may wait for the store. The runtime's timers count whole milliseconds and round up.
    fn store_deadline(&self) -> Duration {
        const GRAIN: Duration = Duration::from_millis(1);
        self.config.store_timeout.saturating_sub(GRAIN).max(GRAIN)
    }
}

/// Look up; decide; serve a hit, or forward and see what may be kept.
pub(crate) async fn run<S, Q, R>(
    shared: Arc<Shared>,
    service: S,
    key: CacheKey,
    parts: request::Parts,
    body: Q,
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body + Send + 'static,
{
    let looked_up = lookup::look_up(&shared, &key, &parts).await;
    let now = shared.clock().now();
    let decision = decide(&PresentedRequest::of(&parts), looked_up.found(), now);
    let seen = looked_up.seen();
    match (decision, looked_up.into_response()) {
        (Decision::Hit(reuse), Some(stored)) => Ok(hit::serve(&shared, &parts, stored, &reuse)),
        (Decision::Unsatisfiable(reason), _) => Ok(unsatisfiable(&shared, Outcome::forwarded(reason))),
        (Decision::Forward(reason), _) => {
            forward::forward(shared, service, Miss { key, reason, seen }, parts, body).await
        }
        (Decision::Hit(_), None) => unreachable!("a hit is decided from a found response"),
    }
}

/// A request that the cache could not answer.
#[derive(Debug)]
struct Miss {
    key: CacheKey,
    reason: ForwardReason,
    seen: Kept,
}

/// RFC 9111 §5.2.1.7: only-if-cached, and nothing that may be used.
fn unsatisfiable<R>(shared: &Shared, outcome: Outcome) -> Response<CacheBody<R>> {
    shared.counters.misses.increment();
    let mut response = Response::new(CacheBody::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    report(&shared.config.cache_name, outcome, &mut response);
    response
}

fn route_rules(parts: &request::Parts) -> RouteRules {
    RouteRules { ttl: parts.extensions.get::<CacheOverride>().and_then(|route| route.ttl) }
}

/// The word in `Cache-Status` for a store that gave no answer.
fn unavailable_detail(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Busy => "store-busy",
        _ => "store-unavailable",
    }
}
