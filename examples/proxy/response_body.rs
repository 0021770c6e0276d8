//! The response body on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::monitor::Exchange;

pin_project! {
    /// Tells the connection's monitor what the client takes, and breaks the transfer when the body fails.
    #[derive(Debug)]
    pub(crate) struct ResponseBody<B> {
        #[pin]
        inner: B,
        exchange: Option<Exchange>,
        // The client can only tell the end of this body from the end of the connection.
        close_delimited: bool,
    }
}

// ===== impl ResponseBody =====

impl<B> ResponseBody<B> {
    pub(crate) fn new(inner: B, exchange: Exchange, close_delimited: bool) -> Self {
        Self { inner, exchange: Some(exchange), close_delimited }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let Poll::Ready(polled) = this.inner.poll_frame(cx) else {
            if let Some(exchange) = this.exchange {
                exchange.taken();
            }
            return Poll::Pending;
        };
        match (&polled, &*this.exchange) {
            (Some(Ok(_)), Some(exchange)) => exchange.offered(),
            (Some(Err(_)), Some(exchange)) if *this.close_delimited => exchange.reset_connection(),
            _ => {}
        }
        if matches!(polled, None | Some(Err(_))) {
            *this.exchange = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
