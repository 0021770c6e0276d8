//! All counts in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tower_redis_cache::Stats;

use super::Admin;
use crate::routes::Checked;
use crate::watch::{Kind, LATENCIES, Seen};

const PREFIX: &str = "tower_redis_cache";

pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = exposition(&admin.sights.handle.stats(), &admin.sights.watch.seen());
    origins(&mut text, &admin.sights.origins);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn exposition(stats: &Stats, seen: &Seen) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for entry in stats.entries() {
        let (suffix, kind) = if entry.is_gauge { ("", "gauge") } else { ("_total", "counter") };
        let name = format!("{}{suffix}", entry.name);
        family(&mut text, &name, kind, &entry.help.replace('`', ""));
        let _ = writeln!(text, "{PREFIX}_{name} {}", entry.value);
    }
    family(&mut text, "requests_total", "counter", "Requests by the way in which they were answered.");
    for &kind in Kind::ALL {
        let count = seen.kinds[kind as usize];
        let _ = writeln!(text, "{PREFIX}_requests_total{{kind=\"{}\"}} {count}", kind.as_str());
    }
    family(
        &mut text,
        "details_total",
        "counter",
        "Responses by the detail of their Cache-Status: why they are not stored.",
    );
    for (detail, count) in &seen.details {
        let _ = writeln!(text, "{PREFIX}_details_total{{detail=\"{detail}\"}} {count}");
    }
    family(&mut text, "turned_away_total", "counter", "Requests that were not let in, by status: token, rate, places.");
    for (status, count) in &seen.turned_away {
        let _ = writeln!(text, "{PREFIX}_turned_away_total{{status=\"{status}\"}} {count}");
    }
    family(&mut text, "saved_bytes_total", "counter", "Octets of bodies that the origin did not have to send.");
    let _ = writeln!(text, "{PREFIX}_saved_bytes_total {}", seen.saved);
    family(
        &mut text,
        "origin_errors_total",
        "counter",
        "Requests that the origin answered with a status of 500 or more, or not at all.",
    );
    let _ = writeln!(text, "{PREFIX}_origin_errors_total {}", seen.origin_errors);
    latencies(&mut text, seen);
    text
}

fn origins(text: &mut String, origins: &[Checked]) {
    if origins.is_empty() {
        return;
    }
    family(text, "origin_up", "gauge", "1 for an origin that is well by its health check, else 0.");
    for (url, health) in origins {
        let _ = writeln!(text, "{PREFIX}_origin_up{{origin=\"{url}\"}} {}", u8::from(!health.is_down()));
    }
}

fn latencies(text: &mut String, seen: &Seen) {
    const NAME: &str = "origin_seconds";
    family(text, NAME, "histogram", "Time until the head of the origin's answer.");
    let mut sum = 0;
    for (most, count) in LATENCIES.iter().zip(&seen.latencies) {
        sum += count;
        let seconds = *most as f64 / 1000.0;
        let _ = writeln!(text, "{PREFIX}_{NAME}_bucket{{le=\"{seconds}\"}} {sum}");
    }
    let all: u64 = seen.latencies.iter().sum();
    let _ = writeln!(text, "{PREFIX}_{NAME}_bucket{{le=\"+Inf\"}} {all}");
    let _ = writeln!(text, "{PREFIX}_{NAME}_sum {}", seen.origin_micros as f64 / 1_000_000.0);
    let _ = writeln!(text, "{PREFIX}_{NAME}_count {all}");
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_described_once_and_every_line_is_of_one() {
        let seen = Seen { details: [("private", 3)].into(), latencies: [1; LATENCIES.len() + 1], ..Seen::default() };
        let text = exposition(&Stats::default(), &seen);
        let mut families: Vec<&str> = Vec::new();
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(described) => families.push(described.split(' ').next().unwrap()),
                None if line.starts_with("# HELP ") => assert!(!line.contains(['`', '[', '\\']), "{line}"),
                None => assert!(line.starts_with(families.last().unwrap()), "{line}"),
            }
        }
        let count = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), count);
        assert!(text.contains("tower_redis_cache_origin_seconds_bucket{le=\"+Inf\"} 14\n"));
        assert!(text.contains("tower_redis_cache_origin_seconds_bucket{le=\"0.001\"} 1\n"));
    }
}
