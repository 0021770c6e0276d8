//! The layer: a request has leave, or its answer; a response tells what is left, and keeps its place until it has ended.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::HeaderName;
use hyper::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Access, Leave};
use crate::answer::Answer;
use crate::front_door::WebSocket;
use crate::watch::Watch;

/// Where the front door writes down who asks.
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Wraps what is not for everybody.
#[derive(Clone, Debug)]
pub(crate) struct AccessLayer {
    /// None where every request has leave.
    access: Option<Arc<Access>>,
    /// Where somebody wants to know.
    watch: Option<Watch>,
}

/// Asks for leave first.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    inner: S,
    layer: AccessLayer,
}

pin_project! {
    /// The response of [`Guarded`].
    #[project = AdmittedProj]
    pub(crate) enum Admitted<F> {
        Granted { #[pin] inner: F, leave: Option<Leave> },
        Refused { answer: Option<Box<Answer>> },
    }
}

pin_project! {
    /// A body that keeps the place of its request.
    #[derive(Debug)]
    pub(crate) struct Placed<B> {
        #[pin]
        inner: B,
        leave: Leave,
    }
}

impl AccessLayer {
    pub(crate) fn new(access: Option<Arc<Access>>, watch: Option<Watch>) -> Self {
        Self { access, watch }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, layer: self.clone() }
    }
}

impl<S, Q, B> Service<Request<Q>> for Guarded<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
{
    type Response = Response<Either<Placed<B>, Full<Bytes>>>;
    type Error = S::Error;
    type Future = Admitted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let leave = self.layer.access.as_ref().map_or_else(
            || Ok(Leave::default()),
            |access| access.admit(client(request.headers()), request.headers_mut()),
        );
        match leave {
            Ok(leave) => {
                // What comes of a handshake outlives its response. No other request is told: the cache keeps some of them.
                if let (Some(place), true) = (&leave.place, request.extensions().get::<WebSocket>().is_some()) {
                    request.extensions_mut().insert(place.clone());
                }
                Admitted::Granted { inner: self.inner.call(request), leave: Some(leave) }
            }
            Err(answer) => {
                if let Some(watch) = &self.layer.watch {
                    watch.turned_away(answer.status());
                }
                Admitted::Refused { answer: Some(answer) }
            }
        }
    }
}

/// As the front door has found: no client can set this field.
fn client(headers: &HeaderMap) -> Option<IpAddr> {
    headers.get(REAL_IP)?.to_str().ok()?.parse().ok()
}

impl<F, B, E> Future for Admitted<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<Placed<B>, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AdmittedProj::Granted { inner, leave } => {
                let response = ready!(inner.poll(cx));
                let leave = leave.take().unwrap_or_default();
                Poll::Ready(response.map(|mut response| {
                    if let Some(standing) = &leave.standing {
                        standing.tell(response.headers_mut());
                    }
                    response.map(|inner| Either::Left(Placed { inner, leave }))
                }))
            }
            AdmittedProj::Refused { answer } => {
                let answer = answer.take().expect("a future is not polled after its end");
                Poll::Ready(Ok(answer.map(Either::Right)))
            }
        }
    }
}

impl<B: Body> Body for Placed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
