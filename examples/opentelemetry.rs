//! What the cache does, as OpenTelemetry sees it: by the usual layers of tracing, nothing of the cache's own.
//!
//! Run with
//!
//! ```sh
//! cargo run --example opentelemetry
//! curl http://127.0.0.1:3005/time    # twice, and look at what the server prints
//! ```
//!
//! Each request is a span of tower-http, and the cache's word on it is an event in that span. What the cache does in a task
//! of its own, such as to call the service, is a span below it. The second request is a hit, and has none:
//!
//! ```text
//! span background task=fetch
//! span request method=GET uri=/time version=HTTP/1.1
//!   event request http.status=200 cache.hit=false cache.fwd=uri-miss cache.ttl=10 cache.stored=true cache.collapsed=false
//! span request method=GET uri=/time version=HTTP/1.1
//!   event request http.status=200 cache.hit=true cache.ttl=10 cache.stored=false cache.collapsed=false
//! ```
//!
//! In place of the exporter here, which prints, use that of `opentelemetry-otlp`, with `with_batch_exporter`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tower_http::trace::TraceLayer;
use tower_redis_cache::{CacheConfig, MemoryStore, RedisCacheLayer};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spans = SdkTracerProvider::builder().with_simple_exporter(Printer).build();
    tracing::subscriber::set_global_default(subscriber(&spans))?;
    let cache = RedisCacheLayer::with_store(MemoryStore::new(64 * 1024 * 1024), CacheConfig::default());
    let handle = cache.handle();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3005").await?;
    println!("listening on http://{}/time", listener.local_addr()?);
    let end = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, app(cache)).with_graceful_shutdown(end).await?;
    // First what the cache still does, then the spans of it.
    handle.drain(Duration::from_secs(5)).await;
    spans.shutdown()?;
    Ok(())
}

/// Sends the spans and events of tracing to OpenTelemetry. The cache's are at the level of debug.
pub(crate) fn subscriber(spans: &SdkTracerProvider) -> impl Subscriber + Send + Sync + use<> {
    let filter = EnvFilter::new("warn,tower_redis_cache=debug,tower_http::trace::make_span=debug");
    let layer = tracing_opentelemetry::layer().with_tracer(spans.tracer("opentelemetry-example"));
    tracing_subscriber::registry().with(filter).with(layer)
}

/// The application, apart from `main` so that a test can call it.
pub(crate) fn app(cache: RedisCacheLayer) -> Router {
    Router::new()
        .route("/time", get(time))
        // Outermost last: the span is around the cache, or there would be none on a hit.
        .layer(cache)
        .layer(TraceLayer::new_for_http())
}

async fn time() -> Response {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    ([(header::CACHE_CONTROL, "max-age=10")], format!("{seconds}\n")).into_response()
}

/// Prints spans when they end.
#[derive(Debug)]
struct Printer;

impl SpanExporter for Printer {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        for span in batch {
            println!("span {}{}", span.name, list(&span.attributes));
            for event in span.events.iter() {
                println!("  event {}{}", event.name, list(&event.attributes));
            }
        }
        Ok(())
    }
}

/// The attributes, but for those that tell where in the code they come from, and how long it took.
fn list(attributes: &[KeyValue]) -> String {
    const LEFT_OUT: [&str; 6] = ["busy_ns", "code.", "idle_ns", "level", "target", "thread."];
    let is_shown = |pair: &&KeyValue| !LEFT_OUT.iter().any(|start| pair.key.as_str().starts_with(start));
    attributes.iter().filter(is_shown).map(|pair| format!(" {}={}", pair.key, pair.value)).collect()
}
