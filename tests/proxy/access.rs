//! Which clients are served.

use std::fs;

use rustix::process::Signal;

use crate::running::{Proxy, refused};
use crate::support::gate::{Gate, until_some};
use crate::support::origin::{Origin, Script};
use crate::wire::{Answer, Wire, ask, get, get_hit};

const TOKENS: [&str; 2] = ["the first token of a client", "a-token-for-somebody-else"];

fn page() -> Script {
    Script::ok("hello").header("cache-control", "max-age=60")
}

/// A GET with more lines in its head.
async fn get_with(proxy: &Proxy, target: &str, lines: &str) -> Answer {
    ask(proxy, format!("GET {target} HTTP/1.1\r\nHost: site.test\r\n{lines}\r\n")).await
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn only_who_has_a_token_is_served_and_all_of_them_share_what_is_stored() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("tokens");
    fs::write(&file, format!("# clients\n{}\n{}\n", TOKENS[0], TOKENS[1])).expect("a file");
    let proxy = Proxy::with(&origin.url(), &["--client-token-file", file.to_str().expect("text")]).await;
    use base64::Engine as _;
    let basic = |password: &str| {
        format!("Authorization: Basic {}\r\n", base64::prelude::BASE64_STANDARD.encode(format!("user:{password}")))
    };
    for lines in
        ["", "Authorization: Bearer wrong\r\n", &bearer(&TOKENS[0][1..]), &basic("wrong"), "Authorization: x\r\n"]
    {
        let answer = get_with(&proxy, "/a", lines).await;
        answer.is_refusal(401);
        assert!(answer.value("www-authenticate").is_some(), "{}", answer.head);
    }
    assert_eq!(origin.count("/a"), 0);
    get_with(&proxy, "/a", &bearer(TOKENS[0])).await;
    until_some("it is stored", || async { get_with(&proxy, "/a", &bearer(TOKENS[0])).await.is_hit().then_some(()) })
        .await;
    for lines in [bearer(TOKENS[0]), bearer(TOKENS[1]), basic(TOKENS[1])] {
        let answer = get_with(&proxy, "/a", &lines).await;
        assert!(answer.is_hit() && answer.body == b"hello", "{}", answer.head);
    }
    // The origin is not told.
    assert!(origin.received().iter().all(|request| request.values("authorization").is_empty()));
    // Somebody is not to be served any more, from now on.
    fs::write(&file, TOKENS[1]).expect("a file");
    proxy.signal(Signal::HUP);
    proxy.logs(1, |line| line.contains("settings were read again")).await;
    get_with(&proxy, "/a", &bearer(TOKENS[0])).await.is_refusal(401);
    assert_eq!(get_with(&proxy, "/a", &bearer(TOKENS[1])).await.status, 200);
}

/// Without tokens of the proxy's own it is the origin's field, and makes a response one client's.
#[tokio::test]
async fn a_token_for_the_origin_passes() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = Proxy::with(&origin.url(), &["--rate-limit", "1000/1s"]).await;
    for _ in 0..2 {
        let answer = get_with(&proxy, "/a", &bearer("of the origin")).await;
        assert!(!answer.is_hit() && answer.status == 200);
    }
    assert_eq!(origin.received()[0].values("authorization"), ["Bearer of the origin"]);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_again() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let arguments = ["--rate-limit", "5/1h", "--trust-forwarded", "127.0.0.1"];
    let proxy = Proxy::with(&origin.url(), &arguments).await;
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    for left in (0..5).rev() {
        let answer = get_with(&proxy, "/a", &from("192.0.2.1")).await;
        assert_eq!(answer.status, 200);
        let limit = answer.value("ratelimit").expect("a field");
        assert!(limit.starts_with(&format!("\"client\";r={left};t=")), "{limit}");
        assert_eq!(answer.value("ratelimit-policy"), Some("\"client\";q=5;w=3600"));
    }
    let asked = origin.count("/a");
    let answer = get_with(&proxy, "/a", &from("192.0.2.1")).await;
    answer.is_refusal(429);
    let wait: u64 = answer.value("retry-after").expect("a field").parse().expect("seconds");
    assert!((1..=720).contains(&wait), "{wait}");
    assert!(answer.value("ratelimit").is_some_and(|limit| limit.contains("r=0")), "{}", answer.head);
    // Another client is, and one who claims to be somebody else through nobody that is trusted is not, another.
    assert_eq!(get_with(&proxy, "/a", &from("192.0.2.2")).await.status, 200);
    assert_eq!(get_with(&proxy, "/a", &from("192.0.2.3, 192.0.2.1")).await.status, 429);
    assert!(origin.count("/a") <= asked + 1);
}

/// Nobody who claims anything is believed by default: all are the one address that they come from.
#[tokio::test]
async fn who_is_not_trusted_speaks_for_itself_alone() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = Proxy::with(&origin.url(), &["--rate-limit", "2/1h"]).await;
    let status = async |address: &str| {
        get_with(&proxy, "/a", &format!("X-Forwarded-For: {address}\r\nX-Real-IP: {address}\r\n")).await.status
    };
    assert_eq!([status("192.0.2.1").await, status("192.0.2.2").await, status("192.0.2.3").await], [200, 200, 429]);
}

/// Under load exactly as many are served as may be.
#[tokio::test]
async fn a_burst_gets_what_there_is_and_no_more() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = Proxy::with(&origin.url(), &["--rate-limit", "100/24h", "--rate-burst", "30"]).await;
    let asking = (0..200).map(|_| get(&proxy, "/a"));
    let statuses: Vec<u16> = futures_of(asking).await.iter().map(|answer| answer.status).collect();
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(200), count(429)), (30, 170));
}

/// All at once.
async fn futures_of<F: Future<Output = Answer>>(asking: impl Iterator<Item = F>) -> Vec<Answer> {
    let mut waiting: Vec<_> = asking.map(|asking| (Box::pin(asking), None)).collect();
    std::future::poll_fn(|cx| {
        for (asking, answer) in waiting.iter_mut().filter(|(_, answer)| answer.is_none()) {
            if let std::task::Poll::Ready(heard) = asking.as_mut().poll(cx) {
                *answer = Some(heard);
            }
        }
        match waiting.iter().all(|(_, answer)| answer.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    waiting.into_iter().filter_map(|(_, answer)| answer).collect()
}

/// A place is taken until the body has ended, or the client has left.
#[tokio::test]
async fn no_more_requests_are_served_at_a_time_than_may_be() {
    let origin = Origin::start().await;
    let gate = Gate::closed();
    origin.says("/slow", Script::ok("slow").body_after(&gate));
    origin.says("/a", page());
    let proxy = Proxy::with(&origin.url(), &["--max-requests", "2"]).await;
    get_hit(&proxy, "/a").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::to(&proxy).await;
        wire.says("GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        wire.head().await;
        held.push(wire);
    }
    let answer = get(&proxy, "/a").await;
    answer.is_refusal(503);
    assert_eq!(answer.value("retry-after"), Some("1"));
    drop(held.pop());
    until_some("there is a place again", || async { (get(&proxy, "/a").await.status == 200).then_some(()) }).await;
    gate.open();
}

/// It has a place for as long as it is open, and not only until both sides have agreed.
#[tokio::test]
async fn a_websocket_is_a_request_that_takes_long() {
    let origin = Origin::start().await;
    origin.says("/chat", Script::upgrade("websocket"));
    origin.says("/a", page());
    let proxy = Proxy::with(&origin.url(), &["--upgrades", "--max-requests", "1"]).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(wire.hears().await.status, 101);
    wire.says("hello").await;
    assert_eq!(wire.bytes(5).await, b"hello");
    get(&proxy, "/a").await.is_refusal(503);
    drop(wire);
    until_some("there is a place again", || async { (get(&proxy, "/a").await.status == 200).then_some(()) }).await;
}

/// A QUERY too: its content has nothing to do with it.
#[tokio::test]
async fn whatever_is_asked_is_refused_for_the_right_reason() {
    let origin = Origin::start().await;
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("tokens");
    fs::write(&file, TOKENS[0]).expect("a file");
    let arguments = ["--client-token-file", file.to_str().expect("text"), "--rate-limit", "3/1h"];
    let proxy = Proxy::with(&origin.url(), &arguments).await;
    for (method, status) in [("QUERY", 401), ("POST", 401), ("HEAD", 401), ("QUERY", 429)] {
        let head = format!("{method} /a HTTP/1.1\r\nHost: site.test\r\nContent-Type: text/plain\r\n");
        let content = if method == "HEAD" { "\r\n" } else { "Content-Length: 2\r\n\r\nhi" };
        let mut wire = Wire::to(&proxy).await;
        wire.says(format!("{head}{content}")).await;
        let answer = if method == "HEAD" { wire.hears_head().await } else { wire.hears().await };
        assert_eq!(answer.status, status, "{method}: {}", answer.head);
    }
    assert!(origin.received().is_empty());
}

#[tokio::test]
async fn rules_that_are_none_are_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let short = place.path().join("short");
    fs::write(&short, "short\n").expect("a file");
    for (arguments, reason) in [
        (&["--rate-limit", "100"][..], "100/1m"),
        (&["--rate-limit", "0/1m"], "100/1m"),
        (&["--rate-burst", "5"], "--rate-limit"),
        (&["--max-requests", "0"], "--max-requests"),
        (&["--client-token-file", short.to_str().expect("text")], "16 characters"),
        (&["--client-token-file", "/nowhere/at/all"], "/nowhere/at/all"),
    ] {
        let all = [&["--origin", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"], arguments].concat();
        let given_up = refused(&all).await;
        assert!(given_up.code == Some(2) && given_up.stderr.contains(reason), "{arguments:?}: {}", given_up.stderr);
    }
}
