//! What the others are compared with: no cache, but the least that could answer.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};
use tower::service_fn;

use super::{Filling, listen, size_in};

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
    let client = redis::Client::open(redis_url).expect("a URL");
    // Of a megabyte for each of many connections the last comes late; the default is half a second.
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection");
    let filling = Filling::new();
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

fn answer(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    fields.insert(AGE, HeaderValue::from_static("7"));
    fields.insert("cache-status", HeaderValue::from_static("tower-redis-cache; hit; ttl=3593"));
    response
}
