//! Back-off: keys for which the service failed a moment ago.
//!
//! Where a stale response may be sent instead, those who come next have it at once; once in a span one of them tries
//! the service. The memory is short, bounded, and this process's own.

use std::time::Duration;

use quick_cache::sync::Cache;

use crate::key::CacheKey;
use crate::semantics::staleness::Trouble;
use crate::semantics::time::Timestamp;

/// Keys whose last fetch failed.
pub(crate) struct FailingKeys {
    span: Duration,
    failed: Cache<[u8; CacheKey::DIGEST_LEN], Failure>,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    trouble: Trouble,
    /// When the service is to be tried again.
    until: Timestamp,
}

/// Whether to try the service for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Due,
    /// It has just failed, in this way.
    Later(Trouble),
}

const MAX_KEYS: usize = 8 * 1024;

impl FailingKeys {
    /// Lets one attempt pass in each span; a span of zero lets all.
    pub(crate) fn new(span: Duration) -> Self {
        Self { span, failed: Cache::new(MAX_KEYS) }
    }

    /// Who hears that it is due has the attempt: others hear so when the next span is over, or the service has answered.
    pub(crate) fn attempt(&self, key: &CacheKey, now: Timestamp) -> Attempt {
        if self.failed.is_empty() {
            return Attempt::Due;
        }
        match self.failed.get(key.digest()) {
            Some(failure) if failure.until > now => Attempt::Later(failure.trouble),
            Some(failure) => {
                self.note(key, failure.trouble, now);
                Attempt::Due
            }
            None => Attempt::Due,
        }
    }

    /// The service has failed.
    pub(crate) fn note(&self, key: &CacheKey, trouble: Trouble, now: Timestamp) {
        if !self.span.is_zero() {
            self.failed.insert(*key.digest(), Failure { trouble, until: now.plus(self.span) });
        }
    }

    /// The service has answered.
    pub(crate) fn forget(&self, key: &CacheKey) {
        if !self.failed.is_empty() {
            self.failed.remove(key.digest());
        }
    }
}

impl std::fmt::Debug for FailingKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailingKeys").field("span", &self.span).field("count", &self.failed.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const SPAN: Duration = Duration::from_secs(5);

    #[test]
    fn one_attempt_is_due_in_each_span_until_the_service_answers() {
        let (keys, key) = (FailingKeys::new(SPAN), CacheKey::from("k"));
        assert_eq!(keys.attempt(&key, NOW), Attempt::Due);
        keys.note(&key, Trouble::ErrorStatus, NOW);
        let almost = NOW.plus(Duration::from_millis(4_999));
        assert_eq!(keys.attempt(&key, almost), Attempt::Later(Trouble::ErrorStatus));
        assert_eq!(keys.attempt(&CacheKey::from("other"), NOW), Attempt::Due);
        let over = NOW.plus(SPAN);
        assert_eq!(keys.attempt(&key, over), Attempt::Due);
        assert_eq!(keys.attempt(&key, over), Attempt::Later(Trouble::ErrorStatus));
        keys.forget(&key);
        assert_eq!(keys.attempt(&key, over), Attempt::Due);
    }

    #[test]
    fn a_span_of_zero_remembers_nothing() {
        let (keys, key) = (FailingKeys::new(Duration::ZERO), CacheKey::from("k"));
        keys.note(&key, Trouble::Disconnected, NOW);
        assert_eq!(keys.attempt(&key, NOW), Attempt::Due);
        assert!(keys.failed.is_empty());
    }

    #[test]
    fn the_memory_is_bounded() {
        let keys = FailingKeys::new(SPAN);
        for n in 0..3 * MAX_KEYS {
            keys.note(&CacheKey::from(n.to_string()), Trouble::Disconnected, NOW);
        }
        assert!(keys.failed.len() <= MAX_KEYS);
    }
}
