//! What is in order passes in order, from the origin and from the cache alike.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_redis_cache::{CacheConfig, MemoryStore, RedisCacheLayer};

use crate::gateway::{Gateway, is_forwarded, is_hit, split, values};
use crate::support::gate::{Gate, PATIENCE};
use crate::support::origin::{Origin, Script};

#[tokio::test]
async fn a_chunked_response_is_stored_and_replayed_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin
        .says("/a", Script::status("200 OK").chunked(["one ", "two ", "three"]).header("cache-control", "max-age=60"));
    let first = gateway.get("/a").await;
    is_forwarded(&first);
    assert!(first.ends_with("0\r\n\r\n"), "{first:?}");
    let second = gateway.get("/a").await;
    is_hit(&second);
    assert_eq!(values(&second, "content-length"), ["13"]);
    assert_eq!(split(&second).1, "one two three");
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.says("/a", Script::status("200 OK").header("cache-control", "max-age=60").until_close("to the end"));
    gateway.get("/a").await;
    let answer = gateway.get("/a").await;
    is_hit(&answer);
    assert_eq!(split(&answer).1, "to the end");
}

#[tokio::test]
async fn field_values_of_any_octets_and_repeated_lines_survive() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let script = Script::ok("x")
        .header("cache-control", "max-age=60")
        .header("X-Latin", "caf\u{e9}")
        .header("link", "<a>")
        .header("x-empty", "")
        .header("link", "<b>");
    origin.says("/a", script);
    gateway.get("/a").await;
    let answer = gateway.get("/a").await;
    is_hit(&answer);
    assert_eq!(values(&answer, "x-latin"), ["caf\u{e9}"]);
    assert_eq!(values(&answer, "link"), ["<a>", "<b>"]);
    assert_eq!(values(&answer, "x-empty"), [""]);
}

#[tokio::test]
async fn interim_responses_do_not_confuse_the_cache() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let script = Script::ok("page").header("cache-control", "max-age=60").interim("103 Early Hints", "link: </a.css>");
    origin.says("/a", script);
    let first = gateway.get("/a").await;
    is_forwarded(&first);
    assert_eq!(split(&first).1, "page");
    let second = gateway.get("/a").await;
    is_hit(&second);
    assert!(values(&second, "link").is_empty(), "{second:?}");
    assert_eq!(split(&second).1, "page");
}

#[tokio::test]
async fn one_connection_stays_in_step_through_hits_heads_and_304s() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=60").header("etag", "\"1\""));
    gateway.get("/a").await;
    let mut client = gateway.connect().await;
    let request = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nhost: example.com\r\n{more}\r\n");
    client.send(&request("HEAD /a", "")).await;
    client.send(&request("GET /a", "if-none-match: \"1\"\r\n")).await;
    client.send(&request("GET /a", "")).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(values(&head, "content-length"), ["5"]);
    let not_modified = client.until("\r\n\r\n").await;
    assert!(not_modified.starts_with("HTTP/1.1 304"), "{not_modified}");
    let whole = client.until("hello").await;
    assert!(whole.starts_with("HTTP/1.1 200"), "{whole}");
    for answer in [&head, &not_modified, &whole] {
        is_hit(answer);
    }
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn responses_without_a_body_are_stored_and_framed() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.says("/204", Script::status("204 No Content").header("cache-control", "max-age=60"));
    origin.says("/empty", Script::ok("").header("cache-control", "max-age=60"));
    for target in ["/204", "/empty"] {
        is_forwarded(&gateway.get(target).await);
        let answer = gateway.get(target).await;
        is_hit(&answer);
        assert_eq!(split(&answer).1, "");
    }
    assert!(values(&gateway.get("/204").await, "content-length").is_empty());
}

#[tokio::test]
async fn the_client_reads_what_the_origin_has_sent_so_far() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let gate = Gate::closed();
    let script = Script::status("200 OK").chunked(["early"]).chunk_gate(&gate).and_chunks(["late"]);
    origin.says("/a", script.header("cache-control", "max-age=60"));
    let mut client = gateway.connect().await;
    client.send("GET /a HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    client.until("early").await;
    gate.open();
    client.until("late").await;
    client.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn a_request_with_a_body_reaches_the_origin_whole() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.says("/a", Script::ok("done"));
    let mut client = gateway.connect().await;
    client.send("POST /a HTTP/1.1\r\nhost: example.com\r\ncontent-length: 4\r\nconnection: close\r\n\r\nform").await;
    assert_eq!(split(&client.until_closed().await).1, "done");
    let received = origin.received();
    assert_eq!((received[0].method(), received[0].body.as_slice()), ("POST", &b"form"[..]));
}

#[tokio::test]
async fn trailers_pass_over_http_2_and_hits_are_hits_there_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let script = Script::status("200 OK").chunked(["one", "two"]).trailer("x-checksum", "7");
    origin.says("/a", script.header("cache-control", "max-age=60").header("trailer", "x-checksum"));
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let target: http::Uri = format!("http://{}/a", gateway.address()).parse().expect("a URI");
    let first = client.get(target.clone()).await.expect("an answer").collect_whole().await;
    assert_eq!(first.0, "onetwo");
    assert_eq!(first.1.as_ref().map(|trailers| &trailers["x-checksum"]), Some(&"7".parse().expect("a value")));
    assert!(gateway.handle.drain(PATIENCE).await);
    let response = client.get(target).await.expect("an answer");
    assert_eq!(response.version(), http::Version::HTTP_2);
    let told = response.headers()["cache-status"].to_str().expect("text").to_owned();
    assert!(told.contains("; hit"), "{told}; {:?}", gateway.handle.stats());
    assert_eq!(response.collect_whole().await.0, "onetwo");
}

trait CollectWhole {
    async fn collect_whole(self) -> (Bytes, Option<http::HeaderMap>);
}

impl CollectWhole for http::Response<hyper::body::Incoming> {
    async fn collect_whole(self) -> (Bytes, Option<http::HeaderMap>) {
        let collected = self.into_body().collect().await.expect("the body ends well");
        let trailers = collected.trailers().cloned();
        (collected.to_bytes(), trailers)
    }
}

/// A service has one response, and hyper hands the interim ones to a callback in the request's extensions: the cache
/// lets that through, whoever sends the request in the end.
#[tokio::test]
async fn interim_responses_reach_whoever_listens_for_them() {
    let origin = Origin::start().await;
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
    let page = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\npage";
    origin.says("/a", Script::raw(format!("{hints}{page}")));
    let layer = RedisCacheLayer::with_store(MemoryStore::new(1 << 20), CacheConfig::default());
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let cache = layer.layer(client);
    let heard = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..2 {
        let mut request = Request::get(format!("{}/a", origin.url())).body(Empty::new()).expect("a request");
        let hearing = Arc::clone(&heard);
        hyper::ext::on_informational(&mut request, move |interim| {
            let link = interim.headers().get("link").map(|link| link.as_bytes().to_vec());
            hearing.lock().expect("nobody panics while hearing").push((interim.status().as_u16(), link));
        });
        let response = cache.clone().oneshot(request).await.expect("an answer");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "page");
        layer.handle().drain(PATIENCE).await;
    }
    let heard = heard.lock().expect("nobody panics while hearing");
    assert_eq!(*heard, [(103, Some(b"</style.css>; rel=preload".to_vec()))], "from the origin, and not from the cache");
    assert_eq!(layer.handle().stats().hits, 1);
}
