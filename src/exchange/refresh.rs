//! Validation behind a response that has been sent already (RFC 5861 §3): once per key at a time in the whole fleet,
//! bounded in number and in time, and never on a client's connection.

use std::pin::pin;
use std::sync::Arc;

use http::header;
use http::{Method, Request, Response, request};
use http_body::Body;
use tokio::time;
use tower_service::Service;

use super::fleet;
use super::flight::{Flight, Heart};
use super::forward::{self, Answered};
use super::{Miss, Shared};
use crate::collapse::failing::Attempt;
use crate::collapse::flight::{FlightKey, Turn};
use crate::collapse::permits::Admission;
use crate::error::BoxError;
use crate::key::CacheKey;
use crate::semantics::early::Odds;
use crate::semantics::reuse::{Refresh, Reuse, refresh_of};
use crate::semantics::time::Timestamp;
use crate::semantics::{PresentedRequest, precondition};
use crate::store::entry::StoredResponse;

/// Whether and why a hit is to be refreshed behind the answer.
pub(super) fn of_hit(
    shared: &Shared,
    key: &CacheKey,
    parts: &request::Parts,
    reuse: &Reuse,
    stored: &StoredResponse,
    now: Timestamp,
) -> Refresh {
    let odds = Odds { latency: stored.origin_latency, draw: fastrand::f64(), beta: shared.config.rules.early_refresh };
    match refresh_of(&PresentedRequest::of(parts), reuse, &stored.freshness, now, odds) {
        // What cannot be stored would be fetched for nothing.
        Refresh::Early if !shared.store.takes_writes(key) => Refresh::NotNeeded,
        refresh => refresh,
    }
}

/// Starts a refresh, unless one is under way. The request's own body, which is empty, goes with it.
pub(super) fn begin<S, Q, R>(
    shared: Arc<Shared>,
    service: S,
    miss: Box<Miss>,
    mut parts: request::Parts,
    body: Q,
    refresh: Refresh,
) where
    S: Service<Request<Q>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: Body + Send + 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let now = shared.clock().now();
    let key = FlightKey::new(&miss.key, miss.variant);
    let turn = match shared.flights.join(key, shared.depart()) {
        // That response is stale by now, and its body is still on its way to somebody.
        Turn::Follow(follower) if follower.landed().is_some_and(|landing| landing.is_stale(now)) => {
            shared.flights.retire(key, follower.departure);
            shared.flights.join(key, shared.depart())
        }
        turn => turn,
    };
    let Turn::Lead(flight) = turn else { return };
    // Another may have refreshed it since it was looked up.
    if shared.order.is_written_since(&miss.key, miss.asked.at) {
        return;
    }
    if shared.failing.attempt(&miss.key, now) != Attempt::Due {
        return;
    }
    let Some(place) = shared.background.enter_last() else { return };
    // It is not as urgent as what clients wait for.
    let Admission::Granted(permit) = shared.permits.try_enter() else { return };
    for_everybody(&mut parts);
    let refreshing = || async move {
        let flight = Arc::new(Flight::new(flight));
        if !fleet::clear_refresh(&shared, &miss, &parts, &flight).await {
            return;
        }
        match refresh {
            Refresh::Early => shared.counters.early_refreshes.increment(),
            Refresh::InBackground | Refresh::NotNeeded => shared.counters.refreshes.increment(),
        }
        let forwarded = forward::forward(shared, service, miss, parts, body, Some(Arc::clone(&flight)), permit);
        // A service that has not answered by then is not waited for.
        let answered = time::timeout(forward::UNAWAITED_LIMIT, forwarded);
        let mut heart = Heart::default();
        if let Ok(Ok(Answered { response, recording })) = heart.beats_for(&flight, pin!(answered)).await {
            drop(response);
            if let Some(recording) = recording {
                heart.beats_for(&flight, pin!(recording.run())).await;
            }
        }
        drop((heart, flight));
    };
    place.begin("refresh", refreshing);
}

/// A GET, or a QUERY, without what one client alone wanted.
fn for_everybody(parts: &mut request::Parts) {
    if parts.method == Method::HEAD {
        parts.method = Method::GET;
    }
    precondition::strip_conditions(&mut parts.headers);
    for name in [header::RANGE, header::IF_RANGE, header::CACHE_CONTROL, header::PRAGMA] {
        parts.headers.remove(name);
    }
}
