//! An axum application with a cache in front of it.
//!
//! Run with
//!
//! ```sh
//! cargo run --example axum                                        # a cache in memory
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example axum       # a cache in Redis
//! curl -i http://127.0.0.1:3000/time          # twice within 10 s: `; hit`, and the time of the first
//! curl -i http://127.0.0.1:3000/hello/you     # twice: `; hit; ttl=300`, for the middleware says so
//! curl -i http://127.0.0.1:3000/account       # never a hit: `; detail=private`
//! ```

use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, Request};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use tower_redis_cache::{CacheConfig, CacheOverride, MemoryStore, RedisCacheLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = match env::var("REDIS_URL") {
        Ok(url) => RedisCacheLayer::new(CacheConfig::new(url)?.namespace("axum-example")?),
        Err(_) => RedisCacheLayer::with_store(MemoryStore::new(64 * 1024 * 1024), CacheConfig::default()),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}/time", listener.local_addr()?);
    axum::serve(listener, app(cache)).await?;
    Ok(())
}

/// The application, apart from `main` so that a test can call it.
pub(crate) fn app(cache: RedisCacheLayer) -> Router {
    Router::new()
        .route("/time", get(time))
        .route("/hello/{name}", get(hello))
        .route("/account", get(account))
        // Outermost last: first the route's own word on caching, then the cache, then the handlers.
        .layer(cache)
        .layer(middleware::from_fn(greetings_keep_for_five_minutes))
}

/// States its freshness, as any cacheable response should.
async fn time() -> Response {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    ([(header::CACHE_CONTROL, "max-age=10")], format!("{seconds}\n")).into_response()
}

/// States none; the middleware below does.
async fn hello(Path(name): Path<String>) -> String {
    format!("Hello, {name}!\n")
}

/// One user's own: never stored.
async fn account() -> Response {
    ([(header::CACHE_CONTROL, "private")], "your account\n").into_response()
}

/// A setting for some routes only travels as a request extension.
async fn greetings_keep_for_five_minutes(mut request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/hello/") {
        request.extensions_mut().insert(CacheOverride::new().ttl(Duration::from_secs(300)));
    }
    next.run(request).await
}
