//! Which of two answers for one key is the newer. A client that reads slowly holds back the write of what it reads; by
//! then the key may have been invalidated, or a younger answer stored. Numbers are taken when requests set out, so that
//! an older answer is known and dropped. The memory is bounded and this process's own.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, MutexGuard};

use super::remembered::{MAX_KEYS, Remembered};
use crate::key::CacheKey;
use crate::key::digests::{Recall, Seed, recall};
use crate::purge::label::Stamp;
use crate::semantics::vary::VariantKey;
use crate::store::entry::Chunks;

/// When a request set out, among all requests of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Departure {
    place: u64,
    /// What was known of purges by then.
    pub(crate) purges: Stamp,
    /// Over which connection that was read, if it was still there.
    pub(crate) connection: Option<u64>,
}

/// Whether an answer may still be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Its place is that of a body in these chunks, which whoever looked it up before need not have seen.
    Admitted {
        instead_of: Option<Chunks>,
    },
    OutOfDate,
}

type Digest = [u8; CacheKey::DIGEST_LEN];

/// The last events of recent keys.
pub(crate) struct Order {
    next: AtomicU64,
    invalidated: Remembered<Departure>,
    stored: Recall<(Digest, VariantKey), (Departure, Option<Chunks>)>,
    /// Writes of one key go one after another. Keys share them.
    turns: [Mutex<()>; TURNS],
    written: Written,
}

/// When something of a key was last written, as the place after that. Keys share these: one that was not written may
/// seem to have been, which costs one more look.
struct Written {
    after: Box<[AtomicU64]>,
    seed: Seed,
}

const TURNS: usize = 256;

impl Order {
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicU64::new(0),
            invalidated: Remembered::new(),
            stored: recall(MAX_KEYS),
            written: Written::new(),
            turns: [const { Mutex::const_new(()) }; TURNS],
        }
    }

    /// A request sets out, when this is known of purges.
    pub(crate) fn depart(&self, purges: Stamp, connection: Option<u64>) -> Departure {
        Departure { place: self.next.fetch_add(1, Ordering::Relaxed), purges, connection }
    }

    fn event(&self) -> Departure {
        self.depart(Stamp::default(), None)
    }

    /// Before whatever sets out next.
    pub(crate) fn present(&self) -> Departure {
        Departure { place: self.next.load(Ordering::Relaxed), ..Departure::default() }
    }

    /// What was admitted is in the store, for whoever looks from now on.
    pub(crate) fn note_written(&self, key: &CacheKey) {
        self.written.of(key).fetch_max(self.event().place + 1, Ordering::AcqRel);
    }

    /// Whether something came into the store that a look-up which began then may have missed.
    pub(crate) fn is_written_since(&self, key: &CacheKey, then: Departure) -> bool {
        then.place < self.written.of(key).load(Ordering::Acquire)
    }

    /// Whatever set out before now is out of date.
    pub(crate) fn invalidate(&self, key: &CacheKey) {
        self.invalidated.note(key, self.event());
    }

    /// Whether the key was invalidated after this.
    pub(crate) fn is_outdated(&self, key: &CacheKey, departure: Departure) -> bool {
        self.invalidated.of(key).is_some_and(|at| departure < at)
    }

    /// Waits until nobody else in this process writes under the key: of two writes that meet, the later one has to find
    /// what the other has done.
    pub(crate) async fn turn(&self, key: &CacheKey) -> MutexGuard<'_, ()> {
        self.turns[usize::from(key.digest()[0]) % TURNS].lock().await
    }

    /// Whether an answer may still be stored. For one whose [turn](Self::turn) it is.
    pub(crate) fn admit(&self, key: &CacheKey, variant: VariantKey, departure: Departure) -> Admission {
        if self.is_outdated(key, departure) {
            return Admission::OutOfDate;
        }
        match self.stored.get(&(*key.digest(), variant)) {
            Some((at, _)) if departure < at => Admission::OutOfDate,
            before => Admission::Admitted { instead_of: before.and_then(|(_, chunks)| chunks) },
        }
    }

    /// It is stored, with its body in these chunks.
    pub(crate) fn note_stored(&self, key: &CacheKey, variant: VariantKey, at: Departure, chunks: Option<Chunks>) {
        self.stored.insert((*key.digest(), variant), (at, chunks));
    }
}

impl Written {
    /// Some hundred are written in the time of a look at the most: few of the others share a place with one of those.
    const PLACES: usize = 8 * 1024;

    fn new() -> Self {
        Self { after: (0..Self::PLACES).map(|_| AtomicU64::new(0)).collect(), seed: Seed::default() }
    }

    fn of(&self, key: &CacheKey) -> &AtomicU64 {
        let [low, high, ..] = self.seed.hash_one(key.digest()).to_le_bytes();
        &self.after[usize::from(u16::from_le_bytes([low, high])) % Self::PLACES]
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_answer_is_not_stored_over_a_newer_event() {
        let (order, key) = (Order::new(), CacheKey::from("k"));
        let [a, b] = [1, 2].map(|n| VariantKey::from_bytes([n; VariantKey::LEN]));
        let (first, second) = (order.depart(Stamp::default(), None), order.depart(Stamp::default(), None));
        let is_admitted = |key, variant, at| {
            let is_admitted = order.admit(key, variant, at) != Admission::OutOfDate;
            if is_admitted {
                order.note_stored(key, variant, at, None);
            }
            is_admitted
        };
        assert!(is_admitted(&key, a, second) && !is_admitted(&key, a, first));
        assert!(is_admitted(&key, b, first));
        order.invalidate(&key);
        assert!(!is_admitted(&key, a, second));
        let other = CacheKey::from("other");
        assert!(is_admitted(&other, a, first));
        assert!(is_admitted(&key, a, order.depart(Stamp::default(), None)));
    }

    #[test]
    fn an_answer_learns_of_the_chunks_whose_place_it_takes() {
        let (order, key, variant) = (Order::new(), CacheKey::from("k"), VariantKey::from_bytes([1; VariantKey::LEN]));
        let chunks = |generation| Some(Chunks { generation, length: 9 });
        let stores = |chunks| {
            let admission = order.admit(&key, variant, order.depart(Stamp::default(), None));
            order.note_stored(&key, variant, order.depart(Stamp::default(), None), chunks);
            admission
        };
        assert_eq!(stores(chunks(1)), Admission::Admitted { instead_of: None });
        let given_up = order.admit(&key, variant, order.depart(Stamp::default(), None));
        assert_eq!(given_up, Admission::Admitted { instead_of: chunks(1) });
        assert_eq!(stores(chunks(2)), Admission::Admitted { instead_of: chunks(1) }, "nothing was stored in between");
        assert_eq!(stores(None), Admission::Admitted { instead_of: chunks(2) });
        assert_eq!(stores(chunks(3)), Admission::Admitted { instead_of: None });
    }

    #[test]
    fn what_was_written_after_a_look_began_is_known() {
        let (order, key) = (Order::new(), CacheKey::from("k"));
        let before = order.present();
        assert!(!order.is_written_since(&key, before));
        order.note_written(&key);
        assert!(order.is_written_since(&key, before));
        assert!(!order.is_written_since(&key, order.present()));
        // Few share a place with it.
        let others = (0..100).map(|n| CacheKey::from(n.to_string()));
        assert!(others.filter(|other| order.is_written_since(other, before)).count() < 10);
    }
}
