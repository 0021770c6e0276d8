//! Bodies in both directions, read or unread.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::running::Proxy;
use crate::support::gate::{Gate, eventually, patiently};
use crate::support::origin::{Origin, Script};
use crate::support::redis::RedisServer;
use crate::wire::{End, Wire, ask, get, get_hit};

fn page() -> Script {
    Script::ok("hello").header("cache-control", "max-age=60")
}

#[tokio::test]
async fn an_unread_body_of_known_length_is_drained_and_the_connection_goes_on() {
    let origin = Origin::start().await;
    let proxy = Proxy::before(&origin.url()).await;
    let mut wire = Wire::to(&proxy).await;
    // Refused by the front door, so nobody reads the body, which looks like a request.
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = 100_000 + hidden.len();
    wire.says(format!("POST /a HTTP/1.1\r\nHost: a b\r\nContent-Length: {length}\r\n\r\n{hidden}")).await;
    wire.hears().await.is_refusal(400);
    wire.says("x".repeat(100_000)).await;
    origin.says("/next", Script::ok("next"));
    wire.says("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.hears().await.text(), "next");
    assert_eq!(origin.count("/hidden"), 0);
}

#[tokio::test]
async fn an_unread_body_that_is_too_large_closes_the_connection() {
    let origin = Origin::start().await;
    let proxy = Proxy::before(&origin.url()).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("POST /a HTTP/1.1\r\nHost: a b\r\nContent-Length: 10000000\r\n\r\n").await;
    wire.says("x".repeat(100_000)).await;
    wire.hears().await.is_refusal(400);
    assert_eq!(wire.end().await, End::Closed(Vec::new()));
    // What was under way is still read for a while: a socket closed over unread bytes sends a reset, which can destroy
    // an answer that the client has not read yet.
    for _ in 0..3 {
        wire.says("x".repeat(1000)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(origin.received().len(), 0);
}

#[tokio::test]
async fn a_get_with_a_body_is_neither_answered_from_the_cache_nor_stored() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = Proxy::before(&origin.url()).await;
    get_hit(&proxy, "/a").await;
    let asked = origin.count("/a");
    let fat = "GET /a HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\nfatty";
    let fat_chunks = "GET /a HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfatty\r\n0\r\n\r\n";
    for (count, request) in [fat, fat_chunks].into_iter().enumerate() {
        let answer = ask(&proxy, request).await;
        assert!(!answer.is_hit() && answer.status == 200, "{}", answer.head);
        assert_eq!(origin.count("/a"), asked + count + 1);
        assert_eq!(origin.received().last().map(|request| request.body.clone()), Some(b"fatty".to_vec()));
    }
}

#[tokio::test]
async fn uploads_reach_the_origin_framed_anew() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("thanks"));
    let proxy = Proxy::before(&origin.url()).await;
    let known = ask(&proxy, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert!(known.text() == "thanks" && !known.closes(), "{}", known.head);
    let chunks =
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    assert_eq!(ask(&proxy, chunks).await.text(), "thanks");
    let received = origin.received();
    assert_eq!(received.iter().map(|request| &request.body[..]).collect::<Vec<_>>(), [b"hello", b"hello"]);
    assert_eq!(received[0].values("content-length"), ["5"]);
    assert_eq!(received[1].values("transfer-encoding"), ["chunked"]);
}

#[tokio::test]
async fn expect_is_answered_here_and_never_forwarded() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("thanks"));
    let proxy = Proxy::before(&origin.url()).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 100"));
    wire.says("hello").await;
    assert_eq!(wire.hears().await.text(), "thanks");
    let received = origin.received();
    assert_eq!((received.len(), received[0].values("expect")), (1, vec![]));
    assert_eq!(received[0].body, b"hello");
}

#[tokio::test]
async fn a_refused_request_with_expect_is_answered_without_asking_for_its_body() {
    let origin = Origin::start().await;
    let proxy = Proxy::before(&origin.url()).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("POST /a HTTP/1.1\r\nHost: a b\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    // Not 100: the client keeps its body, and what it sends next cannot be told from it, so this is the end.
    let begun = Instant::now();
    wire.hears().await.is_refusal(400);
    assert_eq!(wire.end().await, End::Closed(Vec::new()));
    assert!(begun.elapsed() < Duration::from_secs(4), "the body was waited for");
}

#[tokio::test]
async fn a_response_streams_while_it_is_fetched() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let script = Script::status("200 OK").chunked(["first"]).chunk_gate(&gate).and_chunks(["second"]);
    origin.says("/a", script.header("cache-control", "max-age=60"));
    let proxy = Proxy::before(&origin.url()).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /a HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    wire.head().await;
    assert_eq!(wire.bytes(10).await, b"5\r\nfirst\r\n");
    gate.open();
    assert_eq!(wire.bytes(16).await, b"6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(get_hit(&proxy, "/a").await.text(), "firstsecond");
}

#[tokio::test]
async fn an_upload_streams_while_it_is_sent() {
    let origin = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", origin.local_addr().expect("an address"));
    let proxy = Proxy::before(&url).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst").await;
    let (mut connection, _) = patiently("a connection", origin.accept()).await.expect("one");
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\nfirst") {
        let read = connection.read_buf(&mut seen);
        assert_ne!(patiently("the first half", read).await.expect("no error"), 0);
    }
    wire.says("later").await;
    let mut rest = [0; 5];
    patiently("the second half", connection.read_exact(&mut rest)).await.expect("no error");
    connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("the proxy reads");
    assert_eq!((wire.hears().await.status, &rest), (204, b"later"));
}

#[tokio::test]
async fn trailers_pass_to_a_client_that_wants_them() {
    let origin = Origin::start().await;
    let script = Script::status("200 OK").header("trailer", "x-sum").chunked(["hello"]).trailer("x-sum", "42");
    origin.says("/a", script);
    let proxy = Proxy::before(&origin.url()).await;
    let wanting = "GET /a HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    assert_eq!(ask(&proxy, wanting).await.text(), "hello\nx-sum: 42");
    assert_eq!(origin.received()[0].values("te"), ["trailers"]);
    assert_eq!(get(&proxy, "/a").await.text(), "hello");
}

#[tokio::test]
async fn large_bodies_pass_without_growing_the_proxy() {
    const LENGTH: usize = 32 << 20;
    const CLIENTS: usize = 8;
    let origin = Origin::start().await;
    origin.says("/large", Script::ok(vec![b'x'; LENGTH]).header("cache-control", "max-age=60"));
    origin.says("/a", Script::ok("hello"));
    let proxy = Proxy::before(&origin.url()).await;
    get(&proxy, "/a").await;
    let before = proxy.memory();
    let mut highest = before;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let mut wire = Wire::to(&proxy).await;
        clients.spawn(async move {
            wire.says("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let answer = wire.hears().await;
            (answer.complete, answer.body.len())
        });
    }
    while !clients.is_empty() {
        tokio::select! {
            Some(received) = clients.join_next() => assert_eq!(received.expect("no panic"), (true, LENGTH)),
            () = tokio::time::sleep(Duration::from_millis(5)) => highest = highest.max(proxy.memory()),
        }
    }
    let grown = highest - before;
    assert!(grown < 64 << 10, "resident memory grew by {grown} KiB");
}

#[tokio::test]
async fn large_hits_out_of_redis_pass_without_growing_the_proxy() {
    const MIB: usize = 1 << 20;
    const LENGTH: usize = 50 * MIB;
    const CLIENTS: usize = 32;
    let (origin, redis) = (Origin::start().await, RedisServer::start());
    let mut body = (0..251).collect::<Vec<u8>>().repeat(LENGTH / 251 + 1);
    body.truncate(LENGTH);
    let body = Bytes::from(body);
    origin.says("/large", Script::ok(&body).header("cache-control", "max-age=600"));
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=600"));
    let url = redis.url();
    let flags = ["--redis", &url, "--max-body-size", "64MiB", "--store-timeout", "5s"];
    {
        // What it takes to store the body is another proxy's.
        let filling = Proxy::with(&origin.url(), &flags).await;
        get_hit(&filling, "/large").await;
        get_hit(&filling, "/a").await;
    }
    let proxy = Proxy::with(&origin.url(), &flags).await;
    get_hit(&proxy, "/a").await;
    let before = proxy.memory();
    let mut highest = before;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (mut wire, body) = (Wire::to(&proxy).await, body.clone());
        clients.spawn(async move {
            wire.says("GET /large HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
            assert!(wire.head().await.contains("; hit;"));
            for expected in body.chunks(MIB) {
                assert!(wire.bytes(expected.len()).await == expected, "another body");
            }
        });
    }
    while !clients.is_empty() {
        tokio::select! {
            Some(client) = clients.join_next() => client.expect("every client has it whole"),
            () = tokio::time::sleep(Duration::from_millis(5)) => highest = highest.max(proxy.memory()),
        }
    }
    let grown = highest - before;
    assert!(grown < 128 << 10, "resident memory grew by {grown} KiB");
}

/// Each is fetched, sent to its client and written to Redis at the same time.
#[tokio::test]
async fn large_fills_into_redis_pass_without_growing_the_proxy() {
    const MIB: usize = 1 << 20;
    const LENGTH: usize = 24 * MIB;
    const CLIENTS: usize = 16;
    let (origin, redis) = (Origin::start().await, RedisServer::start());
    let mut body = (0..251).collect::<Vec<u8>>().repeat(LENGTH / 251 + 1);
    body.truncate(LENGTH);
    let body = Bytes::from(body);
    for client in 0..CLIENTS {
        let script = Script::ok(&body).header("cache-control", "max-age=600");
        origin.says(&format!("/{client}"), script);
    }
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=600"));
    let url = redis.url();
    let flags = ["--redis", &url, "--max-body-size", "64MiB", "--store-timeout", "5s"];
    let proxy = Proxy::with(&origin.url(), &flags).await;
    get_hit(&proxy, "/a").await;
    let before = proxy.memory();
    let mut highest = before;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (mut wire, body) = (Wire::to(&proxy).await, body.clone());
        clients.spawn(async move {
            wire.says(format!("GET /{client} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
            assert!(wire.head().await.contains("; stored"));
            for expected in body.chunks(MIB) {
                assert!(wire.bytes(expected.len()).await == expected, "another body");
            }
        });
    }
    while !clients.is_empty() {
        tokio::select! {
            Some(client) = clients.join_next() => client.expect("every client has it whole"),
            () = tokio::time::sleep(Duration::from_millis(5)) => highest = highest.max(proxy.memory()),
        }
    }
    let grown = highest - before;
    assert!(grown < 128 << 10, "resident memory grew by {grown} KiB");
    // One that found no room in memory was not stored, and is fetched once more.
    for client in 0..CLIENTS {
        assert!(get_hit(&proxy, &format!("/{client}")).await.body == body, "another body");
    }
}

#[tokio::test]
async fn an_http2_client_that_leaves_does_not_disturb_the_others() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let held = Script::status("200 OK").chunked(["first"]).chunk_gate(&gate).and_chunks(["second"]);
    origin.says("/held", held);
    origin.says("/a", Script::ok("hello"));
    let proxy = Proxy::before(&origin.url()).await;
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.expect("the proxy listens");
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("a handshake");
    tokio::spawn(connection);
    let request = |path: &str| -> Request<Empty<Bytes>> {
        Request::get(format!("http://a{path}")).body(Empty::new()).expect("a request")
    };
    let left = sender.send_request(request("/held")).await.expect("a response");
    drop(left);
    let body = sender.send_request(request("/a")).await.expect("a response").into_body();
    assert_eq!(body.collect().await.expect("a body").to_bytes(), "hello");
    gate.open();
    eventually("the origin was asked for both", || origin.received().len() == 2).await;
}
