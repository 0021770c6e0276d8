//! All that the page shows, as JSON.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::Admin;
use super::history::{INTERVAL, Sample};
use crate::routes::Checked;
use crate::watch::{Kind, LATENCIES, Seen};

/// How many of what is asked for most are shown.
const SHOWN: usize = 20;

pub(super) async fn stats(State(admin): State<Arc<Admin>>) -> Response {
    let (stats, seen) = (admin.sights.handle.stats(), admin.sights.watch.seen());
    let numbers: Map<String, Value> =
        stats.entries().map(|entry| (entry.name.to_owned(), Value::from(entry.value))).collect();
    let top: Vec<Value> = admin.sights.watch.top(SHOWN).into_iter().map(row).collect();
    let history: Vec<Value> = admin.history.samples().iter().map(sample).collect();
    told(&json!({
        "kept_in": admin.sights.kept_in,
        "purge_news": stats.purge_news.as_str(),
        "stats": numbers,
        "requests": kinds(&seen.kinds),
        "details": seen.details,
        "turned_away": seen.turned_away,
        "saved_bytes": seen.saved,
        "origin": origin(&seen),
        "origins": admin.sights.origins.iter().map(health).collect::<Vec<_>>(),
        "top": top,
        "history": { "interval_seconds": INTERVAL.as_secs(), "samples": history },
    }))
}

/// An answer in JSON.
pub(super) fn told(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], format!("{value:#}\n"))
        .into_response()
}

fn kinds(counts: &[u64; Kind::ALL.len()]) -> Map<String, Value> {
    Kind::ALL.iter().map(|&kind| (kind.as_str().to_owned(), Value::from(counts[kind as usize]))).collect()
}

fn origin(seen: &Seen) -> Value {
    json!({
        "requests": seen.latencies.iter().sum::<u64>(),
        "errors": seen.origin_errors,
        "microseconds": seen.origin_micros,
        "up_to_milliseconds": LATENCIES,
        "latencies": seen.latencies,
    })
}

fn health((url, health): &Checked) -> Value {
    json!({ "url": url.to_string(), "up": !health.is_down() })
}

fn row((target, asked, saved): (String, u64, u64)) -> Value {
    json!({ "target": target, "requests": asked, "from_cache": saved })
}

fn sample(sample: &Sample) -> Value {
    json!({
        "requests": kinds(&sample.kinds),
        "saved_bytes": sample.saved,
        "origin_requests": sample.origin,
        "origin_errors": sample.origin_errors,
        "origin_microseconds": sample.origin_micros,
        "stored": sample.stored,
        "refused": sample.refused,
        "near_hits": sample.near_hits,
        "store_trouble": sample.store_trouble,
        "store_unavailable": sample.store_unavailable,
    })
}
