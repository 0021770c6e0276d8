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

    /// After the origin failed send a stale response, where it may be sent, for so long before it is tried again; 0: try
    /// it each time [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) failure_backoff: Option<Duration>,
}

// ===== impl CareArgs =====

impl CareArgs {
    pub(crate) fn apply(&self, mut config: CacheConfig) -> CacheConfig {
        if let Some(limit) = self.soft_timeout {
            config = config.soft_timeout(limit);
        }
        if let Some(span) = self.failure_backoff {
            config = config.failure_backoff(span);
        }
        config
    }
}
