//! What can be purged, and how it is named in the purge clock.

use std::error::Error;
use std::fmt;

use http::Uri;

use super::label::{Number, Site, normalised};
use crate::error::StoreError;
use crate::key::CacheKey;

/// What a purge names.
///
/// ```
/// use tower_redis_cache::PurgeTarget;
///
/// let all_about_a_product = PurgeTarget::tag("product-7");
/// let a_page = PurgeTarget::url("https://shop.example/cart?step=2".parse().unwrap());
/// let a_part_of_a_site = PurgeTarget::prefix("shop.example", "/catalogue/2026");
/// # drop((all_about_a_product, a_page, a_part_of_a_site));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PurgeTarget {
    /// All variants of what a GET of this URL with no header fields but Host gets, in origin form or in absolute form:
    /// under the keys that the configured [`KeyExtractor`](crate::KeyExtractor) makes of it; and the responses to QUERYs
    /// of it. The URL has to be absolute.
    Url(Uri),
    /// All variants under a key.
    Key(CacheKey),
    /// All responses with this tag, whichever field it came in: 1 to 1024 octets.
    Tag(String),
    /// All responses from this host whose path is this one, or lies below it: `/a` covers `/a`, `/a/` and `/a/b`, and
    /// not `/ab`; `/` covers the host. Paths are compared as they were received, without the query. 1 to 1024 octets
    /// each; a port is named unless it is 80 for http or 443 for https.
    Prefix {
        /// The host, and the port where it is another than the scheme's own.
        host: String,
        /// The path, beginning with a slash.
        path: String,
    },
    /// All that is stored in the namespace.
    Everything,
}

/// How a purge ends what it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PurgeMode {
    /// As if it had never been stored.
    #[default]
    Hard,
    /// It is stale from now on: it is validated before it is used, or used as stale-while-revalidate and stale-if-error
    /// allow (RFC 5861).
    Soft,
}

/// A purge that has been recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Purged {
    /// The number of the purge: that of a later one is greater.
    pub number: u64,
}

/// Why nothing is known to be purged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PurgeError {
    /// The target cannot be named: why.
    Invalid(String),
    /// More targets in one purge than 1024, or none.
    Count(usize),
    /// The store did not take it: nothing is known to be purged.
    Store(String),
}

/// Targets in one purge.
pub(crate) const MAX_TARGETS: usize = 1024;
/// The longest name of a tag, a host or a path.
pub(crate) const MAX_NAME: usize = 1024;

/// The name of something in the purge clock.
///
/// `k:` and a key's digest · `t:` and a tag · `g:`, a host, a space and a group's name (RFC 9875) · `p:`, a host and
/// a path without its last slash · `*`. A soft purge has its own name: `s` and the name of the hard one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Member(Box<[u8]>);

pub(crate) const KEY: &[u8] = b"k:";
pub(crate) const TAG: &[u8] = b"t:";
pub(crate) const GROUP: &[u8] = b"g:";
pub(crate) const PREFIX: &[u8] = b"p:";
pub(crate) const ALL: &[u8] = b"*";
pub(crate) const SOFT: u8 = b's';

// ===== impl PurgeTarget =====

impl PurgeTarget {
    /// See [`Url`](Self::Url).
    pub fn url(url: Uri) -> Self {
        Self::Url(url)
    }

    /// See [`Key`](Self::Key).
    pub fn key(key: CacheKey) -> Self {
        Self::Key(key)
    }

    /// See [`Tag`](Self::Tag).
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::Tag(tag.into())
    }

    /// See [`Prefix`](Self::Prefix).
    pub fn prefix(host: impl Into<String>, path: impl Into<String>) -> Self {
        Self::Prefix { host: host.into(), path: path.into() }
    }

    /// See [`Everything`](Self::Everything).
    pub fn everything() -> Self {
        Self::Everything
    }
}

// ===== impl Member =====

impl Member {
    pub(crate) fn from_octets(octets: &[u8]) -> Self {
        Self(octets.into())
    }

    pub(crate) fn as_octets(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn key(key: &CacheKey) -> Self {
        Self([KEY, key.digest()].concat().into())
    }

    pub(crate) fn tag(tag: &str) -> Result<Self, PurgeError> {
        is_name(tag, "a tag")?;
        Ok(Self([TAG, tag.as_bytes()].concat().into()))
    }

    /// A group of a host: other hosts' groups of that name are others (RFC 9875 §2).
    pub(crate) fn group(site: &Site, group: &str) -> Self {
        Self([GROUP, site.authority.as_bytes(), b" ", group.as_bytes()].concat().into())
    }

    pub(crate) fn prefix(host: &str, path: &str) -> Result<Self, PurgeError> {
        is_name(host, "a host")?;
        is_name(path, "a path")?;
        if host.contains(['/', '@', '?', '#']) || !path.starts_with('/') || path.contains(['?', '#']) {
            let words = "a prefix is a host without a scheme, and a path that begins with a slash, without a query";
            return Err(PurgeError::Invalid(words.into()));
        }
        Ok(Self([PREFIX, normalised(host).as_bytes(), path.trim_end_matches('/').as_bytes()].concat().into()))
    }

    pub(crate) fn everything() -> Self {
        Self(ALL.into())
    }

    pub(crate) fn in_mode(self, mode: PurgeMode) -> Self {
        match mode {
            PurgeMode::Hard => self,
            PurgeMode::Soft => Self([&[SOFT], self.as_octets()].concat().into()),
        }
    }
}

impl std::borrow::Borrow<[u8]> for Member {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

fn is_name(name: &str, what: &str) -> Result<(), PurgeError> {
    match name.len() {
        1..=MAX_NAME => Ok(()),
        length => Err(PurgeError::Invalid(format!("{what} of {length} octets: it may have 1 to {MAX_NAME}"))),
    }
}

// ===== impl Purged =====

impl Purged {
    pub(crate) fn at(number: Number) -> Self {
        Self { number }
    }
}

// ===== impl PurgeError =====

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "this cannot be purged: {why}"),
            Self::Count(count) => write!(f, "one purge has 1 to {MAX_TARGETS} targets, not {count}"),
            Self::Store(error) => write!(f, "nothing is known to be purged: {error}"),
        }
    }
}

impl Error for PurgeError {}

impl From<StoreError> for PurgeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own() {
        let key = CacheKey::from("k");
        let site = Site { authority: "a.example".into(), path: "/".into() };
        let prefix = |host, path| Member::prefix(host, path).unwrap();
        assert_eq!(Member::key(&key).as_octets()[2..], key.digest()[..]);
        assert_eq!(Member::tag("x y").unwrap().as_octets(), b"t:x y");
        assert_eq!(Member::group(&site, "x").as_octets(), b"g:a.example x");
        assert_eq!(prefix("A.example:443", "/b/").as_octets(), b"p:a.example/b");
        assert_eq!(prefix("a.example:81", "/").as_octets(), b"p:a.example:81");
        assert_eq!(Member::everything().in_mode(PurgeMode::Soft).as_octets(), b"s*");
    }

    #[test]
    fn what_cannot_be_named_is_refused() {
        let long = "x".repeat(MAX_NAME + 1);
        for refused in [
            Member::tag(""),
            Member::tag(&long),
            Member::prefix("", "/"),
            Member::prefix("a.example", ""),
            Member::prefix("a.example", "b"),
            Member::prefix("https://a.example", "/"),
            Member::prefix("a.example", "/b?c"),
            Member::prefix("user@a.example", "/"),
            Member::prefix("a.example", &format!("/{long}")),
        ] {
            assert!(matches!(refused, Err(PurgeError::Invalid(_))), "{refused:?}");
        }
        assert!(Member::tag(&long[1..]).is_ok());
    }
}
