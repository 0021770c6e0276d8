//! What must not pass, and never reaches the origin.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;

use crate::running::Proxy;
use crate::support::origin::{Origin, Script};
use crate::wire::{End, Wire, ask, ask_http2, get_hit};

/// A strange request and what it gets.
struct Case {
    request: &'static str,
    status: u16,
    closes: bool,
}

const fn case(status: u16, request: &'static str) -> Case {
    Case { request, status, closes: false }
}

const fn closed(status: u16, request: &'static str) -> Case {
    Case { request, status, closes: true }
}

async fn open_origin() -> Origin {
    let origin = Origin::start().await;
    origin.says("*", Script::ok("hello").header("cache-control", "max-age=60"));
    origin
}

#[tokio::test]
async fn requests_that_are_not_sound_get_a_short_answer_and_never_reach_the_origin() {
    let cases = [
        case(400, "GET /a HTTP/1.1\r\n\r\n"),
        case(400, "GET /a HTTP/1.0\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost:\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: a b/../c\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: user@evil/x\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: user@evil\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: a:8080:1\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: a:99999\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n"),
        case(400, "GET /a HTTP/1.1\r\nHost: http://a\r\n\r\n"),
        case(400, "GET http://user@a/a HTTP/1.1\r\nHost: a\r\n\r\n"),
        case(400, "GET http://a/a HTTP/1.1\r\n\r\n"),
        case(400, "GET http://a/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        case(400, "GET ftp://a/a HTTP/1.1\r\nHost: a\r\n\r\n"),
        case(400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        case(400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        case(417, "POST /a HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n"),
        closed(405, "TRACE /a HTTP/1.1\r\nHost: a\r\n\r\n"),
        closed(405, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        closed(400, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        closed(400, "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        closed(400, "POST /a HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n"),
        closed(400, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        closed(400, "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        closed(
            400,
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        closed(400, "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;x=1, chunked\r\n\r\n0\r\n\r\n"),
    ];
    let origin = open_origin().await;
    let proxy = Proxy::before(&origin.url()).await;
    for Case { request, status, closes } in cases {
        let mut wire = Wire::to(&proxy).await;
        wire.says(request).await;
        let answer = wire.hears().await;
        answer.is_refusal(status);
        assert_eq!(answer.closes(), closes, "{request:?}\n{}", answer.head);
        if closes {
            assert_eq!(wire.end().await, End::Closed(Vec::new()), "{request:?}");
        }
    }
    assert_eq!(origin.received().len(), 0, "{:?}", origin.received());
}

/// The parser's own refusals have no body; what counts is that they are refusals and that nothing follows them.
#[tokio::test]
async fn what_the_parser_refuses_ends_the_connection() {
    let requests: [&[u8]; 10] = [
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: b\r\n folded\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
        b"GET /a HTTP/1.1\rHost: a\r\n\r\n",
        b"GET /a HTTP/9.9\r\nHost: a\r\n\r\n",
    ];
    let origin = open_origin().await;
    let proxy = Proxy::before(&origin.url()).await;
    for request in requests {
        let mut wire = Wire::to(&proxy).await;
        let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        wire.says([request, smuggled].concat()).await;
        let answer = wire.hears().await;
        assert_eq!((answer.status, answer.closes()), (400, true), "{:?}", String::from_utf8_lossy(request));
        assert_eq!(wire.end().await, End::Closed(Vec::new()), "{:?}", String::from_utf8_lossy(request));
    }
    assert_eq!(origin.received().len(), 0, "{:?}", origin.received());
}

#[tokio::test]
async fn nothing_hides_behind_a_request_whose_end_is_not_certain() {
    let origin = open_origin().await;
    let proxy = Proxy::before(&origin.url()).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    let chunked = format!("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    for (request, status) in [(both, 400), (chunked, 200)] {
        let mut wire = Wire::to(&proxy).await;
        wire.says(&request).await;
        let answer = wire.hears().await;
        assert_eq!((answer.status, answer.closes()), (status, true), "{request:?}: {}", answer.head);
        assert_eq!(wire.end().await, End::Closed(Vec::new()), "{request:?}");
    }
    assert_eq!(origin.count("/smuggled"), 0);
}

#[tokio::test]
async fn each_pipelined_request_gets_its_own_verdict() {
    let origin = open_origin().await;
    let proxy = Proxy::before(&origin.url()).await;
    let mut wire = Wire::to(&proxy).await;
    wire.says(
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 33\r\n\r\nGET /body HTTP/1.1\r\nHost: a\r\n\r\n..\
         GET /2 HTTP/1.1\r\nHost: a\r\n\r\n\
         \r\n\r\nGET /3 HTTP/1.1\nHost: a\n\n\
         POST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n\
         GET /5 HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
    for _ in 1..=3 {
        let answer = wire.hears().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{}", answer.head);
    }
    wire.hears().await.is_refusal(400);
    assert_eq!(wire.end().await, End::Closed(Vec::new()));
    let targets: Vec<String> = origin.received().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/1", "/2", "/3"]);
}

#[tokio::test]
async fn the_authority_of_an_absolute_target_decides_key_and_host_alike() {
    let origin = open_origin().await;
    let proxy = Proxy::with(&origin.url(), &["--host", "client"]).await;
    let absolute = "GET http://good.test/a HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    assert_eq!(ask(&proxy, absolute).await.status, 200);
    let asked = origin.received().remove(0);
    assert_eq!((asked.target(), asked.values("host")), ("/a", vec!["good.test"]));
    assert_eq!(asked.values("x-forwarded-host"), ["good.test"]);
    let plain = |host: &str| format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let hit = || async { ask(&proxy, plain("good.test")).await.is_hit().then_some(()) };
    crate::support::gate::until_some("the entry belongs to good.test", hit).await;
    assert!(!ask(&proxy, plain("evil.test")).await.is_hit());
}

#[tokio::test]
async fn http2_requests_with_two_authorities_are_refused() {
    let origin = open_origin().await;
    let proxy = Proxy::before(&origin.url()).await;
    let request = |host: &str| -> Request<Empty<Bytes>> {
        let request = Request::get("http://site.test/a").header("host", host);
        request.body(Empty::new()).expect("a request")
    };
    assert_eq!(ask_http2(&proxy, request("site.test")).await.status(), 200);
    assert_eq!(ask_http2(&proxy, request("evil.test")).await.status(), 400);
    assert_eq!(origin.received().len(), 1);
}

#[tokio::test]
async fn targets_and_fields_have_limits() {
    let origin = open_origin().await;
    let proxy = Proxy::with(&origin.url(), &["--max-uri-size", "1k", "--max-header-size", "2k"]).await;
    let target = |length| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length));
    let field = |length| format!("GET /a HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "x".repeat(length));
    ask(&proxy, target(1100)).await.is_refusal(414);
    ask(&proxy, field(2100)).await.is_refusal(431);
    assert_eq!(ask(&proxy, target(1000)).await.status, 200);
    assert_eq!(ask(&proxy, field(1900)).await.status, 200);
    // Far over the limit the parser refuses, and the client still gets to read it.
    let answer = ask(&proxy, field(500_000)).await;
    assert_eq!((answer.status, answer.closes()), (431, true), "{}", answer.head);
    let many = "A: b\r\n".repeat(200);
    assert_eq!(ask(&proxy, format!("GET /a HTTP/1.1\r\nHost: a\r\n{many}\r\n")).await.status, 431);
    assert_eq!(origin.received().len(), 2);
}

#[tokio::test]
async fn options_is_answered_where_it_is_meant_to_be() {
    let origin = open_origin().await;
    let proxy = Proxy::before(&origin.url()).await;
    for request in
        ["OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"]
    {
        let answer = ask(&proxy, request).await;
        assert_eq!(answer.status, 204, "{}", answer.head);
        assert!(answer.value("allow").is_some_and(|allow| allow.contains("GET")), "{}", answer.head);
    }
    assert_eq!(origin.received().len(), 0);
    ask(&proxy, "OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 7\r\n\r\n").await;
    assert_eq!(origin.received()[0].values("max-forwards"), ["6"]);
}

#[tokio::test]
async fn a_refusal_is_never_what_the_next_client_gets() {
    let origin = open_origin().await;
    let proxy = Proxy::with(&origin.url(), &["--default-ttl", "60s"]).await;
    ask(&proxy, "GET /a HTTP/1.1\r\nHost: site.test\r\nHost: site.test\r\n\r\n").await.is_refusal(400);
    ask(&proxy, "TRACE /a HTTP/1.1\r\nHost: site.test\r\n\r\n").await.is_refusal(405);
    assert_eq!(get_hit(&proxy, "/a").await.text(), "hello");
}
