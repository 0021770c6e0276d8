//! What was read lately, and what it means: the same octets under the same name mean the same, and are not decoded again.
//! Redis is asked all the same; what it says is compared, octet for octet.

use std::fmt;
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use crate::store::CellKey;
use crate::store::entry::{Cell, StoredResponse};

/// The last values, each in the place that its name has among those of its length.
pub(super) struct Readings {
    short: Box<[RwLock<Place>]>,
    long: Box<[RwLock<Place>]>,
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

/// Values of up to `SHORT` octets have so many places, and longer ones of up to `LONG`: 6.5 MiB together. What they mean
/// is made of the same octets; where it is kept under seal, or compressed, that is as much again at the most.
const SHORT_PLACES: usize = 512;
const SHORT: usize = 8 * 1024;
const LONG_PLACES: usize = 32;
const LONG: usize = 80 * 1024;
/// Where two values differ in all likelihood: the checksum of one that is not sealed.
const SIGN_AT: usize = 8;
const SIGN: usize = 8;

impl Readings {
    pub(super) fn new() -> Self {
        let places = |count| (0..count).map(|_| RwLock::default()).collect();
        Self { short: places(SHORT_PLACES), long: places(LONG_PLACES) }
    }

    fn place(&self, key: CellKey<'_>, length: usize) -> &RwLock<Place> {
        let places = if length <= SHORT { &self.short } else { &self.long };
        let two = |octets: &[u8]| octets.first_chunk().map_or(0, |two| usize::from(u16::from_le_bytes(*two)));
        let variant = key.variant.map_or(0, |variant| two(variant.as_bytes()));
        &places[(two(key.primary.digest()) ^ variant) % places.len()]
    }

    /// What a value means, if that is known; nobody is waited for.
    pub(super) fn meaning(&self, key: CellKey<'_>, name: &[u8], value: &[u8]) -> Option<Cell> {
        match &*self.place(key, value.len()).try_read().ok()? {
            Place::Known(known) if known.is(name, value) => Some(Cell::Response(Arc::clone(&known.response))),
            _ => None,
        }
    }

    /// This is what it means, and how long it is when it is opened. It is kept when it is read for a second time.
    pub(super) fn note(&self, key: CellKey<'_>, name: &[u8], value: &Bytes, opened: usize, meaning: &Cell) {
        let Cell::Response(response) = meaning else { return };
        let Some((sign, _)) = value.get(SIGN_AT..).and_then(<[u8]>::split_first_chunk) else { return };
        let most = if value.len() <= SHORT { SHORT } else { LONG };
        if value.len() > most || opened > most || !response.body.is_loaded() {
            return;
        }
        let Ok(mut place) = self.place(key, value.len()).try_write() else { return };
        *place = match &*place {
            // Somebody else has read it at the same time.
            Place::Known(known) if known.is(name, value) => return,
            Place::ReadOnce(last) if last == sign => {
                let (name, value, response) = (name.into(), value.clone(), Arc::clone(response));
                Place::Known(Reading { name, value, response })
            }
            _ => Place::ReadOnce(*sign),
        };
    }
}

impl Reading {
    fn is(&self, name: &[u8], value: &[u8]) -> bool {
        *self.value == *value && *self.name == *name
    }
}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readings").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{codec, kept};
    use super::*;
    use crate::key::CacheKey;
    use crate::semantics::vary::VariantKey;
    use crate::store::entry::StoredBody;

    fn known(readings: &Readings, key: CellKey<'_>, name: &[u8], value: &[u8]) -> bool {
        readings.meaning(key, name, value).is_some()
    }

    fn read(readings: &Readings, key: CellKey<'_>, name: &[u8], value: &Bytes) {
        readings.note(key, name, value, value.len(), &codec::decode(key, value).expect("a cell"));
    }

    /// The same response with a body of so many octets.
    fn with_body(key: CellKey<'_>, value: &Bytes, length: usize) -> Bytes {
        let Ok(Cell::Response(response)) = codec::decode(key, value) else { panic!("a response") };
        let body = StoredBody::new(vec![Bytes::from(vec![b'x'; length])]);
        let other = Cell::Response(Arc::new(StoredResponse { body, ..response.as_ref().clone() }));
        codec::encode(key, &other, 0).into()
    }

    #[test]
    fn what_is_read_again_is_known_and_nothing_else() {
        let (readings, key, other) = (Readings::new(), kept::key(1), kept::key(2));
        let (cell, value) = (CellKey::base(&key), Bytes::from(kept::value(&key)));
        read(&readings, cell, b"n", &value);
        assert!(!known(&readings, cell, b"n", &value), "it was read once");
        for _ in 0..3 {
            read(&readings, cell, b"n", &value);
            assert!(known(&readings, cell, b"n", &value));
        }
        assert!(!known(&readings, cell, b"m", &value), "another name");
        assert!(!known(&readings, CellKey::base(&other), b"n", &value), "another key");
        for at in 0..value.len() {
            let mut other = value.to_vec();
            other[at] ^= 1;
            assert!(!known(&readings, cell, b"n", &other), "another octet at {at}");
        }
        assert!(!known(&readings, cell, b"n", &value[..value.len() - 1]));
    }

    #[test]
    fn variants_of_one_key_are_known_beside_each_other() {
        let (readings, key) = (Readings::new(), kept::key(1));
        let [one, other] = [1, 2].map(|n| CellKey::variant(&key, VariantKey::from_bytes([n; VariantKey::LEN])));
        let value = Bytes::from(kept::value(&key));
        let Ok(meaning) = codec::decode(CellKey::base(&key), &value) else { panic!("a cell") };
        for _ in 0..2 {
            readings.note(one, b"1", &value, value.len(), &meaning);
            readings.note(other, b"2", &value, value.len(), &meaning);
        }
        assert!(known(&readings, one, b"1", &value) && known(&readings, other, b"2", &value));
    }

    #[test]
    fn what_takes_its_place_ends_it() {
        let (readings, key) = (Readings::new(), kept::key(1));
        let (cell, value) = (CellKey::base(&key), Bytes::from(kept::value(&key)));
        read(&readings, cell, b"n", &value);
        read(&readings, cell, b"n", &value);
        let has_its_place = |other: &CacheKey| other.digest()[..2] == key.digest()[..2];
        let other = (2..1_000_000).map(kept::key).find(has_its_place).expect("one with the same place");
        read(&readings, CellKey::base(&other), b"o", &Bytes::from(kept::value(&other)));
        assert!(!known(&readings, cell, b"n", &value));
    }

    #[test]
    fn what_is_longer_has_few_places_or_none() {
        let (readings, key) = (Readings::new(), kept::key(1));
        let (cell, value) = (CellKey::base(&key), Bytes::from(kept::value(&key)));
        for (length, is_kept) in [(SHORT, true), (64 * 1024, true), (LONG, false)] {
            let value = with_body(cell, &value, length);
            read(&readings, cell, b"n", &value);
            read(&readings, cell, b"n", &value);
            assert_eq!(known(&readings, cell, b"n", &value), is_kept, "{length}");
        }
        // It is short, and becomes long when it is opened.
        let meaning = codec::decode(cell, &value).expect("a cell");
        for _ in 0..2 {
            readings.note(cell, b"n", &value, SHORT + 1, &meaning);
        }
        assert!(!known(&readings, cell, b"n", &value));
    }
}
