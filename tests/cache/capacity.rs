//! So many responses and no more.

use std::time::Duration;

use crate::support::scripted::ok;
use crate::support::story::{Stage, Story, get, head};

/// Base keys and variants, without bodies and lists.
fn responses(stage: &Stage) -> usize {
    stage.server().keys("trc:*").iter().filter(|key| !key.contains(":b:") && !key.contains("{entries")).count()
}

async fn store(story: &Story, target: &str) {
    story.client_asks(get(target)).await.has_body("page");
    story.fills_are_done().await;
}

fn story(stage: &Stage, entries: u64) -> Story {
    let story = stage.story_with(|config| config.max_entries(entries));
    story.origin.answers(|_| ok("page").cache_control("max-age=6000"));
    story
}

#[tokio::test]
async fn the_least_recently_used_go() {
    let stage = Stage::redis();
    let story = story(&stage, 10);
    for number in 0..10 {
        store(&story, &format!("/{number}")).await;
    }
    assert_eq!((responses(&stage), story.handle.stats().evicted), (10, 0));
    // A use is noted once a minute.
    story.time_passes(Duration::from_secs(61));
    story.client_asks(get("/0")).await.is_hit();
    story.client_asks(head("/1")).await.is_hit();
    story.fills_are_done().await;
    for number in 10..18 {
        store(&story, &format!("/{number}")).await;
    }
    assert_eq!((responses(&stage), story.handle.stats().evicted), (10, 8));
    for used in ["/0", "/1", "/17"] {
        story.client_asks(get(used)).await.is_hit();
    }
    story.client_asks(get("/5")).await.is_forwarded_for("uri-miss");
}

#[tokio::test]
async fn a_thousand_are_kept_within_a_bound_of_any_size() {
    for entries in [1, 100, 700] {
        let stage = Stage::redis();
        let story = story(&stage, entries);
        for number in 0..1000 {
            story.client_asks(get(&format!("/{number}"))).await.has_body("page");
        }
        story.fills_are_done().await;
        let there = responses(&stage) as u64;
        assert!(there <= entries && there * 10 >= entries * 8, "{there} of {entries}");
        assert_eq!(story.handle.stats().evicted, 1000 - there);
    }
}

#[tokio::test]
async fn what_goes_takes_its_body_along_and_variants_count() {
    let stage = Stage::redis();
    let story = story(&stage, 4);
    story.origin.answers(|_| ok(vec![b'x'; 300_000]).cache_control("max-age=6000"));
    for number in 0..3 {
        story.client_asks(get(&format!("/{number}"))).await.is_stored();
    }
    story.origin.answers(|_| ok("page").cache_control("max-age=6000").header("vary", "accept-language"));
    for language in ["de", "en", "fr", "it"] {
        story.client_asks(get("/v").header("accept-language", language)).await.is_stored();
        story.fills_are_done().await;
    }
    for language in ["de", "en", "fr", "it"] {
        story.client_asks(get("/v").header("accept-language", language)).await.is_hit();
    }
    // Those who were reading them have the time to.
    let chunks = stage.server().keys("trc:*:b:*");
    assert!(!chunks.is_empty());
    for chunk in chunks {
        let left: i64 = stage.server().cli(&["PTTL", &chunk]).parse().expect("a number");
        assert!((1..60_000).contains(&left), "{chunk}: {left} ms");
    }
}

#[tokio::test]
async fn each_variant_is_used_for_itself() {
    let stage = Stage::redis();
    let story = story(&stage, 4);
    story.origin.answers(|_| ok("page").cache_control("max-age=6000").header("vary", "accept-language"));
    for language in ["de", "en", "fr", "it"] {
        story.client_asks(get("/v").header("accept-language", language)).await.is_stored();
        story.fills_are_done().await;
    }
    story.time_passes(Duration::from_secs(61));
    for language in ["de", "en"] {
        story.client_asks(get("/v").header("accept-language", language)).await.is_hit();
        story.fills_are_done().await;
    }
    for language in ["nl", "pl"] {
        story.client_asks(get("/v").header("accept-language", language)).await.is_stored();
        story.fills_are_done().await;
    }
    for language in ["de", "en"] {
        story.client_asks(get("/v").header("accept-language", language)).await.is_hit();
    }
}

#[tokio::test]
async fn what_could_not_be_counted_is_so_when_it_can() {
    let stage = Stage::redis();
    let right = |rule: &str| assert_eq!(stage.server().cli(&["ACL", "SETUSER", "default", rule]), "OK");
    let story = story(&stage, 3);
    right("-zremrangebyrank");
    for number in 0..9 {
        store(&story, &format!("/{number}")).await;
    }
    assert_eq!(story.handle.stats().evicted, 0);
    right("+zremrangebyrank");
    for number in 9..12 {
        store(&story, &format!("/{number}")).await;
    }
    assert_eq!((responses(&stage), story.handle.stats().evicted), (3, 9));
}

#[tokio::test]
async fn without_the_right_to_count_everything_is_stored() {
    let stage = Stage::redis();
    let rights = ["ACL", "SETUSER", "cache", "reset", "on", ">pw", "~trc:*", "&trc:*", "+@all", "-zremrangebyrank"];
    assert_eq!(stage.server().cli(&rights), "OK");
    let url = stage.server().url_of_user("cache", "pw");
    let time = crate::support::story::whole_second();
    let config = tower_redis_cache::CacheConfig::new(url).expect("a URL").clock(time.clock()).max_entries(2);
    let config = config.store_timeout(Duration::from_secs(5));
    let story = Story::told_by(tower_redis_cache::RedisCacheLayer::new(config), time);
    story.origin.answers(|_| ok("page").cache_control("max-age=6000"));
    for number in 0..4 {
        store(&story, &format!("/{number}")).await;
    }
    for number in 0..4 {
        story.client_asks(get(&format!("/{number}"))).await.is_hit();
    }
}
