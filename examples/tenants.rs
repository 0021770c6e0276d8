//! One cache for several tenants, none of whom ever gets what was stored for another.
//!
//! Two ways, in one application: a layer for each of a few tenants (`DefaultKey::tenant`), and one layer for any number of
//! tenants that a request field names (`DefaultKey::header`). Tenants with a host each need neither: the host is in the key.
//!
//! Run with
//!
//! ```sh
//! cargo run --example tenants                                     # a cache in memory
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example tenants    # all tenants in one namespace of one Redis
//! curl -i http://127.0.0.1:3002/acme/prices                       # twice: `; hit`, the prices of acme
//! curl -i http://127.0.0.1:3002/globex/prices                     # `; fwd=uri-miss`, the prices of globex
//! curl -i -H 'X-Tenant: initech' http://127.0.0.1:3002/prices     # twice: `; hit`, the prices of initech
//! curl -i -H 'X-Tenant: hooli' http://127.0.0.1:3002/prices       # `; fwd=uri-miss`, the prices of hooli
//! curl -i http://127.0.0.1:3002/prices                            # 400, and never stored
//! ```

use std::env;
use std::error::Error;

use axum::extract::Extension;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use tower_redis_cache::{CacheConfig, ConfigError, DefaultKey, MemoryStore, RedisCacheLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = match env::var("REDIS_URL") {
        Ok(url) => app(&CacheConfig::new(url)?.namespace("tenants-example")?, RedisCacheLayer::new)?,
        Err(_) => {
            // Clones of a store share what is in it, as layers on one namespace do.
            let store = MemoryStore::new(64 * 1024 * 1024);
            app(&CacheConfig::default(), |config| RedisCacheLayer::with_store(store.clone(), config))?
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3002").await?;
    println!("listening on http://{}/acme/prices", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// The application, apart from `main` so that a test can call it: `layer` makes a cache with these settings.
pub(crate) fn app(
    settings: &CacheConfig,
    layer: impl Fn(CacheConfig) -> RedisCacheLayer,
) -> Result<Router, ConfigError> {
    // A nested router sees `/prices` and not `/acme/prices`: without a tenant in the key the two would share it.
    let own = |tenant: &'static str| shop(tenant).layer(layer(settings.clone().key(DefaultKey::new().tenant(tenant))));
    // Here the field is in the key, as a digest. Let only a gateway that knows the tenant set it.
    let named = layer(settings.clone().key(DefaultKey::new().header("x-tenant")?));
    Ok(Router::new()
        .nest("/acme", own("acme"))
        .nest("/globex", own("globex"))
        .route("/prices", get(prices_of_the_named).layer(named)))
}

/// One tenant's part of the application.
fn shop(tenant: &'static str) -> Router {
    Router::new().route("/prices", get(prices)).layer(Extension(tenant))
}

async fn prices(Extension(tenant): Extension<&'static str>) -> Response {
    price_list(tenant)
}

async fn prices_of_the_named(headers: HeaderMap) -> Response {
    match headers.get("x-tenant").and_then(|tenant| tenant.to_str().ok()) {
        Some(tenant) => price_list(tenant),
        None => (StatusCode::BAD_REQUEST, "which tenant?\n").into_response(),
    }
}

fn price_list(tenant: &str) -> Response {
    println!("the handler is called for {tenant}");
    // The tag lets all that is stored for one tenant be purged together.
    let fields = [(header::CACHE_CONTROL, "max-age=60"), (header::HeaderName::from_static("surrogate-key"), tenant)];
    (fields, format!("prices of {tenant}\n")).into_response()
}
