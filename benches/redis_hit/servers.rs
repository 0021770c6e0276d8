//! The two servers under load.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Layer, Service, service_fn};
use tower_redis_cache::{CacheConfig, RedisCacheLayer};

/// Runs one of the servers until the process is killed.
pub(crate) fn serve(kind: &str, redis_url: &str, size: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match kind {
            "bare" => bare(redis_url, size).await,
            "prebuilt" => prebuilt(size).await,
            "near" => cached(redis_url, size, 64 * 1024 * 1024).await,
            "filled" => listen(layer(redis_url, size, 0).layer(answering(size))).await,
            _ => cached(redis_url, size, 0).await,
        }
    });
}

/// One GET a request.
async fn bare(redis_url: &str, size: usize) {
    let client = redis::Client::open(redis_url).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let name = format!("bare-{size}");
    let () = redis::cmd("SET").arg(&name).arg(vec![b'x'; size]).query_async(&mut connection).await.expect("a SET");
    let service = service_fn(move |_: Request<Incoming>| {
        let (mut connection, name) = (connection.clone(), name.clone());
        async move {
            let value: Bytes = redis::cmd("GET").arg(&name).query_async(&mut connection).await.expect("a GET");
            Ok::<_, Infallible>(answer(value))
        }
    });
    listen(service).await;
}

/// What is at hand, with the fields of a hit.
async fn prebuilt(size: usize) {
    let body = Bytes::from(vec![b'x'; size]);
    let service = service_fn(move |_: Request<Incoming>| {
        let mut response = answer(body.clone());
        response.headers_mut().insert(AGE, HeaderValue::from_static("7"));
        let status = HeaderValue::from_static("tower-redis-cache; hit; ttl=3593");
        response.headers_mut().insert("cache-status", status);
        async move { Ok::<_, Infallible>(response) }
    });
    listen(service).await;
}

/// The layer over a service that answers once.
async fn cached(redis_url: &str, size: usize, near: u64) {
    let layer = layer(redis_url, size, near);
    let handle = layer.handle();
    let inner = answering(size);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let stats = handle.stats();
            assert!(stats.misses <= stats.hits + 64, "the bench measures hits: {stats:?}");
        }
    });
    listen(layer.layer(inner)).await;
}

fn layer(redis_url: &str, size: usize, near: u64) -> RedisCacheLayer {
    let config = CacheConfig::new(redis_url).expect("a URL").namespace(&format!("bench-{size}")).expect("a name");
    RedisCacheLayer::new(config.near_cache(near))
}

fn answering(
    size: usize,
) -> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    let body = Bytes::from(vec![b'x'; size]);
    service_fn(move |_: Request<Incoming>| {
        let body = body.clone();
        async move { Ok::<_, Infallible>(answer(body)) }
    })
}

fn answer(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    response
}

async fn listen<S, B>(service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("an address"));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
