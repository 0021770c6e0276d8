//! What other caches were found to do wrong with Redis, one test for each.

use crate::support::scripted::{ok, status};
use crate::support::story::{Stage, ask, get, head, seconds};

// A cache wrote a value and its lifetime in two steps: what came between them stayed for ever. Another set a lifetime
// of zero for less than a second.
#[tokio::test]
async fn no_key_is_without_a_lifetime_whatever_wrote_it() {
    let stage = Stage::redis();
    let story = stage.story();
    let large = "0123456789".repeat(60_000);
    for target in ["/small", "/large", "/varied"] {
        let body = if target == "/large" { large.clone() } else { "x".to_owned() };
        let length = body.len().to_string();
        let page = ok(body).cache_control("max-age=60").header("etag", "\"v1\"").header("content-length", &length);
        story.origin_says(if target == "/varied" { page.header("vary", "accept") } else { page });
        story.client_asks(get(target)).await.is_stored();
        story.time_passes(seconds(60));
        story.origin_says(status(304).header("etag", "\"v1\""));
        story.client_asks(get(target)).await.is_stored();
        story.time_passes(seconds(60));
        story
            .origin_says(ok("").header("etag", "\"v1\"").header("content-length", &length).cache_control("max-age=60"));
        story.client_asks(head(target)).await.has_status(200);
    }
    story.origin_says(ok("x").cache_control("max-age=1").header("age", "0"));
    story.client_asks(get("/short")).await.is_stored();
    story.origin_says(status(204));
    story.client_asks(ask("POST", "/large")).await.has_status(204);
    let keys = stage.server().keys("*");
    assert!(keys.len() >= 4, "{keys:?}");
    for key in keys {
        let left: i64 = stage.server().cli(&["PTTL", &key]).parse().expect("a number");
        assert!(left > 0, "{key}: {left}");
    }
}

// A cache failed the request when its store failed; another panicked.
#[tokio::test]
async fn a_store_that_fails_fails_no_request() {
    let mut stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("x").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    stage.server_mut().kill();
    for _ in 0..3 {
        story.client_asks(get("/a")).await.has_status(200).has_body("x");
        story.client_asks(head("/a")).await.has_status(200);
        story.client_asks(ask("POST", "/a").body("y")).await.has_status(200).has_body("x");
        story.client_asks(get("/a").header("range", "bytes=0-0")).await.has_status(200);
    }
}

// A cache opened a connection for each request.
#[tokio::test]
async fn requests_share_a_few_connections() {
    let stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("x").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    let before = stage.server().info("total_connections_received");
    for number in 0..50 {
        story.client_asks(get(&format!("/{}", number % 10))).await;
        story.client_asks(ask("POST", "/b")).await;
    }
    let after = stage.server().info("total_connections_received");
    assert!(after - before <= 8, "{} connections for 100 requests", after - before);
}

// A cache emptied the whole database where it should have emptied itself.
#[tokio::test]
async fn what_belongs_to_others_in_the_same_database_stays() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.namespace("ours").expect("a namespace"));
    stage.server().cli(&["SET", "theirs", "1"]);
    stage.server().cli(&["SET", "ours", "2"]);
    story.origin_says(ok("x").cache_control("max-age=60").header("vary", "accept"));
    for accept in ["a", "b"] {
        story.client_asks(get("/a").header("accept", accept)).await.is_stored();
    }
    story.origin_says(status(204).header("location", "/b"));
    story.client_asks(ask("DELETE", "/a")).await.has_status(204);
    assert_eq!(stage.server().keys("*"), ["ours", "theirs"]);
}

// The key of a cache was a hash of 32 bits that nobody checked: two URIs, or two users, shared one.
#[tokio::test]
async fn an_entry_under_the_key_of_another_is_not_served() {
    let stage = Stage::redis();
    let story = stage.story();
    for body in ["one", "two"] {
        story.origin_says(ok(body).cache_control("max-age=60"));
        story.client_asks(get(&format!("/{body}"))).await.is_stored();
    }
    let keys = stage.server().keys("*");
    let [one, other] = &keys[..] else { panic!("two entries: {keys:?}") };
    let (first, second) = (stage.server().value(one).expect("a value"), stage.server().value(other).expect("a value"));
    for (key, value) in [(one, &second), (other, &first)] {
        stage.server().cli_bytes(&[b"SET", key.as_bytes(), value, b"PX", b"60000"]);
    }
    story.origin_says(ok("fetched").cache_control("no-store"));
    for target in ["/one", "/two"] {
        story.client_asks(get(target)).await.is_forwarded_for("uri-miss").has_body("fetched");
    }
    assert_eq!(story.handle.stats().entries_mismatched, 2);
}
