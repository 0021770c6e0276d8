//! Settings of purges, and of the tags by which responses are purged.

use std::sync::Arc;
use std::time::Duration;

use http::response;

use super::CacheConfig;
use crate::purge::tags::Tagger;

/// How purges are heard of and kept.
#[derive(Clone, Debug)]
pub(crate) struct PurgeSettings {
    pub(crate) max_unsynced: Duration,
    pub(crate) max_records: usize,
    pub(crate) is_strict: bool,
    pub(crate) tagger: Tagger,
}

/// What is kept in front of Redis.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NearSettings {
    pub(crate) octets: u64,
    max_entry: Option<u64>,
}

impl NearSettings {
    /// The longest body that is kept.
    pub(crate) fn max_entry(self) -> u64 {
        const LEAST: u64 = 32 * 1024;
        self.max_entry.unwrap_or((self.octets / 64).max(LEAST)).min(self.octets / 4)
    }
}

/// Purges that are kept, where nothing else is set.
pub(crate) const DEFAULT_MAX_RECORDS: usize = 100_000;

impl Default for PurgeSettings {
    fn default() -> Self {
        Self {
            max_unsynced: Duration::from_secs(5),
            max_records: DEFAULT_MAX_RECORDS,
            is_strict: false,
            tagger: Tagger::default(),
        }
    }
}

impl CacheConfig {
    /// For how long this instance goes by what it has last read of the purge clock in Redis. Afterwards it serves nothing
    /// that is stored before it has read it again. It reads as soon as it hears of a purge, which takes milliseconds,
    /// and five times in this span in any case. Defaults to 5 s, and is 100 ms at the least and an hour at the most.
    pub fn max_unsynced(mut self, span: Duration) -> Self {
        self.purges.max_unsynced = span.clamp(Duration::from_millis(100), Duration::from_secs(60 * 60));
        self
    }

    /// Whether each look-up asks Redis, in the same round trip, whether anything has been purged that is not known here:
    /// then no instance with this setting serves what was purged once [`CacheHandle::purge`](crate::CacheHandle::purge)
    /// has returned. Defaults to `false`: a purge is seen by the others some milliseconds later.
    pub fn strict_purges(mut self, strict: bool) -> Self {
        self.purges.is_strict = strict;
        self
    }

    /// A memory tier in front of Redis, of this many octets: what was found in Redis is answered from there, without asking
    /// Redis, while it is fresh and not purged; the least useful goes first (S3-FIFO). Purges reach it as they reach
    /// everything else ([`max_unsynced`](Self::max_unsynced)). A response that another process replaces in Redis before
    /// its time (after a request with `Cache-Control: no-cache`, say) is answered from here until it is no longer fresh:
    /// purge what has to go. Requests with `Cache-Control` or `Pragma`, and QUERY, ask Redis; so does everything under
    /// [`strict_purges`](Self::strict_purges), where the tier is off. Defaults to 0: no such tier. It is not for
    /// [`MemoryStore`](crate::MemoryStore), which is one.
    pub fn near_cache(mut self, octets: u64) -> Self {
        self.near.octets = octets;
        self
    }

    /// The longest body, in octets, that is kept in the memory tier in front of Redis. Defaults to a 64th of the tier, and
    /// at least 32 KiB; it is no more than a quarter of the tier. The table has parts with a lock each, no more than have
    /// room for four such bodies.
    ///
    /// A body of more than 64 KiB is read from Redis as it is sent, and kept when somebody has had all of it. What is held of
    /// it until then, and once for all to whom it is sent from memory, counts as read ahead
    /// ([`max_inflight_bytes`](Self::max_inflight_bytes)): to be kept it has to find its room in one half of that, so that
    /// with default settings none of more than some 63 MiB is, and without room to be sent from memory it is read from Redis.
    pub fn near_cache_max_entry(mut self, octets: u64) -> Self {
        self.near.max_entry = Some(octets);
        self
    }

    /// The most purges that are kept in Redis and by each instance, each of another thing; what is purged again takes no
    /// more room. With one more the oldest is forgotten, and all that was fetched before *that* is taken for purged. Unsafe
    /// requests (RFC 9111 §4.4) purge as well. One takes some 150 octets besides its name. Defaults to 100,000; it is
    /// 1,000 at the least and a million at the most. It has to be the same in all processes.
    pub fn max_purge_records(mut self, count: usize) -> Self {
        self.purges.max_records = count.clamp(1_000, 1_000_000);
        self
    }

    /// Tags of responses besides those in `Cache-Groups` (RFC 9875), `Surrogate-Key`, `xkey` and `Cache-Tag`, by which
    /// they can be purged: at most 128 for one response, each of at most 1 KiB, of 16 KiB in all. A response with more,
    /// or with a `Cache-Groups` that is no list of strings, is not stored. Defaults to none.
    ///
    /// ```
    /// use http::response::Parts;
    /// use tower_redis_cache::CacheConfig;
    ///
    /// let config = CacheConfig::default().tags(|response: &Parts| {
    ///     let product = response.headers.get("x-product").and_then(|id| id.to_str().ok());
    ///     product.map(|id| format!("product-{id}")).into_iter().collect()
    /// });
    /// # drop(config);
    /// ```
    pub fn tags(mut self, tags: impl Fn(&response::Parts) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.purges.tagger.own = Some(Arc::new(tags));
        self
    }

    /// Whether clients see `Cache-Groups`, `Surrogate-Key`, `xkey` and `Cache-Tag`. Defaults to `false`: they are meant
    /// for caches, and tell how a site is built.
    pub fn pass_tags(mut self, pass: bool) -> Self {
        self.purges.tagger.pass = pass;
        self
    }
}
