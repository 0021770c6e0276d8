//! The main job: the second request does not reach the origin.

use hyper::Request;

use crate::running::Proxy;
use crate::support::origin::{Origin, Script};
use crate::support::redis::RedisServer;
use crate::wire::{Wire, ask, ask_http2, get, get_hit};

fn page() -> Script {
    Script::ok("hello").header("cache-control", "max-age=60").header("content-type", "text/plain")
}

async fn the_second_request_is_a_hit(arguments: &[&str]) {
    let origin = Origin::start().await;
    // Bytes of every value, in more than one piece of the proxy's.
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n * 7 % 256) as u8).collect();
    origin.says("/b", Script::ok(&body).header("cache-control", "max-age=60").header("etag", "\"v1\""));
    let proxy = Proxy::with(&origin.url(), arguments).await;
    let miss = get(&proxy, "/b").await;
    assert!(!miss.is_hit() && miss.body == body, "{}", miss.head);
    let hit = get_hit(&proxy, "/b").await;
    assert!(hit.body == body && hit.value("age").is_some() && hit.value("etag") == Some("\"v1\""), "{}", hit.head);
    let asked = origin.count("/b");
    let again = get(&proxy, "/b").await;
    assert!(again.is_hit() && again.body == body, "{}", again.head);
    assert_eq!(origin.count("/b"), asked);
    let known = ask(&proxy, "GET /b HTTP/1.1\r\nHost: site.test\r\nIf-None-Match: \"v1\"\r\n\r\n").await;
    assert_eq!((known.status, origin.count("/b")), (304, asked), "{}", known.head);
}

/// Whichever thread a connection is with, and whichever fetched it.
#[tokio::test]
async fn threads_share_what_is_stored() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=60"));
    origin.says("/b", Script::ok("private").header("cache-control", "private"));
    let proxy = Proxy::with(&origin.url(), &["--threads", "3"]).await;
    get_hit(&proxy, "/a").await;
    // Each with a connection of its own.
    for _ in 0..6 {
        assert!(get(&proxy, "/a").await.is_hit());
        assert_eq!(get(&proxy, "/b").await.text(), "private");
    }
    assert_eq!((origin.count("/a"), origin.count("/b")), (1, 6));
}

#[tokio::test]
async fn with_memory_the_second_request_is_a_hit_byte_for_byte() {
    the_second_request_is_a_hit(&[]).await;
}

#[tokio::test]
async fn with_redis_the_second_request_is_a_hit_byte_for_byte() {
    let redis = RedisServer::start();
    the_second_request_is_a_hit(&["--redis", &redis.url()]).await;
}

#[tokio::test]
async fn two_proxies_on_one_redis_share_what_they_store_within_a_namespace() {
    let redis = RedisServer::start();
    let origin = Origin::start().await;
    origin.says("/a", page());
    let url = redis.url();
    let first = Proxy::with(&origin.url(), &["--redis", &url, "--namespace", "one"]).await;
    let second = Proxy::with(&origin.url(), &["--redis", &url, "--namespace", "one"]).await;
    let stranger = Proxy::with(&origin.url(), &["--redis", &url, "--namespace", "two"]).await;
    get_hit(&first, "/a").await;
    get_hit(&second, "/a").await;
    assert!(!get(&stranger, "/a").await.is_hit());
    assert!(redis.keys("*").iter().any(|key| key.starts_with("one")), "{:?}", redis.keys("*"));
}

#[tokio::test]
async fn http2_with_prior_knowledge_shares_the_entries_of_http1() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = Proxy::before(&origin.url()).await;
    get_hit(&proxy, "/a").await;
    let request = Request::get("http://site.test/a").body(Default::default()).expect("a request");
    let response = ask_http2(&proxy, request).await;
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"hello"[..]));
    let status = response.headers()["cache-status"].to_str().expect("text");
    assert!(status.starts_with("tower-redis-cache; hit"), "{status}");
}

#[tokio::test]
async fn head_is_answered_from_what_get_stored() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = Proxy::before(&origin.url()).await;
    get_hit(&proxy, "/a").await;
    let mut wire = Wire::to(&proxy).await;
    wire.says("HEAD /a HTTP/1.1\r\nHost: site.test\r\n\r\nGET /a HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    let head = wire.hears_head().await;
    assert!(head.is_hit() && head.value("content-length") == Some("5"), "{}", head.head);
    assert_eq!(wire.hears().await.text(), "hello");
}

#[tokio::test]
async fn every_host_has_its_own_entries() {
    let origin = Origin::start().await;
    origin.says_in_turn("/a", [page().body("first"), page().body("second")]);
    let proxy = Proxy::before(&origin.url()).await;
    assert_eq!(get_hit(&proxy, "/a").await.text(), "first");
    let other = ask(&proxy, "GET /a HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert!(!other.is_hit() && other.text() == "second", "{}", other.head);
}

#[tokio::test]
async fn default_ttl_keeps_what_does_not_say_how_long_it_is_fresh() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello"));
    let strict = Proxy::before(&origin.url()).await;
    let lenient = Proxy::with(&origin.url(), &["--default-ttl", "60s"]).await;
    get_hit(&lenient, "/a").await;
    for _ in 0..3 {
        assert!(!get(&strict, "/a").await.is_hit());
    }
}

#[tokio::test]
async fn a_body_over_the_cap_reaches_the_client_and_is_not_stored() {
    let origin = Origin::start().await;
    let large = vec![b'x'; 70_000];
    origin.says("/large", Script::ok(&large).header("cache-control", "max-age=60"));
    origin.says("/small", page());
    let proxy = Proxy::with(&origin.url(), &["--max-body-size", "64k"]).await;
    get_hit(&proxy, "/small").await;
    for _ in 0..3 {
        let answer = get(&proxy, "/large").await;
        assert!(!answer.is_hit() && answer.body == large, "{}", answer.head);
    }
}

#[tokio::test]
async fn ignored_query_parameters_reach_neither_the_key_nor_the_origin() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = Proxy::with(&origin.url(), &["--ignore-query", "utm_*,fbclid", "--sort-query"]).await;
    get_hit(&proxy, "/a?b=2&utm_source=x&a=1&fbclid=y").await;
    assert!(get(&proxy, "/a?a=1&b=2&utm_medium=z").await.is_hit());
    assert!(!get(&proxy, "/a?a=1&b=3").await.is_hit());
    let targets: Vec<String> = origin.received().iter().map(|request| request.target().to_owned()).collect();
    assert!(targets.iter().all(|target| target == "/a?a=1&b=2" || target == "/a?a=1&b=3"), "{targets:?}");
}

#[tokio::test]
async fn headers_and_cookies_can_be_made_part_of_the_key() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = Proxy::with(&origin.url(), &["--key-header", "X-Device", "--key-cookie", "lang"]).await;
    let request = |device: &str, cookie: &str| {
        format!(
            "GET /a HTTP/1.1\r\nHost: site.test\r\nX-Device: {device}\r\nCookie: lang={cookie}; other={cookie}1\r\n\r\n"
        )
    };
    let hit = || async { ask(&proxy, request("phone", "en")).await.is_hit().then_some(()) };
    crate::support::gate::until_some("the entry is stored", hit).await;
    assert!(!ask(&proxy, request("desk", "en")).await.is_hit());
    assert!(!ask(&proxy, request("phone", "de")).await.is_hit());
}
