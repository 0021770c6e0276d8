//! An axum application with a cache in front of it.
//!
//! Run with
//!
//! ```sh
//! cargo run --example axum                                        # a cache in memory
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example axum       # a cache in Redis
//! curl -i http://127.0.0.1:3000/time                              # twice, and look at Cache-Status and Age
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
fn app(cache: RedisCacheLayer) -> Router {
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use tower::ServiceExt;

    async fn cache_status(app: &Router, path: &str) -> String {
        let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        status
    }

    #[tokio::test]
    async fn what_may_be_shared_is_a_hit_the_second_time() {
        let cache = RedisCacheLayer::with_store(MemoryStore::new(1 << 20), CacheConfig::default());
        let handle = cache.handle();
        let app = app(cache);
        for (path, second) in [("/time", "; hit"), ("/hello/you", "; hit"), ("/account", "; fwd=uri-miss")] {
            assert!(cache_status(&app, path).await.contains("; fwd=uri-miss"), "{path}");
            assert!(handle.drain(Duration::from_secs(5)).await);
            assert!(cache_status(&app, path).await.contains(second), "{path}");
        }
    }
}
