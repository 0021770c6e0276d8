//! What this process has read of Redis lately, in its own memory: answers that ask nobody.
//!
//! An entry ends by its own freshness, or by the purge clock; nothing else is needed to keep it right. So it is used only
//! while the clock is known well enough, and while that was read from the server that the entry came from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use quick_cache::Weighter;

use super::CellKey;
use super::entry::{Cell, StoredResponse};
use super::memory::{content_weight, label_weight};
use crate::key::CacheKey;
use crate::key::digests::{Recall, recall_weighed};
use crate::semantics::fields::wire_size;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;

/// Cells, up to a number of octets; the least useful go first (S3-FIFO).
#[derive(Debug)]
pub(crate) struct NearCache {
    cells: Recall<Name, Slot, ByOctets>,
    /// How often anything was forgotten, by the first octet of the key.
    changes: [AtomicU64; 256],
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
    /// The octets of the key that the value has in it.
    key_length: u32,
}

/// When, and over which connection, a head was read: what is read of its body later may be kept as if it had come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keeping {
    pub(crate) connection: u64,
    pub(crate) changes: u64,
}

/// A change of what the store has under these names, which begins here and ends when this is dropped: what is read
/// meanwhile may be what was there before.
#[derive(Debug)]
pub(super) struct Changing<'a> {
    near: &'a NearCache,
    names: Vec<Name>,
}

#[derive(Clone, Debug)]
struct ByOctets;

/// What a cell takes besides its content: the slot, the name, the response's own struct, and what allocators round up.
const OVERHEAD: u64 = 640;

impl NearCache {
    pub(crate) fn new(max_octets: u64, max_entry: u64) -> Self {
        // An estimate for the tables, which grow by need.
        let items = usize::try_from(max_octets / 4096).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        // Each part of the table has room for some of the longest.
        let most_parts = (max_octets / max_entry.saturating_mul(4).max(1)).max(1);
        let cells = recall_weighed(items, max_octets, ByOctets, most_parts);
        Self { cells, changes: [const { AtomicU64::new(0) }; 256], max_entry }
    }

    /// The octets in use.
    pub(crate) fn octets(&self) -> u64 {
        self.cells.weight()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// What has to be asked for before a cell is read that may be [kept](Self::keep).
    pub(crate) fn changes(&self, key: &CacheKey) -> u64 {
        self.changes_of(key.digest()).load(Ordering::Acquire)
    }

    fn changes_of(&self, digest: &[u8; CacheKey::DIGEST_LEN]) -> &AtomicU64 {
        &self.changes[usize::from(digest[0])]
    }

    /// Keeps what was read over this connection, if it is of a kind, and of a size, to be kept, and nothing like it has
    /// been forgotten since.
    pub(crate) fn keep(&self, key: CellKey<'_>, cell: &Cell, Keeping { connection, changes }: Keeping) {
        let is_kept = match cell {
            Cell::Response(response) => response.body.is_loaded() && response.body.len() <= self.max_entry,
            Cell::Index(_) => true,
            Cell::Search(_) | Cell::Epoch(_) | Cell::Uncacheable => false,
        };
        if !is_kept || self.changes(key.primary) != changes {
            return;
        }
        let key_length = u32::try_from(key.primary.parts().len()).unwrap_or(u32::MAX);
        self.cells.insert(Name::of(key), Slot { cell: cell.clone(), connection, key_length });
        // Forgotten in between, it is so again.
        if self.changes(key.primary) != changes {
            self.cells.remove(&Name::of(key));
        }
    }

    /// Whether a response is of a size to be kept, and has yet to be read.
    pub(crate) fn may_keep(&self, response: &StoredResponse) -> bool {
        !response.body.is_loaded() && response.body.len() <= self.max_entry
    }

    /// Nor is it kept by those who are reading it.
    pub(crate) fn forget(&self, key: CellKey<'_>) {
        self.forget_name(&Name::of(key));
    }

    fn forget_name(&self, name: &Name) {
        self.changes_of(&name.digest).fetch_add(1, Ordering::AcqRel);
        self.cells.remove(name);
    }

    /// Something else is written in their place, or they are removed.
    pub(super) fn changing<'a>(&self, keys: impl IntoIterator<Item = CellKey<'a>>) -> Changing<'_> {
        let names: Vec<_> = keys.into_iter().map(Name::of).collect();
        names.iter().for_each(|name| self.forget_name(name));
        Changing { near: self, names }
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

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| self.near.forget_name(name));
    }
}

impl Name {
    fn of(key: CellKey<'_>) -> Self {
        Self { digest: *key.primary.digest(), variant: key.variant }
    }
}

impl Weighter<Name, Slot> for ByOctets {
    fn weight(&self, _: &Name, slot: &Slot) -> u64 {
        // The body is a part of the value that was read, which has all the rest in it as well.
        let again = match &slot.cell {
            Cell::Response(response) => {
                let trailers = response.trailers.as_ref().map_or(0, wire_size);
                (wire_size(&response.headers) + trailers) as u64 + label_weight(&response.label)
            }
            Cell::Index(_) | Cell::Search(_) | Cell::Epoch(_) | Cell::Uncacheable => 0,
        };
        OVERHEAD + content_weight(&slot.cell) + again + u64::from(slot.key_length)
    }
}
