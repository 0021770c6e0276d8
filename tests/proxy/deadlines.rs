//! Nobody is waited for without end.

use std::time::{Duration, Instant};

use crate::running::Proxy;
use crate::support::gate::{Gate, eventually, patiently};
use crate::support::origin::{Origin, Script};
use crate::wire::{End, Wire, get};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

#[tokio::test]
async fn a_client_that_does_not_complete_its_first_request_head_is_cut_off() {
    let origin = Origin::start().await;
    let proxy = Proxy::with(&origin.url(), &["--header-timeout", "300ms"]).await;
    let greetings: [&[u8]; 7] = [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"\r\n\r\n\r\n",
        &PREFACE[..7],
        PREFACE,
        &[PREFACE, SETTINGS].concat(),
    ];
    for greeting in greetings {
        let mut wire = Wire::to(&proxy).await;
        let begun = Instant::now();
        wire.says(greeting).await;
        wire.end().await;
        assert!(begun.elapsed() >= Duration::from_millis(290), "{greeting:?} was cut off at once");
    }
    assert_eq!(origin.received().len(), 0);
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off_all_the_same() {
    let origin = Origin::start().await;
    let proxy = Proxy::with(&origin.url(), &["--header-timeout", "300ms"]).await;
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.expect("the proxy listens");
    let (mut reader, mut writer) = stream.into_split();
    let trickle = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let drops = b"GET / HTTP/1.1\r\nX-A: ".iter().chain(std::iter::repeat(&b'a'));
        for drop in drops {
            if writer.write_all(&[*drop]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    patiently("the client to be cut off", trickle).await.expect("no panic");
    // Whatever there is to read ends.
    let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request_and_not_for_ever() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello"));
    // The header timeout does not count between requests.
    let limits = ["--header-timeout", "200ms", "--keep-alive-timeout", "1s"];
    let proxy = Proxy::with(&origin.url(), &limits).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.hears().await.text(), "hello");
    tokio::time::sleep(Duration::from_millis(600)).await;
    wire.says("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.hears().await.text(), "hello");
    let begun = Instant::now();
    assert_eq!(wire.end().await, End::Closed(Vec::new()));
    assert!(begun.elapsed() >= Duration::from_millis(900), "closed after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_second_head_that_is_not_completed_is_cut_off_by_the_header_timeout() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello"));
    let proxy = Proxy::with(&origin.url(), &["--header-timeout", "300ms", "--keep-alive-timeout", "1h"]).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP").await;
    assert_eq!(wire.hears().await.text(), "hello");
    wire.end().await;
}

#[tokio::test]
async fn a_request_body_that_stalls_is_answered_with_408_and_the_connection_closed() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello"));
    let proxy = Proxy::with(&origin.url(), &["--idle-timeout", "300ms"]).await;
    let requests = [
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ];
    for request in requests {
        let mut wire = Wire::to(&proxy).await;
        wire.says(request).await;
        let answer = wire.hears().await;
        answer.is_refusal(408);
        assert!(answer.closes(), "{}", answer.head);
        assert!(answer.value("cache-status").is_some(), "{}", answer.head);
        assert_eq!(wire.end().await, End::Closed(Vec::new()));
    }
    assert_eq!(origin.received().len(), 0, "the origin never saw a whole request");
}

#[tokio::test]
async fn a_slow_upload_that_moves_is_not_cut_off() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("thanks"));
    let limits = ["--idle-timeout", "400ms", "--first-byte-timeout", "400ms"];
    let proxy = Proxy::with(&origin.url(), &limits).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n").await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        wire.says("x").await;
    }
    assert_eq!(wire.hears().await.text(), "thanks");
    assert_eq!(origin.received()[0].body, b"xxxxxxxxxx");
}

#[tokio::test]
async fn a_client_that_does_not_take_its_response_is_cut_off() {
    let origin = Origin::start().await;
    let large = vec![b'x'; 64 << 20];
    origin.says("/large", Script::ok(&large));
    let proxy = Proxy::with(&origin.url(), &["--idle-timeout", "500ms", "--max-connections", "1"]).await;
    let mut stalled = Wire::to(&proxy).await;
    stalled.says("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stalled.head().await;
    // There is one place only: this is answered once the stalled client has lost it.
    origin.says("/a", Script::ok("hello"));
    assert_eq!(get(&proxy, "/a").await.text(), "hello");
}

#[tokio::test]
async fn an_http2_client_that_closes_its_window_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let origin = Origin::start().await;
    origin.says("/large", Script::ok(vec![b'x'; 4 << 20]));
    let proxy = Proxy::with(&origin.url(), &["--idle-timeout", "500ms"]).await;
    let mut stream = tokio::net::TcpStream::connect(proxy.address()).await.expect("the proxy listens");
    // HEADERS of stream 1 with END_STREAM and END_HEADERS: :method GET, :scheme http, :path, :authority.
    let mut block = vec![0x82, 0x86, 0x04, 6];
    block.extend_from_slice(b"/large");
    block.extend_from_slice(&[0x01, 1, b'a']);
    let mut frame = vec![0, 0, u8::try_from(block.len()).expect("a short block"), 1, 0x5, 0, 0, 0, 1];
    frame.extend_from_slice(&block);
    stream.write_all(&[PREFACE, SETTINGS, &frame].concat()).await.expect("the proxy reads");
    // Everything is read, but no WINDOW_UPDATE is ever sent: 65,535 bytes come, then silence, then the end.
    let mut received = Vec::new();
    let ended = patiently("the stalled stream to end", stream.read_to_end(&mut received)).await;
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    let data = received.iter().filter(|&&byte| byte == b'x').count();
    assert!((60_000..=65_535).contains(&data), "{data} bytes of the body came");
}

/// A cached body is one piece in memory, larger here than what the kernel takes at once.
#[tokio::test]
async fn a_slow_reader_that_moves_gets_everything() {
    const LENGTH: usize = 24 << 20;
    const STEP: usize = 1 << 20;
    let origin = Origin::start().await;
    origin.says("/large", Script::ok(vec![b'x'; LENGTH]).header("cache-control", "max-age=60"));
    let limits = ["--idle-timeout", "1s", "--max-body-size", "32MiB"];
    let proxy = Proxy::with(&origin.url(), &limits).await;
    crate::wire::get_hit(&proxy, "/large").await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /large HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    assert!(wire.head().await.contains("; hit"));
    for _ in 0..LENGTH / STEP {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(wire.bytes(STEP).await.len(), STEP);
    }
}

#[tokio::test]
async fn at_the_connection_limit_new_clients_wait_and_idle_ones_make_room() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.says("/held", Script::ok("held").head_after(&gate));
    origin.says("/a", Script::ok("hello"));
    let limits = ["--max-connections", "2", "--keep-alive-timeout", "1h"];
    let proxy = Proxy::with(&origin.url(), &limits).await;
    let mut busy = Wire::to(&proxy).await;
    busy.says("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut idle = Wire::to(&proxy).await;
    idle.says("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(idle.hears().await.text(), "hello");
    eventually("both places are taken", || origin.received().len() == 2).await;
    assert_eq!(get(&proxy, "/a").await.text(), "hello");
    assert_eq!(idle.end().await, End::Closed(Vec::new()), "the idle client made room");
    gate.open();
    assert_eq!(busy.hears().await.text(), "held");
}
