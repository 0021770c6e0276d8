//! Which header fields belong to a stored response (RFC 9111 §3.1).

use std::collections::HashSet;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::cache_control::ListMembers;

/// Fields that a Connection field may name without effect: a cache that lost them would misjudge the response.
const KEPT: [HeaderName; 12] = [
    header::AGE,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::PRAGMA,
    header::SET_COOKIE,
    header::VARY,
];

/// The fields to store: all but those of the connection, every line in its order. One block takes the octets of all
/// values: a value received from a connection is a slice of that connection's read buffer, which it would keep alive.
pub(crate) fn stored_fields(received: &HeaderMap) -> HeaderMap {
    let struck_off = struck_off(received);
    let mut lines = Vec::with_capacity(received.len());
    lines.extend(received.iter().filter(|(name, _)| !is_of_connection(name) && !struck_off.contains(*name)));
    let mut block = Vec::with_capacity(lines.iter().map(|(_, value)| value.len()).sum());
    lines.iter().for_each(|(_, value)| block.extend_from_slice(value.as_bytes()));
    let block = Bytes::from(block);
    let mut stored = HeaderMap::with_capacity(received.keys_len());
    let mut at = 0;
    for (name, value) in lines {
        let copy = HeaderValue::from_maybe_shared(block.slice(at..at + value.len()));
        at += value.len();
        stored.append(name, copy.expect("the octets of a field value are a field value"));
    }
    stored
}

/// RFC 9110 §7.6.1: the fields that Connection names are the connection's as well.
fn struck_off(received: &HeaderMap) -> HashSet<HeaderName> {
    let options = received.get_all(header::CONNECTION).iter().flat_map(|line| ListMembers::new(line.as_bytes()));
    let names = options.filter_map(|option| HeaderName::from_bytes(option).ok());
    names.filter(|name| !KEPT.contains(name)).collect()
}

/// Fields that speak of one connection (RFC 9110 §7.6.1) or of one hop's authentication (RFC 9111 §3.1).
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether the content is coded for the transfer in a way that a stored response could not tell (RFC 9112 §6.1).
pub(crate) fn has_foreign_coding(fields: &HeaderMap) -> bool {
    let mut codings =
        fields.get_all(header::TRANSFER_ENCODING).iter().flat_map(|line| ListMembers::new(line.as_bytes()));
    codings.any(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
}

/// The octets that the fields would take on the wire in HTTP/1.1.
pub(crate) fn wire_size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// The body length that the fields state: `Err` when they contradict each other or make no sense (RFC 9110 §8.6).
pub(crate) fn stated_length(fields: &HeaderMap) -> Result<Option<u64>, InvalidLength> {
    let mut stated = None;
    for line in fields.get_all(header::CONTENT_LENGTH) {
        for member in ListMembers::new(line.as_bytes()) {
            let length = parse_length(member).ok_or(InvalidLength)?;
            if *stated.get_or_insert(length) != length {
                return Err(InvalidLength);
            }
        }
        if stated.is_none() {
            return Err(InvalidLength);
        }
    }
    Ok(stated)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidLength;

fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::headers as map;

    #[test]
    fn fields_of_the_connection_are_not_stored() {
        let stored = stored_fields(&map(&[
            ("connection", "close, X-Hop"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("link", "<a>"),
            ("link", "<b>"),
        ]));
        assert_eq!(stored.len(), 2);
        assert_eq!(stored.get_all("link").iter().count(), 2);
    }

    #[test]
    fn every_line_is_kept_in_its_order_and_in_memory_of_its_own() {
        let lines = [("x-a", "1"), ("link", "<a>"), ("x-b", "2"), ("link", "<b>"), ("x-c", "3"), ("link", "")];
        let text = |headers: &HeaderMap| -> Vec<_> {
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
        };
        let expected = text(&map(&lines));
        for begun_with in [&[][..], &[("connection", "x-hop"), ("x-hop", "1")]] {
            let received = map(&[begun_with, &lines[..]].concat());
            let stored = stored_fields(&received);
            assert_eq!(text(&stored), expected);
            let own = |value: &HeaderValue| {
                received.values().all(|other| other.as_bytes().as_ptr() != value.as_bytes().as_ptr())
            };
            assert!(stored.values().filter(|value| !value.is_empty()).all(own));
        }
    }

    #[test]
    fn connection_cannot_strike_off_what_the_cache_needs() {
        let stored = stored_fields(&map(&[
            ("connection", "cache-control, vary, set-cookie, date"),
            ("cache-control", "private"),
            ("vary", "accept"),
            ("set-cookie", "a=b"),
            ("date", "x"),
        ]));
        assert_eq!(stored.len(), 4);
    }

    #[test]
    fn lengths_that_disagree_are_invalid() {
        let check = |values: &[&'static str], expected| {
            let lines: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            assert_eq!(stated_length(&map(&lines)), expected, "{values:?}");
        };
        check(&[], Ok(None));
        check(&["5"], Ok(Some(5)));
        check(&["5, 5"], Ok(Some(5)));
        check(&["5", "5"], Ok(Some(5)));
        check(&["5", "6"], Err(InvalidLength));
        check(&["-5"], Err(InvalidLength));
        check(&["+5"], Err(InvalidLength));
        check(&[""], Err(InvalidLength));
        check(&["99999999999999999999999"], Err(InvalidLength));
    }
}
