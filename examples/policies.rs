//! Several caches in one application: a long one for assets, a short one for an API, none for accounts.
//!
//! Run with
//!
//! ```sh
//! cargo run --example policies                                    # caches in memory
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example policies   # in Redis, each in a namespace of its own
//! curl -i http://127.0.0.1:3004/assets/logo.svg            # twice: `; hit; ttl=86400`
//! curl -i 'http://127.0.0.1:3004/api/news?utm_source=x'    # twice: `; hit; ttl=10`, whatever utm_source is
//! curl -i http://127.0.0.1:3004/api/news                   # 11 s later: `; hit; ttl=-1`, and fetched anew meanwhile
//! curl -i http://127.0.0.1:3004/account                    # no Cache-Status: there is no cache
//! ```

use std::env;
use std::time::Duration;

use axum::extract::Path;
use axum::{Router, routing::get};
use tower_redis_cache::{CacheConfig, ConfigError, DefaultKey, MemoryStore, RedisCacheLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = match env::var("REDIS_URL") {
        Ok(url) => app(&CacheConfig::new(url)?, RedisCacheLayer::new)?,
        Err(_) => app(&CacheConfig::default(), in_memory)?,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3004").await?;
    println!("listening on http://{}/api/news", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// A cache in memory, which has a store of its own.
pub(crate) fn in_memory(settings: CacheConfig) -> RedisCacheLayer {
    RedisCacheLayer::with_store(MemoryStore::new(64 * 1024 * 1024), settings)
}

/// The application, apart from `main` so that a test can call it: `layer` makes a cache with these settings.
pub(crate) fn app(
    settings: &CacheConfig,
    layer: impl Fn(CacheConfig) -> RedisCacheLayer,
) -> Result<Router, ConfigError> {
    // Merged routers see the whole path, so their keys need nothing more. Each layer is around its own routes only.
    Ok(Router::new()
        .merge(assets().layer(layer(long(settings.clone())?)))
        .merge(api().layer(layer(short(settings.clone())?)))
        .merge(account()))
}

/// Names of assets change with their content: a day, large ones too, and no say for reload buttons.
fn long(settings: CacheConfig) -> Result<CacheConfig, ConfigError> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    Ok(settings.namespace("assets")?.fixed_ttl(DAY).max_body_size(64 * 1024 * 1024).obey_request_directives(false))
}

/// Ten seconds, and then for a minute the old answer at once while the new one is fetched; if the service fails, for an
/// hour. A purge of everything in this namespace leaves the assets alone.
fn short(settings: CacheConfig) -> Result<CacheConfig, ConfigError> {
    Ok(settings
        .namespace("api")?
        .key(DefaultKey::new().ignore_query(["utm_*"]))
        .default_ttl(Duration::from_secs(10))
        .stale_while_revalidate(Duration::from_secs(60))
        .stale_if_error(Duration::from_secs(60 * 60)))
}

fn assets() -> Router {
    Router::new().route("/assets/{name}", get(async |Path(name): Path<String>| called(&format!("the asset {name}"))))
}

fn api() -> Router {
    Router::new().route("/api/news", get(async || called("the news")))
}

fn account() -> Router {
    Router::new().route("/account", get(async || called("your account")))
}

fn called(what: &str) -> String {
    println!("the handler is called for {what}");
    format!("{what}\n")
}
