//! How the Redis is reached, besides its URL.

use std::path::PathBuf;

use super::CacheConfig;
use crate::error::ConfigError;

impl CacheConfig {
    /// The password is the content of this file, without line ends, whatever the URL says; the user is that of the URL. The
    /// file, of up to 64 KiB, is read each time a connection is made, so that a new password needs no restart: connections
    /// that are there already go on. With Sentinel it is the password of the primary.
    pub fn redis_password_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.redis.set_password_file(file.into());
        self
    }

    /// The password that the sentinels ask for, in a file as above, and the user, where it is not the default one. By default
    /// they are taken to ask for none; they do not get the primary's.
    ///
    /// # Errors
    ///
    /// The URL is not one of `redis+sentinel://` or `rediss+sentinel://`.
    pub fn redis_sentinel_password_file(
        mut self,
        user: Option<&str>,
        file: impl Into<PathBuf>,
    ) -> Result<Self, ConfigError> {
        self.redis.set_sentinel_login(user.map(str::to_owned), file.into())?;
        Ok(self)
    }

    /// Looks stored responses up in replicas, chosen at random, to spare the primaries: their heads, where there is no
    /// [`near_cache`](Self::near_cache), and all chunks of large bodies but the first. What a replica has not yet, or does not
    /// say in a quarter of the time, the primary is asked for; so a response may be found for a moment that another has just
    /// replaced, and nothing that was purged, since the record of purges is read from primaries. Leases and writes go to
    /// primaries. A replica that has lost its primary serves what it has, unless Redis keeps it from that
    /// (`replica-serve-stale-data no`). In a cluster READONLY has to be granted. Not by default.
    ///
    /// # Errors
    ///
    /// The URL is not one of `redis+sentinel://`, `redis+cluster://` or their TLS forms: nobody says where replicas are.
    pub fn redis_read_from_replicas(mut self) -> Result<Self, ConfigError> {
        if !self.redis.knows_replicas() {
            let reason = "replicas are read from with redis+sentinel:// and redis+cluster://";
            return Err(ConfigError::new("redis_read_from_replicas", reason));
        }
        self.reads_replicas = true;
        Ok(self)
    }

    /// For `rediss://`: the certificates, in PEM, by which that of the server is verified, in place of those of the system
    /// (which are read all the same for each connection, and must be readable).
    ///
    /// # Errors
    ///
    /// They cannot be read, or the URL is not one of `rediss://`, `rediss+sentinel://` or `rediss+cluster://`.
    #[cfg(feature = "tls")]
    pub fn redis_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Result<Self, ConfigError> {
        self.redis.set_root_certificates(pem.into())?;
        Ok(self)
    }

    /// For `rediss://`: the certificate, with those that lead to its root, and the key, both in PEM, by which the server
    /// knows this client (mutual TLS).
    ///
    /// # Errors
    ///
    /// They cannot be read, or the URL is not one of `rediss://`, `rediss+sentinel://` or `rediss+cluster://`.
    #[cfg(feature = "tls")]
    pub fn redis_client_certificate(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Result<Self, ConfigError> {
        self.redis.set_client_certificate(certificate.into(), key.into())?;
        Ok(self)
    }

    /// Whatever is stored is authenticated with this secret, 32 octets or more at random, which only the instances know:
    /// who may write to the Redis otherwise cannot put responses there that are served (a keyed BLAKE3 of 128 bits over the
    /// key, the head and the body, 20 octets a value). What has no right seal is a miss, and counted
    /// ([`Stats::entries_forged`](crate::Stats)). It does not hide what is stored, nor keep anybody from removing it, from
    /// putting back what was there before, or from purging.
    ///
    /// The first secret writes, and all are good for reading. To change it without a miss, give the new one, with a number of
    /// its own, after the old one to all instances; then, when all know it, before it; then leave the old one out. An
    /// instance that does not know a secret takes what is sealed with it for forged, and without any for damaged.
    ///
    /// # Errors
    ///
    /// A secret of less than 32 octets, a number that was given before, or more than 16 secrets.
    pub fn entry_secret(mut self, number: u32, secret: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        self.seals.add(number, secret.as_ref())?;
        Ok(self)
    }

    /// What is stored takes less room in Redis: heads with their bodies, and the chunks of long bodies, of so many octets or
    /// more are compressed by zstd at its quickest level, where that saves an eighth at the least. Clients do not see it;
    /// it has nothing to do with `Content-Encoding`, and what comes with one is seldom worth it. Instances without the
    /// feature `zstd` take what is compressed for nothing of theirs; those with it read either, whatever they are set to.
    /// Not by default.
    #[cfg(feature = "zstd")]
    pub fn compress_at_rest(mut self, from_octets: u64) -> Self {
        self.compressed_from = Some(from_octets);
        self
    }

    /// For those whose Redis it is: sets its `maxmemory`, in octets (0: no bound), by CONFIG SET whenever a connection is
    /// made. Other users of the same server are bounded by it as well. Where CONFIG is not granted the log says so once,
    /// and [`CacheHandle::doctor`](crate::CacheHandle::doctor); caching goes on. Not set by default.
    pub fn provision_max_memory(mut self, octets: u64) -> Self {
        self.provision.set("maxmemory", octets.to_string());
        self
    }

    /// The same for `maxmemory-policy`: what goes when the memory is full.
    pub fn provision_eviction(mut self, policy: EvictionPolicy) -> Self {
        self.provision.set("maxmemory-policy", policy.as_str().to_owned());
        self
    }

    /// The same for `maxclients`: connections that Redis takes at one time. Each instance of this cache has
    /// three, in a cluster two at each primary and one more at one of them, and two at each replica that is read from.
    ///
    /// # Errors
    ///
    /// Fewer than 16.
    pub fn provision_max_clients(mut self, clients: u32) -> Result<Self, ConfigError> {
        if clients < LEAST_CLIENTS {
            return Err(ConfigError::new("provision_max_clients", "must be 16 or more"));
        }
        self.provision.set("maxclients", clients.to_string());
        Ok(self)
    }
}

/// Fewer would keep those out who might set it right.
const LEAST_CLIENTS: u32 = 16;

/// What Redis removes when its memory is full, by the names that it has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// The least frequently used of all keys: best for a Redis that is nothing but a cache.
    AllKeysLfu,
    /// The least recently used of all keys.
    AllKeysLru,
    /// The least frequently used of the keys that end by themselves, as all of this cache do: for a Redis that is shared
    /// with what must stay.
    VolatileLfu,
    /// The least recently used of them.
    VolatileLru,
    /// Those of them that end soonest.
    VolatileTtl,
    /// Nothing: once it is full, nothing new is stored.
    NoEviction,
}

impl EvictionPolicy {
    /// The name that Redis has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllKeysLfu => "allkeys-lfu",
            Self::AllKeysLru => "allkeys-lru",
            Self::VolatileLfu => "volatile-lfu",
            Self::VolatileLru => "volatile-lru",
            Self::VolatileTtl => "volatile-ttl",
            Self::NoEviction => "noeviction",
        }
    }
}
