//! What holds for every request, every response and every configuration: properties, and a second, naive reading of
//! RFC 9111's arithmetic to compare with.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::admission::{Content, admit};
use super::age::{corrected_initial_age, current_age};
use super::cache_control::{ListMembers, RequestDirectives, ResponseDirectives};
use super::fields::{has_foreign_coding, stated_length, stored_fields};
use super::freshness::Freshness;
use super::invalidation::{named_targets, represents_target};
use super::partial::{ContentRange, RestRequest, completed_fields, completes};
use super::range::Selection;
use super::reuse::{Decision, Found, decide, request_directives, reuse_stale};
use super::search::SearchVariance;
use super::staleness::{Grace, StalePermission, Trouble};
use super::storing::{BodyLength, ReceivedHead, Storability, Storable, storability};
use super::targeted::TargetList;
use super::time::{DeltaSeconds, Timestamp};
use super::validation::{ValidationRequest, contradicted_by_head, freshened, validated};
use super::vary::NominatedFields;
use super::{CachePolicy, PresentedRequest, RouteRules, Rules, precondition, range, tests};

mod naive;

/// The greatest span that a setting can have.
const GREATEST: u64 = 1 << 31;

// ===== what is thrown at the law =====

/// Directives and near misses of them, in every form.
const DIRECTIVES: [&str; 30] = [
    "no-store",
    "No-Cache",
    "no-cache=\"set-cookie, x-a\"",
    "private",
    "private=x-a",
    "PUBLIC",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "max-age=0",
    "max-age=60",
    "Max-Age=\"600\"",
    "max-age",
    "max-age=99999999999999999999",
    "max-age=-1",
    "s-maxage=60",
    "s-maxage=x",
    "stale-while-revalidate=60",
    "stale-if-error=60",
    "stale-if-error",
    "min-fresh=30",
    "min-fresh=",
    "max-stale",
    "max-stale=60",
    "max-stale=x",
    "only-if-cached",
    "immutable",
    "x=\"no-store, private",
    "=",
    "\"",
];

/// Directives of a response that neither forbid storing nor permit sharing, and close their quotes.
const INNOCENT: [&str; 9] = [
    "max-age=60",
    "max-age=0",
    "MAX-AGE=x",
    "immutable",
    "no-cache=\"x-a\"",
    "stale-if-error=9",
    "private=\"x-a\"",
    "x=\"s-maxage=5, public\"",
    "publicly",
];

const VALUES: [&str; 26] = [
    "*",
    "accept, *",
    "accept-language, cookie",
    "en;q=0.5, de",
    "\"a\"",
    "W/\"a\"",
    "\"a\", W/\"b\", \"c,d\"",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "0",
    "5",
    "18446744073709551616",
    "bytes=0-1,5-,-3",
    "bytes=9-5",
    "bytes 0-4/10",
    "bytes 0-18446744073709551615/18446744073709551615",
    "gzip, chunked",
    "close, etag, cache-control",
    "../x?y#z",
    "//h:80/x",
    "http://h/x/./y/..",
    "key-order, params, except=(\"a\" \"b%20c\")",
    "max-age=60, no-store=?0, private=\"x\"",
    "text/event-stream",
];

const NAMES: [&str; 29] = [
    "accept-language",
    "age",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "connection",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "last-modified",
    "location",
    "no-vary-search",
    "pragma",
    "range",
    "set-cookie",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "x-a",
];

const MONTHS: [&str; 13] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "feb"];

const TARGETS: [&str; 10] =
    ["/", "/a/b?x=1&y=2", "*", "h", "h:80", "http://h", "http://h/a/../b", "https://u@h/", "/?", "/%"];

fn value() -> impl Strategy<Value = HeaderValue> {
    let octets = vec(any::<u8>(), 0..40).prop_map(|mut octets| {
        octets.iter_mut().filter(|octet| octet.is_ascii_control()).for_each(|octet| *octet = b',');
        octets
    });
    prop_oneof![1 => octets, 3 => listed(&VALUES), 3 => listed(&DIRECTIVES)]
        .prop_map(|octets| HeaderValue::from_bytes(&octets).expect("no control characters are left"))
}

fn listed(members: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(members), 1..4).prop_map(|members| members.join(", ").into_bytes())
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    vec((select(&NAMES[..]).prop_map(HeaderName::from_static), value()), 0..10)
        .prop_map(|lines| with_lines(HeaderMap::new(), lines))
}

/// A request whose own directives are likely to matter.
fn asking() -> impl Strategy<Value = HeaderMap> {
    let line = listed(&DIRECTIVES).prop_map(|line| HeaderValue::from_bytes(&line).expect("no control characters"));
    (headers(), proptest::option::of(line))
        .prop_map(|(headers, line)| with_lines(headers, line.map(|line| (header::CACHE_CONTROL, line))))
}

fn with_lines(mut headers: HeaderMap, lines: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> HeaderMap {
    for (name, value) in lines {
        headers.append(name, value);
    }
    headers
}

fn method() -> impl Strategy<Value = Method> {
    select(&["GET", "GET", "GET", "HEAD", "POST", "QUERY", "PURGE", "CONNECT"][..])
        .prop_map(|name| name.parse().expect("a token"))
}

fn status() -> impl Strategy<Value = StatusCode> {
    let known = select(&[200_u16, 204, 206, 301, 304, 404, 416, 500, 503][..]);
    prop_oneof![Just(200), known, 100_u16..1000].prop_map(|code| StatusCode::from_u16(code).expect("three digits"))
}

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(0), 0..200_000_u64, 0..=GREATEST * 1000].prop_map(Duration::from_millis)
}

fn instant() -> impl Strategy<Value = Timestamp> {
    prop_oneof![0_u64..4_000_000_000_000, any::<u64>()].prop_map(Timestamp::from_millis)
}

fn freshness() -> impl Strategy<Value = Freshness> {
    let stale = (any::<bool>(), span(), proptest::option::of(span()))
        .prop_map(|(forbidden, while_revalidate, if_error)| StalePermission { forbidden, while_revalidate, if_error });
    (span(), span(), instant(), stale, any::<bool>()).prop_map(
        |(lifetime, corrected_initial_age, response_time, stale, always_validate)| Freshness {
            lifetime,
            corrected_initial_age,
            response_time,
            stale,
            always_validate,
        },
    )
}

fn rules() -> impl Strategy<Value = Rules> {
    let policy = prop_oneof![Just(CachePolicy::safe()), Just(CachePolicy::rfc9111())];
    let ttl = || proptest::option::of(span());
    (policy, any::<bool>(), [span(), span(), span(), span(), span()], [ttl(), ttl(), ttl()]).prop_map(
        |(
            policy,
            obeys,
            [min_ttl, max_ttl, keep_stale, while_revalidate, if_error],
            [default_ttl, fixed_ttl, negative],
        )| {
            Rules {
                policy,
                targets: TargetList::default(),
                grace: Grace { while_revalidate, if_error },
                keep_stale,
                early_refresh: 0.0,
                obeys_request_directives: obeys,
                negative_ttls: negative.map(|ttl| (StatusCode::NOT_FOUND, ttl)).into_iter().collect(),
                default_ttl,
                fixed_ttl,
                min_ttl,
                max_ttl,
                max_body_size: 1 << 20,
                max_head_size: 1 << 12,
                max_fields: 64,
            }
        },
    )
}

fn lenient() -> Rules {
    Rules {
        max_ttl: Duration::from_secs(GREATEST),
        max_body_size: u64::MAX,
        max_head_size: usize::MAX,
        max_fields: usize::MAX,
        ..tests::rules()
    }
}

fn get(headers: &HeaderMap) -> PresentedRequest<'_> {
    PresentedRequest { method: &Method::GET, headers }
}

fn received(status: StatusCode, headers: &HeaderMap, request_time: Timestamp, delay: Duration) -> ReceivedHead<'_> {
    ReceivedHead {
        status,
        headers,
        body_length: BodyLength::default(),
        represents_target: true,
        request_time,
        response_time: request_time.plus(delay),
    }
}

fn is_hit(headers: &HeaderMap, stored: Freshness, now: Timestamp, rules: &Rules) -> bool {
    matches!(decide(&get(headers), Found::Response(stored), now, rules), Decision::Hit(..))
}

// ===== the properties =====

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsers_of_octets_are_total(octets in vec(any::<u8>(), 0..64)) {
        let _ = DeltaSeconds::parse(&octets);
        let _ = Timestamp::from_http_date(&octets);
        for member in ListMembers::new(&octets) {
            prop_assert!(!member.is_empty() && member.trim_ascii() == member);
        }
    }

    #[test]
    fn parsers_of_fields_are_total(headers in headers(), other in headers(), target in select(&TARGETS[..])) {
        let target: Uri = target.parse().expect("a target");
        let _ = (ResponseDirectives::parse(&headers), RequestDirectives::parse(&headers));
        let _ = TargetList::default().directives(&headers);
        let _ = NominatedFields::of_response(&headers).map(|nominated| nominated.select(&other));
        let _ = (stated_length(&headers), has_foreign_coding(&headers), stored_fields(&headers));
        let _ = SearchVariance::of(&headers).map(|variance| variance.canonical(&target));
        let _ = represents_target(&target, None, &headers);
        let _ = precondition::evaluate(&get(&headers), StatusCode::OK, &other);
        let _ = ValidationRequest::of_variants([&headers, &other].into_iter());
        let _ = (validated(&headers, StatusCode::NOT_MODIFIED, &other), contradicted_by_head(&headers, 5, &other));
        let _ = (RestRequest::of(&headers), completes(&headers, StatusCode::PARTIAL_CONTENT, &other));
        let _ = completed_fields(&headers, &other);
        if let Some(part) = ContentRange::of(&headers) {
            prop_assert!(part.first <= part.last && part.last < part.total);
        }
    }

    #[test]
    fn a_reference_never_leaves_the_origin(headers in headers(), target in select(&TARGETS[..])) {
        let target: Uri = target.parse().expect("a target");
        for named in named_targets(&target, None, &headers) {
            let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
            prop_assert_eq!(host(&named), host(&target));
        }
    }

    #[test]
    fn dates_are_read_as_they_are_written(seconds in 0_u64..253_402_300_800) {
        let instant = Timestamp::from_millis(seconds * 1000);
        prop_assert_eq!(Timestamp::from_http_date(instant.to_http_date().as_bytes()), Some(instant));
        prop_assert_eq!(naive::imf_fixdate(seconds), instant.to_http_date());
    }

    #[test]
    fn a_date_is_read_as_by_httpdate(
        weekday in select(&["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][..]), month in select(&MONTHS[..]),
        day in 0_u32..34, year in prop_oneof![1960_u32..2110, 0_u32..10_000], time in [0_u32..26, 0..62, 0..62],
        broken in proptest::option::weighted(0.2, (0_usize..29, any::<u8>())),
    ) {
        let [hour, minute, second] = time;
        let date = format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
        let mut octets = date.into_bytes();
        if let Some((at, octet)) = broken {
            octets[at] = octet;
        }
        let time = std::str::from_utf8(&octets).ok().and_then(|text| httpdate::parse_http_date(text.trim()).ok());
        let expected = time.map(|time| time.duration_since(UNIX_EPOCH).expect("no date is earlier").as_secs() * 1000);
        prop_assert_eq!(Timestamp::from_http_date(&octets).map(Timestamp::as_millis), expected);
    }

    #[test]
    fn age_grows_with_time_and_what_is_stale_stays_stale(stored in freshness(), one in instant(), other in instant()) {
        let (early, late) = (one.min(other), one.max(other));
        prop_assert!(stored.current_age(early) <= stored.current_age(late));
        prop_assert!(stored.current_age(early) >= stored.corrected_initial_age);
        prop_assert!(stored.staleness(early) <= stored.staleness(late));
        prop_assert!(stored.remaining(early) >= stored.remaining(late));
        let initial = |headers: &HeaderMap, at| corrected_initial_age(headers, early, at);
        let none = HeaderMap::new();
        prop_assert!(initial(&none, early) <= initial(&none, late));
    }

    #[test]
    fn every_request_is_admitted_or_not(method in method(), headers in headers()) {
        for content in [Content::Absent, Content::Unread, Content::Known] {
            let _ = admit(&PresentedRequest { method: &method, headers: &headers }, content);
        }
    }

    #[test]
    fn every_look_up_is_decided(headers in asking(), stored in freshness(), now in instant(), rules in rules()) {
        for found in [Found::Response(stored), Found::VaryMiss, Found::UriMiss, Found::Unavailable] {
            let hit = matches!(decide(&get(&headers), found, now, &rules), Decision::Hit(..));
            prop_assert!(!hit || matches!(found, Found::Response(_)) && !stored.always_validate);
        }
        let _ = reuse_stale(&stored, now);
    }

    #[test]
    fn a_request_directive_only_ever_makes_the_cache_stricter_but_for_max_stale(
        headers in asking(), stored in freshness(), later in span(), rules in rules(),
    ) {
        let now = stored.response_time.plus(later);
        let asked = request_directives(&get(&headers), &rules);
        let with = is_hit(&headers, stored, now, &rules);
        let without = is_hit(&HeaderMap::new(), stored, now, &rules);
        let accepted = !stored.stale.forbidden && asked.max_stale.allows(stored.staleness(now));
        prop_assert!(!with || without || accepted);
        prop_assert!(!with || !stored.always_validate);
        for trouble in [Trouble::ErrorStatus, Trouble::Disconnected] {
            let may = |asked: &RequestDirectives| stored.stale.on(trouble, stored.staleness(now), asked, &rules.grace);
            let asks_for_it = stored.stale.if_error.is_none() && asked.stale_if_error.valid().is_some();
            prop_assert!(!may(&asked) || may(&RequestDirectives::default()) || asks_for_it);
            prop_assert!(!may(&asked) || !stored.stale.forbidden);
        }
    }

    #[test]
    fn a_request_directive_never_makes_a_response_storable(
        request in asking(), response in headers(), status in status(), at in instant(), delay in span(), rules in rules(),
    ) {
        let mut silent = request.clone();
        silent.remove(header::CACHE_CONTROL);
        silent.remove(header::PRAGMA);
        let head = received(status, &response, at, delay);
        let judge = |headers| storability(&get(headers), &head, &RouteRules::default(), &rules);
        if let found @ Storability::Store(_) = judge(&request) {
            prop_assert_eq!(found, judge(&silent));
        }
    }

    #[test]
    fn what_forbids_storing_forbids_it_whatever_else_is_said(
        request in headers(), response in headers(), innocent in vec(select(&INNOCENT[..]), 0..4), method in method(),
        status in status(), ttl in proptest::option::of(span()), mut rules in rules(),
    ) {
        (rules.policy.stores_set_cookie, rules.obeys_request_directives) = (false, true);
        let mut response = response;
        for name in ["cache-control", "cdn-cache-control"] {
            response.remove(name);
        }
        let innocent = innocent.into_iter().map(|text| (header::CACHE_CONTROL, HeaderValue::from_static(text)));
        let response = with_lines(response, innocent);
        for (on_request, name, value) in FORBIDDING {
            let (mut request, mut response) = (request.clone(), response.clone());
            let headers = if on_request { &mut request } else { &mut response };
            headers.append(name, HeaderValue::from_static(value));
            let presented = PresentedRequest { method: &method, headers: &request };
            let head = received(status, &response, Timestamp::from_millis(1 << 40), Duration::ZERO);
            let found = storability(&presented, &head, &RouteRules { ttl, ..RouteRules::default() }, &rules);
            prop_assert!(matches!(found, Storability::Refuse(_)), "{}: {}: {:?}", name, value, found);
        }
    }

    #[test]
    fn ranges_lie_within_the_content_and_do_not_overlap(
        specs in vec((0_u64..120, proptest::option::of(0_u64..120), any::<bool>()), 1..18), length in 0_u64..100,
    ) {
        let spec = |(first, last, suffix): &(u64, Option<u64>, bool)| match (last, suffix) {
            (_, true) => format!("-{first}"),
            (Some(last), false) => format!("{first}-{last}"),
            (None, false) => format!("{first}-"),
        };
        let text = format!("bytes={}", specs.iter().map(spec).collect::<Vec<_>>().join(","));
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(&text).expect("digits and signs"));
        if let Selection::Parts(mut parts) = range::select(&headers, StatusCode::OK, &HeaderMap::new(), length) {
            prop_assert!(!parts.is_empty() && parts.iter().all(|part| part.start < part.end && part.end <= length));
            parts.sort_unstable_by_key(|part| part.start);
            prop_assert!(parts.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }

    #[test]
    fn any_range_is_whole_within_or_unsatisfiable(request in headers(), stored in headers(), length in any::<u64>()) {
        if let Selection::Parts(parts) = range::select(&request, StatusCode::OK, &stored, length) {
            prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
        }
    }

    #[test]
    fn freshening_keeps_the_length_and_an_entity_tag(stored in headers(), newer in headers()) {
        let fresh = freshened(&stored, &newer);
        let lengths = |headers: &HeaderMap| headers.get_all(header::CONTENT_LENGTH).iter().cloned().collect::<Vec<_>>();
        prop_assert_eq!(lengths(&fresh), lengths(&stored));
        prop_assert!(!stored.contains_key(header::ETAG) || fresh.contains_key(header::ETAG));
        prop_assert!(stored.keys().all(|name| name == header::AGE || fresh.contains_key(name)));
    }

    #[test]
    fn freshness_is_what_a_naive_reading_of_the_rfc_says(story in naive::story()) {
        let (request, response) = (HeaderMap::new(), story.headers());
        let head = received(story.status, &response, Timestamp::from_millis(story.request_time), story.delay());
        let found = storability(&get(&request), &head, &RouteRules::default(), &lenient());
        let Storability::Store(Storable { freshness, .. }) = found else { panic!("it can be validated: {found:?}") };
        let expected = story.reading();
        let now = head.response_time.plus(Duration::from_millis(story.resident));
        let millis = |span: Duration| i128::try_from(span.as_millis()).expect("a span of this age");
        prop_assert_eq!(millis(freshness.lifetime), expected.lifetime);
        prop_assert_eq!(millis(freshness.corrected_initial_age), expected.initial_age);
        prop_assert_eq!(millis(current_age(freshness.corrected_initial_age, head.response_time, now)), expected.age);
        prop_assert_eq!(freshness.remaining(now).is_some(), expected.fresh);
        prop_assert_eq!(is_hit(&request, freshness, now, &lenient()), expected.fresh);
    }
}

/// Lines that forbid storing: of the request or of the response, under the safe rule for Set-Cookie.
const FORBIDDING: [(bool, &str, &str); 11] = [
    (true, "authorization", "Bearer x"),
    (true, "cache-control", "max-stale, No-Store"),
    (false, "cache-control", "max-age=60, No-Store"),
    (false, "cache-control", "no-store"),
    (false, "cache-control", "PRIVATE, max-age=60"),
    (false, "cdn-cache-control", "max-age=60, no-store"),
    (false, "cdn-cache-control", "private"),
    (false, "set-cookie", "a=b"),
    (false, "set-cookie2", "a=b"),
    (false, "vary", "accept, *"),
    (false, "vary", "*"),
];
