//! Validation of a stored response with the service (RFC 9111 §4.3).

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::PresentedRequest;
use super::fields::stored_fields;

/// The conditions that ask whether stored responses are still right (§4.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValidationRequest {
    entity_tags: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

/// What a reply to a validation request means (§4.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validated {
    /// 304 for the stored response: it is updated and used.
    Freshen,
    /// 304 that does not speak of the stored response (§4.3.4): it is used, and stays as it was.
    UseUnchanged,
    /// A 5xx: the stored response may do instead, if it is allowed.
    Error,
    /// A full response, which replaces the stored one if it may be stored.
    Replace,
}

/// Fields of a 304 that do not change those of a stored 200: Content-Length (§3.2), and those that describe content
/// which a 304 does not carry.
const NOT_UPDATED: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_TYPE, header::CONTENT_RANGE];

impl ValidationRequest {
    /// §4.3.1: the validators of the stored response, if it has any.
    pub(crate) fn of(stored: &HeaderMap) -> Option<Self> {
        let entity_tags = stored.get(header::ETAG).cloned();
        let last_modified = stored.get(header::LAST_MODIFIED).cloned();
        (entity_tags.is_some() || last_modified.is_some()).then_some(Self { entity_tags, last_modified })
    }

    /// §4.3.1: the entity tags of all stored responses of a key, of which one may turn out to be selected.
    pub(crate) fn of_variants<'a>(stored: impl Iterator<Item = &'a HeaderMap>) -> Option<Self> {
        let mut list = Vec::new();
        for etag in stored.filter_map(|headers| headers.get(header::ETAG)) {
            if !list.is_empty() {
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(etag.as_bytes());
        }
        let entity_tags = HeaderValue::from_bytes(&list).ok().filter(|list| !list.is_empty())?;
        Some(Self { entity_tags: Some(entity_tags), last_modified: None })
    }

    /// Puts the conditions in place of the client's own.
    pub(crate) fn apply(&self, request: &mut HeaderMap) {
        super::precondition::strip_conditions(request);
        if let Some(entity_tags) = &self.entity_tags {
            request.insert(header::IF_NONE_MATCH, entity_tags.clone());
        }
        if let Some(last_modified) = &self.last_modified {
            request.insert(header::IF_MODIFIED_SINCE, last_modified.clone());
        }
    }
}

/// Judges the reply to a validation request for a stored response.
pub(crate) fn validated(stored: &HeaderMap, status: StatusCode, reply: &HeaderMap) -> Validated {
    match status {
        StatusCode::NOT_MODIFIED if is_about(stored, reply) => Validated::Freshen,
        StatusCode::NOT_MODIFIED => Validated::UseUnchanged,
        StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Validated::Error,
        _ => Validated::Replace,
    }
}

/// §4.3.3: whether a full reply says that the stored response is no longer right, be it stored itself or not. One that
/// speaks of this request alone, of its form, its credentials or how often it came, says nothing of what others get; nor
/// does an error of the service.
pub(crate) fn supersedes(request: &PresentedRequest<'_>, status: StatusCode) -> bool {
    let is_somebody = || [header::AUTHORIZATION, header::COOKIE].iter().any(|name| request.headers.contains_key(name));
    match status.as_u16() {
        206 | 304 => false,
        200..=399 | 404 | 405 | 410 | 451 => true,
        401..=403 => !is_somebody(),
        _ => false,
    }
}

/// §4.3.4: whether a 304 selects the stored response. A strong validator must be the same; a weak one must match; with
/// none in the reply it speaks of the one response that was asked about.
fn is_about(stored: &HeaderMap, reply: &HeaderMap) -> bool {
    if let Some(etag) = reply.get(header::ETAG) {
        let opaque = |etag: &HeaderValue| etag.as_bytes().strip_prefix(b"W/").unwrap_or(etag.as_bytes()).to_vec();
        return stored.get(header::ETAG).is_some_and(|known| opaque(known) == opaque(etag));
    }
    match (reply.get(header::LAST_MODIFIED), stored.get(header::LAST_MODIFIED)) {
        (Some(replied), Some(known)) => replied == known,
        (Some(_), None) => stored.contains_key(header::ETAG),
        (None, _) => true,
    }
}

/// §3.2: the stored fields as a newer response changes them; each field that it has replaces all lines of that name.
pub(crate) fn freshened(stored: &HeaderMap, newer: &HeaderMap) -> HeaderMap {
    let newer = stored_fields(newer);
    let mut fields = stored.clone();
    // What was computed when the stored response was received does not outlive it.
    fields.remove(header::AGE);
    // A tag that was weak when the body came says no more of it now.
    let is_weak = stored.get(header::ETAG).is_some_and(|tag| tag.as_bytes().starts_with(b"W/"));
    let is_kept = |name: &HeaderName| NOT_UPDATED.contains(name) || (is_weak && name == header::ETAG);
    for name in newer.keys().filter(|name| !is_kept(name)) {
        fields.remove(name);
        for line in newer.get_all(name) {
            fields.append(name.clone(), line.clone());
        }
    }
    fields
}

/// §4.3.5: whether a 200 to a HEAD says anything by which it could be told from another.
pub(crate) fn identified_by_head(head: &HeaderMap) -> bool {
    [header::ETAG, header::LAST_MODIFIED, header::CONTENT_LENGTH].iter().any(|name| head.contains_key(name))
}

/// §4.3.5: whether a 200 to a HEAD shows that the stored response to GET is no longer right.
pub(crate) fn contradicted_by_head(stored: &HeaderMap, stored_length: u64, head: &HeaderMap) -> bool {
    // A validator that the stored response lacks does not match either.
    let differs = |name: HeaderName| head.get(&name).is_some_and(|new| stored.get(&name) != Some(new));
    let length = head.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    differs(header::ETAG) || differs(header::LAST_MODIFIED) || length.is_some_and(|length| length != stored_length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::headers;

    #[test]
    fn both_validators_are_sent_in_place_of_the_clients() {
        let stored = headers(&[("etag", "\"a\""), ("last-modified", "then")]);
        let mut request = headers(&[("if-none-match", "\"x\""), ("if-modified-since", "now"), ("accept", "*/*")]);
        ValidationRequest::of(&stored).unwrap().apply(&mut request);
        assert_eq!(request, headers(&[("accept", "*/*"), ("if-none-match", "\"a\""), ("if-modified-since", "then")]));
        assert_eq!(ValidationRequest::of(&headers(&[("date", "x")])), None);
    }

    #[test]
    fn all_variants_can_be_asked_about_at_once() {
        let stored = [headers(&[("etag", "\"a\"")]), headers(&[("x", "y")]), headers(&[("etag", "W/\"b\"")])];
        let mut request = HeaderMap::new();
        ValidationRequest::of_variants(stored.iter()).unwrap().apply(&mut request);
        assert_eq!(request["if-none-match"], "\"a\", W/\"b\"");
        assert_eq!(ValidationRequest::of_variants(stored[1..2].iter()), None);
    }

    #[test]
    fn a_304_freshens_what_it_is_about() {
        let check = |stored: &[(&'static str, &'static str)], reply: &[(&'static str, &'static str)], expected| {
            assert_eq!(validated(&headers(stored), StatusCode::NOT_MODIFIED, &headers(reply)), expected, "{reply:?}");
        };
        check(&[("etag", "\"a\"")], &[("etag", "\"a\"")], Validated::Freshen);
        check(&[("etag", "\"a\"")], &[("etag", "W/\"a\"")], Validated::Freshen);
        check(&[("etag", "\"a\"")], &[("etag", "\"b\"")], Validated::UseUnchanged);
        check(&[("etag", "\"a\"")], &[], Validated::Freshen);
        check(&[("last-modified", "then")], &[("last-modified", "now")], Validated::UseUnchanged);
        check(&[("last-modified", "then")], &[("etag", "\"b\"")], Validated::UseUnchanged);
    }

    #[test]
    fn other_statuses_replace_or_are_errors() {
        let none = HeaderMap::new();
        for status in [500, 502, 503, 504] {
            assert_eq!(validated(&none, StatusCode::from_u16(status).unwrap(), &none), Validated::Error);
        }
        for status in [200, 204, 404, 501, 599] {
            assert_eq!(validated(&none, StatusCode::from_u16(status).unwrap(), &none), Validated::Replace);
        }
    }

    #[test]
    fn what_speaks_of_the_resource_supersedes_and_what_speaks_of_one_request_does_not() {
        let check = |status: u16, lines: &[(&'static str, &'static str)]| {
            let headers = headers(lines);
            let request = PresentedRequest { method: &http::Method::GET, headers: &headers };
            supersedes(&request, StatusCode::from_u16(status).unwrap())
        };
        for status in [200, 204, 302, 401, 403, 404, 410, 451] {
            assert!(check(status, &[]), "{status}");
        }
        for status in [206, 304, 400, 408, 412, 413, 416, 429, 431, 500, 501, 503, 599] {
            assert!(!check(status, &[]), "{status}");
        }
        for credentials in ["authorization", "cookie"] {
            assert!(!check(401, &[(credentials, "x")]) && !check(403, &[(credentials, "x")]));
            assert!(check(404, &[(credentials, "x")]));
        }
    }

    #[test]
    fn newer_fields_replace_older_ones_but_for_those_of_the_content() {
        let stored = headers(&[
            ("content-length", "5"),
            ("content-type", "text/a"),
            ("link", "<a>"),
            ("link", "<b>"),
            ("age", "7"),
            ("x-kept", "1"),
        ]);
        let newer = headers(&[
            ("content-length", "0"),
            ("content-type", "text/b"),
            ("link", "<c>"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("x-new", "2"),
        ]);
        let expected = headers(&[
            ("content-length", "5"),
            ("content-type", "text/a"),
            ("x-kept", "1"),
            ("link", "<c>"),
            ("x-new", "2"),
        ]);
        assert_eq!(freshened(&stored, &newer), expected);
    }

    #[test]
    fn a_head_can_contradict() {
        let stored = headers(&[("etag", "\"a\""), ("last-modified", "then")]);
        let check = |head: &[(&'static str, &'static str)]| contradicted_by_head(&stored, 5, &headers(head));
        assert!(!check(&[]));
        assert!(!check(&[("etag", "\"a\""), ("content-length", "5")]));
        assert!(check(&[("etag", "\"b\"")]));
        assert!(check(&[("last-modified", "now")]));
        assert!(check(&[("content-length", "6")]));
        let untagged = headers(&[("last-modified", "then")]);
        assert!(contradicted_by_head(&untagged, 5, &headers(&[("etag", "\"v2\""), ("last-modified", "then")])));
        assert!(!identified_by_head(&headers(&[("date", "now")])) && identified_by_head(&headers(&[("etag", "x")])));
    }
}
