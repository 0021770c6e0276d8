//! The circuit breaker: when to stop asking, and how long to wait before trying again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::clock::Stopwatch;

/// Counts the failures of one lane: five in a row, or half of twenty or more calls within a second, are too many.
#[derive(Debug)]
pub(crate) struct Breaker {
    in_a_row: AtomicU32,
    /// Whether the window has a failure in it: as long as it has none, a success need not be counted.
    troubled: AtomicU32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    started: Stopwatch,
    calls: u32,
    failures: u32,
}

const MAX_IN_A_ROW: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);
const MIN_CALLS: u32 = 20;

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { in_a_row: AtomicU32::new(0), troubled: AtomicU32::new(0), window: Mutex::new(Window::new()) }
    }

    pub(crate) fn succeeded(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
        if self.troubled.load(Ordering::Relaxed) != 0 {
            self.count(false);
        }
    }

    /// Whether the call's failure is one too many.
    pub(crate) fn failed(&self) -> bool {
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let half_failed = self.count(true);
        in_a_row >= MAX_IN_A_ROW || half_failed
    }

    pub(crate) fn forgive(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.troubled.store(0, Ordering::Relaxed);
        if let Ok(mut window) = self.window.lock() {
            *window = Window::new();
        }
    }

    fn count(&self, failed: bool) -> bool {
        let Ok(mut window) = self.window.lock() else { return false };
        if window.started.elapsed() >= WINDOW {
            *window = Window::new();
        }
        window.calls += 1;
        window.failures += u32::from(failed);
        self.troubled.store(window.failures, Ordering::Relaxed);
        window.calls >= MIN_CALLS && window.failures * 2 >= window.calls
    }
}

impl Window {
    fn new() -> Self {
        Self { started: Stopwatch::start(), calls: 0, failures: 0 }
    }
}

/// Growing pauses: doubled each time up to a limit, and shortened at random by up to a fifth, so that a fleet does not
/// move in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
    limit: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        Self { first, next: first, limit }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next.min(self.limit);
        self.next = pause * 2;
        pause.mul_f64(1.0 - fastrand::f64() / 5.0)
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_are_one_too_many_and_a_success_between_forgives() {
        let breaker = Breaker::new();
        assert!((0..4).all(|_| !breaker.failed()));
        breaker.succeeded();
        assert!((0..4).all(|_| !breaker.failed()));
        assert!(breaker.failed());
    }

    #[test]
    fn half_of_twenty_calls_within_a_second_are_too_many() {
        let breaker = Breaker::new();
        let mut opened = false;
        for _ in 0..15 {
            opened |= breaker.failed();
            breaker.succeeded();
        }
        assert!(opened);
    }

    #[test]
    fn one_failure_among_many_successes_is_none_too_many() {
        let breaker = Breaker::new();
        for call in 0..200 {
            if call % 10 == 0 {
                assert!(!breaker.failed());
            } else {
                breaker.succeeded();
            }
        }
    }

    #[test]
    fn what_is_forgiven_does_not_count() {
        let breaker = Breaker::new();
        assert!((0..5).any(|_| breaker.failed()));
        breaker.forgive();
        assert!(!breaker.failed());
    }

    #[test]
    fn pauses_grow_to_their_limit_until_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        let pauses: Vec<_> = (0..5).map(|_| backoff.next()).collect();
        for (pause, most) in pauses.iter().zip([100, 200, 400, 400, 400]) {
            let most = Duration::from_millis(most);
            assert!(*pause <= most && *pause >= most.mul_f64(0.8), "{pause:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
