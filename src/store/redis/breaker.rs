//! The circuit breaker: when to stop asking.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::clock::Stopwatch;

/// Opens after five failures in a row, or when half of twenty or more calls within a second failed. While it is open
/// no request asks the store; a background probe closes it again.
#[derive(Debug)]
pub(crate) struct Breaker {
    open: AtomicBool,
    in_a_row: AtomicU32,
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
        Self { open: AtomicBool::new(false), in_a_row: AtomicU32::new(0), window: Mutex::new(Window::new()) }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn succeeded(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
        self.count(false);
    }

    /// Whether the call's failure is one too many.
    pub(crate) fn failed(&self) -> bool {
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let half_failed = self.count(true);
        in_a_row >= MAX_IN_A_ROW || half_failed
    }

    /// Whether it was closed before.
    pub(crate) fn open(&self) -> bool {
        !self.open.swap(true, Ordering::AcqRel)
    }

    /// Whether it was open before.
    pub(crate) fn close(&self) -> bool {
        self.in_a_row.store(0, Ordering::Relaxed);
        if let Ok(mut window) = self.window.lock() {
            *window = Window::new();
        }
        self.open.swap(false, Ordering::AcqRel)
    }

    fn count(&self, failed: bool) -> bool {
        let Ok(mut window) = self.window.lock() else { return false };
        if window.started.elapsed() >= WINDOW {
            *window = Window::new();
        }
        window.calls += 1;
        window.failures += u32::from(failed);
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
    next: Duration,
    limit: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        Self { next: first, limit }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next.min(self.limit);
        self.next = pause * 2;
        pause.mul_f64(1.0 - fastrand::f64() / 5.0)
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
        for _ in 0..10 {
            breaker.succeeded();
            opened |= breaker.failed();
        }
        assert!(opened);
    }

    #[test]
    fn closing_forgets() {
        let breaker = Breaker::new();
        assert!((0..5).any(|_| breaker.failed()));
        assert!(breaker.open() && !breaker.open() && breaker.is_open());
        assert!(breaker.close() && !breaker.close() && !breaker.is_open());
        assert!(!breaker.failed());
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(400));
        let pauses: Vec<_> = (0..5).map(|_| backoff.next()).collect();
        for (pause, most) in pauses.iter().zip([100, 200, 400, 400, 400]) {
            let most = Duration::from_millis(most);
            assert!(*pause <= most && *pause >= most.mul_f64(0.8), "{pause:?}");
        }
    }
}
