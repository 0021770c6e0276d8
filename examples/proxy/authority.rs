//! The one place that says which `Host` and `:authority` values are valid.
//!
//! Stricter than the grammar of RFC 3986 §3.2.2 on purpose: letters, digits, `-`, `.`, `_` and `~`, or an
//! IP literal. Percent-encodings and sub-delimiters in a host name have no honest use, and proxies, caches
//! and origins disagree about what they mean.

use std::net::Ipv6Addr;
use std::str::FromStr;

use hyper::http::uri::Authority;

/// The longest name the domain name system knows, in its text form.
const MAX_HOST: usize = 253;

/// Parses a host with an optional port; `None` when it is not a valid one.
///
/// An empty port (`example.com:`) is allowed by RFC 3986 and left out of the result.
pub(crate) fn parse_authority(value: &[u8]) -> Option<Authority> {
    let value = std::str::from_utf8(value).ok()?;
    let (host, port) = split_port(value)?;
    if !valid_host(host) {
        return None;
    }
    match port {
        Some(port) if !port.is_empty() => {
            if !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            port.parse::<u16>().ok()?;
            Authority::from_str(value).ok()
        }
        _ => Authority::from_str(host).ok(),
    }
}

/// Splits at the colon that follows the host; colons inside brackets belong to an IPv6 address.
fn split_port(value: &str) -> Option<(&str, Option<&str>)> {
    if value.starts_with('[') {
        let (host, rest) = value.split_at(value.find(']')? + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match value.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((value, None)),
    }
}

fn valid_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return literal.parse::<Ipv6Addr>().is_ok();
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(allowed)
}
