//! What was read lately, and what it means: the same octets under the same name mean the same, and are not decoded again.
//! Redis is asked all the same; what it says is compared, octet for octet.

use std::fmt;
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use crate::store::CellKey;
use crate::store::entry::{Cell, StoredResponse};

/// The last values, each in the place that its key has among these.
pub(super) struct Readings {
    places: Box<[RwLock<Place>]>,
}

#[derive(Default)]
enum Place {
    #[default]
    Empty,
    /// A value that was read once, by the octets that it has there. Most are not read again soon.
    ReadOnce([u8; SIGN]),
    Known(Reading),
}

struct Reading {
    name: Box<[u8]>,
    value: Bytes,
    response: Arc<StoredResponse>,
}

/// Of values of no more than `MAX_VALUE` octets: 4 MiB.
const PLACES: usize = 512;
/// Longer ones take longer to be read than to be decoded.
const MAX_VALUE: usize = 8 * 1024;
/// Where two values differ in all likelihood: the checksum of one that is not sealed.
const SIGN_AT: usize = 8;
const SIGN: usize = 8;

impl Readings {
    pub(super) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| RwLock::default()).collect() }
    }

    fn place(&self, key: CellKey<'_>) -> &RwLock<Place> {
        let [first, second, ..] = *key.primary.digest();
        &self.places[usize::from(u16::from_le_bytes([first, second])) % PLACES]
    }

    /// What a value means, if that is known; nobody is waited for.
    pub(super) fn meaning(&self, key: CellKey<'_>, name: &[u8], value: &[u8]) -> Option<Cell> {
        match &*self.place(key).try_read().ok()? {
            Place::Known(known) if *known.value == *value && *known.name == *name => {
                Some(Cell::Response(Arc::clone(&known.response)))
            }
            _ => None,
        }
    }

    /// This is what it means. It is kept when it is read for a second time.
    pub(super) fn note(&self, key: CellKey<'_>, name: &[u8], value: &Bytes, meaning: &Cell) {
        let Cell::Response(response) = meaning else { return };
        let Some((sign, _)) = value.get(SIGN_AT..).and_then(<[u8]>::split_first_chunk) else { return };
        if value.len() > MAX_VALUE || !response.body.is_loaded() {
            return;
        }
        let Ok(mut place) = self.place(key).try_write() else { return };
        *place = match &*place {
            Place::ReadOnce(last) if last == sign => {
                let (name, value, response) = (name.into(), value.clone(), Arc::clone(response));
                Place::Known(Reading { name, value, response })
            }
            _ => Place::ReadOnce(*sign),
        };
    }
}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readings").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec;
    use super::*;
    use crate::key::CacheKey;
    use crate::store::redis::kept;

    fn known(readings: &Readings, key: &CacheKey, name: &[u8], value: &[u8]) -> bool {
        readings.meaning(CellKey::base(key), name, value).is_some()
    }

    fn read(readings: &Readings, key: &CacheKey, name: &[u8], value: &Bytes) {
        let cell = CellKey::base(key);
        readings.note(cell, name, value, &codec::decode(cell, value).expect("a cell"));
    }

    #[test]
    fn what_is_read_again_is_known_and_nothing_else() {
        let (readings, key) = (Readings::new(), kept::key(1));
        let value = Bytes::from(kept::value(&key));
        read(&readings, &key, b"n", &value);
        assert!(!known(&readings, &key, b"n", &value), "it was read once");
        read(&readings, &key, b"n", &value);
        assert!(known(&readings, &key, b"n", &value));
        assert!(!known(&readings, &key, b"m", &value), "another name");
        assert!(!known(&readings, &kept::key(2), b"n", &value), "another key");
        for at in 0..value.len() {
            let mut other = value.to_vec();
            other[at] ^= 1;
            assert!(!known(&readings, &key, b"n", &other), "another octet at {at}");
        }
        assert!(!known(&readings, &key, b"n", &value[..value.len() - 1]));
    }

    #[test]
    fn what_takes_its_place_ends_it() {
        let (readings, key) = (Readings::new(), kept::key(1));
        let value = Bytes::from(kept::value(&key));
        read(&readings, &key, b"n", &value);
        read(&readings, &key, b"n", &value);
        let others = (2..100_000).map(kept::key);
        let [first, second, ..] = *key.digest();
        let mut others = others.filter(|other| {
            let [a, b, ..] = *other.digest();
            (a, b) == (first, second)
        });
        let other = others.next().expect("one with the same place");
        read(&readings, &other, b"o", &Bytes::from(kept::value(&other)));
        assert!(!known(&readings, &key, b"n", &value));
    }

    #[test]
    fn what_is_long_is_not_kept() {
        let (readings, key) = (Readings::new(), kept::key(1));
        let cell = CellKey::base(&key);
        let short = codec::decode(cell, &Bytes::from(kept::value(&key))).expect("a cell");
        let Cell::Response(response) = short else { panic!("a response") };
        let body = crate::store::entry::StoredBody::new(vec![Bytes::from(vec![b'x'; MAX_VALUE])]);
        let long = Cell::Response(Arc::new(StoredResponse { body, ..response.as_ref().clone() }));
        let value = Bytes::from(codec::encode(cell, &long, 0));
        read(&readings, &key, b"n", &value);
        read(&readings, &key, b"n", &value);
        assert!(!known(&readings, &key, b"n", &value));
    }
}
