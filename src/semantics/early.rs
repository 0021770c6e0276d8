//! When a response is refreshed though it is still fresh: shortly before its end, at random, the earlier the longer the
//! service takes for it (XFetch, Vattani et al., VLDB 2015). Clients then never wait for what many ask for, and requests
//! that come together do not all find it stale together.

use std::time::Duration;

use super::freshness::Freshness;
use super::time::Timestamp;

/// What an early refresh hangs on besides the response's freshness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odds {
    /// δ: how long the service took for the response.
    pub(crate) latency: Duration,
    /// A random number, 0 ≤ draw < 1.
    pub(crate) draw: f64,
    /// β: more than 1 refreshes earlier, less later, 0 never.
    pub(crate) beta: f64,
}

/// One response that took very long once is not fetched all the time.
const MAX_LATENCY: Duration = Duration::from_secs(30);
/// The part of the lifetime, its last tenth, before which nothing is refreshed.
const LAST_PART: u32 = 10;

/// Whether now − δ·β·ln(u) ≥ expiry, for u in (0, 1]. What is stale already is none of this.
pub(crate) fn is_due(freshness: &Freshness, now: Timestamp, odds: Odds) -> bool {
    let Some(remaining) = freshness.remaining(now) else { return false };
    if remaining > freshness.lifetime.saturating_sub(freshness.corrected_initial_age) / LAST_PART {
        return false;
    }
    let lead = -(1.0 - odds.draw).ln() * odds.beta * odds.latency.min(MAX_LATENCY).as_secs_f64();
    lead >= remaining.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::staleness::StalePermission;

    const RECEIVED: Timestamp = Timestamp::from_millis(1_000_000);

    fn fresh_for(lifetime: Duration, initial_age: Duration) -> Freshness {
        Freshness {
            lifetime,
            corrected_initial_age: initial_age,
            response_time: RECEIVED,
            stale: StalePermission::default(),
            always_validate: false,
        }
    }

    /// Of a thousand evenly drawn numbers, how many refresh so long before the end.
    fn per_mille(lifetime: Duration, left: Duration, latency: Duration, beta: f64) -> usize {
        let (freshness, now) = (fresh_for(lifetime, Duration::ZERO), RECEIVED.plus(lifetime - left));
        let draws = (0..1000).map(|n| f64::from(n) / 1000.0);
        draws.filter(|draw| is_due(&freshness, now, Odds { latency, draw: *draw, beta })).count()
    }

    #[test]
    fn the_chance_is_that_of_xfetch() {
        let [hour, second] = [3600, 1].map(Duration::from_secs);
        assert_eq!(per_mille(hour, second, second, 1.0), 367);
        assert_eq!(per_mille(hour, 2 * second, second, 1.0), 135);
        assert_eq!(per_mille(hour, 2 * second, second, 2.0), 367);
        assert_eq!(per_mille(hour, second / 100, second, 1.0), 990);
        assert_eq!(per_mille(hour, second, second, 0.0), 0);
    }

    #[test]
    fn a_service_that_answers_at_once_is_never_asked_early() {
        for left in [100, 500, 1000] {
            let (lifetime, latency) = (Duration::from_secs(10), Duration::from_millis(1));
            assert_eq!(per_mille(lifetime, Duration::from_millis(left), latency, 1.0), 0, "{left}");
        }
        assert_eq!(per_mille(Duration::from_secs(10), Duration::from_millis(1), Duration::ZERO, 1e9), 0);
    }

    #[test]
    fn nothing_is_refreshed_before_its_last_tenth() {
        let [minute, long] = [60, 600].map(Duration::from_secs);
        assert_eq!(per_mille(minute, Duration::from_millis(6001), long, 1e9), 0);
        assert_eq!(per_mille(minute, Duration::from_millis(6000), long, 1e9), 999);
        // What is left when it was received counts, not what was spent elsewhere.
        let freshness = fresh_for(minute, Duration::from_secs(50));
        let odds = Odds { latency: long, draw: 0.999, beta: 1e9 };
        assert!(!is_due(&freshness, RECEIVED.plus(Duration::from_millis(8999)), odds));
        assert!(is_due(&freshness, RECEIVED.plus(Duration::from_millis(9000)), odds));
    }

    #[test]
    fn one_slow_answer_does_not_count_for_more_than_half_a_minute() {
        let [day, half_minute, hour] = [86_400, 30, 3600].map(Duration::from_secs);
        assert_eq!(per_mille(day, half_minute, hour, 1.0), 367);
    }

    #[test]
    fn what_is_stale_is_none_of_this() {
        let minute = Duration::from_secs(60);
        assert_eq!(per_mille(minute, Duration::ZERO, minute, 1e9), 0);
    }
}
