//! What the others are compared with: no caches, but the least that could answer, and store.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};
use redis::RedisWrite;
use redis::aio::MultiplexedConnection;
use tower::{Service, service_fn};

use super::upstream::Upstream;
use super::{BoxError, Filling, listen, size_in};

/// What is at hand, with the fields of a hit.
pub(super) async fn prebuilt() {
    let filling = Filling::new();
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(filling.of(size_in(request.uri().path())));
        async move { Ok::<_, Infallible>(response) }
    });
    listen(service).await;
}

/// One GET a request. What is not there yet is put there.
pub(super) async fn redis_get(redis_url: &str) {
    let (connection, filling) = (connect(redis_url).await, Filling::new());
    let service = service_fn(move |request: Request<Incoming>| {
        let (mut connection, filling) = (connection.clone(), filling.clone());
        async move {
            let path = request.uri().path();
            let value: Option<Bytes> = redis::cmd("GET").arg(path).query_async(&mut connection).await.expect("a GET");
            let body = match value {
                Some(value) => value,
                None => {
                    let body = filling.of(size_in(path));
                    let mut set = redis::cmd("SET");
                    let () = set.arg(path).arg(&body[..]).query_async(&mut connection).await.expect("a SET");
                    body
                }
            };
            Ok::<_, Infallible>(answer(body))
        }
    });
    listen(service).await;
}

/// One GET a request; what is not there is asked of the origin, and put there beside the answer by one SET: whatever it
/// is, by whomever it was asked for, and by as many at a time as may be.
pub(super) async fn redis_get_set(origin: &str, redis_url: &str) {
    let (connection, upstream) = (connect(redis_url).await, Upstream::new(origin));
    let service = service_fn(move |request: Request<Incoming>| {
        let (mut connection, mut upstream) = (connection.clone(), upstream.clone());
        async move {
            let path = request.uri().path().to_owned();
            let value: Option<Bytes> = redis::cmd("GET").arg(&path).query_async(&mut connection).await?;
            if let Some(value) = value {
                return Ok(answer(value).map(Pieces::one));
            }
            let (head, mut body) = upstream.call(request).await?.into_parts();
            let mut pieces = VecDeque::new();
            while let Some(frame) = body.frame().await {
                pieces.extend(frame?.into_data().ok());
            }
            let octets = pieces.clone();
            tokio::spawn(async move {
                let mut set = redis::Cmd::with_capacity(3, path.len() + octets.iter().map(Bytes::len).sum::<usize>());
                set.arg("SET").arg(path);
                {
                    let mut value = set.writer_for_next_arg();
                    octets.iter().try_for_each(|piece| value.write_all(piece)).expect("a command takes all");
                }
                let () = set.query_async(&mut connection).await.expect("a SET");
            });
            Ok::<_, BoxError>(Response::from_parts(head, Pieces(pieces)))
        }
    });
    listen(service).await;
}

/// A body that is at hand, as it came.
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    fn one(body: Full<Bytes>) -> Self {
        Self(body.into_inner().into_iter().collect())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

async fn connect(redis_url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(redis_url).expect("a URL");
    // Of a megabyte for each of many connections the last comes late; the default is half a second.
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection")
}

fn answer(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    fields.insert(AGE, HeaderValue::from_static("7"));
    fields.insert("cache-status", HeaderValue::from_static("tower-redis-cache; hit; ttl=3593"));
    response
}
