//! `examples/hyper.rs`, over a real connection.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower_redis_cache::CacheConfig;

use crate::asking::{in_memory, stored};

#[allow(dead_code)]
#[path = "../../examples/hyper.rs"]
mod example;

#[tokio::test]
async fn the_service_is_called_once_for_two_connections() {
    let cache = in_memory(CacheConfig::default());
    let handle = cache.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: hyper::Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let server = tokio::spawn(example::serve(listener, cache));

    let mut seen = Vec::new();
    for _ in 0..2 {
        // A client of its own has a connection of its own.
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let response = client.get(url.clone()).await.unwrap();
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        let has_age = response.headers().contains_key("age");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello\n");
        stored(&handle).await;
        seen.push((
            status.contains("; fwd=uri-miss") && status.ends_with("; stored"),
            status.contains("; hit"),
            has_age,
        ));
    }
    assert_eq!(seen, [(true, false, false), (false, true, true)]);
    assert_eq!(handle.stats().hits, 1);
    server.abort();
}
