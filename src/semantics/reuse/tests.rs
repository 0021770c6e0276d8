use super::*;
use crate::semantics::staleness::{Grace, StalePermission};
use crate::semantics::tests::rules;
use http::{HeaderMap, HeaderValue, Method};

const T0: Timestamp = Timestamp::from_millis(1_000_000_000_000);

impl Stored for Freshness {
    fn freshness(&self) -> &Freshness {
        self
    }

    fn is_whole(&self) -> bool {
        true
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn freshness() -> Freshness {
    Freshness {
        lifetime: seconds(60),
        corrected_initial_age: seconds(10),
        response_time: T0,
        stale: StalePermission::default(),
        always_validate: false,
    }
}

/// The age of a hit and whether it is refreshed, or why there is none.
fn judge(
    freshness: Freshness,
    seconds_later: u64,
    cache_control: &str,
    rules: &Rules,
) -> Result<(u64, Refresh), ForwardReason> {
    let mut headers = HeaderMap::new();
    if !cache_control.is_empty() {
        headers.insert("cache-control", HeaderValue::from_str(cache_control).unwrap());
    }
    let request = PresentedRequest { method: &Method::GET, headers: &headers };
    match decide(&request, Found::Response(freshness), T0.plus(seconds(seconds_later)), rules) {
        Decision::Hit(reuse, _) => {
            assert_eq!(reuse.ttl.as_secs(), 60 - i64::try_from(reuse.age.as_secs()).unwrap());
            Ok((reuse.age.as_secs(), reuse.refresh))
        }
        Decision::Forward(reason, stored) => {
            assert!(stored.is_some(), "what was found may yet be of use");
            Err(reason)
        }
        Decision::Unsatisfiable(reason) => Err(reason),
    }
}

fn at(seconds_later: u64, cache_control: &str) -> Result<u64, ForwardReason> {
    judge(freshness(), seconds_later, cache_control, &rules()).map(|(age, _)| age)
}

#[test]
fn a_response_is_fresh_until_its_age_reaches_its_lifetime() {
    assert_eq!(at(0, ""), Ok(10));
    assert_eq!(at(49, ""), Ok(59));
    assert_eq!(at(50, ""), Err(ForwardReason::Stale));
    assert_eq!(at(5_000_000, ""), Err(ForwardReason::Stale));
}

#[test]
fn request_directives_make_the_cache_stricter() {
    for line in ["no-cache", "No-Cache", "max-age=0", "max-age=19", "max-age=x", "min-fresh=41", "min-fresh=x"] {
        assert_eq!(at(10, line), Err(ForwardReason::Request), "{line}");
    }
    for line in ["max-age=20", "min-fresh=40", "no-store", "no-transform", "max-stale", "max-stale=9999"] {
        assert_eq!(at(10, line), Ok(20), "{line}");
    }
}

#[test]
fn an_operator_may_leave_request_directives_unheard() {
    let rules = Rules { obeys_request_directives: false, ..rules() };
    assert_eq!(judge(freshness(), 10, "no-cache, max-age=0", &rules), Ok((20, Refresh::NotNeeded)));
    assert_eq!(judge(freshness(), 60, "max-stale", &rules), Err(ForwardReason::Stale));
}

#[test]
fn max_stale_accepts_what_the_response_does_not_forbid() {
    assert_eq!(at(55, "max-stale"), Ok(65));
    assert_eq!(at(55, "max-stale=5"), Ok(65));
    assert_eq!(at(55, "max-stale=4"), Err(ForwardReason::Stale));
    assert_eq!(at(55, "max-stale=5, max-age=60"), Err(ForwardReason::Request));
    assert_eq!(at(55, "max-stale, min-fresh=1"), Err(ForwardReason::Request));
}

#[test]
fn max_stale_revives_nothing_that_demands_validation() {
    let forbidden =
        Freshness { stale: StalePermission { forbidden: true, ..StalePermission::default() }, ..freshness() };
    let no_cache = Freshness { always_validate: true, ..freshness() };
    for line in ["max-stale", "max-stale=9999"] {
        assert_eq!(judge(forbidden, 60, line, &rules()), Err(ForwardReason::Stale), "{line}");
        assert_eq!(judge(no_cache, 0, line, &rules()), Err(ForwardReason::Stale), "{line}");
    }
}

#[test]
fn a_stale_response_is_sent_while_it_is_validated_if_it_or_the_operator_says_so() {
    let allowing = Freshness {
        stale: StalePermission { while_revalidate: seconds(10), ..StalePermission::default() },
        ..freshness()
    };
    assert_eq!(judge(allowing, 49, "", &rules()), Ok((59, Refresh::NotNeeded)));
    assert_eq!(judge(allowing, 59, "", &rules()), Ok((69, Refresh::InBackground)));
    assert_eq!(judge(allowing, 60, "", &rules()), Err(ForwardReason::Stale));
    assert_eq!(judge(allowing, 59, "no-cache", &rules()), Err(ForwardReason::Request));
    let grace = Rules { grace: Grace { while_revalidate: seconds(20), if_error: Duration::ZERO }, ..rules() };
    assert_eq!(judge(freshness(), 60, "", &grace), Ok((70, Refresh::InBackground)));
}

#[test]
fn only_if_cached_is_never_forwarded() {
    assert_eq!(at(0, "only-if-cached"), Ok(10));
    let request = |line: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static(line));
        headers
    };
    let decided = |headers: &HeaderMap, found| {
        decide(&PresentedRequest { method: &Method::GET, headers }, found, T0.plus(seconds(60)), &rules())
    };
    let headers = request("only-if-cached");
    assert_eq!(decided(&headers, Found::Response(freshness())), Decision::Unsatisfiable(ForwardReason::Stale));
    assert_eq!(decided(&headers, Found::UriMiss), Decision::Unsatisfiable(ForwardReason::UriMiss));
    assert_eq!(decided(&headers, Found::Unavailable), Decision::Unsatisfiable(ForwardReason::Miss));
}

#[test]
fn an_entry_from_the_future_is_not_trusted() {
    let future = Freshness { response_time: T0.plus(seconds(6)), ..freshness() };
    assert_eq!(judge(future, 0, "max-stale", &rules()), Err(ForwardReason::Stale));
}
