//! What an origin can do wrong, and what becomes of it: never a stored half, never a half that looks whole.

use crate::gateway::{Gateway, is_forwarded, is_hit, split};
use std::time::Duration;

use tower_redis_cache::CacheConfig;

use crate::support::gate::{Gate, eventually};
use crate::support::origin::{Origin, Script};

/// The first answer is cut visibly; the second one comes from the origin again, whole, and only then there are hits.
async fn is_never_stored(origin: &Origin, gateway: &Gateway, looks_whole: impl Fn(&str) -> bool) {
    let cut = gateway.get("/a").await;
    assert!(!looks_whole(&cut), "a cut answer looks whole: {cut:?}");
    origin.says("/a", Script::ok("whole").header("cache-control", "max-age=60"));
    let whole = gateway.get("/a").await;
    is_forwarded(&whole);
    assert_eq!(split(&whole).1, "whole");
    is_hit(&gateway.get("/a").await);
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test]
async fn a_body_shorter_than_its_content_length_is_cut_and_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.says("/a", Script::ok("half").declares(8).header("cache-control", "max-age=60"));
    is_never_stored(&origin, &gateway, |answer| split(answer).1.len() == 8).await;
}

#[tokio::test]
async fn a_chunked_body_without_its_last_chunk_is_cut_and_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let script = Script::status("200 OK").chunked(["one", "two"]).without_last_chunk();
    origin.says("/a", script.header("cache-control", "max-age=60"));
    is_never_stored(&origin, &gateway, |answer| answer.ends_with("0\r\n\r\n")).await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_body_is_cut_and_not_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let script = Script::status("200 OK").chunked(["one", "two"]).without_last_chunk().then_resets();
    origin.says("/a", script.header("cache-control", "max-age=60"));
    is_never_stored(&origin, &gateway, |answer| answer.ends_with("0\r\n\r\n")).await;
}

#[tokio::test]
async fn a_body_that_hangs_is_not_stored_when_its_client_gives_up() {
    let origin = Origin::start().await;
    let config = CacheConfig::default().unread_timeout(Duration::from_millis(20));
    let gateway = Gateway::configured(&origin, config).await;
    let gate = Gate::closed();
    let script = Script::status("200 OK").chunked(["one"]).chunk_gate(&gate).and_chunks(["two"]);
    origin.says("/a", script.header("cache-control", "max-age=60"));
    let mut client = gateway.connect().await;
    client.send("GET /a HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    client.until("one").await;
    drop(client);
    eventually("the recording is given up", || gateway.handle.stats().abandoned == 1).await;
    gate.open();
    origin.says("/a", Script::ok("whole").header("cache-control", "max-age=60"));
    assert_eq!(split(&gateway.get("/a").await).1, "whole");
    is_hit(&gateway.get("/a").await);
}

#[tokio::test]
async fn octets_behind_the_content_length_are_nobodys() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let raw = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\
               cache-control: max-age=60\r\ncontent-length: 4\r\n\r\nevil";
    origin.says("/a", Script::raw(raw));
    origin.says("/b", Script::ok("fine").header("cache-control", "max-age=60"));
    assert_eq!(split(&gateway.get("/a").await).1, "hello");
    assert_eq!(split(&gateway.get("/b").await).1, "fine");
    assert_eq!(split(&gateway.get("/a").await).1, "hello");
    assert_eq!(split(&gateway.get("/b").await).1, "fine");
}

#[tokio::test]
async fn an_origin_that_resets_or_babbles_stores_nothing_and_comes_back() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for script in [Script::reset(), Script::raw("nonsense\r\n\r\n"), Script::raw("")] {
        origin.says("/a", script);
        let answer = gateway.get("/a").await;
        assert!(!answer.contains("200 OK"), "{answer:?}");
    }
    origin.says("/a", Script::ok("back").header("cache-control", "max-age=60"));
    let answer = gateway.get("/a").await;
    is_forwarded(&answer);
    assert_eq!(split(&answer).1, "back");
    is_hit(&gateway.get("/a").await);
}
