//! An origin in the same process: a tower service whose answers a test scripts, frame by frame.
//!
//! Neither the service nor its bodies are `Sync`, on purpose: the cache must not ask for that. Nor may it call an
//! instance that has not been ready: such a call panics.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tower_service::Service;

use super::gate::Gate;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Script = Arc<dyn Fn(&request::Parts) -> Reply + Send + Sync>;
type NotSync = PhantomData<Cell<()>>;

/// The error of the scripted origin, and of a scripted body that breaks off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginError(pub String);

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OriginError {}

// ===== Reply =====

/// One scripted answer: a head, then a body step by step.
#[derive(Clone, Debug)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    steps: Vec<Step>,
    length_is_known: bool,
    head_after: Option<Gate>,
    error: Option<OriginError>,
    panics: bool,
    extensions: http::Extensions,
}

/// `200` with a body whose length is known.
pub fn ok(body: impl Into<Bytes>) -> Reply {
    status(200).body(body)
}

/// An empty answer with this status.
pub fn status(code: u16) -> Reply {
    Reply {
        status: StatusCode::from_u16(code).expect("a status code"),
        headers: HeaderMap::new(),
        steps: Vec::new(),
        length_is_known: true,
        head_after: None,
        error: None,
        panics: false,
        extensions: http::Extensions::new(),
    }
}

/// No answer: the origin fails with this error.
pub fn failure(message: &str) -> Reply {
    Reply { error: Some(OriginError(message.to_owned())), ..status(500) }
}

/// No answer: the origin panics.
pub fn panic() -> Reply {
    Reply { panics: true, ..status(500) }
}

impl Reply {
    /// Appends a field line; the value may hold obs-text, one byte for each `char` below 256.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let bytes: Vec<u8> =
            value.chars().map(|char| u8::try_from(u32::from(char)).expect("a field value is made of bytes")).collect();
        let name: HeaderName = name.parse().expect("a field name");
        self.headers.append(name, HeaderValue::from_bytes(&bytes).expect("a field value"));
        self
    }

    /// Shorthand for the field that the stories are about.
    pub fn cache_control(self, value: &str) -> Self {
        self.header("cache-control", value)
    }

    /// One frame, its length known beforehand through the size hint.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        if !body.is_empty() {
            self.steps.push(Step::Data(body));
        }
        self
    }

    /// Several frames of a length that nobody knows beforehand.
    pub fn chunks<B: Into<Bytes>>(mut self, chunks: impl IntoIterator<Item = B>) -> Self {
        self.length_is_known = false;
        self.steps.extend(chunks.into_iter().map(|chunk| Step::Data(chunk.into())));
        self
    }

    /// The body goes on when the gate opens.
    pub fn waits_for(mut self, gate: &Gate) -> Self {
        self.steps.push(Step::Wait(gate.clone()));
        self
    }

    /// Trailers end the body.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a field name");
        let value: HeaderValue = value.parse().expect("a field value");
        match self.steps.last_mut() {
            Some(Step::Trailers(trailers)) => drop(trailers.append(name, value)),
            _ => self.steps.push(Step::Trailers(HeaderMap::from_iter([(name, value)]))),
        }
        self
    }

    /// The body breaks off with an error.
    pub fn then_breaks_off(mut self) -> Self {
        self.steps.push(Step::Fail(OriginError("the origin broke off".to_owned())));
        self.length_is_known = false;
        self
    }

    /// The body never ends.
    pub fn then_hangs(mut self) -> Self {
        self.length_is_known = false;
        self.waits_for(&Gate::closed())
    }

    /// The origin panics in the middle of the body.
    pub fn then_panics(mut self) -> Self {
        self.steps.push(Step::Panic);
        self.length_is_known = false;
        self
    }

    /// Even the head waits for the gate.
    pub fn head_after(mut self, gate: &Gate) -> Self {
        self.head_after = Some(gate.clone());
        self
    }

    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, extension: T) -> Self {
        self.extensions.insert(extension);
        self
    }

    fn into_response(self, shared: &Arc<Shared>) -> Response<ScriptBody> {
        let mut response = Response::new(ScriptBody::new(self.steps, self.length_is_known, Some(Arc::clone(shared))));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        *response.extensions_mut() = self.extensions;
        response
    }
}

// ===== ScriptBody =====

#[derive(Clone, Debug)]
enum Step {
    Data(Bytes),
    Wait(Gate),
    Trailers(HeaderMap),
    Fail(OriginError),
    Panic,
}

/// A body that yields what its script says. Not `Sync`.
pub struct ScriptBody {
    steps: VecDeque<Step>,
    length_is_known: bool,
    waiting: Option<BoxFuture<()>>,
    shared: Option<Arc<Shared>>,
    not_sync: NotSync,
}

impl ScriptBody {
    /// A body for requests.
    pub fn of(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let steps = if body.is_empty() { Vec::new() } else { vec![Step::Data(body)] };
        Self::new(steps, true, None)
    }

    fn new(steps: Vec<Step>, length_is_known: bool, shared: Option<Arc<Shared>>) -> Self {
        Self { steps: steps.into(), length_is_known, waiting: None, shared, not_sync: PhantomData }
    }
}

impl Default for ScriptBody {
    fn default() -> Self {
        Self::of(Bytes::new())
    }
}

impl fmt::Debug for ScriptBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptBody").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = OriginError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OriginError>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            return Poll::Ready(match self.steps.pop_front() {
                None => None,
                Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
                Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Step::Fail(error)) => {
                    self.steps.clear();
                    Some(Err(error))
                }
                Some(Step::Panic) => panic!("the origin panics, as it was told"),
                Some(Step::Wait(gate)) => {
                    self.waiting = Some(Box::pin(gate.opened()));
                    continue;
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length_is_known && self.steps.is_empty() && self.waiting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.length_is_known {
            return SizeHint::default();
        }
        let left = self.steps.iter().map(|step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        });
        SizeHint::with_exact(left.sum())
    }
}

impl Drop for ScriptBody {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            let unread = !self.steps.is_empty() || self.waiting.is_some();
            let counter = if unread { &shared.bodies_left } else { &shared.bodies_finished };
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// ===== Scripted =====

/// One request as the origin got it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: http::Method,
    pub uri: http::Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The scripted origin, as the test holds it; clones are the same origin.
#[derive(Clone)]
pub struct Scripted {
    shared: Arc<Shared>,
}

/// The scripted origin, as the cache calls it. Not `Sync`.
pub struct ScriptedService {
    shared: Arc<Shared>,
    is_ready: bool,
    getting_ready: Option<BoxFuture<()>>,
    not_sync: NotSync,
}

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    calls: AtomicUsize,
    forgets: AtomicBool,
    ready_after: Mutex<Gate>,
    bodies_left: AtomicUsize,
    bodies_finished: AtomicUsize,
}

impl Scripted {
    /// An origin that answers 404 until it is told otherwise.
    pub fn new() -> Self {
        let ready = Gate::closed();
        ready.open();
        let shared = Shared {
            script: Mutex::new(Arc::new(|_| status(404))),
            asked: Mutex::default(),
            calls: AtomicUsize::new(0),
            forgets: AtomicBool::new(false),
            ready_after: Mutex::new(ready),
            bodies_left: AtomicUsize::new(0),
            bodies_finished: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The service to put a layer on.
    pub fn service(&self) -> ScriptedService {
        ScriptedService::of(Arc::clone(&self.shared))
    }

    /// From now on every request gets this reply.
    pub fn says(&self, reply: Reply) {
        self.answers(move |_| reply.clone());
    }

    /// One reply after the other; the last one is repeated.
    pub fn says_in_turn(&self, replies: impl IntoIterator<Item = Reply>) {
        let replies: Vec<Reply> = replies.into_iter().collect();
        let next = AtomicUsize::new(0);
        self.answers(move |_| {
            let turn = next.fetch_add(1, Ordering::SeqCst);
            replies[turn.min(replies.len() - 1)].clone()
        });
    }

    /// A reply that depends on the request.
    pub fn answers(&self, script: impl Fn(&request::Parts) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// `poll_ready` is pending until the gate opens.
    pub fn ready_after(&self, gate: &Gate) {
        *lock(&self.shared.ready_after) = gate.clone();
    }

    /// How many requests came so far.
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Keeps none of the requests from now on, for tests that make very many.
    pub fn forgets(&self) {
        self.shared.forgets.store(true, Ordering::SeqCst);
    }

    /// All requests, in order.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// How many response bodies were dropped before their end.
    pub fn bodies_left(&self) -> usize {
        self.shared.bodies_left.load(Ordering::SeqCst)
    }

    /// How many response bodies were read to their end and dropped.
    pub fn bodies_finished(&self) -> usize {
        self.shared.bodies_finished.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

// ===== ScriptedService =====

impl ScriptedService {
    fn of(shared: Arc<Shared>) -> Self {
        Self { shared, is_ready: false, getting_ready: None, not_sync: PhantomData }
    }
}

impl Clone for ScriptedService {
    /// A clone is not ready: it must be asked.
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.shared))
    }
}

impl fmt::Debug for ScriptedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedService").field("is_ready", &self.is_ready).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for ScriptedService
where
    B: Body<Data = Bytes, Error: fmt::Debug> + Send + 'static,
{
    type Response = Response<ScriptBody>;
    type Error = OriginError;
    type Future = BoxFuture<Result<Response<ScriptBody>, OriginError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OriginError>> {
        let gate = &self.shared.ready_after;
        let getting_ready = self.getting_ready.get_or_insert_with(|| Box::pin(lock(gate).opened()));
        ready!(getting_ready.as_mut().poll(cx));
        self.getting_ready = None;
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(self.is_ready, "an instance was called that had not been polled ready");
        self.is_ready = false;
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("the request body ends well").to_bytes();
            let asked =
                Asked { method: parts.method.clone(), uri: parts.uri.clone(), headers: parts.headers.clone(), body };
            if !shared.forgets.load(Ordering::SeqCst) {
                lock(&shared.asked).push(asked);
            }
            shared.calls.fetch_add(1, Ordering::SeqCst);
            let script = Arc::clone(&lock(&shared.script));
            let mut reply = script(&parts);
            if let Some(gate) = reply.head_after.take() {
                gate.opened().await;
            }
            assert!(!reply.panics, "the origin panics, as it was told");
            match reply.error.take() {
                Some(error) => Err(error),
                None => Ok(reply.into_response(&shared)),
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
