//! The seam: what the cache asks of a store, and the two stores that answer.
//!
//! A store keeps *cells*. The cell of a primary key holds either the one response that the key has, or, where responses
//! vary, an index of variants, each in a cell of its own. [`select`] turns that into look-ups and fills, once for all
//! stores; a store itself only reads, writes and removes cells.

pub(crate) mod entry;
mod judged;
pub(crate) mod memory;
pub(crate) mod near;
pub(crate) mod redis;
pub(crate) mod select;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

pub use self::memory::MemoryStore;
pub(crate) use self::redis::address::RedisAddress;
pub(crate) use self::redis::provision::Provision;
pub(crate) use self::redis::seal::Seals;
pub(crate) use self::redis::{Hearing, RedisStore};
pub(crate) use self::select::{Kept, Lookup, Put};

use self::entry::{Attended, Cell, Chunks, Live};
use self::near::NearCache;
use crate::clock::{Clock, Stopwatch};
use crate::collapse::lease::{Claim, Instance, Leased, Release, Token};
use crate::doctor::{Finding, Severity};
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::semantics::vary::VariantKey;

/// The name of a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellKey<'a> {
    pub(crate) primary: &'a CacheKey,
    pub(crate) variant: Option<VariantKey>,
}

impl<'a> CellKey<'a> {
    pub(crate) fn base(primary: &'a CacheKey) -> Self {
        Self { primary, variant: None }
    }

    pub(crate) fn variant(primary: &'a CacheKey, variant: VariantKey) -> Self {
        Self { primary, variant: Some(variant) }
    }
}

/// Whether this request has looked before: what is wrong with a cell is counted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    First,
    Again,
}

/// A lease for the fetch of what a cell holds, and who has it or wants it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseKey<'a> {
    pub(crate) cell: CellKey<'a>,
    pub(crate) token: &'a Token,
}

/// A cell that is to be written, and how long it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'a> {
    pub(crate) key: CellKey<'a>,
    pub(crate) cell: &'a Cell,
    pub(crate) ttl: Duration,
}

/// What a store can do. It gives up nothing of its own accord: deadlines are the caller's.
pub(crate) trait Store: Send + Sync {
    /// The cell, verified to belong to this key, or nothing. A large body is still to be read: [chunk by
    /// chunk](Self::read_chunk), or [whole](Self::load).
    fn get(&self, key: CellKey<'_>, sight: Sight) -> impl Future<Output = Result<Option<Cell>, StoreError>> + Send;

    /// The same for housekeeping: nothing is counted.
    fn peek(&self, key: CellKey<'_>) -> impl Future<Output = Result<Option<Cell>, StoreError>> + Send;

    /// The first of some chunks of a body that [`get`](Self::get) found, or nothing if it is damaged, or any of them gone.
    fn open(
        &self,
        key: CellKey<'_>,
        chunks: Chunks,
        wanted: &[u32],
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// One chunk, or nothing if it is gone or damaged. This waits for its turn where the store is busy: a body that is
    /// being sent has to go on. From then on it waits no longer than `limit`.
    fn read_chunk(
        &self,
        key: CellKey<'_>,
        chunks: Chunks,
        index: u32,
        limit: Duration,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// All chunks of a body that [`get`](Self::get) found, or nothing if any is gone or damaged.
    fn load(
        &self,
        key: CellKey<'_>,
        chunks: Chunks,
    ) -> impl Future<Output = Result<Option<Vec<Bytes>>, StoreError>> + Send;

    /// Writes some chunks of a body whose head is yet to be written. Without a head they end soon.
    fn write_chunks(
        &self,
        key: CellKey<'_>,
        generation: u128,
        first: u32,
        chunks: &[Vec<Bytes>],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Writes a cell that ends by itself after `ttl`.
    fn set(&self, key: CellKey<'_>, cell: &Cell, ttl: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives a cell that exists `ttl` to live from now on, whatever it holds; `false` if it does not exist.
    fn renew(&self, key: CellKey<'_>, ttl: Duration) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes a cell, whether it exists or not; where wanted with the lease for it, whoever has that.
    fn remove(&self, key: CellKey<'_>, with_lease: bool) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Lets the chunks of a body that no head refers to any more end soon.
    fn discard(&self, key: CellKey<'_>, chunks: Chunks) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes a lease, if nobody has it, and the service did not fail in a way that can be borne, or may be tried again
    /// `now`; where it `looks`, whether the key has anything at all is seen in the same round trip. A store of one process
    /// has none.
    fn lease(&self, lease: LeaseKey<'_>, claim: Claim) -> impl Future<Output = Result<Leased, StoreError>> + Send;

    /// Tells all for a while that a key's responses are for nobody else, if nothing is stored for it.
    fn mark_uncacheable(&self, key: &CacheKey) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends what was told of a failure of the service, under whatever lease.
    fn forget_failure(&self, key: &CacheKey) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives a lease that is still held `lifetime` from now on, and what is [told](Self::announce) of the fetch, whether
    /// it is or not; `false` if the lease is lost.
    fn renew_lease(
        &self,
        lease: LeaseKey<'_>,
        lifetime: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Keeps a lease that is still held, and lets nobody wait for it any longer.
    fn yield_lease(
        &self,
        lease: LeaseKey<'_>,
        lifetime: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives a lease back, if it is still held. Where something was told of the fetch that is not to be had, it is told
    /// no longer.
    fn release(
        &self,
        lease: LeaseKey<'_>,
        release: Release,
        is_told: bool,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Tells the other processes for `lifetime` what there is of a fetch under a lease; whether any of them wants it.
    fn announce(
        &self,
        lease: LeaseKey<'_>,
        live: &Live,
        lifetime: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// What another process tells of its fetch. It knows for `lifetime` that somebody waits for it or reads it.
    fn attend(
        &self,
        lease: LeaseKey<'_>,
        lifetime: Duration,
    ) -> impl Future<Output = Result<Attended, StoreError>> + Send;

    /// Ceases to tell of a fetch, unless somebody wants it: then it is `false`.
    fn withdraw(&self, lease: LeaseKey<'_>) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Writes cells and gives the lease back, all in one step; `false`, and nothing is written, if it is lost or, where
    /// that is wanted, the last cell is not there.
    fn commit(
        &self,
        lease: LeaseKey<'_>,
        writes: &[Write<'_>],
        last_is_there: bool,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// The store of a layer.
#[derive(Debug)]
pub(crate) enum AnyStore {
    Redis(RedisStore),
    Memory(MemoryStore),
}

impl AnyStore {
    /// Whether a look-up is worth its wait. A store that is known to be away is not asked.
    pub(crate) fn is_available(&self) -> bool {
        self.is_available_at(Stopwatch::start())
    }

    /// The same for who has started a stopwatch a moment ago.
    pub(crate) fn is_available_at(&self, now: Stopwatch) -> bool {
        match self {
            Self::Redis(store) => store.is_available(now),
            Self::Memory(_) => true,
        }
    }

    /// Whether the use of a response is to be [noted](Self::note_use).
    pub(crate) fn counts_use(&self, key: CellKey<'_>, clock: &Clock) -> bool {
        match self {
            Self::Redis(store) => store.counts_use(key, clock),
            Self::Memory(_) => false,
        }
    }

    pub(crate) async fn note_use(&self, key: CellKey<'_>) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.note_use(key).await,
            Self::Memory(_) => Ok(()),
        }
    }

    /// Whether something that was written is yet to be [noted](Self::note_written).
    pub(crate) fn has_unnoted(&self) -> bool {
        match self {
            Self::Redis(store) => store.has_unnoted(),
            Self::Memory(_) => false,
        }
    }

    pub(crate) async fn note_written(&self) {
        match self {
            Self::Redis(store) => store.note_written().await,
            Self::Memory(_) => {}
        }
    }

    /// What a look-up may take at present, where that is not fixed.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Redis(store) => store.deadline(),
            Self::Memory(_) => None,
        }
    }

    /// Whether writes are taken at present, by the server that has the key.
    pub(crate) fn takes_writes(&self, key: &CacheKey) -> bool {
        match self {
            Self::Redis(store) => store.takes_writes(key),
            Self::Memory(_) => true,
        }
    }

    /// The length of the chunks in which a long body is written; `None` where a body is kept whole.
    pub(crate) fn chunk_size(&self) -> Option<usize> {
        match self {
            Self::Redis(_) => usize::try_from(Chunks::SIZE).ok(),
            Self::Memory(_) => None,
        }
    }

    fn near(&self) -> Option<&NearCache> {
        match self {
            Self::Redis(store) => store.near(),
            Self::Memory(_) => None,
        }
    }

    /// Whether there is a memory tier in front of the store.
    pub(crate) fn has_near(&self) -> bool {
        self.near().is_some()
    }

    /// Nothing under this key, or with its variants, is answered from memory that was there or is being read.
    pub(crate) fn forget_near(&self, key: &CacheKey) {
        if let Some(near) = self.near() {
            near.forget(CellKey::base(key));
        }
    }

    /// The octets of what is kept in front of the store.
    pub(crate) fn near_octets(&self) -> u64 {
        self.near().map_or(0, NearCache::octets)
    }

    /// Who takes leases here.
    pub(crate) fn instance(&self) -> Option<Instance> {
        match self {
            Self::Redis(store) => Some(store.instance()),
            Self::Memory(_) => None,
        }
    }

    /// The chunks in which a body of this length is written that comes with its head.
    pub(crate) fn chunks_for(&self, generation: u128, length: u64) -> Option<Chunks> {
        match self {
            Self::Redis(_) => RedisStore::takes_chunks_for(length).then_some(Chunks { generation, length }),
            Self::Memory(_) => None,
        }
    }

    /// Hears from now on when a lease for a key is given back, where that is told.
    pub(crate) fn hear(&self, key: &CacheKey) -> Option<Hearing> {
        match self {
            Self::Redis(store) => Some(store.hear(key)),
            Self::Memory(_) => None,
        }
    }

    /// What is to be said of the store and of what it is granted.
    pub(crate) async fn diagnose(&self) -> Vec<Finding> {
        match self {
            Self::Redis(store) => store.diagnose().await,
            Self::Memory(_) => {
                let says = "this process's memory: nobody else shares it, and it ends with the process";
                vec![Finding::new("store", Severity::Fine, says)]
            }
        }
    }

    /// Resolves when the store answers, or with an error.
    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.ready().await,
            Self::Memory(_) => Ok(()),
        }
    }
}

impl Store for AnyStore {
    async fn get(&self, key: CellKey<'_>, sight: Sight) -> Result<Option<Cell>, StoreError> {
        self.look_up(key, sight).await
    }

    async fn peek(&self, key: CellKey<'_>) -> Result<Option<Cell>, StoreError> {
        match self {
            Self::Redis(store) => store.peek(key).await,
            Self::Memory(store) => store.peek(key).await,
        }
    }

    async fn open(&self, key: CellKey<'_>, chunks: Chunks, wanted: &[u32]) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Redis(store) => store.open(key, chunks, wanted).await,
            Self::Memory(store) => store.open(key, chunks, wanted).await,
        }
    }

    async fn read_chunk(
        &self,
        key: CellKey<'_>,
        chunks: Chunks,
        index: u32,
        limit: Duration,
    ) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Redis(store) => store.read_chunk(key, chunks, index, limit).await,
            Self::Memory(store) => store.read_chunk(key, chunks, index, limit).await,
        }
    }

    async fn load(&self, key: CellKey<'_>, chunks: Chunks) -> Result<Option<Vec<Bytes>>, StoreError> {
        match self {
            Self::Redis(store) => store.load(key, chunks).await,
            Self::Memory(store) => store.load(key, chunks).await,
        }
    }

    async fn write_chunks(
        &self,
        key: CellKey<'_>,
        generation: u128,
        first: u32,
        chunks: &[Vec<Bytes>],
    ) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.write_chunks(key, generation, first, chunks).await,
            Self::Memory(store) => store.write_chunks(key, generation, first, chunks).await,
        }
    }

    async fn set(&self, key: CellKey<'_>, cell: &Cell, ttl: Duration) -> Result<(), StoreError> {
        let _changing = self.near().map(|near| near.changing([key]));
        match self {
            Self::Redis(store) => store.set(key, cell, ttl).await,
            Self::Memory(store) => store.set(key, cell, ttl).await,
        }
    }

    async fn renew(&self, key: CellKey<'_>, ttl: Duration) -> Result<bool, StoreError> {
        match self {
            Self::Redis(store) => store.renew(key, ttl).await,
            Self::Memory(store) => store.renew(key, ttl).await,
        }
    }

    async fn remove(&self, key: CellKey<'_>, with_lease: bool) -> Result<(), StoreError> {
        let _changing = self.near().map(|near| near.changing([key]));
        match self {
            Self::Redis(store) => store.remove(key, with_lease).await,
            Self::Memory(store) => store.remove(key, with_lease).await,
        }
    }

    async fn discard(&self, key: CellKey<'_>, chunks: Chunks) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.discard(key, chunks).await,
            Self::Memory(store) => store.discard(key, chunks).await,
        }
    }

    async fn lease(&self, lease: LeaseKey<'_>, claim: Claim) -> Result<Leased, StoreError> {
        match self {
            Self::Redis(store) => store.lease(lease, claim).await,
            Self::Memory(store) => store.lease(lease, claim).await,
        }
    }

    async fn mark_uncacheable(&self, key: &CacheKey) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.mark_uncacheable(key).await,
            Self::Memory(store) => store.mark_uncacheable(key).await,
        }
    }

    async fn forget_failure(&self, key: &CacheKey) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.forget_failure(key).await,
            Self::Memory(store) => store.forget_failure(key).await,
        }
    }

    async fn renew_lease(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<bool, StoreError> {
        match self {
            Self::Redis(store) => store.renew_lease(lease, lifetime).await,
            Self::Memory(store) => store.renew_lease(lease, lifetime).await,
        }
    }

    async fn yield_lease(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.yield_lease(lease, lifetime).await,
            Self::Memory(store) => store.yield_lease(lease, lifetime).await,
        }
    }

    async fn release(&self, lease: LeaseKey<'_>, release: Release, is_told: bool) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.release(lease, release, is_told).await,
            Self::Memory(store) => store.release(lease, release, is_told).await,
        }
    }

    async fn announce(&self, lease: LeaseKey<'_>, live: &Live, lifetime: Duration) -> Result<bool, StoreError> {
        match self {
            Self::Redis(store) => store.announce(lease, live, lifetime).await,
            Self::Memory(store) => store.announce(lease, live, lifetime).await,
        }
    }

    async fn attend(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<Attended, StoreError> {
        match self {
            Self::Redis(store) => store.attend(lease, lifetime).await,
            Self::Memory(store) => store.attend(lease, lifetime).await,
        }
    }

    async fn withdraw(&self, lease: LeaseKey<'_>) -> Result<bool, StoreError> {
        match self {
            Self::Redis(store) => store.withdraw(lease).await,
            Self::Memory(store) => store.withdraw(lease).await,
        }
    }

    async fn commit(&self, lease: LeaseKey<'_>, writes: &[Write<'_>], last_is_there: bool) -> Result<bool, StoreError> {
        let _changing = self.near().map(|near| near.changing(writes.iter().map(|write| write.key)));
        match self {
            Self::Redis(store) => store.commit(lease, writes, last_is_there).await,
            Self::Memory(store) => store.commit(lease, writes, last_is_there).await,
        }
    }
}
