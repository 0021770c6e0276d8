//! The counts, told to whoever listens behind the `metrics` facade. Without the feature of that name this is nothing.

use super::counters::Stats;
use super::{Outcome, cache_status::CacheName};
use crate::clock::Stopwatch;

/// One total.
#[derive(Debug, Default)]
pub(crate) struct Told {
    #[cfg(feature = "metrics")]
    counter: Option<metrics::Counter>,
}

/// What is told of each request. The recorder is the one that is installed when the cache is made.
#[derive(Debug)]
pub(crate) struct Meter {
    #[cfg(feature = "metrics")]
    told: told::Told,
}

// ===== without the feature =====

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self, reason = "there is nobody to tell")]
impl Told {
    pub(crate) fn named(_: &CacheName, _: &'static str, _: &'static str) -> Self {
        Self {}
    }

    pub(crate) fn increment(&self) {}
}

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self, reason = "there is nobody to tell")]
impl Meter {
    pub(crate) fn new(_: &CacheName) -> Self {
        Self {}
    }

    pub(crate) fn request(&self, _: &Outcome) {}

    pub(crate) fn service_answered(&self, _: Stopwatch) {}

    pub(crate) fn stopwatch() -> Option<Stopwatch> {
        None
    }

    pub(crate) fn store_answered(&self, _: Option<Stopwatch>) {}

    pub(crate) fn gauges(&self, _: &Stats) {}
}

// ===== with it =====

#[cfg(feature = "metrics")]
impl Told {
    pub(crate) fn named(cache: &CacheName, name: &'static str, help: &'static str) -> Self {
        let name = told::name(&format!("{name}_total"));
        metrics::describe_counter!(name.clone(), help);
        Self { counter: Some(metrics::counter!(name, "cache" => cache.as_str().to_owned())) }
    }

    pub(crate) fn increment(&self) {
        if let Some(counter) = &self.counter {
            counter.increment(1);
        }
    }
}

#[cfg(feature = "metrics")]
impl Meter {
    pub(crate) fn new(cache: &CacheName) -> Self {
        Self { told: told::Told::new(cache.as_str()) }
    }

    /// A request was answered.
    pub(crate) fn request(&self, outcome: &Outcome) {
        self.told.request(outcome);
    }

    /// The head of the service's response is there.
    pub(crate) fn service_answered(&self, since: Stopwatch) {
        self.told.service.record(since.elapsed().as_secs_f64());
    }

    /// For what is timed for this alone.
    pub(crate) fn stopwatch() -> Option<Stopwatch> {
        Some(Stopwatch::start())
    }

    /// A look-up is over.
    pub(crate) fn store_answered(&self, since: Option<Stopwatch>) {
        if let Some(since) = since {
            self.told.store.record(since.elapsed().as_secs_f64());
        }
    }

    /// What goes up and down, as it is now.
    pub(crate) fn gauges(&self, stats: &Stats) {
        self.told.gauges(stats);
    }
}

#[cfg(feature = "metrics")]
mod told {
    use metrics::{Counter, Histogram, Unit};

    use crate::observe::counters::Stats;
    use crate::observe::{Outcome, OutcomeKind};

    /// Handles, so that a request looks none up but that of its detail, if it has one.
    #[derive(Debug)]
    pub(super) struct Told {
        cache: Box<str>,
        kinds: Box<[Counter]>,
        pub(super) service: Histogram,
        pub(super) store: Histogram,
    }

    pub(super) fn name(of: &str) -> String {
        format!("tower_redis_cache_{of}")
    }

    impl Told {
        pub(super) fn new(cache: &str) -> Self {
            metrics::describe_counter!(name("requests_total"), "Requests by the way in which they were answered.");
            metrics::describe_counter!(
                name("details_total"),
                "Requests by the word that says more of them, such as why a response is not stored."
            );
            let [service, store] = [
                ("service_seconds", "Time until the head of the service's response is there."),
                ("store_seconds", "Time that a look-up in the store takes."),
            ]
            .map(|(of, help)| {
                metrics::describe_histogram!(name(of), Unit::Seconds, help);
                metrics::histogram!(name(of), "cache" => cache.to_owned())
            });
            let kind = |kind: &OutcomeKind| metrics::counter!(name("requests_total"), "cache" => cache.to_owned(), "kind" => kind.as_str());
            let kinds = OutcomeKind::ALL.iter().map(kind).collect();
            Self { cache: cache.into(), kinds, service, store }
        }

        pub(super) fn request(&self, outcome: &Outcome) {
            self.kinds[outcome.kind() as usize].increment(1);
            // One of a few dozen words of ours.
            if let Some(detail) = outcome.detail() {
                let cache = self.cache.to_string();
                metrics::counter!(name("details_total"), "cache" => cache, "detail" => detail).increment(1);
            }
        }

        pub(super) fn gauges(&self, stats: &Stats) {
            for gauge in stats.entries().filter(|entry| entry.is_gauge) {
                metrics::gauge!(name(gauge.name), "cache" => self.cache.to_string()).set(gauge.value as f64);
            }
        }
    }
}
