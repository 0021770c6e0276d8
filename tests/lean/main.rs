//! What the hot paths allocate: numbers, which a busy machine does not change.

#[path = "../support/mod.rs"]
mod support;

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, service_fn};
use tower_redis_cache::{CacheBody, CacheConfig, RedisCacheLayer};

use crate::support::redis::RedisServer;

const REQUESTS: u64 = 201;

// More than a bare GET, as what passes without a cache, or at all: what was counted, and a tenth.
const HIT_COUNT: u64 = 3;
const HIT_OCTETS: u64 = 4_120;
const FIRST_HIT_COUNT: u64 = 33;
const FIRST_HIT_OCTETS: u64 = 9_100;
const PASS_COUNT: u64 = 15;
const PASS_OCTETS: u64 = 3_630;
const MISS_COUNT: u64 = 88;
const MISS_OCTETS: u64 = 32_200;

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
    cached.call(request()).await.expect("an answer").into_body().collect().await.expect("the body is well");
    // What is kept before its write has ended is forgotten with that.
    assert!(handle.drain(Duration::from_secs(20)).await);
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

/// A server moves each response a few times, and its body with it.
#[test]
fn a_body_takes_little_room_itself() {
    let (own, around) = (size_of::<Full<Bytes>>(), size_of::<CacheBody<Full<Bytes>>>());
    assert!(around <= own + 32, "{around} octets for a body, {own} without a cache");
}

/// Allocations, and octets of them, for one of many: the medians. All of it is on this thread, what Redis's connection and
/// tasks do as well.
fn costs<F: Future<Output = ()>>(runtime: &Runtime, mut ask: impl FnMut() -> F) -> (u64, u64) {
    let (mut counts, mut octets): (Vec<_>, Vec<_>) = (0..REQUESTS)
        .map(|_| {
            let told = measure(|| runtime.block_on(ask()));
            (told.count_total, told.bytes_total)
        })
        .unzip();
    counts.sort_unstable();
    octets.sort_unstable();
    (counts[counts.len() / 2], octets[octets.len() / 2])
}

/// A kibibyte, and what is said of its freshness.
fn saying(
    cache_control: &'static str,
) -> impl Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let body = Bytes::from(vec![b'x'; 1024]);
    service_fn(move |_: Request<Full<Bytes>>| {
        let mut response = answer(&body);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
        async move { Ok::<_, Infallible>(response) }
    })
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn layer(server: &RedisServer) -> RedisCacheLayer {
    RedisCacheLayer::new(CacheConfig::new(server.url()).expect("a URL"))
}

/// Asks for a path, and has the whole answer.
async fn ask<S, B>(mut service: S, path: &str)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let mut request = request();
    *request.uri_mut() = path.parse().expect("a path");
    let response = service.call(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.expect("the body is well");
}

#[test]
fn a_hit_in_redis_allocates_little_more_than_one_get() {
    let (server, runtime) = (RedisServer::start(), one_thread());
    let body = Bytes::from(vec![b'x'; 1024]);
    let layer = layer(&server);
    let handle = layer.handle();
    let cached = layer.layer(saying("max-age=3600"));
    let get = runtime.block_on(async {
        let client = redis::Client::open(server.url()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let () = redis::cmd("SET").arg("a").arg(&body[..]).query_async(&mut connection).await.expect("a SET");
        while handle.stats().hits == 0 {
            ask(cached.clone(), "/a").await;
        }
        service_fn(move |_| {
            let mut connection = connection.clone();
            async move {
                let body: Bytes = redis::cmd("GET").arg("a").query_async(&mut connection).await.expect("a GET");
                Ok::<_, Infallible>(answer(&body))
            }
        })
    });
    let hits = handle.stats().hits;
    let (bare, hit) = (costs(&runtime, || ask(get.clone(), "/a")), costs(&runtime, || ask(cached.clone(), "/a")));
    assert_eq!(handle.stats().hits, hits + REQUESTS);
    assert!(hit.0 <= bare.0 + HIT_COUNT, "{} allocations for a hit, {} for a GET", hit.0, bare.0);
    assert!(hit.1 <= bare.1 + HIT_OCTETS, "{} octets for a hit, {} for a GET", hit.1, bare.1);
}

/// Most are asked for once in a while.
#[test]
fn a_first_hit_in_redis_allocates_little_more_than_one_get() {
    let (server, runtime) = (RedisServer::start(), one_thread());
    let layer = layer(&server);
    let handle = layer.handle();
    let cached = layer.layer(saying("max-age=3600"));
    runtime.block_on(async {
        for count in 0..=REQUESTS {
            while handle.stats().stored <= count {
                ask(cached.clone(), &format!("/{count}")).await;
                handle.drain(support::gate::PATIENCE).await;
            }
        }
    });
    let (mut count, hits) = (0, handle.stats().hits);
    let hit = costs(&runtime, || {
        count += 1;
        let cached = cached.clone();
        async move { ask(cached, &format!("/{count}")).await }
    });
    assert_eq!(handle.stats().hits, hits + REQUESTS);
    assert!(hit.0 <= FIRST_HIT_COUNT, "{} allocations", hit.0);
    assert!(hit.1 <= FIRST_HIT_OCTETS, "{} octets", hit.1);
}

#[test]
fn what_passes_allocates_little_more_than_without_a_cache() {
    let (server, runtime) = (RedisServer::start(), one_thread());
    let private = saying("private");
    let layer = layer(&server);
    let cached = layer.layer(private.clone());
    runtime.block_on(async {
        ask(cached.clone(), "/a").await;
        ask(cached.clone(), "/a").await;
    });
    let (bare, passed) =
        (costs(&runtime, || ask(private.clone(), "/a")), costs(&runtime, || ask(cached.clone(), "/a")));
    assert!(passed.0 <= bare.0 + PASS_COUNT, "{} allocations, {} without a cache", passed.0, bare.0);
    assert!(passed.1 <= bare.1 + PASS_OCTETS, "{} octets, {} without a cache", passed.1, bare.1);
}

/// Its future and its task are copied as often as they are passed on: their size is a cost of its own.
#[test]
fn a_miss_allocates_within_bounds_until_it_is_stored() {
    let (server, runtime) = (RedisServer::start(), one_thread());
    let layer = layer(&server);
    let handle = layer.handle();
    let cached = layer.layer(saying("max-age=3600"));
    runtime.block_on(async {
        while handle.stats().stored == 0 {
            ask(cached.clone(), "/first").await;
        }
        handle.drain(support::gate::PATIENCE).await;
    });
    let mut count = 0;
    let miss = costs(&runtime, || {
        count += 1;
        let (cached, handle) = (cached.clone(), handle.clone());
        async move {
            ask(cached, &format!("/{count}")).await;
            assert!(handle.drain(support::gate::PATIENCE).await);
        }
    });
    assert_eq!(handle.stats().stored, 1 + REQUESTS);
    assert!(miss.0 <= MISS_COUNT, "{} allocations", miss.0);
    assert!(miss.1 <= MISS_OCTETS, "{} octets", miss.1);
}
