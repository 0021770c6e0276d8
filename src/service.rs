//! The service: decides whether a request touches the cache at all, and calls the instance that was ready.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, request};
use http_body::Body;
use tower_service::Service;

use crate::body::CacheBody;
use crate::config::CacheOverride;
use crate::error::BoxError;
use crate::exchange::near::NearHit;
use crate::exchange::{self, Shared, Teller};
use crate::future::ResponseFuture;
use crate::key::CacheKey;
use crate::observe::{ForwardReason, Outcome};
use crate::query::QueryContent;
use crate::semantics::PresentedRequest;
use crate::semantics::admission::{Admission, Content, admit, is_query};

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

/// What a request is to the cache, with its key.
enum Admitted {
    Cacheable(CacheKey),
    Invalidating(CacheKey),
    Passthrough(Outcome),
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
        match self.admit(&mut parts, &body) {
            Admitted::Passthrough(outcome) => {
                self.shared.counters.bypasses.increment();
                let future = self.inner.call(Request::from_parts(parts, body));
                ResponseFuture::passthrough(future, Arc::clone(&self.shared), outcome)
            }
            Admitted::Cacheable(key) => {
                let shared = Arc::clone(&self.shared);
                if let Some(hit) = NearHit::find(&shared, &key, &parts) {
                    let teller = Teller::new(Arc::clone(&shared), &key);
                    let mut response = hit.serve(&shared, || self.take_ready(), key, parts, body);
                    teller.tell(&mut response);
                    return ResponseFuture::hit(response);
                }
                let ready = self.take_ready();
                let teller = Teller::new(Arc::clone(&shared), &key);
                ResponseFuture::exchange(exchange::run(shared, ready, key, parts, body), teller)
            }
            Admitted::Invalidating(key) => {
                let (shared, ready) = (Arc::clone(&self.shared), self.take_ready());
                let teller = Teller::new(Arc::clone(&shared), &key);
                ResponseFuture::exchange(exchange::run_invalidating(shared, ready, key, parts, body), teller)
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

    fn admit<Q: Body>(&self, parts: &mut request::Parts, body: &Q) -> Admitted {
        if parts.extensions.get::<CacheOverride>().is_some_and(|route| route.bypass) {
            return Admitted::Passthrough(bypass("override"));
        }
        let known = parts.extensions.get::<QueryContent>().is_some();
        let content = match !body.is_end_stream() && body.size_hint().exact() != Some(0) {
            _ if known => Content::Known,
            true => Content::Unread,
            false => Content::Absent,
        };
        let admission = admit(&PresentedRequest::of(parts), content);
        if let Admission::Passthrough(reason, detail) = admission {
            let outcome = Outcome::forwarded(reason);
            return Admitted::Passthrough(detail.into_iter().fold(outcome, Outcome::with_detail));
        }
        let invalidating = admission == Admission::Invalidating;
        match self.key(parts) {
            Ok(key) if invalidating => Admitted::Invalidating(key),
            Ok(key) => Admitted::Cacheable(key),
            Err(_) if invalidating => Admitted::Passthrough(Outcome::forwarded(ForwardReason::Method)),
            Err(detail) => Admitted::Passthrough(bypass(detail)),
        }
    }

    /// The key of the GET that the request is or stands for.
    fn key(&self, parts: &mut request::Parts) -> Result<CacheKey, &'static str> {
        let method = mem::replace(&mut parts.method, Method::GET);
        let key = self.shared.config.key.key(parts);
        parts.method = method;
        let mut key = key.ok_or("no-key")?;
        if is_query(&parts.method)
            && let Some(content) = parts.extensions.get::<QueryContent>()
        {
            key = key.with_content(&parts.headers, content.as_bytes());
        }
        if key.parts().len() > self.shared.config.max_key_size {
            return Err("key-size");
        }
        Ok(key)
    }
}

fn bypass(detail: &'static str) -> Outcome {
    Outcome::forwarded(ForwardReason::Bypass).with_detail(detail)
}
