//! Settings for a service that is slow, or fails.

use std::time::Duration;

use super::{CacheConfig, GREATEST_TTL};
use crate::error::ConfigError;

/// How the service behind the cache is waited for, and spared.
#[derive(Clone, Debug)]
pub(crate) struct OriginCare {
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) failure_backoff: Duration,
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
    /// span is over one request tries. This process alone knows of it. Zero lets each request try. Defaults to 1 s: a key costs a failing service one request a second, and its recovery is
    /// seen as soon.
    pub fn failure_backoff(mut self, span: Duration) -> Self {
        self.origin.failure_backoff = span.min(GREATEST_TTL);
        self
    }
}

impl Default for OriginCare {
    fn default() -> Self {
        Self { soft_timeout: None, failure_backoff: Duration::from_secs(1) }
    }
}
