//! Bodies on their way through. Nothing here collects a body before the client gets it.

mod budget;
pub(crate) mod recorder;
pub(crate) mod tee;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pub(crate) use self::budget::{Budget, Reservation};
use self::recorder::Abandoned;
use self::tee::Tee;
use crate::error::{BodyError, BoxError};
use crate::store::entry::StoredBody;

pin_project! {
    /// The body of every response that leaves a [`RedisCache`](crate::RedisCache): the service's own, passed on frame by
    /// frame (and recorded meanwhile, if it is to be stored), or one out of the store.
    #[derive(Debug)]
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = KindProj]
    enum Kind<B> {
        Passing { #[pin] body: B },
        Recorded { front: Stored, #[pin] body: B, tee: Tee },
        Stored { stored: Stored },
    }
}

/// What is left of a stored body. A chunk is handed out as it lies in memory.
#[derive(Debug)]
struct Stored {
    body: StoredBody,
    next: usize,
    left: u64,
    trailers: Option<HeaderMap>,
}

impl<B> CacheBody<B> {
    pub(crate) fn passing(body: B) -> Self {
        Self { kind: Kind::Passing { body } }
    }

    pub(crate) fn stored(body: StoredBody, trailers: Option<HeaderMap>) -> Self {
        Self { kind: Kind::Stored { stored: Stored::new(body, trailers) } }
    }

    pub(crate) fn empty() -> Self {
        Self::stored(StoredBody::default(), None)
    }
}

impl<B: Body> CacheBody<B> {
    /// Reads the body to its end if it is being recorded, for nobody but the store.
    pub(crate) async fn discard(self) {
        if let Kind::Recorded { mut front, body, mut tee } = self.kind {
            while let Some(frame) = front.next_frame() {
                tee.see(&frame);
            }
            drain(body, tee).await;
        }
    }

    pub(crate) fn recorded(body: B, tee: Tee) -> Self {
        Self::joined(StoredBody::default(), body, tee)
    }

    /// The start of a body that was stored, and the rest of it.
    pub(crate) fn joined(front: StoredBody, body: B, mut tee: Tee) -> Self {
        let front = Stored::new(front, None);
        if front.left == 0 && body.is_end_stream() {
            // Nobody need ever poll it.
            tee.end();
        }
        Self { kind: Kind::Recorded { front, body, tee } }
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for CacheBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project().kind.project() {
            KindProj::Passing { body } => {
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map(with_bytes).map_err(BodyError::new)))
            }
            KindProj::Recorded { front, body, tee } => match front.next_frame() {
                Some(frame) => {
                    tee.see(&frame);
                    if front.left == 0 && body.is_end_stream() {
                        tee.end();
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                None => poll_recorded(body, tee, cx),
            },
            KindProj::Stored { stored } => Poll::Ready(stored.next_frame().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passing { body } => body.is_end_stream(),
            Kind::Recorded { front, body, .. } => front.left == 0 && body.is_end_stream(),
            Kind::Stored { stored } => stored.left == 0 && stored.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passing { body } => body.size_hint(),
            Kind::Recorded { front, body, .. } => lengthened(&body.size_hint(), front.left),
            Kind::Stored { stored } => stored.size_hint(),
        }
    }
}

/// Reads a body to its end for the recorder's sake alone.
pub(crate) async fn drain<B: Body>(body: B, mut tee: Tee) {
    let mut body = Box::pin(body);
    if body.is_end_stream() {
        return tee.end();
    }
    loop {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(frame)) => {
                let frame = with_bytes(frame);
                tee.see(&frame);
                if frame.is_trailers() || body.is_end_stream() || !tee.is_recording() {
                    return tee.end();
                }
            }
            Some(Err(_)) => return tee.abandon(Abandoned::Failed),
            None => return tee.end(),
        }
    }
}

fn poll_recorded<B: Body<Error: Into<BoxError>>>(
    mut body: Pin<&mut B>,
    tee: &mut Tee,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let frame = match ready!(body.as_mut().poll_frame(cx)) {
        Some(Ok(frame)) => with_bytes(frame),
        Some(Err(error)) => {
            tee.abandon(Abandoned::Failed);
            return Poll::Ready(Some(Err(BodyError::new(error))));
        }
        None => {
            tee.end();
            return Poll::Ready(None);
        }
    };
    tee.see(&frame);
    // The consumer may know that this was the last frame, as trailers always are, and never poll again.
    if frame.is_trailers() || body.is_end_stream() {
        tee.end();
    }
    Poll::Ready(Some(Ok(frame)))
}

/// No copy where the data are `Bytes` already.
fn with_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// Empty.
impl<B> Default for CacheBody<B> {
    fn default() -> Self {
        Self::empty()
    }
}

fn lengthened(hint: &SizeHint, by: u64) -> SizeHint {
    let mut longer = SizeHint::new();
    longer.set_lower(hint.lower().saturating_add(by));
    if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(by)) {
        longer.set_upper(upper);
    }
    longer
}

impl Stored {
    fn new(body: StoredBody, trailers: Option<HeaderMap>) -> Self {
        let left = body.len();
        Self { body, next: 0, left, trailers }
    }

    /// With trailers to come the length is no exact one: a server would announce it, and leave the trailers out.
    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::with_exact(self.left);
        if self.trailers.is_some() {
            hint = SizeHint::new();
            hint.set_lower(self.left);
        }
        hint
    }

    fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        if let Some(piece) = self.body.pieces().get(self.next) {
            self.next += 1;
            self.left -= piece.len() as u64;
            return Some(Frame::data(piece.clone()));
        }
        self.trailers.take().map(Frame::trailers)
    }
}
