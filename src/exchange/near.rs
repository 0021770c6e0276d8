//! A hit in this process's memory: no wait, no box, no task, and nobody is asked.

use std::sync::Arc;

use http::{Request, Response, header, request};
use http_body::Body;
use tower_service::Service;

use super::lookup::Asked;
use super::{Miss, Shared, hit, refresh};
use crate::body::CacheBody;
use crate::error::BoxError;
use crate::key::CacheKey;
use crate::observe::ForwardReason;
use crate::semantics::PresentedRequest;
use crate::semantics::admission::is_retrieval_without_content;
use crate::semantics::reuse::{Decision, Found, Refresh, Reuse, decide};
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;
use crate::store::entry::{StoredBody, StoredResponse};

/// A response in memory that answers a request.
#[derive(Debug)]
pub(crate) struct NearHit {
    stored: Arc<StoredResponse>,
    variant: Option<VariantKey>,
    reuse: Reuse,
    now: Timestamp,
    /// A large body, in room of those who send it.
    body: Option<StoredBody>,
}

impl NearHit {
    /// What answers the request, if it has no directives of its own.
    pub(crate) fn find(shared: &Shared, key: &CacheKey, parts: &request::Parts) -> Option<Self> {
        if !shared.store.has_near() || !is_retrieval_without_content(&parts.method) {
            return None;
        }
        if [header::CACHE_CONTROL, header::PRAGMA].iter().any(|name| parts.headers.contains_key(name)) {
            return None;
        }
        let now = shared.clock().now();
        let (stored, variant) = shared.store.look_up_near(key, &parts.headers, now)?;
        let found = Found::Response(stored.as_ref());
        match decide(&PresentedRequest::of(parts), found, now, &shared.config.rules) {
            Decision::Hit(reuse, _) => {
                let is_sent = || !hit::wanted(&PresentedRequest::of(parts), &stored).is_empty();
                // Without room it is read piece by piece.
                let body = match stored.body.takes_room() && is_sent() {
                    true => Some(stored.body.to_be_sent(&shared.reading)?),
                    false => None,
                };
                Some(Self { stored, variant, reuse, now, body })
            }
            Decision::Forward(..) | Decision::Unsatisfiable(_) => None,
        }
    }

    /// The answer. What is to be refreshed is, behind it.
    pub(crate) fn serve<S, Q, R>(
        self,
        shared: &Arc<Shared>,
        ready: impl FnOnce() -> S,
        key: CacheKey,
        parts: request::Parts,
        body: Q,
    ) -> Response<CacheBody<R>>
    where
        S: Service<Request<Q>, Response = Response<R>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        Q: Body + Send + 'static,
        R: Body<Error: Into<BoxError>> + Send + 'static,
    {
        let Self { stored, variant, reuse, now, body: sent } = self;
        shared.counters.near_hits.increment();
        hit::note_use(shared, &key, variant);
        let refresh = refresh::of_hit(shared, &key, &parts, &reuse, &stored, now);
        let behind = (refresh != Refresh::NotNeeded).then(|| Arc::clone(&stored));
        let response = hit::tell(shared, &key, &PresentedRequest::of(&parts), (stored, sent), &reuse);
        if let Some(stored) = behind {
            let mut miss = Miss::of_nothing(key, ForwardReason::Stale, Asked::near(shared, variant));
            (miss.variant, miss.found_at, miss.stored) = (variant, Some(stored.freshness.response_time), Some(stored));
            refresh::begin(Arc::clone(shared), ready(), miss, parts, body, refresh);
        }
        response
    }
}
