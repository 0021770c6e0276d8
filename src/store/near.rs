//! What this process has read of Redis lately, in its own memory: answers that ask nobody.
//!
//! An entry ends by its own freshness, or by the purge clock; nothing else is needed to keep it right. So it is used only
//! while the clock is known well enough, and while that was read from the server that the entry came from.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use quick_cache::Weighter;

use super::CellKey;
use super::entry::{Cell, Chunks, StoredResponse};
use super::memory::{content_weight, label_weight};
use crate::clock::Stopwatch;
use crate::key::CacheKey;
use crate::key::digests::{Recall, Seed, recall_weighed};
use crate::semantics::fields::wire_size;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;

/// Cells, up to a number of octets; the least useful go first (S3-FIFO).
#[derive(Debug)]
pub(crate) struct NearCache {
    cells: Recall<Name, Slot, ByOctets>,
    /// How often anything was forgotten, by the first octets of the key.
    changes: Box<[AtomicU32]>,
    max_entry: u64,
    /// Whose bodies are being gathered, and since when.
    gathering: Mutex<HashMap<Name, Underway, Seed>>,
    tickets: AtomicU64,
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

/// Who gathers a body.
#[derive(Debug)]
struct Underway {
    chunks: Chunks,
    since: Stopwatch,
    ticket: u64,
}

/// When, and over which connection, a head was read: what is read of its body later may be kept as if it had come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keeping {
    pub(crate) connection: u64,
    pub(crate) changes: u32,
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
/// Of changes: keys that share one keep each other's bodies out while these are read.
const COUNTERS: usize = 16 * 1024;
/// Who has not gathered a body by then may be slow: others try as well.
const QUICK: Duration = Duration::from_secs(1);

impl NearCache {
    pub(crate) fn new(max_octets: u64, max_entry: u64) -> Self {
        // An estimate for the tables, which grow by need.
        let items = usize::try_from(max_octets / 4096).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        // Each part of the table has room for some of the longest.
        let most_parts = (max_octets / max_entry.saturating_mul(4).max(1)).max(1);
        let cells = recall_weighed(items, max_octets, ByOctets, most_parts);
        let changes = (0..COUNTERS).map(|_| AtomicU32::new(0)).collect();
        Self { cells, changes, max_entry, gathering: Mutex::default(), tickets: AtomicU64::new(0) }
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
    pub(crate) fn changes(&self, key: &CacheKey) -> u32 {
        self.changes_of(key.digest()).load(Ordering::Acquire)
    }

    fn changes_of(&self, digest: &[u8; CacheKey::DIGEST_LEN]) -> &AtomicU32 {
        &self.changes[usize::from(u16::from_le_bytes([digest[0], digest[1]])) % COUNTERS]
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

    /// Whether a response is of a size to be kept when its body has been read.
    pub(super) fn may_keep(&self, response: &StoredResponse) -> bool {
        response.body.len() <= self.max_entry
    }

    /// Lets another response go that was kept there before this one was found.
    pub(crate) fn make_way(&self, key: CellKey<'_>, found: &StoredResponse) {
        let name = Name::of(key);
        let is_another = |cell: &Cell| match cell {
            Cell::Response(kept) => {
                kept.freshness.response_time != found.freshness.response_time
                    || kept.body.chunks() != found.body.chunks()
            }
            _ => true,
        };
        if self.cells.peek(&name).is_some_and(|slot| is_another(&slot.cell)) {
            self.cells.remove(&name);
        }
    }

    /// Whether it is a response with this body that is kept.
    pub(crate) fn has_body(&self, key: CellKey<'_>, chunks: Chunks, connection: u64) -> bool {
        let is_it = |cell: &Cell| matches!(cell, Cell::Response(kept) if kept.body.chunks() == Some(chunks));
        self.cells.peek(&Name::of(key)).is_some_and(|slot| slot.connection == connection && is_it(&slot.cell))
    }

    /// A ticket for who is to gather its body, unless it is kept, or somebody is at it.
    pub(crate) fn begin_to_gather(&self, key: CellKey<'_>, chunks: Chunks, connection: u64) -> Option<u64> {
        if self.has_body(key, chunks, connection) {
            return None;
        }
        let (name, mut gathering) = (Name::of(key), self.gathering());
        // A client that is slow keeps nobody else from it.
        let is_at_it = |other: &Underway| other.chunks == chunks && other.since.elapsed() < QUICK;
        if gathering.get(&name).is_some_and(is_at_it) {
            return None;
        }
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        gathering.insert(name, Underway { chunks, since: Stopwatch::start(), ticket });
        Some(ticket)
    }

    /// Another may be at it by now.
    pub(crate) fn end_gathering(&self, key: CellKey<'_>, ticket: u64) {
        let (name, mut gathering) = (Name::of(key), self.gathering());
        if gathering.get(&name).is_some_and(|present| present.ticket == ticket) {
            gathering.remove(&name);
        }
    }

    /// Keeps it, unless it is a newer one that is kept.
    pub(crate) fn keep_gathered(&self, key: CellKey<'_>, response: Arc<StoredResponse>, keeping: Keeping) {
        let received = response.freshness.response_time;
        let is_newer = |cell: &Cell| matches!(cell, Cell::Response(kept) if kept.freshness.response_time > received);
        if !self.cells.peek(&Name::of(key)).is_some_and(|slot| is_newer(&slot.cell)) {
            self.keep(key, &Cell::Response(response), keeping);
        }
    }

    /// No panic can leave the map half changed.
    fn gathering(&self) -> MutexGuard<'_, HashMap<Name, Underway, Seed>> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
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
        // A short body is a part of the value that was read, which has all the rest in it as well.
        let again = match &slot.cell {
            Cell::Response(response) => {
                let trailers = response.trailers.as_deref().map_or(0, wire_size);
                (wire_size(&response.headers) + trailers) as u64 + label_weight(&response.label)
            }
            Cell::Index(_) | Cell::Search(_) | Cell::Epoch(_) | Cell::Uncacheable => 0,
        };
        OVERHEAD + content_weight(&slot.cell) + again + u64::from(slot.key_length)
    }
}
