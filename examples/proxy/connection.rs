//! One client connection: the server that parses it, and the deadlines around that server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::http::uri::Scheme;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::time::{Instant, MissedTickBehavior};
use tower::{Service, ServiceExt};

use crate::BoxError;
use crate::answer::CloseAfter;
use crate::client_stream::ClientStream;
use crate::framing::Framing;
use crate::guarded_stream::GuardedStream;
use crate::monitor::{Exchange, Monitor, Verdict};
use crate::peer::Peer;
use crate::request_body::{Drain, Progress, RequestBody};
use crate::response_body::ResponseBody;

/// How many requests one HTTP/2 client may have open.
const HTTP2_STREAMS: u32 = 128;

/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to answer.
const HTTP2_PING: Duration = Duration::from_secs(20);
const HTTP2_PONG: Duration = Duration::from_secs(10);

/// What the server buffers for one response, or one HTTP/2 stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Request extension: the client at the other end and what is known of its request.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    /// By which it asked.
    pub(crate) scheme: Scheme,
    pub(crate) framing: Option<Framing>,
    /// Weak: a fetch that outlives its client must not keep the client's place.
    pub(crate) monitor: Weak<Monitor>,
}

/// Limits of the parser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParserLimits {
    pub(crate) max_header_size: usize,
    pub(crate) max_uri_size: usize,
}

// ===== impl ParserLimits =====

impl ParserLimits {
    /// The longest request head that is read. Somewhat more than is allowed, so that most of what is too
    /// large gets a readable answer from the front door instead of the server's empty one.
    pub(crate) fn max_head(&self) -> usize {
        (self.max_header_size + self.max_uri_size + 4096).next_power_of_two()
    }

    /// The server for HTTP/1.1, and for HTTP/2 by prior knowledge.
    pub(crate) fn server(&self, keep_alive: Duration) -> auto::Builder<TokioExecutor> {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            // Only a backstop: the monitor knows idle connections from slow heads and is stricter.
            .header_read_timeout(keep_alive.saturating_mul(2))
            .max_buf_size(self.max_head());
        server
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PONG)
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(self.max_head()).unwrap_or(u32::MAX));
        server
    }
}

/// Serves `stream` until it ends, breaks or breaks a deadline.
pub(crate) async fn serve<S, B>(
    stream: ClientStream,
    peer: SocketAddr,
    monitor: Arc<Monitor>,
    limits: ParserLimits,
    stack: S,
) where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (timeouts, scheme) = (monitor.timeouts(), stream.scheme());
    let stream = GuardedStream::new(stream, Arc::clone(&monitor), limits.max_head());
    let (watched, client) = (Arc::clone(&monitor), Peer::new(peer.ip()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client =
            Client { peer: client.clone(), scheme: scheme.clone(), framing: None, monitor: Arc::downgrade(&watched) };
        request.extensions_mut().insert(client);
        exchange(stack.clone(), request, Arc::clone(&watched))
    });
    let server = limits.server(timeouts.keep_alive.max(timeouts.header));
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut draining = pin!(monitor.draining());
    let mut drained = false;
    let mut tick = tokio::time::interval(timeouts.tick());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error, "connection ended");
                }
                return;
            }
            _ = tick.tick() => {}
            () = draining.as_mut(), if !drained => {
                drained = true;
                monitor.closing();
                connection.as_mut().graceful_shutdown();
            }
        }
        match monitor.due(Instant::now()) {
            Verdict::Carry => {}
            Verdict::Close => {
                monitor.closing();
                connection.as_mut().graceful_shutdown();
            }
            Verdict::Drop(reason) => {
                tracing::debug!(%peer, reason, "connection dropped");
                return;
            }
        }
    }
}

/// Hands one request to the stack. What must happen in the order of arrival happens before the first await.
fn exchange<S, B>(
    stack: S,
    request: Request<Incoming>,
    monitor: Arc<Monitor>,
) -> impl Future<Output = Result<Response<ResponseBody<B>>, Infallible>> + Send
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Send,
    S::Future: Send,
    B: Body<Data = Bytes> + Send,
{
    let exchange = monitor.begin();
    let version = request.version();
    let http1 = version < Version::HTTP_2;
    let framing = if http1 { monitor.next_framing() } else { None };
    let drain = match (http1, framing) {
        (true, Some(Framing::Length | Framing::Chunked)) => match request.headers().contains_key(EXPECT) {
            true => Drain::OnceBegun,
            false => Drain::Always,
        },
        _ => Drain::Never,
    };
    let idle = monitor.timeouts().idle;
    let mut request = request.map(|body| RequestBody::new(body, idle, drain));
    let upload = request.body().upload();
    if let Some(client) = request.extensions_mut().get_mut::<Client>() {
        client.framing = framing;
    }
    async move {
        let response = match stack.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let close = response.extensions().get::<CloseAfter>().is_some()
            || framing != Some(Framing::Length)
            || upload.progress() == Progress::Stalled;
        Ok(send(response, exchange, version, http1 && close))
    }
}

/// The response as it goes to the client.
fn send<B: Body<Data = Bytes>>(
    mut response: Response<B>,
    exchange: Exchange,
    version: Version,
    close: bool,
) -> Response<ResponseBody<B>> {
    if close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let close_delimited = version < Version::HTTP_11 && response.body().size_hint().exact().is_none();
    response.map(|body| ResponseBody::new(body, exchange, close_delimited))
}
