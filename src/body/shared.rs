//! A body while it is being fetched: one producer, any number of readers, bounded memory.
//!
//! A piece is held for as long as the store needs it, or a reader that is not too far behind the first of them; one that
//! is goes on from the store, where the body is written as it comes. The producer goes at the pace of the fastest reader,
//! or of the store where nobody reads.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

use super::budget::Reservation;
use super::chunks::{ChunkReader, OpenBody, Segment};
use crate::clock::Stopwatch;
use crate::error::{BodyError, BoxError};
use crate::store::entry::Chunks;

/// What is held for readers who are behind, of a body that nobody keeps.
pub(crate) const WINDOW: u64 = 1024 * 1024;

/// The body, as the producer and the readers have it in common.
#[derive(Debug)]
pub(crate) struct SharedBody {
    state: Mutex<State>,
    /// Wakes the producer: a reader has come, gone or gone on.
    moved: Notify,
    /// The length, where it is known beforehand.
    exact: Option<u64>,
    /// Where what has been written can be read.
    backing: Option<Arc<dyn Backing>>,
}

/// A body that is written into the store as it comes.
pub(crate) trait Backing: fmt::Debug + Send + Sync {
    /// Its first so many octets.
    fn open(&self, octets: u64) -> OpenBody;
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Piece>,
    /// Where the first piece that is held starts, and the last ends.
    start: u64,
    length: u64,
    /// Octets that are held at the most, as long as there is room for them in the budget, and no more than a fair share
    /// of it; `u64::MAX` where the store takes the body only as a whole.
    most: u64,
    reservation: Reservation,
    /// The store has, or does not want, what is before this octet.
    kept_from: u64,
    /// What is before this octet can be read in the store.
    stored_to: u64,
    /// A piece waits for room.
    is_full: bool,
    /// Somebody is about to read, from the beginning.
    is_awaited: bool,
    /// The store does not have what it had taken.
    is_torn: bool,
    end: Option<End>,
    /// Since the last piece came.
    idle: Stopwatch,
    readers: Vec<Option<Place>>,
}

/// Some octets, and where they start.
#[derive(Debug)]
struct Piece {
    at: u64,
    octets: Bytes,
}

/// How far a reader is.
#[derive(Debug)]
struct Place {
    offset: u64,
    waker: Option<Waker>,
    /// It has been given time to send what came before the body broke off.
    is_warned: bool,
}

#[derive(Debug)]
enum End {
    Whole(Option<HeaderMap>),
    /// The service's own error goes to the first who meets it, its words to the others.
    Broken(Option<BoxError>, Arc<str>),
}

/// Why a piece has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The store has not taken what came before.
    Store,
    /// No reader has.
    Readers,
    /// Some readers have, and others are far behind, who could not have it from the store.
    Laggards,
}

/// What there is for a reader.
enum Next {
    Frame(Frame<Bytes>),
    End,
    Nothing,
    Broken(BodyError),
    /// It is held no more; the store has it, up to there.
    Behind(Option<u64>),
}

/// One reader of a shared body.
#[derive(Debug)]
pub(crate) struct SharedReader {
    body: Arc<SharedBody>,
    place: usize,
    /// How much it has had.
    offset: u64,
    /// What it has missed, out of the store.
    missed: Option<Box<ChunkReader>>,
    is_done: bool,
}

/// A reader that was too slow to be waited for.
#[derive(Debug)]
struct FellBehind;

/// What an error said, for all but the first who met it.
#[derive(Debug)]
struct Told(Arc<str>);

// ===== impl SharedBody =====

impl SharedBody {
    /// Keeps everything until it is [told](Self::stored_to) that the store has it.
    pub(crate) fn new(
        exact: Option<u64>,
        most: u64,
        reservation: Reservation,
        backing: Option<Arc<dyn Backing>>,
        now: Stopwatch,
    ) -> Arc<Self> {
        let state = State {
            pieces: VecDeque::new(),
            start: 0,
            length: 0,
            most,
            reservation,
            kept_from: 0,
            stored_to: 0,
            is_full: false,
            is_awaited: false,
            is_torn: false,
            end: None,
            idle: now,
            readers: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), moved: Notify::new(), exact, backing })
    }

    /// One more reader, from the beginning; `None` where the beginning is not to be had any more, and where nothing more
    /// has come for so long.
    pub(crate) fn reader(self: &Arc<Self>, patience: Duration) -> Option<SharedReader> {
        let mut state = self.lock();
        let may_hang = state.end.is_none() && !state.is_full && patience < Duration::MAX;
        let hangs = may_hang && state.idle.elapsed() > patience;
        let is_gone = state.start > state.stored_to || (state.is_torn && state.start > 0);
        if hangs || is_gone || matches!(state.end, Some(End::Broken(..))) {
            return None;
        }
        let place = Some(Place { offset: 0, waker: None, is_warned: false });
        let free = state.readers.iter().position(Option::is_none);
        let index = free.unwrap_or(state.readers.len());
        match free {
            Some(index) => state.readers[index] = place,
            None => state.readers.push(place),
        }
        self.moved.notify_one();
        Some(SharedReader { body: Arc::clone(self), place: index, offset: 0, missed: None, is_done: false })
    }

    /// Whether somebody reads.
    pub(crate) fn is_read(&self) -> bool {
        self.lock().readers.iter().any(Option::is_some)
    }

    /// Resolves when a reader has moved since this was last awaited. For the producer alone.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Adds a piece, if there is room. As long as readers are awaited the beginning is held for them, where it can be.
    pub(crate) fn push(&self, piece: Bytes, is_awaited: bool) -> Result<(), (Bytes, Full)> {
        let mut state = self.lock();
        state.is_awaited = is_awaited;
        let room = state.make_room(piece.len() as u64);
        state.is_full = room.is_err();
        if let Err(full) = room {
            return Err((piece, full));
        }
        let at = state.length;
        state.length += piece.len() as u64;
        state.pieces.push_back(Piece { at, octets: piece });
        state.idle = Stopwatch::start();
        wake(state);
        Ok(())
    }

    /// The body has come whole.
    pub(crate) fn end(&self, trailers: Option<HeaderMap>) {
        self.conclude(End::Whole(trailers));
    }

    /// The body has broken off, unless it has come to its end.
    pub(crate) fn fail(&self, error: impl Into<BoxError>) {
        if self.lock().end.is_some() {
            return;
        }
        let error = error.into();
        let words = error.to_string().into();
        self.conclude(End::Broken(Some(error), words));
    }

    /// The store has taken what is before this octet, and readers may have it from there.
    pub(crate) fn stored_to(&self, offset: u64) {
        let mut state = self.lock();
        (state.kept_from, state.stored_to) = (offset, offset);
        state.trim();
    }

    /// The store wants nothing of this body, or nothing more: from now on a piece waits until somebody has had the last.
    pub(crate) fn is_not_kept(&self) {
        let mut state = self.lock();
        state.kept_from = u64::MAX;
        state.most = state.most.min(WINDOW);
        state.trim();
    }

    /// The store has the very pieces that are held here: they take no room of their own.
    pub(crate) fn is_shared_with_store(&self) {
        self.lock().reservation.shrink_to(0);
    }

    /// What the store has is held for nobody any more: whoever wants it has it from there.
    pub(crate) fn lean_on_store(&self) {
        let mut state = self.lock();
        let stored_to = state.stored_to;
        state.let_go_before(stored_to);
    }

    /// How far the slowest reader is.
    pub(crate) fn slowest(&self) -> u64 {
        self.lock().slowest()
    }

    /// Those who are behind the fastest are waited for no longer.
    pub(crate) fn leave_laggards(&self) {
        let mut state = self.lock();
        let fastest = state.fastest();
        state.let_go_before(fastest);
    }

    fn conclude(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(end);
            wake(state);
        }
    }

    /// No panic can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn make_room(&mut self, octets: u64) -> Result<(), Full> {
        self.trim();
        // What nobody keeps is fetched no faster than somebody reads it.
        let is_kept = self.kept_from < u64::MAX;
        if !is_kept && !self.pieces.is_empty() && self.fastest() < self.length {
            return Err(Full::Readers);
        }
        if self.fits(octets) {
            return Ok(());
        }
        if self.stored_to > self.start {
            self.let_go_before(self.fastest().min(self.stored_to));
        }
        // One piece is always on its way, but for a store that would hold on to it.
        if self.pieces.is_empty() && (!is_kept || self.most < u64::MAX) || self.fits(octets) {
            return Ok(());
        }
        if !is_kept {
            return Err(Full::Laggards);
        }
        // What a reader has had already is held for the store.
        let for_store = self.pieces.front().is_none_or(|piece| piece.end() <= self.fastest());
        Err(if for_store { Full::Store } else { Full::Readers })
    }

    fn held(&self) -> u64 {
        self.length - self.start
    }

    fn fits(&mut self, octets: u64) -> bool {
        let most = match self.most {
            u64::MAX => u64::MAX,
            // With a piece that began before the chunk which is being collected, and this one that completes it.
            most => most.min(self.reservation.share().max(Chunks::SIZE + 2 * octets)),
        };
        let held = self.held() + octets;
        held <= most && self.reservation.cover(held)
    }

    /// Lets go what neither the store nor any reader needs.
    fn trim(&mut self) {
        if self.is_awaited {
            return;
        }
        self.let_go_before(self.slowest());
    }

    /// Lets go what ends before there, but for what the store has yet to take.
    fn let_go_before(&mut self, offset: u64) {
        while let Some(piece) = self.pieces.front() {
            if piece.end() > offset.min(self.kept_from) {
                break;
            }
            self.start = piece.end();
            self.pieces.pop_front();
        }
        self.reservation.shrink_to(self.held());
    }

    fn fastest(&self) -> u64 {
        self.places().map(|place| place.offset).max().unwrap_or(u64::MAX)
    }

    fn slowest(&self) -> u64 {
        self.places().map(|place| place.offset).min().unwrap_or(u64::MAX)
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.readers.iter().flatten()
    }

    fn next(&mut self, place: usize, offset: u64, cx: &mut Context<'_>) -> Next {
        let Some(here) = self.readers.get_mut(place).and_then(Option::as_mut) else { return Next::End };
        here.offset = offset;
        if offset < self.start {
            return Next::Behind((offset < self.stored_to).then_some(self.stored_to));
        }
        let index = self.pieces.partition_point(|piece| piece.end() <= offset);
        if let Some(piece) = self.pieces.get(index) {
            let had = usize::try_from(offset - piece.at).expect("an offset within a piece");
            let octets = piece.octets.slice(had..);
            here.offset += octets.len() as u64;
            if index == 0 {
                self.trim();
            }
            return Next::Frame(Frame::data(octets));
        }
        match &mut self.end {
            None => {
                here.waker = Some(cx.waker().clone());
                Next::Nothing
            }
            Some(End::Whole(trailers)) => trailers.clone().map_or(Next::End, |some| Next::Frame(Frame::trailers(some))),
            // A server that sees an error at once drops the connection, with all that it has yet to send.
            Some(End::Broken(..)) if !here.is_warned => {
                here.is_warned = true;
                cx.waker().wake_by_ref();
                Next::Nothing
            }
            Some(End::Broken(error, words)) => {
                let error = error.take().unwrap_or_else(|| Box::new(Told(Arc::clone(words))));
                Next::Broken(BodyError::new(error))
            }
        }
    }
}

impl Piece {
    fn end(&self) -> u64 {
        self.at + self.octets.len() as u64
    }
}

/// Wakes all who wait, after the lock has been let go: a waker may drop what it wakes, and a reader with it.
fn wake(mut state: MutexGuard<'_, State>) {
    let wakers: Vec<Waker> = state.readers.iter_mut().flatten().filter_map(|place| place.waker.take()).collect();
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

// ===== impl SharedReader =====

impl SharedReader {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match self.is_done {
            true => None,
            false => ready!(self.poll_next(cx)),
        };
        match &polled {
            Some(Ok(frame)) if frame.is_data() => {
                self.offset += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.body.moved.notify_one();
            }
            _ => self.is_done = true,
        }
        Poll::Ready(polled)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(missed) = &mut self.missed {
                match ready!(missed.poll_frame(cx)) {
                    None => self.missed = None,
                    frame => {
                        if let Some(Err(_)) = &frame {
                            // Nobody is to begin with what others cannot go on with.
                            self.body.lock().is_torn = true;
                        }
                        return Poll::Ready(frame);
                    }
                }
            }
            let next = self.body.lock().next(self.place, self.offset, cx);
            return match (next, &self.body.backing) {
                (Next::Behind(Some(end)), Some(backing)) => {
                    let part = vec![Segment::Part(self.offset..end)];
                    self.missed = Some(Box::new(ChunkReader::new(&backing.open(end), part, None)));
                    continue;
                }
                (Next::Behind(_), _) => Poll::Ready(Some(Err(BodyError::new(FellBehind)))),
                (Next::Frame(frame), _) => Poll::Ready(Some(Ok(frame))),
                (Next::Broken(error), _) => Poll::Ready(Some(Err(error))),
                (Next::End, _) => Poll::Ready(None),
                (Next::Nothing, _) => Poll::Pending,
            };
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let state = self.body.lock();
        self.is_done || (self.offset == state.length && matches!(state.end, Some(End::Whole(None))))
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.body.exact {
            Some(exact) => SizeHint::with_exact(exact.saturating_sub(self.offset)),
            None => SizeHint::new(),
        }
    }
}

impl Drop for SharedReader {
    fn drop(&mut self) {
        let left = self.body.lock().readers.get_mut(self.place).and_then(Option::take);
        drop(left);
        self.body.moved.notify_one();
    }
}

// ===== Errors =====

impl fmt::Display for FellBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("read too slowly to share a response with others")
    }
}

impl Error for FellBehind {}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Told {}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;

    fn body(most: u64, budget: &Budget) -> Arc<SharedBody> {
        SharedBody::new(None, most, budget.reserve(0).unwrap(), None, Stopwatch::start())
    }

    fn piece(length: usize) -> Bytes {
        Bytes::from(vec![7; length])
    }

    fn take(reader: &mut SharedReader) -> Option<usize> {
        match reader.poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok().map(|data| data.len()),
            _ => None,
        }
    }

    fn why(result: Result<(), (Bytes, Full)>) -> Option<Full> {
        result.err().map(|(_, full)| full)
    }

    #[test]
    fn what_the_store_has_yet_to_take_is_held_and_said_to_be_held_for_it() {
        let budget = Budget::new(100);
        let body = body(100, &budget);
        let mut reader = body.reader(Duration::MAX).unwrap();
        body.push(piece(60), false).unwrap();
        body.push(piece(40), false).unwrap();
        assert_eq!((take(&mut reader), take(&mut reader)), (Some(60), Some(40)));
        assert_eq!(why(body.push(piece(1), false)), Some(Full::Store));
        // The store has a chunk that ends within the first piece.
        body.stored_to(50);
        assert_eq!(why(body.push(piece(1), false)), Some(Full::Store));
        body.stored_to(60);
        assert_eq!(budget.used(), 40);
        assert_eq!(why(body.push(piece(1), false)), None);
    }

    #[test]
    fn what_the_store_has_waits_for_the_fastest_reader_alone() {
        let budget = Budget::new(100);
        let body = body(100, &budget);
        let (mut fast, mut slow) = (body.reader(Duration::MAX).unwrap(), body.reader(Duration::MAX).unwrap());
        body.push(piece(100), false).unwrap();
        body.stored_to(100);
        assert_eq!(why(body.push(piece(1), false)), Some(Full::Readers));
        assert_eq!(take(&mut fast), Some(100));
        assert_eq!(why(body.push(piece(1), false)), None);
        assert_eq!(take(&mut fast), Some(1));
        assert!(take(&mut slow).is_none(), "it is too far behind");
    }

    #[test]
    fn what_nobody_keeps_goes_at_the_pace_of_the_fastest_and_holds_a_window_for_the_others() {
        let budget = Budget::new(100);
        let body = body(100, &budget);
        body.is_not_kept();
        let (mut fast, mut slow) = (body.reader(Duration::MAX).unwrap(), body.reader(Duration::MAX).unwrap());
        body.push(piece(60), false).unwrap();
        assert_eq!(why(body.push(piece(1), false)), Some(Full::Readers));
        assert_eq!(take(&mut fast), Some(60));
        body.push(piece(40), false).unwrap();
        assert_eq!(take(&mut fast), Some(40));
        assert_eq!(why(body.push(piece(1), false)), Some(Full::Laggards));
        assert_eq!(take(&mut slow), Some(60));
        body.push(piece(1), false).unwrap();
        assert_eq!(take(&mut fast), Some(1));
        body.leave_laggards();
        assert!(take(&mut slow).is_none(), "it is too far behind");
        assert!(body.reader(Duration::MAX).is_none(), "the beginning is gone");
        assert_eq!(budget.used(), 0);
    }
}
