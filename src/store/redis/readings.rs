//! What was read lately, and what it means: the same octets under the same name mean the same, and are not decoded again.
//! Redis is asked all the same; what it says is compared, octet for octet.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use super::codec::{ADDED_FIELDS, CHECKSUM_AT};
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
    /// A value that was read once, by its checksum. Most are not read again soon.
    ReadOnce([u8; SIGN]),
    Known(Reading),
}

struct Reading {
    name: Box<[u8]>,
    value: Bytes,
    response: Arc<StoredResponse>,
    /// Since something else was last read in this place.
    is_used: AtomicBool,
}

/// Values of up to `SHORT` octets have so many places, and longer ones of up to `LONG`: 6.5 MiB together. What they mean
/// lies in the same octets, but for labels, names and tables of fields, some 3 MiB; where values are compressed, in as many
/// again.
const SHORT_PLACES: usize = 512;
const SHORT: usize = 8 * 1024;
const LONG_PLACES: usize = 32;
const LONG: usize = 80 * 1024;
/// A table of more fields is not kept: with room for what a hit adds it would have twice the places.
const MAX_LINES: usize = 48 - ADDED_FIELDS;
/// Of the checksum.
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
            Place::Known(known) if known.is(name, value) => {
                if !known.is_used.load(Ordering::Relaxed) {
                    known.is_used.store(true, Ordering::Relaxed);
                }
                Some(Cell::Response(Arc::clone(&known.response)))
            }
            _ => None,
        }
    }

    /// This is what it means, when it is opened. It is kept when it is read for a second time.
    pub(super) fn note(&self, key: CellKey<'_>, name: &[u8], value: &Bytes, opened: &[u8], meaning: &Cell) {
        let Cell::Response(response) = meaning else { return };
        let Some(sign) = opened.get(CHECKSUM_AT..).and_then(<[u8]>::first_chunk) else { return };
        let most = if value.len() <= SHORT { SHORT } else { LONG };
        let is_small = value.len() <= most && opened.len() <= most && response.headers.len() <= MAX_LINES;
        if !is_small || response.trailers.is_some() || !response.body.is_loaded() {
            return;
        }
        let Ok(mut place) = self.place(key, value.len()).try_write() else { return };
        *place = match &*place {
            // Somebody else has read it at the same time.
            Place::Known(known) if known.is(name, value) => return,
            // What is read often has changed: the old one is hardly read again, unless by who was slow, or a replica has it.
            Place::Known(known) if *known.name == *name => Place::Known(Reading::new(name, value, response)),
            // It is read often, and stays for once.
            Place::Known(known) if known.is_used.swap(false, Ordering::Relaxed) => return,
            Place::ReadOnce(last) if last == sign => Place::Known(Reading::new(name, value, response)),
            _ => Place::ReadOnce(*sign),
        };
    }
}

impl Reading {
    fn new(name: &[u8], value: &Bytes, response: &Arc<StoredResponse>) -> Self {
        let (name, value, response) = (name.into(), value.clone(), Arc::clone(response));
        Self { name, value, response, is_used: AtomicBool::new(false) }
    }

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
    use http::{HeaderName, HeaderValue};

    use super::super::{codec, kept};
    use super::*;
    use crate::key::CacheKey;
    use crate::semantics::vary::VariantKey;
    use crate::store::entry::StoredBody;

    fn known(readings: &Readings, key: CellKey<'_>, name: &[u8], value: &[u8]) -> bool {
        readings.meaning(key, name, value).is_some()
    }

    fn read(readings: &Readings, key: CellKey<'_>, name: &[u8], value: &Bytes) {
        readings.note(key, name, value, value, &codec::decode(key, value).expect("a cell"));
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
            readings.note(one, b"1", &value, &value, &meaning);
            readings.note(other, b"2", &value, &value, &meaning);
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
        let (other, others) = (CellKey::base(&other), Bytes::from(kept::value(&other)));
        assert!(known(&readings, cell, b"n", &value), "and it is used");
        read(&readings, other, b"o", &others);
        assert!(known(&readings, cell, b"n", &value), "that is no reason to go");
        read(&readings, other, b"o", &others);
        assert!(known(&readings, cell, b"n", &value), "nor is that: it was used meanwhile");
        for _ in 0..3 {
            read(&readings, other, b"o", &others);
        }
        assert!(!known(&readings, cell, b"n", &value) && known(&readings, other, b"o", &others));
    }

    #[test]
    fn what_is_known_and_has_changed_is_known_at_once() {
        let (readings, key) = (Readings::new(), kept::key(1));
        let (cell, value) = (CellKey::base(&key), Bytes::from(kept::value(&key)));
        read(&readings, cell, b"n", &value);
        read(&readings, cell, b"n", &value);
        assert!(known(&readings, cell, b"n", &value));
        let changed = with_body(cell, &value, 7);
        read(&readings, cell, b"n", &changed);
        assert!(known(&readings, cell, b"n", &changed) && !known(&readings, cell, b"n", &value));
    }

    #[test]
    fn what_is_longer_has_few_places_or_none() {
        let key = kept::key(1);
        let (cell, value) = (CellKey::base(&key), Bytes::from(kept::value(&key)));
        for (length, is_kept) in [(SHORT, true), (64 * 1024, true), (LONG, false)] {
            let (readings, value) = (Readings::new(), with_body(cell, &value, length));
            read(&readings, cell, b"n", &value);
            read(&readings, cell, b"n", &value);
            assert_eq!(known(&readings, cell, b"n", &value), is_kept, "{length}");
        }
        // It is short, and becomes long when it is opened.
        let (readings, opened) = (Readings::new(), with_body(cell, &value, SHORT));
        let Ok(Cell::Response(response)) = codec::decode(cell, &value) else { panic!("a response") };
        for _ in 0..2 {
            readings.note(cell, b"n", &value, &opened, &Cell::Response(Arc::clone(&response)));
        }
        assert!(!known(&readings, cell, b"n", &value));
        // Or its table is large: one with room for what a hit adds has no more places than one of so many.
        let line = |n: usize| HeaderName::from_bytes(format!("x-{n}").as_bytes()).expect("a name");
        for (lines, is_kept) in [(46, true), (47, false)] {
            let (readings, mut many) = (Readings::new(), response.as_ref().clone());
            let more = lines - many.headers.len();
            many.headers.extend((0..more).map(|n| (line(n), HeaderValue::from_static(""))));
            for _ in 0..2 {
                readings.note(cell, b"n", &value, &value, &Cell::Response(Arc::new(many.clone())));
            }
            assert_eq!(known(&readings, cell, b"n", &value), is_kept, "{lines}");
        }
        let places = |lines| http::HeaderMap::<HeaderValue>::with_capacity(lines + codec::ADDED_FIELDS).capacity();
        assert!(places(46) == places(30) && places(47) > places(46));
    }
}
