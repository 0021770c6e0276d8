use std::time::Duration;

use super::*;
use crate::semantics::CachePolicy;
use crate::semantics::tests::{self, headers as map};

const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);

type Fields<'a> = &'a [(&'static str, &'a str)];

fn rules(policy: CachePolicy) -> Rules {
    Rules { policy, keep_stale: Duration::from_secs(1000), ..tests::rules() }
}

/// The lifetime in seconds for which a response is stored, or why it is not.
fn judge(
    request: Fields<'_>,
    status: u16,
    response: Fields<'_>,
    route: RouteRules,
    rules: &Rules,
) -> Result<u64, Refusal> {
    let (request, response) = (map(request), map(response));
    let request = PresentedRequest { method: &Method::GET, headers: &request };
    let head = ReceivedHead {
        status: StatusCode::from_u16(status).unwrap(),
        headers: &response,
        body_length: BodyLength::default(),
        represents_target: false,
        request_time: T0,
        response_time: T0,
    };
    match storability(&request, &head, &route, rules) {
        Storability::Store(storable) => Ok(storable.freshness.lifetime.as_secs()),
        Storability::Refuse(refusal) => Err(refusal),
    }
}

fn safe(request: Fields<'_>, status: u16, response: Fields<'_>) -> Result<u64, Refusal> {
    judge(request, status, response, RouteRules::default(), &rules(CachePolicy::safe()))
}

fn rfc9111(request: Fields<'_>, status: u16, response: Fields<'_>) -> Result<u64, Refusal> {
    judge(request, status, response, RouteRules::default(), &rules(CachePolicy::rfc9111()))
}

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[test]
fn what_the_response_forbids_is_not_stored_under_any_policy() {
    for (line, refusal) in [
        ("no-store, max-age=60", Refusal::NoStore),
        ("max-age=60, No-Store", Refusal::NoStore),
        ("private, max-age=60", Refusal::Private),
        ("no-cache, max-age=60", Refusal::NoCache),
        ("public, private, max-age=60", Refusal::Private),
    ] {
        assert_eq!(safe(&[], 200, &[("cache-control", line)]), Err(refusal), "{line}");
        assert_eq!(rfc9111(&[], 200, &[("cache-control", line)]), Err(refusal), "{line}");
    }
    assert_eq!(rfc9111(&[], 200, &[FRESH, ("vary", "accept, *")]), Err(Refusal::VaryStar));
    assert_eq!(rfc9111(&[("cache-control", "no-store")], 200, &[FRESH]), Err(Refusal::RequestNoStore));
}

#[test]
fn a_method_other_than_get_makes_no_entry() {
    let response = map(&[FRESH]);
    let head = ReceivedHead {
        status: StatusCode::OK,
        headers: &response,
        body_length: BodyLength::default(),
        represents_target: false,
        request_time: T0,
        response_time: T0,
    };
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        let request = PresentedRequest { method: &method, headers: &HeaderMap::new() };
        let verdict = storability(&request, &head, &RouteRules::default(), &rules(CachePolicy::rfc9111()));
        assert_eq!(verdict, Storability::Refuse(Refusal::Method), "{method}");
    }
}

#[test]
fn authorization_needs_explicit_permission_whatever_else_is_allowed() {
    let authorized: Fields<'_> = &[("authorization", "Bearer x")];
    assert_eq!(safe(authorized, 200, &[FRESH]), Err(Refusal::Authorization));
    assert_eq!(rfc9111(authorized, 200, &[FRESH]), Err(Refusal::Authorization));
    for line in ["public, max-age=60", "must-revalidate, max-age=60", "s-maxage=60"] {
        assert_eq!(safe(authorized, 200, &[("cache-control", line)]), Ok(60), "{line}");
    }
    let both = [("cache-control", "public, private, max-age=60")];
    assert_eq!(safe(authorized, 200, &both), Err(Refusal::Private));
    let mut fixed = rules(CachePolicy::safe());
    fixed.fixed_ttl = Some(Duration::from_secs(9));
    assert_eq!(judge(authorized, 200, &[FRESH], RouteRules::default(), &fixed), Err(Refusal::Authorization));
}

#[test]
fn set_cookie_is_refused_unless_the_policy_stores_it() {
    let response: Fields<'_> = &[FRESH, ("set-cookie", "a=b")];
    assert_eq!(safe(&[], 200, response), Err(Refusal::SetCookie));
    assert_eq!(rfc9111(&[], 200, response), Ok(60));
}

#[test]
fn a_request_with_a_cookie_needs_freshness_stated_by_the_response() {
    let cookie: Fields<'_> = &[("cookie", "session=1")];
    let mut rules = rules(CachePolicy::safe());
    rules.default_ttl = Some(Duration::from_secs(30));
    let judged = |request, response, route| judge(request, 200, response, route, &rules);
    assert_eq!(judged(&[], &[], RouteRules::default()), Ok(30));
    assert_eq!(judged(cookie, &[], RouteRules::default()), Err(Refusal::Cookie));
    assert_eq!(judged(cookie, &[FRESH], RouteRules::default()), Ok(60));
    assert_eq!(judged(cookie, &[], RouteRules { ttl: Some(Duration::from_secs(5)), ..RouteRules::default() }), Ok(5));
}

#[test]
fn interim_partial_and_conditional_statuses_are_not_stored() {
    for status in [100, 101, 103, 206, 304, 412, 416] {
        assert_eq!(rfc9111(&[], status, &[("cache-control", "public, max-age=60")]), Err(Refusal::Status), "{status}");
    }
}

#[test]
fn any_final_status_is_stored_with_explicit_freshness_and_none_without() {
    for status in [200, 201, 203, 204, 299, 301, 302, 307, 400, 404, 410, 418, 500, 503, 599] {
        assert_eq!(safe(&[], status, &[FRESH]), Ok(60), "{status}");
        assert_eq!(safe(&[], status, &[]), Err(Refusal::NoFreshness), "{status}");
    }
}

#[test]
fn freshness_comes_from_s_maxage_then_max_age_then_expires() {
    let date = T0.to_http_date();
    let expires = T0.plus(Duration::from_secs(40)).to_http_date();
    let with =
        |cache_control| safe(&[], 200, &[("cache-control", cache_control), ("expires", &expires), ("date", &date)]);
    assert_eq!(with("s-maxage=20, max-age=60"), Ok(20));
    assert_eq!(with("max-age=60"), Ok(60));
    assert_eq!(with("public"), Ok(40));
    assert_eq!(with("s-maxage=x, max-age=60"), Err(Refusal::Stale));
    assert_eq!(with("max-age=-1"), Err(Refusal::Stale));
    assert_eq!(with("max-age=0"), Err(Refusal::Stale));
    assert_eq!(with("max-age=99999999999"), Ok(3600));
}

#[test]
fn an_invalid_or_double_expires_is_stale() {
    let later = T0.plus(Duration::from_secs(40)).to_http_date();
    for value in ["0", "-1", "soon", "Thu, 99 Foo 2099 00:00:00 GMT"] {
        assert_eq!(safe(&[], 200, &[("expires", value)]), Err(Refusal::Stale), "{value}");
    }
    assert_eq!(safe(&[], 200, &[("expires", &later), ("expires", &later)]), Err(Refusal::Stale));
    assert_eq!(safe(&[], 200, &[("expires", &later)]), Ok(40));
}

#[test]
fn what_arrives_too_old_is_stale() {
    assert_eq!(safe(&[], 200, &[FRESH, ("age", "59")]), Ok(60));
    assert_eq!(safe(&[], 200, &[FRESH, ("age", "60")]), Err(Refusal::Stale));
    assert_eq!(safe(&[], 200, &[FRESH, ("age", "99999999999999999999")]), Err(Refusal::Stale));
    assert_eq!(safe(&[], 200, &[FRESH, ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), Err(Refusal::Stale));
}

#[test]
fn configured_lifetimes_apply_to_successes_and_hold_their_bounds() {
    let mut rules = rules(CachePolicy::safe());
    rules.default_ttl = Some(Duration::from_secs(30));
    let by_default = |status, response, rules: &Rules| judge(&[], status, response, RouteRules::default(), rules);
    assert_eq!(by_default(200, &[], &rules), Ok(30));
    assert_eq!(by_default(200, &[FRESH], &rules), Ok(60));
    assert_eq!(by_default(200, &[("cache-control", "max-age=0")], &rules), Err(Refusal::Stale));
    for status in [204, 302, 404, 500, 503] {
        assert_eq!(by_default(status, &[], &rules), Err(Refusal::NoFreshness), "{status}");
    }
    rules.min_ttl = Duration::from_secs(45);
    assert_eq!(by_default(200, &[], &rules), Ok(45));
    rules.max_ttl = Duration::from_secs(40);
    assert_eq!(by_default(200, &[FRESH], &rules), Ok(40));
    rules.fixed_ttl = Some(Duration::from_secs(10));
    rules.min_ttl = Duration::ZERO;
    assert_eq!(by_default(200, &[FRESH], &rules), Ok(10));
    assert_eq!(by_default(200, &[("cache-control", "max-age=0")], &rules), Ok(10));
    assert_eq!(by_default(200, &[("cache-control", "no-store")], &rules), Err(Refusal::NoStore));
    assert_eq!(by_default(404, &[], &rules), Err(Refusal::NoFreshness));
}

#[test]
fn the_routes_word_is_the_last_one_but_for_errors_and_prohibitions() {
    let rules = rules(CachePolicy::safe());
    let route = RouteRules { ttl: Some(Duration::from_secs(7200)), ..RouteRules::default() };
    let judged = |status, response| judge(&[], status, response, route, &rules);
    assert_eq!(judged(200, &[FRESH]), Ok(7200));
    assert_eq!(judged(200, &[("cache-control", "private")]), Err(Refusal::Private));
    assert_eq!(judged(503, &[]), Err(Refusal::NoFreshness));
    assert_eq!(judged(404, &[FRESH]), Ok(60));
}

#[test]
fn a_heuristic_is_for_the_policy_that_wants_it() {
    let date = T0.to_http_date();
    let modified = Timestamp::from_millis(T0.as_millis() - 1_000_000).to_http_date();
    let response: Fields<'_> = &[("date", &date), ("last-modified", &modified)];
    assert_eq!(safe(&[], 200, response), Err(Refusal::NoFreshness));
    assert_eq!(rfc9111(&[], 200, response), Ok(100));
    assert_eq!(rfc9111(&[], 404, response), Ok(100));
    assert_eq!(rfc9111(&[], 403, response), Err(Refusal::NoFreshness));
}

#[test]
fn what_is_too_large_or_endless_is_refused_by_its_head() {
    assert_eq!(safe(&[], 200, &[FRESH, ("content-length", "1000")]), Ok(60));
    assert_eq!(safe(&[], 200, &[FRESH, ("content-length", "1001")]), Err(Refusal::BodySize));
    assert_eq!(safe(&[], 200, &[FRESH, ("content-length", "5"), ("content-length", "6")]), Err(Refusal::InvalidLength));
    assert_eq!(safe(&[], 200, &[FRESH, ("x-large", &"x".repeat(500))]), Err(Refusal::HeadSize));
    let many: Vec<_> = (0..11).map(|_| ("x-many", "1")).chain([FRESH]).collect();
    assert_eq!(safe(&[], 200, &many), Err(Refusal::Fields));
    for content_type in ["text/event-stream", "Text/Event-Stream; charset=utf-8"] {
        assert_eq!(safe(&[], 200, &[FRESH, ("content-type", content_type)]), Err(Refusal::EventStream));
    }
}

#[test]
fn a_body_that_is_known_to_be_too_large_is_refused_without_a_stated_length() {
    let check = |body_length| {
        let response = map(&[FRESH]);
        let request = PresentedRequest { method: &Method::GET, headers: &HeaderMap::new() };
        let head = ReceivedHead {
            status: StatusCode::OK,
            headers: &response,
            body_length,
            represents_target: false,
            request_time: T0,
            response_time: T0,
        };
        storability(&request, &head, &RouteRules::default(), &rules(CachePolicy::safe()))
    };
    let refused = Storability::Refuse(Refusal::BodySize);
    assert_eq!(check(BodyLength { at_least: 1001, exactly: Some(1001) }), refused);
    assert_eq!(check(BodyLength { at_least: 1001, exactly: None }), refused);
    assert_ne!(check(BodyLength { at_least: 1000, exactly: None }), refused);
}
