//! How many responses there may be, for those who think in entries: the least recently used go.
//!
//! Lists of what there is, by when it was last used, are beside the responses, each for a share of the keys, so that none
//! grows long and a cluster has them in different slots. Whoever writes a response notes it and removes what is too
//! many, off the client's path; a use is noted once a minute for each key and process. What ends by itself stays in its list
//! until it is the least recently used. So there are no more than so many, and at times fewer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::Value;

use super::connection::Access;
use super::lanes::LaneName;
use super::lease::in_millis;
use super::scripts::{Call, ENTRIES};
use super::{RedisStore, codec};
use crate::collapse::recent::RecentKeys;
use crate::error::{StoreError, StoreErrorKind};
use crate::semantics::time::Timestamp;
use crate::store::entry::Cell;
use crate::store::{CellKey, Store};

/// The bound, and what was noted as used just now.
#[derive(Debug)]
pub(super) struct Capacity {
    lists: u64,
    /// In each of them.
    most: u64,
    used: RecentKeys,
    has_warned: AtomicBool,
}

/// Responses in one list, about.
const IN_A_LIST: u64 = 256;
const MOST_LISTS: u64 = 1024;
/// More are not removed at a time: so a bound that was lowered is reached step by step.
const AT_ONCE: usize = 16;
/// A list that nobody writes to lives longer than all that is in it.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl Capacity {
    pub(super) fn new(entries: u64) -> Self {
        let lists = (entries / IN_A_LIST).clamp(1, MOST_LISTS);
        Self { lists, most: (entries / lists).max(1), used: RecentKeys::new(), has_warned: AtomicBool::new(false) }
    }

    fn list_of(&self, key: CellKey<'_>) -> u64 {
        let start = key.primary.digest().first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(start) % self.lists
    }
}

impl RedisStore {
    /// Whether a use is worth noting; it is taken to be.
    pub(crate) fn counts_use(&self, key: CellKey<'_>, now: Timestamp) -> bool {
        match &self.capacity {
            Some(capacity) if !capacity.used.has(key.primary, now) => {
                capacity.used.note(key.primary, now);
                true
            }
            _ => false,
        }
    }

    /// Notes that it was used.
    pub(crate) async fn note_use(&self, key: CellKey<'_>) -> Result<(), StoreError> {
        self.note(&[key], "XX").await
    }

    /// Notes that these responses, which share a primary key, were written. They are, whatever comes of this.
    pub(super) async fn note_written(&self, keys: impl Iterator<Item = CellKey<'_>>) {
        if self.capacity.is_none() {
            return;
        }
        let keys: Vec<_> = keys.collect();
        let noted = self.note(&keys, "NX").await;
        let Some(capacity) = &self.capacity else { return };
        match noted {
            Ok(()) => capacity.has_warned.store(false, Ordering::Relaxed),
            Err(error) if !capacity.has_warned.swap(true, Ordering::Relaxed) => tracing::warn!(
                store.error = %error,
                "responses are stored and not counted, so there may be more than max_entries: are the scripts granted \
                 that the README names?"
            ),
            Err(_) => {}
        }
    }

    async fn note(&self, keys: &[CellKey<'_>], what: &str) -> Result<(), StoreError> {
        let (Some(capacity), Some(first)) = (&self.capacity, keys.first()) else { return Ok(()) };
        let list = self.layout.entries(capacity.lists, capacity.list_of(*first));
        let call = Call::of(&ENTRIES).key(list).argument(capacity.most.to_string()).argument(in_millis(LIFETIME));
        let mut call = call.argument(what).argument(AT_ONCE.to_string());
        for key in keys {
            call = call.argument(name(*key));
        }
        let answer = self.connection.run(LaneName::Heads, Access::Script { writes: true }, &call).await;
        let Value::Array(last) = answer.map_err(|failure| failure.error)? else {
            return Err(StoreError::new(StoreErrorKind::Protocol));
        };
        for entry in last {
            if let Value::BulkString(entry) = entry {
                self.evict(&entry).await?;
            }
        }
        Ok(())
    }

    /// Removes a response, unless there is something else by now. Who reads its body has the time for that.
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

/// In the list: the digest of the primary key, and the variant.
fn name(key: CellKey<'_>) -> Vec<u8> {
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
