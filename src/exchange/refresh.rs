//! Validation behind a response that has been sent already (RFC 5861 §3): once per key at a time, bounded in number and
//! in time, and never on a client's connection.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use http::{Method, Request, Response, request};
use http_body::Body;
use tokio::time;
use tower_service::Service;

use super::{Miss, Shared, forward};
use crate::semantics::precondition;

/// A service that has not answered by then is not waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts a refresh, unless one is under way. The request's own body, which is empty, goes with it.
pub(super) fn begin<S, Q, R>(shared: Arc<Shared>, service: S, miss: Miss, mut parts: request::Parts, body: Q)
where
    S: Service<Request<Q>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: Body + Send + 'static,
    R: Body + Send + 'static,
{
    let Some(turn) = shared.refreshing.enter(&miss.key) else { return };
    let Some(place) = shared.background.enter() else { return };
    shared.counters.refreshes.increment();
    for_everybody(&mut parts);
    tokio::spawn(async move {
        let refreshing = async {
            if let Ok(response) = forward::forward(shared, service, miss, parts, body).await {
                response.into_body().discard().await;
            }
        };
        // Past the limit whatever was being recorded is given up.
        let _ = time::timeout(LIMIT, refreshing).await;
        drop((turn, place));
    });
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
