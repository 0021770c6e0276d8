//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;
use tower_redis_cache::{CacheConfig, MemoryStore};

use crate::address::{AddressRules, block};
use crate::allow::AllowList;
use crate::connect::roots_in;
use crate::fetch::Limits;
use crate::gateway::Settings;
use crate::redact::redact;
use crate::resolver::SystemResolver;
use crate::units::{duration, size, timeout};

const EXAMPLES: &str = "\
Examples:
  gateway --allow https://api.example.com
  gateway --allow https://api.example.com --allow https://cdn.example.com --redis redis://127.0.0.1:6379
  gateway --allow http://127.0.0.1:8000 --allow-address 127.0.0.1 --default-ttl 60s

Durations: 100ms, 5s, 2m, 1h; a plain number means seconds. Sizes: 65536, 64k, 8MiB, 1G.";

/// A caching gateway: GET /?url=URL&key=KEY&params=JSON, from allowed origins only.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    /// An origin that may be asked: scheme, host and port, exactly; may be given several times
    #[arg(long, value_name = "ORIGIN", env = "GATEWAY_ALLOW", value_delimiter = ',', required = true)]
    allow: Vec<String>,

    /// An address or CIDR block that may be dialled although it is not public; may be given several times
    #[arg(long, value_name = "ADDR", env = "GATEWAY_ALLOW_ADDRESS", value_delimiter = ',', value_parser = block)]
    allow_address: Vec<IpNet>,

    /// Trust the certificates in this PEM file, instead of the public authorities, for https origins
    #[arg(long, value_name = "FILE")]
    origin_ca: Option<PathBuf>,

    /// Where to listen, for HTTP/1.1 and for HTTP/2 without TLS; port 0 picks a free one
    #[arg(long, value_name = "ADDR", env = "GATEWAY_LISTEN", default_value = "127.0.0.1:8090")]
    pub(crate) listen: SocketAddr,

    /// Keep responses in this Redis; without it they are kept in this process's memory
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    redis: Option<String>,

    /// How much memory the cache may take when there is no Redis
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    memory_size: u64,

    /// First part of every key in Redis; one that no other cache has
    #[arg(long, value_name = "NAME", default_value = "trc-gateway")]
    namespace: String,

    /// How long to keep a response that does not say how long it is fresh [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    default_ttl: Option<Duration>,

    /// How many redirects are followed for one request
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_redirects: usize,

    /// How long a connection to an origin may take, name resolution and TLS included
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout)]
    connect_timeout: Duration,

    /// How long origins may take until the answer begins, redirects included; and how long its body may stand still
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    timeout: Duration,

    /// Neither keep nor pass on larger bodies
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = size)]
    max_body: u64,
}

// ===== impl Cli =====

impl Cli {
    /// The settings of the gateway, and where it keeps answers, for people.
    ///
    /// # Errors
    ///
    /// A sentence that names the argument to change.
    pub(crate) fn settings(&self) -> Result<(Settings, String), String> {
        let base = match &self.redis {
            Some(url) => CacheConfig::new(url).map_err(|error| format!("--redis or REDIS_URL: {error}"))?,
            None => CacheConfig::default(),
        };
        let mut cache = base.namespace(&self.namespace).map_err(|error| format!("--namespace: {error}"))?;
        if let Some(ttl) = self.default_ttl {
            cache = cache.default_ttl(ttl);
        }
        let (memory, kept_in) = match &self.redis {
            Some(url) => (None, format!("Redis at {}", redact(url))),
            None => (Some(MemoryStore::new(self.memory_size)), "this process's memory".to_owned()),
        };
        let addresses = AddressRules::listing(self.allow_address.iter().copied());
        let allow = AllowList::new(&self.allow, &addresses).map_err(|error| format!("--allow: {error}"))?;
        let limits = Limits {
            connect_timeout: self.connect_timeout,
            timeout: self.timeout,
            max_redirects: self.max_redirects,
            max_body: self.max_body,
        };
        let roots = self.origin_ca.as_deref().map(roots_in).transpose();
        let roots = roots.map_err(|error| format!("--origin-ca: {error}"))?;
        let resolver = Arc::new(SystemResolver);
        Ok((Settings { allow, addresses, resolver, roots, limits, cache, memory }, kept_in))
    }
}
