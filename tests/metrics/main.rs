//! What the feature `metrics` tells to a recorder, which is one for all of this process, as it is in any.
#![cfg(feature = "metrics")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tower_redis_cache::{CacheConfig, RedisCacheLayer};

use crate::support::redis::RedisServer;
use crate::support::scripted::{ok, status};
use crate::support::story::{Story, get, whole_second};

/// Writes down everything.
#[derive(Clone, Debug, Default)]
struct Notes {
    values: Arc<Mutex<BTreeMap<String, Arc<Value>>>>,
    described: Arc<Mutex<BTreeMap<String, String>>>,
}

/// A count, or the last value of a gauge, or how many values a histogram has.
#[derive(Debug, Default)]
struct Value(AtomicU64);

static NOTES: LazyLock<Notes> = LazyLock::new(|| {
    let notes = Notes::default();
    metrics::set_global_recorder(notes.clone()).expect("there is no other");
    notes
});

impl Notes {
    fn place(&self, key: &Key) -> Arc<Value> {
        let mut labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        let place = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.values.lock().expect("nobody panics").entry(place).or_default())
    }

    fn value(&self, place: &str) -> Option<u64> {
        self.values.lock().expect("nobody panics").get(place).map(|value| value.0.load(Ordering::Relaxed))
    }

    fn describe(&self, name: &KeyName, text: &SharedString) {
        self.described.lock().expect("nobody panics").insert(name.as_str().to_owned(), text.to_string());
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        self.describe(&name, &text);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        self.describe(&name, &text);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        self.describe(&name, &text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.place(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.place(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.place(key))
    }
}

impl CounterFn for Value {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl GaugeFn for Value {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.0.store(value as u64, Ordering::Relaxed);
    }
}

impl HistogramFn for Value {
    fn record(&self, value: f64) {
        assert!((0.0..60.0).contains(&value), "{value} seconds");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A story whose cache has this name, and what is told of it.
fn story(name: &'static str, url: &str) -> (Story, impl Fn(&str, &str) -> u64 + use<>) {
    let notes = NOTES.clone();
    let time = whole_second();
    let config = CacheConfig::new(url).expect("a URL").clock(time.clock());
    let config = config.near_cache(1 << 20).cache_status_name(name).expect("a name");
    let story = Story::told_by(RedisCacheLayer::new(config), time);
    let told = move |of: &str, labels: &str| {
        let place = format!("tower_redis_cache_{of}{{cache={name}{labels}}}");
        notes.value(&place).unwrap_or_else(|| panic!("nothing is told of {place}"))
    };
    (story, told)
}

#[tokio::test]
async fn each_request_is_told_once_by_its_kind_and_its_detail() {
    let server = RedisServer::start();
    let (story, told) = story("one", &server.url());
    story.origin.answers(|asked| match asked.uri.path() {
        "/mine" => ok("mine").cache_control("private"),
        "/ill" => status(500),
        _ => ok("hello").cache_control("max-age=60"),
    });
    for path in ["/a", "/a", "/a", "/a", "/mine", "/mine", "/ill"] {
        story.client_asks(get(path)).await;
    }
    story.client_asks(get("/a").header("cache-control", "only-if-cached, no-cache")).await.has_status(504);
    let kind = |kind: &str| told("requests_total", &format!(",kind={kind}"));
    assert_eq!(["fresh", "fetched", "unanswered", "stale-if-error"].map(kind), [3, 4, 1, 0]);
    assert_eq!(told("details_total", ",detail=private"), 2);
    assert_eq!((told("hits_total", ""), told("misses_total", ""), told("refused_total", "")), (3, 5, 3));
    assert_eq!(told("service_seconds", ""), 4);
    // A hit from memory asks nobody.
    let asked = told("store_seconds", "");
    assert!(asked >= 5, "{asked}");
    let near = story.handle.stats().near_hits;
    story.client_asks(get("/a")).await.is_hit();
    assert_eq!((story.handle.stats().near_hits, told("store_seconds", "")), (near + 1, asked));
}

#[tokio::test]
async fn totals_are_those_of_the_statistics_and_gauges_are_set_with_them() {
    let server = RedisServer::start();
    let (story, told) = story("two", &server.url());
    story.origin_says(ok("hello").cache_control("max-age=60"));
    for _ in 0..3 {
        story.client_asks(get("/a")).await;
    }
    let stats = story.handle.stats();
    assert!(stats.near_bytes > 0 && stats.hits == 2);
    for entry in stats.entries() {
        let name = if entry.is_gauge { entry.name.to_owned() } else { format!("{}_total", entry.name) };
        assert_eq!(told(&name, ""), entry.value, "{name}");
    }
    let described = NOTES.described.lock().expect("nobody panics");
    assert!(described["tower_redis_cache_hits_total"].starts_with("Requests answered from the cache"), "{described:?}");
}

#[tokio::test]
async fn caches_of_different_names_are_told_apart() {
    let server = RedisServer::start();
    let (first, told_of_first) = story("three", &server.url());
    let (second, told_of_second) = story("four", &server.url());
    for story in [&first, &second] {
        story.origin_says(ok("hello").cache_control("max-age=60"));
    }
    first.client_asks(get("/a")).await.is_stored();
    second.client_asks(get("/a")).await.is_hit();
    let fresh = ",kind=fresh";
    assert_eq!((told_of_first("requests_total", fresh), told_of_second("requests_total", fresh)), (0, 1));
}
