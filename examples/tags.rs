//! Tags on responses, and purges by tag from the handlers that change data.
//!
//! Run with
//!
//! ```sh
//! cargo run --example tags                                        # a cache in memory
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example tags       # a cache in Redis: a purge reaches all processes
//! curl -i http://127.0.0.1:3003/products                          # twice: `; hit`
//! curl -i -X PUT -d 'red tea' http://127.0.0.1:3003/products/1    # purges the product's tag, hard
//! curl -i http://127.0.0.1:3003/products                          # `; fwd=uri-miss`, with the red tea
//! curl -i -X POST http://127.0.0.1:3003/restock                   # purges the tag of the catalogue, soft
//! curl -i http://127.0.0.1:3003/products                          # `; hit`, and no ttl is left: the old page
//! curl -i http://127.0.0.1:3003/products                          # `; hit; ttl=3600`: the new one, fetched meanwhile
//! ```
//!
//! Clients do not see the tags: the cache takes `Surrogate-Key` off, as it does `xkey`, `Cache-Tag` and `Cache-Groups`.

use std::collections::BTreeMap;
use std::env;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_redis_cache::{CacheConfig, CacheHandle, MemoryStore, PurgeMode, PurgeTarget, RedisCacheLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = match env::var("REDIS_URL") {
        Ok(url) => RedisCacheLayer::new(CacheConfig::new(url)?.namespace("tags-example")?),
        Err(_) => RedisCacheLayer::with_store(MemoryStore::new(64 * 1024 * 1024), CacheConfig::default()),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3003").await?;
    println!("listening on http://{}/products", listener.local_addr()?);
    axum::serve(listener, app(cache)).await?;
    Ok(())
}

/// What the handlers share: the data, and the handle by which they purge what shows it.
#[derive(Clone)]
struct Shop {
    cache: CacheHandle,
    stock: Arc<Mutex<Stock>>,
}

#[derive(Default)]
struct Stock {
    products: BTreeMap<u32, String>,
    deliveries: u32,
}

/// The application, apart from `main` so that a test can call it.
pub(crate) fn app(cache: RedisCacheLayer) -> Router {
    let products = BTreeMap::from([(1, "green tea".to_owned()), (2, "coffee".to_owned())]);
    let stock = Arc::new(Mutex::new(Stock { products, deliveries: 0 }));
    Router::new()
        .route("/products", get(list))
        .route("/products/{id}", get(show).put(change))
        .route("/restock", post(restock))
        .with_state(Shop { cache: cache.handle(), stock })
        .layer(cache)
}

/// Shows all products, so it carries the tags of all. For a minute after it became stale it may still be sent while it is
/// fetched anew.
async fn list(State(shop): State<Shop>) -> Response {
    let stock = shop.stock.lock().unwrap_or_else(PoisonError::into_inner);
    let tags: String = stock.products.keys().map(|id| format!(" product-{id}")).collect();
    let lines: String = stock.products.iter().map(|(id, name)| format!("{id} {name}\n")).collect();
    let page = format!("{lines}after {} deliveries\n", stock.deliveries);
    tagged("max-age=3600, stale-while-revalidate=60", format!("catalogue{tags}"), page)
}

async fn show(State(shop): State<Shop>, Path(id): Path<u32>) -> Response {
    let stock = shop.stock.lock().unwrap_or_else(PoisonError::into_inner);
    match stock.products.get(&id) {
        Some(name) => tagged("max-age=3600", format!("product-{id}"), format!("{name}\n")),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The PUT itself ends what is stored for its own URL. Pages elsewhere that show the product end by its tag, at once.
async fn change(State(shop): State<Shop>, Path(id): Path<u32>, name: String) -> Response {
    // First the change, then the purge: what was fetched before the purge does not outlive it.
    shop.stock.lock().unwrap_or_else(PoisonError::into_inner).products.insert(id, name);
    purge(&shop.cache, format!("product-{id}"), PurgeMode::Hard).await
}

/// Nobody minds the old catalogue for a moment: a soft purge makes it stale, and its next reader has it renewed.
async fn restock(State(shop): State<Shop>) -> Response {
    shop.stock.lock().unwrap_or_else(PoisonError::into_inner).deliveries += 1;
    purge(&shop.cache, "catalogue".to_owned(), PurgeMode::Soft).await
}

async fn purge(cache: &CacheHandle, tag: String, mode: PurgeMode) -> Response {
    match cache.purge([PurgeTarget::tag(tag)], mode).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        // The data is changed and the store did not confirm: say so, and purge again.
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("changed, but not purged: {error}\n")).into_response(),
    }
}

fn tagged(freshness: &'static str, tags: String, page: String) -> Response {
    let fields = [(header::CACHE_CONTROL, freshness.to_owned()), (HeaderName::from_static("surrogate-key"), tags)];
    (fields, page).into_response()
}
