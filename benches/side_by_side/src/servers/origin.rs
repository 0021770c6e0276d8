//! What is behind the caches: `/hit/SIZE` and `/miss/SIZE/…` may be stored for an hour, `/pass/SIZE` may not;
//! `?delay=MS` makes it wait; `/count` tells how many requests there were, without those for `/ready`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tower::service_fn;

use super::{Filling, listen, size_in};

pub(super) async fn serve() {
    let (filling, count) = (Filling::new(), Arc::new(AtomicU64::new(0)));
    let service = service_fn(move |request: Request<Incoming>| {
        let (filling, count) = (filling.clone(), count.clone());
        async move { Ok::<_, Infallible>(answer(&request, &filling, &count).await) }
    });
    listen(service).await;
}

async fn answer(request: &Request<Incoming>, filling: &Filling, count: &AtomicU64) -> Response<Full<bytes::Bytes>> {
    let path = request.uri().path();
    if path == "/count" {
        return Response::new(Full::from(count.load(Ordering::Relaxed).to_string()));
    }
    if path == "/ready" {
        return Response::new(Full::default());
    }
    count.fetch_add(1, Ordering::Relaxed);
    let delay = request.uri().query().and_then(|query| query.strip_prefix("delay=")?.parse().ok());
    if let Some(delay) = delay {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let law = match path.split('/').nth(1) {
        Some("hit" | "miss") => "max-age=3600",
        Some("pass") => "no-store",
        _ => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    let mut response = Response::new(Full::new(filling.of(size_in(path))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(law));
    response
}
