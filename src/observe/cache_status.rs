//! The `Cache-Status` response field (RFC 9211).

use std::fmt::{self, Write};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::Outcome;
use crate::error::ConfigError;
use crate::key::CacheKey;

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The name by which this cache is known in the field: a token, or a quoted string where it is none (RFC 8941).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheName {
    item: String,
    #[cfg(feature = "metrics")]
    name: String,
}

impl CacheName {
    /// As it was set, and not as the structured field has it.
    #[cfg(feature = "metrics")]
    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    pub(crate) fn new(name: &str) -> Result<Self, ConfigError> {
        if name.is_empty() || name.len() > 128 {
            return Err(ConfigError::new("cache_status_name", "must have 1 to 128 characters"));
        }
        if !name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(ConfigError::new("cache_status_name", "must be printable ASCII"));
        }
        let quoted = || format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
        Ok(Self::of(if is_token(name) { name.to_owned() } else { quoted() }, name))
    }

    fn of(item: String, _name: &str) -> Self {
        Self {
            item,
            #[cfg(feature = "metrics")]
            name: _name.to_owned(),
        }
    }
}

impl Default for CacheName {
    fn default() -> Self {
        Self::of("tower-redis-cache".to_owned(), "tower-redis-cache")
    }
}

/// RFC 8941 §3.3.4.
fn is_token(name: &str) -> bool {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'*');
    starts && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte))
}

/// Adds this cache's member behind those of the caches nearer to the origin (RFC 9211 §2).
pub(crate) fn append(headers: &mut HeaderMap, name: &CacheName, key: Option<&CacheKey>, outcome: &Outcome) {
    headers.append(CACHE_STATUS, member(name, key, outcome));
}

fn member(name: &CacheName, key: Option<&CacheKey>, outcome: &Outcome) -> HeaderValue {
    let mut text = Text::new();
    text.add(&name.item);
    if outcome.is_hit() {
        text.add("; hit");
    }
    if let Some(reason) = outcome.forward {
        text.add("; fwd=");
        text.add(reason.as_str());
    }
    if let Some(status) = outcome.forward_status {
        text.add("; fwd-status=");
        text.add(StatusCode::as_str(&status));
    }
    if let Some(ttl) = outcome.ttl {
        text.add("; ttl=");
        text.add(itoa::Buffer::new().format(ttl.as_secs()));
    }
    if outcome.stored {
        text.add("; stored");
    }
    if outcome.collapsed {
        text.add("; collapsed");
    }
    if let Some(key) = key {
        // A digest: the key itself may hold a secret.
        write!(text, "; key=\"{}\"", key.hex()).expect("a text takes all");
    }
    if let Some(detail) = outcome.detail {
        text.add("; detail=");
        text.add(detail);
    }
    field_value(text.as_bytes())
}

/// A member on its way, in one piece on the stack.
struct Text {
    octets: [u8; Self::ROOM],
    length: usize,
}

impl Text {
    /// For the longest name, quoted, and all there may be behind it.
    const ROOM: usize = 768;

    fn new() -> Self {
        Self { octets: [0; Self::ROOM], length: 0 }
    }

    /// What does not fit is left out, and nothing is so long.
    fn add(&mut self, part: &str) {
        let end = self.length + part.len();
        debug_assert!(end <= Self::ROOM, "{part}");
        if let Some(place) = self.octets.get_mut(self.length..end) {
            place.copy_from_slice(part.as_bytes());
            self.length = end;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.add(part);
        Ok(())
    }
}

/// Digits, in one allocation.
pub(crate) fn digits(number: u64) -> HeaderValue {
    field_value(itoa::Buffer::new().format(number).as_bytes())
}

fn field_value(text: &[u8]) -> HeaderValue {
    let text = Bytes::copy_from_slice(text);
    HeaderValue::from_maybe_shared(text).expect("a cache name, tokens and digits make a field value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{ForwardReason, Ttl};
    use crate::semantics::storing::Refusal;
    use std::time::Duration;

    fn text(outcome: &Outcome) -> String {
        member(&CacheName::default(), None, outcome).to_str().unwrap().to_owned()
    }

    #[test]
    fn each_outcome_has_its_parameters() {
        let ttl = |lifetime, age| Ttl::between(Duration::from_millis(lifetime), Duration::from_millis(age));
        assert_eq!(text(&Outcome::hit(ttl(60_000, 100))), "tower-redis-cache; hit; ttl=60");
        assert_eq!(text(&Outcome::hit(ttl(60_000, 65_900))), "tower-redis-cache; hit; ttl=-5");
        let forwarded = Outcome::forwarded(ForwardReason::UriMiss).with_status(StatusCode::OK);
        assert_eq!(
            text(&forwarded.clone().with_ttl(ttl(60_000, 0)).being_stored()),
            "tower-redis-cache; fwd=uri-miss; fwd-status=200; ttl=60; stored"
        );
        assert_eq!(
            text(&forwarded.refused(Refusal::SetCookie)),
            "tower-redis-cache; fwd=uri-miss; fwd-status=200; detail=set-cookie"
        );
    }

    #[test]
    fn a_name_that_is_no_token_is_quoted() {
        let name = |text| CacheName::new(text).map(|name| name.item);
        assert_eq!(name("edge-1.example").unwrap(), "edge-1.example");
        assert_eq!(name("1 \"x\\").unwrap(), r#""1 \"x\\""#);
        assert!(name("").is_err());
        assert!(name("a\r\nb").is_err());
    }
}
