//! The strict front door: what hyper lets through and a proxy must not, refused before the cache sees it.
//!
//! A request that leaves the front door has one valid authority, an absolute target, sound framing, no
//! hop-by-hop field, and forwarding fields that say what this proxy knows rather than what the client
//! claims. From here on the cache key, the `Vary` comparison and the origin all see the same request.
//!
//! Everything else gets a short answer and, where the framing cannot be trusted, a closed connection.

mod checks;
mod content;
mod forwarded;
mod target;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{CONNECTION, HeaderValue, TE, UPGRADE};
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Response, Uri, Version};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::access_log::Departure;
use crate::answer::Refusal;
use crate::connection::Client;
use crate::fields::{lists, strip_hop_by_hop};
use tower_redis_cache::EmptyBody;

use crate::request_body::RequestBody;
use crate::trusted::TrustedPeers;
use crate::via::Via;
use content::Reading;
use forwarded::Front;

/// What the front door allows.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) max_uri_size: usize,
    pub(crate) max_header_size: usize,
    pub(crate) upgrades: bool,
    pub(crate) trusted: TrustedPeers,
    pub(crate) via: Via,
}

/// Request extension: a valid WebSocket handshake that may be tunnelled once the origin agrees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WebSocket;

/// Puts a [`FrontDoor`] before a service.
#[derive(Clone, Debug)]
pub(crate) struct FrontDoorLayer {
    rules: Arc<Rules>,
}

/// Answers what must not pass, and rewrites what may.
#[derive(Clone, Debug)]
pub(crate) struct FrontDoor<S> {
    inner: S,
    rules: Arc<Rules>,
}

pin_project! {
    /// The response of [`FrontDoor`].
    #[project = ResponseFutureProj]
    pub(crate) enum ResponseFuture<F> {
        Admitted { #[pin] inner: F, departure: Departure, reading: Option<Reading> },
        Refused { refusal: Refusal },
    }
}

// ===== impl Rules =====

impl Rules {
    /// The request as everything behind the front door may see it, or the answer it gets instead.
    fn admit(&self, mut request: Request<RequestBody>) -> Result<Request<RequestBody>, Refusal> {
        let client = request.extensions().get::<Client>();
        let peer = client.map(|client| client.peer.clone());
        let scheme = client.map_or(Scheme::HTTP, |client| client.scheme.clone());
        checks::framing(&request, client.and_then(|client| client.framing))?;
        checks::sizes(&request, self.max_uri_size, self.max_header_size)?;
        checks::method(&request)?;
        let authority = target::authority(&request)?;
        let path = target::path(&request)?;
        checks::expectation(&mut request)?;
        checks::forwards_left(&mut request)?;
        self.via.enter(&mut request)?;
        self.settle_upgrade(&mut request)?;
        let believed = peer.as_ref().is_some_and(|peer| self.trusted.contains(peer.address));
        let front = Front { scheme, authority };
        let front = forwarded::rewrite(request.headers_mut(), front, peer, believed.then_some(&self.trusted))?;
        *request.uri_mut() = Uri::builder()
            .scheme(front.scheme)
            .authority(front.authority)
            .path_and_query(path)
            .build()
            .expect("a checked scheme, authority and path make a target");
        // A request without content can be made once more, should the cache need to.
        request.extensions_mut().insert(EmptyBody::new(RequestBody::default));
        Ok(request)
    }

    /// Strips the hop-by-hop fields; a WebSocket handshake passes only when upgrades are on.
    ///
    /// Any other `Upgrade`, to h2c for instance, is an offer that may be ignored (RFC 9110 §7.8), and passing
    /// it on would let the origin speak a protocol that nothing here checks.
    fn settle_upgrade(&self, request: &mut Request<RequestBody>) -> Result<(), Refusal> {
        let headers = request.headers();
        let websocket = lists(headers, &CONNECTION, "upgrade")
            && lists(headers, &UPGRADE, "websocket")
            && *request.method() == Method::GET
            && request.version() == Version::HTTP_11;
        if websocket && !self.upgrades {
            return Err(checks::upgrades_are_off());
        }
        // The wish for trailers goes on to the origin, hop by hop.
        let trailers = lists(headers, &TE, "trailers");
        strip_hop_by_hop(request.headers_mut());
        if trailers {
            request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        }
        if websocket {
            let headers = request.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            request.extensions_mut().insert(WebSocket);
        }
        Ok(())
    }
}

// ===== impl FrontDoorLayer =====

impl FrontDoorLayer {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules: Arc::new(rules) }
    }
}

impl<S> Layer<S> for FrontDoorLayer {
    type Service = FrontDoor<S>;

    fn layer(&self, inner: S) -> FrontDoor<S> {
        FrontDoor { inner, rules: Arc::clone(&self.rules) }
    }
}

// ===== impl FrontDoor =====

impl<S, B> Service<Request<RequestBody>> for FrontDoor<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        match self.rules.admit(request) {
            Ok(request) => {
                let reading = Reading::watch(&request);
                ResponseFuture::Admitted { inner: self.inner.call(request), departure: Departure::watch(), reading }
            }
            Err(refusal) => ResponseFuture::Refused { refusal },
        }
    }
}

// ===== impl ResponseFuture =====

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<B, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            ResponseFutureProj::Admitted { inner, departure, reading } => {
                let response = ready!(inner.poll(cx));
                departure.answered();
                Poll::Ready(response.map(|response| match reading.as_ref().and_then(|it| it.refusal(&response)) {
                    None => response.map(Either::Left),
                    Some(refusal) => refusal.answer().map(Either::Right),
                }))
            }
            ResponseFutureProj::Refused { refusal } => Poll::Ready(Ok(refusal.answer().map(Either::Right))),
        }
    }
}
