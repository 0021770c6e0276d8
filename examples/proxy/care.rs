//! How the cache waits for the origin and spares it, as the command line describes it.

use std::time::Duration;

use clap::Args;
use tower_redis_cache::CacheConfig;

use crate::units::{duration, timeout};

#[derive(Args)]
#[command(next_help_heading = "Slow and failing origins")]
pub(crate) struct CareArgs {
    /// Send a stale response, where it may be sent, when the origin has not answered after this time [default: wait]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) soft_timeout: Option<Duration>,

    /// Refresh what is asked for before it becomes stale: as long before as the origin takes, at random, times this factor;
    /// 0: never [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pub(crate) early_refresh: Option<f64>,

    /// After the origin failed send a stale response, where it may be sent, for so long before it is tried again; 0: try
    /// it each time [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) failure_backoff: Option<Duration>,

    /// The most requests, of those that may be cached, that the origin is at work on at one time; 0: any number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) max_fetches: usize,

    /// The most requests that wait for one of those to end; more get a stale response or 503 [default: 256]
    #[arg(long, value_name = "N")]
    pub(crate) max_queued_fetches: Option<usize>,

    /// How long a request waits so [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) fetch_queue_timeout: Option<Duration>,
}

// ===== impl CareArgs =====

impl CareArgs {
    /// # Errors
    ///
    /// A sentence that names the argument to change.
    pub(crate) fn apply(&self, mut config: CacheConfig) -> Result<CacheConfig, String> {
        if let Some(factor) = self.early_refresh {
            config = config.early_refresh(factor).map_err(|error| format!("--early-refresh: {error}"))?;
        }
        if let Some(limit) = self.soft_timeout {
            config = config.soft_timeout(limit);
        }
        if let Some(span) = self.failure_backoff {
            config = config.failure_backoff(span);
        }
        if let Some(count) = self.max_queued_fetches {
            config = config.max_queued_fetches(count);
        }
        if let Some(limit) = self.fetch_queue_timeout {
            config = config.fetch_queue_timeout(limit);
        }
        Ok(config.max_fetches(self.max_fetches))
    }
}
