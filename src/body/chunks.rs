//! A body that is kept in chunks, read while it is sent: a few chunks ahead of the client, and no further.
//!
//! Each chunk is read by a task of its own. A client that is slow to take what has come then keeps nothing waiting in the
//! store's connection, and its slowness is not taken for the store's. The tasks end with the reader.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::budget::{Budget, Reservation};
use super::gather::{Gatherer, Gathering};
use crate::error::BodyError;
use crate::store::entry::Chunks;

/// Chunks that are read before they are asked for.
const READ_AHEAD: usize = 3;

/// Where the chunks of one body come from.
pub(crate) trait ChunkSource: fmt::Debug + Send + Sync {
    /// Begins to read a chunk; nobody need wait for it.
    fn begin(self: Arc<Self>, index: u32) -> JoinHandle<Result<Bytes, BodyError>>;

    /// A client got less than the whole.
    fn broke_off(&self);

    /// Whether a chunk can be read at once, as far as is known: another is not begun ahead of its time.
    fn is_there(&self, _index: u32) -> bool {
        true
    }

    /// Another that has the rest, should this source cease, for as long as somebody reads.
    fn stand_by(&self, _spare: Weak<dyn Spare>) {}

    /// Whether what comes may be another's, who stood by.
    fn is_another(&self) -> bool {
        false
    }

    /// Whether it is known that not all of it is to be had.
    fn is_broken(&self) -> bool {
        false
    }
}

/// Another that has the same body.
pub(crate) trait Spare: fmt::Debug + Send + Sync {
    /// A part of it. Parts that follow one another cost least.
    fn read(&self, part: Range<u64>) -> Coming<'_>;
}

/// Part of a body that is coming.
pub(crate) type Coming<'a> = Pin<Box<dyn Future<Output = Result<Bytes, BodyError>> + Send + 'a>>;

/// A body in chunks that can be read, and the chunk of it that is wanted first.
#[derive(Debug)]
pub(crate) struct OpenBody {
    source: Arc<dyn ChunkSource>,
    chunks: Chunks,
    budget: Budget,
    at_hand: Option<Chunk>,
    for_the_first: Mutex<ForTheFirst>,
}

/// What who reads the body first has besides.
#[derive(Debug, Default)]
struct ForTheFirst {
    spare: Option<Arc<dyn Spare>>,
    /// Where that is all of it.
    gatherer: Option<Box<dyn Gatherer>>,
}

/// A chunk that has been read, and the room that it takes.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) index: u32,
    pub(crate) octets: Bytes,
    pub(crate) room: Arc<Reservation>,
}

/// A stretch of what is sent.
#[derive(Clone, Debug)]
pub(crate) enum Segment {
    /// These octets.
    Literal(Bytes),
    /// This part of the stored body.
    Part(Range<u64>),
}

/// Hands out a body in chunks, or parts of it.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    source: Arc<dyn ChunkSource>,
    chunks: Chunks,
    budget: Budget,
    at_hand: Option<Chunk>,
    /// What nothing has been begun of yet.
    plan: VecDeque<Segment>,
    /// The chunk that was begun last.
    last: Option<u32>,
    steps: VecDeque<Step>,
    /// The chunk that was handed out last.
    current: Option<Chunk>,
    left: u64,
    trailers: Option<Box<HeaderMap>>,
    gathering: Option<Gathering>,
    _spare: Option<Arc<dyn Spare>>,
}

/// What will be handed out next.
#[derive(Debug)]
enum Step {
    Literal(Bytes),
    /// A stretch of the next chunk.
    Next(Awaited, Range<usize>),
    /// Another stretch of the same chunk.
    Again(Range<usize>),
}

#[derive(Debug)]
enum Awaited {
    AtHand(Chunk),
    Reading(Reading),
}

/// A chunk on its way. Nobody else waits for it: dropped, it is not read.
#[derive(Debug)]
struct Reading {
    index: u32,
    task: JoinHandle<Result<Bytes, BodyError>>,
    room: Arc<Reservation>,
}

impl Segment {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Literal(octets) => octets.len() as u64,
            Self::Part(part) => part.end - part.start,
        }
    }
}

// ===== impl OpenBody =====

impl OpenBody {
    pub(crate) fn new(source: Arc<dyn ChunkSource>, chunks: Chunks, budget: Budget, at_hand: Option<Chunk>) -> Self {
        Self { source, chunks, budget, at_hand, for_the_first: Mutex::default() }
    }

    /// Whether somebody has begun with it: each reader has a share of the source, and each chunk on its way.
    pub(crate) fn is_read(&self) -> bool {
        Arc::strong_count(&self.source) > 1
    }

    /// Has another stand by, which leaves with who reads the body first.
    pub(crate) fn stand_by(&self, spare: Arc<dyn Spare>) {
        self.source.stand_by(Arc::downgrade(&spare));
        if let Ok(mut first) = self.for_the_first.lock() {
            first.spare = Some(spare);
        }
    }

    /// Has it gathered by who reads it first, if that is all of it.
    pub(crate) fn gather_for(&self, gatherer: Box<dyn Gatherer>) {
        if let Ok(mut first) = self.for_the_first.lock() {
            first.gatherer = Some(gatherer);
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.source.is_broken()
    }
}

// ===== impl ChunkReader =====

impl ChunkReader {
    pub(crate) fn new(body: &OpenBody, segments: Vec<Segment>, trailers: Option<Box<HeaderMap>>) -> Self {
        let ForTheFirst { spare, gatherer } =
            body.for_the_first.lock().map(|mut first| mem::take(&mut *first)).unwrap_or_default();
        let is_whole = matches!(&segments[..], [Segment::Part(part)] if *part == (0..body.chunks.length));
        // Without room to spare it is sent all the same.
        let gathering = gatherer.filter(|_| is_whole).and_then(|gatherer| {
            Some(Gathering::new(body.chunks.count(), gatherer, body.budget.reserve_spare(body.chunks.length)?))
        });
        Self {
            source: Arc::clone(&body.source),
            chunks: body.chunks,
            budget: body.budget.clone(),
            at_hand: body.at_hand.clone(),
            left: segments.iter().map(Segment::len).sum(),
            plan: segments.into(),
            last: None,
            steps: VecDeque::new(),
            current: None,
            trailers,
            gathering,
            _spare: spare,
        }
    }

    /// The next piece. One that is not to be had is an error, and the end.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if matches!(self.steps.front(), None | Some(Step::Next(..))) {
            self.current = None;
        }
        self.read_ahead();
        let octets = match self.steps.front_mut() {
            None => return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers)))),
            Some(Step::Literal(octets)) => octets.clone(),
            Some(Step::Again(within)) => cut(self.current.as_ref(), within),
            Some(Step::Next(awaited, within)) => match ready!(awaited.poll_chunk(cx)) {
                Ok(chunk) => {
                    let gathering = self.gathering.take().filter(|_| !self.source.is_another());
                    self.gathering = gathering.and_then(|all| all.with(chunk.index, &chunk.octets));
                    cut(Some(self.current.insert(chunk)), within)
                }
                Err(error) => {
                    self.break_off();
                    return Poll::Ready(Some(Err(error)));
                }
            },
        };
        self.steps.pop_front();
        self.left -= octets.len() as u64;
        self.read_ahead();
        Poll::Ready(Some(Ok(Frame::data(octets))))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.left == 0 && self.trailers.is_none()
    }

    /// With trailers to come the length is no exact one: a server would announce it, and leave the trailers out.
    pub(crate) fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::with_exact(self.left);
        if self.trailers.is_some() {
            hint = SizeHint::new();
            hint.set_lower(self.left);
        }
        hint
    }

    /// Begins all that may be begun by now.
    fn read_ahead(&mut self) {
        while let Some(segment) = self.plan.pop_front() {
            let part = match segment {
                Segment::Literal(octets) => {
                    self.steps.push_back(Step::Literal(octets));
                    continue;
                }
                Segment::Part(part) if part.is_empty() => continue,
                Segment::Part(part) => part,
            };
            let (index, within) = self.chunks.first_of(&part);
            let rest = part.start + within.len() as u64..part.end;
            let step = match self.last == Some(index) {
                true => Step::Again(within),
                false => match self.await_chunk(index) {
                    Some(awaited) => Step::Next(awaited, within),
                    None => return self.plan.push_front(Segment::Part(part)),
                },
            };
            self.steps.push_back(step);
            self.last = Some(index);
            self.plan.push_front(Segment::Part(rest));
        }
    }

    /// `None` where enough has been begun. Without room in the budget one chunk at a time is enough.
    fn await_chunk(&mut self, index: u32) -> Option<Awaited> {
        if let Some(chunk) = self.at_hand.take_if(|chunk| chunk.index == index) {
            return Some(Awaited::AtHand(chunk));
        }
        let ahead = self.steps.iter().filter(|step| matches!(step, Step::Next(Awaited::Reading(_), _))).count();
        if ahead >= READ_AHEAD || (ahead > 0 && !self.source.is_there(index)) {
            return None;
        }
        let octets = self.chunks.length_of(index);
        let room = match self.budget.reserve(octets) {
            Some(room) => room,
            // Then what has been handed out was all there is.
            None if self.steps.is_empty() && self.current.is_none() => self.budget.take(octets),
            None => return None,
        };
        let task = Arc::clone(&self.source).begin(index);
        Some(Awaited::Reading(Reading { index, task, room: Arc::new(room) }))
    }

    /// What is left stays to be seen: this is no end.
    fn break_off(&mut self) {
        self.source.broke_off();
        self.plan.clear();
        self.steps.clear();
        self.gathering = None;
        self.trailers = None;
    }
}

fn cut(chunk: Option<&Chunk>, within: &Range<usize>) -> Bytes {
    chunk.map(|chunk| chunk.octets.slice(within.clone())).unwrap_or_default()
}

// ===== impl Awaited =====

impl Awaited {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, BodyError>> {
        Poll::Ready(match self {
            Self::AtHand(chunk) => Ok(chunk.clone()),
            Self::Reading(reading) => match ready!(Pin::new(&mut reading.task).poll(cx)) {
                Ok(Ok(octets)) => Ok(Chunk { index: reading.index, octets, room: Arc::clone(&reading.room) }),
                Ok(Err(error)) => Err(error),
                Err(stopped) => Err(BodyError::new(stopped)),
            },
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}
#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use super::*;

    const SIZE: u64 = Chunks::SIZE;
    const CHUNKS: Chunks = Chunks { generation: 1, length: 9 * SIZE + 7 };

    /// Chunks of octets that tell their place; from `broken` on there are none, and from `hanging` on none comes.
    #[derive(Debug)]
    struct Source {
        begun: Mutex<Vec<u32>>,
        broken: u32,
        hanging: u32,
        broke_off: Mutex<u32>,
    }

    fn source(broken: u32, hanging: u32) -> Arc<Source> {
        Arc::new(Source { begun: Mutex::default(), broken, hanging, broke_off: Mutex::default() })
    }

    fn octets(part: Range<u64>) -> Vec<u8> {
        part.map(|at| (at % 251) as u8).collect()
    }

    fn chunk(index: u32) -> Bytes {
        let start = u64::from(index) * SIZE;
        octets(start..start + CHUNKS.length_of(index)).into()
    }

    impl ChunkSource for Source {
        fn begin(self: Arc<Self>, index: u32) -> JoinHandle<Result<Bytes, BodyError>> {
            self.begun.lock().unwrap().push(index);
            tokio::spawn(async move {
                match index {
                    _ if index >= self.hanging => pending().await,
                    _ if index >= self.broken => Err(BodyError::new("gone")),
                    _ => Ok(chunk(index)),
                }
            })
        }

        fn broke_off(&self) {
            *self.broke_off.lock().unwrap() += 1;
        }
    }

    fn reader(source: &Arc<Source>, budget: &Budget, at_hand: u32, segments: Vec<Segment>) -> ChunkReader {
        let room = Arc::new(budget.take(CHUNKS.length_of(at_hand)));
        let at_hand = Chunk { index: at_hand, octets: chunk(at_hand), room };
        let body = OpenBody::new(Arc::clone(source) as Arc<_>, CHUNKS, budget.clone(), Some(at_hand));
        ChunkReader::new(&body, segments, None)
    }

    fn whole() -> Vec<Segment> {
        vec![Segment::Part(0..CHUNKS.length)]
    }

    async fn next(reader: &mut ChunkReader) -> Option<Result<Bytes, String>> {
        let frame = poll_fn(|cx| reader.poll_frame(cx)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string()))
    }

    async fn all(reader: &mut ChunkReader) -> Vec<u8> {
        let mut read = Vec::new();
        while let Some(data) = next(reader).await {
            read.extend_from_slice(&data.unwrap());
        }
        read
    }

    #[tokio::test]
    async fn a_few_chunks_are_read_ahead_and_no_more() {
        let (source, budget) = (source(99, 99), Budget::new(u64::MAX));
        let mut reader = reader(&source, &budget, 0, whole());
        assert_eq!(*source.begun.lock().unwrap(), [], "nobody has asked");
        for ahead in [3, 4, 5] {
            next(&mut reader).await.unwrap().unwrap();
            assert_eq!(source.begun.lock().unwrap().last(), Some(&ahead));
            assert_eq!(budget.used(), 4 * SIZE);
        }
        assert_eq!(reader.size_hint().exact(), Some(CHUNKS.length - 3 * SIZE));
        assert_eq!(all(&mut reader).await, octets(3 * SIZE..CHUNKS.length));
        assert!(reader.is_end_stream());
        assert_eq!((source.begun.lock().unwrap().len(), budget.used()), (9, 0));
    }

    #[tokio::test]
    async fn without_room_one_chunk_is_read_at_a_time() {
        let (source, budget) = (source(99, 99), Budget::new(0));
        let mut reader = reader(&source, &budget, 0, whole());
        for begun in [None, Some(&1), Some(&2)] {
            next(&mut reader).await.unwrap().unwrap();
            assert_eq!(source.begun.lock().unwrap().last(), begun, "the next is begun when this one has been taken");
            assert_eq!(budget.used(), SIZE);
        }
        assert_eq!(all(&mut reader).await, octets(3 * SIZE..CHUNKS.length));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn parts_read_the_chunks_that_they_lie_in_once() {
        let (source, budget) = (source(99, 99), Budget::new(u64::MAX));
        let (far, near) = (7 * SIZE - 2..7 * SIZE + 2, 10..20);
        let segments = vec![
            Segment::Literal(Bytes::from_static(b"[")),
            Segment::Part(far.clone()),
            Segment::Literal(Bytes::from_static(b"|")),
            Segment::Part(7 * SIZE + 9..7 * SIZE + 12),
            Segment::Part(near.clone()),
            Segment::Literal(Bytes::from_static(b"]")),
        ];
        let mut reader = reader(&source, &budget, 6, segments);
        assert_eq!(reader.size_hint().exact(), Some(20));
        let expected =
            [b"[", &octets(far)[..], b"|", &octets(7 * SIZE + 9..7 * SIZE + 12), &octets(near), b"]"].concat();
        assert_eq!(all(&mut reader).await, expected);
        assert_eq!(*source.begun.lock().unwrap(), [7, 0]);
    }

    #[tokio::test]
    async fn a_chunk_that_is_not_to_be_had_is_an_error_and_no_end() {
        let (source, budget) = (source(2, 99), Budget::new(u64::MAX));
        let mut reader = reader(&source, &budget, 0, whole());
        assert!(next(&mut reader).await.unwrap().is_ok() && next(&mut reader).await.unwrap().is_ok());
        assert_eq!(next(&mut reader).await, Some(Err("gone".into())));
        assert_eq!(next(&mut reader).await, None);
        assert!(!reader.is_end_stream() && reader.size_hint().lower() > 0);
        assert_eq!((*source.broke_off.lock().unwrap(), budget.used()), (1, 0));
    }

    #[tokio::test]
    async fn a_reader_that_is_dropped_leaves_no_task_and_no_room() {
        let (source, budget) = (source(99, 1), Budget::new(u64::MAX));
        let mut reader = reader(&source, &budget, 0, whole());
        next(&mut reader).await.unwrap().unwrap();
        assert_eq!(budget.used(), 4 * SIZE);
        assert_eq!(Arc::strong_count(&source), 5, "the reader and three tasks");
        drop(reader);
        assert_eq!(budget.used(), 0);
        let ended = async {
            while Arc::strong_count(&source) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("the tasks end");
    }
}
