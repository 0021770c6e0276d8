//! The cache on the client's side: an API that you call is not asked again while what it said is fresh.
//!
//! Run with
//!
//! ```sh
//! cargo run --example client                                      # calls an API of its own, on port 3006
//! API_URL=http://example.com/ cargo run --example client          # calls that one
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example client     # what one process was told, the next one has
//! ```
//!
//! It asks twice and prints both answers. The API is called once:
//!
//! ```text
//! the API is called for /rates
//! tower-redis-cache; fwd=uri-miss; fwd-status=200; ttl=60; stored
//! tower-redis-cache; hit; ttl=60
//! ```

use std::env;
use std::error::Error;
use std::time::Duration;

use axum::extract::OriginalUri;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{Layer, ServiceExt};
use tower_redis_cache::{CacheConfig, EmptyBody, MemoryStore, RedisCache, RedisCacheLayer};

/// A client with the cache in front of it. For `https` give it a connector of hyper-rustls instead.
pub(crate) type CachingClient = RedisCache<Client<HttpConnector, Empty<Bytes>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cache = match env::var("REDIS_URL") {
        Ok(url) => RedisCacheLayer::new(CacheConfig::new(url)?.namespace("client-example")?),
        Err(_) => RedisCacheLayer::with_store(MemoryStore::new(64 * 1024 * 1024), CacheConfig::default()),
    };
    match env::var("API_URL") {
        Ok(url) => ask_twice(cache, url.parse()?).await,
        Err(_) => {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:3006").await?;
            tokio::select! {
                served = axum::serve(listener, api()) => Ok(served?),
                asked = ask_twice(cache, Uri::from_static("http://127.0.0.1:3006/rates")) => asked,
            }
        }
    }
}

async fn ask_twice(cache: RedisCacheLayer, url: Uri) -> Result<(), Box<dyn Error>> {
    let handle = cache.handle();
    let client = client(cache);
    for _ in 0..2 {
        let (status, body) = ask(&client, url.clone()).await?;
        println!("{status}\n{}", String::from_utf8_lossy(&body));
        // What was just read is stored behind it. A program that goes on need not wait; one that ends should.
        handle.drain(Duration::from_secs(5)).await;
    }
    Ok(())
}

/// The client, apart from `main` so that a test can call it. Clones share the connections and the cache.
pub(crate) fn client(cache: RedisCacheLayer) -> CachingClient {
    cache.layer(Client::builder(TokioExecutor::new()).build_http())
}

/// Gets `url`: the cache's word on it, and the body.
pub(crate) async fn ask(client: &CachingClient, url: Uri) -> Result<(String, Bytes), Box<dyn Error>> {
    let mut request = Request::get(url).body(Empty::new())?;
    // With this the cache can ask the API for the rest of a large stored body, should Redis lose it on the way.
    request.extensions_mut().insert(EmptyBody::<Empty<Bytes>>::new(Empty::new));
    // With `Authorization` nothing is shared unless the API says `public`, `must-revalidate` or `s-maxage`.
    let response = client.clone().oneshot(request).await?;
    let status = response.headers().get("cache-status").map_or("", |value| value.to_str().unwrap_or_default());
    let status = status.to_owned();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, body))
}

/// Stands for the API of somebody else.
pub(crate) fn api() -> Router {
    Router::new().route("/rates", get(rates))
}

async fn rates(OriginalUri(uri): OriginalUri) -> Response {
    println!("the API is called for {uri}");
    ([(header::CACHE_CONTROL, "max-age=60")], "EUR 1.00\nUSD 1.16\n").into_response()
}
