//! The store in Redis: cells as values, large bodies as chunks beside them.

pub(crate) mod address;
mod breaker;
mod capacity;
mod chunks;
mod cluster;
mod codec;
mod commands;
mod connection;
mod doctor;
#[cfg(test)]
mod kept;
mod lanes;
mod layout;
mod lease;
mod link;
mod live;
mod pace;
mod pause;
pub(crate) mod provision;
mod purges;
mod reader;
mod readings;
mod reads;
mod repair;
mod replicas;
mod replies;
mod routes;
mod scripts;
pub(crate) mod seal;
mod sentinel;
mod slots;
#[cfg(feature = "zstd")]
mod squeeze;
mod wake;
mod writes;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use self::capacity::Capacity;
use self::codec::{INLINE_MAX, Rejection};
use self::commands::{pexpire, set_nx_px, set_px};
use self::connection::{Access, Connection};
use self::lanes::LaneName;
use self::layout::{Generation, Layout, Name};
use self::lease::Leases;
use self::link::LinkSettings;
use self::pace::Pace;
use self::purges::Purges;
use self::readings::Readings;
use self::replies::{Failure, Verdict};
use self::seal::Seals;
pub(crate) use self::wake::Hearing;
use super::entry::{Attended, Cell, Chunks, Live};
use super::near::NearCache;
use super::{CellKey, LeaseKey, Sight, Store, Write};
use crate::clock::{Clock, Stopwatch};
use crate::collapse::lease::{Claim, Leased, Release, UNCACHEABLE};
use crate::config::CacheConfig;
use crate::error::{StoreError, StoreErrorKind};
use crate::key::CacheKey;
use crate::observe::PurgeNews;
use crate::observe::counters::Counters;
use crate::purge::label::{Number, Stamp};
use crate::purge::plane::Plane;
use crate::purge::target::Member;

/// A store in Redis.
#[derive(Debug)]
pub(crate) struct RedisStore {
    connection: Connection,
    layout: Layout,
    counters: Arc<Counters>,
    max_body_size: u64,
    /// No head's value is longer, so no more of one is read.
    max_head_value: usize,
    seals: Seals,
    readings: Readings,
    /// Values of so many octets are compressed.
    #[cfg(feature = "zstd")]
    compressed_from: Option<u64>,
    /// GETRANGE is not granted: read with GET, whose answer has no bound.
    plain_get: AtomicBool,
    /// EXISTS is not granted: whether a body's chunks, or a cell, are there is not known until they are read.
    unchecked: AtomicBool,
    leases: Box<Leases>,
    purges: Purges,
    capacity: Option<Box<Capacity>>,
    near: Option<Box<NearCache>>,
    clock: Clock,
    /// What one chunk may take when its turn has come.
    is_strict: bool,
    /// For how long the others are told of a failure of the service: until one of them has tried again, in all
    /// likelihood.
    failure_memory: Duration,
}

/// Chunks outlive their head, so that a reader who has just read the head finds them.
const READER_MARGIN: Duration = Duration::from_secs(30);
/// What a label takes at the most: a number, a site and tags.
const LABEL_MAX: usize = 20 * 1024;
/// Chunks that are written in one go: 2 MiB.
const CHUNKS_AT_ONCE: usize = 8;
/// How long chunks live whose head is yet to be written: no fill takes longer.
const FILL_TTL: Duration = Duration::from_secs(15 * 60);
/// The chunks of a body outlive it for as much longer, each, for clients that are still receiving it: 1 Mbit/s.
const MARGIN_PER_CHUNK: Duration = Duration::from_secs(2);

impl RedisStore {
    pub(crate) fn new(config: &CacheConfig, counters: Arc<Counters>) -> Self {
        let layout = Layout::new(&config.namespace);
        let probe = layout.probe();
        let index_max = config.max_variants * 64 + 64 * 1024;
        // Names and lengths of fields are stored with up to six octets where the wire has four.
        let head_max =
            config.rules.max_head_size + 6 * config.rules.max_fields + config.max_key_size + 1024 + LABEL_MAX;
        let inline_max = usize::try_from(INLINE_MAX).expect("an inline body fits in memory");
        let provision = config.provision.clone();
        let patience = config.store_timeout;
        let reads_replicas = config.reads_replicas;
        let pace = config.least_store_timeout.map(|least| Arc::new(Pace::new(least, patience)));
        let settings = LinkSettings { provision, probe, patience, is_of_cluster: false, pace, reads_replicas };
        let connection = Connection::new(config.redis.clone(), settings, &layout.purges());
        let plane = Arc::new(Plane::shared(config.purges.max_records, config.purges.max_unsynced));
        let purges = Purges::new(config, connection.clone(), &layout, plane);
        Self {
            connection,
            layout,
            counters,
            max_body_size: config.rules.max_body_size,
            // A trailer section is bounded like a head.
            max_head_value: (2 * head_max + inline_max).max(index_max) + config.seals.length(),
            seals: config.seals.clone(),
            #[cfg(feature = "zstd")]
            compressed_from: config.compressed_from,
            plain_get: AtomicBool::new(false),
            unchecked: AtomicBool::new(false),
            readings: Readings::new(),
            leases: Box::new(Leases::new()),
            purges,
            capacity: config.max_entries.map(|entries| Box::new(Capacity::new(entries))),
            // In strict mode each look-up has to ask in any case.
            near: (config.near.octets > 0 && !config.purges.is_strict)
                .then(|| Box::new(NearCache::new(config.near.octets, config.near.max_entry()))),
            clock: config.clock.clone(),
            is_strict: config.purges.is_strict,
            failure_memory: config.origin.failure_backoff * 2,
        }
    }

    pub(crate) fn is_available(&self, now: Stopwatch) -> bool {
        self.purges.start(now);
        self.connection.is_available()
    }

    pub(crate) fn takes_writes(&self, key: &CacheKey) -> bool {
        self.connection.takes_writes(|| self.layout.cell(CellKey::base(key)))
    }

    /// Whether what is found at first sight may be behind. What is kept in memory may be kept for long, and so is not to be.
    pub(crate) fn reads_replicas(&self) -> bool {
        self.connection.reads_replicas() && self.near.is_none()
    }

    /// What a look-up may take at present, where that is not fixed.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.connection.deadline()
    }

    pub(crate) fn takes_chunks_for(length: u64) -> bool {
        length > INLINE_MAX
    }

    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        self.connection.ready().await
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn near(&self) -> Option<&NearCache> {
        self.near.as_deref()
    }

    pub(crate) fn plane(&self) -> &Plane {
        self.purges.plane()
    }

    pub(crate) fn purge_news(&self) -> PurgeNews {
        self.purges.news()
    }

    pub(crate) async fn purge(&self, members: &[Member]) -> Result<Number, StoreError> {
        self.purges.record(members).await
    }

    pub(crate) fn stamp(&self) -> (Stamp, Option<u64>) {
        self.purges.stamp()
    }

    /// Whether there is nothing to see to before what is found is used.
    fn knows_purges(&self) -> bool {
        let plane = self.plane();
        plane.is_denied() || (!self.is_strict && !plane.is_unread() && self.stamp().1.is_some())
    }

    /// Sees to it that something is known of purges, so that what is fetched can be stored; in strict mode, that nothing
    /// has been purged that is not known here.
    async fn know_purges(&self) -> Result<(), StoreError> {
        if self.knows_purges() {
            return Ok(());
        }
        if self.plane().is_unread() || self.stamp().1.is_none() {
            return self.plane().synced_anew().await;
        }
        match self.purges.newest().await? {
            Some(newest) if newest == self.plane().stamp() => Ok(()),
            _ => self.plane().synced_anew().await,
        }
    }

    /// The value that says that a key's responses are not for others.
    fn uncacheable(&self, key: &CacheKey) -> Vec<u8> {
        let base = CellKey::base(key);
        self.closed(&self.layout.cell(base), codec::encode(base, &Cell::Uncacheable, 0))
    }

    /// Whether values are written as they are encoded.
    fn writes_as_it_is(&self) -> bool {
        #[cfg(feature = "zstd")]
        if self.compressed_from.is_some() {
            return false;
        }
        self.seals.is_empty()
    }

    /// A value as it is written under this name.
    fn closed(&self, name: &[u8], value: Vec<u8>) -> Vec<u8> {
        #[cfg(feature = "zstd")]
        let value = match self.compressed_from {
            Some(least) if value.len() as u64 >= least => squeeze::squeeze(value),
            _ => value,
        };
        self.seals.seal(name, value)
    }

    /// The same value as it was before; one that would be longer than `most` is refused.
    #[cfg_attr(not(feature = "zstd"), allow(unused_variables))]
    fn opened(&self, name: &[u8], value: Bytes, most: usize) -> Result<Bytes, Rejection> {
        let value = self.seals.open(name, value)?;
        #[cfg(feature = "zstd")]
        let value = squeeze::unsqueeze(value, most)?;
        Ok(value)
    }

    fn reject(&self, rejection: Rejection, sight: Sight) {
        match rejection {
            _ if sight == Sight::Again => {}
            Rejection::Foreign => self.counters.entries_foreign.increment(),
            Rejection::Damaged => self.counters.entries_damaged.increment(),
            Rejection::Mismatched => self.counters.entries_mismatched.increment(),
            Rejection::Oversized => self.counters.entries_oversized.increment(),
            Rejection::Forged => self.counters.entries_forged.increment(),
        }
    }

    async fn unlink(&self, names: impl IntoIterator<Item = Name>) -> Result<(), StoreError> {
        let mut command = redis::cmd("UNLINK");
        for name in names {
            command.arg(&name[..]);
        }
        let removed = self.connection.call(LaneName::Heads, Access::Remove, &command).await;
        removed.map(|_| ()).map_err(|failure| failure.error)
    }
}

impl Store for RedisStore {
    async fn get(&self, key: CellKey<'_>, sight: Sight) -> Result<Option<Cell>, StoreError> {
        let cell = match self.knows_purges() {
            true => self.read_cell(key, sight).await,
            // In a box of its own: most look-ups need neither its room nor to move it about.
            false => {
                Box::pin(async {
                    let (cell, known) = tokio::join!(self.read_cell(key, sight), self.know_purges());
                    known.and(cell)
                })
                .await
            }
        };
        match cell? {
            None => Ok(None),
            Some(Ok(Cell::Response(response))) if response.body.len() > self.max_body_size => {
                self.reject(Rejection::Oversized, sight);
                Ok(None)
            }
            Some(Ok(cell)) => Ok(Some(cell)),
            Some(Err(rejection)) => {
                self.reject(rejection, sight);
                Ok(None)
            }
        }
    }

    async fn peek(&self, key: CellKey<'_>) -> Result<Option<Cell>, StoreError> {
        Ok(self.read_cell(key, Sight::Again).await?.and_then(Result::ok))
    }

    async fn open(&self, key: CellKey<'_>, chunks: Chunks, wanted: &[u32]) -> Result<Option<Bytes>, StoreError> {
        self.first_chunk(key, chunks, wanted).await
    }

    async fn read_chunk(
        &self,
        key: CellKey<'_>,
        chunks: Chunks,
        index: u32,
        limit: Duration,
    ) -> Result<Option<Bytes>, StoreError> {
        self.chunk(key, chunks, index, limit).await
    }

    async fn load(&self, key: CellKey<'_>, chunks: Chunks) -> Result<Option<Vec<Bytes>>, StoreError> {
        self.all_chunks(key, chunks).await
    }

    async fn write_chunks(
        &self,
        key: CellKey<'_>,
        generation: Generation,
        first: u32,
        chunks: &[Vec<Bytes>],
    ) -> Result<(), StoreError> {
        self.write_some(key, generation, first, chunks, FILL_TTL).await
    }

    async fn set(&self, key: CellKey<'_>, cell: &Cell, ttl: Duration) -> Result<(), StoreError> {
        let Some(head) = self.write_up_to_head(Write { key, cell, ttl }).await? else {
            return Err(StoreError::with_detail(StoreErrorKind::Protocol, "the body is gone"));
        };
        let command = set_px(&self.layout.cell(key), &head.value, head.ttl);
        let written = self.connection.call(LaneName::Heads, Access::Write, &command).await;
        written.map_err(|failure| failure.error)?;
        self.has_written(key, cell);
        Ok(())
    }

    /// A user who may not does as if it were done: the cell ends when it would have ended.
    async fn renew(&self, key: CellKey<'_>, ttl: Duration) -> Result<bool, StoreError> {
        let command = pexpire(&self.layout.cell(key), ttl);
        match self.connection.call(LaneName::Heads, Access::Remove, &command).await {
            Ok(reply) => Ok(reply == Value::Int(1)),
            Err(Failure { verdict: Verdict::NotGranted, .. }) => Ok(true),
            Err(failure) => Err(failure.error),
        }
    }

    async fn remove(&self, key: CellKey<'_>, with_lease: bool) -> Result<(), StoreError> {
        let (cell, lease) = (self.layout.cell(key), with_lease.then(|| self.layout.lease(key)));
        self.unlink(std::iter::once(cell).chain(lease)).await
    }

    /// Not at once: somebody may have read the head a moment ago, or be receiving the body.
    async fn discard(&self, key: CellKey<'_>, chunks: Chunks) -> Result<(), StoreError> {
        self.expire_chunks(key, chunks, lingering(chunks.length)).await.map(|_| ())
    }

    async fn lease(&self, lease: LeaseKey<'_>, claim: Claim) -> Result<Leased, StoreError> {
        self.take_lease(lease, claim).await
    }

    async fn mark_uncacheable(&self, key: &CacheKey) -> Result<(), StoreError> {
        let base = CellKey::base(key);
        let command = set_nx_px(&self.layout.cell(base), &self.uncacheable(key), UNCACHEABLE);
        let marked = self.connection.call(LaneName::Heads, Access::Write, &command).await;
        marked.map(|_| ()).map_err(|failure| failure.error)
    }

    async fn forget_failure(&self, key: &CacheKey) -> Result<(), StoreError> {
        self.unlink([self.layout.failing(CellKey::base(key))]).await
    }

    async fn renew_lease(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<bool, StoreError> {
        self.prolong_lease(lease, lifetime).await
    }

    async fn yield_lease(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<(), StoreError> {
        self.yield_held(lease, lifetime).await
    }

    async fn release(&self, lease: LeaseKey<'_>, release: Release, is_told: bool) -> Result<(), StoreError> {
        self.release_lease(lease, release, is_told).await
    }

    async fn announce(&self, lease: LeaseKey<'_>, live: &Live, lifetime: Duration) -> Result<bool, StoreError> {
        self.tell_of_fetch(lease, live, lifetime).await
    }

    async fn attend(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<Attended, StoreError> {
        self.hear_of_fetch(lease, lifetime).await
    }

    async fn withdraw(&self, lease: LeaseKey<'_>) -> Result<bool, StoreError> {
        self.cease_to_tell(lease).await
    }

    async fn commit(&self, lease: LeaseKey<'_>, writes: &[Write<'_>], last_is_there: bool) -> Result<bool, StoreError> {
        self.write_under_lease(lease, writes, last_is_there).await
    }
}

/// How much longer than its head a body is there.
fn lingering(length: u64) -> Duration {
    let chunks = u32::try_from(length.div_ceil(Chunks::SIZE)).unwrap_or(u32::MAX);
    READER_MARGIN.saturating_add(MARGIN_PER_CHUNK.saturating_mul(chunks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debugged_store_shows_no_password() {
        let config = CacheConfig::new("redis://:s3cret@127.0.0.1:1").unwrap();
        let store = RedisStore::new(&config, Arc::default());
        assert!(!format!("{store:?} {config:?}").contains("s3cret"));
    }
}
