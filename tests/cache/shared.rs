//! What only a shared store can show: several instances, and what stands in Redis.

use crate::support::scripted::ok;
use crate::support::story::{Stage, ask, get, seconds};

#[tokio::test]
async fn instances_share_what_one_of_them_stored() {
    let stage = Stage::redis();
    let (one, other) = (stage.story(), stage.story());
    let large = "0123456789".repeat(60_000);
    one.origin_says(ok("small").cache_control("max-age=60"));
    one.client_asks(get("/small")).await.is_stored();
    one.origin_says(ok(large.clone()).cache_control("max-age=60"));
    one.client_asks(get("/large")).await.is_stored();
    other.client_asks(get("/small")).await.is_hit().has_body("small");
    other.client_asks(get("/large")).await.is_hit().has_body(&large);
    other.origin_was_asked(0);
}

#[tokio::test]
async fn a_restarted_instance_finds_the_cache_warm() {
    let stage = Stage::redis();
    {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("vary", "accept"));
        story.client_asks(get("/a").header("accept", "text/html")).await.is_stored();
    }
    let story = stage.story();
    story.client_asks(get("/a").header("accept", "text/html")).await.is_hit().has_body("hello");
}

#[tokio::test]
async fn namespaces_share_nothing() {
    let stage = Stage::redis();
    let named = |name: &'static str| stage.story_with(move |config| config.namespace(name).expect("a namespace"));
    let (one, other) = (named("one"), named("other"));
    one.origin_says(ok("one").cache_control("max-age=60"));
    other.origin_says(ok("other").cache_control("max-age=60"));
    one.client_asks(get("/a")).await.is_stored();
    other.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("other");
    one.client_asks(get("/a")).await.is_hit().has_body("one");
}

#[tokio::test]
async fn every_key_is_in_the_namespace_and_has_a_ttl() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.namespace("site-7").expect("a namespace"));
    story.origin_says(ok("small").cache_control("max-age=60"));
    story.client_asks(get("/small")).await.is_stored();
    story.origin_says(ok("0123456789".repeat(60_000)).cache_control("max-age=60"));
    story.client_asks(get("/large")).await.is_stored();
    story.origin_says(ok("varied").cache_control("max-age=60").header("vary", "accept"));
    story.client_asks(get("/varied").header("accept", "a")).await.is_stored();
    story.client_asks(get("/varied").header("accept", "b")).await.is_stored();
    let lives = |key: &str| stage.server().cli(&["PTTL", key]).parse::<i64>().expect("a number");
    let keys = stage.server().keys("*");
    assert!(keys.len() >= 6, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("site-7:{"), "{key}");
        assert!((1..=4_000_000).contains(&lives(&key)), "{key} lives for {} ms", lives(&key));
    }
    let mut clock = stage.server().all_keys("*{purge}*");
    // That of the probe ends within a second.
    clock.retain(|key| key != "site-7:{purge}:probe");
    assert_eq!(clock, ["site-7:{purge}"]);
    assert!(lives(&clock[0]) > 89 * 24 * 60 * 60 * 1000, "longer than anything is stored");
}

#[tokio::test]
async fn the_keys_of_one_entry_share_a_slot() {
    let stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("0123456789".repeat(60_000)).cache_control("max-age=60").header("vary", "accept"));
    story.client_asks(get("/a").header("accept", "a")).await.is_stored();
    story.client_asks(get("/a").header("accept", "b")).await.is_stored();
    let keys = stage.server().keys("*");
    assert!(keys.len() >= 3, "{keys:?}");
    let tag = |key: &String| key.split(['{', '}']).nth(1).expect("a hash tag").to_owned();
    assert!(keys.iter().all(|key| tag(key) == tag(&keys[0])), "{keys:?}");
}

#[tokio::test]
async fn no_secret_of_a_request_is_written_to_redis() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| {
        let key = tower_redis_cache::DefaultKey::new().cookie("plan").header("authorization").expect("a field name");
        config.key(key)
    });
    let vary = "cookie, authorization, x-api-key";
    story.origin_says(ok("page").cache_control("public, max-age=60").header("vary", vary));
    let ask = get("/a").header("cookie", "plan=c00kie-secret").header("authorization", "Bearer t0ken-secret");
    story.client_asks(ask.header("x-api-key", "k3y-secret")).await.is_stored();
    let keys = stage.server().keys("*");
    assert!(!keys.is_empty());
    for key in keys {
        let value = stage.server().value(&key).expect("the keys are strings");
        assert!(!String::from_utf8_lossy(&value).contains("-secret"), "{key} holds a secret");
        assert!(!key.contains("secret"), "{key}");
    }
}

#[tokio::test]
async fn nothing_but_caching_commands_is_sent() {
    let stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("x").cache_control("max-age=60"));
    for number in 0..20 {
        story.client_asks(get(&format!("/{number}"))).await.is_stored();
        story.client_asks(get(&format!("/{number}"))).await.is_hit();
    }
    for forbidden in ["keys", "scan", "flushdb", "flushall", "monitor", "del"] {
        // The test's own administrator has asked nothing yet.
        assert_eq!(stage.server().calls(forbidden), 0, "{forbidden}");
    }
}

#[tokio::test]
async fn a_hit_costs_one_round_trip() {
    let stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("x").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    stage.server().cli(&["CONFIG", "RESETSTAT"]);
    for _ in 0..50 {
        story.client_asks(get("/a")).await.is_hit();
    }
    let server = stage.server();
    let reads: u64 =
        ["get", "mget", "getrange", "strlen", "evalsha", "eval"].iter().map(|command| server.calls(command)).sum();
    assert!(reads <= 60, "{reads} reads for 50 hits: {}", server.cli(&["INFO", "commandstats"]));
}

#[tokio::test]
async fn redis_forgets_what_is_no_longer_fresh() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.max_ttl(seconds(1)).keep_stale(seconds(0)));
    story.origin_says(ok("x").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    for key in stage.server().keys("*") {
        let ttl: u64 = stage.server().cli(&["PTTL", &key]).parse().expect("a number");
        assert!(ttl <= 120_000, "{key} outlives its response of one second by far: {ttl} ms");
    }
}

#[tokio::test]
async fn what_a_change_ends_leaves_redis_at_once() {
    let stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("varied").cache_control("max-age=60").header("vary", "accept"));
    for accept in ["a", "b", "c"] {
        story.client_asks(get("/a").header("accept", accept)).await.is_stored();
    }
    assert_eq!(stage.server().keys("*").len(), 4, "three variants and their index");
    story.client_asks(ask("DELETE", "/a")).await.has_status(200);
    assert!(stage.server().keys("*").is_empty(), "{:?}", stage.server().keys("*"));
}

#[tokio::test]
async fn a_missing_part_of_a_body_is_a_miss_and_mended() {
    let stage = Stage::redis();
    let story = stage.story();
    let body = "0123456789".repeat(80_000);
    story.origin_says(ok(body.clone()).cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    let parts: Vec<String> = stage.server().keys("*").into_iter().filter(|key| key.contains(":b:")).collect();
    assert!(parts.len() >= 2, "a large body has parts: {parts:?}");
    assert_eq!(stage.server().cli(&["DEL", &parts[1]]), "1");
    let answer = story.client_asks(get("/a")).await;
    answer.has_status(200).has_body(&body);
    assert!(!answer.outcome().is_hit());
    story.client_asks(get("/a")).await.is_hit().has_body(&body);
}

#[tokio::test]
async fn an_unread_layer_makes_no_connection() {
    let stage = Stage::redis();
    let before = stage.server().info("total_connections_received");
    let story = stage.story();
    drop(story.handle.clone());
    drop(story);
    // One more is the administrator's own, who asks.
    assert_eq!(stage.server().info("total_connections_received"), before + 1);
}

#[tokio::test]
async fn the_parts_of_a_replaced_body_end_soon() {
    let stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("0123456789".repeat(80_000)).cache_control("max-age=86400"));
    story.client_asks(get("/a")).await.is_stored();
    for _ in 0..5 {
        story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
    }
    let long_lived = |key: &String| stage.server().cli(&["PTTL", key]).parse::<i64>().expect("a number") > 120_000;
    let parts = || stage.server().keys("*").into_iter().filter(|key| key.contains(":b:") && long_lived(key)).count();
    assert_eq!(parts(), 4, "one writing of 800,000 octets in parts of 256 KiB");
    story.client_asks(ask("DELETE", "/a")).await.has_status(200);
    assert_eq!(parts(), 0);
}

#[tokio::test]
async fn an_answer_without_a_body_reads_none() {
    let stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("0123456789".repeat(80_000)).cache_control("max-age=60").header("etag", "\"a\""));
    story.client_asks(get("/a")).await.is_stored();
    let before = stage.server().info("total_net_output_bytes");
    story.client_asks(crate::support::story::head("/a")).await.is_hit();
    story.client_asks(get("/a").header("if-none-match", "\"a\"")).await.is_hit().has_status(304);
    let read = stage.server().info("total_net_output_bytes") - before;
    assert!(read < 100_000, "{read} octets for two heads");
}
