//! WebSocket: refused unless switched on, and then only after the origin has agreed.

use crate::running::Proxy;
use crate::support::origin::{Origin, Script};
use crate::wire::{End, Wire, ask};

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn a_handshake_is_refused_unless_upgrades_are_on() {
    let origin = Origin::start().await;
    origin.says("/chat", Script::upgrade("websocket"));
    let proxy = Proxy::before(&origin.url()).await;
    let answer = ask(&proxy, HANDSHAKE).await;
    answer.is_refusal(501);
    assert!(answer.text().contains("--upgrades"), "{}", answer.text());
    assert_eq!(origin.received().len(), 0);
}

#[tokio::test]
async fn with_upgrades_bytes_pass_both_ways_once_the_origin_has_agreed() {
    let origin = Origin::start().await;
    origin.says("/chat", Script::upgrade("websocket").header("sec-websocket-accept", "yes"));
    let proxy = Proxy::with(&origin.url(), &["--upgrades"]).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says(HANDSHAKE).await;
    let answer = wire.hears().await;
    assert_eq!(answer.status, 101, "{}", answer.head);
    for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", "yes")] {
        assert_eq!(answer.value(name), Some(value), "{}", answer.head);
    }
    // Neither of these is a request any more, whatever it looks like.
    for message in ["hello", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        wire.says(message).await;
        assert_eq!(wire.bytes(message.len()).await, message.as_bytes());
    }
    let received = origin.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].values("upgrade"), ["websocket"]);
    assert_eq!(received[0].values("sec-websocket-version"), ["13"]);
}

#[tokio::test]
async fn a_handshake_that_the_origin_declines_is_an_ordinary_exchange() {
    let origin = Origin::start().await;
    origin.says("/chat", Script::status("403 Forbidden").body("no"));
    origin.says("/a", Script::ok("hello"));
    let proxy = Proxy::with(&origin.url(), &["--upgrades"]).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says(HANDSHAKE).await;
    let answer = wire.hears().await;
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"), "{}", answer.head);
    wire.says("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.hears().await.text(), "hello");
}

#[tokio::test]
async fn another_protocol_is_never_switched_to() {
    let origin = Origin::start().await;
    origin.says("*", Script::ok("hello"));
    let proxy = Proxy::with(&origin.url(), &["--upgrades"]).await;
    let requests = [
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
    ];
    for request in requests {
        assert_eq!(ask(&proxy, request).await.text(), "hello", "{request:?}");
    }
    for received in origin.received() {
        assert_eq!(received.values("upgrade"), Vec::<&str>::new(), "{}", received.head);
    }
    origin.says("/chat", Script::upgrade("foo"));
    ask(&proxy, HANDSHAKE).await.is_refusal(502);
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_is_closed() {
    let origin = Origin::start().await;
    origin.says("/chat", Script::upgrade("websocket"));
    let limits = ["--upgrades", "--idle-timeout", "300ms", "--max-connections", "1"];
    let proxy = Proxy::with(&origin.url(), &limits).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says(HANDSHAKE).await;
    assert_eq!(wire.hears().await.status, 101);
    wire.says("hello").await;
    assert_eq!(wire.bytes(5).await, b"hello");
    assert_eq!(wire.end().await, End::Closed(Vec::new()));
    // Its place is free again.
    assert_eq!(ask(&proxy, HANDSHAKE).await.status, 101);
}
