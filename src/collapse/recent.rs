//! A short, bounded memory of keys.

use std::time::Duration;

use super::remembered::Remembered;
use crate::key::CacheKey;
use crate::semantics::time::Timestamp;

/// Keys of which something was found out a short time ago.
#[derive(Debug)]
pub(crate) struct RecentKeys {
    until: Remembered<Timestamp>,
    span: Duration,
}

const REMEMBERED: Duration = Duration::from_secs(60);

impl RecentKeys {
    pub(crate) fn new() -> Self {
        Self::lasting(REMEMBERED)
    }

    /// For so long.
    pub(crate) fn lasting(span: Duration) -> Self {
        Self { until: Remembered::new(), span }
    }

    /// Once there was some.
    pub(crate) fn has_any(&self) -> bool {
        self.until.has_any()
    }

    pub(crate) fn has(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.until.of(key).is_some_and(|until| until > now)
    }

    pub(crate) fn note(&self, key: &CacheKey, now: Timestamp) {
        self.until.note(key, now.plus(self.span));
    }

    pub(crate) fn forget(&self, key: &CacheKey) {
        self.until.forget(key);
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
}
