//! Byte ranges of a complete stored response (RFC 9110 §14).

use std::ops::Range;

use http::header;
use http::{HeaderMap, StatusCode};

use super::cache_control::ListMembers;
use super::time::Timestamp;

/// What a request's Range makes of a complete representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Send it whole: there is no Range, or one that is to be ignored.
    Whole,
    /// Send one part, or several as multipart/byteranges.
    Parts(Vec<Range<u64>>),
    /// None of the ranges lies within it: 416.
    Unsatisfiable,
}

/// More ranges than this in one request are an attack on bandwidth: the Range is ignored (RFC 9110 §14.2).
const MAX_RANGES: usize = 16;

/// Judges Range and If-Range for a GET of a stored 200 of this length.
pub(crate) fn select(request: &HeaderMap, status: StatusCode, stored: &HeaderMap, length: u64) -> Selection {
    let mut lines = request.get_all(header::RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Selection::Whole };
    if status != StatusCode::OK || !if_range_holds(request, stored) {
        return Selection::Whole;
    }
    let Some(specs) = specs_of(line.as_bytes()) else { return Selection::Whole };
    let mut parts: Vec<Range<u64>> = specs.iter().filter_map(|spec| spec.within(length)).collect();
    if parts.is_empty() {
        return Selection::Unsatisfiable;
    }
    if parts.len() > 1 && (overlap(&parts) || total(&parts) > length) {
        // §14.2, §17.15: the same octets several times over are nobody's honest wish.
        return Selection::Whole;
    }
    parts.shrink_to_fit();
    Selection::Parts(parts)
}

/// One range as it is asked for, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

impl Spec {
    /// §14.1.2: the part of a representation that it names, if any.
    fn within(self, length: u64) -> Option<Range<u64>> {
        match self {
            Self::From { first, last } if first < length => {
                let end = last.map_or(length, |last| last.saturating_add(1).min(length));
                Some(first..end)
            }
            Self::Suffix(count) if count > 0 && length > 0 => Some(length.saturating_sub(count)..length),
            Self::From { .. } | Self::Suffix(_) => None,
        }
    }
}

/// The ranges of a Range field in bytes; `None` where it is to be ignored: another unit, or malformed.
fn specs_of(value: &[u8]) -> Option<Vec<Spec>> {
    let at = value.iter().position(|&byte| byte == b'=')?;
    let (unit, set) = (value[..at].trim_ascii(), &value[at + 1..]);
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for member in ListMembers::new(set) {
        if specs.len() == MAX_RANGES {
            return None;
        }
        specs.push(spec_of(member)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn spec_of(member: &[u8]) -> Option<Spec> {
    let at = member.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&member[..at], &member[at + 1..]);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => number(last).map(Spec::Suffix),
        (false, true) => Some(Spec::From { first: number(first)?, last: None }),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From { first, last: Some(last) })
        }
    }
}

/// Digits; a number too large to hold is the largest one.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

fn overlap(parts: &[Range<u64>]) -> bool {
    let mut sorted: Vec<_> = parts.iter().map(|part| (part.start, part.end)).collect();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[1].0 < pair[0].1)
}

fn total(parts: &[Range<u64>]) -> u64 {
    parts.iter().fold(0, |sum, part| sum.saturating_add(part.end - part.start))
}

/// RFC 9110 §13.1.5: the strong comparison of an entity tag, or the exact match of a date that is a strong validator
/// (§8.8.2.2: at least a second older than Date).
fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(header::IF_RANGE) else { return true };
    let condition = condition.as_bytes().trim_ascii();
    if condition.starts_with(b"\"") || condition.starts_with(b"W/") {
        let etag = stored.get(header::ETAG).map(|etag| etag.as_bytes());
        return !condition.starts_with(b"W/") && etag == Some(condition);
    }
    let date_of = |name| Timestamp::from_http_date(stored.get(name)?.as_bytes());
    let (Some(asked), Some(last_modified), Some(date)) =
        (Timestamp::from_http_date(condition), date_of(header::LAST_MODIFIED), date_of(header::DATE))
    else {
        return false;
    };
    asked == last_modified && date.as_millis() >= last_modified.as_millis() + 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::headers;

    fn of(range: &str, length: u64) -> Selection {
        select(&headers(&[("range", range)]), StatusCode::OK, &HeaderMap::new(), length)
    }

    fn parts(ranges: &[(u64, u64)]) -> Selection {
        Selection::Parts(ranges.iter().map(|(start, end)| *start..*end).collect())
    }

    #[test]
    fn ranges_are_cut_to_the_representation() {
        assert_eq!(of("bytes=0-1", 10), parts(&[(0, 2)]));
        assert_eq!(of("bytes=1-", 10), parts(&[(1, 10)]));
        assert_eq!(of("bytes=-3", 10), parts(&[(7, 10)]));
        assert_eq!(of("bytes=-99", 10), parts(&[(0, 10)]));
        assert_eq!(of("bytes=5-99999999999999999999999", 10), parts(&[(5, 10)]));
        assert_eq!(of("Bytes = 0-0 , 9-9", 10), parts(&[(0, 1), (9, 10)]));
        assert_eq!(of("bytes=0-1,50-60", 10), parts(&[(0, 2)]));
    }

    #[test]
    fn what_lies_outside_is_unsatisfiable() {
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(of(range, 10), Selection::Unsatisfiable, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(of("bytes=-1", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn what_is_malformed_or_abusive_is_ignored() {
        for range in [
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-1",
            "bytes=a-b",
            "bytes=1",
            "lines=0-1",
            "bytes=0-1;2",
            "bytes=0-,0-,0-",
        ] {
            assert_eq!(of(range, 10), Selection::Whole, "{range}");
        }
        let many = format!("bytes={}", (0..17).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(","));
        assert_eq!(of(&many, 100), Selection::Whole);
        let twice =
            select(&headers(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]), StatusCode::OK, &HeaderMap::new(), 9);
        assert_eq!(twice, Selection::Whole);
    }

    #[test]
    fn if_range_needs_a_strong_match() {
        let stored = [
            ("etag", "\"a\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("date", "Sun, 06 Nov 1994 08:49:38 GMT"),
        ];
        let check = |condition: &str, stored: &[(&'static str, &str)]| {
            let request = headers(&[("range", "bytes=0-1"), ("if-range", condition)]);
            select(&request, StatusCode::OK, &headers(stored), 10) == parts(&[(0, 2)])
        };
        assert!(check("\"a\"", &stored));
        assert!(!check("\"b\"", &stored));
        assert!(!check("W/\"a\"", &[("etag", "W/\"a\"")]));
        assert!(check("Sun, 06 Nov 1994 08:49:37 GMT", &stored));
        assert!(!check("Sun, 06 Nov 1994 08:49:36 GMT", &stored));
        let too_young = [stored[1], ("date", "Sun, 06 Nov 1994 08:49:37 GMT")];
        assert!(!check("Sun, 06 Nov 1994 08:49:37 GMT", &too_young));
    }
}
