//! The client's socket: lets the framing scanner read along, and closes in a way the client can understand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::client_stream::ClientStream;
use crate::framing::HeadScanner;
use crate::monitor::Monitor;

/// How long the rest of a request is read and thrown away after the last response of a connection.
const LINGER: Duration = Duration::from_secs(2);

/// A client's stream that reports to a [`Monitor`].
#[derive(Debug)]
pub(crate) struct GuardedStream {
    stream: ClientStream,
    scanner: HeadScanner,
    monitor: Arc<Monitor>,
    /// The end of the time between our last byte and the client's.
    linger: Option<Pin<Box<Sleep>>>,
}

// ===== impl GuardedStream =====

impl GuardedStream {
    /// `max_head` bounds what is kept of an unfinished request head.
    pub(crate) fn new(stream: ClientStream, monitor: Arc<Monitor>, max_head: usize) -> Self {
        Self { stream, scanner: HeadScanner::new(max_head), monitor, linger: None }
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let received = &buf.filled()[before..];
        this.monitor.received(&mut this.scanner, received);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends our side, then reads what is still under way.
    ///
    /// Closing a socket with unread bytes makes the kernel send a reset, and a reset can destroy the answer
    /// before the client has read it: a `400` to a bad request would look like a broken network.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let linger = match &mut this.linger {
            Some(linger) => linger,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                if !this.monitor.mid_message() {
                    return Poll::Ready(Ok(()));
                }
                this.linger.insert(Box::pin(tokio::time::sleep(LINGER)))
            }
        };
        let mut scratch = [0; 8192];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                // The runtime says so now and then to a sender that never pauses, too.
                Poll::Pending => return linger.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

impl Drop for GuardedStream {
    /// A response that ends with the connection can only be seen to be incomplete when the end is a reset.
    fn drop(&mut self) {
        if self.monitor.must_reset() {
            // Without the option the client gets an ordinary end, which is all that is left to do then.
            let _ = self.stream.set_zero_linger();
        }
    }
}
