//! Settings for a service that is slow, or fails.

use std::time::Duration;

use super::{CacheConfig, GREATEST_TTL};
use crate::error::ConfigError;

/// How the service behind the cache is waited for, and spared.
#[derive(Clone, Debug)]
pub(crate) struct OriginCare {
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) failure_backoff: Duration,
    pub(crate) max_fetches: usize,
    pub(crate) max_queued_fetches: usize,
    pub(crate) fetch_queue_timeout: Duration,
}

impl CacheConfig {
    /// How long a request waits for the service where a stale response may be sent: then it gets that, and the fetch goes
    /// on in the background. The response may be sent within its `stale-while-revalidate` or its `stale-if-error`, or as
    /// long as [`stale_while_revalidate`](Self::stale_while_revalidate) or [`stale_if_error`](Self::stale_if_error)
    /// say, and a request that asks for something fresher (`no-cache`, `max-age`, `min-fresh`) waits. Defaults to none:
    /// all wait for as long as the service takes.
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.origin.soft_timeout = Some(limit);
        self
    }

    /// How eagerly a response that is asked for is refreshed in the background before it becomes stale: at random, as a
    /// rule as long before its end as the service takes for it, times this factor, and never before the last tenth of its
    /// lifetime (XFetch). What many ask for is thus fetched once, and nobody waits for it; where the service answers in
    /// milliseconds it hardly ever happens. Zero refreshes nothing early. Defaults to 1.
    ///
    /// # Errors
    ///
    /// The factor is negative, or no finite number.
    pub fn early_refresh(mut self, factor: f64) -> Result<Self, ConfigError> {
        if !factor.is_finite() || factor.is_sign_negative() {
            return Err(ConfigError::new("early_refresh", "must be a number from 0"));
        }
        self.rules.early_refresh = factor;
        Ok(self)
    }

    /// How long the service is left alone after it has failed for a key (no answer, or a 500, 502, 503 or 504) where a
    /// stale response may be sent instead: other requests get that at once, and none waits for the next failure. When the
    /// span is over one request tries. All processes that share a namespace know of it where the failed request was made
    /// for all of them, by a mark in Redis beside the key; their clocks should agree to well within the span. Zero lets
    /// each request try. Defaults to 1 s: a key costs a failing service one request a second, and its recovery is seen as
    /// soon.
    pub fn failure_backoff(mut self, span: Duration) -> Self {
        self.origin.failure_backoff = span.min(GREATEST_TTL);
        self
    }

    /// The most requests of those that may be cached, all keys of the layer together, that the service is at work on at
    /// one time, from the call to the end of the response's body: what protects it when the cache is cold, or Redis away.
    /// One more waits ([`fetch_queue_timeout`](Self::fetch_queue_timeout)), then gets a stale response, within the windows
    /// that [`soft_timeout`](Self::soft_timeout) has as well, or a 503 with Retry-After. A refresh in the background does
    /// not wait: it is left for later. Other methods, and what passes the cache, are not counted. Where clients read
    /// slowly, responses that are not stored hold their places. Zero, the default, sets no cap.
    pub fn max_fetches(mut self, count: usize) -> Self {
        self.origin.max_fetches = count;
        self
    }

    /// The most requests that wait where [`max_fetches`](Self::max_fetches) is reached; further ones do not. Defaults to
    /// 256.
    pub fn max_queued_fetches(mut self, count: usize) -> Self {
        self.origin.max_queued_fetches = count;
        self
    }

    /// How long a request waits where [`max_fetches`](Self::max_fetches) is reached. Defaults to 1 s.
    pub fn fetch_queue_timeout(mut self, limit: Duration) -> Self {
        self.origin.fetch_queue_timeout = limit;
        self
    }
}

impl Default for OriginCare {
    fn default() -> Self {
        Self {
            soft_timeout: None,
            failure_backoff: Duration::from_secs(1),
            max_fetches: 0,
            max_queued_fetches: 256,
            fetch_queue_timeout: Duration::from_secs(1),
        }
    }
}
