//! The rest of a large body, from the service, where the store ceases to give it while it is sent.
//!
//! It is asked for by its range and under the strong entity tag of what is stored (RFC 9110 §13.1.5), so that what comes
//! is the rest of the same representation or nothing.

use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use http_body::Body;
use tokio::sync::Mutex;
use tower_service::Service;

use super::forward::plain;
use super::{Shared, hit};
use crate::body::chunks::{Coming, Spare};
use crate::collapse::permits::{Admission, Permit};
use crate::config::EmptyBody;
use crate::error::{BodyError, BoxError};
use crate::semantics::PresentedRequest;
use crate::semantics::partial::{RestRequest, has_parts, is_part};
use crate::semantics::reuse::request_directives;
use crate::store::entry::{Chunks, StoredResponse};

/// How often one body is asked for: parts that are far from each other are asked for apart.
const MOST_REQUESTS: u32 = 8;

/// The service, and what to ask it.
struct Origin<S, Q, R> {
    shared: Arc<Shared>,
    parts: request::Parts,
    empty: EmptyBody<Q>,
    stored: HeaderMap,
    length: u64,
    /// Where the last part ends that the client wants of it.
    wanted: u64,
    state: Mutex<State<S, R>>,
}

struct State<S, R> {
    service: S,
    requests: u32,
    rest: Option<Rest<R>>,
}

/// A response that has been read up to somewhere.
struct Rest<R> {
    body: Pin<Box<R>>,
    at: u64,
    /// What has come of it and belongs to what follows.
    over: Bytes,
    _permit: Permit,
}

/// Has the service stand by for the body of a hit that is not wholly in memory.
pub(super) fn stand_by<S, Q, R>(shared: &Arc<Shared>, service: &S, parts: &request::Parts, stored: &StoredResponse)
where
    S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    let (Some(open), Some(empty)) = (stored.body.open(), parts.extensions.get::<EmptyBody<Q>>()) else { return };
    let is_of_use = parts.method == Method::GET
        && stored.status == StatusCode::OK
        && has_parts(&stored.headers)
        && !request_directives(&PresentedRequest::of(parts), &shared.config.rules).only_if_cached;
    if !is_of_use {
        return;
    }
    let last = hit::wanted(&PresentedRequest::of(parts), stored).iter().map(|part| part.end).max().unwrap_or_default();
    let mut plain = plain(parts);
    if let Some(uri) = shared.config.key.forwarded_uri(parts) {
        plain.uri = uri;
    }
    open.stand_by(Arc::new(Origin {
        shared: Arc::clone(shared),
        parts: plain,
        empty: *empty,
        stored: stored.headers.clone(),
        length: stored.body.len(),
        wanted: last.div_ceil(Chunks::SIZE).saturating_mul(Chunks::SIZE).min(stored.body.len()),
        state: Mutex::new(State { service: service.clone(), requests: 0, rest: None }),
    }));
}

// ===== impl Origin =====

impl<S, Q, R> Spare for Origin<S, Q, R>
where
    S: Service<Request<Q>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    fn read(&self, part: Range<u64>) -> Coming<'_> {
        Box::pin(async move {
            // Those who wait have their turns in the order in which they came, which is that of the parts.
            let mut state = self.state.lock().await;
            let read = self.read_on(&mut state, part).await;
            if read.is_err() {
                // The body is at its end with this: what others wait for is not asked for.
                state.requests = MOST_REQUESTS;
            }
            read
        })
    }
}

impl<S, Q, R> Origin<S, Q, R>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body<Error: Into<BoxError>>,
{
    async fn read_on(&self, state: &mut State<S, R>, part: Range<u64>) -> Result<Bytes, BodyError> {
        // Out of its place while it is read: dropped here, it is asked for anew.
        let mut rest = match state.rest.take().filter(|rest| rest.at == part.start) {
            Some(rest) => rest,
            None => self.ask(state, part.start).await?,
        };
        let octets = rest.read(part.end - part.start).await?;
        if rest.at < self.wanted {
            state.rest = Some(rest);
        }
        Ok(octets)
    }

    async fn ask(&self, state: &mut State<S, R>, start: u64) -> Result<Rest<R>, BodyError> {
        let shared = &self.shared;
        if state.requests == MOST_REQUESTS {
            return Err(BodyError::new("the service was asked for the rest of the stored body too often"));
        }
        let Some(wanted) = RestRequest::part(start..self.wanted, &self.stored) else {
            return Err(BodyError::new("the stored body has no strong entity tag"));
        };
        let Admission::Granted(permit) = shared.permits.try_enter_half() else {
            shared.counters.origin_busy.increment();
            return Err(BodyError::new("the service is too busy to give the rest of the stored body"));
        };
        let mut parts = self.parts.clone();
        wanted.apply(&mut parts.headers);
        state.requests += 1;
        let refused = |_| BodyError::new("the service failed to give the rest of the stored body");
        poll_fn(|cx| state.service.poll_ready(cx)).await.map_err(refused)?;
        let reply = state.service.call(Request::from_parts(parts, self.empty.make())).await.map_err(refused)?;
        if !is_part(&self.stored, start..self.wanted, self.length, reply.status(), reply.headers()) {
            return Err(BodyError::new("the service has another body by now"));
        }
        shared.counters.resumed.increment();
        Ok(Rest { body: Box::pin(reply.into_body()), at: start, over: Bytes::new(), _permit: permit })
    }
}

impl<S, Q, R> fmt::Debug for Origin<S, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("length", &self.length).finish_non_exhaustive()
    }
}

// ===== impl Rest =====

impl<R: Body<Error: Into<BoxError>>> Rest<R> {
    async fn read(&mut self, length: u64) -> Result<Bytes, BodyError> {
        let length = usize::try_from(length).map_err(BodyError::new)?;
        // One piece that holds all of it is not copied.
        while self.over.is_empty() && length > 0 {
            self.over = self.piece().await?;
        }
        if self.over.len() < length {
            let mut octets = BytesMut::with_capacity(length);
            while octets.len() < length {
                if self.over.is_empty() {
                    self.over = self.piece().await?;
                }
                let most = self.over.len().min(length - octets.len());
                octets.extend_from_slice(&self.over.split_to(most));
            }
            self.at += length as u64;
            return Ok(octets.freeze());
        }
        self.at += length as u64;
        Ok(self.over.split_to(length))
    }

    async fn piece(&mut self) -> Result<Bytes, BodyError> {
        loop {
            let frame = poll_fn(|cx| self.body.as_mut().poll_frame(cx)).await;
            let frame = frame.ok_or_else(|| BodyError::new("the rest of the stored body ended too early"))?;
            if let Ok(mut data) = frame.map_err(BodyError::new)?.into_data() {
                return Ok(data.copy_to_bytes(data.remaining()));
            }
        }
    }
}
