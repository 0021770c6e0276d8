//! Cache keys: which requests may share a stored response (RFC 9111 §2).
//!
//! A [`CacheKey`] is a list of length-prefixed parts, so that no part can pretend to be two, and the digest of that
//! list. The digest names the entry in the store; the list itself is kept in the entry and compared on every hit.

mod default;
pub(crate) mod digests;

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header, request};

pub use default::DefaultKey;

use crate::hex::write_hex;

/// The primary key of a stored response.
///
/// ```
/// use tower_redis_cache::CacheKey;
///
/// let key = CacheKey::from_parts(["tenant-7", "/reports", "year=2026"]);
/// assert_ne!(key, CacheKey::from_parts(["tenant-7", "/reportsyear", "=2026"]));
/// ```
#[derive(Clone)]
pub struct CacheKey {
    parts: KeyOctets,
    digest: [u8; CacheKey::DIGEST_LEN],
}

/// Makes the cache key of a request, or `None` where the request is not to be cached.
///
/// Closures over the request's head are extractors, and may answer with a [`CacheKey`] or with text:
///
/// ```
/// use http::request::Parts;
/// use tower_redis_cache::{CacheConfig, CacheKey};
///
/// let config = CacheConfig::default().key(|parts: &Parts| {
///     let tenant = parts.headers.get("x-tenant")?;
///     Some(CacheKey::from_parts([tenant.as_bytes(), parts.uri.to_string().as_bytes()]))
/// });
/// # drop(config);
/// ```
///
/// Two requests with one key get one answer: a key must hold everything that the response depends on, but for the
/// request fields that the response itself names in `Vary`.
pub trait KeyExtractor: Send + Sync + 'static {
    /// The key. For HEAD, and for a method that invalidates, the request is shown as the GET that it stands for.
    fn key(&self, parts: &request::Parts) -> Option<CacheKey>;

    /// The target that the client sent, where the request's URI is another: a nested router sees only the rest of the
    /// path. References in responses, and `No-Vary-Search`, are read against it.
    fn target(&self, parts: &request::Parts) -> Option<Uri> {
        let _ = parts;
        None
    }

    /// The target to forward for a request that has this extractor's key, where it is not the one received.
    ///
    /// An extractor that drops a part of the target from the key must drop it here as well: what the origin reads and
    /// the key lacks is how caches are poisoned.
    fn forwarded_uri(&self, parts: &request::Parts) -> Option<Uri> {
        let _ = parts;
        None
    }
}

impl<F, K> KeyExtractor for F
where
    F: Fn(&request::Parts) -> Option<K> + Send + Sync + 'static,
    K: Into<CacheKey>,
{
    fn key(&self, parts: &request::Parts) -> Option<CacheKey> {
        self(parts).map(Into::into)
    }
}

/// A request extension: the target that a key is wanted for, stronger than any other.
#[derive(Clone, Debug)]
struct NamedTarget(Uri);

/// The key that a GET like this one would have with another target.
pub(crate) fn key_for(extractor: &dyn KeyExtractor, request: &request::Parts, target: Uri) -> Option<CacheKey> {
    let mut parts = request.clone();
    parts.method = Method::GET;
    parts.extensions.insert(NamedTarget(target.clone()));
    parts.uri = target;
    extractor.key(&parts)
}

// ===== impl CacheKey =====

impl CacheKey {
    /// 160 bits of BLAKE3.
    pub(crate) const DIGEST_LEN: usize = 20;

    /// A key of these parts. Each is length-prefixed, so `["ab", "c"]` and `["a", "bc"]` differ.
    pub fn from_parts<I>(parts: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut builder = KeyBuilder::new();
        for part in parts {
            builder.part(part.as_ref());
        }
        builder.finish()
    }

    /// The key of a request with content: a digest of it counts, and all lines of the fields that say what it means
    /// (RFC 10008 §2.7).
    pub(crate) fn with_content(&self, headers: &HeaderMap, content: &[u8]) -> Self {
        let mut builder = KeyBuilder::new();
        builder.part(b"QUERY");
        builder.part(self.parts());
        builder.part(blake3::hash(content).as_bytes());
        for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE] {
            builder.part(name.as_str().as_bytes());
            headers.get_all(name).iter().for_each(|line| builder.part(line.as_bytes()));
        }
        builder.finish()
    }

    pub(crate) fn parts(&self) -> &[u8] {
        self.parts.as_slice()
    }

    /// The key with these [parts](Self::parts).
    pub(crate) fn from_octets(octets: &[u8]) -> Self {
        let mut digest = [0; Self::DIGEST_LEN];
        digest.copy_from_slice(&blake3::hash(octets).as_bytes()[..Self::DIGEST_LEN]);
        Self { parts: KeyOctets::of(octets), digest }
    }

    /// The same, to be kept.
    pub(crate) fn shared_parts(&self) -> KeyOctets {
        self.parts.clone()
    }

    /// The digest as Redis keys and logs show it.
    pub(crate) fn hex(&self) -> Hex<'_> {
        Hex(&self.digest)
    }

    pub(crate) fn digest(&self) -> &[u8; Self::DIGEST_LEN] {
        &self.digest
    }
}

impl PartialEq for CacheKey {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for CacheKey {}

impl From<String> for CacheKey {
    fn from(text: String) -> Self {
        Self::from_parts([text])
    }
}

impl From<&str> for CacheKey {
    fn from(text: &str) -> Self {
        Self::from_parts([text])
    }
}

/// A key may hold a URL, and a URL may hold a secret: only the digest is shown.
impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({})", self.hex())
    }
}

/// A digest in hexadecimal digits.
pub(crate) struct Hex<'a>(&'a [u8; CacheKey::DIGEST_LEN]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 2 * CacheKey::DIGEST_LEN];
        write_hex(&mut digits, self.0);
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

// ===== KeyOctets =====

/// The octets of a key: in the key itself, where they are few, as those of most keys are.
#[derive(Clone)]
pub(crate) enum KeyOctets {
    Inline(u8, [u8; KeyOctets::INLINE]),
    Shared(Bytes),
}

impl KeyOctets {
    const INLINE: usize = 110;

    fn of(octets: &[u8]) -> Self {
        let mut inline = [0; Self::INLINE];
        match (inline.get_mut(..octets.len()), u8::try_from(octets.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(octets);
                Self::Inline(length, inline)
            }
            _ => Self::Shared(Bytes::copy_from_slice(octets)),
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline(length, octets) => &octets[..usize::from(*length)],
            Self::Shared(octets) => octets,
        }
    }
}

impl PartialEq for KeyOctets {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for KeyOctets {}

impl fmt::Debug for KeyOctets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.as_slice().len())
    }
}

// ===== KeyBuilder =====

/// Collects the parts of a key in one buffer, which most keys fit without a room of its own.
#[derive(Debug)]
pub(crate) struct KeyBuilder {
    inline: [u8; Self::INLINE],
    length: usize,
    /// All of them, where they are too long for that.
    long: Vec<u8>,
}

impl KeyBuilder {
    const INLINE: usize = 256;

    pub(crate) fn new() -> Self {
        Self { inline: [0; Self::INLINE], length: 0, long: Vec::new() }
    }

    pub(crate) fn part(&mut self, part: &[u8]) {
        let prefix = u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
        let end = self.length + prefix.len() + part.len();
        match self.inline.get_mut(self.length..end).and_then(|place| place.split_first_chunk_mut()) {
            Some((length, place)) => {
                *length = prefix;
                place.copy_from_slice(part);
            }
            None => {
                if self.long.is_empty() {
                    self.long.extend_from_slice(&self.inline[..self.length]);
                }
                self.long.extend_from_slice(&prefix);
                self.long.extend_from_slice(part);
            }
        }
        self.length = end;
    }

    pub(crate) fn finish(&self) -> CacheKey {
        CacheKey::from_octets(if self.long.is_empty() { &self.inline[..self.length] } else { &self.long })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_their_lengths_however_long_they_are() {
        for lengths in
            [&[0_usize][..], &[3, 0, 5], &[252], &[253], &[200, 48], &[200, 49], &[300], &[100, 300, 1], &[9, 900]]
        {
            let parts: Vec<Vec<u8>> = lengths.iter().map(|length| vec![b'x'; *length]).collect();
            let expected: Vec<u8> = parts
                .iter()
                .flat_map(|part| [&u32::try_from(part.len()).unwrap().to_le_bytes()[..], part].concat())
                .collect();
            let key = CacheKey::from_parts(&parts);
            assert_eq!(key.parts(), expected, "{lengths:?}");
            assert_eq!(key.digest(), &blake3::hash(&expected).as_bytes()[..CacheKey::DIGEST_LEN]);
            assert_eq!(CacheKey::from_octets(key.parts()), key);
        }
    }
}
