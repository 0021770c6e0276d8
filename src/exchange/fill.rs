//! A recorded response goes into the store, off the client's path.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{self, HeaderValue};
use tokio::time;

use super::collapse::Landing;
use super::epoch::Epoch;
use super::flight::{FlightGuard, Heart};
use super::forward::Sent;
use super::search::{self, Search};
use super::{Shared, label};
use crate::body::recorder::Abandoned;
use crate::body::shared::SharedBody;
use crate::boxed::boxed;
use crate::clock::Stopwatch;
use crate::collapse::imminent::ImminentWrite;
use crate::collapse::order::{Admission, Departure};
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::purge::clock::Verdict;
use crate::purge::label::Label;
use crate::semantics::admission::is_query;
use crate::semantics::collapse::is_for_others;
use crate::semantics::fields::stored_fields;
use crate::semantics::storing::{ReceivedHead, Storable};
use crate::semantics::time::Timestamp;
use crate::semantics::vary::VariantKey;
use crate::store::entry::{Cell, Chunks, Live, StoredBody, StoredResponse};
use crate::store::select::{self, PutOutcome};
use crate::store::{CellKey, Put, Store};

/// A response that will be stored if its body comes whole.
#[derive(Debug)]
pub(crate) struct Fill {
    shared: Arc<Shared>,
    key: CacheKey,
    /// The key that was looked up, where the response is stored under another.
    asked_for: Option<Box<CacheKey>>,
    departure: Departure,
    put: Put,
    search: Option<Box<Search>>,
    epoch: Option<Box<Epoch>>,
    /// Held until the response is stored: whoever comes meanwhile has it from there.
    flight: Option<FlightGuard>,
    /// Who cannot have it from there waits for the store.
    imminent: Option<ImminentWrite>,
}

/// How long an entry stays after it has ceased to be of use, for clocks that differ.
const MARGIN: Duration = Duration::from_secs(1);

/// Lets chunks end soon whose head will not be written.
pub(super) fn discard(shared: &Arc<Shared>, key: CacheKey, chunks: Chunks) {
    let Some(place) = shared.background.enter_first() else { return };
    let shared = Arc::clone(shared);
    place.begin("discard", || async move {
        let discarding = shared.store.discard(CellKey::base(&key), chunks);
        // What cannot be reached in time ends by itself.
        let _ = time::timeout(shared.config.store_write_timeout, discarding).await;
    });
}

/// The same where it is not known whether the head was written.
fn discard_unless_held(shared: &Arc<Shared>, key: CacheKey, cells: [Option<VariantKey>; 2], chunks: Chunks) {
    let Some(place) = shared.background.enter_first() else { return };
    let shared = Arc::clone(shared);
    place.begin("discard", || async move {
        let discarding = async {
            for variant in cells {
                let held = shared.store.peek(CellKey { primary: &key, variant }).await?;
                if matches!(held, Some(Cell::Response(held)) if held.body.chunks() == Some(chunks)) {
                    return Ok(());
                }
            }
            shared.store.discard(CellKey::base(&key), chunks).await
        };
        let _ = time::timeout(shared.config.store_write_timeout, discarding).await;
    });
}

impl Fill {
    pub(super) fn new(
        shared: &Arc<Shared>,
        sent: &Sent,
        received: &ReceivedHead<'_>,
        storable: Storable,
        variant: VariantKey,
        tags: Box<[Box<str>]>,
        now: Stopwatch,
    ) -> Box<Self> {
        let response = StoredResponse {
            status: received.status,
            headers: fields_to_store(received, &storable),
            freshness: storable.freshness,
            request_time: received.request_time,
            origin_latency: sent.stopwatch.elapsed_at(now),
            body: StoredBody::default(),
            trailers: None,
            label: Arc::new(Label { tags, ..label(shared, sent.departure, &sent.parts) }),
        };
        let mut put = Put {
            response: Arc::new(response),
            nominated: storable.nominated,
            variant,
            ttl: storable.shelf_life.saturating_add(MARGIN),
            max_variants: shared.config.max_variants,
            seen: sent.miss.asked.seen,
            replaces: Vec::new(),
        };
        let search = match is_query(&sent.parts.method) {
            true => None,
            false => Search::of(shared, &sent.parts, received.headers).map(Box::new),
        };
        let epoch = sent.miss.asked.epoch.clone();
        let key = match (&search, &epoch) {
            (Some(search), _) => search.canonical.clone(),
            (None, Some(epoch)) => epoch.key(&sent.miss.key),
            (None, None) => sent.miss.key.clone(),
        };
        if *sent.miss.stored_under() == key {
            put.replaces.extend(sent.miss.stored.as_ref().and_then(|stored| stored.body.chunks()));
        }
        let (shared, flight) = (Arc::clone(shared), sent.flight.clone());
        let asked_for = (key != sent.miss.key).then(|| Box::new(sent.miss.key.clone()));
        Box::new(Self { shared, key, asked_for, search, epoch, departure: sent.departure, put, flight, imminent: None })
    }

    pub(super) fn key(&self) -> &CacheKey {
        &self.key
    }

    /// Lets others have the response already, with its body as it comes or as it is stored.
    pub(super) fn share(&self, body: Option<&Arc<SharedBody>>, now: Timestamp) {
        let Some(flight) = &self.flight else { return };
        let Put { response, nominated, variant, .. } = &self.put;
        let landing = Landing {
            response: Arc::clone(response),
            body: body.map(Arc::clone),
            nominated: nominated.clone(),
            variant: *variant,
        };
        landing.offer(&self.shared, flight, now);
    }

    /// The client is about to have all of it, and the store soon after.
    pub(super) fn is_imminent(&mut self) {
        let asked_for = self.asked_for.as_deref().unwrap_or(&self.key);
        self.imminent.get_or_insert_with(|| self.shared.imminent.begin(asked_for));
    }

    /// What is told of it elsewhere, where the others wait for this very key and may have it.
    pub(super) fn live(&self, chunks: Chunks) -> Option<Live> {
        let Put { response, variant, .. } = &self.put;
        let (now, grace) = (self.shared.clock().now(), &self.shared.config.rules.grace);
        if self.asked_for.is_some() || !is_for_others(&response.freshness, now, grace) {
            return None;
        }
        let response = StoredResponse { body: StoredBody::in_chunks(chunks), ..response.as_ref().clone() };
        Some(Live { response: Arc::new(response), variant: *variant, written: 0 })
    }

    /// The response is as old as what is known of it by now.
    pub(super) fn stays_purged(&mut self, known: &Label) {
        let response = Arc::make_mut(&mut self.put.response);
        response.label = Arc::new(Label { stamp: known.stamp, ..response.label.as_ref().clone() });
    }

    /// The body is stored already: the head is written anew, and returned.
    pub(super) fn rewrite(mut self: Box<Self>, stored: &StoredResponse) -> Arc<StoredResponse> {
        let mut response = self.put.response.as_ref().clone();
        (response.body, response.trailers) = (stored.body.clone(), stored.trailers.clone());
        let response = Arc::new(response);
        self.put.response = Arc::clone(&response);
        self.share(None, self.shared.clock().now());
        match self.shared.background.enter_first() {
            Some(place) => {
                place.begin("rewrite", || async move {
                    let flight = self.flight.clone();
                    let writing = self.put_away();
                    match &flight {
                        Some(flight) => Heart::default().beats_for(flight, pin!(writing)).await,
                        None => writing.await,
                    }
                });
            }
            None => self.shared.counters.dropped_writes.increment(),
        }
        response
    }

    /// The body did not come whole: nothing is stored.
    pub(super) fn abandon(self: Box<Self>, reason: Abandoned) -> CacheKey {
        self.shared.counters.abandoned.increment();
        tracing::debug!(?reason, key = ?self.key, "fill abandoned");
        self.key
    }

    /// The body came whole.
    pub(super) fn complete(&mut self, body: StoredBody, trailers: Option<Box<HeaderMap>>) {
        let response = StoredResponse { body, trailers, ..self.put.response.as_ref().clone() };
        self.put.response = Arc::new(response);
    }

    /// Stores what is complete. The rest of a fetch, which takes longer, need not have room for this.
    pub(super) fn write(mut self: Box<Self>) -> Pin<Box<impl Future<Output = ()>>> {
        boxed(|| async move {
            let chunks = self.put.response.body.chunks_to_be();
            let cells = [None, Some(self.put.variant)];
            match (self.put_away().await, chunks) {
                (Some(PutOutcome::Stored), _) | (_, None) => {}
                // No head leads to them, though they may have been given its time already.
                (Some(_), Some(chunks)) => discard(&self.shared, self.key, chunks),
                (None, Some(chunks)) => discard_unless_held(&self.shared, self.key, cells, chunks),
            }
        })
    }

    /// What became of it; `None` where that is not known.
    async fn put_away(&mut self) -> Option<PutOutcome> {
        let shared = Arc::clone(&self.shared);
        let put = time::timeout(shared.config.store_write_timeout, pin!(self.put_in_turn())).await;
        let outcome = match put {
            Ok(Ok(outcome)) => outcome,
            failed => {
                shared.counters.dropped_writes.increment();
                let error = failed.ok().and_then(Result::err);
                tracing::debug!(key = ?self.key, store.error = ?error, "write failed, or met its deadline");
                return None;
            }
        };
        if outcome == PutOutcome::Stored {
            // While the flight is still to be joined: nobody finds neither the one nor the other.
            shared.order.note_written(&self.key);
            self.asked_for.iter().for_each(|key| shared.order.note_written(key));
        }
        if let Some(flight) = &self.flight {
            flight.has_put(outcome);
        }
        count(&shared, &self.key, outcome);
        note_written(&shared);
        Some(outcome)
    }

    async fn put_in_turn(&mut self) -> Result<PutOutcome, StoreError> {
        let Self { shared, key, departure, put, .. } = self;
        // The request's own, which leads to the other.
        let own_key = self.asked_for.as_deref().filter(|_| self.search.is_some());
        let keys = || std::iter::once(&*key).chain(own_key);
        let _turn = shared.order.turn(key).await;
        let connection = shared.store.stamp().1;
        let is_outdated = connection.is_none()
            || connection != departure.connection
            || self.epoch.as_ref().is_some_and(|epoch| epoch.is_outdated(shared, *departure, &put.response.label))
            || keys().any(|key| shared.store.plane().judge(key, &put.response.label) == Verdict::Purged);
        if is_outdated || !keys().all(|key| is_admitted(shared, key, *departure, put)) {
            return Ok(PutOutcome::OutOfDate);
        }
        if let Some(search) = &self.search {
            // In boxes of their own, as all that most have no use for.
            Box::pin(search::note(shared, search, put.ttl)).await?;
        }
        if let Some(epoch) = &self.epoch
            && !Box::pin(epoch.outlive(&shared.store, put.ttl)).await?
        {
            return Ok(PutOutcome::OutOfDate);
        }
        let lease = self.flight.as_ref().and_then(|flight| flight.lease_key());
        let outcome = select::put(&shared.store, key, put, lease, shared.clock()).await?;
        if outcome == PutOutcome::Stored {
            let chunks = put.response.body.chunks_to_be();
            keys().for_each(|key| shared.order.note_stored(key, put.variant, *departure, chunks));
        }
        if outcome == PutOutcome::Stored
            && let Some(own_key) = own_key
        {
            // What was stored under the request's own target would hide the newer response.
            select::tidied(Box::pin(select::supersede(&shared.store, own_key)).await);
        }
        Ok(outcome)
    }
}

/// Where the store is to have no more than so many responses, it notes what was written, and removes what is too many.
fn note_written(shared: &Arc<Shared>) {
    if !shared.store.has_unnoted() {
        return;
    }
    let Some(place) = shared.background.enter() else { return };
    let shared = Arc::clone(shared);
    place.begin("entries", || async move {
        // What is not noted in time is so the next time.
        let _ = time::timeout(shared.config.store_write_timeout, shared.store.note_written()).await;
    });
}

fn fields_to_store(received: &ReceivedHead<'_>, storable: &Storable) -> HeaderMap {
    let mut headers = stored_fields(received.headers);
    for name in &storable.withheld {
        headers.remove(name);
    }
    // RFC 9110 §6.6.1: a recipient with a clock records when a response without a date was received.
    headers.entry(header::DATE).or_insert_with(|| {
        let date = received.response_time.to_http_date();
        HeaderValue::from_str(&date).expect("an HTTP-date is a field value")
    });
    headers
}

/// Whether the response may still be stored under this key. What this process has stored there since it was looked up
/// is replaced as well.
fn is_admitted(shared: &Shared, key: &CacheKey, departure: Departure, put: &mut Put) -> bool {
    match shared.order.admit(key, put.variant, departure) {
        Admission::Admitted { instead_of } => {
            put.replaces.extend(instead_of.filter(|chunks| !put.replaces.contains(chunks)));
            true
        }
        Admission::OutOfDate => false,
    }
}

fn count(shared: &Shared, key: &CacheKey, outcome: PutOutcome) {
    let counters = &shared.counters;
    let (counter, why) = match outcome {
        PutOutcome::Stored => return counters.stored.increment(),
        PutOutcome::TooManyVariants => (&counters.refused, "as many variants as allowed"),
        PutOutcome::OutOfDate => (&counters.dropped_writes, "out of date by now"),
        PutOutcome::Fenced => (&counters.fenced_writes, "the lease is lost"),
    };
    counter.increment();
    tracing::debug!(?key, why, "not stored");
}
