//! What the hot paths allocate: numbers, which a busy machine does not change.

#[path = "../support/mod.rs"]
mod support;

use std::convert::Infallible;

use allocation_counter::measure;
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, service_fn};
use tower_redis_cache::{CacheConfig, RedisCacheLayer};

use crate::support::redis::RedisServer;

const REQUESTS: u64 = 201;

fn request() -> Request<Full<Bytes>> {
    let request = Request::get("/products/7?a=1").header("host", "shop.example").header("accept", "*/*");
    request.header("user-agent", "test").body(Full::default()).expect("a request")
}

fn answer(body: &Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.clone()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

/// Allocations for a request, its answer and its whole body, on this thread: the median of many.
async fn allocations<S, B>(mut service: S) -> u64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let runtime = tokio::runtime::Handle::current();
    let mut counts: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let request = request();
            let one = async {
                let response = service.call(request).await.expect("an answer");
                assert_eq!(response.status(), 200);
                let body = response.into_body();
                let mut body = std::pin::pin!(body);
                while let Some(frame) = body.frame().await {
                    assert!(frame.expect("the body is well").is_data());
                }
            };
            tokio::task::block_in_place(|| measure(|| runtime.block_on(one))).count_total
        })
        .collect();
    counts.sort_unstable();
    counts[counts.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hit_in_memory_allocates_hardly_more_than_an_answer_that_is_at_hand() {
    let body = Bytes::from(vec![b'x'; 1024]);
    let at_hand = body.clone();
    let bare = service_fn(move |_: Request<Full<Bytes>>| {
        let mut response = answer(&at_hand);
        response.headers_mut().insert(DATE, HeaderValue::from_static("Sat, 28 Nov 2026 12:00:00 GMT"));
        response.headers_mut().insert(AGE, HeaderValue::from_static("7"));
        let status = HeaderValue::from_static("tower-redis-cache; hit; ttl=3593");
        response.headers_mut().insert("cache-status", status);
        async move { Ok::<_, Infallible>(response) }
    });
    let server = RedisServer::start();
    let layer = RedisCacheLayer::new(CacheConfig::new(server.url()).expect("a URL").near_cache(1 << 20));
    let handle = layer.handle();
    let inner = service_fn(move |_: Request<Full<Bytes>>| {
        let response = answer(&body);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut cached = layer.layer(inner);
    while handle.stats().near_hits == 0 {
        let response = cached.call(request()).await.expect("an answer");
        response.into_body().collect().await.expect("the body is well");
    }
    let before = handle.stats().near_hits;
    let (bare, near) = (allocations(bare).await, allocations(cached).await);
    assert_eq!(handle.stats().near_hits, before + REQUESTS);
    // The field map is copied, as it is made where the answer is at hand; three are for the extension. The first two of
    // each second take a few more.
    assert!(near <= bare + 3, "{near} allocations for a hit in memory, {bare} for an answer that is at hand");
}
