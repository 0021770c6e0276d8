//! Accepting connections, and ending in good order.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

use crate::BoxError;
use crate::connection::{self, ParserLimits};
use crate::monitor::{Monitor, Timeouts, Wishes};
use crate::request_body::RequestBody;
use crate::tls::Tls;
use crate::workers::Workers;

/// How long to wait when the system has no descriptor or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the listener allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerLimits {
    pub(crate) max_connections: u32,
    pub(crate) timeouts: Timeouts,
    pub(crate) parser: ParserLimits,
}

/// The accepting side of the proxy.
///
/// At the connection limit new connections wait, unaccepted, in the system's queue: they cost nothing there,
/// and idle connections are closed to make room for them.
#[derive(Debug)]
pub(crate) struct Listener {
    limits: ListenerLimits,
    tls: Tls,
    workers: Workers,
    places: Arc<Semaphore>,
    wishes: Arc<Wishes>,
}

// ===== impl Listener =====

impl Listener {
    pub(crate) fn new(limits: ListenerLimits, tls: Tls, workers: Workers) -> Self {
        let places = Arc::new(Semaphore::new(limits.max_connections as usize));
        Self { limits, tls, workers, places, wishes: Arc::default() }
    }

    /// Accepts and serves connections until `stop` completes. Those that are open then go on.
    pub(crate) async fn serve<S, B>(&self, socket: TcpListener, stack: S, stop: impl Future<Output = ()>)
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let accept = async {
            loop {
                let place = self.place().await;
                let (stream, peer) = match accept(&socket).await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let monitor = Monitor::new(self.limits.timeouts, Arc::clone(&self.wishes), place);
                let (tls, limits, stack) = (self.tls.clone(), self.limits, stack.clone());
                self.workers.serve(stream, move |stream| secured(tls, stream, peer, monitor, limits, stack));
            }
        };
        tokio::select! {
            () = accept => {}
            () = stop => {}
        }
    }

    /// Lets what is in flight end; `true` when every connection did so within `limit`.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        self.wishes.drain();
        let all = self.places.acquire_many(self.limits.max_connections);
        tokio::time::timeout(limit, all).await.is_ok()
    }

    /// A place for one more connection. While there is none, idle connections hear that others wait.
    async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return place;
        }
        self.wishes.make_room(true);
        let place = Arc::clone(&self.places).acquire_owned().await;
        self.wishes.make_room(false);
        place.expect("the semaphore is never closed")
    }
}

/// Shakes hands, and serves. A shutdown does not wait for who has not shaken hands.
async fn secured<S, B>(
    tls: Tls,
    stream: TcpStream,
    peer: SocketAddr,
    monitor: Arc<Monitor>,
    limits: ListenerLimits,
    stack: S,
) where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let stream = tokio::select! {
        biased;
        secured = tls.secure(stream, limits.timeouts.header) => secured,
        () = monitor.draining() => return,
    };
    match stream {
        Ok(stream) => connection::serve(stream, peer, monitor, limits.parser, stack).await,
        Err(error) => tracing::debug!(%peer, %error, "no TLS with a client"),
    }
}

async fn accept(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = socket.accept().await?;
    // Small responses must not wait for the client's acknowledgement.
    stream.set_nodelay(true)?;
    Ok((stream, peer))
}
