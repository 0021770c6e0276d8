//! A recorded response goes into the store, off the client's path.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http_body::Body;
use tokio::runtime::Handle;
use tokio::time;

use super::Shared;
use super::forward::Sent;
use super::search::{self, Search};
use crate::body::drain;
use crate::body::recorder::{Abandoned, Recording};
use crate::body::tee::Tee;
use crate::collapse::order::Departure;
use crate::error::StoreError;
use crate::key::CacheKey;
use crate::semantics::admission::is_query;
use crate::semantics::fields::stored_fields;
use crate::semantics::storing::{ReceivedHead, Storable};
use crate::semantics::vary::VariantKey;
use crate::store::Put;
use crate::store::entry::{StoredBody, StoredResponse};
use crate::store::select::{self, PutOutcome};

/// A response that will be stored if its body comes whole.
#[derive(Debug)]
pub(crate) struct Fill {
    shared: Arc<Shared>,
    key: CacheKey,
    /// The request's own key, where the response is stored under another.
    superseded: Option<CacheKey>,
    departure: Departure,
    put: Put,
    search: Option<Search>,
    runtime: Handle,
}

/// How long an entry stays after it has ceased to be of use, for clocks that differ.
const MARGIN: Duration = Duration::from_secs(1);

/// A body that nobody waits for is not read for longer.
const READING_LIMIT: Duration = Duration::from_secs(30);

/// Reads a body for the store alone; gives it back where there is no room for one more task.
pub(super) fn read_in_background<B>(shared: &Shared, body: B, tee: Tee) -> Result<(), (B, Tee)>
where
    B: Body + Send + 'static,
{
    let Some(place) = shared.background.enter() else { return Err((body, tee)) };
    tokio::spawn(async move {
        // Past the limit the tee is dropped, and gives up.
        let _ = time::timeout(READING_LIMIT, drain(body, tee)).await;
        drop(place);
    });
    Ok(())
}

impl Fill {
    pub(super) fn new(
        shared: &Arc<Shared>,
        sent: &Sent,
        received: &ReceivedHead<'_>,
        storable: Storable,
        variant: VariantKey,
        origin_latency: Duration,
    ) -> Self {
        let mut headers = stored_fields(received.headers);
        for name in &storable.withheld {
            headers.remove(name);
        }
        // RFC 9110 §6.6.1: a recipient with a clock records when a response without a date was received.
        headers.entry(header::DATE).or_insert_with(|| {
            let date = received.response_time.to_http_date();
            HeaderValue::from_str(&date).expect("an HTTP-date is a field value")
        });
        let freshness = storable.freshness;
        let response = StoredResponse {
            status: received.status,
            headers,
            freshness,
            request_time: received.request_time,
            origin_latency,
            body: StoredBody::default(),
            trailers: None,
        };
        let mut put = Put {
            response: Arc::new(response),
            nominated: storable.nominated,
            variant,
            ttl: storable.shelf_life.saturating_add(MARGIN),
            max_variants: shared.config.max_variants,
            seen: sent.miss.asked.seen,
            replaces: None,
        };
        let search = match is_query(&sent.parts.method) {
            true => None,
            false => Search::of(shared, &sent.parts, received.headers),
        };
        let key = search.as_ref().map_or(&sent.miss.key, |search| &search.canonical).clone();
        let superseded = search.is_some().then(|| sent.miss.key.clone());
        if sent.miss.found_under.as_ref() == Some(&key) {
            put.replaces = sent.miss.stored.as_ref().and_then(|stored| stored.body.chunks());
        }
        let shared = Arc::clone(shared);
        Self { shared, key, superseded, search, departure: sent.departure, put, runtime: Handle::current() }
    }

    /// The body came whole. The write is a task of its own, counted and bounded; one too many is dropped.
    pub(crate) fn begin(mut self, recording: Recording) {
        if let Some(response) = Arc::get_mut(&mut self.put.response) {
            response.body = StoredBody::new(recording.pieces);
            response.trailers = recording.trailers;
        }
        let Some(place) = self.shared.background.enter() else {
            self.shared.counters.dropped_writes.increment();
            return;
        };
        let (runtime, reservation) = (self.runtime.clone(), recording.reservation);
        runtime.spawn(async move {
            self.write().await;
            drop((place, reservation));
        });
    }

    /// The body is stored already: the head is written anew, and returned.
    pub(super) fn rewrite(mut self, stored: &StoredResponse) -> Arc<StoredResponse> {
        if let Some(response) = Arc::get_mut(&mut self.put.response) {
            response.body = stored.body.clone();
            response.trailers = stored.trailers.clone();
        }
        let response = Arc::clone(&self.put.response);
        match self.shared.background.enter() {
            Some(place) => {
                let runtime = self.runtime.clone();
                runtime.spawn(async move {
                    self.write().await;
                    drop(place);
                });
            }
            None => self.shared.counters.dropped_writes.increment(),
        }
        response
    }

    /// The body did not come whole: nothing is stored.
    pub(crate) fn abandon(self, reason: Abandoned) {
        self.shared.counters.abandoned.increment();
        tracing::debug!(?reason, key = ?self.key, "fill abandoned");
    }

    async fn write(self) {
        let Self { shared, key, superseded, departure, put, search, .. } = self;
        let mut keys = std::iter::once(&key).chain(&superseded);
        if !keys.all(|key| shared.order.admit(key, put.variant, departure)) {
            shared.counters.dropped_writes.increment();
            tracing::debug!(?key, "not stored: out of date by now");
            return;
        }
        let now = shared.clock().now();
        let writing = async {
            if let Some(search) = &search {
                search::note(&shared, search, put.ttl).await?;
            }
            let outcome = select::put(&shared.store, &key, &put, now).await?;
            if let Some(own_key) = superseded.filter(|own_key| *own_key != key) {
                // What was stored under the request's own target would hide the newer response.
                select::invalidate(&shared.store, &own_key).await?;
            }
            Ok::<_, StoreError>(outcome)
        };
        match time::timeout(shared.config.store_write_timeout, writing).await {
            Ok(Ok(PutOutcome::Stored)) => shared.counters.stored.increment(),
            Ok(Ok(PutOutcome::TooManyVariants)) => {
                shared.counters.refused.increment();
                tracing::debug!(?key, "not stored: as many variants as allowed");
            }
            Ok(Err(error)) => {
                shared.counters.dropped_writes.increment();
                tracing::debug!(?key, store.error = %error, "write failed");
            }
            Err(_) => {
                shared.counters.dropped_writes.increment();
                tracing::debug!(?key, "write met its deadline");
            }
        }
    }
}
