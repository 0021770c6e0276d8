//! A service that has as much to do as it may: who comes then waits a little, and then has a stale response, or 503.

use std::task::{Context, Waker};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::on_both_stores;
use crate::support::gate::{Gate, PATIENCE, eventually};
use crate::support::scripted::{ok, status};
use crate::support::story::{Answer, Ask, Stage, Story, ask, get, seconds};

const SOON: Duration = Duration::from_millis(1);
const FOR_ERRORS: &str = "max-age=60, stale-if-error=30";

fn at_most(stage: &Stage, fetches: usize, queued: usize, limit: Duration) -> Story {
    let story = |config: tower_redis_cache::CacheConfig| {
        config.max_fetches(fetches).max_queued_fetches(queued).fetch_queue_timeout(limit)
    };
    stage.story_with(story)
}

fn asks(story: &Story, ask: Ask) -> tokio::task::JoinHandle<Answer> {
    let story = story.clone();
    tokio::spawn(async move { story.client_asks_and_goes_on(ask).await })
}

/// The service is at work on this target until the gate opens.
async fn is_at_work(story: &Story, target: &str) -> (Gate, tokio::task::JoinHandle<Answer>) {
    let gate = Gate::closed();
    let calls = story.origin.calls();
    story.origin_says(ok("slow").cache_control("max-age=600").head_after(&gate));
    let asking = asks(story, get(target));
    eventually("the service is at work", || story.origin.calls() == calls + 1).await;
    (gate, asking)
}

async fn has_stale(story: &Story, target: &str, line: &str) {
    story.origin_says(ok("old").cache_control(line).header("etag", "\"v1\""));
    story.client_asks(get(target)).await.is_stored();
    story.time_passes(seconds(61));
}

#[track_caller]
fn is_turned_away(answer: &Answer) {
    answer.has_status(503).has_header("retry-after", "1").has_detail("origin-busy").has_body("").is_not_stored();
    assert_eq!((answer.cache_status().get("fwd"), answer.cache_status().get("hit")), (None, None));
}

on_both_stores! {
    async fn one_too_many_is_turned_away(stage) {
        for queued in [0, 10] {
            let story = at_most(&stage, 1, queued, SOON);
            let (gate, first) = is_at_work(&story, &format!("/first/{queued}")).await;
            is_turned_away(&story.client_asks_and_goes_on(get("/second")).await);
            is_turned_away(&story.client_asks_and_goes_on(get("/second").header("range", "bytes=1-")).await);
            is_turned_away(&story.client_asks_and_goes_on(get("/second").header("cache-control", "no-cache")).await);
            gate.open();
            first.await.expect("an answer").has_body("slow");
            story.fills_are_done().await;
            story.origin_was_asked(1);
            assert_eq!(story.handle.stats().origin_busy, 3);
            story.client_asks(get(&format!("/third/{queued}"))).await.has_status(200);
            assert_eq!((story.handle.stats().fetches, story.handle.stats().queued_fetches), (0, 0));
        }
    }

    async fn who_waits_in_the_queue_has_the_next_turn(stage) {
        let story = at_most(&stage, 1, 1, PATIENCE);
        let (gate, first) = is_at_work(&story, "/first").await;
        let second = asks(&story, get("/second"));
        eventually("it waits", || story.handle.stats().queued_fetches == 1).await;
        story.client_asks_and_goes_on(get("/third")).await.has_status(503).has_header("retry-after", "20");
        story.origin_was_asked(1);
        gate.open();
        first.await.expect("an answer").has_body("slow");
        second.await.expect("an answer").has_forward_status(200).has_body("slow");
        story.fills_are_done().await;
        story.origin_was_asked(2);
    }

    async fn who_leaves_the_queue_frees_its_place(stage) {
        let story = at_most(&stage, 1, 1, PATIENCE);
        let (gate, first) = is_at_work(&story, "/first").await;
        for leaving in [get("/second"), get("/second").header("range", "bytes=1-")] {
            let leaving = asks(&story, leaving);
            eventually("it waits", || story.handle.stats().queued_fetches == 1).await;
            leaving.abort();
            eventually("its place is free", || story.handle.stats().queued_fetches == 0).await;
        }
        gate.open();
        first.await.expect("an answer");
        story.fills_are_done().await;
        story.origin_was_asked(1);
    }

    async fn a_stale_response_is_better_than_to_be_turned_away(stage) {
        let story = at_most(&stage, 1, 1, SOON);
        has_stale(&story, "/a", FOR_ERRORS).await;
        has_stale(&story, "/strict", "max-age=60, must-revalidate, stale-if-error=600").await;
        story.origin_says(ok("old").cache_control(FOR_ERRORS).header("etag", "\"v1\""));
        story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
        story.time_passes(seconds(61));
        let (gate, first) = is_at_work(&story, "/first").await;
        let answer = story.client_asks_and_goes_on(get("/a")).await;
        answer.is_hit().has_detail("origin-busy").has_ttl(-1).has_status(200).has_body("old");
        for line in ["no-cache", "max-age=0", "min-fresh=0"] {
            is_turned_away(&story.client_asks_and_goes_on(get("/a").header("cache-control", line)).await);
        }
        is_turned_away(&story.client_asks_and_goes_on(get("/strict")).await);
        gate.open();
        first.await.expect("an answer");
        story.fills_are_done().await;
    }

    async fn a_refresh_behind_a_hit_does_not_wait(stage) {
        let story = at_most(&stage, 1, 10, PATIENCE);
        has_stale(&story, "/a", "max-age=60, stale-while-revalidate=30").await;
        let (gate, first) = is_at_work(&story, "/first").await;
        for _ in 0..3 {
            story.client_asks_and_goes_on(get("/a")).await.is_hit().has_body("old");
        }
        assert_eq!((story.handle.stats().queued_fetches, story.handle.stats().refreshes), (0, 0));
        gate.open();
        first.await.expect("an answer");
        story.fills_are_done().await;
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_hit().has_body("old");
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }

    async fn a_place_is_held_until_the_body_has_ended(stage) {
        let story = at_most(&stage, 1, 0, SOON);
        // One that is stored, and one that passes.
        for (number, line) in ["max-age=60", "no-store"].into_iter().enumerate() {
            let gate = Gate::closed();
            story.origin_says(ok("a").waits_for(&gate).body("b").cache_control(line));
            let mut slow = story.client_begins(get(&format!("/{number}"))).await;
            slow.receives("a").await;
            assert_eq!(story.handle.stats().fetches, 1);
            is_turned_away(&story.client_asks_and_goes_on(get("/other")).await);
            gate.open();
            slow.reads_to_the_end().await.has_body("ab");
            eventually("the place is free", || story.handle.stats().fetches == 0).await;
        }
        story.origin_says(ok("a").then_hangs().cache_control("no-store"));
        let mut leaving = story.client_begins(get("/left")).await;
        leaving.receives("a").await;
        assert_eq!(story.handle.stats().fetches, 1);
        leaving.leaves();
        eventually("the place is free", || story.handle.stats().fetches == 0).await;
        story.origin_says(ok("a").cache_control("no-store"));
        let mut body = story.client_tries(get("/read")).await.expect("an answer").into_body();
        while let Some(frame) = body.frame().await {
            frame.expect("the body is well");
        }
        assert_eq!(story.handle.stats().fetches, 0, "it has ended, though it is not let go");
        drop(body);
    }

    async fn an_answer_without_a_body_holds_no_place(stage) {
        let story = at_most(&stage, 1, 0, SOON);
        has_stale(&story, "/a", FOR_ERRORS).await;
        for reply in [status(304).header("etag", "\"v1\""), status(503), status(204)] {
            story.origin_says(reply);
            let opened = story.client_begins(get("/a").header("cache-control", "max-age=0")).await;
            eventually("the place is free", || story.handle.stats().fetches == 0).await;
            opened.reads_to_the_end().await;
            story.fills_are_done().await;
        }
    }

    async fn what_the_cache_does_not_answer_is_not_counted(stage) {
        let story = at_most(&stage, 1, 0, SOON);
        let (gate, first) = is_at_work(&story, "/first").await;
        story.origin_says(ok("done"));
        story.client_asks_and_goes_on(ask("POST", "/first").body("x")).await.has_body("done");
        story.client_asks_and_goes_on(ask("OPTIONS", "/first")).await.has_body("done");
        gate.open();
        first.await.expect("an answer");
        story.fills_are_done().await;
    }
}

#[tokio::test]
async fn a_follower_keeps_the_place_of_a_client_that_leaves() {
    let story = at_most(&Stage::memory(), 1, 1, PATIENCE);
    let (gate, first) = is_at_work(&story, "/first").await;
    let leaving = asks(&story, get("/second"));
    eventually("it waits", || story.handle.stats().queued_fetches == 1).await;
    let mut following = Box::pin(story.service().oneshot(get("/second").into_request()));
    for _ in 0..8 {
        assert!(following.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tokio::task::yield_now().await;
    }
    leaving.abort();
    assert!(leaving.await.expect_err("the client has left").is_cancelled());
    tokio::task::yield_now().await;
    assert_eq!(story.handle.stats().queued_fetches, 1);
    gate.open();
    first.await.expect("an answer");
    assert_eq!(following.await.expect("an answer").status(), 200);
    story.fills_are_done().await;
    story.origin_was_asked(2);
}

#[tokio::test(start_paused = true)]
async fn those_who_follow_share_the_fate_of_the_lead() {
    let story = at_most(&Stage::memory(), 1, 1, seconds(1));
    let (gate, first) = is_at_work(&story, "/first").await;
    let begun = Instant::now();
    let clients: Vec<_> = (0..8).map(|_| asks(&story, get("/second"))).collect();
    for client in clients {
        is_turned_away(&client.await.expect("an answer"));
    }
    assert!(begun.elapsed() < seconds(2), "they waited one after another");
    assert_eq!(story.handle.stats().origin_busy, 8);
    story.origin_was_asked(1);
    gate.open();
    first.await.expect("an answer");
}

#[tokio::test]
async fn who_leaves_the_queue_frees_its_place_at_once() {
    let story = at_most(&Stage::memory(), 1, 1, PATIENCE);
    let (_gate, _first) = is_at_work(&story, "/first").await;
    for leaving in [get("/second"), get("/second").header("range", "bytes=1-")] {
        let leaving = asks(&story, leaving);
        eventually("it waits", || story.handle.stats().queued_fetches == 1).await;
        leaving.abort();
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        assert_eq!(story.handle.stats().queued_fetches, 0);
    }
}

#[tokio::test]
async fn the_service_is_spared_while_redis_is_away() {
    let mut stage = Stage::redis();
    stage.server_mut().kill();
    let story = at_most(&stage, 1, 0, SOON);
    let (gate, first) = is_at_work(&story, "/first").await;
    is_turned_away(&story.client_asks_and_goes_on(get("/second")).await);
    gate.open();
    first.await.expect("an answer").is_forwarded_for("miss").has_body("slow");
    story.client_asks(get("/second")).await.is_forwarded_for("miss").has_body("slow");
}
