//! The cache layer, as the command line describes it.

use tower_redis_cache::{CacheConfig, CachePolicy, MemoryStore, RedisCacheLayer};

use crate::cli::{CacheArgs, Cli, Policy};
use crate::redact::redact;
use crate::routes::{RouteKeys, Routes};
use crate::units::size_text;

/// The layer and where it keeps what it stores, for people.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) layer: RedisCacheLayer,
    pub(crate) kept_in: String,
}

// ===== impl Cache =====

impl Cache {
    /// Builds the layer; nothing is contacted yet.
    ///
    /// # Errors
    ///
    /// A sentence that names the argument to change.
    pub(crate) fn new(cli: &Cli, routes: &Routes) -> Result<Self, String> {
        let args = &cli.cache;
        let base = match &args.redis {
            Some(url) => CacheConfig::new(url).map_err(|error| format!("--redis or REDIS_URL: {error}"))?,
            None => CacheConfig::default(),
        };
        let config = configure(cli.redis.apply(cli.care.apply(base)?)?, args)?.key(RouteKeys::new(routes, &cli.key)?);
        Ok(match &args.redis {
            Some(url) => Self { layer: RedisCacheLayer::new(config), kept_in: format!("Redis at {}", redact(url)) },
            None => Self {
                layer: RedisCacheLayer::with_store(MemoryStore::new(args.memory_size), config),
                kept_in: format!(
                    "this process's memory, up to {}; --redis URL shares it and keeps it",
                    size_text(args.memory_size)
                ),
            },
        })
    }
}

fn stale_settings(mut config: CacheConfig, args: &CacheArgs) -> Result<CacheConfig, String> {
    for (status, ttl) in &args.negative_ttl {
        config = config.negative_ttl(*status, *ttl);
    }
    if let Some(grace) = args.stale_while_revalidate {
        config = config.stale_while_revalidate(grace);
    }
    if let Some(grace) = args.stale_if_error {
        config = config.stale_if_error(grace);
    }
    if let Some(span) = args.keep_stale {
        config = config.keep_stale(span);
    }
    if !args.target_list.is_empty() {
        config = config.target_list(&args.target_list).map_err(|error| format!("--target-list: {error}"))?;
    }
    Ok(config.obey_request_directives(!args.ignore_request_directives).pass_targeted_fields(!args.hide_targeted))
}

fn configure(mut config: CacheConfig, args: &CacheArgs) -> Result<CacheConfig, String> {
    if let Some(namespace) = &args.namespace {
        config = config.namespace(namespace).map_err(|error| format!("--namespace: {error}"))?;
    }
    config = config.max_unsynced(args.max_unsynced).strict_purges(args.strict_purges).pass_tags(args.pass_tags);
    config = config.near_cache(args.near_cache.unwrap_or_default());
    config = config.policy(match args.policy {
        Policy::Safe => CachePolicy::safe(),
        Policy::Rfc9111 => CachePolicy::rfc9111(),
    });
    if let (Some(min), Some(max)) = (args.min_ttl, args.max_ttl)
        && min > max
    {
        return Err("--min-ttl is longer than --max-ttl; swap them or drop one".to_owned());
    }
    if let Some(ttl) = args.default_ttl {
        config = config.default_ttl(ttl);
    }
    if let Some(ttl) = args.ttl {
        config = config.fixed_ttl(ttl);
    }
    if let Some(ttl) = args.min_ttl {
        config = config.min_ttl(ttl);
    }
    if let Some(ttl) = args.max_ttl {
        config = config.max_ttl(ttl);
    }
    config = stale_settings(config, args)?;
    if let Some(percent) = args.ttl_jitter {
        config = config.ttl_jitter(percent);
    }
    if let Some(size) = args.max_body_size {
        config = config.max_body_size(size);
    }
    if let Some(timeout) = args.store_timeout {
        config = config.store_timeout(timeout);
    }
    if let Some(count) = args.max_entries {
        config = config.max_entries(count);
    }
    if let Some(least) = args.adaptive_store_timeout {
        config = config.adaptive_store_timeout(least);
    }
    Ok(config)
}
