//! The response future: unboxed for what passes and for what is at hand, one box for what the cache has to do with.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use crate::body::CacheBody;
use crate::exchange::{Shared, Teller};
use crate::observe::Outcome;

type Boxed<B, E> = Pin<Box<dyn Future<Output = Result<Response<CacheBody<B>>, E>> + Send>>;

pin_project! {
    /// The future of a [`RedisCache`](crate::RedisCache).
    pub struct ResponseFuture<F, B, E> {
        #[pin]
        kind: Kind<F, B, E>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, B, E> {
        Hit { response: Option<Response<CacheBody<B>>> },
        Passthrough { #[pin] inner: F, shared: Arc<Shared>, outcome: Option<Outcome> },
        // What is told at the end is told here: a future around the story's would keep room for it twice.
        Exchange { boxed: Boxed<B, E>, teller: Teller },
    }
}

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(crate) fn hit(response: Response<CacheBody<B>>) -> Self {
        Self { kind: Kind::Hit { response: Some(response) } }
    }

    pub(crate) fn passthrough(inner: F, shared: Arc<Shared>, outcome: Outcome) -> Self {
        Self { kind: Kind::Passthrough { inner, shared, outcome: Some(outcome) } }
    }

    pub(crate) fn exchange(
        story: Pin<Box<impl Future<Output = Result<Response<CacheBody<B>>, E>> + Send + 'static>>,
        teller: Teller,
    ) -> Self {
        Self { kind: Kind::Exchange { boxed: story, teller } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<CacheBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Hit { response } => {
                Poll::Ready(Ok(response.take().expect("a future is not polled after its end")))
            }
            KindProj::Exchange { boxed, teller } => {
                let mut response = ready!(boxed.as_mut().poll(cx))?;
                teller.tell(&mut response);
                Poll::Ready(Ok(response))
            }
            KindProj::Passthrough { inner, shared, outcome } => {
                let mut response = ready!(inner.poll(cx))?.map(CacheBody::passing);
                if let Some(outcome) = outcome.take() {
                    let outcome = outcome.with_status(response.status());
                    shared.report(None, &outcome, &mut response);
                    response.extensions_mut().insert(outcome);
                }
                Poll::Ready(Ok(response))
            }
        }
    }
}

impl<F, B, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
