//! `examples/opentelemetry.rs`, with an exporter that keeps what it gets.

use std::sync::{Arc, Mutex};

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tower_redis_cache::CacheConfig;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

use crate::asking::{get, in_memory, stored};

#[allow(dead_code)]
#[path = "../../examples/opentelemetry.rs"]
mod example;

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("nobody panics").extend(batch);
        Ok(())
    }
}

#[tokio::test]
async fn each_request_is_a_span_with_the_word_of_the_cache_in_it() {
    let kept = Kept::default();
    let spans = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    // While there is one subscriber alone, a callsite that is first reached on a thread without it is off for good.
    let _second = Dispatch::new(NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(example::subscriber(&spans));
    let cache = in_memory(CacheConfig::default());
    let handle = cache.handle();
    let app = example::app(cache);
    for _ in 0..2 {
        get(&app, "/time").await;
        stored(&handle).await;
    }
    spans.force_flush().unwrap();

    let spans = kept.0.lock().unwrap();
    let requests: Vec<&SpanData> = spans.iter().filter(|span| span.name == "request").collect();
    let said = |span: &SpanData, key: &str| {
        let event = span.events.iter().find(|event| event.name == "request").expect("the cache's word");
        let pair = event.attributes.iter().find(|pair| pair.key.as_str() == key);
        pair.map(|pair| pair.value.to_string())
    };
    let words =
        requests.iter().map(|span| (said(span, "cache.hit"), said(span, "cache.fwd"), said(span, "cache.stored")));
    let words: Vec<_> = words.collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(words, [(some("false"), some("uri-miss"), some("true")), (some("true"), None, some("false"))]);

    let background: Vec<&SpanData> = spans.iter().filter(|span| span.name == "background").collect();
    let parents: Vec<_> = background.iter().map(|span| span.parent_span_id).collect();
    assert_eq!(parents, [requests[0].span_context.span_id()], "the fetch is below the first request");
}
