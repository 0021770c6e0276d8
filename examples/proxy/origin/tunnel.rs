//! A WebSocket after both sides have agreed: bytes in both directions until one side ends or both fall silent.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::monitor::Monitor;

/// Joins the two upgraded connections.
///
/// Holding the monitor keeps the client's place under the connection limit. A shutdown ends the tunnel: it has
/// no end of its own to wait for.
pub(super) async fn run(client: OnUpgrade, origin: OnUpgrade, monitor: Arc<Monitor>) {
    let idle = monitor.timeouts().idle;
    let joined = async {
        let both = async { tokio::try_join!(client, origin) };
        let Ok(Ok((client, origin))) = tokio::time::timeout(idle, both).await else {
            tracing::debug!("a tunnel was agreed on but not opened");
            return;
        };
        let moved = Moved::default();
        let mut client = Watched::new(TokioIo::new(client), &moved);
        let mut origin = Watched::new(TokioIo::new(origin), &moved);
        tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut client, &mut origin) => {
                tracing::debug!(error = ?copied.err(), "tunnel ended");
            }
            () = moved.silence(idle) => tracing::debug!("tunnel closed after a silence"),
        }
    };
    tokio::select! {
        () = joined => {}
        () = monitor.draining() => {}
    }
}

/// When a byte last moved in either direction.
#[derive(Clone, Debug)]
struct Moved {
    at: Arc<Mutex<Instant>>,
}

/// One side of the tunnel, which notes when bytes move.
#[derive(Debug)]
struct Watched<T> {
    inner: T,
    moved: Moved,
}

// ===== impl Moved =====

impl Moved {
    /// Completes when nothing has moved for `limit`.
    async fn silence(&self, limit: Duration) {
        loop {
            let deadline = *self.lock() + limit;
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    fn now(&self) {
        *self.lock() = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.at.lock().expect("no panic while the time is locked")
    }
}

impl Default for Moved {
    fn default() -> Self {
        Self { at: Arc::new(Mutex::new(Instant::now())) }
    }
}

// ===== impl Watched =====

impl<T> Watched<T> {
    fn new(inner: T, moved: &Moved) -> Self {
        Self { inner, moved: moved.clone() }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        self.moved.now();
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        self.moved.now();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
