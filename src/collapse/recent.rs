//! A short, bounded memory of keys.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::key::CacheKey;
use crate::key::digests::{Recall, recall};
use crate::semantics::time::Timestamp;

/// Keys of which something was found out a short time ago.
pub(crate) struct RecentKeys {
    until: Recall<[u8; CacheKey::DIGEST_LEN], Timestamp>,
    span: Duration,
    /// Of most kinds of news there is never any.
    has_any: AtomicBool,
}

const MAX_KEYS: usize = 8 * 1024;
const REMEMBERED: Duration = Duration::from_secs(60);

impl RecentKeys {
    pub(crate) fn new() -> Self {
        Self::lasting(REMEMBERED)
    }

    /// For so long.
    pub(crate) fn lasting(span: Duration) -> Self {
        Self { until: recall(MAX_KEYS), span, has_any: AtomicBool::new(false) }
    }

    /// Once there was some.
    pub(crate) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Acquire)
    }

    pub(crate) fn has(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.has_any() && self.until.get(key.digest()).is_some_and(|until| until > now)
    }

    pub(crate) fn note(&self, key: &CacheKey, now: Timestamp) {
        self.until.insert(*key.digest(), now.plus(self.span));
        if !self.has_any() {
            self.has_any.store(true, Ordering::Release);
        }
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        if self.has_any() {
            self.until.remove(key.digest());
        }
    }
}

impl std::fmt::Debug for RecentKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecentKeys").field("count", &self.until.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn a_key_is_remembered_for_a_minute_or_until_it_is_forgotten() {
        let (keys, key) = (RecentKeys::new(), CacheKey::from("k"));
        assert!(!keys.has(&key, NOW));
        keys.note(&key, NOW);
        assert!(keys.has(&key, NOW.plus(Duration::from_secs(59))));
        assert!(!keys.has(&key, NOW.plus(Duration::from_secs(60))));
        keys.forget(&key);
        assert!(!keys.has(&key, NOW));
    }

    #[test]
    fn the_memory_is_bounded() {
        let keys = RecentKeys::new();
        for n in 0..3 * MAX_KEYS {
            keys.note(&CacheKey::from(n.to_string()), NOW);
        }
        assert!(keys.until.len() <= MAX_KEYS);
    }
}
