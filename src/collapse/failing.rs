//! Back-off: keys for which the service failed a moment ago.
//!
//! Where a stale response may be sent instead, those who come next have it at once; once in a span one of them tries
//! the service. The memory is short and bounded; the other processes are told where a fetch for all of them failed.

use std::time::Duration;

use super::remembered::Remembered;
use crate::key::CacheKey;
use crate::semantics::staleness::Trouble;
use crate::semantics::time::Timestamp;

/// Keys whose last fetch failed.
#[derive(Debug)]
pub(crate) struct FailingKeys {
    span: Duration,
    failed: Remembered<Failure>,
}

/// One failure of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) trouble: Trouble,
    /// When the service is to be tried again.
    pub(crate) until: Timestamp,
}

/// The failures for which a request has something to be sent instead. One that has nothing tries the service itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bearable {
    pub(crate) error_status: bool,
    pub(crate) disconnected: bool,
}

/// Whether to try the service for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Due,
    /// It has just failed, in this way.
    Later(Trouble),
}

/// As which a failure is told.
const ERROR_STATUS: char = 'e';
const DISCONNECTED: char = 'd';

impl Failure {
    /// As it is told to other processes; `None` if it is none of theirs.
    pub(crate) fn encoded(self) -> Option<String> {
        let word = match self.trouble {
            Trouble::ErrorStatus => ERROR_STATUS,
            Trouble::Disconnected => DISCONNECTED,
            Trouble::Slow | Trouble::Busy => return None,
        };
        Some(format!("{word}{}", self.until.as_millis()))
    }

    pub(crate) fn decoded(octets: &[u8]) -> Option<Self> {
        let text = str::from_utf8(octets).ok()?;
        let trouble = match text.chars().next()? {
            ERROR_STATUS => Trouble::ErrorStatus,
            DISCONNECTED => Trouble::Disconnected,
            _ => return None,
        };
        let until = text.get(1..)?.parse().ok()?;
        Some(Self { trouble, until: Timestamp::from_millis(until) })
    }
}

impl Bearable {
    pub(crate) const ALL: Self = Self { error_status: true, disconnected: true };
    pub(crate) const NONE: Self = Self { error_status: false, disconnected: false };

    /// What the failures begin with that are meant.
    pub(crate) fn words(self) -> String {
        let words = [(self.error_status, ERROR_STATUS), (self.disconnected, DISCONNECTED)];
        words.into_iter().filter_map(|(is_meant, word)| is_meant.then_some(word)).collect()
    }
}

impl FailingKeys {
    /// Lets one attempt pass in each span; a span of zero lets all.
    pub(crate) fn new(span: Duration) -> Self {
        Self { span, failed: Remembered::new() }
    }

    /// Who hears that it is due has the attempt: others hear so when the next span is over, or the service has answered.
    pub(crate) fn attempt(&self, key: &CacheKey, now: Timestamp) -> Attempt {
        match self.failed.of(key) {
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
        if let Some(failure) = self.failure(trouble, now) {
            self.failed.note(key, failure);
        }
    }

    /// It has failed another process, whose clock may be another.
    pub(crate) fn hear(&self, key: &CacheKey, failure: Failure, now: Timestamp) {
        if failure.until > now && !self.span.is_zero() {
            let until = failure.until.min(now.plus(self.span));
            self.failed.note(key, Failure { until, ..failure });
        }
    }

    /// A failure of this moment; `None` where none is remembered.
    pub(crate) fn failure(&self, trouble: Trouble, now: Timestamp) -> Option<Failure> {
        (!self.span.is_zero()).then(|| Failure { trouble, until: now.plus(self.span) })
    }

    /// The service has answered. Whether it had failed.
    pub(crate) fn forget(&self, key: &CacheKey) -> bool {
        self.failed.forget(key).is_some()
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
    fn a_failure_is_told_as_it_was() {
        for trouble in [Trouble::ErrorStatus, Trouble::Disconnected] {
            let failure = Failure { trouble, until: NOW };
            let told = failure.encoded().unwrap();
            assert_eq!(Failure::decoded(told.as_bytes()), Some(failure));
            assert!(Bearable::ALL.words().contains(&told[..1]));
        }
        for trouble in [Trouble::Slow, Trouble::Busy] {
            assert_eq!(Failure { trouble, until: NOW }.encoded(), None);
        }
        for junk in [&b""[..], b"e", b"x1", b"e-1", b"e1x", b"e99999999999999999999999", b"\xff1", "é1".as_bytes()] {
            assert_eq!(Failure::decoded(junk), None, "{junk:?}");
        }
        let some = Bearable { error_status: false, disconnected: true };
        assert_eq!((some.words().as_str(), Bearable { disconnected: false, ..some }.words().as_str()), ("d", ""));
    }

    #[test]
    fn what_another_process_says_lasts_no_longer_than_a_span_of_ones_own() {
        let (keys, key) = (FailingKeys::new(SPAN), CacheKey::from("k"));
        let failure = Failure { trouble: Trouble::Disconnected, until: NOW.plus(3 * SPAN) };
        keys.hear(&key, failure, NOW);
        let almost = NOW.plus(Duration::from_millis(4_999));
        assert_eq!(keys.attempt(&key, almost), Attempt::Later(Trouble::Disconnected));
        assert_eq!(keys.attempt(&key, NOW.plus(SPAN)), Attempt::Due);
        let other = CacheKey::from("other");
        keys.hear(&other, Failure { until: NOW, ..failure }, NOW);
        assert_eq!(keys.attempt(&other, NOW), Attempt::Due);
    }

    #[test]
    fn a_span_of_zero_remembers_nothing() {
        let (keys, key) = (FailingKeys::new(Duration::ZERO), CacheKey::from("k"));
        keys.note(&key, Trouble::Disconnected, NOW);
        assert_eq!(keys.attempt(&key, NOW), Attempt::Due);
        assert!(!keys.failed.has_any());
    }
}
