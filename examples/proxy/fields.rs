//! Fields that end at this hop.

use hyper::HeaderMap;
use hyper::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, COOKIE, DATE, ETAG, EXPIRES, HOST, HeaderName, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, PRAGMA, RANGE, SET_COOKIE, TE, TRANSFER_ENCODING,
    UPGRADE, VARY, VIA, WWW_AUTHENTICATE,
};

/// What `Connection` may name without effect: fields that frame, identify, authorise or steer caching.
///
/// RFC 9110 §7.6.1 forbids senders to list end-to-end fields; a client that does so anyway wants the origin
/// to see another request than the cache.
const NEVER_REMOVED: [HeaderName; 28] = [
    ACCEPT_ENCODING,
    ACCEPT_RANGES,
    AGE,
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    DATE,
    ETAG,
    EXPIRES,
    HOST,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
    PRAGMA,
    RANGE,
    SET_COOKIE,
    TRANSFER_ENCODING,
    VARY,
    VIA,
    WWW_AUTHENTICATE,
    HeaderName::from_static("surrogate-control"),
];

/// Hop-by-hop fields that need not be named (RFC 9110 §7.6.1). `Transfer-Encoding` is left to whoever frames.
const ALWAYS_REMOVED: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    UPGRADE,
];

/// Removes the hop-by-hop fields and those that `Connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = list(headers, &CONNECTION)
        .filter_map(|name| HeaderName::try_from(name).ok())
        .filter(|name| !NEVER_REMOVED.contains(name) && !is_targeted(name))
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
    // Many have few fields, and none of these: looking at each of those takes less than looking for each of these.
    if headers.keys().any(|name| ALWAYS_REMOVED.contains(name)) {
        ALWAYS_REMOVED.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// Whether any line of the list field `name` holds `member`, ignoring case.
pub(crate) fn lists(headers: &HeaderMap, name: &HeaderName, member: &str) -> bool {
    list(headers, name).any(|token| token.eq_ignore_ascii_case(member))
}

/// Targeted cache fields (RFC 9213) and forwarding fields are as untouchable as `Cache-Control`.
fn is_targeted(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.ends_with("-cache-control") || name.starts_with("x-forwarded-") || name == "x-real-ip"
}

/// The members of a comma-separated field over all its lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
}
