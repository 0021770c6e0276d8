//! Writes that are about to be in the store: the client has all of its response by then, and may ask for it again before
//! the store has it. This is this process's own, and has an entry for each response that is being written.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::key::CacheKey;
use crate::key::digests::Seed;

/// The keys under which something is about to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImminentWrites {
    map: Arc<Mutex<HashMap<Digest, Imminent, Seed>>>,
    /// As many as there are in the map, and those who are about to be.
    count: Arc<AtomicUsize>,
}

type Digest = [u8; CacheKey::DIGEST_LEN];

#[derive(Debug, Default)]
struct Imminent {
    writes: usize,
    ended: Arc<Notify>,
}

/// A write that is to come, until this is dropped: done or given up.
#[derive(Debug)]
pub(crate) struct ImminentWrite {
    all: ImminentWrites,
    digest: Digest,
}

impl ImminentWrites {
    pub(crate) fn begin(&self, key: &CacheKey) -> ImminentWrite {
        let digest = *key.digest();
        self.count.fetch_add(1, Ordering::AcqRel);
        self.lock().entry(digest).or_default().writes += 1;
        ImminentWrite { all: self.clone(), digest }
    }

    /// Resolves when no write is about to come any more, even where that was before it is first polled; `None` if none is.
    pub(crate) fn ended(&self, key: &CacheKey) -> Option<OwnedNotified> {
        // Most of the time there are none, and nobody need wait for his turn to learn that.
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let map = self.lock();
        // Whatever ends from now on wakes it.
        map.get(key.digest()).map(|imminent| Arc::clone(&imminent.ended).notified_owned())
    }

    /// No panic can leave the map half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Imminent, Seed>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ImminentWrite {
    fn drop(&mut self) {
        let mut map = self.all.lock();
        let Entry::Occupied(mut entry) = map.entry(self.digest) else { return };
        entry.get_mut().writes -= 1;
        if entry.get().writes == 0 {
            entry.remove().ended.notify_waiters();
        }
        drop(map);
        self.all.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn who_waits_is_woken_by_the_last_write() {
        let (imminent, key) = (ImminentWrites::default(), CacheKey::from("k"));
        assert!(imminent.ended(&key).is_none());
        let (first, second) = (imminent.begin(&key), imminent.begin(&key));
        let mut ended = pin!(imminent.ended(&key).unwrap());
        let mut has_ended = || ended.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(imminent.ended(&CacheKey::from("other")).is_none());
        drop(first);
        assert!(!has_ended());
        drop(second);
        // Another one is not waited for.
        let _third = imminent.begin(&key);
        assert!(has_ended());
        assert!(imminent.ended(&key).is_some());
    }
}
