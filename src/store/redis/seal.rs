//! Values that only those can have written who know a secret: each has a tag over its name and its content.
//!
//! A value is followed by the first 16 octets of a keyed BLAKE3 of the length of its name, the name and the value, and by
//! the number of the key. Whoever may write to the Redis but does not know the secret can take values away, or put back
//! what was there under the same name, and nothing else.

use std::fmt;

use bytes::Bytes;

use super::codec::Rejection;
use crate::error::ConfigError;

/// The keys that are known; the first writes.
#[derive(Clone, Default)]
pub(crate) struct Seals {
    keys: Vec<(u32, [u8; blake3::KEY_LEN])>,
}

const TAG: usize = 16;
/// What a seal adds to a value.
pub(super) const LENGTH: usize = TAG + size_of::<u32>();
const LEAST_SECRET: usize = 32;
const MOST_KEYS: usize = 16;
const CONTEXT: &str = "tower-redis-cache 2026-11-29 seals of stored values";

impl Seals {
    pub(crate) fn add(&mut self, id: u32, secret: &[u8]) -> Result<(), ConfigError> {
        let invalid = |reason: &'static str| Err(ConfigError::new("entry_secret", reason));
        if secret.len() < LEAST_SECRET {
            return invalid("must have 32 octets or more, at random");
        }
        if self.keys.iter().any(|(known, _)| *known == id) {
            return invalid("two secrets have the same number");
        }
        if self.keys.len() == MOST_KEYS {
            return invalid("at most 16 secrets");
        }
        self.keys.push((id, blake3::derive_key(CONTEXT, secret)));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What every value takes more.
    pub(super) fn length(&self) -> usize {
        if self.keys.is_empty() { 0 } else { LENGTH }
    }

    /// The value as it is written.
    pub(super) fn seal(&self, name: &[u8], mut value: Vec<u8>) -> Vec<u8> {
        if let Some((id, key)) = self.keys.first() {
            let tag = tag(key, name, &value);
            value.reserve_exact(LENGTH);
            value.extend_from_slice(&tag.as_bytes()[..TAG]);
            value.extend_from_slice(&id.to_le_bytes());
        }
        value
    }

    /// The value that was sealed.
    pub(super) fn open(&self, name: &[u8], sealed: Bytes) -> Result<Bytes, Rejection> {
        if self.keys.is_empty() {
            return Ok(sealed);
        }
        let Some(end) = sealed.len().checked_sub(LENGTH) else { return Err(Rejection::Forged) };
        let (value, seal) = sealed.split_at(end);
        let (given, id) = seal.split_at(TAG);
        let key = self.keys.iter().find(|(known, _)| known.to_le_bytes() == id);
        let Some((_, key)) = key else { return Err(Rejection::Forged) };
        let mut expected = [0; blake3::OUT_LEN];
        expected[..TAG].copy_from_slice(&tag(key, name, value).as_bytes()[..TAG]);
        let mut padded = [0; blake3::OUT_LEN];
        padded[..TAG].copy_from_slice(given);
        // Compared in constant time.
        match blake3::Hash::from_bytes(expected) == blake3::Hash::from_bytes(padded) {
            true => Ok(sealed.slice(..end)),
            false => Err(Rejection::Forged),
        }
    }
}

fn tag(key: &[u8; blake3::KEY_LEN], name: &[u8], value: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name).update(value);
    hasher.finalize()
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seals(secrets: &[(u32, u8)]) -> Seals {
        let mut seals = Seals::default();
        secrets.iter().for_each(|(id, octet)| seals.add(*id, &[*octet; 32]).unwrap());
        seals
    }

    #[test]
    fn a_value_opens_under_its_own_name_and_by_its_own_key_alone() {
        let (old, new) = (seals(&[(1, 1)]), seals(&[(2, 2), (1, 1)]));
        let sealed = Bytes::from(old.seal(b"a", b"value".to_vec()));
        assert_eq!(old.open(b"a", sealed.clone()).unwrap(), "value");
        assert_eq!(new.open(b"a", sealed.clone()).unwrap(), "value", "an older key is known");
        assert!(old.open(b"a", new.seal(b"a", b"value".to_vec()).into()).is_err(), "a newer is not");
        assert!(old.open(b"b", sealed.clone()).is_err(), "another name");
        assert!(seals(&[(1, 3)]).open(b"a", sealed.clone()).is_err(), "another secret");
        for at in 0..sealed.len() {
            let mut flipped = sealed.to_vec();
            flipped[at] ^= 1;
            assert!(old.open(b"a", flipped.into()).is_err(), "octet {at}");
        }
        for length in 0..sealed.len() {
            assert!(old.open(b"a", sealed.slice(..length)).is_err(), "{length} octets");
        }
        // What moves from the name into the value is another value.
        assert!(old.open(b"av", Bytes::from([b"alue", &sealed[5..]].concat())).is_err());
        assert_eq!(Seals::default().open(b"a", sealed.clone()).unwrap(), sealed);
    }

    #[test]
    fn weak_and_doubled_secrets_are_refused_and_not_shown() {
        let mut seals = Seals::default();
        assert!(seals.add(1, b"s3cret").is_err());
        seals.add(1, &[b's'; 32]).unwrap();
        assert!(seals.add(1, &[b't'; 32]).is_err());
        (2..=16).for_each(|id| seals.add(id, &[7; 32]).unwrap());
        assert!(seals.add(17, &[7; 32]).is_err());
        assert!(!format!("{seals:?}").contains('s'));
    }
}
