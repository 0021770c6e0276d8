//! The start of a representation, and its completion (RFC 9111 §3.3, §3.4; RFC 9110 §14.4, §15.3.7).

use std::ops::Range;

use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::validation::freshened;

/// What a Content-Range in bytes says: `first-last/total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) total: u64,
}

/// The fields by which the rest of a representation is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RestRequest {
    range: HeaderValue,
    if_range: Option<HeaderValue>,
}

impl ContentRange {
    /// `None` for another unit, an unknown total, or numbers that make no sense.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let found = Self { first: number(first)?, last: number(last)?, total: number(total)? };
        (found.first <= found.last && found.last < found.total).then_some(found)
    }

    /// Whether it is the start of something longer.
    pub(crate) fn is_prefix(self) -> bool {
        self.first == 0 && self.last + 1 < self.total
    }
}

impl RestRequest {
    /// For a stored start. Under a strong validator what comes is the rest or the whole; without one it can only be of
    /// use if it is the whole.
    pub(crate) fn of(stored: &HeaderMap) -> Option<Self> {
        let range = ContentRange::of(stored)?;
        let if_range = strong_etag(stored).cloned();
        let range = HeaderValue::from_str(&format!("bytes={}-", range.last + 1)).ok()?;
        Some(Self { range, if_range })
    }

    /// For a part of a whole representation, if it has a strong validator.
    pub(crate) fn part(part: Range<u64>, stored: &HeaderMap) -> Option<Self> {
        let if_range = Some(strong_etag(stored)?.clone());
        let range = HeaderValue::from_str(&format!("bytes={}-{}", part.start, part.end.checked_sub(1)?)).ok()?;
        Some(Self { range, if_range })
    }

    pub(crate) fn apply(&self, request: &mut HeaderMap) {
        super::precondition::strip_conditions(request);
        request.insert(header::RANGE, self.range.clone());
        if let Some(if_range) = &self.if_range {
            request.insert(header::IF_RANGE, if_range.clone());
        }
    }
}

/// §3.4: parts are joined only where both have the same strong validator, and the second begins where the first ends.
pub(crate) fn completes(stored: &HeaderMap, status: StatusCode, reply: &HeaderMap) -> bool {
    ContentRange::of(stored)
        .is_some_and(|start| is_part(stored, start.last + 1..start.total, start.total, status, reply))
}

/// Whether a reply is this part of a representation of `total` octets with the fields `stored`.
pub(crate) fn is_part(stored: &HeaderMap, part: Range<u64>, total: u64, status: StatusCode, reply: &HeaderMap) -> bool {
    let Some(range) = ContentRange::of(reply) else { return false };
    // RFC 9110 §15.3.7: a reply to If-Range need not repeat it. One tag for two codings is a mistake, and not ours to pass on.
    let coding = reply.get(header::CONTENT_ENCODING);
    status == StatusCode::PARTIAL_CONTENT
        && (range.first, range.last + 1, range.total) == (part.start, part.end, total)
        && strong_etag(stored).is_some()
        && strong_etag(stored) == strong_etag(reply)
        && coding.is_none_or(|coding| stored.get(header::CONTENT_ENCODING) == Some(coding))
}

/// Whether parts of a stored representation can be asked for.
pub(crate) fn has_parts(stored: &HeaderMap) -> bool {
    let has_none =
        stored.get(header::ACCEPT_RANGES).is_some_and(|units| units.as_bytes().eq_ignore_ascii_case(b"none"));
    strong_etag(stored).is_some() && !has_none
}

/// The fields of the whole.
pub(crate) fn completed_fields(stored: &HeaderMap, reply: &HeaderMap) -> HeaderMap {
    let mut fields = freshened(stored, reply);
    fields.remove(header::CONTENT_RANGE);
    match ContentRange::of(stored) {
        Some(range) => fields.insert(header::CONTENT_LENGTH, HeaderValue::from(range.total)),
        None => fields.remove(header::CONTENT_LENGTH),
    };
    fields
}

fn strong_etag(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(header::ETAG).filter(|etag| etag.as_bytes().starts_with(b"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::headers;

    #[test]
    fn content_ranges_are_read_strictly() {
        let of = |value| ContentRange::of(&headers(&[("content-range", value)]));
        assert_eq!(of("bytes 0-4/10"), Some(ContentRange { first: 0, last: 4, total: 10 }));
        assert!(of("bytes 0-4/10").unwrap().is_prefix());
        assert!(!of("bytes 0-9/10").unwrap().is_prefix() && !of("bytes 5-9/10").unwrap().is_prefix());
        for senseless in
            ["bytes */10", "bytes 0-4/*", "lines 0-4/10", "bytes 4-0/10", "bytes 0-10/10", "bytes +0-4/10", ""]
        {
            assert_eq!(of(senseless), None, "{senseless}");
        }
    }

    #[test]
    fn the_rest_is_asked_for_under_a_strong_validator_if_there_is_one() {
        let with_etag = headers(&[("content-range", "bytes 0-4/10"), ("etag", "\"a\"")]);
        let mut request = headers(&[("if-none-match", "\"x\"")]);
        RestRequest::of(&with_etag).unwrap().apply(&mut request);
        assert_eq!(request, headers(&[("range", "bytes=5-"), ("if-range", "\"a\"")]));
        let weak = headers(&[("content-range", "bytes 0-4/10"), ("etag", "W/\"a\"")]);
        let mut request = HeaderMap::new();
        RestRequest::of(&weak).unwrap().apply(&mut request);
        assert_eq!(request, headers(&[("range", "bytes=5-")]));
    }

    #[test]
    fn only_what_fits_is_joined() {
        let stored = headers(&[("content-range", "bytes 0-4/10"), ("etag", "\"a\"")]);
        let check =
            |fields: &[(&'static str, &'static str)]| completes(&stored, StatusCode::PARTIAL_CONTENT, &headers(fields));
        assert!(check(&[("content-range", "bytes 5-9/10"), ("etag", "\"a\"")]));
        assert!(!check(&[("content-range", "bytes 5-9/10"), ("etag", "\"b\"")]));
        assert!(!check(&[("content-range", "bytes 5-9/10")]));
        assert!(!check(&[("content-range", "bytes 4-9/10"), ("etag", "\"a\"")]));
        assert!(!check(&[("content-range", "bytes 5-8/10"), ("etag", "\"a\"")]));
        assert!(!check(&[("content-range", "bytes 5-10/11"), ("etag", "\"a\"")]));
        assert!(!completes(&stored, StatusCode::OK, &headers(&[("etag", "\"a\"")])));
    }

    #[test]
    fn the_whole_has_the_newer_fields_and_its_own_length() {
        let stored = headers(&[("content-range", "bytes 0-4/10"), ("content-length", "5"), ("a", "1"), ("b", "1")]);
        let reply = headers(&[("content-range", "bytes 5-9/10"), ("content-length", "5"), ("a", "2")]);
        let expected = headers(&[("content-length", "10"), ("b", "1"), ("a", "2")]);
        assert_eq!(completed_fields(&stored, &reply), expected);
    }
}
