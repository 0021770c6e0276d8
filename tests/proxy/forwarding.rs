//! What the origin gets to see of a request, and the client of a response.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;

use crate::running::Proxy;
use crate::support::origin::{Origin, Received, Script};
use crate::tls_origin::TlsOrigin;
use crate::wire::{ask, ask_http2, get};

/// Sends `fields` with a GET and returns what the origin received.
async fn forwarded(arguments: &[&str], fields: &str) -> Received {
    let origin = Origin::start().await;
    origin.says("*", Script::ok("hello"));
    let proxy = Proxy::with(&origin.url(), arguments).await;
    let answer = ask(&proxy, format!("GET /a?b HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n")).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let mut received = origin.received().remove(0);
    received.head = received.head.replace(&origin.authority(), "ORIGIN");
    received
}

#[tokio::test]
async fn the_origin_gets_its_own_host_and_what_nginx_users_expect() {
    let received = forwarded(&[], "").await;
    assert_eq!((received.method(), received.target()), ("GET", "/a?b"));
    assert_eq!(received.values("host"), ["ORIGIN"]);
    assert_eq!(received.values("x-forwarded-host"), ["site.test"]);
    assert_eq!(received.values("x-forwarded-proto"), ["http"]);
    assert_eq!(received.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.values("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(received.values("via").len(), 1, "{}", received.head);
    assert!(received.values("via")[0].starts_with("1.1 cache-"), "{}", received.head);
}

#[tokio::test]
async fn with_host_client_the_origin_gets_the_host_the_client_asked_for() {
    let received = forwarded(&["--host", "client"], "").await;
    assert_eq!(received.values("host"), ["site.test"]);
}

#[tokio::test]
async fn what_a_client_claims_about_itself_or_its_request_is_dropped() {
    let claims = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\nx_forwarded_host: evil.test\r\n\
                  Forwarded: for=6.6.6.6;host=evil.test\r\nX-Real-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\n\
                  X-Original-URL: /evil\r\nX-Rewrite-URL: /evil\r\nX-HTTP-Method-Override: DELETE\r\n\
                  X-HTTP-Method: DELETE\r\nX-Method-Override: DELETE\r\nX-Host: evil.test\r\nProxy: evil.test\r\n";
    let received = forwarded(&[], claims).await;
    for trace in ["6.6.6.6", "evil", "DELETE", "https"] {
        assert!(!received.head.contains(trace), "{trace} in\n{}", received.head);
    }
    assert_eq!(received.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(received.values("x-forwarded-host"), ["site.test"]);
}

#[tokio::test]
async fn a_trusted_peer_is_believed_for_address_scheme_and_host() {
    let trust = ["--trust-forwarded", "10.0.0.0/8,127.0.0.0/8"];
    let claims = "X-Forwarded-For: 9.9.9.9, 1.2.3.4\r\nX-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Host: shop.test\r\n\
                  X-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /evil\r\nX-Original-URL: /evil\r\n";
    let received = forwarded(&trust, claims).await;
    assert_eq!(received.values("x-forwarded-for"), ["9.9.9.9, 1.2.3.4, 10.1.1.1, 127.0.0.1"]);
    // The right-most address that is not a trusted peer; the one before it may be anybody's invention.
    assert_eq!(received.values("x-real-ip"), ["1.2.3.4"]);
    assert_eq!(received.values("x-forwarded-host"), ["shop.test"]);
    assert_eq!(received.values("x-forwarded-proto"), ["https"]);
    assert!(!received.head.contains("evil"), "{}", received.head);
    let elsewhere = forwarded(&["--trust-forwarded", "10.0.0.0/8"], claims).await;
    assert_eq!(elsewhere.values("x-real-ip"), ["127.0.0.1"]);
}

#[tokio::test]
async fn a_believed_scheme_and_host_are_part_of_the_key() {
    let origin = Origin::start().await;
    let page = |text: &str| Script::ok(text).header("cache-control", "max-age=60");
    origin.says_in_turn("/a", [page("one"), page("two"), page("three")]);
    let proxy = Proxy::with(&origin.url(), &["--trust-forwarded", "127.0.0.1"]).await;
    let request = |fields: &str| format!("GET /a HTTP/1.1\r\nHost: lb.test\r\n{fields}\r\n");
    let cases = [
        ("X-Forwarded-Host: a.test\r\n", "one"),
        ("X-Forwarded-Host: b.test\r\n", "two"),
        ("X-Forwarded-Host: a.test\r\nX-Forwarded-Proto: https\r\n", "three"),
    ];
    for (fields, text) in cases {
        let hit = || async {
            let answer = ask(&proxy, request(fields)).await;
            assert_eq!(answer.text(), text, "{fields}");
            answer.is_hit().then_some(())
        };
        crate::support::gate::until_some("the answer is stored", hit).await;
    }
    ask(&proxy, request("X-Forwarded-Host: a/b\r\n")).await.is_refusal(400);
}

#[tokio::test]
async fn fields_of_the_connection_end_at_the_proxy() {
    let fields = "Connection: keep-alive, X-Private, TE\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\n\
                  Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Public: 1\r\n";
    let received = forwarded(&[], fields).await;
    for gone in ["connection", "x-private", "keep-alive", "te", "proxy-connection", "upgrade", "http2-settings"] {
        assert_eq!(received.values(gone), Vec::<&str>::new(), "{}", received.head);
    }
    assert_eq!(received.values("x-public"), ["1"]);
}

#[tokio::test]
async fn connection_cannot_strike_off_what_identifies_frames_or_steers_caching() {
    let named =
        "Host, Cookie, Authorization, Cache-Control, Content-Type, X-Forwarded-For, X-Real-IP, Via, Accept-Encoding";
    let fields = format!(
        "Connection: {named}\r\nConnection: close\r\nCookie: a=b\r\nAuthorization: Basic x\r\nCache-Control: no-cache\r\n\
         Content-Type: text/plain\r\nAccept-Encoding: gzip\r\n"
    );
    let received = forwarded(&[], &fields).await;
    for kept in named.split(", ") {
        assert_eq!(received.values(kept).len(), 1, "{kept} in\n{}", received.head);
    }
}

#[tokio::test]
async fn fields_of_the_origins_connection_end_at_the_proxy_too() {
    let origin = Origin::start().await;
    let script = Script::ok("hello")
        .header("connection", "x-private, set-cookie, cache-control")
        .header("x-private", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("upgrade", "h2c")
        .header("set-cookie", "a=b")
        .header("cache-control", "private")
        .header("x-public", "1");
    origin.says("/a", script);
    let proxy = Proxy::before(&origin.url()).await;
    let answer = get(&proxy, "/a").await;
    for gone in ["connection", "x-private", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(answer.value(gone), None, "{}", answer.head);
    }
    for (kept, value) in [("set-cookie", "a=b"), ("cache-control", "private"), ("x-public", "1")] {
        assert_eq!(answer.value(kept), Some(value), "{}", answer.head);
    }
}

#[tokio::test]
async fn the_proxys_answers_are_http_1_1_whatever_the_origin_speaks() {
    let origin = Origin::start().await;
    origin.says("/a", Script::raw("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"));
    let proxy = Proxy::before(&origin.url()).await;
    let answer = get(&proxy, "/a").await;
    assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
    assert!(!answer.closes(), "{}", answer.head);
}

#[tokio::test]
async fn a_redirect_to_the_origin_becomes_one_to_the_proxy() {
    let origin = Origin::start().await;
    let redirect = |to: String| Script::status("301 Moved Permanently").header("location", &to).body("");
    origin.says("/dir", redirect(format!("{}//dir/?a", origin.url())));
    origin.says("/away", redirect(format!("{}9/", origin.url())));
    origin.says("/relative", redirect("/dir/".to_owned()));
    let proxy = Proxy::before(&origin.url()).await;
    assert_eq!(get(&proxy, "/dir").await.value("location"), Some("http://site.test//dir/?a"));
    assert_eq!(get(&proxy, "/away").await.value("location"), Some(&*format!("{}9/", origin.url())));
    assert_eq!(get(&proxy, "/relative").await.value("location"), Some("/dir/"));
}

#[tokio::test]
async fn a_request_that_comes_back_to_the_proxy_ends_the_loop() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address").port();
    let itself = format!("http://127.0.0.1:{port}");
    let mut command = crate::running::command();
    command.args(["--origin", &itself, "--listen", &format!("127.0.0.1:{port}")]);
    let proxy = Proxy::start(command).await;
    get(&proxy, "/a").await.is_refusal(508);
}

#[tokio::test]
async fn two_proxies_in_a_row_are_no_loop() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello"));
    let inner = Proxy::before(&origin.url()).await;
    let outer = Proxy::before(&format!("http://{}", inner.address())).await;
    assert_eq!(get(&outer, "/a").await.text(), "hello");
    assert_eq!(origin.received()[0].values("via").len(), 2);
}

#[tokio::test]
async fn an_http2_request_reaches_an_http1_origin_whole() {
    let origin = Origin::start().await;
    origin.says("/a?b=%2F", Script::ok("hello"));
    let proxy = Proxy::before(&origin.url()).await;
    let request = Request::get("http://site.test:8080/a?b=%2F").header("cookie", "a=b");
    let request: Request<Empty<Bytes>> = request.body(Empty::new()).expect("a request");
    assert_eq!(ask_http2(&proxy, request).await.status(), 200);
    let received = &origin.received()[0];
    assert_eq!(received.target(), "/a?b=%2F");
    assert_eq!(received.values("x-forwarded-host"), ["site.test:8080"]);
    assert_eq!(received.values("cookie"), ["a=b"]);
    assert!(received.values("via")[0].starts_with("2.0 "), "{}", received.head);
}

#[tokio::test]
async fn an_https_origin_is_reached_when_its_certificate_is_trusted() {
    let origin = TlsOrigin::start();
    let proxy = Proxy::with(&origin.url(), &["--origin-ca", TlsOrigin::certificate()]).await;
    let answer = get(&proxy, "/a").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "secret hello"), "{}", answer.head);
}

#[tokio::test]
async fn an_https_origin_with_an_unknown_certificate_is_a_502() {
    let origin = TlsOrigin::start();
    let proxy = Proxy::before(&origin.url()).await;
    get(&proxy, "/a").await.is_refusal(502);
    proxy.logs(1, |line| line.contains("cannot be reached") && line.contains("ertificate")).await;
}
