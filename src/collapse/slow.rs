//! Bodies that the store has and does not give in time.

use std::time::Duration;

use super::remembered::Remembered;
use crate::key::CacheKey;
use crate::semantics::time::Timestamp;

/// A bounded memory of keys whose bodies came late. Such a body is left alone for a second, and for twice as long each
/// time that it comes late again, so that one stall costs little and a body that never comes is waited for seldom.
#[derive(Debug)]
pub(crate) struct SlowBodies {
    pauses: Remembered<Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    length: Duration,
    until: Timestamp,
}

impl Pause {
    /// A clock that was set back prolongs none.
    fn is_on(self, now: Timestamp) -> bool {
        self.until > now && self.until <= now.plus(LONGEST)
    }
}

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

impl SlowBodies {
    pub(crate) fn new() -> Self {
        Self { pauses: Remembered::new() }
    }

    /// Whether the body is left alone now.
    pub(crate) fn has(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.pauses.of(key).is_some_and(|pause| pause.is_on(now))
    }

    /// Somebody waited for it in vain.
    pub(crate) fn came_late(&self, key: &CacheKey, now: Timestamp) {
        let last = self.pauses.of(key).filter(|pause| pause.until.plus(LONGEST) > now);
        // Others who waited at the same time say nothing new.
        if !last.is_some_and(|last| last.is_on(now)) {
            self.pause(key, last.map_or(FIRST, |last| (last.length * 2).min(LONGEST)), now);
        }
    }

    /// It ceased to come after its beginning had been sent: that is an error for a client.
    pub(crate) fn broke_off(&self, key: &CacheKey, now: Timestamp) {
        self.pause(key, LONGEST, now);
    }

    /// It came, to somebody who had begun at `begun`: what others met since then stays.
    pub(crate) fn came(&self, key: &CacheKey, begun: Timestamp) {
        if !self.has(key, begun) {
            self.pauses.forget(key);
        }
    }

    fn pause(&self, key: &CacheKey, length: Duration, now: Timestamp) {
        self.pauses.note(key, Pause { length, until: now.plus(length) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(millis: u64) -> Timestamp {
        NOW.plus(Duration::from_millis(millis))
    }

    #[test]
    fn a_body_is_left_alone_for_twice_as_long_each_time_it_comes_late() {
        let (slow, key) = (SlowBodies::new(), CacheKey::from("k"));
        let mut now = NOW;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(!slow.has(&key, now));
            slow.came_late(&key, now);
            let until = now.plus(Duration::from_secs(seconds));
            assert!(slow.has(&key, Timestamp::from_millis(until.as_millis() - 1)), "{seconds}");
            now = until;
        }
        assert!(!slow.has(&key, now));
    }

    #[test]
    fn many_who_wait_at_once_count_as_one() {
        let (slow, key) = (SlowBodies::new(), CacheKey::from("k"));
        (0..200).for_each(|_| slow.came_late(&key, NOW));
        assert!(slow.has(&key, after(999)) && !slow.has(&key, after(1000)));
    }

    #[test]
    fn a_body_that_came_and_one_that_was_late_long_ago_begin_anew() {
        let (slow, key) = (SlowBodies::new(), CacheKey::from("k"));
        slow.came_late(&key, NOW);
        slow.came(&key, after(999));
        assert!(slow.has(&key, after(999)), "who had begun before says nothing of what was met since");
        slow.came(&key, after(1000));
        slow.came_late(&key, after(1000));
        assert!(!slow.has(&key, after(2000)));
        slow.came_late(&key, after(62_000));
        assert!(!slow.has(&key, after(63_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_prolongs_no_pause() {
        let (slow, key) = (SlowBodies::new(), CacheKey::from("k"));
        slow.came_late(&key, after(600_000));
        assert!(!slow.has(&key, NOW));
    }

    #[test]
    fn a_body_that_broke_off_is_left_alone_for_a_minute() {
        let (slow, key) = (SlowBodies::new(), CacheKey::from("k"));
        slow.broke_off(&key, NOW);
        assert!(slow.has(&key, after(59_999)) && !slow.has(&key, after(60_000)));
    }
}
