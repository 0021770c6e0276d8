//! A response that others may have as well is recorded as it comes: for the clients that read it, and for the store.
//!
//! It is read here, in a task of its own, and not at the pace of whoever asked for it first, nor does it end with that
//! client. What the store does not take as it should is not stored, and that is all: the clients have their body.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time;

use super::Shared;
use super::background::Place;
use super::flight::FlightGuard;
use super::forward::Sent;
use super::keeper::{Keeper, written};
use super::publish::Publication;
use crate::body::recorder::Abandoned;
use crate::body::shared::{Full, SharedBody};
use crate::body::{CacheBody, frame_at_hand, next_frame};
use crate::clock::Stopwatch;
use crate::collapse::permits::Permit;
use crate::error::{BoxError, StoreError};

/// The store may slow a body down to so many octets a second, and no further: then it is not stored.
const LEAST_PACE: u64 = 8 * 1024 * 1024;
/// Readers who take nothing for so long are not waited for where others wait, or where they can go on from the store.
const STALL: Duration = Duration::from_secs(5);
/// While its own clients hold a body back, it is asked so often whether somebody reads it elsewhere.
const LOOK: Duration = Duration::from_millis(250);
/// How long, and how often, room is asked for that others have to give back.
const ROOM_PATIENCE: Duration = Duration::from_millis(50);
const ROOM_POLL: Duration = Duration::from_millis(5);
/// A longer piece is taken as several.
const MAX_PIECE: usize = 256 * 1024;
/// Chunks that are not led to by then may be gone.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// A body, and those who want it.
#[derive(Debug)]
pub(super) struct Recording<B> {
    source: B,
    /// What comes before it.
    front: Vec<Bytes>,
    desk: Box<Desk>,
}

/// What is done with each piece.
#[derive(Debug)]
pub(super) struct Desk {
    shared: Arc<Shared>,
    body: Arc<SharedBody>,
    /// What is to be stored, for as long as it can be.
    keeper: Option<Keeper>,
    flight: Option<FlightGuard>,
    /// From the first nobody was to read it but the store.
    for_store_alone: bool,
    /// What has come so far.
    passed: u64,
    /// How long it has waited for the store.
    waited: Duration,
    begun: Stopwatch,
    /// Since when nobody has read it.
    unread: Option<Stopwatch>,
    /// Given back when the body has ended.
    permit: Permit,
    /// That of the task, where no flight has one.
    place: Option<Place>,
}

/// What happened while the next frame was waited for.
enum Event {
    Frame(Option<Result<Frame<Bytes>, BoxError>>),
    /// Nobody reads, and nobody else needs it.
    Deserted,
}

impl<B> Recording<B>
where
    B: Body<Error: Into<BoxError>>,
{
    /// Does so in a task of its own.
    pub(super) fn begin(mut self)
    where
        B: Send + 'static,
    {
        let place = self.desk.place.take().expect("what is recorded without a flight has a place");
        place.begin("record", || self.run());
    }

    /// Reads the body to its end, or for as long as somebody wants it, and stores it.
    pub(super) async fn run(self) {
        let Self { source, front, mut desk } = self;
        let mut source = pin!(source);
        for piece in front {
            if !desk.pass_in_pieces(&piece, false).await {
                return desk.stop_keeping(Abandoned::ClientLeft);
            }
        }
        // Many a short body is there already: it is read without setting up all that a longer one needs.
        let mut first = if source.is_end_stream() { None } else { frame_at_hand(source.as_mut()).await };
        loop {
            let event = match first.take() {
                Some(frame) => Event::Frame(frame),
                None if source.is_end_stream() => return desk.finish(None).await,
                None => desk.next(source.as_mut()).await,
            };
            match event {
                Event::Frame(Some(Ok(frame))) => match frame.into_data() {
                    Ok(octets) if desk.pass_in_pieces(&octets, source.is_end_stream()).await => {}
                    Ok(_) => return desk.stop_keeping(Abandoned::ClientLeft),
                    Err(frame) => return desk.finish(frame.into_trailers().ok()).await,
                },
                Event::Frame(Some(Err(error))) => {
                    desk.close();
                    desk.body.fail(error);
                    return desk.stop_keeping(Abandoned::Failed);
                }
                Event::Frame(None) => return desk.finish(None).await,
                Event::Deserted => return desk.stop_keeping(Abandoned::ClientLeft),
            }
        }
    }
}

impl Desk {
    pub(super) fn new(
        shared: &Arc<Shared>,
        body: Arc<SharedBody>,
        keeper: Option<Keeper>,
        sent: &Sent,
        place: Option<Place>,
        begun: Stopwatch,
    ) -> Box<Self> {
        if keeper.is_none() {
            body.is_not_kept();
        }
        Box::new(Self {
            shared: Arc::clone(shared),
            body,
            keeper,
            flight: sent.flight.clone(),
            permit: sent.permit.clone(),
            for_store_alone: false,
            passed: 0,
            waited: Duration::ZERO,
            begun,
            unread: None,
            place,
        })
    }

    /// The body for one who reads it, from its beginning.
    pub(super) fn seat<B>(&self) -> CacheBody<B> {
        self.body.reader(Duration::MAX).map_or_else(CacheBody::empty, CacheBody::shared)
    }

    /// Takes its place between the body, with what comes before it, and those who have a seat by now.
    pub(super) fn record<B: Body>(mut self: Box<Self>, source: B, front: Vec<Bytes>) -> Recording<B> {
        if source.is_end_stream() && front.is_empty() {
            self.is_imminent();
            // Nobody need wait to learn that there is nothing.
            self.body.end(None);
        }
        self.for_store_alone = !self.body.is_read();
        Recording { source, front, desk: self }
    }

    async fn next<B: Body<Error: Into<BoxError>>>(&mut self, mut source: Pin<&mut B>) -> Event {
        let mut patience = pin!(time::sleep(self.shared.config.collapse_timeout));
        let mut is_told = self.publication().is_some();
        loop {
            if self.is_left().await {
                return Event::Deserted;
            }
            let (is_writing, left) = (self.is_writing(), self.time_left());
            tokio::select! {
                biased;
                result = written(&mut self.keeper), if is_writing => self.note(result),
                frame = next_frame(source.as_mut()) => return Event::Frame(frame),
                () = self.body.moved() => {}
                () = time::sleep(left.unwrap_or_default()), if left.is_some() => {}
                () = &mut patience, if is_told => {
                    is_told = false;
                    if let Some(publication) = self.publication() {
                        publication.give_way();
                    }
                }
                // Those who are about to read may leave without a word.
                () = time::sleep(STALL), if left.is_none() && !self.body.is_read() => {}
            }
        }
    }

    /// The same for octets in one piece of any length: what is longer than a chunk may never find room.
    async fn pass_in_pieces(&mut self, octets: &Bytes, is_last: bool) -> bool {
        let (mut octets, whole) = (octets.clone(), octets.len());
        if is_last {
            self.is_imminent();
        }
        while !octets.is_empty() {
            let piece = octets.split_to(octets.len().min(MAX_PIECE));
            if !self.pass(&piece, whole).await {
                return false;
            }
        }
        true
    }

    /// The client is about to have all of it.
    fn is_imminent(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.fill.is_imminent();
        }
    }

    /// Gives the next octets, a part of a frame of so many, to all who want them; `false` if there is nobody any more.
    async fn pass(&mut self, octets: &Bytes, of: usize) -> bool {
        if octets.is_empty() {
            return true;
        }
        let mut piece = octets.clone();
        match self.keeper.as_mut().map(|keeper| keeper.take(octets, of)) {
            Some(Ok(taken)) => piece = taken,
            Some(Err(reason)) => self.stop_keeping(reason),
            None => {}
        }
        if self.passed > 0 && self.begun.elapsed() > LONGEST {
            self.stop_keeping(Abandoned::TooLong);
        }
        self.passed += piece.len() as u64;
        if let Err((back, full)) = self.push(piece.clone())
            && !Box::pin(self.pass_when_there_is_room(back, full)).await
        {
            return false;
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.add(&piece);
        }
        true
    }

    /// Adds a piece, if there is room. What somebody reads elsewhere does not wait for the clients of this process: they
    /// have it from the store.
    fn push(&self, piece: Bytes) -> Result<(), (Bytes, Full)> {
        match self.body.push(piece, self.is_awaited()) {
            Err((piece, Full::Readers)) if self.is_read_elsewhere() => {
                self.body.lean_on_store();
                self.body.push(piece, self.is_awaited())
            }
            pushed => pushed,
        }
    }

    /// Waits until the piece may be added; `false` if there is nobody any more.
    async fn pass_when_there_is_room(&mut self, mut piece: Bytes, mut full: Full) -> bool {
        let (mut patience, mut others) = (pin!(time::sleep(self.patience())), pin!(time::sleep(ROOM_PATIENCE)));
        let (mut stall, mut is_stalled, mut look) = (pin!(time::sleep(STALL)), false, pin!(time::sleep(LOOK)));
        let (mut slowest, waiting) = (self.body.slowest(), Stopwatch::start());
        loop {
            if self.is_left().await {
                return false;
            }
            let (for_store, is_writing) = (full == Full::Store, self.is_writing());
            let is_piecemeal = self.keeper.as_ref().is_some_and(|keeper| keeper.upload.is_piecemeal());
            tokio::select! {
                biased;
                result = written(&mut self.keeper), if is_writing => self.note(result),
                () = async {}, if for_store && !is_writing && !is_piecemeal => self.stop_keeping(Abandoned::NoRoom),
                () = &mut others, if for_store && !is_writing => self.stop_keeping(Abandoned::NoRoom),
                () = &mut patience, if for_store => self.stop_keeping(Abandoned::SlowStore),
                // Others may make room.
                () = time::sleep(ROOM_POLL), if for_store && !is_writing => {}
                () = self.body.moved() => {}
                () = &mut look, if full == Full::Readers && self.publication().is_some() => {
                    look.set(time::sleep(LOOK));
                    if let Some(publication) = self.publication() {
                        Arc::clone(publication).tell_again().await;
                    }
                }
                () = &mut stall, if !for_store && !is_stalled => {
                    is_stalled = true;
                    match full {
                        Full::Laggards => self.body.leave_laggards(),
                        Full::Readers | Full::Store => self.body.lean_on_store(),
                    }
                }
            }
            if self.body.slowest() > slowest {
                slowest = self.body.slowest();
                stall.set(time::sleep(STALL));
                is_stalled = false;
            }
            match self.push(piece) {
                Ok(()) => break,
                Err(back) => (piece, full) = back,
            }
        }
        if full == Full::Store {
            self.waited += waiting.elapsed();
        }
        true
    }

    /// How much longer this body may wait for the store.
    fn patience(&self) -> Duration {
        let earned = Duration::from_millis(self.passed * 1000 / LEAST_PACE);
        // What is not stored breaks off under those who read it elsewhere.
        let for_others = if self.is_read_elsewhere() { STALL } else { Duration::ZERO };
        (self.shared.store_patience() + earned + for_others).saturating_sub(self.waited)
    }

    fn is_writing(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.upload.is_underway())
    }

    /// What the store says of the chunks that it was given last.
    fn note(&mut self, result: Result<u64, StoreError>) {
        match result {
            Ok(octets) => self.body.stored_to(octets),
            Err(error) => {
                tracing::debug!(store.error = %error, "the store did not take a chunk");
                self.shared.counters.dropped_writes.increment();
                self.stop_keeping(Abandoned::SlowStore);
            }
        }
    }

    /// The same, and nobody reads it elsewhere, nor will.
    async fn is_left(&mut self) -> bool {
        if !self.is_deserted() {
            return false;
        }
        match self.publication() {
            Some(publication) => Box::pin(Arc::clone(publication).withdraw()).await,
            None => true,
        }
    }

    /// Nobody reads the body, nobody is about to, and for the store alone it is too long.
    fn is_deserted(&mut self) -> bool {
        if self.is_wanted() {
            self.unread = None;
            return false;
        }
        let unread = *self.unread.get_or_insert_with(Stopwatch::start);
        let config = &self.shared.config;
        let is_worth_it = |keeper: &Keeper| self.for_store_alone || keeper.recorder.left() <= config.max_unread_body;
        if unread.elapsed() < config.unread_timeout && self.keeper.as_ref().is_some_and(is_worth_it) {
            return false;
        }
        // Whoever comes from now on asks anew; whoever has come at this very moment is to have the body.
        self.close();
        !self.is_wanted()
    }

    /// Those who are about to read take a seat before they cease to wait: in this order none is overlooked.
    fn is_wanted(&self) -> bool {
        self.is_awaited() || self.body.is_read() || self.is_read_elsewhere()
    }

    fn is_read_elsewhere(&self) -> bool {
        self.publication().is_some_and(|publication| publication.is_read())
    }

    fn publication(&self) -> Option<&Arc<Publication>> {
        self.keeper.as_ref()?.upload.publication()
    }

    fn is_awaited(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.followers() > 0)
    }

    /// What is left of the time for a body that nobody reads; who reads it elsewhere may leave without a word.
    fn time_left(&self) -> Option<Duration> {
        if self.is_read_elsewhere() {
            return Some(self.shared.config.pace.heartbeat);
        }
        self.unread.map(|since| self.shared.config.unread_timeout.saturating_sub(since.elapsed()))
    }

    /// Nobody who comes from now on can have this body.
    fn close(&self) {
        if let Some(flight) = &self.flight {
            flight.close();
        }
    }

    fn stop_keeping(&mut self, reason: Abandoned) {
        if let Some(flight) = &self.flight {
            flight.abandon(reason);
        }
        self.body.is_not_kept();
        if let Some(keeper) = self.keeper.take() {
            keeper.abandon(&self.shared, reason);
        }
    }

    /// The body has ended.
    async fn finish(&mut self, trailers: Option<HeaderMap>) {
        self.permit.release();
        self.is_imminent();
        let Some(keeper) = &self.keeper else { return self.body.end(trailers) };
        let kept_trailers = trailers.as_ref().map(|trailers| keeper.recorder.trailers(trailers)).transpose();
        match (keeper.recorder.finish(), kept_trailers) {
            (Ok(length), Ok(kept_trailers)) => {
                self.body.end(trailers);
                self.store(length, kept_trailers.map(Box::new)).await;
            }
            (Err(reason), _) | (_, Err(reason)) => {
                self.close();
                self.body.end(trailers);
                self.stop_keeping(reason);
            }
        }
    }

    /// The flight goes on until all is written: whoever comes meanwhile would find nothing in the store.
    async fn store(&mut self, length: u64, trailers: Option<Box<HeaderMap>>) {
        let Some(mut keeper) = self.keeper.take() else { return };
        let is_piecemeal = keeper.upload.is_piecemeal();
        match keeper.whole(length, self.shared.config.store_write_timeout).await {
            Some(body) => {
                let is_in_chunks = body.chunks().is_some();
                let mut fill = keeper.fill;
                fill.complete(body, trailers);
                fill.write().await;
                match is_piecemeal {
                    true if is_in_chunks => self.body.stored_to(length),
                    true => {}
                    false => self.body.is_shared_with_store(),
                }
            }
            None => {
                self.shared.counters.dropped_writes.increment();
                if let Some(flight) = &self.flight {
                    flight.abandon(Abandoned::SlowStore);
                }
                keeper.abandon(&self.shared, Abandoned::SlowStore);
            }
        }
    }
}

/// However it ends, by a panic of the service's body or with the runtime, nobody waits for more.
impl Drop for Desk {
    fn drop(&mut self) {
        self.body.fail("the response was not read to its end");
    }
}
