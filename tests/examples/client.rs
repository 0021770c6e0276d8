//! `examples/client.rs`, which calls an API over a real connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::middleware::{self, Next};
use tokio::net::TcpListener;
use tower_redis_cache::{CacheConfig, ManualClock};

use crate::asking::{in_memory, seconds, stored};

#[allow(dead_code)]
#[path = "../../examples/client.rs"]
mod example;

#[tokio::test]
async fn the_api_is_asked_once_while_its_answer_is_fresh() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let api = example::api().layer(middleware::from_fn(move |request: Request, next: Next| {
        counted.fetch_add(1, Ordering::SeqCst);
        next.run(request)
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: hyper::Uri = format!("http://{}/rates", listener.local_addr().unwrap()).parse().unwrap();
    let server = tokio::spawn(axum::serve(listener, api).into_future());

    let time = ManualClock::new();
    let cache = in_memory(CacheConfig::default().clock(time.clock()));
    let handle = cache.handle();
    let client = example::client(cache);
    let ask = async || {
        let (status, body) = example::ask(&client, url.clone()).await.unwrap();
        assert_eq!(body, "EUR 1.00\nUSD 1.16\n");
        stored(&handle).await;
        (status, calls.load(Ordering::SeqCst))
    };

    let (status, calls) = ask().await;
    assert!(status.ends_with("; fwd=uri-miss; fwd-status=200; ttl=60; stored"), "{status}");
    assert_eq!(calls, 1);
    let (status, calls) = ask().await;
    assert!(status.ends_with("; hit; ttl=60"), "{status}");
    assert_eq!(calls, 1);
    time.advance(seconds(61));
    let (status, calls) = ask().await;
    assert!(status.contains("; fwd=stale"), "{status}");
    assert_eq!(calls, 2);
    server.abort();
}
