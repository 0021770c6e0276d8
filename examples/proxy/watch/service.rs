//! Two places to look from: before the cache, at what clients get, and behind it, at what the origin does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::body::Body;
use hyper::{Request, Response, Uri};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_redis_cache::{Disconnected, Outcome};

use super::Watch;
use crate::origin::Unasked;

/// Wraps the cache, or the origin.
#[derive(Clone, Debug)]
pub(crate) struct WatchLayer {
    watch: Watch,
    side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Clients,
    Origin,
}

/// The service that is watched.
#[derive(Clone, Debug)]
pub(crate) struct Watched<S> {
    inner: S,
    layer: WatchLayer,
}

pin_project! {
    /// Looks at the response as it passes.
    #[derive(Debug)]
    pub(crate) struct Watching<F> {
        #[pin]
        inner: F,
        layer: WatchLayer,
        // Only where clients are looked at.
        target: Option<Uri>,
        since: Instant,
    }
}

// ===== impl WatchLayer =====

impl WatchLayer {
    /// Around the cache.
    pub(crate) fn clients(watch: &Watch) -> Self {
        Self { watch: watch.clone(), side: Side::Clients }
    }

    /// Around the origin.
    pub(crate) fn origin(watch: &Watch) -> Self {
        Self { watch: watch.clone(), side: Side::Origin }
    }
}

impl<S> Layer<S> for WatchLayer {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched { inner, layer: self.clone() }
    }
}

// ===== impl Watched =====

impl<S, Q, R> Service<Request<Q>> for Watched<S>
where
    S: Service<Request<Q>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Watching<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let target = (self.layer.side == Side::Clients).then(|| request.uri().clone());
        let (layer, since) = (self.layer.clone(), Instant::now());
        Watching { inner: self.inner.call(request), layer, target, since }
    }
}

// ===== impl Watching =====

impl<F, R, E> Future for Watching<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.inner.poll(cx));
        if let Ok(response) = &output {
            match this.target {
                None if response.extensions().get::<Unasked>().is_some() => {}
                None => {
                    let is_answer = response.extensions().get::<Disconnected>().is_none();
                    this.layer.watch.asked(response.status(), is_answer.then(|| this.since.elapsed()));
                }
                Some(target) => {
                    if let Some(outcome) = response.extensions().get::<Outcome>() {
                        this.layer.watch.answered(&shown(target), outcome, response.body().size_hint().lower());
                    }
                }
            }
        }
        Poll::Ready(output)
    }
}

/// Without the query, which may hold secrets.
fn shown(target: &Uri) -> String {
    let host = target.authority().map_or("", |authority| authority.as_str());
    format!("{host}{}", target.path())
}
