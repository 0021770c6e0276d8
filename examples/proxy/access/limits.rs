//! How often one client is served: a token bucket for each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use super::retry_after;
use crate::answer::{Answer, Refusal};
use crate::units::duration;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Buckets that are kept before those that are full again are given up.
const MOST_CLIENTS: usize = 64 * 1024;
/// How many requests may pass until they are counted.
const COUNTED: u32 = 4096;

/// So many requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    requests: NonZeroU32,
    each: Duration,
}

/// Reads `100/1m`.
///
/// # Errors
///
/// A sentence that says what is expected.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let expected = || "expected a number of requests and a time, such as 100/1m".to_owned();
    let (requests, each) = text.split_once('/').ok_or_else(expected)?;
    let requests = requests.trim().parse().map_err(|_| expected())?;
    // `/s` is `/1s`.
    let each = each.trim();
    let each =
        if each.starts_with(|first: char| first.is_ascii_alphabetic()) { format!("1{each}") } else { each.to_owned() };
    match duration(&each)? {
        each if each.is_zero() || each > Duration::from_secs(86_400) => Err(expected()),
        each => Ok(Rate { requests, each }),
    }
}

/// The buckets of all clients.
pub(crate) struct Limits {
    buckets: RateLimiter<IpAddr, DashMapStateStore<IpAddr>, DefaultClock, StateInformationMiddleware>,
    clock: DefaultClock,
    period: Duration,
    burst: u32,
    policy: HeaderValue,
    passed: AtomicU32,
    /// With more clients than are kept, neighbours share a bucket.
    is_crowded: AtomicBool,
}

/// What is left to a client.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    policy: HeaderValue,
    left: u32,
    until_full: Duration,
}

// ===== impl Limits =====

impl Limits {
    pub(crate) fn new(rate: Rate, burst: Option<u32>) -> Self {
        let period = (rate.each / rate.requests.get()).max(Duration::from_nanos(1));
        let burst = burst.and_then(NonZeroU32::new).unwrap_or(rate.requests);
        let quota = Quota::with_period(period).expect("a period that is not zero").allow_burst(burst);
        let buckets = RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>();
        let policy = format!("\"client\";q={};w={}", rate.requests, rate.each.as_secs().max(1));
        let policy = HeaderValue::from_str(&policy).expect("digits make a field value");
        let (passed, is_crowded) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { buckets, clock: DefaultClock::default(), period, burst: burst.get(), policy, passed, is_crowded }
    }

    /// Takes one from the client's bucket; the answer where there is none.
    pub(crate) fn check(&self, client: IpAddr) -> Result<Standing, Box<Answer>> {
        if self.passed.fetch_add(1, Ordering::Relaxed) % COUNTED == COUNTED - 1 {
            self.tidy();
        }
        match self.buckets.check_key(&bucket_of(client, self.is_crowded.load(Ordering::Relaxed))) {
            Ok(state) => Ok(self.standing(state.remaining_burst_capacity())),
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                let mut answer =
                    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address").answer();
                self.standing(0).tell(answer.headers_mut());
                Err(Box::new(retry_after(answer, wait)))
            }
        }
    }

    fn standing(&self, left: u32) -> Standing {
        let until_full = self.period.saturating_mul(self.burst.saturating_sub(left));
        Standing { policy: self.policy.clone(), left, until_full }
    }

    /// Gives up buckets that are full again.
    fn tidy(&self) {
        if self.buckets.len() > MOST_CLIENTS {
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
        self.is_crowded.store(self.buckets.len() > MOST_CLIENTS, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// An IPv6 client has a whole /64 to itself.
fn bucket_of(client: IpAddr, is_crowded: bool) -> IpAddr {
    let (v4, v6) = if is_crowded { (16, 32) } else { (32, 64) };
    match client.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - v4))).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - v6))).into(),
    }
}

// ===== impl Standing =====

impl Standing {
    /// As the draft "RateLimit header fields for HTTP" has it.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let seconds = self.until_full.as_secs() + u64::from(self.until_full.subsec_nanos() > 0);
        let limit = format!("\"client\";r={};t={seconds}", self.left);
        headers.insert(LIMIT, HeaderValue::from_str(&limit).expect("digits make a field value"));
        headers.insert(POLICY, self.policy.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(host: u128) -> IpAddr {
        Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | host).into()
    }

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        let is = |requests, seconds| Rate {
            requests: NonZeroU32::new(requests).unwrap(),
            each: Duration::from_secs(seconds),
        };
        for (text, rate_meant) in
            [("100/1m", is(100, 60)), ("5/s", is(5, 1)), ("1/10", is(1, 10)), ("9 / 2h", is(9, 7200))]
        {
            assert_eq!(rate(text), Ok(rate_meant), "{text}");
        }
        for senseless in ["", "100", "0/1m", "-1/1m", "1/0", "1/2d", "a/1m", "1/48h"] {
            assert!(rate(senseless).is_err(), "{senseless}");
        }
    }

    #[test]
    fn each_client_has_a_bucket_of_its_own_that_is_emptied() {
        let limits = Limits::new(rate("3/1h").unwrap(), None);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let left: Vec<_> = (0..3).map(|_| limits.check(one).expect("there is one").left).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = limits.check(one).expect_err("there is none");
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()["ratelimit-policy"], "\"client\";q=3;w=3600");
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=1200).contains(&wait), "{wait}");
        assert_eq!(limits.check(other).expect("there are three").left, 2);
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert!(limits.check(mapped).is_err(), "the same in other words");
        assert_eq!(Limits::new(rate("9/1h").unwrap(), Some(1)).check(one).expect("there is one").left, 0);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let limits = Limits::new(rate("2/1h").unwrap(), None);
        assert!(limits.check(v6(1)).is_ok() && limits.check(v6(2)).is_ok());
        assert!(limits.check(v6(3)).is_err());
        assert!(limits.check(v6(1 << 64)).is_ok());
    }

    /// They share buckets then, and there are no more than so many.
    #[test]
    fn a_crowd_of_clients_is_bounded() {
        let limits = Limits::new(rate("1/24h").unwrap(), None);
        for network in 0..8 * MOST_CLIENTS as u128 {
            let _ = limits.check(v6(network << 64));
        }
        assert!(limits.is_crowded.load(Ordering::Relaxed));
        assert!(limits.buckets.len() <= MOST_CLIENTS + COUNTED as usize + 1, "{}", limits.buckets.len());
    }
}
