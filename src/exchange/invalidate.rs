//! What is stored for a target ends when an unsafe request to it succeeds (RFC 9111 §4.4).

use std::sync::Arc;

use http::{Request, Response, StatusCode, request};
use http_body::Body;
use tokio::time;
use tower_service::Service;

use super::Shared;
use crate::body::CacheBody;
use crate::key::CacheKey;
use crate::observe::{ForwardReason, Outcome, report};
use crate::store::select;

/// Forwards the request; if the answer is no error, invalidates before the client learns of it, so that whoever has
/// seen the answer does not read what was there before.
pub(crate) async fn run_invalidating<S, Q, R>(
    shared: Arc<Shared>,
    mut service: S,
    key: CacheKey,
    parts: request::Parts,
    body: Q,
) -> Result<Response<CacheBody<R>>, S::Error>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body,
{
    shared.counters.bypasses.increment();
    let response = service.call(Request::from_parts(parts, body)).await?;
    drop(service);
    let mut outcome = Outcome::forwarded(ForwardReason::Method).with_status(response.status());
    if is_no_error(response.status()) && !invalidated(&shared, &key).await {
        outcome = outcome.with_detail("not-invalidated");
    }
    let mut response = response.map(CacheBody::passing);
    report(&shared.config.cache_name, outcome, &mut response);
    Ok(response)
}

/// §4.4: a non-error response is one with a 2xx or 3xx status.
fn is_no_error(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

async fn invalidated(shared: &Shared, key: &CacheKey) -> bool {
    if !shared.store.is_available() {
        return false;
    }
    let removing = select::invalidate(&shared.store, key);
    match time::timeout(shared.store_deadline(), removing).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(?key, store.error = %error, "invalidation failed");
            false
        }
        Err(_) => {
            shared.store.met_deadline();
            false
        }
    }
}
