//! QUERY (RFC 10008): a safe request whose content says what is asked for.
//!
//! The content belongs to the key, so it has to be read before the cache can look anything up. [`QueryLayer`] does that
//! outside the cache, up to a bound, and leaves what it read for the cache in the request's extensions.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::config::CacheOverride;
use crate::semantics::admission::is_query;

/// A request extension: the content of a QUERY, which has been read already. With it the cache answers and stores
/// QUERY requests; without it they pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryContent(Bytes);

/// Reads the content of QUERY requests, so that the cache behind it can answer them.
///
/// ```
/// use axum::{Router, routing::get};
/// use tower::ServiceBuilder;
/// use tower_redis_cache::{CacheConfig, MemoryStore, QueryLayer, RedisCacheLayer};
///
/// let cache = RedisCacheLayer::with_store(MemoryStore::new(1 << 20), CacheConfig::default());
/// let app: Router = Router::new()
///     .route("/search", get(|| async { "found" }))
///     .layer(ServiceBuilder::new().layer(QueryLayer::new(64 * 1024)).layer(cache));
/// # drop(app);
/// ```
///
/// A QUERY with more content than the bound, or whose content cannot be read, is answered with 413 or 400. Other
/// methods pass untouched.
#[derive(Clone, Copy, Debug)]
pub struct QueryLayer {
    max_content: usize,
}

/// The service of a [`QueryLayer`].
#[derive(Clone, Copy, Debug)]
pub struct QueryService<S> {
    inner: S,
    max_content: usize,
}

impl QueryContent {
    /// Content that was read elsewhere.
    pub fn new(content: impl Into<Bytes>) -> Self {
        Self(content.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl QueryLayer {
    /// With the most octets of content that are read.
    pub fn new(max_content: usize) -> Self {
        Self { max_content }
    }
}

impl<S> Layer<S> for QueryLayer {
    type Service = QueryService<S>;

    fn layer(&self, inner: S) -> QueryService<S> {
        QueryService { inner, max_content: self.max_content }
    }
}

impl<S, Q, R> Service<Request<Q>> for QueryService<S>
where
    S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    Q: Body + From<Bytes> + Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        if !is_query(request.method()) || is_bypassed(&request) {
            return Box::pin(self.inner.call(request));
        }
        let clone = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, clone);
        let max_content = self.max_content;
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let content = match read(body, max_content).await {
                Ok(content) => content,
                Err(status) => {
                    let mut refused = Response::new(R::default());
                    *refused.status_mut() = status;
                    return Ok(refused);
                }
            };
            parts.extensions.insert(QueryContent(content.clone()));
            ready.call(Request::from_parts(parts, content.into())).await
        })
    }
}

/// Nobody asks for the content then.
fn is_bypassed<Q>(request: &Request<Q>) -> bool {
    request.extensions().get::<CacheOverride>().is_some_and(|route| route.bypass)
}

async fn read<Q: Body>(body: Q, max_content: usize) -> Result<Bytes, StatusCode> {
    // Who says how much is to come need not send it.
    if body.size_hint().lower() > max_content as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut body = Box::pin(body);
    let mut content = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(frame) = frame else { return Err(StatusCode::BAD_REQUEST) };
        let Ok(mut data) = frame.into_data() else { continue };
        if content.len() + data.remaining() > max_content {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        content.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(content.freeze())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use http_body_util::{BodyExt, Full};
    use tower::{ServiceExt, service_fn};

    async fn ask(content: &'static str) -> (StatusCode, Bytes) {
        let echo = service_fn(|request: Request<Full<Bytes>>| async move {
            let known = request.extensions().get::<QueryContent>().cloned();
            let content = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(known, Some(QueryContent(content.clone())));
            Ok::<_, Infallible>(Response::new(Full::new(content)))
        });
        let request = Request::builder().method("QUERY").body(Full::from(content)).unwrap();
        let response = QueryLayer::new(5).layer(echo).oneshot(request).await.unwrap();
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn content_is_read_up_to_the_bound_and_passed_on() {
        assert_eq!(ask("12345").await, (StatusCode::OK, "12345".into()));
        assert_eq!(ask("123456").await, (StatusCode::PAYLOAD_TOO_LARGE, "".into()));
    }
}
