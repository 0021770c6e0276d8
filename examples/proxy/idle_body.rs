//! A body that fails when its sender falls silent.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// An incoming body with an inactivity deadline: each frame must follow within `limit` of being asked for.
///
/// There is no deadline for the whole body, so a long transfer that moves is never cut.
#[derive(Debug)]
pub(crate) struct IdleBody {
    inner: Incoming,
    limit: Duration,
    /// The timer is made when the sender is first waited for and used again later.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

/// Why an [`IdleBody`] ended early.
#[derive(Debug)]
pub(crate) enum IdleBodyError {
    /// Nothing came within the limit.
    Stalled,
    /// The transfer itself failed.
    Broken(hyper::Error),
}

// ===== impl IdleBody =====

impl IdleBody {
    pub(crate) fn new(inner: Incoming, limit: Duration) -> Self {
        Self { inner, limit, timer: None, waiting: false }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = || Instant::now() + self.limit;
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.waiting {
                    timer.as_mut().reset(deadline());
                }
                timer
            }
            None => self.timer.insert(Box::pin(sleep_until(deadline()))),
        };
        self.waiting = true;
        timer.as_mut().poll(cx)
    }
}

impl Body for IdleBody {
    type Data = Bytes;
    type Error = IdleBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, IdleBodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.waiting = false;
                Poll::Ready(frame.map(|frame| frame.map_err(IdleBodyError::Broken)))
            }
            Poll::Pending => this.poll_deadline(cx).map(|()| Some(Err(IdleBodyError::Stalled))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// ===== impl IdleBodyError =====

impl fmt::Display for IdleBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stalled => f.write_str("nothing came within the idle timeout"),
            Self::Broken(_) => f.write_str("the transfer broke off"),
        }
    }
}

impl std::error::Error for IdleBodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stalled => None,
            Self::Broken(error) => Some(error),
        }
    }
}
