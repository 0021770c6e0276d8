//! What a cell holds.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::near::Keeping;
use crate::body::chunks::{OpenBody, Segment};
use crate::body::{Budget, Reservation, SharedRoom};
use crate::purge::label::Label;
use crate::semantics::freshness::Freshness;
use crate::semantics::search::SearchVariance;
use crate::semantics::time::Timestamp;
use crate::semantics::vary::{NominatedFields, VariantKey};

/// The content of one cell.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Response(Arc<StoredResponse>),
    Index(Arc<VaryIndex>),
    /// Which queries are one, for the responses of a path.
    Search(Arc<Vec<SearchVariance>>),
    /// By which the responses of a target's queries are found as long as it is there.
    Epoch(u128),
    /// The key's last response might not be stored, nor will its next.
    Uncacheable,
}

/// A response as it is stored (RFC 9111 §2): complete, or with status 206 the start of one (§3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) freshness: Freshness,
    pub(crate) request_time: Timestamp,
    /// How long the service took to answer, for early refreshing.
    pub(crate) origin_latency: Duration,
    pub(crate) body: StoredBody,
    /// In a box, as all that few responses have: whoever moves one moves all of it.
    pub(crate) trailers: Option<Box<HeaderMap>>,
    /// By which it is purged.
    pub(crate) label: Arc<Label>,
}

/// A response that is being written, as it is told to other processes: they may read of it what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// With the body that it will have.
    pub(crate) response: Arc<StoredResponse>,
    /// What the request wanted that it answers.
    pub(crate) variant: VariantKey,
    /// The octets of the body that have been written.
    pub(crate) written: u64,
}

/// What is heard of a fetch elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Attended {
    Told(Box<Told>),
    /// Nothing is told of it, or nothing that is understood. Whoever waits for it is told of what comes.
    Silence,
    /// Nothing is told of it, and it is at an end.
    Over,
}

/// What is told of a fetch elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) live: Live,
    /// Those who come now may have it as well: whoever fetches it still has the lease.
    pub(crate) is_for_newcomers: bool,
}

/// A body in the pieces in which it is kept, or the knowledge of where it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredBody {
    pieces: Pieces,
    /// In a box of its own, as all that short bodies have no use for.
    aside: Option<Box<Aside>>,
}

/// What is to be known of a body besides its pieces.
#[derive(Clone, Debug, Default)]
struct Aside {
    /// The writing of the body that is in the store, where it is kept in chunks.
    chunks: Option<Chunks>,
    /// The writing that it is to be, where it has yet to be written.
    planned: Option<Chunks>,
    /// The room that the pieces take in a budget, as long as somebody holds them.
    held: Option<Arc<Reservation>>,
    /// The way to the chunks, where they are read as they are sent.
    open: Option<Arc<OpenBody>>,
    /// By which the response may be kept in memory once its chunks have been read.
    keeping: Option<Keeping>,
    /// The room of those who send it, where it is kept in memory: that may let it go before they have sent it.
    sending: Option<SharedRoom>,
}

/// Shared by those who send it: whoever takes a body takes no room.
#[derive(Clone, Debug, Default)]
enum Pieces {
    #[default]
    None,
    One(Bytes),
    Several(Arc<[Bytes]>),
}

/// One immutable writing of a body in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    pub(crate) generation: u128,
    pub(crate) length: u64,
}

/// Which variants a key has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VaryIndex {
    /// The sets of nominated fields that the key's responses have had.
    pub(crate) nominations: Vec<NominatedFields>,
    pub(crate) variants: Vec<IndexedVariant>,
}

/// One variant of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexedVariant {
    pub(crate) key: VariantKey,
    /// When its cell ends.
    pub(crate) until: Timestamp,
}

impl Pieces {
    fn as_slice(&self) -> &[Bytes] {
        match self {
            Self::None => &[],
            Self::One(piece) => std::slice::from_ref(piece),
            Self::Several(pieces) => pieces,
        }
    }
}

impl From<Vec<Bytes>> for Pieces {
    fn from(mut pieces: Vec<Bytes>) -> Self {
        match pieces.len() {
            0 => Self::None,
            1 => pieces.pop().map_or(Self::None, Self::One),
            _ => Self::Several(pieces.into()),
        }
    }
}

// ===== impl StoredBody =====

impl StoredBody {
    pub(crate) fn new(pieces: Vec<Bytes>) -> Self {
        Self { pieces: pieces.into(), aside: None }
    }

    fn with_aside(pieces: Vec<Bytes>, aside: Aside) -> Self {
        Self { pieces: pieces.into(), aside: Some(Box::new(aside)) }
    }

    /// The same body, with this changed.
    fn changed(&self, change: impl FnOnce(&mut Aside)) -> Self {
        let mut changed = self.clone();
        change(changed.aside.get_or_insert_default());
        changed
    }

    /// A body that is yet to be written, as these chunks.
    pub(crate) fn planned(pieces: Vec<Bytes>, chunks: Option<Chunks>) -> Self {
        match chunks {
            Some(_) => Self::with_aside(pieces, Aside { planned: chunks, ..Aside::default() }),
            None => Self::new(pieces),
        }
    }

    /// The chunks in which it is, or is to be, in the store.
    pub(crate) fn chunks_to_be(&self) -> Option<Chunks> {
        let aside = self.aside.as_ref()?;
        aside.chunks.or(aside.planned)
    }

    /// A body that is still to be read.
    pub(crate) fn in_chunks(chunks: Chunks) -> Self {
        Self::with_aside(Vec::new(), Aside { chunks: Some(chunks), ..Aside::default() })
    }

    /// The same body with its pieces, and the room that they take.
    pub(crate) fn loaded(&self, pieces: Vec<Bytes>, room: Arc<Reservation>) -> Self {
        Self::with_aside(pieces, Aside { chunks: self.chunks(), held: Some(room), ..Aside::default() })
    }

    /// The same body with the way to its chunks.
    pub(crate) fn opened(&self, open: OpenBody) -> Self {
        self.changed(|aside| aside.open = Some(Arc::new(open)))
    }

    pub(crate) fn keeping(&self) -> Option<Keeping> {
        self.aside.as_ref()?.keeping
    }

    pub(crate) fn set_keeping(&mut self, keeping: Option<Keeping>) {
        match &mut self.aside {
            Some(aside) => aside.keeping = keeping,
            None if keeping.is_none() => {}
            None => self.aside.get_or_insert_default().keeping = keeping,
        }
    }

    /// The same body with its pieces, to be kept in memory, which has room of its own; who sends it takes room besides.
    pub(crate) fn kept(&self, pieces: Vec<Bytes>) -> Self {
        let sending = Some(SharedRoom::default());
        Self::with_aside(pieces, Aside { chunks: self.chunks(), sending, ..Aside::default() })
    }

    /// The same body in the room that those have together who send it; `None` where there is none.
    pub(crate) fn to_be_sent(&self, budget: &Budget) -> Option<Self> {
        let Some(sending) = self.sending() else { return Some(self.clone()) };
        let room = sending.reserve(budget, self.len())?;
        Some(self.changed(|aside| aside.held = Some(room)))
    }

    /// Whether who sends it takes room.
    pub(crate) fn takes_room(&self) -> bool {
        self.sending().is_some()
    }

    fn sending(&self) -> Option<&SharedRoom> {
        self.aside.as_ref()?.sending.as_ref()
    }

    /// The only piece of a body of which there is no more to know; none is an empty one.
    pub(crate) fn into_only_piece(self) -> Result<Bytes, Self> {
        match (self.pieces, self.aside) {
            (Pieces::None, None) => Ok(Bytes::new()),
            (Pieces::One(piece), None) => Ok(piece),
            (pieces, aside) => Err(Self { pieces, aside }),
        }
    }

    pub(crate) fn open(&self) -> Option<&OpenBody> {
        self.aside.as_ref()?.open.as_deref()
    }

    /// Whether it can be sent.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.is_loaded() || self.open().is_some()
    }

    /// Whether all of it is in memory.
    pub(crate) fn is_loaded(&self) -> bool {
        self.chunks().is_none() || !self.pieces().is_empty()
    }

    pub(crate) fn chunks(&self) -> Option<Chunks> {
        self.aside.as_ref()?.chunks
    }

    pub(crate) fn len(&self) -> u64 {
        self.chunks().map_or_else(|| self.pieces().iter().map(|piece| piece.len() as u64).sum(), |chunks| chunks.length)
    }

    pub(crate) fn pieces(&self) -> &[Bytes] {
        self.pieces.as_slice()
    }

    /// A part of the body, without copying.
    fn slice(&self, part: &Range<u64>) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut at = 0_u64;
        for piece in self.pieces() {
            let end = at + piece.len() as u64;
            let (from, to) = (part.start.max(at), part.end.min(end));
            if from < to {
                let offset = |octet: u64| usize::try_from(octet - at).expect("an offset within a piece");
                pieces.push(piece.slice(offset(from)..offset(to)));
            }
            at = end;
        }
        pieces
    }

    /// Parts of a body in memory, which hold its room, and what stands between them.
    pub(crate) fn with_segments(&self, segments: Vec<Segment>) -> Self {
        let mut pieces = Vec::new();
        for segment in segments {
            match segment {
                Segment::Literal(octets) => pieces.push(octets),
                Segment::Part(part) => pieces.extend(self.slice(&part)),
            }
        }
        match self.aside.as_ref().and_then(|aside| aside.held.clone()) {
            Some(room) => Self::with_aside(pieces, Aside { held: Some(room), ..Aside::default() }),
            None => Self::new(pieces),
        }
    }
}

impl PartialEq for StoredBody {
    fn eq(&self, other: &Self) -> bool {
        self.pieces() == other.pieces() && self.chunks() == other.chunks()
    }
}

impl Eq for StoredBody {}

// ===== impl Chunks =====

impl Chunks {
    /// The size of all chunks but the last.
    pub(crate) const SIZE: u64 = 256 * 1024;

    pub(crate) fn count(&self) -> u64 {
        self.length.div_ceil(Self::SIZE)
    }

    pub(crate) fn length_of(&self, index: u32) -> u64 {
        self.length.saturating_sub(u64::from(index) * Self::SIZE).min(Self::SIZE)
    }

    /// The chunks that parts of the body lie in.
    pub(crate) fn indices_of(parts: &[Range<u64>]) -> Vec<u32> {
        let number = |chunk: u64| u32::try_from(chunk).expect("a body has fewer than 2^32 chunks");
        let of = |part: &Range<u64>| number(part.start / Self::SIZE)..number(part.end.div_ceil(Self::SIZE));
        parts.iter().flat_map(of).collect()
    }

    /// The chunk in which a part of the body begins, and what of the part lies within it.
    pub(crate) fn first_of(&self, part: &Range<u64>) -> (u32, Range<usize>) {
        let index = u32::try_from(part.start / Self::SIZE).expect("a body has fewer than 2^32 chunks");
        let offset = |octet: u64| usize::try_from(octet).expect("an offset within a chunk");
        let from = part.start % Self::SIZE;
        let to = (from + (part.end - part.start)).min(self.length_of(index));
        (index, offset(from)..offset(to))
    }
}

// ===== impl VaryIndex =====

impl VaryIndex {
    /// More sets of nominated fields than this, and the oldest is forgotten: each costs a read per look-up.
    const MAX_NOMINATIONS: usize = 4;

    /// The variants that a request selects and that are known to exist.
    pub(crate) fn candidates(&self, request: &HeaderMap, now: Timestamp) -> Vec<VariantKey> {
        let selected = self.nominations.iter().map(|nominated| nominated.select(request));
        selected.filter(|key| self.variants.iter().any(|known| known.key == *key && known.until > now)).collect()
    }

    /// Whether a variant can be added or renewed.
    pub(crate) fn has_room_for(&self, variant: VariantKey, now: Timestamp, max_variants: usize) -> bool {
        let others = self.variants.iter().filter(|known| known.until > now && known.key != variant);
        others.count() < max_variants
    }

    /// Adds a variant, or renews it; `None` where the key has as many as it may.
    pub(crate) fn with(
        &self,
        nominated: &NominatedFields,
        variant: IndexedVariant,
        now: Timestamp,
        max_variants: usize,
    ) -> Option<Self> {
        if !self.has_room_for(variant.key, now, max_variants) {
            return None;
        }
        let mut next = self.clone();
        next.variants.retain(|known| known.until > now && known.key != variant.key);
        next.variants.push(variant);
        next.nominations.retain(|known| known != nominated);
        next.nominations.push(nominated.clone());
        if next.nominations.len() > Self::MAX_NOMINATIONS {
            next.nominations.remove(0);
        }
        Some(next)
    }

    /// When the last of its variants ends.
    pub(crate) fn until(&self) -> Timestamp {
        self.variants.iter().map(|variant| variant.until).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderName;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn variant(n: u8, seconds: u64) -> IndexedVariant {
        let until = Timestamp::from_millis(NOW.as_millis() + seconds * 1000);
        IndexedVariant { key: VariantKey::from_bytes([n; VariantKey::LEN]), until }
    }

    fn nominated(name: &'static str) -> NominatedFields {
        NominatedFields::new(vec![HeaderName::from_static(name)]).unwrap()
    }

    #[test]
    fn a_part_of_a_body_is_cut_from_its_pieces() {
        let body =
            StoredBody::new(vec![Bytes::from_static(b"012"), Bytes::from_static(b"3456"), Bytes::from_static(b"789")]);
        for (part, expected) in [(0..10, "0123456789"), (2..4, "23"), (3..7, "3456"), (9..10, "9"), (5..5, "")] {
            assert_eq!(body.slice(&part).concat(), expected.as_bytes(), "{part:?}");
        }
    }

    #[test]
    fn a_part_is_cut_at_the_chunks_borders() {
        const SIZE: u64 = Chunks::SIZE;
        let chunks = Chunks { generation: 1, length: 2 * SIZE + 10 };
        assert_eq!((chunks.count(), chunks.length_of(1), chunks.length_of(2), chunks.length_of(3)), (3, SIZE, 10, 0));
        let whole = usize::try_from(SIZE).unwrap();
        assert_eq!(chunks.first_of(&(0..chunks.length)), (0, 0..whole));
        assert_eq!(chunks.first_of(&(SIZE - 1..SIZE + 1)), (0, whole - 1..whole));
        assert_eq!(chunks.first_of(&(SIZE..SIZE + 1)), (1, 0..1));
        assert_eq!(Chunks::indices_of(&[SIZE - 1..SIZE, 0..SIZE + 1, 2 * SIZE..2 * SIZE + 1]), [0, 0, 1, 2]);
        assert_eq!(chunks.first_of(&(2 * SIZE + 3..2 * SIZE + 10)), (2, 3..10));
    }

    #[test]
    fn an_index_is_bounded_and_forgets_what_has_ended() {
        let mut index = VaryIndex::default();
        for n in 0..3 {
            index = index.with(&nominated("foo"), variant(n, 10), NOW, 3).unwrap();
        }
        assert_eq!(index.with(&nominated("foo"), variant(3, 10), NOW, 3), None);
        let renewed = index.with(&nominated("foo"), variant(1, 99), NOW, 3).unwrap();
        assert_eq!(renewed.variants.len(), 3);
        let later = Timestamp::from_millis(NOW.as_millis() + 10_000);
        let after = renewed.with(&nominated("foo"), variant(3, 99), later, 3).unwrap();
        assert_eq!(after.variants.len(), 2);
        assert_eq!(after.until(), variant(3, 99).until);
    }

    #[test]
    fn nominations_are_bounded_and_the_newest_stay() {
        let mut index = VaryIndex::default();
        for (n, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            index = index.with(&nominated(name), variant(u8::try_from(n).unwrap(), 10), NOW, 32).unwrap();
        }
        assert_eq!(index.nominations.len(), 4);
        assert_eq!(index.nominations.last(), Some(&nominated("e")));
    }
}
