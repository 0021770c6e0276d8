//! The origin fails in all its ways; the client learns of it in a way that no cache keeps.

use crate::running::Proxy;
use crate::support::gate::{Gate, eventually};
use crate::support::origin::{Origin, Script};
use crate::wire::{Answer, End, Wire, ask, get, get_hit};

/// Asserts an answer about the origin: made by the proxy, with the word of the cache.
#[track_caller]
fn is_told(answer: &Answer, status: u16) {
    answer.is_refusal(status);
    let cache = answer.value("cache-status").unwrap_or_default();
    assert!(cache.starts_with("tower-redis-cache; fwd=") && !cache.contains("stored"), "{}", answer.head);
}

#[tokio::test]
async fn an_origin_that_refuses_connections_is_a_502() {
    let proxy = Proxy::with("http://127.0.0.1:1", &["--default-ttl", "60s"]).await;
    for _ in 0..2 {
        let answer = get(&proxy, "/a").await;
        is_told(&answer, 502);
        assert!(!answer.closes(), "the client's connection is not to blame: {}", answer.head);
    }
    proxy.logs(2, |line| line.contains("cannot be reached") && line.contains("refused")).await;
}

#[tokio::test]
async fn an_origin_with_an_unknown_name_is_a_502_or_a_504() {
    let proxy = Proxy::with("http://no-such-host.invalid", &["--connect-timeout", "2s"]).await;
    let answer = get(&proxy, "/a").await;
    // Where no name server answers, it takes too long to learn that the name is unknown.
    assert!(matches!(answer.status, 502 | 504), "{}", answer.head);
    is_told(&answer, answer.status);
}

#[tokio::test]
async fn an_origin_that_hangs_up_or_talks_nonsense_is_a_502() {
    let answers = [
        Script::reset(),
        Script::raw(""),
        Script::raw("HTTP/1.1 200"),
        Script::raw("SSH-2.0-OpenSSH\r\n\r\n"),
        Script::raw("HTTP/1.1 abc OK\r\n\r\n"),
        Script::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        Script::raw("HTTP/1.1 200 OK\r\nX-A: b\0c\r\n\r\n"),
        Script::raw(format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "x".repeat(1 << 20))),
        Script::raw(format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(500))),
        Script::upgrade("websocket"),
    ];
    for script in answers {
        let origin = Origin::start().await;
        origin.says("*", script.clone());
        let proxy = Proxy::with(&origin.url(), &["--default-ttl", "60s"]).await;
        let answer = get(&proxy, "/a").await;
        assert_eq!(answer.status, 502, "{script:?}: {}", answer.head);
        is_told(&answer, 502);
        origin.says("*", Script::ok("well again"));
        assert_eq!(get(&proxy, "/a").await.text(), "well again");
    }
}

#[tokio::test]
async fn an_origin_that_does_not_answer_in_time_is_a_504() {
    let origin = Origin::start().await;
    origin.says("/a", Script::silent());
    let proxy = Proxy::with(&origin.url(), &["--first-byte-timeout", "300ms"]).await;
    is_told(&get(&proxy, "/a").await, 504);
    is_told(&ask(&proxy, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await, 504);
}

#[tokio::test]
async fn an_origin_that_does_not_complete_a_connection_is_a_504() {
    // It accepts, for the kernel does, but never answers the TLS handshake.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let proxy = Proxy::with(&url, &["--connect-timeout", "300ms"]).await;
    is_told(&get(&proxy, "/a").await, 504);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_never_a_clean_end_and_never_stored() {
    let fresh = ("cache-control", "max-age=60");
    let chunks = || Script::status("200 OK").chunked(["hello", "hello"]).header(fresh.0, fresh.1);
    let scripts = [
        Script::ok("hello").header(fresh.0, fresh.1).declares(100),
        chunks().without_last_chunk(),
        chunks().without_last_chunk().then_resets(),
    ];
    for script in scripts {
        let origin = Origin::start().await;
        origin.says("/a", script.clone());
        let proxy = Proxy::before(&origin.url()).await;
        for _ in 0..2 {
            let answer = get(&proxy, "/a").await;
            assert!(!answer.complete && !answer.is_hit(), "{script:?}: {}", answer.head);
        }
        assert_eq!(origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_learns_from_a_reset_that_its_response_broke_off() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let script = Script::status("200 OK").chunked(["hello"]).chunk_gate(&gate).without_last_chunk();
    origin.says("/a", script);
    let proxy = Proxy::before(&origin.url()).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /a HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.0 200") && !head.to_lowercase().contains("content-length"), "{head}");
    assert_eq!(wire.bytes(5).await, b"hello");
    gate.open();
    assert_eq!(wire.end().await, End::Reset);
}

#[tokio::test]
async fn a_response_that_stalls_is_broken_off() {
    let origin = Origin::start().await;
    let never = Gate::closed();
    origin.says("/a", Script::status("200 OK").chunked(["hello"]).chunk_gate(&never));
    let proxy = Proxy::with(&origin.url(), &["--idle-timeout", "300ms"]).await;
    let answer = get(&proxy, "/a").await;
    assert_eq!((answer.complete, answer.text().as_str()), (false, "hello"));
    proxy.logs(1, |line| line.contains("the response broke off")).await;
}

#[tokio::test]
async fn a_kept_connection_that_the_origin_has_closed_costs_no_answer() {
    let origin = Origin::start().await;
    // The connection looks alive when the request is sent; the reset is the origin's answer to it.
    origin.says_in_turn("/a", [Script::ok("one"), Script::reset(), Script::ok("two")]);
    let proxy = Proxy::before(&origin.url()).await;
    assert_eq!(get(&proxy, "/a").await.text(), "one");
    assert_eq!(get(&proxy, "/a").await.text(), "two");
    assert_eq!(origin.count("/a"), 3);
}

#[tokio::test]
async fn a_request_that_may_change_something_is_sent_once() {
    let origin = Origin::start().await;
    origin.says("/a", Script::reset());
    let proxy = Proxy::before(&origin.url()).await;
    is_told(&ask(&proxy, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await, 502);
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn connections_to_the_origin_are_used_again() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello"));
    let proxy = Proxy::before(&origin.url()).await;
    for _ in 0..10 {
        assert_eq!(get(&proxy, "/a").await.text(), "hello");
    }
    assert!(origin.connections() < 5, "{} connections for ten requests", origin.connections());
}

#[tokio::test]
async fn what_is_cached_is_answered_while_the_origin_is_away() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=60"));
    let proxy = Proxy::before(&origin.url()).await;
    get_hit(&proxy, "/a").await;
    drop(origin);
    assert!(get(&proxy, "/a").await.is_hit());
}

#[tokio::test]
async fn a_client_that_leaves_ends_nothing_but_its_own_request() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.says("/held", Script::ok("held").head_after(&gate));
    origin.says("/a", Script::ok("hello"));
    let proxy = Proxy::before(&origin.url()).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the origin was asked", || origin.count("/held") == 1).await;
    drop(wire);
    proxy.logs(1, |line| line.contains("path=/held") && line.contains("the client left before the response")).await;
    assert_eq!(get(&proxy, "/a").await.text(), "hello");
    gate.open();
}
