//! Hit-for-miss: keys whose last response might not be stored.
//!
//! For a key that may be cacheable the client's own conditions are taken off the request, so that the whole response
//! comes and can be stored; for one that is known not to be, that would only cost a transfer. The memory is short,
//! bounded, and this process's own.

use std::time::Duration;

use quick_cache::sync::Cache;

use crate::key::CacheKey;
use crate::semantics::storing::Refusal;
use crate::semantics::time::Timestamp;

/// Keys that were uncacheable a short time ago.
pub(crate) struct UncacheableKeys {
    until: Cache<[u8; CacheKey::DIGEST_LEN], Timestamp>,
}

const MAX_KEYS: usize = 8 * 1024;
const REMEMBERED: Duration = Duration::from_secs(60);

impl UncacheableKeys {
    pub(crate) fn new() -> Self {
        Self { until: Cache::new(MAX_KEYS) }
    }

    pub(crate) fn has(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.until.get(key.digest()).is_some_and(|until| until > now)
    }

    /// The key's response was refused.
    pub(crate) fn note(&self, key: &CacheKey, refusal: Refusal, now: Timestamp) {
        match refusal {
            // These say something of one request, and nothing of the key.
            Refusal::Method | Refusal::RequestNoStore => {}
            // A 304 is what a request with conditions got: were it to renew the memory, there would be no end to it.
            Refusal::Status => {}
            _ => self.until.insert(*key.digest(), now.plus(REMEMBERED)),
        }
    }

    /// The key's response may be stored.
    pub(crate) fn forget(&self, key: &CacheKey) {
        if !self.until.is_empty() {
            self.until.remove(key.digest());
        }
    }
}

impl std::fmt::Debug for UncacheableKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UncacheableKeys").field("count", &self.until.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn a_key_is_remembered_for_a_minute_or_until_it_becomes_cacheable() {
        let (keys, key) = (UncacheableKeys::new(), CacheKey::from("k"));
        assert!(!keys.has(&key, NOW));
        keys.note(&key, Refusal::Private, NOW);
        assert!(keys.has(&key, NOW.plus(Duration::from_secs(59))));
        assert!(!keys.has(&key, NOW.plus(Duration::from_secs(60))));
        keys.forget(&key);
        assert!(!keys.has(&key, NOW));
    }

    #[test]
    fn what_speaks_of_one_request_is_not_held_against_the_key() {
        let (keys, key) = (UncacheableKeys::new(), CacheKey::from("k"));
        for refusal in [Refusal::Method, Refusal::RequestNoStore, Refusal::Status] {
            keys.note(&key, refusal, NOW);
        }
        assert!(!keys.has(&key, NOW));
    }

    #[test]
    fn the_memory_is_bounded() {
        let keys = UncacheableKeys::new();
        for n in 0..3 * MAX_KEYS {
            keys.note(&CacheKey::from(n.to_string()), Refusal::Private, NOW);
        }
        assert!(keys.until.len() <= MAX_KEYS);
    }
}
