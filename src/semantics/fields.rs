//! Which header fields belong to a stored response (RFC 9111 §3.1).

use bytes::BytesMut;
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::cache_control::ListMembers;

/// Fields that speak of one connection (RFC 9110 §7.6.1) or of one hop's authentication (RFC 9111 §3.1).
const NOT_STORED: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

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

/// The fields to store: all but those of the connection, every line in its order.
pub(crate) fn stored_fields(received: &HeaderMap) -> HeaderMap {
    let mut stored = received.clone();
    for line in received.get_all(header::CONNECTION) {
        for name in ListMembers::new(line.as_bytes()) {
            if let Ok(name) = HeaderName::from_bytes(name)
                && !KEPT.contains(&name)
            {
                stored.remove(&name);
            }
        }
    }
    for name in &NOT_STORED {
        stored.remove(name);
    }
    compacted(&stored)
}

/// The same fields in memory of their own: a value received from a connection is a slice of that connection's read
/// buffer, which it would keep alive whole.
fn compacted(fields: &HeaderMap) -> HeaderMap {
    let mut block = BytesMut::with_capacity(fields.values().map(HeaderValue::len).sum());
    fields.values().for_each(|value| block.extend_from_slice(value.as_bytes()));
    let mut block = block.freeze();
    let mut compact = HeaderMap::with_capacity(fields.keys_len());
    for (name, value) in fields {
        let copy = HeaderValue::from_maybe_shared(block.split_to(value.len()));
        compact.append(name.clone(), copy.expect("the octets of a field value are a field value"));
    }
    compact
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
