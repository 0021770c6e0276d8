//! How the Redis is reached, besides its URL.

use std::path::PathBuf;

use clap::Args;
use tower_redis_cache::{CacheConfig, EvictionPolicy};

use crate::units::size;

#[derive(Args, Debug)]
#[command(next_help_heading = "Redis")]
pub(crate) struct RedisArgs {
    /// Take the password from this file, which is read again for each new connection
    #[arg(long, value_name = "FILE", requires = "redis")]
    pub(crate) redis_password_file: Option<PathBuf>,

    /// Ask the sentinels with the password in this file
    #[arg(long, value_name = "FILE", requires = "redis")]
    pub(crate) redis_sentinel_password_file: Option<PathBuf>,

    /// Look stored responses up in the replicas that Sentinel or the cluster names
    #[arg(long, requires = "redis")]
    pub(crate) redis_read_from_replicas: bool,

    /// Trust a rediss:// server by these certificates (PEM) alone, in place of the system's
    #[arg(long, value_name = "FILE", requires = "redis")]
    pub(crate) redis_ca: Option<PathBuf>,

    /// Show a rediss:// server this certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["redis", "redis_key"])]
    pub(crate) redis_cert: Option<PathBuf>,

    /// Compress what is stored and has so many octets or more (needs a build with --features zstd)
    #[arg(long, value_name = "SIZE", requires = "redis", value_parser = size)]
    pub(crate) compress_at_rest: Option<u64>,

    /// Set the server's maxmemory, if it is yours (needs CONFIG SET)
    #[arg(long, value_name = "SIZE", requires = "redis", value_parser = size)]
    pub(crate) redis_max_memory: Option<u64>,

    /// Set what the server removes when that is full: allkeys-lfu, allkeys-lru, volatile-lfu…
    #[arg(long, value_name = "POLICY", requires = "redis", value_parser = eviction)]
    pub(crate) redis_eviction: Option<EvictionPolicy>,

    /// Set how many connections the server takes
    #[arg(long, value_name = "NUMBER", requires = "redis")]
    pub(crate) redis_max_clients: Option<u32>,

    /// Seal what is stored with the secret in this file, 32 octets or more at random; further ones are good for reading
    #[arg(long, value_name = "NUMBER=FILE", requires = "redis", value_parser = numbered)]
    pub(crate) entry_secret: Vec<(u32, PathBuf)>,

    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["redis", "redis_cert"])]
    pub(crate) redis_key: Option<PathBuf>,
}

#[cfg(feature = "zstd")]
#[allow(clippy::unnecessary_wraps)]
fn compressed(config: CacheConfig, from: u64) -> Result<CacheConfig, String> {
    Ok(config.compress_at_rest(from))
}

#[cfg(not(feature = "zstd"))]
fn compressed(_: CacheConfig, _: u64) -> Result<CacheConfig, String> {
    Err("--compress-at-rest needs a proxy built with --features zstd".to_owned())
}

fn eviction(text: &str) -> Result<EvictionPolicy, String> {
    use EvictionPolicy::{AllKeysLfu, AllKeysLru, NoEviction, VolatileLfu, VolatileLru, VolatileTtl};
    let all = [AllKeysLfu, AllKeysLru, VolatileLfu, VolatileLru, VolatileTtl, NoEviction];
    let names = all.map(EvictionPolicy::as_str).join(", ");
    all.into_iter().find(|policy| policy.as_str() == text).ok_or_else(|| format!("one of {names}"))
}

fn numbered(text: &str) -> Result<(u32, PathBuf), String> {
    let (number, file) = text.split_once('=').ok_or("write NUMBER=FILE")?;
    Ok((number.parse().map_err(|_| "the number is none")?, file.into()))
}

impl RedisArgs {
    /// # Errors
    ///
    /// A sentence that names the argument to change.
    pub(crate) fn apply(&self, mut config: CacheConfig) -> Result<CacheConfig, String> {
        if let Some(file) = &self.redis_password_file {
            config = config.redis_password_file(file);
        }
        if let Some(file) = &self.redis_sentinel_password_file {
            let set = config.redis_sentinel_password_file(None, file);
            config = set.map_err(|error| format!("--redis-sentinel-password-file: {error}"))?;
        }
        if self.redis_read_from_replicas {
            let set = config.redis_read_from_replicas();
            config = set.map_err(|error| format!("--redis-read-from-replicas: {error}"))?;
        }
        if let Some(octets) = self.redis_max_memory {
            config = config.provision_max_memory(octets);
        }
        if let Some(policy) = self.redis_eviction {
            config = config.provision_eviction(policy);
        }
        if let Some(clients) = self.redis_max_clients {
            config = config.provision_max_clients(clients).map_err(|error| format!("--redis-max-clients: {error}"))?;
        }
        for (number, file) in &self.entry_secret {
            let secret = std::fs::read(file)
                .map_err(|error| format!("--entry-secret: {} cannot be read: {error}", file.display()))?;
            config = config.entry_secret(*number, secret).map_err(|error| format!("--entry-secret: {error}"))?;
        }
        if let Some(from) = self.compress_at_rest {
            config = compressed(config, from)?;
        }
        self.secure(config)
    }

    #[cfg(feature = "tls")]
    fn secure(&self, mut config: CacheConfig) -> Result<CacheConfig, String> {
        let read = |flag: &str, file: &PathBuf| {
            std::fs::read(file).map_err(|error| format!("{flag}: {} cannot be read: {error}", file.display()))
        };
        if let Some(file) = &self.redis_ca {
            let pem = read("--redis-ca", file)?;
            config = config.redis_root_certificates(pem).map_err(|error| format!("--redis-ca: {error}"))?;
        }
        if let (Some(certificate), Some(key)) = (&self.redis_cert, &self.redis_key) {
            let (certificate, key) = (read("--redis-cert", certificate)?, read("--redis-key", key)?);
            let set = config.redis_client_certificate(certificate, key);
            config = set.map_err(|error| format!("--redis-cert or --redis-key: {error}"))?;
        }
        Ok(config)
    }

    #[cfg(not(feature = "tls"))]
    fn secure(&self, config: CacheConfig) -> Result<CacheConfig, String> {
        match self.redis_ca.is_some() || self.redis_cert.is_some() {
            true => Err("--redis-ca and --redis-cert need a proxy built with --features tls".to_owned()),
            false => Ok(config),
        }
    }
}
