//! The service: decides whether a request touches the cache at all, and calls the instance that was ready.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::CacheBody;
use crate::boxed::boxed;
use crate::error::BoxError;
use crate::exchange::admit::Admitted;
use crate::exchange::near::NearHit;
use crate::exchange::{self, Barren, Shared, Teller};
use crate::future::ResponseFuture;

/// A service with a shared HTTP cache in front of it; made by [`RedisCacheLayer`](crate::RedisCacheLayer).
///
/// Its error is the inner service's: nothing that happens to the store is ever an error here.
///
/// # Clone
///
/// Clones share the cache, and each has a clone of the inner service.
#[derive(Clone, Debug)]
pub struct RedisCache<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> RedisCache<S> {
    pub(crate) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, Q, R> Service<Request<Q>> for RedisCache<S>
where
    S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: Body + Send + 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<CacheBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let has_content = !body.is_end_stream() && body.size_hint().exact() != Some(0);
        match Admitted::of(&self.shared, &mut parts, has_content) {
            Admitted::Passthrough(outcome) => {
                self.shared.counters.bypasses.increment();
                let future = self.inner.call(Request::from_parts(parts, body));
                ResponseFuture::passthrough(future, Arc::clone(&self.shared), outcome)
            }
            Admitted::Cacheable(key) => {
                let shared = Arc::clone(&self.shared);
                if let Some(hit) = NearHit::find(&shared, &key, &parts) {
                    let response = hit.serve(&shared, || self.take_ready(), key, parts, body);
                    return ResponseFuture::hit(response);
                }
                let ready = self.take_ready();
                let teller = Teller::new(Arc::clone(&shared), &key);
                if let Some(barren) = Barren::find(&shared, &key, &parts) {
                    return ResponseFuture::exchange(
                        boxed(|| exchange::run_barren(shared, ready, key, parts, body, barren)),
                        teller,
                    );
                }
                ResponseFuture::exchange(boxed(|| exchange::run(shared, ready, key, parts, body)), teller)
            }
            Admitted::Invalidating(key) => {
                let (shared, ready) = (Arc::clone(&self.shared), self.take_ready());
                let teller = Teller::new(Arc::clone(&shared), &key);
                ResponseFuture::exchange(boxed(|| exchange::run_invalidating(shared, ready, key, parts, body)), teller)
            }
        }
    }
}

impl<S: Clone> RedisCache<S> {
    /// The instance that `poll_ready` made ready; a fresh clone, which is not, takes its place.
    fn take_ready(&mut self) -> S {
        let clone = self.inner.clone();
        mem::replace(&mut self.inner, clone)
    }
}
