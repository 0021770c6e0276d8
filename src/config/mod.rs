//! Every setting of the cache: one door each, with its default and its unit.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderName;

use crate::clock::Clock;
use crate::collapse::lease::Pace;
use crate::error::ConfigError;
use crate::key::{DefaultKey, KeyExtractor};
use crate::observe::cache_status::CacheName;
use crate::semantics::staleness::Grace;
use crate::semantics::targeted::TargetList;
use crate::semantics::{CachePolicy, Rules};
use crate::store::{Provision, RedisAddress, Seals};

mod origin;
mod purging;
mod route;
mod server;

pub(crate) use origin::OriginCare;
pub(crate) use purging::{DEFAULT_MAX_RECORDS, NearSettings, PurgeSettings};

pub use route::{CacheOverride, Disconnected, EmptyBody};
pub use server::EvictionPolicy;

/// The settings of a [`RedisCacheLayer`](crate::RedisCacheLayer).
///
/// A value that makes no sense is a [`ConfigError`] here, where it is written, and never later.
///
/// ```
/// use std::time::Duration;
/// use tower_redis_cache::CacheConfig;
///
/// # fn main() -> Result<(), tower_redis_cache::ConfigError> {
/// let config = CacheConfig::new("redis://127.0.0.1:6379/0")?
///     .namespace("shop")?
///     .default_ttl(Duration::from_secs(60))
///     .max_body_size(2 * 1024 * 1024)
///     .store_timeout(Duration::from_millis(50));
/// # drop(config);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CacheConfig {
    pub(crate) redis: RedisAddress,
    pub(crate) seals: Seals,
    #[cfg(feature = "zstd")]
    pub(crate) compressed_from: Option<u64>,
    pub(crate) provision: Provision,
    pub(crate) namespace: Arc<str>,
    pub(crate) key: Arc<dyn KeyExtractor>,
    pub(crate) rules: Rules,
    pub(crate) ttl_jitter: u8,
    pub(crate) pass_targeted_fields: bool,
    pub(crate) max_key_size: usize,
    pub(crate) max_variants: usize,
    pub(crate) max_entries: Option<u64>,
    pub(crate) reads_replicas: bool,
    pub(crate) max_inflight_bytes: u64,
    pub(crate) max_unread_body: u64,
    pub(crate) unread_timeout: Duration,
    pub(crate) collapse_timeout: Duration,
    pub(crate) pace: Pace,
    pub(crate) origin: OriginCare,
    pub(crate) purges: PurgeSettings,
    pub(crate) near: NearSettings,
    pub(crate) store_timeout: Duration,
    pub(crate) least_store_timeout: Option<Duration>,
    pub(crate) store_write_timeout: Duration,
    pub(crate) cache_name: CacheName,
    pub(crate) cache_status_key: bool,
    pub(crate) clock: Clock,
}

/// No lifetime is longer, whatever a response says: 30 days unless `max_ttl` says otherwise.
const DEFAULT_MAX_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What `max_ttl` can be at the most: the greatest delta-seconds (RFC 9111 §1.2.2).
const GREATEST_TTL: Duration = Duration::from_secs(1 << 31);
/// The greatest `max_body_size`: a Redis string ends at 512 MiB, a body is kept in chunks, and this is memory's sake.
pub(crate) const GREATEST_BODY: u64 = 1024 * 1024 * 1024;
/// The greatest `max_head_size`.
const GREATEST_HEAD: usize = 256 * 1024;

impl CacheConfig {
    /// Settings for a cache in the Redis at this URL. No connection is made.
    ///
    /// - `redis://[user[:password]@]host[:port][/database]`, and `rediss://` for TLS (feature `tls`). An application that
    ///   chooses a `rustls::crypto::CryptoProvider` for its process does so before: otherwise it is ring from here on;
    /// - `unix:///path`;
    /// - `redis+sentinel://[user[:password]@]host[:port],host[:port]…/name[/database]`, or `rediss+sentinel://`: up to 16
    ///   sentinels, by default on port 26379, and the name of the primary that they watch. Each new connection asks them
    ///   where it is; after a failover that is within a second or two. If they ask for a password:
    ///   [`redis_sentinel_password_file`](Self::redis_sentinel_password_file);
    /// - `redis+cluster://[user[:password]@]host[:port],host[:port]…`, or `rediss+cluster://`: up to 16 nodes of a Redis
    ///   Cluster, by default on port 6379, of which any says who the others are. Two connections are held to each primary. A
    ///   node that is away costs what it has, with `cluster-require-full-coverage no`; otherwise it costs all. The record of
    ///   purges is with one node, and while that is away nothing that is stored is served, except from [`near_cache`](Self::near_cache) for [`max_unsynced`](Self::max_unsynced).
    ///
    /// # Errors
    ///
    /// The URL cannot be understood, or asks for TLS, which a build without the feature does not have. The message does not
    /// repeat it, since it may hold a password.
    pub fn new(redis_url: impl AsRef<str>) -> Result<Self, ConfigError> {
        Ok(Self { redis: RedisAddress::parse(redis_url.as_ref())?, ..Self::default() })
    }

    /// The start of every key in Redis: instances that share it share entries. Defaults to `trc`.
    ///
    /// # Errors
    ///
    /// The name does not have 1 to 64 characters, or has others than ASCII letters, digits and `_ . : -`.
    pub fn namespace(mut self, name: &str) -> Result<Self, ConfigError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
            let reason = "must have 1 to 64 characters, each a letter, a digit or one of _ . : -";
            return Err(ConfigError::new("namespace", reason));
        }
        self.namespace = name.into();
        Ok(self)
    }

    /// What is stored beyond what RFC 9111 forbids. Defaults to [`CachePolicy::safe`].
    pub fn policy(mut self, policy: CachePolicy) -> Self {
        self.rules.policy = policy;
        self
    }

    /// How requests get their keys. Defaults to [`DefaultKey::new`].
    pub fn key(mut self, extractor: impl KeyExtractor) -> Self {
        self.key = Arc::new(extractor);
        self
    }

    /// The freshness lifetime of responses that state none, from when they are received. Defaults to none: they are not
    /// stored. It never applies to a request with `Authorization`.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.rules.default_ttl = Some(ttl.min(GREATEST_TTL));
        self
    }

    /// One freshness lifetime for all responses that may be stored, whatever they state, from when they are received.
    /// Defaults to none. `no-store`, `private`, `no-cache`, Set-Cookie and Vary keep their meaning, and a request with
    /// `Authorization` shares what its response itself allows, for as long as that says.
    pub fn fixed_ttl(mut self, ttl: Duration) -> Self {
        self.rules.fixed_ttl = Some(ttl.min(GREATEST_TTL));
        self
    }

    /// The freshness lifetime of responses with this status that state none, for instance of 404: negative caching.
    /// Defaults to none for every status, and is given once for each.
    pub fn negative_ttl(mut self, status: StatusCode, ttl: Duration) -> Self {
        self.rules.negative_ttls.retain(|(known, _)| *known != status);
        self.rules.negative_ttls.push((status, ttl.min(GREATEST_TTL)));
        self
    }

    /// Lets a stale response be sent at once for so long after its freshness ended, while it is validated in the
    /// background, where it does not say so itself (`stale-while-revalidate`, RFC 5861 §3). Defaults to zero. What
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage` and `no-cache` forbid stays forbidden.
    pub fn stale_while_revalidate(mut self, grace: Duration) -> Self {
        self.rules.grace.while_revalidate = grace.min(GREATEST_TTL);
        self
    }

    /// Lets a stale response be sent for so long after its freshness ended instead of a 500, 502, 503 or 504, where it
    /// does not say so itself (`stale-if-error`, RFC 5861 §4). Defaults to zero. What `must-revalidate`,
    /// `proxy-revalidate`, `s-maxage` and `no-cache` forbid stays forbidden.
    pub fn stale_if_error(mut self, grace: Duration) -> Self {
        self.rules.grace.if_error = grace.min(GREATEST_TTL);
        self
    }

    /// How long a stale response is kept, to be validated with the service, or to answer while the service cannot be
    /// reached (RFC 9111 §4.2.4). Defaults to one hour.
    pub fn keep_stale(mut self, span: Duration) -> Self {
        self.rules.keep_stale = span.min(GREATEST_TTL);
        self
    }

    /// Whether clients have a say by `Cache-Control` in their requests (RFC 9111 §5.2.1). Defaults to `true`; with
    /// `false` no reload button reaches the service.
    pub fn obey_request_directives(mut self, obey: bool) -> Self {
        self.rules.obeys_request_directives = obey;
        self
    }

    /// The targeted fields that this cache obeys before `Cache-Control`, the first of them first (RFC 9213). Defaults to
    /// `CDN-Cache-Control`; an empty list obeys none.
    ///
    /// # Errors
    ///
    /// A name is not a header field name.
    pub fn target_list<I: IntoIterator<Item: AsRef<str>>>(mut self, names: I) -> Result<Self, ConfigError> {
        let name = |text: I::Item| {
            HeaderName::from_bytes(text.as_ref().as_bytes())
                .map_err(|_| ConfigError::new("target_list", format!("{:?} is not a header field name", text.as_ref())))
        };
        self.rules.targets = TargetList::new(names.into_iter().map(name).collect::<Result<_, _>>()?);
        Ok(self)
    }

    /// Whether clients see the targeted fields that this cache obeys. Defaults to `true`: a cache nearer to them may
    /// obey them as well.
    pub fn pass_targeted_fields(mut self, pass: bool) -> Self {
        self.pass_targeted_fields = pass;
        self
    }

    /// Raises shorter lifetimes to this one, but not a response's own zero. Defaults to zero.
    pub fn min_ttl(mut self, ttl: Duration) -> Self {
        self.rules.min_ttl = ttl.min(GREATEST_TTL);
        self
    }

    /// Cuts longer lifetimes to this one; stronger than [`min_ttl`](Self::min_ttl). Defaults to 30 days, and is 2³¹
    /// seconds at the most.
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.rules.max_ttl = ttl.min(GREATEST_TTL);
        self
    }

    /// Shortens each lifetime by a random part of up to this many per cent, so that entries made together do not end
    /// together. Defaults to 0, and is 50 at the most.
    pub fn ttl_jitter(mut self, percent: u8) -> Self {
        self.ttl_jitter = percent.min(50);
        self
    }

    /// The largest body that is stored, in octets. A response that states a larger one is not recorded at all; one that
    /// grows past it is given up while the client goes on receiving. Defaults to 8 MiB, and is 1 GiB at the most.
    pub fn max_body_size(mut self, octets: u64) -> Self {
        self.rules.max_body_size = octets.min(GREATEST_BODY);
        self
    }

    /// The largest header section that is stored, in octets. Defaults to 32 KiB, and is 256 KiB at the most.
    pub fn max_head_size(mut self, octets: usize) -> Self {
        self.rules.max_head_size = octets.min(GREATEST_HEAD);
        self
    }

    /// The most header field lines that are stored. Defaults to 128, and is 1024 at the most.
    pub fn max_fields(mut self, count: usize) -> Self {
        self.rules.max_fields = count.min(1024);
        self
    }

    /// The most responses, each variant counted, that this namespace has in Redis; the least recently used go. It is
    /// approximate: each list of about 256 goes by itself, a use is noted about once a minute by each process, and what ends
    /// by itself counts until its turn comes. So there are soon no more than this, and at times fewer. It costs a script for
    /// each response that is stored, off the client's path. All instances are to have the same; what was stored under
    /// another number is not counted any more, and ends by itself. Not set by default: bound the memory of Redis instead
    /// (`maxmemory`), where you can.
    pub fn max_entries(mut self, count: u64) -> Self {
        self.max_entries = Some(count.max(1));
        self
    }

    /// The longest key, in octets; requests with longer ones are not cached. Defaults to 8 KiB, and is 64 KiB at the
    /// most.
    pub fn max_key_size(mut self, octets: usize) -> Self {
        self.max_key_size = octets.min(64 * 1024);
        self
    }

    /// The most responses stored for one key under Vary; further ones pass uncached until some have expired. Defaults to
    /// 32, and is 256 at the most.
    pub fn max_variants(mut self, count: usize) -> Self {
        self.max_variants = count.min(256);
        self
    }

    /// The most octets of bodies that are held in memory for all requests together on their way to the store. Into Redis
    /// a body goes in chunks of 256 KiB while it comes, and one takes an eighth of this, or 1 MiB, at the most; a body for
    /// the store in memory takes its length. Past it responses pass without being stored. Large bodies that are sent out of Redis
    /// are read ahead of their clients as long as they hold less than four times as much together, with what is gathered for
    /// [`near_cache`](Self::near_cache) and sent from it; past it each is read one chunk at a time. Defaults to 32 MiB; it is 1 MiB at the least, and in memory
    /// [`max_body_size`](Self::max_body_size).
    pub fn max_inflight_bytes(mut self, octets: u64) -> Self {
        self.max_inflight_bytes = octets;
        self
    }

    /// How much of a body may still be to come for it to be read to its end, for the store alone, after all clients that
    /// wanted it have left; of more than this the fetch ends with them. Defaults to 8 MiB.
    pub fn max_unread_body(mut self, octets: u64) -> Self {
        self.max_unread_body = octets;
        self
    }

    /// How long a body that no client reads is read for the store alone. Defaults to 30 s.
    pub fn unread_timeout(mut self, limit: Duration) -> Self {
        self.unread_timeout = limit;
        self
    }

    /// The time that a request may wait for the answer to another one like it (RFC 9111 §4), in this process or in
    /// another; afterwards it goes on to the service itself. Zero lets each go by itself. Defaults to 5 s.
    pub fn collapse_timeout(mut self, limit: Duration) -> Self {
        self.collapse_timeout = limit;
        self
    }

    /// How often a process that fetches for the whole fleet gives a sign of life. Another takes its place two of these
    /// after its last; those who wait for it meanwhile wait no longer than [`collapse_timeout`](Self::collapse_timeout).
    /// It has to be the same in all processes. Defaults to 1 s, and is 20 ms at the least and an hour at the
    /// most.
    pub fn lease_heartbeat(mut self, interval: Duration) -> Self {
        const MOST: Duration = Duration::from_secs(60 * 60);
        self.pace = Pace { heartbeat: interval.clamp(Duration::from_millis(20), MOST) };
        self
    }

    /// All the time that one request may wait for the store until it has the head of a response and the start of its
    /// body; afterwards it goes on to the service. A request that has waited for the answer to another one like it, in
    /// this process or in another, may look once more for as long. Defaults to
    /// 100 ms, and is 1 ms at the least.
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        self.store_timeout = limit.max(Duration::from_millis(1));
        self
    }

    /// Lets the time of [`store_timeout`](Self::store_timeout) follow what Redis takes: eight times a smoothed round trip
    /// and four of its deviations, no less than `least` and no more than that. A Redis that hangs is then waited for as long
    /// as it deserves, until it is known not to answer. The bodies of what is being stored are given the whole time. Not by
    /// default; `least` is 10 ms at the least.
    pub fn adaptive_store_timeout(mut self, least: Duration) -> Self {
        self.least_store_timeout = Some(least.max(Duration::from_millis(10)));
        self
    }

    /// The time that one response's write may take, off the client's path, and what a large body that is being sent may
    /// wait for its next chunk before it breaks off. Defaults to 2 s, and is 1 ms at the least.
    pub fn store_write_timeout(mut self, limit: Duration) -> Self {
        self.store_write_timeout = limit.max(Duration::from_millis(1));
        self
    }

    /// The name of this cache in the `Cache-Status` field (RFC 9211). Defaults to `tower-redis-cache`.
    ///
    /// # Errors
    ///
    /// The name does not have 1 to 128 characters of printable ASCII.
    pub fn cache_status_name(mut self, name: &str) -> Result<Self, ConfigError> {
        self.cache_name = CacheName::new(name)?;
        Ok(self)
    }

    /// Whether `Cache-Status` shows the digest under which the response is stored (RFC 9211 §2.7), as it stands in the
    /// Redis key; for a QUERY the request's own, which no Redis key shows. Defaults to `false`.
    pub fn cache_status_key(mut self, show: bool) -> Self {
        self.cache_status_key = show;
        self
    }

    /// Where time is read from. Defaults to the system's clock; tests use a [`ManualClock`](crate::ManualClock).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

/// The Redis at its usual place, `redis://127.0.0.1:6379`, and all other settings at their defaults.
impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            redis: RedisAddress::local(),
            seals: Seals::default(),
            #[cfg(feature = "zstd")]
            compressed_from: None,
            provision: Provision::default(),
            namespace: "trc".into(),
            key: Arc::new(DefaultKey::new()),
            rules: Rules {
                policy: CachePolicy::safe(),
                targets: TargetList::default(),
                grace: Grace::default(),
                keep_stale: Duration::from_secs(60 * 60),
                early_refresh: 1.0,
                obeys_request_directives: true,
                negative_ttls: Vec::new(),
                default_ttl: None,
                fixed_ttl: None,
                min_ttl: Duration::ZERO,
                max_ttl: DEFAULT_MAX_TTL,
                max_body_size: 8 * 1024 * 1024,
                max_head_size: 32 * 1024,
                max_fields: 128,
            },
            ttl_jitter: 0,
            pass_targeted_fields: true,
            max_key_size: 8 * 1024,
            max_variants: 32,
            max_entries: None,
            reads_replicas: false,
            max_inflight_bytes: 32 * 1024 * 1024,
            max_unread_body: 8 * 1024 * 1024,
            unread_timeout: Duration::from_secs(30),
            collapse_timeout: Duration::from_secs(5),
            pace: Pace { heartbeat: Duration::from_secs(1) },
            origin: OriginCare::default(),
            purges: PurgeSettings::default(),
            near: NearSettings::default(),
            store_timeout: Duration::from_millis(100),
            least_store_timeout: None,
            store_write_timeout: Duration::from_secs(2),
            cache_name: CacheName::default(),
            cache_status_key: false,
            clock: Clock::system(),
        }
    }
}

/// Shows no password and calls no closure.
impl fmt::Debug for CacheConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheConfig")
            .field("redis", &self.redis)
            .field("namespace", &self.namespace)
            .field("rules", &self.rules)
            .field("ttl_jitter", &self.ttl_jitter)
            .field("max_key_size", &self.max_key_size)
            .field("max_variants", &self.max_variants)
            .field("max_entries", &self.max_entries)
            .field("reads_replicas", &self.reads_replicas)
            .field("max_unread_body", &self.max_unread_body)
            .field("unread_timeout", &self.unread_timeout)
            .field("collapse_timeout", &self.collapse_timeout)
            .field("lease_heartbeat", &self.pace.heartbeat)
            .field("origin", &self.origin)
            .field("purges", &self.purges)
            .field("near", &self.near)
            .field("max_inflight_bytes", &self.max_inflight_bytes)
            .field("store_timeout", &self.store_timeout)
            .field("least_store_timeout", &self.least_store_timeout)
            .field("store_write_timeout", &self.store_write_timeout)
            .field("cache_name", &self.cache_name)
            .finish_non_exhaustive()
    }
}
