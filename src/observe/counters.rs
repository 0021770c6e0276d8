//! Counters: what happened since the layer was made.

use std::sync::atomic::{AtomicU64, Ordering};

use super::PurgeNews;
use super::cache_status::CacheName;
use super::meter::Told;

macro_rules! counters {
    (
        totals { $($(#[doc = $doc:literal])* $name:ident),+ $(,)? }
        gauges { $($(#[doc = $gauge_doc:literal])* $gauge:ident),+ $(,)? }
    ) => {
        /// What happened since the layer was made. All are totals, but for the gauges at the end.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])* pub $name: u64,)+
            $($(#[doc = $gauge_doc])* pub $gauge: u64,)+
            /// How this instance hears of purges.
            pub purge_news: PurgeNews,
        }

        impl Stats {
            /// All numbers one by one, for those who write them down somewhere: totals first, then gauges.
            pub fn entries(&self) -> impl Iterator<Item = StatsEntry> {
                let totals = [$((stringify!($name), concat!($($doc),*).trim_ascii(), self.$name)),+];
                let gauges = [$((stringify!($gauge), concat!($($gauge_doc),*).trim_ascii(), self.$gauge)),+];
                let entry = |is_gauge| move |(name, help, value)| StatsEntry { name, help, value, is_gauge };
                totals.into_iter().map(entry(false)).chain(gauges.into_iter().map(entry(true)))
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            /// Those of a cache with this name.
            pub(crate) fn of(cache: &CacheName) -> Self {
                Self { $($name: Counter::named(cache, stringify!($name), concat!($($doc),*).trim_ascii()),)+ }
            }

            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.get(),)+ ..Stats::default() }
            }
        }
    };
}

/// One number of [`Stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatsEntry {
    /// The name of the field.
    pub name: &'static str,
    /// What it counts, in the words of its documentation; names of settings stand in backquotes.
    pub help: &'static str,
    /// The number.
    pub value: u64,
    /// Whether it goes up and down. The others only grow.
    pub is_gauge: bool,
}

counters! {
    totals {
        /// Requests answered from the cache.
        hits,
        /// Hits that asked nobody: from the memory tier in front of Redis. They are counted as hits as well.
        near_hits,
        /// Requests that might have been answered from the cache and were not.
        misses,
        /// Stored responses that the service found to be still right (304).
        validated,
        /// Requests answered by what another one like them had fetched (RFC 9111 §4).
        collapsed,
        /// Requests that waited for another one like them for as long as they may, and went on by themselves.
        collapse_timeouts,
        /// Refreshes in the background, behind a stale response that was sent.
        refreshes,
        /// Refreshes in the background, behind a response that was still fresh.
        early_refreshes,
        /// Stale responses sent because the service failed or could not be reached.
        stale_on_error,
        /// Stale responses sent because the service had not answered within the soft time-out.
        stale_while_slow,
        /// Requests that the service was not asked for because it was at work on as much as it may: a stale response was sent,
        /// or 503.
        origin_busy,
        /// Stale responses sent at once because the service had failed for the same key a moment before.
        backed_off,
        /// Requests that the cache let pass: other methods, bypasses, requests without a key.
        bypasses,
        /// Purges that this instance was asked for and recorded.
        purges,
        /// Stored responses that were removed because there were more than `max_entries`.
        evicted,
        /// Stored responses that were found purged, and removed.
        reclaimed,
        /// Responses written to the store.
        stored,
        /// Responses that might not be stored.
        refused,
        /// Fills given up: the body ended early, did not match its length, grew past the cap, or the client left.
        abandoned,
        /// Writes that the store did not take, or that were not tried because it takes none for now.
        dropped_writes,
        /// Writes that were not done because what they would have written was out of date: it had been changed by, or fetched
        /// anew in, another process.
        fenced_writes,
        /// Look-ups, and reads of a body's chunks, that ended in an error other than a deadline.
        store_errors,
        /// Look-ups, and reads of a body's chunks, that met their deadline.
        store_timeouts,
        /// Times that the rest of a stored body was asked of the service, because the store ceased to give it while it was sent.
        resumed,
        /// Stored bodies that broke off on their way to the client: a chunk was gone, damaged or late.
        broken_off,
        /// Stored values refused because their checksum or structure was wrong.
        entries_damaged,
        /// Stored values refused because they were not written by this software, or by a version unknown to it.
        entries_foreign,
        /// Stored values refused because they belong to another key than their place.
        entries_mismatched,
        /// Stored heads whose body was no longer complete.
        entries_torn,
        /// Stored values refused because they were larger than any that this configuration writes.
        entries_oversized,
        /// Stored values refused because nobody who knows the `secret` had written them.
        entries_forged,
    }
    gauges {
        /// Fetches, fills and other work that is under way off the clients' path.
        fills_in_flight,
        /// Fetches under way that others like them may wait for.
        flights,
        /// Fetches that the service is at work on, where `max_fetches` bounds them;
        /// else 0.
        fetches,
        /// Requests that wait to be fetched.
        queued_fetches,
        /// Octets of bodies that are being recorded or written.
        bytes_in_flight,
        /// Octets of large bodies that have been read from the store ahead of their
        /// clients, are gathered for the memory tier, or are sent from it.
        bytes_read_ahead,
        /// Octets of the memory tier in front of Redis.
        near_bytes,
        /// Purges that are remembered here.
        purge_records,
        /// 1 while the store is considered unavailable, else 0.
        store_unavailable,
    }
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    total: AtomicU64,
    told: Told,
}

impl Counter {
    fn named(cache: &CacheName, name: &'static str, help: &'static str) -> Self {
        Self { total: AtomicU64::new(0), told: Told::named(cache, name, help) }
    }

    pub(crate) fn increment(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.told.increment();
    }

    pub(crate) fn get(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
