//! What only Redis can do to requests that wait for each other: be slow, be away, be late.

use std::time::Duration;

use bytes::Bytes;
use tower_redis_cache::CacheConfig;

use super::together::{
    all_ask, answers, asks, frames, is_pending, nothing_is_left, octets, page, page_behind, settled, whole,
};
use crate::support::gate::{Gate, PATIENCE, eventually};
use crate::support::story::{Stage, Story, ask, get};

/// Writes wait, for longer than any test, until they are let go.
fn hold_writes(stage: &Stage) {
    assert_eq!(stage.server().cli(&["CLIENT", "PAUSE", "60000", "WRITE"]), "OK");
}

fn let_writes_go(stage: &Stage) {
    assert_eq!(stage.server().cli(&["CLIENT", "UNPAUSE"]), "OK");
}

#[tokio::test]
async fn whoever_comes_before_the_write_is_done_has_what_is_being_written() {
    // A look-up stands behind a write, and ends at its deadline.
    for body in [octets(50), octets(200_000), octets(900_000)] {
        let stage = Stage::redis();
        let story = stage.story_with(|config| config.store_timeout(Duration::from_millis(300)));
        story.origin_says(page("warm"));
        story.client_asks(get("/warm")).await.is_stored();
        story.origin_says(page("").chunks([body.clone()]));
        hold_writes(&stage);
        story.client_asks_and_goes_on(get("/a")).await.has_body(&body);
        let answer = story.client_asks_and_goes_on(get("/a")).await;
        answer.is_forwarded_for("miss").has_ttl(60).has_body(&body);
        story.origin_was_asked(2);
        assert_eq!((story.handle.stats().stored, story.handle.stats().flights), (1, 1));
        let_writes_go(&stage);
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body(&body);
        story.origin_was_asked(2);
    }
}

#[tokio::test]
async fn a_request_that_looked_too_early_does_not_fetch_what_is_stored_by_now() {
    let stage = Stage::redis();
    for large in [false, true] {
        let story = stage.story();
        let body = if large { octets(900_000) } else { octets(9) };
        story.origin_says(page("warm"));
        story.client_asks(get("/warm")).await;
        stage.server().cli(&["CONFIG", "RESETSTAT"]);
        let (target, calls) = (format!("/{large}"), story.origin.calls());
        // Its look-up is answered, and it does not go on.
        let mut early = Box::pin(story.client_tries(get(&target)));
        assert!(is_pending(&mut early).await);
        eventually("it has looked", || stage.server().calls("getrange") > 0).await;
        story.origin_says(page(body.clone()));
        story.client_asks(get(&target)).await.has_body(&body);
        assert!(whole(early.await).await == body);
        story.origin_was_asked(calls + 1);
        nothing_is_left(&story).await;
    }
}

#[tokio::test]
async fn a_request_that_looked_while_all_of_it_was_being_written_has_it() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.lease_heartbeat(Duration::from_secs(30)));
    let (gate, body) = (Gate::closed(), octets(200_000));
    story.origin_says(page("").chunks([body.clone()]).head_after(&gate));
    let first = asks(&story, get("/a"));
    eventually("the first is forwarded", || story.origin.calls() == 1).await;
    hold_writes(&stage);
    gate.open();
    // Its client has all of it, and the store nothing.
    first.await.expect("an answer").has_body(&body);
    let looks = stage.server().calls("getrange");
    let mut early = Box::pin(story.client_tries(get("/a").header("range", "bytes=-4")));
    assert!(is_pending(&mut early).await);
    eventually("it has looked", || stage.server().calls("getrange") > looks).await;
    let_writes_go(&stage);
    nothing_is_left(&story).await;
    // It learns of what it looked for only now.
    assert!(whole(early.await).await == body.slice(body.len() - 4..));
    story.origin_was_asked(1);
}

#[tokio::test]
async fn requests_wait_for_each_other_while_redis_is_away() {
    let mut stage = Stage::redis();
    let story = stage.story_with(|config| config.store_timeout(Duration::from_millis(200)));
    stage.server_mut().kill();
    let gate = Gate::closed();
    let body = octets(900_000);
    story.origin_says(page("").chunks(frames(900_000, 100_000)).head_after(&gate));
    let clients = all_ask(&story, 50, || get("/a")).await;
    gate.open();
    for answer in answers(clients).await {
        answer.is_forwarded_for("miss").is_not_stored().has_detail("store-unavailable").has_body(&body);
    }
    story.origin_was_asked(1);
    nothing_is_left(&story).await;
    // And again, now that it is known.
    let gate = Gate::closed();
    story.origin_says(page_behind(&gate, "hello"));
    let clients = all_ask(&story, 50, || get("/a")).await;
    gate.open();
    answers(clients).await.iter().for_each(|answer| {
        answer.has_body("hello");
    });
    story.origin_was_asked(2);
    nothing_is_left(&story).await;
}

/// Nothing is kept for the store, and the lead reads as fast as it can.
#[tokio::test]
async fn the_beginning_is_held_for_those_who_waited_while_redis_is_away() {
    let mut stage = Stage::redis();
    let story = stage.story_with(|config| config.store_timeout(Duration::from_millis(200)));
    stage.server_mut().kill();
    let gate = Gate::closed();
    let body = octets(900_000);
    story.origin_says(page("").chunks(frames(900_000, 50_000)).head_after(&gate));
    let lead = asks(&story, get("/a"));
    eventually("the first is forwarded", || story.origin.calls() == 1).await;
    let mut follower = Box::pin(story.client_tries(get("/a")));
    while story.handle.stats().misses < 2 {
        assert!(is_pending(&mut follower).await);
        tokio::task::yield_now().await;
    }
    gate.open();
    lead.await.expect("an answer").has_body(&body);
    assert!(whole(follower.await).await == body);
    story.origin_was_asked(1);
    nothing_is_left(&story).await;
}

#[tokio::test]
async fn redis_that_stalls_in_the_middle_of_an_upload_holds_up_nobody() {
    const LENGTH: usize = 6 << 20;
    let stage = Stage::redis();
    let settings = |config: tower_redis_cache::CacheConfig| {
        let config = config.store_timeout(Duration::from_millis(60)).store_write_timeout(Duration::from_millis(200));
        config.max_body_size(64 << 20).max_inflight_bytes(16 << 20)
    };
    let story = stage.story_with(settings);
    let (stalled, body) = (Gate::closed(), octets(LENGTH));
    let mut all: Vec<Bytes> = frames(LENGTH, 128 * 1024);
    let rest = all.split_off(10);
    story.origin_says(page("").chunks(all).waits_for(&stalled).chunks(rest));
    let clients: Vec<_> = (0..3).map(|_| asks(&story, get("/a"))).collect();
    eventually("some chunks are there", || stage.server().keys("*:b:*").len() >= 4).await;
    hold_writes(&stage);
    stalled.open();
    for answer in answers(clients).await {
        answer.has_body(&body);
    }
    story.origin_was_asked(1);
    let_writes_go(&stage);
    nothing_is_left(&story).await;
    assert_eq!((story.handle.stats().abandoned, story.handle.stats().stored), (1, 0));
    for key in stage.server().keys("*") {
        let left: i64 = stage.server().cli(&["PTTL", &key]).parse().expect("a number");
        assert!((1..=15 * 60_000).contains(&left), "{key} has {left} ms");
    }
}

/// A renewal of the lease would stand before all that is read.
fn calm(config: CacheConfig) -> CacheConfig {
    config.lease_heartbeat(PATIENCE * 2)
}

/// A client that has all of a response which the store does not have yet: its chunks are on their way.
async fn client_has_what_the_store_has_not(stage: &Stage, story: &Story, body: &Bytes) {
    story.origin_says(page("warm"));
    story.client_asks(get("/warm")).await.is_stored();
    let gate = Gate::closed();
    story.origin_says(page("").chunks([body.clone()]).head_after(&gate));
    let first = asks(story, get("/a"));
    eventually("the origin is asked", || story.origin.calls() == 2).await;
    hold_writes(stage);
    gate.open();
    first.await.expect("an answer").is_forwarded_for("uri-miss").has_body(body);
    assert_eq!(story.handle.stats().stored, 1);
    stage.server().cli(&["CONFIG", "RESETSTAT"]);
}

#[tokio::test]
async fn who_has_a_response_finds_it_stored_when_asking_for_it_in_another_way() {
    let body = octets(900_000);
    let part = get("/a").header("range", "bytes=3-6");
    let by_directives = get("/a").header("cache-control", "only-if-cached, min-fresh=1");
    for (ask, status) in [(part, 206), (ask("HEAD", "/a"), 200), (by_directives, 200)] {
        let stage = Stage::redis();
        let story = stage.story_with(|config| calm(config).store_timeout(PATIENCE));
        client_has_what_the_store_has_not(&stage, &story, &body).await;
        let second = asks(&story, ask);
        eventually("it has looked", || stage.server().calls("getrange") > 0).await;
        settled().await;
        let_writes_go(&stage);
        let answer = second.await.expect("an answer");
        answer.is_hit().has_status(status);
        if status == 206 {
            answer.has_body(&body[3..7]);
        }
        story.origin_was_asked(2);
        nothing_is_left(&story).await;
    }
}

#[tokio::test]
async fn what_the_store_is_about_to_have_is_waited_for_no_longer_than_the_store() {
    let body = octets(900_000);
    let stage = Stage::redis();
    let story =
        stage.story_with(|config| calm(config).store_timeout(Duration::from_millis(100)).store_write_timeout(PATIENCE));
    client_has_what_the_store_has_not(&stage, &story, &body).await;
    story.origin_says(page(body.clone()));
    // The writes never come.
    let answer = story.client_asks_and_goes_on(get("/a").header("range", "bytes=3-6")).await;
    answer.is_forwarded_for("uri-miss");
    story.origin_was_asked(3);
    // Who can have it from memory does not wait at all.
    story.client_asks_and_goes_on(get("/a")).await.has_body(&body);
    story.origin_was_asked(3);
    let_writes_go(&stage);
    nothing_is_left(&story).await;
}
