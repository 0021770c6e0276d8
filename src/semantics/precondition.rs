//! A client's own validators against a stored response (RFC 9111 §4.3.2, RFC 9110 §13).

use http::header::{self, HeaderName};
use http::{HeaderMap, StatusCode};

use super::PresentedRequest;
use super::cache_control::ListMembers;
use super::time::Timestamp;

/// What the preconditions of a request make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Send the response whole.
    Proceed,
    /// The client has it already: 304.
    NotModified,
}

/// The client's own, which a cache can judge itself.
const CONDITIONS: [HeaderName; 2] = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];

/// The fields that a 304 carries (RFC 9110 §15.4.5): those that guide caches, and nothing about the content.
const NOT_IN_304: [HeaderName; 8] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    header::TRAILER,
];

/// RFC 9110 §13.2.2: If-None-Match is judged first and silences If-Modified-Since. Only a 200 has a selected
/// representation that a 304 could stand for.
pub(crate) fn evaluate(request: &PresentedRequest<'_>, status: StatusCode, stored: &HeaderMap) -> Precondition {
    if status != StatusCode::OK {
        return Precondition::Proceed;
    }
    let modified = if request.headers.contains_key(header::IF_NONE_MATCH) {
        !if_none_match_names(request.headers, stored)
    } else {
        modified_since(request.headers, stored)
    };
    if modified { Precondition::Proceed } else { Precondition::NotModified }
}

/// Whether a request has conditions that [can be taken off](strip_conditions).
pub(crate) fn has_conditions(fields: &HeaderMap) -> bool {
    fields.keys().any(|name| CONDITIONS.contains(name))
}

/// Takes a client's own conditions off a request, so that a whole response comes back and can be stored
/// (RFC 9111 §4.3.2 lets a cache judge them itself).
pub(crate) fn strip_conditions(fields: &mut HeaderMap) {
    for name in &CONDITIONS {
        fields.remove(name);
    }
}

/// Takes from the fields of a stored response those that a 304 does not carry.
pub(crate) fn reduce_to_not_modified(fields: &mut HeaderMap) {
    for name in &NOT_IN_304 {
        fields.remove(name);
    }
}

/// RFC 9110 §13.1.2, with the weak comparison of §8.8.3.2.
fn if_none_match_names(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let etag = stored.get(header::ETAG).map(|etag| opaque_tag(etag.as_bytes()));
    request.get_all(header::IF_NONE_MATCH).iter().flat_map(|line| ListMembers::new(line.as_bytes())).any(|candidate| {
        // "*" is met by any current representation, and the stored one is.
        candidate == b"*" || etag == Some(opaque_tag(candidate))
    })
}

fn opaque_tag(entity_tag: &[u8]) -> &[u8] {
    entity_tag.strip_prefix(b"W/").unwrap_or(entity_tag)
}

/// RFC 9110 §13.1.3: a date that is none, or two of them, are ignored; without Last-Modified, Date stands in
/// (RFC 9111 §4.3.2).
fn modified_since(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut lines = request.get_all(header::IF_MODIFIED_SINCE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return true };
    let date_of = |name| Timestamp::from_http_date(stored.get(name)?.as_bytes());
    match (Timestamp::from_http_date(line.as_bytes()), date_of(header::LAST_MODIFIED).or_else(|| date_of(header::DATE)))
    {
        (Some(since), Some(last_modified)) => last_modified > since,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Method};

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn check(request: &[(&'static str, &'static str)], stored: &[(&'static str, &'static str)]) -> Precondition {
        let map = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let (request, stored) = (map(request), map(stored));
        evaluate(&PresentedRequest { method: &Method::GET, headers: &request }, StatusCode::OK, &stored)
    }

    #[test]
    fn a_matching_entity_tag_is_not_modified_by_weak_comparison() {
        for tag in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*", "\"x,y\", W/\"a\""] {
            assert_eq!(check(&[("if-none-match", tag)], &[("etag", "\"a\"")]), Precondition::NotModified, "{tag}");
            assert_eq!(check(&[("if-none-match", tag)], &[("etag", "W/\"a\"")]), Precondition::NotModified, "{tag}");
        }
        for tag in ["\"b\"", "a", "\"A\"", "\"\"", ""] {
            assert_eq!(check(&[("if-none-match", tag)], &[("etag", "\"a\"")]), Precondition::Proceed, "{tag}");
        }
    }

    #[test]
    fn if_none_match_silences_if_modified_since() {
        let request = [("if-none-match", "\"b\""), ("if-modified-since", NEW)];
        assert_eq!(check(&request, &[("etag", "\"a\""), ("last-modified", OLD)]), Precondition::Proceed);
    }

    #[test]
    fn dates_compare_and_senseless_ones_are_ignored() {
        assert_eq!(check(&[("if-modified-since", NEW)], &[("last-modified", OLD)]), Precondition::NotModified);
        assert_eq!(check(&[("if-modified-since", OLD)], &[("last-modified", OLD)]), Precondition::NotModified);
        assert_eq!(check(&[("if-modified-since", OLD)], &[("last-modified", NEW)]), Precondition::Proceed);
        assert_eq!(check(&[("if-modified-since", NEW)], &[("date", OLD)]), Precondition::NotModified);
        assert_eq!(check(&[("if-modified-since", "soon")], &[("last-modified", OLD)]), Precondition::Proceed);
        assert_eq!(check(&[("if-modified-since", NEW)], &[]), Precondition::Proceed);
    }
}
