//! Whose a key is: the URL that a name was first filled from, written down in the cache itself.
//!
//! The record is a response like any other, under a key that only the name is in. So the cache's own machinery decides
//! who is first: requests for it at the same time, in one process or in many, get one answer, that of the first. It
//! lasts as long as the cache keeps anything. When it is lost, by eviction, or cannot be asked, a name may be given
//! away again; nobody is sent another's data even then, because the URL is part of the answer's own key.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use hyper::{Request, Response};
use tower::{Layer, Service, ServiceExt};
use tower_redis_cache::{CacheOverride, RedisCache, RedisCacheLayer};

use crate::question::{Question, Wanted};

/// The digest of the URL that has the name. It never leaves this module.
const BOUND_TO: HeaderName = HeaderName::from_static("gateway-bound-to");
/// The longest that the layer keeps anything by itself.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The records.
#[derive(Clone, Debug)]
pub(crate) struct Bindings {
    records: RedisCache<FirstCome>,
}

/// What a URL may do with the name that it is asked under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// It has it, or needs none.
    Own,
    Free,
    Others,
}

/// Gives the name to the URL that asks.
#[derive(Clone, Copy, Debug)]
struct FirstCome;

// ===== impl Bindings =====

impl Bindings {
    pub(crate) fn new(layer: &RedisCacheLayer) -> Self {
        Self { records: layer.layer(FirstCome) }
    }

    /// Looks, and takes nothing.
    pub(crate) async fn look(&self, question: &Arc<Question>) -> Binding {
        self.ask(question, Some(HeaderValue::from_static("only-if-cached"))).await
    }

    /// Takes the name if it is free.
    pub(crate) async fn take(&self, question: &Arc<Question>) -> Binding {
        self.ask(question, None).await
    }

    async fn ask(&self, question: &Arc<Question>, directive: Option<HeaderValue>) -> Binding {
        if !question.has_name() {
            return Binding::Own;
        }
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = question.uri.clone();
        request.headers_mut().extend(directive.map(|directive| (CACHE_CONTROL, directive)));
        request.extensions_mut().insert(CacheOverride::new().ttl(LIFETIME));
        request.extensions_mut().insert(Wanted::Binding(Arc::clone(question)));
        let Ok(record) = self.records.clone().oneshot(request).await;
        match record.headers().get(BOUND_TO) {
            Some(digest) if digest.as_bytes() == question.digest.as_bytes() => Binding::Own,
            Some(_) => Binding::Others,
            None => Binding::Free,
        }
    }
}

// ===== impl FirstCome =====

impl Service<Request<Empty<Bytes>>> for FirstCome {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let mut record = Response::new(Empty::new());
        record.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=2592000"));
        if let Some(Wanted::Binding(question)) = request.extensions().get()
            && let Ok(digest) = HeaderValue::from_str(&question.digest)
        {
            record.headers_mut().insert(BOUND_TO, digest);
        }
        std::future::ready(Ok(record))
    }
}
