//! How many responses there may be, for those who think in entries: the least recently used go.
//!
//! Lists of what there is, by when it was last used, are beside the responses, each for a share of the keys, so that none
//! grows long and a cluster has them in different slots. Whoever writes a response notes it and removes what is too
//! many, off the client's path; a use is noted once a minute for each key and process. What ends by itself stays in its list
//! until it is the least recently used. So there are no more than so many, and at times fewer.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;

use super::connection::Access;
use super::lanes::LaneName;
use super::scripts::{Call, ENTRIES};
use super::{RedisStore, codec};
use crate::clock::Clock;
use crate::collapse::recent::RecentKeys;
use crate::error::{StoreError, StoreErrorKind};
use crate::key::CacheKey;
use crate::store::entry::Cell;
use crate::store::{CellKey, Store};

/// The bound, what was noted as used just now, and what was written and is yet to be noted.
#[derive(Debug)]
pub(super) struct Capacity {
    lists: u64,
    /// In each of them.
    most: u64,
    used: RecentKeys,
    written: Mutex<Vec<Name>>,
    has_warned: AtomicBool,
}

/// What a list has of a response: the digest of its primary key, and its variant.
type Name = Vec<u8>;

/// Names that are being noted. Those that could not be are noted the next time.
struct Noting<'a> {
    capacity: &'a Capacity,
    names: Vec<Name>,
}

/// Responses in one list, about.
const IN_A_LIST: u64 = 256;
const MOST_LISTS: u64 = 1024;
/// No more are removed for one that is written, or as many as are written at a time.
const AT_ONCE: usize = 16;
/// What is written while nothing can be noted, beyond that, is never counted.
const MOST_UNNOTED: usize = 4096;
/// A list that nobody writes to lives longer than all that is in it.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl Capacity {
    pub(super) fn new(entries: u64) -> Self {
        let lists = (entries / IN_A_LIST).clamp(1, MOST_LISTS);
        let most = (entries / lists).max(1);
        Self { lists, most, used: RecentKeys::new(), written: Mutex::default(), has_warned: AtomicBool::new(false) }
    }

    fn list_of(&self, name: &[u8]) -> u64 {
        let start = name.first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(start) % self.lists
    }

    /// No panic can leave it half changed.
    fn written(&self) -> MutexGuard<'_, Vec<Name>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Noting<'_> {
        Noting { capacity: self, names: mem::take(&mut *self.written()) }
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        if !self.names.is_empty() {
            let mut written = self.capacity.written();
            written.append(&mut self.names);
            written.truncate(MOST_UNNOTED);
        }
    }
}

impl RedisStore {
    /// Whether a use is worth noting; it is taken to be.
    pub(crate) fn counts_use(&self, key: CellKey<'_>, clock: &Clock) -> bool {
        let Some(capacity) = &self.capacity else { return false };
        let now = clock.now();
        let variant = key.variant.map(|variant| CacheKey::from_parts([&key.primary.digest()[..], variant.as_bytes()]));
        let used = variant.as_ref().unwrap_or(key.primary);
        let is_news = !capacity.used.has(used, now);
        if is_news {
            capacity.used.note(used, now);
        }
        is_news
    }

    /// Notes that it was used.
    pub(crate) async fn note_use(&self, key: CellKey<'_>) -> Result<(), StoreError> {
        let Some(capacity) = &self.capacity else { return Ok(()) };
        self.note(capacity, &[&name(key)], "XX").await
    }

    /// It was written, and is to be noted when there is time.
    pub(super) fn has_written(&self, key: CellKey<'_>, cell: &Cell) {
        if let (Some(capacity), Cell::Response(_)) = (&self.capacity, cell) {
            let mut written = capacity.written();
            if written.len() < MOST_UNNOTED {
                written.push(name(key));
            }
        }
    }

    /// Whether something that was written is yet to be noted.
    pub(crate) fn has_unnoted(&self) -> bool {
        self.capacity.as_ref().is_some_and(|capacity| !capacity.written().is_empty())
    }

    /// Notes what was written. It is there, whatever comes of this.
    pub(crate) async fn note_written(&self) {
        let Some(capacity) = &self.capacity else { return };
        let mut noting = capacity.begin();
        // In a cluster one list may be away, and the others not.
        let mut failed = Noting { capacity, names: Vec::new() };
        while let Some(first) = noting.names.last() {
            let list = capacity.list_of(first);
            let is_of_list = |name: &mut Name| capacity.list_of(name) == list;
            let mut together = Noting { capacity, names: noting.names.extract_if(.., is_of_list).collect() };
            let names: Vec<_> = together.names.iter().map(Vec::as_slice).collect();
            match self.note(capacity, &names, "NX").await {
                Ok(()) => {
                    together.names.clear();
                    capacity.has_warned.store(false, Ordering::Relaxed);
                }
                Err(error) => {
                    failed.names.append(&mut together.names);
                    if !capacity.has_warned.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            store.error = %error,
                            "responses are stored and not counted, so there may be more than max_entries: are the \
                             scripts granted that docs/redis.md names?"
                        );
                    }
                }
            }
        }
    }

    /// Notes responses of one list, and removes what is too many.
    async fn note(&self, capacity: &Capacity, names: &[&[u8]], what: &str) -> Result<(), StoreError> {
        let Some(first) = names.first() else { return Ok(()) };
        let list = self.layout.entries(capacity.lists, capacity.list_of(first));
        let mut call = Call::of(&ENTRIES, 1);
        call.key(list).number(capacity.most).millis(LIFETIME).argument(what).number(names.len().max(AT_ONCE));
        for name in names {
            call.argument(name);
        }
        let answer = self.connection.run(LaneName::Heads, Access::Script { writes: true }, &call).await;
        let Value::Array(last) = answer.map_err(|failure| failure.error)? else {
            return Err(StoreError::new(StoreErrorKind::Protocol));
        };
        // They are in no list by now: those that are not removed are noted anew.
        let names = last.into_iter().filter_map(|entry| match entry {
            Value::BulkString(entry) => Some(entry),
            _ => None,
        });
        let mut removing = Noting { capacity, names: names.collect() };
        while let Some(entry) = removing.names.last() {
            self.evict(entry).await?;
            removing.names.pop();
        }
        Ok(())
    }

    /// Removes a response, unless there is something else; what comes between the look and the removal is fetched once more.
    /// Who reads its body has the time for that.
    async fn evict(&self, entry: &[u8]) -> Result<(), StoreError> {
        let Some(cell) = self.layout.entry(entry) else { return Ok(()) };
        let Some(Ok(value)) = self.read(&cell, self.max_head_value).await? else { return Ok(()) };
        let Ok(value) = self.opened(&cell, value, self.max_head_value) else { return Ok(()) };
        let Ok((primary, _, Cell::Response(response))) = codec::decode_whatever(&value) else { return Ok(()) };
        self.unlink([cell]).await?;
        self.counters.evicted.increment();
        match response.body.chunks() {
            Some(chunks) => self.discard(CellKey::base(&primary), chunks).await,
            None => Ok(()),
        }
    }
}

fn name(key: CellKey<'_>) -> Name {
    let variant = key.variant.as_ref().map_or(&[][..], |variant| &variant.as_bytes()[..]);
    [key.primary.digest(), variant].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_together_have_room_for_as_many_and_no_more() {
        for entries in [1, 2, 255, 256, 10_000, 1 << 20, 1 << 40] {
            let Capacity { lists, most, .. } = Capacity::new(entries);
            assert!(lists * most <= entries && lists * (most + 1) > entries, "{entries}: {lists} of {most}");
        }
        assert_eq!(Capacity::new(0).most, 1);
    }
}
