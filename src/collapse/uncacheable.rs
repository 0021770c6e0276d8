//! Hit-for-miss: keys whose last response might not be stored.
//!
//! For a key that may be cacheable the client's own conditions are taken off the request, so that the whole response
//! comes and can be stored; for one that is known not to be, that would only cost a transfer. The memory is short
//! and bounded. It is this process's own; what it finds out under a lease it tells the others by a marker in the store.

use super::recent::RecentKeys;
use crate::key::CacheKey;
use crate::semantics::storing::Refusal;
use crate::semantics::time::Timestamp;

/// Keys that were uncacheable a short time ago.
#[derive(Debug)]
pub(crate) struct UncacheableKeys(RecentKeys);

impl UncacheableKeys {
    pub(crate) fn new() -> Self {
        Self(RecentKeys::new())
    }

    pub(crate) fn has(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.0.has(key, now)
    }

    /// The key's response was refused; whether that says something of the key.
    pub(crate) fn note(&self, key: &CacheKey, refusal: Refusal, now: Timestamp) -> bool {
        match refusal {
            // These say something of one request, and nothing of the key.
            Refusal::Method | Refusal::RequestNoStore => false,
            // A 304 is what a request with conditions got: were it to renew the memory, there would be no end to it.
            Refusal::Status => false,
            _ => {
                self.0.note(key, now);
                true
            }
        }
    }

    /// Another process says so.
    pub(crate) fn heard(&self, key: &CacheKey, now: Timestamp) {
        self.0.note(key, now);
    }

    /// The key's response may be stored.
    pub(crate) fn forget(&self, key: &CacheKey) {
        self.0.forget(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_of_one_request_is_not_held_against_the_key() {
        let (keys, key, now) = (UncacheableKeys::new(), CacheKey::from("k"), Timestamp::from_millis(1));
        for refusal in [Refusal::Method, Refusal::RequestNoStore, Refusal::Status] {
            assert!(!keys.note(&key, refusal, now));
        }
        assert!(!keys.has(&key, now));
        assert!(keys.note(&key, Refusal::Private, now));
        assert!(keys.has(&key, now));
    }
}
