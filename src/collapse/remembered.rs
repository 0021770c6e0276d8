//! A bounded memory of what was found out of keys.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::key::CacheKey;
use crate::key::digests::{Recall, recall};

/// What is known of keys, of the newest and of those that are asked for; of most kinds of news there is never any, and
/// then nobody looks for it.
pub(crate) struct Remembered<V> {
    by_key: Recall<[u8; CacheKey::DIGEST_LEN], V>,
    has_any: AtomicBool,
}

/// Of more keys than this, some are forgotten.
pub(crate) const MAX_KEYS: usize = 8 * 1024;

impl<V: Clone> Remembered<V> {
    pub(crate) fn new() -> Self {
        Self { by_key: recall(MAX_KEYS), has_any: AtomicBool::new(false) }
    }

    /// Once there was some.
    pub(crate) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Acquire)
    }

    pub(crate) fn of(&self, key: &CacheKey) -> Option<V> {
        if self.has_any() { self.by_key.get(key.digest()) } else { None }
    }

    pub(crate) fn note(&self, key: &CacheKey, news: V) {
        // First: who looks once it is there is not to pass it by.
        if !self.has_any() {
            self.has_any.store(true, Ordering::Release);
        }
        self.by_key.insert(*key.digest(), news);
    }

    /// What was known of it.
    pub(crate) fn forget(&self, key: &CacheKey) -> Option<V> {
        if self.has_any() { self.by_key.remove(key.digest()).map(|(_, news)| news) } else { None }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}

impl<V> fmt::Debug for Remembered<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembered").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_known_until_it_is_forgotten() {
        let (remembered, key) = (Remembered::new(), CacheKey::from("k"));
        assert_eq!((remembered.has_any(), remembered.of(&key), remembered.forget(&key)), (false, None, None));
        remembered.note(&key, 1);
        remembered.note(&key, 2);
        assert_eq!((remembered.has_any(), remembered.of(&CacheKey::from("other"))), (true, None));
        assert_eq!((remembered.of(&key), remembered.forget(&key), remembered.of(&key)), (Some(2), Some(2), None));
    }

    #[test]
    fn the_memory_is_bounded() {
        let remembered = Remembered::new();
        for n in 0..3 * MAX_KEYS {
            remembered.note(&CacheKey::from(n.to_string()), n);
        }
        assert!(remembered.len() <= MAX_KEYS);
    }
}
