//! The memory tier in front of Redis: it asks nobody, and serves nothing that Redis would not.

use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use tower_redis_cache::{CacheConfig, PurgeMode, PurgeTarget};

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Stage, Story, ask, get, head, seconds};
use crate::targets::{is_purged, url};
use crate::troupe::client;

fn near(stage: &Stage) -> Story {
    near_with(stage, |config| config)
}

fn near_with(stage: &Stage, settings: impl FnOnce(CacheConfig) -> CacheConfig) -> Story {
    stage.story_with(|config| settings(config.near_cache(1 << 20)))
}

fn page(body: &'static str) -> Reply {
    ok(body).cache_control("max-age=600").header("cache-tag", "t").header("etag", "\"v\"")
}

fn near_hits(story: &Story) -> u64 {
    story.handle.stats().near_hits
}

/// It is stored, and was read once.
async fn has_page(story: &Story, target: &str) {
    story.origin_says(page("old"));
    story.client_asks(get(target).header("cache-control", "no-cache")).await.is_stored();
    story.client_asks(get(target)).await.is_hit().has_body("old");
    story.origin_says(page("new"));
}

/// The next answer comes from this process's memory.
async fn is_near(story: &Story, target: &str) {
    let before = near_hits(story);
    story.client_asks(get(target)).await.is_hit().has_body("old");
    assert_eq!(near_hits(story), before + 1, "{target}");
}

#[tokio::test]
async fn a_hit_in_memory_asks_nobody_and_is_like_any_other() {
    let stage = Stage::redis();
    let story = near(&stage);
    has_page(&story, "/a").await;
    stage.server().cli(&["CONFIG", "RESETSTAT"]);
    story.time_passes(seconds(7));
    for _ in 0..20 {
        story.client_asks(get("/a")).await.is_hit().has_age(7).has_ttl(593).has_body("old").has_no("cache-tag");
    }
    story.client_asks(head("/a")).await.is_hit().has_body("");
    story.client_asks(get("/a").header("if-none-match", "\"v\"")).await.is_hit().has_status(304);
    story.client_asks(get("/a").header("range", "bytes=1-")).await.is_hit().has_status(206).has_body("ld");
    assert_eq!(near_hits(&story), 23);
    assert_eq!(stage.server().calls("getrange") + stage.server().calls("get"), 0);
    story.time_passes(seconds(594));
    story.client_asks(get("/a")).await.is_forwarded_for("stale").has_body("new");
}

/// What was told of one response a moment ago is not told of another.
#[tokio::test]
async fn hits_within_one_second_have_the_head_of_their_own_response() {
    let stage = Stage::redis();
    let story = near(&stage);
    for version in ["1", "2", "3"] {
        story.origin_says(page("old").header("x-version", version));
        story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
        for second in 0..3 {
            for _ in 0..4 {
                let answer = story.client_asks(get("/a")).await;
                answer.is_hit().has_header("x-version", version).has_age(second).has_ttl(600 - second as i64);
                assert_eq!(answer.headers().get_all("cache-status").iter().count(), 1);
                let not_modified = story.client_asks(get("/a").header("if-none-match", "\"v\"")).await;
                not_modified.is_hit().has_status(304).has_body("");
                story.client_asks(head("/a")).await.is_hit().has_header("x-version", version).has_body("");
            }
            story.time_passes(seconds(1));
        }
    }
}

#[tokio::test]
async fn a_hit_in_memory_is_there_at_once() {
    let stage = Stage::redis();
    let story = near(&stage);
    has_page(&story, "/a").await;
    let first_poll = |target: &str| {
        let mut asking = std::pin::pin!(story.client_tries(get(target)));
        asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    assert!(first_poll("/a"));
    assert!(!first_poll("/b"), "this one has to ask");
}

#[tokio::test]
async fn what_is_soon_stale_is_refreshed_behind_a_hit_in_memory() {
    let stage = Stage::redis();
    // As early as can be: in the last tenth of its life.
    let story = near_with(&stage, |config| config.early_refresh(1e9).expect("a factor"));
    let gate = Gate::closed();
    story.origin_says(page("old").head_after(&gate));
    let (begun, asking) = (std::time::Instant::now(), client(&story, get("/a")));
    eventually("the service takes its time", || begun.elapsed() > Duration::from_millis(20)).await;
    gate.open();
    asking.await.expect("an answer").is_stored();
    story.fills_are_done().await;
    story.client_asks(get("/a")).await.is_hit();
    story.time_passes(seconds(550));
    story.origin_says(page("new"));
    story.client_asks(get("/a")).await.is_hit().has_body("old");
    assert_eq!(near_hits(&story), 1);
    let begun = std::time::Instant::now();
    while story.client_asks(get("/a")).await.is_hit().body() != &b"new"[..] {
        assert!(begun.elapsed() < crate::support::gate::PATIENCE, "it is never refreshed");
    }
    assert!(story.handle.stats().early_refreshes > 0);
}

#[tokio::test]
async fn each_variant_is_kept_and_one_that_is_not_is_asked_for() {
    let stage = Stage::redis();
    let (story, other) = (near(&stage), near(&stage));
    for (who, language) in [(&story, "de"), (&story, "en"), (&other, "fr")] {
        who.origin_says(ok(language).cache_control("max-age=600").header("vary", "accept-language"));
        who.client_asks(get("/a").header("accept-language", language)).await.is_stored();
    }
    for round in 0..3 {
        for language in ["de", "en", "fr"] {
            story.client_asks(get("/a").header("accept-language", language)).await.is_hit().has_body(language);
        }
        assert_eq!(near_hits(&story), 3 * round);
    }
}

#[tokio::test]
async fn a_purge_reaches_the_memory_of_all() {
    let stage = Stage::redis();
    let (one, other) = (near(&stage), near(&stage));
    // What is found before anything is known of purges is not kept.
    other.client_asks(get("/warm")).await;
    let targets = [PurgeTarget::tag("t"), url("http://example.com/b"), PurgeTarget::everything()];
    for (page_of, target) in ["/a", "/b", "/c"].into_iter().zip(targets) {
        has_page(&one, page_of).await;
        is_near(&one, page_of).await;
        other.origin_says(page("new"));
        other.client_asks(get(page_of)).await.is_hit().has_body("old");
        is_near(&other, page_of).await;
        let number = is_purged(&one, target).await;
        one.client_asks(get(page_of)).await.is_forwarded_for("uri-miss").has_body("new");
        let begun = std::time::Instant::now();
        while other.client_asks(get(page_of)).await.body() != &b"new"[..] {
            assert!(begun.elapsed() < crate::support::gate::PATIENCE, "purge {number} is not heard of");
        }
    }
}

#[tokio::test]
async fn a_soft_purge_and_an_unsafe_request_end_what_is_in_memory() {
    let stage = Stage::redis();
    let story = near(&stage);
    has_page(&story, "/a").await;
    is_near(&story, "/a").await;
    story.handle.purge([PurgeTarget::tag("t")], PurgeMode::Soft).await.expect("it is recorded");
    story.client_asks(get("/a")).await.is_forwarded_for("stale").has_body("new");
    has_page(&story, "/a").await;
    is_near(&story, "/a").await;
    story.origin_says(status(204));
    story.client_asks(ask("DELETE", "/a")).await.has_status(204);
    story.origin_says(page("new"));
    story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
}

#[tokio::test]
async fn what_this_process_replaces_it_does_not_serve_from_memory() {
    let stage = Stage::redis();
    let story = near(&stage);
    has_page(&story, "/a").await;
    is_near(&story, "/a").await;
    story.client_asks(get("/a").header("cache-control", "no-cache").header("pragma", "no-cache")).await.has_body("new");
    story.client_asks(get("/a")).await.is_hit().has_body("new");
    story.client_asks(get("/a")).await.is_hit().has_body("new");
}

#[tokio::test]
async fn without_redis_memory_answers_until_too_little_is_known_of_purges() {
    for (max_unsynced, lasts) in [(Duration::from_secs(3600), true), (Duration::from_millis(100), false)] {
        let mut stage = Stage::redis();
        let story =
            near_with(&stage, |config| config.max_unsynced(max_unsynced).store_timeout(Duration::from_millis(300)));
        has_page(&story, "/a").await;
        is_near(&story, "/a").await;
        stage.server_mut().kill();
        assert!(!story.handle.ready().await);
        eventually("it is known", || story.handle.stats().store_unavailable == 1 || !lasts).await;
        if lasts {
            is_near(&story, "/a").await;
            continue;
        }
        let begun = std::time::Instant::now();
        while story.client_asks(get("/a")).await.body() != &b"new"[..] {
            assert!(begun.elapsed() < crate::support::gate::PATIENCE, "it is served for ever");
        }
    }
}

/// RFC 9111 §4.4.
#[tokio::test]
async fn an_unsafe_request_ends_what_is_in_memory_without_redis_as_well() {
    let mut stage = Stage::redis();
    let settings = |config: CacheConfig| config.max_unsynced(Duration::from_secs(3600));
    let story = near_with(&stage, |config| settings(config).store_timeout(Duration::from_millis(300)));
    has_page(&story, "/a").await;
    is_near(&story, "/a").await;
    stage.server_mut().kill();
    assert!(!story.handle.ready().await);
    eventually("it is known", || story.handle.stats().store_unavailable == 1).await;
    is_near(&story, "/a").await;
    story.origin_says(status(204));
    story.client_asks(ask("POST", "/a")).await.has_status(204).has_detail("not-invalidated");
    story.origin_says(page("new"));
    story.client_asks(get("/a")).await.is_forwarded_for("miss").has_body("new");
}

#[tokio::test]
async fn after_a_new_connection_redis_is_asked_again() {
    let stage = Stage::redis();
    let story = near(&stage);
    has_page(&story, "/a").await;
    for _ in 0..3 {
        is_near(&story, "/a").await;
        stage.server().cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        let reads = stage.server().calls("getrange");
        let begun = std::time::Instant::now();
        while stage.server().calls("getrange") == reads {
            story.client_asks(get("/a")).await.has_status(200);
            assert!(begun.elapsed() < crate::support::gate::PATIENCE, "nobody asks");
        }
        has_page(&story, "/a").await;
    }
}

#[tokio::test]
async fn in_strict_mode_redis_is_asked_each_time() {
    let stage = Stage::redis();
    let story = near_with(&stage, |config| config.strict_purges(true));
    has_page(&story, "/a").await;
    for _ in 0..5 {
        story.client_asks(get("/a")).await.is_hit();
    }
    assert_eq!((near_hits(&story), story.handle.stats().near_bytes), (0, 0));
}

#[tokio::test]
async fn memory_is_bounded_and_what_is_too_long_is_not_kept() {
    let stage = Stage::redis();
    let story = near_with(&stage, |config| config.near_cache_max_entry(10_000));
    for (target, length, is_kept) in [("/small", 10_000, true), ("/long", 10_001, false), ("/chunks", 300_000, false)] {
        story.origin_says(ok("x".repeat(length)).cache_control("max-age=600"));
        story.client_asks(get(target)).await.is_stored();
        story.client_asks(get(target)).await.is_hit();
        let before = near_hits(&story);
        story.client_asks(get(target)).await.is_hit();
        assert_eq!(near_hits(&story) > before, is_kept, "{target}");
    }
    story.origin_says(ok("x".repeat(9_000)).cache_control("max-age=600"));
    for number in 0..300 {
        story.client_asks(get(&format!("/{number}"))).await.is_stored();
        story.client_asks(get(&format!("/{number}"))).await.is_hit();
        assert!(story.handle.stats().near_bytes <= 1 << 20);
    }
    assert!(story.handle.stats().near_bytes > 500_000);
}
