//! The innermost service: asks the origin, and turns its failures into answers.
//!
//! It never fails. A connection that cannot be made is a `502`, a deadline a `504`, a client that stops sending
//! its body a `408`; the cache layer above adds `Cache-Status` and stores none of them.

mod connector;
mod failure;
mod head;
mod health;
mod tunnel;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::Error as PoolError;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tower::Service;

use crate::access::Place;
use crate::connection::Client;
use crate::front_door::WebSocket;
use crate::idle_body::IdleBody;
use crate::origin_url::OriginUrl;
use crate::request_body::{Progress, RequestBody, Upload};
use crate::workers;
pub(crate) use connector::Trust;
use connector::{Connector, connector};
use failure::Failure;
pub(crate) use failure::Unasked;
pub(crate) use head::HostField;
pub(crate) use health::{Health, HealthCheck};

/// How many idle connections are kept by all threads together, and how long: many origins close theirs after five seconds, and what is sent in
/// that moment is lost.
const IDLE_CONNECTIONS: usize = 64;
const IDLE_TIME: Duration = Duration::from_secs(4);

/// The largest response head.
const RESPONSE_HEAD: usize = 256 * 1024;

/// How often an HTTP/2 origin is asked whether it is still there.
const HTTP2_PING: Duration = Duration::from_secs(15);

/// How the origin is reached.
#[derive(Clone, Debug)]
pub(crate) struct OriginSettings {
    pub(crate) url: OriginUrl,
    /// That ask it.
    pub(crate) threads: usize,
    pub(crate) host: HostField,
    pub(crate) trust: Trust,
    pub(crate) connect_timeout: Duration,
    pub(crate) first_byte_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) health_check: Option<HealthCheck>,
}

/// A service that forwards to one origin.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// One for each thread: a connection is used where it was made.
    pools: Box<[Pool<Connector, RequestBody>]>,
    /// WebSocket handshakes need HTTP/1.1 and a connection of their own.
    handshakes: Pool<Connector, RequestBody>,
    settings: OriginSettings,
    health: Arc<Health>,
}

/// What the origin sends, or what is said in its place.
pub(crate) type OriginBody = Either<IdleBody, Full<Bytes>>;

pub(crate) type Forwarding = Pin<Box<dyn Future<Output = Result<Response<OriginBody>, Infallible>> + Send>>;

// ===== impl Origin =====

impl Origin {
    pub(crate) fn new(settings: OriginSettings) -> Self {
        // An HTTP/2 origin takes the host from the connection's authority, so another one needs HTTP/1.1.
        let http2 = settings.host == HostField::Origin;
        let connecting = |http2| connector(&settings.trust, settings.connect_timeout, http2);
        let mut builder = Pool::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS.div_ceil(settings.threads))
            .http1_max_buf_size(RESPONSE_HEAD)
            .http2_keep_alive_interval(HTTP2_PING);
        let pools = (0..settings.threads).map(|_| builder.build(connecting(http2))).collect();
        let handshakes = builder.pool_max_idle_per_host(0).build(connecting(false));
        Self { shared: Arc::new(Shared { pools, handshakes, settings, health: Arc::default() }) }
    }

    /// Begins to check its health, where that is wanted: what is found out.
    pub(crate) fn look_after(&self) -> Option<(OriginUrl, Arc<Health>)> {
        let check = self.shared.settings.health_check.clone()?;
        tokio::spawn(health::look_after(Arc::downgrade(&self.shared), check));
        Some((self.shared.settings.url.clone(), Arc::clone(&self.shared.health)))
    }
}

impl Service<Request<RequestBody>> for Origin {
    type Response = Response<OriginBody>;
    type Error = Infallible;
    type Future = Forwarding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Forwarding {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let answer = |failure: Failure| failure.answer(&shared.settings.url).map(Either::Right);
            Ok(shared.forward(request).await.unwrap_or_else(answer))
        })
    }
}

// ===== impl Shared =====

impl Shared {
    /// That of this thread.
    fn pool(&self) -> &Pool<Connector, RequestBody> {
        &self.pools[workers::index() % self.pools.len()]
    }

    async fn forward(&self, mut request: Request<RequestBody>) -> Result<Response<OriginBody>, Failure> {
        let settings = &self.settings;
        if self.health.is_down() {
            return Err(Failure::OutOfService);
        }
        let public = head::PublicAddress::of(request.headers());
        let handshake = request.extensions_mut().remove::<WebSocket>();
        let (client, place) = (request.extensions_mut().remove::<Client>(), request.extensions_mut().remove::<Place>());
        let upgrading = handshake.map(|_| (hyper::upgrade::on(&mut request), client));
        head::address(&mut request, &settings.url, settings.host);
        head::settle_request_fields(&mut request, &settings.url, upgrading.is_some());
        let pool = match upgrading {
            Some(_) => &self.handshakes,
            None => self.pool(),
        };
        let mut response = self.ask(pool, request).await?;
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let tunnel = match (switching, upgrading) {
            (false, _) => None,
            (true, Some((upgrade, Some(client)))) => client.monitor.upgrade().map(|monitor| (upgrade, monitor)),
            (true, _) => return Err(Failure::UnaskedSwitch),
        };
        head::settle_response_fields(&mut response, switching)?;
        head::settle_location(response.headers_mut(), &settings.url, &public);
        if let Some((client, monitor)) = tunnel {
            let origin = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                tunnel::run(client, origin, monitor).await;
                drop(place);
            });
        }
        Ok(response.map(|body| Either::Left(IdleBody::new(body, settings.idle_timeout))))
    }

    /// Sends `request`; one that may be repeated is repeated once when the connection breaks before any answer.
    async fn ask(
        &self,
        pool: &Pool<Connector, RequestBody>,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failure> {
        let again = repeatable(&request).then(|| copy(&request));
        let first = self.send(pool, request).await;
        match (first, again) {
            // A kept connection can be closed by the origin in the moment it is used.
            (Err(Failure::Broken(error)), Some(request)) => {
                tracing::debug!(%error, "asking the origin again");
                self.send(pool, request).await
            }
            (outcome, _) => outcome,
        }
    }

    async fn send(
        &self,
        pool: &Pool<Connector, RequestBody>,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failure> {
        let upload = request.body().upload();
        let started = Instant::now();
        let limit = self.settings.first_byte_timeout;
        let outcome = tokio::select! {
            outcome = pool.request(request) => outcome,
            () = overdue(&upload, started, limit) => return Err(Failure::NoAnswer),
        };
        outcome.map_err(|error: PoolError| match upload.progress() {
            Progress::Stalled => Failure::ClientStalled,
            Progress::Broken => Failure::ClientLeft,
            _ => Failure::from(error),
        })
    }
}

/// Completes when the origin alone has been waited for longer than `limit`.
///
/// While the client sends its body, each piece the origin takes begins the time anew, and while the client
/// is the one that is waited for, no time passes.
async fn overdue(upload: &Upload, started: Instant, limit: Duration) {
    loop {
        let deadline = match upload.progress() {
            Progress::AwaitingClient => Instant::now() + limit,
            Progress::Moved(at) => at.max(started) + limit,
            Progress::Nothing | Progress::Stalled | Progress::Broken => started + limit,
        };
        if deadline <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
}

/// Whether asking twice is the same as asking once (RFC 9110 §9.2.2).
fn repeatable(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent() && request.body().is_end_stream()
}

fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::default());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    copy
}
