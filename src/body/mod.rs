//! Bodies on their way through. Nothing here collects a body before the client gets it.

mod budget;
pub(crate) mod chunks;
pub(crate) mod gather;
pub(crate) mod recorder;
pub(crate) mod shared;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pub(crate) use self::budget::{Budget, Reservation, SharedRoom};
use self::chunks::{ChunkReader, Segment};
use self::shared::SharedReader;
use crate::collapse::permits::Permit;
use crate::error::{BodyError, BoxError};
use crate::store::entry::StoredBody;

pin_project! {
    /// The body of every response that leaves a [`RedisCache`](crate::RedisCache): the service's own, passed on frame by
    /// frame; one that is being recorded meanwhile, for others and for the store; or one out of the store.
    #[derive(Debug)]
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
        permit: Permit,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = KindProj]
    enum Kind<B> {
        Passing { #[pin] body: B },
        Joined { front: Box<Stored>, #[pin] body: B },
        Shared { reader: SharedReader },
        // What is not of this one piece is in boxes: whoever passes a body on moves all of it.
        Whole { octets: Bytes },
        Stored { stored: Box<Stored> },
        Chunked { reader: Box<ChunkReader> },
    }
}

/// What is left of a stored body. A chunk is handed out as it lies in memory.
#[derive(Debug)]
struct Stored {
    body: StoredBody,
    next: usize,
    left: u64,
    trailers: Option<Box<HeaderMap>>,
}

impl<B> CacheBody<B> {
    pub(crate) fn passing(body: B) -> Self {
        Self::of(Kind::Passing { body })
    }

    fn of(kind: Kind<B>) -> Self {
        Self { kind, permit: Permit::default() }
    }

    /// Holds a permit for as long as the service is at work on the body.
    pub(crate) fn under(mut self, permit: Permit) -> Self {
        self.permit = permit;
        self
    }

    /// The start of a body, and the rest of it.
    pub(crate) fn joined(front: StoredBody, body: B) -> Self {
        Self::of(Kind::Joined { front: Box::new(Stored::new(front, None)), body })
    }

    /// A stored body: as it lies in memory, or read from the store while it is sent.
    pub(crate) fn stored(body: StoredBody, trailers: Option<Box<HeaderMap>>) -> Self {
        if let Some(open) = body.open() {
            let whole = vec![Segment::Part(0..body.len())];
            return Self::of(Kind::Chunked { reader: Box::new(ChunkReader::new(open, whole, trailers)) });
        }
        let body = match trailers {
            None => body.into_only_piece(),
            Some(_) => Err(body),
        };
        match body {
            Ok(octets) => Self::of(Kind::Whole { octets }),
            Err(body) => Self::of(Kind::Stored { stored: Box::new(Stored::new(body, trailers)) }),
        }
    }

    /// Parts of a stored body, and what stands between them.
    pub(crate) fn parts(body: &StoredBody, segments: Vec<Segment>) -> Self {
        match body.open() {
            Some(open) => Self::of(Kind::Chunked { reader: Box::new(ChunkReader::new(open, segments, None)) }),
            None => Self::stored(body.with_segments(segments), None),
        }
    }

    pub(crate) fn shared(reader: SharedReader) -> Self {
        Self::of(Kind::Shared { reader })
    }

    pub(crate) fn empty() -> Self {
        Self::of(Kind::Whole { octets: Bytes::new() })
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for CacheBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        let polled = match this.kind.project() {
            KindProj::Passing { body } => poll_frame(body, cx, BodyError::new),
            KindProj::Joined { front, body } => match front.next_frame() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => poll_frame(body, cx, BodyError::new),
            },
            KindProj::Shared { reader } => reader.poll_frame(cx),
            KindProj::Whole { octets } => Poll::Ready(at_once(octets).map(Ok)),
            KindProj::Stored { stored } => Poll::Ready(stored.next_frame().map(Ok)),
            KindProj::Chunked { reader } => reader.poll_frame(cx),
        };
        if let Poll::Ready(None | Some(Err(_))) = polled {
            this.permit.release();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passing { body } => body.is_end_stream(),
            Kind::Joined { front, body } => front.left == 0 && body.is_end_stream(),
            Kind::Shared { reader } => reader.is_end_stream(),
            Kind::Whole { octets } => octets.is_empty(),
            Kind::Stored { stored } => stored.left == 0 && stored.trailers.is_none(),
            Kind::Chunked { reader } => reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passing { body } => body.size_hint(),
            Kind::Joined { front, body } => lengthened(&body.size_hint(), front.left),
            Kind::Shared { reader } => reader.size_hint(),
            Kind::Whole { octets } => SizeHint::with_exact(octets.len() as u64),
            Kind::Stored { stored } => stored.size_hint(),
            Kind::Chunked { reader } => reader.size_hint(),
        }
    }
}

fn poll_frame<B: Body, E>(
    body: Pin<&mut B>,
    cx: &mut Context<'_>,
    error: impl FnOnce(B::Error) -> E,
) -> Poll<Option<Result<Frame<Bytes>, E>>> {
    let frame = ready!(body.poll_frame(cx));
    Poll::Ready(frame.map(|frame| frame.map(with_bytes).map_err(error)))
}

/// All that is left of what is in one piece.
fn at_once(octets: &mut Bytes) -> Option<Frame<Bytes>> {
    (!octets.is_empty()).then(|| Frame::data(std::mem::take(octets)))
}

/// No copy where the data are `Bytes` already.
fn with_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// The next frame of a body as it comes.
pub(crate) fn next_frame<B: Body<Error: Into<BoxError>>>(
    mut source: Pin<&mut B>,
) -> impl Future<Output = Option<Result<Frame<Bytes>, BoxError>>> {
    poll_fn(move |cx| poll_frame(source.as_mut(), cx, Into::into))
}

/// The next frame, if it is there.
pub(crate) async fn frame_at_hand<B: Body<Error: Into<BoxError>>>(
    mut source: Pin<&mut B>,
) -> Option<Option<Result<Frame<Bytes>, BoxError>>> {
    poll_fn(|cx| match poll_frame(source.as_mut(), cx, Into::into) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
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
    fn new(body: StoredBody, trailers: Option<Box<HeaderMap>>) -> Self {
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
        self.trailers.take().map(|trailers| Frame::trailers(*trailers))
    }
}
