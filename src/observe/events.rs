//! One debug event a request.

use super::Outcome;

pub(crate) fn record(outcome: &Outcome, status: http::StatusCode) {
    tracing::debug!(
        http.status = status.as_u16(),
        cache.hit = outcome.is_hit(),
        cache.fwd = outcome.forward_reason().map(super::ForwardReason::as_str),
        cache.ttl = outcome.ttl(),
        cache.stored = outcome.is_stored(),
        cache.collapsed = outcome.is_collapsed(),
        cache.detail = outcome.detail(),
        "request"
    );
}
