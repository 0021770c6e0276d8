//! What another process fetches is read here as it is written there: from the store, no further than it has come.
//!
//! One task looks how far that is, for all who read it here. It ends with them, or with the fetch; a fetch that comes to
//! nothing is an error for those who read it, and never a short end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::request;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time;

use super::background::Place;
use super::collapse::Landing;
use super::flight::FlightGuard;
use super::open::{StandBy, StoredChunks};
use super::{Miss, Shared, fleet};
use crate::body::chunks::OpenBody;
use crate::clock::Stopwatch;
use crate::collapse::lease::Token;
use crate::error::{BodyError, StoreError, StoreErrorKind};
use crate::key::CacheKey;
use crate::purge::clock::Verdict;
use crate::semantics::collapse::is_for_others;
use crate::semantics::vary::{NominatedFields, VariantKey};
use crate::store::entry::{Attended, Cell, Chunks, Live, StoredResponse, Told};
use crate::store::{CellKey, Hearing, LeaseKey, Store};

/// What there is to be had of a fetch elsewhere.
pub(super) enum Boarding {
    Landed(Landing, Box<Lookout>),
    /// It is for other values of the fields that its response nominates: this is the request's own variant.
    Vary(VariantKey),
    Nothing,
    /// The lease is held no longer.
    Over,
}

/// How much of a body can be read, as its readers know it.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    state: watch::Receiver<State>,
    length: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Written(u64),
    Broken,
}

/// Who looks how far it is, for as long as somebody reads it.
#[derive(Debug)]
pub(super) struct Lookout {
    place: Place,
    watch: Watch,
}

#[derive(Debug)]
struct Watch {
    shared: Arc<Shared>,
    flight: FlightGuard,
    key: CacheKey,
    /// That of the lease, and that of the response.
    variants: [Option<VariantKey>; 2],
    holder: Token,
    hearing: Option<Hearing>,
    /// With the body that is read.
    response: Arc<StoredResponse>,
    chunks: Chunks,
    progress: watch::Sender<State>,
}

/// What another process fetches under its lease, if this request may have it.
pub(super) async fn board(
    shared: &Arc<Shared>,
    miss: &Miss,
    parts: &request::Parts,
    flight: &FlightGuard,
    holder: Token,
) -> Boarding {
    let lease = LeaseKey { cell: CellKey { primary: &miss.key, variant: miss.variant }, token: &holder };
    let hearing = shared.store.hear(&miss.key);
    let told = match attend(shared, lease).await {
        Ok(Attended::Told(told)) if told.is_for_newcomers => told,
        Ok(Attended::Told(_) | Attended::Over) => return Boarding::Over,
        Ok(Attended::Silence) | Err(_) => return Boarding::Nothing,
    };
    let Live { response, variant, written } = told.live;
    let (Ok(nominated), Some(chunks)) = (NominatedFields::of_response(&response.headers), response.body.chunks())
    else {
        return Boarding::Nothing;
    };
    let own = nominated.select(&parts.headers);
    if own != variant {
        return Boarding::Vary(own);
    }
    let plane = shared.store.plane();
    let is_good = plane.is_in_sync() && plane.judge(&miss.key, &response.label) == Verdict::Good;
    if !is_good || !is_for_others(&response.freshness, shared.clock().now(), &shared.config.rules.grace) {
        return Boarding::Nothing;
    }
    let Some(place) = shared.background.enter() else { return Boarding::Nothing };
    let progress = watch::Sender::new(State::Written(written));
    let source = StoredChunks {
        shared: Arc::clone(shared),
        key: miss.key.clone(),
        variant: None,
        chunks,
        runtime: Handle::current(),
        progress: Some(Progress { state: progress.subscribe(), length: chunks.length }),
        is_torn: AtomicBool::new(false),
        spare: StandBy::default(),
    };
    let body = response.body.opened(OpenBody::new(Arc::new(source), chunks, shared.reading.clone(), None));
    let response = Arc::new(StoredResponse { body, ..Arc::unwrap_or_clone(response) });
    let watch = Watch {
        shared: Arc::clone(shared),
        flight: Arc::clone(flight),
        key: miss.key.clone(),
        variants: [miss.variant, Some(variant)],
        response: Arc::clone(&response),
        holder,
        hearing,
        chunks,
        progress,
    };
    Boarding::Landed(Landing { response, body: None, nominated, variant }, Box::new(Lookout { place, watch }))
}

async fn attend(shared: &Shared, lease: LeaseKey<'_>) -> Result<Attended, StoreError> {
    let attending = shared.store.attend(lease, shared.config.pace.lifetime());
    let told = time::timeout(shared.store_patience(), attending).await;
    told.unwrap_or_else(|_| Err(StoreError::new(StoreErrorKind::Timeout)))
}

// ===== impl Progress =====

impl Progress {
    /// Resolves when so many octets are there, or with an error when they will never be.
    pub(super) async fn reaches(&self, octets: u64) -> Result<(), BodyError> {
        let mut state = self.state.clone();
        let reached = state.wait_for(|state| match state {
            State::Written(written) => *written >= octets,
            State::Broken => true,
        });
        match reached.await.as_deref() {
            Ok(State::Written(_)) => Ok(()),
            Ok(State::Broken) | Err(_) => Err(BodyError::new("what another process fetches has broken off")),
        }
    }

    /// Whether so many octets are there.
    pub(super) fn has(&self, octets: u64) -> bool {
        matches!(*self.state.borrow(), State::Written(written) if written >= octets)
    }

    /// Whether nothing more will come.
    pub(super) fn is_broken(&self) -> bool {
        match *self.state.borrow() {
            State::Written(written) => written < self.length && self.state.has_changed().is_err(),
            State::Broken => true,
        }
    }
}

// ===== impl Lookout =====

impl Lookout {
    /// Begins when those it looks out for have begun.
    pub(super) fn begin(self: Box<Self>) {
        let Self { place, watch } = *self;
        place.begin("relay", || watch.run());
    }
}

impl Watch {
    async fn run(mut self) {
        let mut pauses = self.shared.config.pace.pauses();
        let mut silent: Option<Stopwatch> = None;
        while !self.is_done() {
            fleet::pause(pauses.next(), self.hearing.as_mut()).await;
            if self.is_deserted() {
                return;
            }
            match attend(&self.shared, self.lease()).await {
                Ok(heard) => {
                    silent = None;
                    self.note(heard).await;
                }
                Err(error) => {
                    tracing::debug!(store.error = %error, "nothing is heard of a fetch elsewhere");
                    if silent.get_or_insert_with(Stopwatch::start).elapsed() >= self.shared.config.store_write_timeout {
                        self.break_off();
                    }
                }
            }
        }
    }

    fn lease(&self) -> LeaseKey<'_> {
        LeaseKey { cell: CellKey { primary: &self.key, variant: self.variants[0] }, token: &self.holder }
    }

    async fn note(&self, heard: Attended) {
        match heard {
            Attended::Told(told) if told.live.response.body.chunks() == Some(self.chunks) => {
                let Told { live, is_for_newcomers } = *told;
                if !is_for_newcomers {
                    self.flight.close();
                }
                self.progress.send_replace(State::Written(live.written));
            }
            // Nothing is told of it any more: it is stored, or it has come to nothing.
            _ if self.is_stored().await => {
                self.progress.send_replace(State::Written(self.chunks.length));
            }
            _ => self.break_off(),
        }
    }

    async fn is_stored(&self) -> bool {
        for variant in self.variants {
            let peeking = self.shared.store.peek(CellKey { primary: &self.key, variant });
            if let Ok(Ok(Some(Cell::Response(stored)))) = time::timeout(self.shared.store_patience(), peeking).await
                && stored.body.chunks() == Some(self.chunks)
            {
                return true;
            }
        }
        false
    }

    /// Whoever comes now leads anew.
    fn break_off(&self) {
        self.flight.close();
        self.progress.send_replace(State::Broken);
    }

    fn is_done(&self) -> bool {
        match *self.progress.borrow() {
            State::Written(written) => written >= self.chunks.length,
            State::Broken => true,
        }
    }

    /// Nobody reads it, nor is about to. Whoever has come at this very moment is to have it.
    fn is_deserted(&self) -> bool {
        if self.is_wanted() {
            return false;
        }
        self.flight.close();
        !self.is_wanted()
    }

    fn is_wanted(&self) -> bool {
        self.flight.followers() > 0 || self.response.body.open().is_some_and(OpenBody::is_read)
    }
}
