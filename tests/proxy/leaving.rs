//! Signals: the first lets everything in flight finish, the second does not.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::running::Proxy;
use crate::support::gate::{Gate, eventually, until_some};
use crate::support::origin::{Origin, Script};
use crate::support::redis::RedisServer;
use crate::wire::{End, Wire, get};

/// Waits until the proxy accepts no more.
async fn stops_listening(proxy: &Proxy) {
    let address = proxy.address();
    until_some("the proxy stops listening", || async {
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
}

async fn the_first_signal_lets_requests_finish(signal: Signal) {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let script = Script::status("200 OK").chunked(["first"]).chunk_gate(&gate).and_chunks(["second"]);
    origin.says("/held", script);
    let mut proxy = Proxy::before(&origin.url()).await;
    let mut busy = Wire::to(&proxy).await;
    busy.says("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut idle = Wire::to(&proxy).await;
    idle.says("GET /b HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(idle.hears().await.status, 404);
    eventually("the origin was asked", || origin.count("/held") == 1).await;
    proxy.signal(signal);
    stops_listening(&proxy).await;
    assert_eq!(idle.end().await, End::Closed(Vec::new()));
    assert!(proxy.is_running());
    gate.open();
    let answer = busy.hears().await;
    assert_eq!((answer.complete, answer.text().as_str()), (true, "firstsecond"), "{}", answer.head);
    assert_eq!(busy.end().await, End::Closed(Vec::new()));
    assert_eq!(proxy.ended().await.code(), Some(0), "{}", proxy.log());
}

#[tokio::test]
async fn sigterm_lets_requests_in_flight_finish_and_the_exit_code_is_0() {
    the_first_signal_lets_requests_finish(Signal::TERM).await;
}

#[tokio::test]
async fn ctrl_c_does_the_same() {
    the_first_signal_lets_requests_finish(Signal::INT).await;
}

/// A Redis that stands still confirms nothing of what it is given.
#[tokio::test]
async fn writes_to_the_cache_finish_too() {
    let redis = RedisServer::start();
    let origin = Origin::start().await;
    let gate = Gate::closed();
    let large = Script::ok(vec![b'x'; 3 << 20]).header("cache-control", "max-age=60");
    origin.says("/large", large.body_after(&gate));
    let arguments = ["--redis", &redis.url(), "--max-body-size", "32MiB"];
    let mut proxy = Proxy::with(&origin.url(), &arguments).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /large HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    assert!(wire.head().await.contains("stored"));
    redis.stop();
    gate.open();
    wire.bytes(3 << 20).await;
    proxy.signal(Signal::TERM);
    stops_listening(&proxy).await;
    redis.cont();
    assert_eq!(proxy.ended().await.code(), Some(0), "{}", proxy.log());
    let successor = Proxy::with(&origin.url(), &arguments).await;
    let hit = || async { get(&successor, "/large").await.is_hit().then_some(()) };
    until_some("the successor finds what was written", hit).await;
    assert_eq!(origin.count("/large"), 1);
}

#[tokio::test]
async fn what_takes_longer_than_the_shutdown_timeout_is_cut_off() {
    let origin = Origin::start().await;
    origin.says("/a", Script::silent());
    let mut proxy = Proxy::with(&origin.url(), &["--shutdown-timeout", "300ms"]).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the origin was asked", || origin.count("/a") == 1).await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().await.code(), Some(0));
    wire.end().await;
    proxy.logs(1, |line| line.contains("cut off by the shutdown timeout")).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let origin = Origin::start().await;
    origin.says("/a", Script::silent());
    let mut proxy = Proxy::with(&origin.url(), &["--shutdown-timeout", "1h"]).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("the origin was asked", || origin.count("/a") == 1).await;
    proxy.signal(Signal::TERM);
    proxy.logs(1, |line| line.contains("a second signal ends the proxy at once")).await;
    assert!(proxy.is_running());
    proxy.signal(Signal::INT);
    assert_eq!(proxy.ended().await.code(), Some(1));
}

#[tokio::test]
async fn a_tunnel_does_not_hold_up_the_shutdown() {
    let origin = Origin::start().await;
    origin.says("/chat", Script::upgrade("websocket"));
    let mut proxy = Proxy::with(&origin.url(), &["--upgrades", "--shutdown-timeout", "1h"]).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(wire.hears().await.status, 101);
    wire.says("hello").await;
    assert_eq!(wire.bytes(5).await, b"hello");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test]
async fn silent_clients_do_not_hold_up_the_shutdown() {
    let origin = Origin::start().await;
    let long = ["--header-timeout", "1h", "--shutdown-timeout", "1h"];
    let mut proxy = Proxy::with(&origin.url(), &long).await;
    let mut greetings = Vec::new();
    for greeting in ["", "GET / HTTP/1.1\r\nHost", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut wire = Wire::to(&proxy).await;
        wire.says(greeting).await;
        greetings.push(wire);
    }
    // They were accepted before this one, so they are all the proxy's by now.
    get(&proxy, "/a").await;
    proxy.signal(Signal::TERM);
    let begun = Instant::now();
    assert_eq!(proxy.ended().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
}
