//! How long Redis takes at present, and how long it is waited for: as in TCP (RFC 6298), by a smoothed round trip and its
//! deviation, within bounds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a server takes. Updates that meet may lose one another.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The smoothed round trip and its deviation, in µs, in one half each; zero before anything is known.
    known: AtomicU64,
    least: Duration,
    most: Duration,
}

/// A look-up may take several round trips, and a body more than a head.
const TRIPS: u64 = 8;

impl Pace {
    pub(crate) fn new(least: Duration, most: Duration) -> Self {
        Self { known: AtomicU64::new(0), least: least.min(most), most }
    }

    /// What a look-up may take.
    pub(crate) fn deadline(&self) -> Duration {
        match parts(self.known.load(Ordering::Relaxed)) {
            (0, _) => self.most,
            (trip, deviation) => Duration::from_micros(TRIPS * (trip + 4 * deviation)).clamp(self.least, self.most),
        }
    }

    pub(crate) fn answered(&self, after: Duration) {
        let after = micros(after).max(1);
        let known = match parts(self.known.load(Ordering::Relaxed)) {
            (0, _) => whole(after, after / 2),
            (trip, deviation) => {
                let deviation = (3 * deviation + trip.abs_diff(after)) / 4;
                whole(((7 * trip + after) / 8).max(1), deviation)
            }
        };
        self.known.store(known, Ordering::Relaxed);
    }

    /// It was waited for in vain: the next is given twice as long.
    pub(crate) fn missed(&self) {
        let (trip, deviation) = parts(self.known.load(Ordering::Relaxed));
        let most = micros(self.most);
        self.known.store(whole((2 * trip).min(most), (2 * deviation).min(most)), Ordering::Relaxed);
    }
}

fn micros(span: Duration) -> u64 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX).into()
}

fn parts(known: u64) -> (u64, u64) {
    (known >> 32, known & u64::from(u32::MAX))
}

fn whole(trip: u64, deviation: u64) -> u64 {
    let half = |number: u64| number.min(u32::MAX.into());
    half(trip) << 32 | half(deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(5);
    const MOST: Duration = Duration::from_millis(200);

    #[test]
    fn a_quick_server_is_waited_for_less_and_a_slow_one_to_the_bound() {
        let pace = Pace::new(LEAST, MOST);
        assert_eq!(pace.deadline(), MOST, "nothing is known");
        (0..100).for_each(|_| pace.answered(Duration::from_micros(100)));
        assert_eq!(pace.deadline(), LEAST);
        (0..100).for_each(|_| pace.answered(Duration::from_millis(4)));
        let steady = pace.deadline();
        assert!(steady >= Duration::from_millis(32) && steady < Duration::from_millis(40), "{steady:?}");
        (0..100).for_each(|number| pace.answered(Duration::from_millis(4 + 4 * (number % 2))));
        assert!(pace.deadline() > 2 * steady, "{:?}", pace.deadline());
        (0..100).for_each(|_| pace.answered(Duration::from_secs(10_000)));
        assert_eq!(pace.deadline(), MOST);
    }

    #[test]
    fn what_was_waited_for_in_vain_is_given_longer_each_time() {
        let pace = Pace::new(LEAST, MOST);
        (0..100).for_each(|_| pace.answered(Duration::from_millis(1)));
        let mut last = pace.deadline();
        while last < MOST {
            pace.missed();
            assert!(pace.deadline() > last);
            last = pace.deadline();
        }
        (0..100).for_each(|_| pace.missed());
        (0..100).for_each(|_| pace.answered(Duration::from_millis(1)));
        assert!(pace.deadline() < MOST / 4, "{:?}", pace.deadline());
    }

    #[test]
    fn bounds_that_cross_are_one() {
        assert_eq!(Pace::new(MOST, LEAST).deadline(), LEAST);
    }
}
