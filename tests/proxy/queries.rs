//! QUERY: what is asked for is in the content, so the proxy reads it before it looks anything up.

use std::time::{Duration, Instant};

use crate::running::Proxy;
use crate::support::gate::until_some;
use crate::support::origin::{Origin, Script};
use crate::support::redis::RedisServer;
use crate::wire::{Answer, End, Wire, ask};

fn found() -> Script {
    Script::ok("found").header("cache-control", "max-age=60")
}

fn query(content_type: &str, content: &str) -> String {
    let length = content.len();
    format!(
        "QUERY /a HTTP/1.1\r\nHost: site.test\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{content}"
    )
}

fn chunked(chunks: &[&str]) -> String {
    let chunks: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    format!(
        "QUERY /a HTTP/1.1\r\nHost: site.test\r\nContent-Type: text/sql\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    )
}

/// Asks again and again until the answer comes from the cache.
async fn query_hit(proxy: &Proxy, request: &str) -> Answer {
    until_some("the answer comes from the cache", || async {
        let answer = ask(proxy, request).await;
        answer.is_hit().then_some(answer)
    })
    .await
}

async fn a_query_is_a_hit_for_the_same_content_and_type(arguments: &[&str]) {
    let origin = Origin::start().await;
    origin.says("/a", found());
    let proxy = Proxy::with(&origin.url(), arguments).await;
    let one = query("text/sql", "select 1");
    let first = ask(&proxy, &one).await;
    assert!(!first.is_hit() && first.text() == "found", "{}", first.head);
    let received = origin.received().remove(0);
    assert_eq!((received.method(), &received.body[..]), ("QUERY", &b"select 1"[..]));
    assert_eq!((received.values("content-type"), received.values("content-length")), (vec!["text/sql"], vec!["8"]));
    assert_eq!(query_hit(&proxy, &one).await.text(), "found");
    let asked = origin.count("/a");
    assert!(ask(&proxy, chunked(&["sel", "ect 1"])).await.is_hit(), "the same content, framed in another way");
    assert_eq!(origin.count("/a"), asked);
    for other in [query("text/sql", "select 2"), query("text/plain", "select 1"), query("text/sql", "")] {
        let answer = ask(&proxy, &other).await;
        assert!(!answer.is_hit() && answer.text() == "found", "{other}: {}", answer.head);
    }
    assert_eq!(origin.received().last().map(|received| received.body.len()), Some(0));
    let changed = ask(&proxy, "DELETE /a HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    assert_eq!(changed.status, 200);
    assert!(!ask(&proxy, &one).await.is_hit(), "what was found has changed");
}

#[tokio::test]
async fn with_memory_a_query_is_a_hit_for_the_same_content_and_type() {
    a_query_is_a_hit_for_the_same_content_and_type(&[]).await;
}

#[tokio::test]
async fn with_redis_a_query_is_a_hit_for_the_same_content_and_type() {
    let redis = RedisServer::start();
    a_query_is_a_hit_for_the_same_content_and_type(&["--redis", &redis.url()]).await;
}

#[tokio::test]
async fn a_querys_content_is_read_up_to_the_bound_however_it_is_framed() {
    let origin = Origin::start().await;
    origin.says("/a", found());
    let proxy = Proxy::with(&origin.url(), &["--max-query-content", "1k"]).await;
    let most = "x".repeat(1024);
    let more = "x".repeat(1025);
    for request in [query("text/sql", &more), chunked(&[&most, "x"])] {
        ask(&proxy, &request).await.is_refusal(413);
    }
    assert_eq!(origin.received().len(), 0);
    for request in [query("text/sql", &most), chunked(&[&most[..1000], &most[1000..]])] {
        assert_eq!(ask(&proxy, &request).await.text(), "found");
    }
    assert!(origin.received().iter().all(|received| received.body == most.as_bytes()));
    let longer = "x".repeat(65_536);
    let proxy = Proxy::before(&origin.url()).await;
    assert_eq!(ask(&proxy, query("text/sql", &longer)).await.text(), "found");
    ask(&proxy, query("text/sql", &format!("{longer}x"))).await.is_refusal(413);
}

#[tokio::test]
async fn an_origins_own_413_is_passed_on_as_it_is() {
    let origin = Origin::start().await;
    origin.says("/a", Script::status("413 Content Too Large").body("the origin's words"));
    let proxy = Proxy::before(&origin.url()).await;
    let answer = ask(&proxy, query("text/sql", "select 1")).await;
    assert_eq!((answer.status, answer.text().as_str()), (413, "the origin's words"));
    assert!(answer.value("cache-status").is_some(), "{}", answer.head);
}

#[tokio::test]
async fn with_a_bound_of_zero_a_query_passes_whole_and_uncached() {
    let origin = Origin::start().await;
    origin.says("/a", found());
    let proxy = Proxy::with(&origin.url(), &["--max-query-content", "0"]).await;
    let long = "x".repeat(100_000);
    for _ in 0..3 {
        let answer = ask(&proxy, query("text/sql", &long)).await;
        assert!(!answer.is_hit() && answer.text() == "found", "{}", answer.head);
    }
    assert!(origin.received().iter().all(|received| received.body == long.as_bytes()));
    assert_eq!(origin.count("/a"), 3);
}

#[tokio::test]
async fn a_querys_content_is_asked_for_only_where_it_is_wanted() {
    let origin = Origin::start().await;
    origin.says("/a", found());
    let proxy = Proxy::with(&origin.url(), &["--max-query-content", "1k"]).await;
    let head = |length: usize| {
        format!("QUERY /a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n")
    };
    let mut wire = Wire::to(&proxy).await;
    wire.says(head(5)).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 100"));
    wire.says("hello").await;
    assert_eq!(wire.hears().await.text(), "found");
    let received = origin.received().remove(0);
    assert_eq!((received.values("expect"), &received.body[..]), (vec![], &b"hello"[..]));
    let mut wire = Wire::to(&proxy).await;
    wire.says(head(2000)).await;
    let begun = Instant::now();
    wire.hears().await.is_refusal(413);
    assert_eq!(wire.end().await, End::Closed(Vec::new()));
    assert!(begun.elapsed() < Duration::from_secs(4), "the content was waited for");
    assert_eq!(origin.received().len(), 1);
}

#[tokio::test]
async fn a_querys_content_that_stalls_is_answered_with_408_and_the_connection_closed() {
    let origin = Origin::start().await;
    origin.says("/a", found());
    let proxy = Proxy::with(&origin.url(), &["--idle-timeout", "300ms"]).await;
    let requests = [
        "QUERY /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "QUERY /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ];
    for request in requests {
        let mut wire = Wire::to(&proxy).await;
        wire.says(request).await;
        let answer = wire.hears().await;
        answer.is_refusal(408);
        assert!(answer.closes(), "{}", answer.head);
        assert_eq!(wire.end().await, End::Closed(Vec::new()));
    }
    assert_eq!(origin.received().len(), 0, "the origin never saw a whole request");
}

#[tokio::test]
async fn what_is_not_sound_is_refused_before_a_querys_content_is_read() {
    let origin = Origin::start().await;
    let proxy = Proxy::before(&origin.url()).await;
    for (request, status) in [
        ("QUERY /a HTTP/1.1\r\nHost: a b\r\nContent-Length: 100\r\n\r\n", 400),
        ("QUERY /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("QUERY /a HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 100\r\n\r\n", 417),
    ] {
        ask(&proxy, request).await.is_refusal(status);
    }
    // The rest of a refused content is not taken for the next request.
    let mut wire = Wire::to(&proxy).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3000);
    wire.says(query("text/sql", &hidden)).await;
    wire.hears().await.is_refusal(413);
    origin.says("/next", Script::ok("next"));
    wire.says("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.hears().await.text(), "next");
    assert_eq!(origin.count("/hidden"), 0);
}
