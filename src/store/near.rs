//! What this process has read of Redis lately, in its own memory: answers that ask nobody.
//!
//! An entry ends by its own freshness, or by the purge clock; nothing else is needed to keep it right. So it is used only
//! while the clock is known well enough, and while that was read from the server that the entry came from.

use std::sync::Arc;

use http::HeaderMap;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::CellKey;
use super::entry::{Cell, StoredResponse};
use super::memory::content_weight;
use crate::key::CacheKey;
use crate::semantics::fields::wire_size;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;

/// Cells, up to a number of octets; the least useful go first (S3-FIFO).
#[derive(Debug)]
pub(crate) struct NearCache {
    cells: Cache<Name, Slot, ByOctets>,
    max_entry: u64,
}

/// A cell is verified to be the key's before it comes here: the digest tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name {
    digest: [u8; CacheKey::DIGEST_LEN],
    variant: Option<VariantKey>,
}

#[derive(Clone, Debug)]
struct Slot {
    cell: Cell,
    /// The connection over which it was read.
    connection: u64,
}

#[derive(Clone, Debug)]
struct ByOctets;

/// What a cell takes besides its content: the slot, the name, the response's own struct, and what allocators round up.
const OVERHEAD: u64 = 640;

impl NearCache {
    pub(crate) fn new(max_octets: u64, max_entry: u64) -> Self {
        // An estimate for the tables, which grow by need.
        let items = usize::try_from(max_octets / 4096).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        Self { cells: Cache::with_weighter(items, max_octets, ByOctets), max_entry }
    }

    /// The octets in use.
    pub(crate) fn octets(&self) -> u64 {
        self.cells.weight()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Keeps what was read over this connection, if it is of a kind, and of a size, to be kept.
    pub(crate) fn keep(&self, key: CellKey<'_>, cell: &Cell, connection: u64) {
        let is_kept = match cell {
            Cell::Response(response) => response.body.is_loaded() && response.body.len() <= self.max_entry,
            Cell::Index(_) => true,
            Cell::Search(_) | Cell::Epoch(_) | Cell::Uncacheable => false,
        };
        if is_kept {
            self.cells.insert(Name::of(key), Slot { cell: cell.clone(), connection });
        }
    }

    /// Something else is written in its place, or it is removed.
    pub(crate) fn forget(&self, key: CellKey<'_>) {
        self.cells.remove(&Name::of(key));
    }

    /// The newest response that a request selects, if all that it may select are here.
    pub(crate) fn look_up(
        &self,
        key: &CacheKey,
        request: &HeaderMap,
        now: Timestamp,
        connection: u64,
    ) -> Option<(Arc<StoredResponse>, Option<VariantKey>)> {
        let index = match self.get(CellKey::base(key), connection)? {
            Cell::Response(response) => return Some((response, None)),
            Cell::Index(index) => index,
            Cell::Search(_) | Cell::Epoch(_) | Cell::Uncacheable => return None,
        };
        let mut newest: Option<(Arc<StoredResponse>, VariantKey)> = None;
        for variant in index.candidates(request, now) {
            let Cell::Response(response) = self.get(CellKey::variant(key, variant), connection)? else { return None };
            let received = response.freshness.response_time;
            if newest.as_ref().is_none_or(|(best, _)| best.freshness.response_time <= received) {
                newest = Some((response, variant));
            }
        }
        newest.map(|(response, variant)| (response, Some(variant)))
    }

    fn get(&self, key: CellKey<'_>, connection: u64) -> Option<Cell> {
        self.cells.get(&Name::of(key)).filter(|slot| slot.connection == connection).map(|slot| slot.cell)
    }
}

impl Name {
    fn of(key: CellKey<'_>) -> Self {
        Self { digest: *key.primary.digest(), variant: key.variant }
    }
}

impl Weighter<Name, Slot> for ByOctets {
    fn weight(&self, _: &Name, slot: &Slot) -> u64 {
        // The body is a part of the value that was read, which has the fields in it as well.
        let again = match &slot.cell {
            Cell::Response(response) => wire_size(&response.headers) as u64,
            Cell::Index(_) | Cell::Search(_) | Cell::Epoch(_) | Cell::Uncacheable => 0,
        };
        OVERHEAD + content_weight(&slot.cell) + again
    }
}
