//! Every key that is ever written to Redis.
//!
//! | key | holds |
//! |---|---|
//! | `<ns>:{K}` | the head of the stored response, with a small body; the index of its variants; or a small cell about others |
//! | `<ns>:{K}:<variant>` | the same for one selected representation |
//! | `<ns>:{K}:b:<generation>:<n>` | chunk n of a large body |
//! | `<ns>:{K}:lease`, `<ns>:{K}:<variant>:lease` | who fetches it at present, for a moment |
//! | `<ns>:{K}:failing` | that the service failed for it, and when it is to be tried again |
//! | `<ns>:{K}…:live:<token>` | the head of what is fetched under that lease, and how much of its body is there |
//! | `<ns>:{K}…:live:<token>:read` | whether some other process waits for that or reads it |
//! | `<ns>:{purge}` | the purge clock, a sorted set; also the channel on which it is told that something was purged |
//! | `<ns>:{purge}:probe` | nothing, for a second: written to learn whether the server tells of changes by itself |
//! | `<ns>:{wake}` | nothing: the channel on which those who wait are told that a lease was given back, or more is there |
//! | `<ns>:{probe}` | nothing: read to learn whether the server answers |
//! | `<ns>:{entries:<lists>:<n>}` | a share of what there is, by its last use, a sorted set, where `max_entries` is set |
//! | `<ns>:{doctor}`, `<ns>:{doctor}:set` | nothing, for a second: what is granted is tried out on them |
//!
//! K is the digest of the primary key, so that URLs, which carry secrets, do not show and keys stay short. The braces
//! make it a hash tag: all keys of one primary key live in one slot of a cluster.

use std::io::Write;

use smallvec::SmallVec;

use crate::hex::write_hex;
use crate::key::CacheKey;
use crate::store::{CellKey, LeaseKey};

/// One immutable writing of a body.
pub(crate) type Generation = u128;

/// The name of a key; most need no memory of their own.
pub(crate) type Name = SmallVec<[u8; 128]>;

/// Names keys within one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    start: Box<str>,
    wake: Box<[u8]>,
}

impl Layout {
    pub(crate) fn new(namespace: &str) -> Self {
        let start = format!("{namespace}:{{").into_boxed_str();
        Self { wake: format!("{start}wake}}").into_bytes().into_boxed_slice(), start }
    }

    pub(crate) fn cell(&self, key: CellKey<'_>) -> Name {
        let mut name = Name::new();
        self.begin(&mut name, key);
        name
    }

    /// The lease for the fetch of what a cell holds.
    pub(crate) fn lease(&self, key: CellKey<'_>) -> Name {
        let mut name = Name::new();
        self.begin(&mut name, key);
        name.extend_from_slice(b":lease");
        name
    }

    /// That the service failed.
    pub(crate) fn failing(&self, key: CellKey<'_>) -> Name {
        let mut name = Name::new();
        self.begin(&mut name, CellKey::base(key.primary));
        name.extend_from_slice(b":failing");
        name
    }

    /// What is told of the fetch under a lease.
    pub(crate) fn live(&self, lease: LeaseKey<'_>) -> Name {
        let mut name = Name::new();
        self.begin_live(&mut name, lease);
        name
    }

    /// That somebody waits elsewhere for what is fetched under it, or reads it.
    pub(crate) fn awaited(&self, lease: LeaseKey<'_>) -> Name {
        let mut name = Name::new();
        self.begin_live(&mut name, lease);
        name.extend_from_slice(b":read");
        name
    }

    pub(crate) fn wake(&self) -> &[u8] {
        &self.wake
    }

    /// The purge clock.
    pub(crate) fn purges(&self) -> Vec<u8> {
        [self.start.as_bytes(), b"purge}"].concat()
    }

    /// A key that whoever hears of the purge clock hears of.
    pub(crate) fn purges_probe(&self) -> Vec<u8> {
        [self.start.as_bytes(), b"purge}:probe"].concat()
    }

    pub(crate) fn chunk(&self, key: CellKey<'_>, generation: Generation, index: u32) -> Name {
        let mut name = Name::new();
        self.begin(&mut name, CellKey::base(key.primary));
        name.extend_from_slice(b":b:");
        push_hex(&mut name, &generation.to_be_bytes());
        write!(name, ":{index}").expect("a vector takes all");
        name
    }

    pub(crate) fn probe(&self) -> Vec<u8> {
        [self.start.as_bytes(), b"probe}"].concat()
    }

    /// One of so many lists of the responses there are.
    pub(crate) fn entries(&self, lists: u64, list: u64) -> Vec<u8> {
        format!("{}entries:{lists}:{list}}}", self.start).into_bytes()
    }

    /// The cell that such a list names: by the digest of a primary key, and a variant.
    pub(crate) fn entry(&self, entry: &[u8]) -> Option<Name> {
        let (digest, variant) = entry.split_at_checked(CacheKey::DIGEST_LEN)?;
        let mut name = Name::from_slice(self.start.as_bytes());
        push_hex(&mut name, digest);
        name.push(b'}');
        if !variant.is_empty() {
            name.push(b':');
            push_hex(&mut name, variant);
        }
        Some(name)
    }

    pub(crate) fn doctor(&self) -> Vec<u8> {
        [self.start.as_bytes(), b"doctor}"].concat()
    }

    pub(crate) fn doctor_set(&self) -> Vec<u8> {
        [self.start.as_bytes(), b"doctor}:set"].concat()
    }

    /// With the name of a cell. A name is made where it stays: it is larger than most that is passed on.
    fn begin(&self, name: &mut Name, key: CellKey<'_>) {
        let mut digits = [b'}'; 2 * CacheKey::DIGEST_LEN + 1];
        write_hex(&mut digits[..2 * CacheKey::DIGEST_LEN], key.primary.digest());
        name.extend_from_slice(self.start.as_bytes());
        name.extend_from_slice(&digits);
        if let Some(variant) = key.variant {
            name.push(b':');
            push_hex(name, variant.as_bytes());
        }
    }

    fn begin_live(&self, name: &mut Name, lease: LeaseKey<'_>) {
        self.begin(name, lease.cell);
        name.extend_from_slice(b":live:");
        name.extend_from_slice(lease.token.as_bytes());
    }
}

/// The part of a key by which a cluster chooses its slot: what stands between the first braces, if anything does.
pub(super) fn hash_tag(key: &[u8]) -> &[u8] {
    let tagged = key.iter().position(|octet| *octet == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|octet| *octet == b'}').filter(|close| *close > 0)?;
        Some(&rest[..close])
    });
    tagged.unwrap_or(key)
}

fn push_hex(name: &mut Name, octets: &[u8]) {
    const AT_ONCE: usize = 32;
    for octets in octets.chunks(AT_ONCE) {
        let mut digits = [0; 2 * AT_ONCE];
        let digits = &mut digits[..2 * octets.len()];
        write_hex(digits, octets);
        name.extend_from_slice(digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::vary::VariantKey;

    #[test]
    fn all_keys_of_a_primary_key_share_their_hash_tag_and_namespace() {
        let layout = Layout::new("shop");
        let key = CacheKey::from("k");
        let base = String::from_utf8(layout.cell(CellKey::base(&key)).into_vec()).unwrap();
        assert!(base.starts_with("shop:{") && base.ends_with('}'));
        assert_eq!(base.len(), "shop:{}".len() + 40);
        let variant = CellKey::variant(&key, VariantKey::from_bytes([0xab; VariantKey::LEN]));
        assert_eq!(&*layout.cell(variant), format!("{base}:{}", "ab".repeat(20)).as_bytes());
        let entry = [&key.digest()[..], &[0xab; VariantKey::LEN]].concat();
        assert_eq!(layout.entry(&entry), Some(layout.cell(variant)));
        assert_eq!(layout.entry(key.digest()), Some(layout.cell(CellKey::base(&key))));
        assert_eq!(layout.entry(b"short"), None);
        assert_eq!(&*layout.lease(variant), format!("{base}:{}:lease", "ab".repeat(20)).as_bytes());
        let token = crate::collapse::lease::Instance::new().token();
        let live = layout.awaited(LeaseKey { cell: CellKey::base(&key), token: &token });
        let token = String::from_utf8_lossy(token.as_bytes()).into_owned();
        assert_eq!(&*live, format!("{base}:live:{token}:read").as_bytes());
        let chunk = String::from_utf8(layout.chunk(variant, 1, 12).into_vec()).unwrap();
        assert_eq!(chunk, format!("{base}:b:{:032x}:12", 1));
    }
}
