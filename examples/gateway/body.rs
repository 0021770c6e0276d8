//! The body of an origin's answer: no longer than agreed, and never silent for longer than agreed.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// A body that breaks off past a size, or when its sender falls silent.
#[derive(Debug)]
pub(crate) struct BoundedBody {
    inner: Incoming,
    left: u64,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why a body broke off.
#[derive(Debug)]
pub(crate) enum BrokenOff {
    TooLarge,
    Stalled,
    Failed(hyper::Error),
}

// ===== impl BoundedBody =====

impl BoundedBody {
    pub(crate) fn new(inner: Incoming, most: u64, idle: Duration) -> Self {
        Self { inner, left: most, idle, timer: None }
    }

    /// The limit runs from when the sender is first waited for, until something comes.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + idle))).as_mut().poll(cx)
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BrokenOff> {
        let octets = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.left = self.left.checked_sub(octets).ok_or(BrokenOff::TooLarge)?;
        Ok(frame)
    }
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            // Trailers are fields of nobody's choice.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => Poll::Ready(None),
            Poll::Ready(frame) => {
                this.timer = None;
                Poll::Ready(frame.map(|frame| frame.map_err(BrokenOff::Failed).and_then(|frame| this.count(frame))))
            }
            Poll::Pending => this.poll_silence(cx).map(|()| Some(Err(BrokenOff::Stalled))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// ===== impl BrokenOff =====

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the answer is longer than allowed",
            Self::Stalled => "nothing came in time",
            Self::Failed(_) => "the transfer broke off",
        })
    }
}

impl std::error::Error for BrokenOff {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLarge | Self::Stalled => None,
            Self::Failed(error) => Some(error),
        }
    }
}
