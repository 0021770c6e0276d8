//! A body while it is being fetched: one producer, any number of readers, bounded memory.
//!
//! A piece is held for as long as the store needs it, or a reader that is not too far behind the first of them. The
//! producer goes at the pace of the fastest reader, or of the store where nobody reads.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

use super::budget::Reservation;
use crate::clock::Stopwatch;
use crate::error::{BodyError, BoxError};

/// The body, as the producer and the readers have it in common.
#[derive(Debug)]
pub(crate) struct SharedBody {
    state: Mutex<State>,
    /// Wakes the producer: a reader has come, gone or gone on.
    moved: Notify,
    /// The length, where it is known beforehand.
    exact: Option<u64>,
}

#[derive(Debug)]
struct State {
    pieces: VecDeque<Bytes>,
    /// The number of the first piece that is held, and where it starts.
    first: u64,
    start: u64,
    held: u64,
    /// Octets that are held at the most, as long as there is room for them in the budget, and no more than a fair share
    /// of it; `u64::MAX` where the store takes the body only as a whole.
    most: u64,
    reservation: Reservation,
    /// The store has, or does not want, what is before this octet.
    kept_from: u64,
    /// What is before `kept_from` can be read in the store.
    in_store: bool,
    end: Option<End>,
    /// Since the last piece came.
    idle: Stopwatch,
    readers: Vec<Option<Place>>,
}

/// Where a reader is.
#[derive(Debug)]
struct Place {
    next: u64,
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
}

/// One reader of a shared body.
#[derive(Debug)]
pub(crate) struct SharedReader {
    body: Arc<SharedBody>,
    place: usize,
    /// How much it has had.
    offset: u64,
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
    /// Keeps everything until it is [told](Self::kept_from) that the store has it.
    pub(crate) fn new(exact: Option<u64>, most: u64, reservation: Reservation) -> Arc<Self> {
        let state = State {
            pieces: VecDeque::new(),
            first: 0,
            start: 0,
            held: 0,
            most,
            reservation,
            kept_from: 0,
            in_store: false,
            end: None,
            idle: Stopwatch::start(),
            readers: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), moved: Notify::new(), exact })
    }

    /// One more reader, from the beginning; `None` where the beginning is not to be had any more, and where nothing more
    /// has come for so long.
    pub(crate) fn reader(self: &Arc<Self>, patience: Duration) -> Option<SharedReader> {
        let mut state = self.lock();
        let hangs = state.end.is_none() && state.idle.elapsed() > patience;
        if hangs || state.start > 0 || matches!(state.end, Some(End::Broken(..))) {
            return None;
        }
        let place = Some(Place { next: 0, waker: None, is_warned: false });
        let free = state.readers.iter().position(Option::is_none);
        let index = free.unwrap_or(state.readers.len());
        match free {
            Some(index) => state.readers[index] = place,
            None => state.readers.push(place),
        }
        Some(SharedReader { body: Arc::clone(self), place: index, offset: 0, is_done: false })
    }

    /// Whether somebody reads.
    pub(crate) fn is_read(&self) -> bool {
        self.lock().readers.iter().any(Option::is_some)
    }

    /// Resolves when a reader has moved since this was last awaited. For the producer alone.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Adds a piece, if there is room.
    pub(crate) fn push(&self, piece: Bytes) -> Result<(), (Bytes, Full)> {
        let mut state = self.lock();
        if let Err(full) = state.make_room(piece.len() as u64) {
            return Err((piece, full));
        }
        state.held += piece.len() as u64;
        state.pieces.push_back(piece);
        state.idle = Stopwatch::start();
        state.wake();
        Ok(())
    }

    /// The body has come whole.
    pub(crate) fn end(&self, trailers: Option<HeaderMap>) {
        self.conclude(End::Whole(trailers));
    }

    /// The body has broken off.
    pub(crate) fn fail(&self, error: impl Into<BoxError>) {
        let error = error.into();
        let words = error.to_string().into();
        self.conclude(End::Broken(Some(error), words));
    }

    /// The store has taken what is before this octet, and readers may have it from there.
    pub(crate) fn stored_to(&self, offset: u64) {
        let mut state = self.lock();
        (state.kept_from, state.in_store) = (offset, true);
        state.trim();
    }

    /// The store wants nothing of this body, or nothing more: from now on a piece waits until somebody has had the last.
    pub(crate) fn is_not_kept(&self) {
        let mut state = self.lock();
        (state.kept_from, state.in_store, state.most) = (u64::MAX, false, 0);
        state.trim();
    }

    fn conclude(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(end);
            state.wake();
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
        if self.fits(octets) {
            return Ok(());
        }
        self.let_go_before(self.fastest());
        if self.pieces.is_empty() || self.fits(octets) {
            return Ok(());
        }
        // A chunk may end within a piece.
        let for_store = self.pieces.front().is_some_and(|piece| self.start + piece.len() as u64 > self.kept_from);
        Err(if for_store { Full::Store } else { Full::Readers })
    }

    fn fits(&mut self, octets: u64) -> bool {
        let most = match self.most {
            u64::MAX => u64::MAX,
            most => most.min(self.reservation.share()),
        };
        self.held + octets <= most && self.reservation.cover(self.held + octets)
    }

    /// Lets go what neither the store nor any reader needs.
    fn trim(&mut self) {
        self.let_go_before(self.slowest());
    }

    /// Lets go pieces with lower numbers than this, but for what the store has yet to take.
    fn let_go_before(&mut self, number: u64) {
        while let Some(piece) = self.pieces.front() {
            let end = self.start + piece.len() as u64;
            if self.first >= number || end > self.kept_from {
                break;
            }
            self.held -= piece.len() as u64;
            (self.first, self.start) = (self.first + 1, end);
            self.pieces.pop_front();
        }
        self.reservation.shrink_to(self.held);
    }

    fn fastest(&self) -> u64 {
        self.places().map(|place| place.next).max().unwrap_or(u64::MAX)
    }

    fn slowest(&self) -> u64 {
        self.places().map(|place| place.next).min().unwrap_or(u64::MAX)
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.readers.iter().flatten()
    }

    fn wake(&mut self) {
        for place in self.readers.iter_mut().flatten() {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }

    fn poll_next(&mut self, place: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let first = self.first;
        let Some(here) = self.readers.get_mut(place).and_then(Option::as_mut) else { return Poll::Ready(None) };
        let Some(ahead) = here.next.checked_sub(first) else {
            return Poll::Ready(Some(Err(BodyError::new(FellBehind))));
        };
        let index = usize::try_from(ahead).expect("a piece that is held has an index");
        if let Some(piece) = self.pieces.get(index) {
            here.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        match &mut self.end {
            None => {
                here.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Whole(trailers)) => Poll::Ready(trailers.clone().map(|trailers| Ok(Frame::trailers(trailers)))),
            // A server that sees an error at once drops the connection, with all that it has yet to send.
            Some(End::Broken(..)) if !here.is_warned => {
                here.is_warned = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(End::Broken(error, words)) => {
                let error = error.take().unwrap_or_else(|| Box::new(Told(Arc::clone(words))));
                Poll::Ready(Some(Err(BodyError::new(error))))
            }
        }
    }
}

// ===== impl SharedReader =====

impl SharedReader {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let polled = self.body.lock().poll_next(self.place, cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                self.offset += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.is_done = frame.is_trailers();
                self.body.moved.notify_one();
            }
            Poll::Ready(_) => self.is_done = true,
        }
        polled
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let state = self.body.lock();
        let at_the_end = self.offset == state.start + state.held;
        self.is_done || (at_the_end && matches!(state.end, Some(End::Whole(None))))
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
        if let Some(place) = self.body.lock().readers.get_mut(self.place) {
            *place = None;
        }
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
        SharedBody::new(None, most, budget.reserve(0).unwrap())
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
        body.push(piece(60)).unwrap();
        body.push(piece(40)).unwrap();
        assert_eq!((take(&mut reader), take(&mut reader)), (Some(60), Some(40)));
        assert_eq!(why(body.push(piece(1))), Some(Full::Store));
        // The store has a chunk that ends within the first piece.
        body.stored_to(50);
        assert_eq!(why(body.push(piece(1))), Some(Full::Store));
        body.stored_to(60);
        assert_eq!(budget.used(), 40);
        assert_eq!(why(body.push(piece(1))), None);
    }

    #[test]
    fn what_the_store_has_waits_for_the_fastest_reader_alone() {
        let budget = Budget::new(100);
        let body = body(100, &budget);
        let (mut fast, mut slow) = (body.reader(Duration::MAX).unwrap(), body.reader(Duration::MAX).unwrap());
        body.push(piece(100)).unwrap();
        body.stored_to(100);
        assert_eq!(why(body.push(piece(1))), Some(Full::Readers));
        assert_eq!(take(&mut fast), Some(100));
        assert_eq!(why(body.push(piece(1))), None);
        assert_eq!(take(&mut fast), Some(1));
        assert!(take(&mut slow).is_none(), "it is too far behind");
        assert!(body.reader(Duration::MAX).is_none(), "the beginning is gone");
    }
}
