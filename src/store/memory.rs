//! A store in this process's memory: for one instance, for development and for tests.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use quick_cache::Weighter;
use quick_cache::sync::{EntryAction, EntryResult};

use super::entry::{Attended, Cell, Chunks, Live};
use super::{CellKey, LeaseKey, Sight, Store, Write};
use crate::clock::Clock;
use crate::collapse::lease::{Claim, Leased, Release};
use crate::config::DEFAULT_MAX_RECORDS;
use crate::error::StoreError;
use crate::key::digests::{Recall, recall_weighed};
use crate::key::{CacheKey, KeyOctets};
use crate::purge::label::{Label, Number};
use crate::purge::plane::Plane;
use crate::purge::target::Member;
use crate::semantics::fields::wire_size;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;

/// Keeps responses in memory, up to a number of octets; the least useful go first (S3-FIFO).
///
/// ```
/// use tower_redis_cache::{CacheConfig, MemoryStore, RedisCacheLayer};
///
/// let layer = RedisCacheLayer::with_store(MemoryStore::new(64 * 1024 * 1024), CacheConfig::default());
/// # drop(layer);
/// ```
///
/// Clones share their content. It is not shared between processes: for a fleet use Redis.
#[derive(Clone)]
pub struct MemoryStore {
    cells: Arc<Recall<Name, Slot, ByOctets>>,
    pub(crate) clock: Clock,
    plane: Arc<Plane>,
}

/// The whole key, not its digest alone, so that a hit compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    digest: [u8; CacheKey::DIGEST_LEN],
    variant: Option<VariantKey>,
    primary: KeyOctets,
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.digest, self.variant).hash(state);
    }
}

#[derive(Clone, Debug)]
struct Slot {
    cell: Cell,
    until: Timestamp,
}

#[derive(Clone, Debug)]
struct ByOctets;

/// What a cell takes besides its content: the maps, the pointers, the slot.
const OVERHEAD: u64 = 768;
/// What a place for a header field line takes, used or not, besides its octets.
const LINE_OVERHEAD: usize = 120;

fn fields_weight(fields: &HeaderMap) -> u64 {
    (wire_size(fields) + LINE_OVERHEAD * fields.len().max(fields.capacity())) as u64
}

pub(super) fn label_weight(label: &Label) -> u64 {
    let tags: usize = label.tags.iter().map(|tag| 16 + tag.len()).sum();
    (label.site.authority.len() + label.site.path.len() + tags) as u64
}

impl MemoryStore {
    /// A store for this many octets of responses, heads, bodies and keys counted. A response larger than a quarter of it
    /// may be refused.
    pub fn new(max_octets: u64) -> Self {
        // An estimate for the tables, which grow by need.
        let items = usize::try_from(max_octets / 8192).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        let cells = recall_weighed(items, max_octets, ByOctets, u64::MAX);
        Self { cells: Arc::new(cells), clock: Clock::system(), plane: Arc::new(Plane::own(DEFAULT_MAX_RECORDS)) }
    }

    pub(crate) fn plane(&self) -> &Plane {
        &self.plane
    }

    /// Records purges; the number of the last.
    pub(crate) fn purge(&self, members: &[Member]) -> Number {
        self.plane.record_own(members, self.clock.now().as_millis().saturating_mul(1000))
    }

    /// The octets in use.
    pub fn octets(&self) -> u64 {
        self.cells.weight()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("octets", &self.octets()).finish_non_exhaustive()
    }
}

impl Name {
    fn of(key: CellKey<'_>) -> Self {
        Self { digest: *key.primary.digest(), variant: key.variant, primary: key.primary.shared_parts() }
    }
}

impl Weighter<Name, Slot> for ByOctets {
    fn weight(&self, name: &Name, slot: &Slot) -> u64 {
        OVERHEAD + name.primary.as_slice().len() as u64 + content_weight(&slot.cell)
    }
}

/// The octets of what a cell holds.
pub(super) fn content_weight(cell: &Cell) -> u64 {
    match cell {
        Cell::Response(response) => {
            response.body.len()
                + fields_weight(&response.headers)
                + response.trailers.as_deref().map_or(0, fields_weight)
                + label_weight(&response.label)
        }
        Cell::Index(index) => {
            let names: usize = index.nominations.iter().map(|nominated| nominated.names().len()).sum();
            (index.variants.len() * 64 + (index.nominations.len() + names) * 128) as u64
        }
        Cell::Search(variances) => (variances.len() * 1024) as u64,
        // A part of the slot.
        Cell::Epoch(_) | Cell::Uncacheable => 0,
    }
}

impl Store for MemoryStore {
    async fn get(&self, key: CellKey<'_>, _: Sight) -> Result<Option<Cell>, StoreError> {
        let name = Name::of(key);
        let Some(slot) = self.cells.get(&name) else { return Ok(None) };
        if slot.until <= self.clock.now() {
            self.cells.remove(&name);
            return Ok(None);
        }
        Ok(Some(slot.cell))
    }

    async fn peek(&self, key: CellKey<'_>) -> Result<Option<Cell>, StoreError> {
        self.get(key, Sight::Again).await
    }

    /// No body is kept in chunks.
    async fn open(&self, _: CellKey<'_>, _: Chunks, _: &[u32]) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    async fn read_chunk(&self, _: CellKey<'_>, _: Chunks, _: u32, _: Duration) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    async fn load(&self, _: CellKey<'_>, _: Chunks) -> Result<Option<Vec<Bytes>>, StoreError> {
        Ok(None)
    }

    /// Bodies are kept whole: nobody asks for this.
    async fn write_chunks(&self, _: CellKey<'_>, _: u128, _: u32, _: &[Vec<Bytes>]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn set(&self, key: CellKey<'_>, cell: &Cell, ttl: Duration) -> Result<(), StoreError> {
        let until = self.clock.now().plus(ttl);
        self.cells.insert(Name::of(key), Slot { cell: cell.clone(), until });
        Ok(())
    }

    /// In one step, so that nothing that is removed meanwhile comes back.
    async fn renew(&self, key: CellKey<'_>, ttl: Duration) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let renewed = self.cells.entry(&Name::of(key), Some(Duration::ZERO), |_, slot| {
            if slot.until <= now {
                return EntryAction::Retain(false);
            }
            slot.until = slot.until.max(now.plus(ttl));
            EntryAction::Retain(true)
        });
        Ok(matches!(renewed, EntryResult::Retained(true)))
    }

    async fn remove(&self, key: CellKey<'_>, _: bool) -> Result<(), StoreError> {
        self.cells.remove(&Name::of(key));
        Ok(())
    }

    /// A body lives and dies with its head.
    async fn discard(&self, _: CellKey<'_>, _: Chunks) -> Result<(), StoreError> {
        Ok(())
    }

    async fn lease(&self, _: LeaseKey<'_>, _: Claim) -> Result<Leased, StoreError> {
        Ok(Leased::Without)
    }

    /// There is nobody to be told.
    async fn mark_uncacheable(&self, _: &CacheKey) -> Result<(), StoreError> {
        Ok(())
    }

    async fn forget_failure(&self, _: &CacheKey) -> Result<(), StoreError> {
        Ok(())
    }

    async fn renew_lease(&self, _: LeaseKey<'_>, _: Duration) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn yield_lease(&self, _: LeaseKey<'_>, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    async fn release(&self, _: LeaseKey<'_>, _: Release, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    /// There are no other processes.
    async fn announce(&self, _: LeaseKey<'_>, _: &Live, _: Duration) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn attend(&self, _: LeaseKey<'_>, _: Duration) -> Result<Attended, StoreError> {
        Ok(Attended::Silence)
    }

    async fn withdraw(&self, _: LeaseKey<'_>) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Nobody holds a lease: nothing is written under one.
    async fn commit(&self, _: LeaseKey<'_>, _: &[Write<'_>], _: bool) -> Result<bool, StoreError> {
        Ok(false)
    }
}
