//! How often one client is served: a token bucket for each.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::keyed::DashMapStateStore;
use governor::{NotUntil, Quota, RateLimiter};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use super::retry_after;
use crate::answer::{Answer, Refusal};
use crate::units::duration;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Buckets that are kept before those that are full again are given up.
const MOST_CLIENTS: usize = 64 * 1024;
/// A bucket is full again after so long at the latest.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
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
        each if each.is_zero() || each.subsec_nanos() > 0 || each > Duration::from_secs(86_400) => {
            Err("the time of a rate is in whole seconds, of a day at most".to_owned())
        }
        each => Ok(Rate { requests, each }),
    }
}

/// The buckets of all clients.
pub(crate) struct Limits {
    v4: Buckets,
    v6: Buckets,
    clock: DefaultClock,
    period: Duration,
    burst: u32,
    policy: HeaderValue,
}

/// Those of one family of addresses.
struct Buckets {
    limiter: RateLimiter<u128, DashMapStateStore<u128>, DefaultClock, StateInformationMiddleware>,
    /// Bits of an address that tell its bucket; fewer of them where there are more clients than are kept: neighbours share
    /// one then.
    prefixes: [u32; 3],
    crowd: AtomicUsize,
    passed: AtomicU32,
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
    /// # Errors
    ///
    /// A sentence about a rate whose bucket takes longer to fill than anybody lives.
    pub(crate) fn new(rate: Rate, burst: Option<u32>) -> Result<Self, String> {
        let period = (rate.each / rate.requests.get()).max(Duration::from_nanos(1));
        let burst = burst.and_then(NonZeroU32::new).unwrap_or(rate.requests);
        if period.checked_mul(burst.get()).is_none_or(|whole| whole > LONGEST) {
            return Err(
                "--rate-burst: it would take more than a year until that many may come at once again".to_owned()
            );
        }
        let quota = Quota::with_period(period).expect("a period that is not zero").allow_burst(burst);
        let policy = format!("\"client\";q={};w={}", rate.requests, rate.each.as_secs());
        let policy = HeaderValue::from_str(&policy).expect("digits make a field value");
        // An IPv6 client has a whole /64 to itself.
        let [v4, v6] = [[32, 24, 16], [64, 48, 32]].map(|prefixes| Buckets::new(quota, prefixes));
        Ok(Self { v4, v6, clock: DefaultClock::default(), period, burst: burst.get(), policy })
    }

    /// Takes one from the client's bucket; the answer where there is none.
    pub(crate) fn check(&self, client: IpAddr) -> Result<Standing, Box<Answer>> {
        let taken = match client.to_canonical() {
            IpAddr::V4(address) => self.v4.take(u128::from(address.to_bits()) << 96),
            IpAddr::V6(address) => self.v6.take(address.to_bits()),
        };
        match taken {
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
}

// ===== impl Buckets =====

impl Buckets {
    fn new(quota: Quota, prefixes: [u32; 3]) -> Self {
        let limiter = RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>();
        Self { limiter, prefixes, crowd: AtomicUsize::new(0), passed: AtomicU32::new(0) }
    }

    /// `address` begins at the highest bit.
    fn take(&self, address: u128) -> Result<StateSnapshot, NotUntil<<DefaultClock as Clock>::Instant>> {
        if self.passed.fetch_add(1, Ordering::Relaxed) % COUNTED == COUNTED - 1 {
            self.tidy();
        }
        let prefix = self.prefixes[self.crowd.load(Ordering::Relaxed).min(self.prefixes.len() - 1)];
        self.limiter.check_key(&(address & (u128::MAX << (128 - prefix))))
    }

    /// Gives up buckets that are full again; with more than are kept all the same, larger networks share one.
    fn tidy(&self) {
        if self.limiter.len() > MOST_CLIENTS {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let (crowd, count) = (self.crowd.load(Ordering::Relaxed), self.limiter.len());
        let next = match count {
            _ if count > MOST_CLIENTS => (crowd + 1).min(self.prefixes.len() - 1),
            _ if count < MOST_CLIENTS / 2 => crowd.saturating_sub(1),
            _ => crowd,
        };
        self.crowd.store(next, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("policy", &self.policy).finish_non_exhaustive()
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
    use std::net::Ipv6Addr;

    use super::*;

    fn limits(text: &str, burst: Option<u32>) -> Limits {
        Limits::new(rate(text).expect(text), burst).expect("it is full again within a year")
    }

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
        for senseless in ["", "100", "0/1m", "-1/1m", "1/0", "1/2d", "a/1m", "1/48h", "9/100ms"] {
            assert!(rate(senseless).is_err(), "{senseless}");
        }
    }

    #[test]
    fn each_client_has_a_bucket_of_its_own_that_is_emptied() {
        let limits = self::limits("3/1h", None);
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
        assert_eq!(self::limits("9/1h", Some(1)).check(one).expect("there is one").left, 0);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let limits = self::limits("2/1h", None);
        assert!(limits.check(v6(1)).is_ok() && limits.check(v6(2)).is_ok());
        assert!(limits.check(v6(3)).is_err());
        assert!(limits.check(v6(1 << 64)).is_ok());
    }

    /// Their neighbours share buckets with them then, and there are no more than so many. Who has an address of the other
    /// family is none of them.
    #[test]
    fn a_crowd_of_clients_is_bounded_and_costs_others_nothing() {
        let limits = self::limits("1/24h", None);
        for network in 0..8 * MOST_CLIENTS as u128 {
            let _ = limits.check(v6(network << 64));
        }
        assert_eq!((limits.v6.crowd.load(Ordering::Relaxed), limits.v4.crowd.load(Ordering::Relaxed)), (2, 0));
        let count = limits.v6.limiter.len();
        assert!(count <= MOST_CLIENTS + 3 * COUNTED as usize, "{count}");
        for host in 1..100 {
            assert!(limits.check([192, 0, 2, host].into()).is_ok());
        }
    }

    #[test]
    fn a_bucket_that_is_never_full_again_is_refused() {
        assert!(Limits::new(rate("1/24h").unwrap(), Some(300_000)).is_err());
        assert!(Limits::new(rate("1/24h").unwrap(), Some(300)).is_ok());
    }
}
