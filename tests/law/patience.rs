//! Clients that need not wait for a service that is slow, or that has just failed.

use std::time::Duration;

use tower_redis_cache::{PurgeMode, PurgeTarget, QueryContent};

use crate::on_both_stores;
use crate::support::gate::{Gate, PATIENCE, eventually};
use crate::support::scripted::{failure, ok, status};
use crate::support::story::{Answer, Ask, Stage, Story, ask, get, head, seconds};

/// So short that whoever may have the stale response has it.
const SOON: Duration = Duration::from_millis(1);
const FOR_ERRORS: &str = "max-age=60, stale-if-error=30";

/// Stored with this Cache-Control and a tag, and stale for a second by now.
async fn has_stale(story: &Story, target: &str, line: &str) {
    story.origin_says(ok("old").cache_control(line).header("etag", "\"v1\""));
    story.client_asks(get(target)).await.is_stored();
    story.time_passes(seconds(61));
}

fn impatient(stage: &Stage) -> Story {
    stage.story_with(|config| config.soft_timeout(SOON))
}

fn with(line: &str) -> Ask {
    get("/a").header("cache-control", line)
}

#[track_caller]
fn came_for_slowness(answer: &Answer) {
    answer.is_forwarded_for("stale").has_detail("stale-while-slow").has_ttl(-1).has_status(200).has_body("old");
}

#[track_caller]
fn came_at_once(answer: &Answer, ttl: i64) {
    answer.is_hit().has_detail("stale-if-error").has_ttl(ttl).has_status(200).has_body("old");
}

/// The request gets what the origin says behind the gate, though another's patience is over meanwhile.
async fn waits(story: &Story, ask: Ask) {
    let gate = Gate::closed();
    story.origin_says(ok("witness").cache_control("max-age=0, stale-if-error=600").header("etag", "\"w\""));
    story.client_asks(get("/witness").header("cache-control", "no-cache")).await.is_stored();
    story.origin_says(ok("new").cache_control("max-age=60").head_after(&gate));
    let calls = story.origin.calls();
    let waiting = tokio::spawn({
        let story = story.clone();
        async move { story.client_asks_and_goes_on(ask).await }
    });
    eventually("the origin is asked", || story.origin.calls() == calls + 1).await;
    story.client_asks_and_goes_on(get("/witness")).await.has_detail("stale-while-slow");
    assert!(!waiting.is_finished(), "it did not wait");
    gate.open();
    waiting.await.expect("an answer").has_forward_status(200).has_body("new");
    story.fills_are_done().await;
}

/// Whether the request waited, though its target was purged before its patience was over; `None` where that was too late.
async fn waits_after_a_purge(stage: &Stage, patience: Duration) -> Option<()> {
    let story = stage.story_with(|config| config.soft_timeout(patience));
    let query = || ask("QUERY", "/q").header("content-type", "text/sql").body("q").extension(QueryContent::new("q"));
    for stale in [query(), get("/witness")] {
        story.origin_says(ok("old").cache_control("max-age=60, stale-if-error=600"));
        story.client_asks(stale.header("cache-control", "no-cache")).await.is_stored();
    }
    story.time_passes(seconds(61));
    let (gate, calls) = (Gate::closed(), story.origin.calls());
    story.origin_says(ok("new").cache_control("max-age=60").head_after(&gate));
    let waiting = tokio::spawn({
        let (story, query) = (story.clone(), query());
        async move { story.client_asks_and_goes_on(query).await }
    });
    eventually("the origin is asked", || story.origin.calls() > calls).await;
    let target = PurgeTarget::url("http://example.com/q".parse().expect("a URL"));
    story.handle.purge([target], PurgeMode::Hard).await.expect("it is recorded");
    let was_in_time = !waiting.is_finished();
    story.client_asks_and_goes_on(get("/witness")).await.has_detail("stale-while-slow");
    assert!(!was_in_time || !waiting.is_finished(), "it has what was purged");
    gate.open();
    let answer = waiting.await.expect("an answer");
    story.fills_are_done().await;
    if !was_in_time {
        return None;
    }
    answer.has_forward_status(200).has_body("new");
    Some(())
}

on_both_stores! {
    /// A purge names the target of a QUERY, and not the QUERY.
    async fn what_was_purged_does_not_stand_in_for_a_slow_service(stage) {
        for patience in [1, 10, 100, 1000] {
            if waits_after_a_purge(&stage, Duration::from_millis(patience * 30)).await.is_some() {
                return;
            }
        }
        panic!("no purge was in time");
    }

    async fn a_slow_service_is_not_waited_for_where_the_stale_response_will_do(stage) {
        for line in ["max-age=60, stale-if-error=30", "max-age=60, stale-if-error=0, stale-while-revalidate=0"] {
            let story = stage.story_with(|config| config.soft_timeout(SOON).stale_if_error(seconds(30)));
            let target = format!("/{}", line.len());
            has_stale(&story, &target, line).await;
            let gate = Gate::closed();
            story.origin_says(ok("new").cache_control("max-age=60").head_after(&gate));
            came_for_slowness(&story.client_asks_and_goes_on(get(&target)).await);
            gate.open();
            story.fills_are_done().await;
            story.client_asks(get(&target)).await.is_hit().has_ttl(60).has_body("new");
            story.origin_was_asked(2);
            assert_eq!(story.handle.stats().stale_while_slow, 1);
        }
    }

    async fn those_who_wait_for_anothers_fetch_are_as_impatient(stage) {
        let story = impatient(&stage);
        has_stale(&story, "/a", FOR_ERRORS).await;
        let gate = Gate::closed();
        story.origin_says(ok("new").cache_control("max-age=60").head_after(&gate));
        let clients = (0..16).map(|_| {
            let story = story.clone();
            tokio::spawn(async move { story.client_asks_and_goes_on(get("/a")).await })
        });
        for client in clients.collect::<Vec<_>>() {
            came_for_slowness(&client.await.expect("a client is content"));
        }
        gate.open();
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.is_hit().has_body("new");
        story.origin_was_asked(2);
    }

    async fn who_asks_for_a_part_or_the_fields_is_as_impatient(stage) {
        let story = impatient(&stage);
        for (ask, code, body) in
            [(get("/a").header("range", "bytes=1-"), 206, "ld"), (head("/a"), 200, ""), (with("no-store"), 200, "old")]
        {
            story.origin_says(ok("old").cache_control(FOR_ERRORS).header("etag", "\"v1\""));
            story.client_asks(with("no-cache")).await.is_stored();
            story.time_passes(seconds(61));
            let gate = Gate::closed();
            story.origin_says(status(304).header("etag", "\"v1\"").head_after(&gate));
            let answer = story.client_asks_and_goes_on(ask).await;
            answer.has_detail("stale-while-slow").has_status(code).has_body(body);
            gate.open();
            story.fills_are_done().await;
        }
    }

    async fn who_demands_something_fresher_waits_for_it(stage) {
        let story = impatient(&stage);
        for line in ["no-cache", "max-age=0", "max-age=600", "min-fresh=0"] {
            has_stale(&story, &format!("/{line}"), FOR_ERRORS).await;
            waits(&story, get(&format!("/{line}")).header("cache-control", line)).await;
        }
    }

    async fn what_may_not_be_sent_stale_is_waited_for(stage) {
        let story = impatient(&stage);
        for (number, line) in [
            "must-revalidate, stale-if-error=600, max-age=60",
            "s-maxage=60, stale-if-error=600",
            "no-cache, stale-if-error=600",
            "max-age=60",
        ]
        .into_iter()
        .enumerate()
        {
            has_stale(&story, &format!("/{number}"), line).await;
            waits(&story, get(&format!("/{number}"))).await;
        }
    }

    async fn the_windows_end_for_a_slow_service_too(stage) {
        let story = impatient(&stage);
        has_stale(&story, "/a", "max-age=60, stale-if-error=30").await;
        story.time_passes(seconds(29));
        waits(&story, get("/a")).await;
    }

    async fn a_service_that_answers_in_time_is_heard(stage) {
        let story = stage.story_with(|config| config.soft_timeout(PATIENCE));
        has_stale(&story, "/a", FOR_ERRORS).await;
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("stale").has_body("new");
    }

    async fn after_a_failure_the_others_do_not_wait_for_the_next(stage) {
        let story = stage.story();
        for (failed, trouble) in [status(500), status(503), failure("refused")].into_iter().enumerate() {
            let target = format!("/{failed}");
            has_stale(&story, &target, FOR_ERRORS).await;
            story.origin_says(trouble);
            let calls = story.origin.calls();
            story.client_asks(get(&target)).await.is_forwarded_for("stale").has_detail("stale-if-error");
            for _ in 0..3 {
                came_at_once(&story.client_asks(get(&target)).await, -1);
            }
            story.origin_was_asked(calls + 1);
            story.time_passes(Duration::from_millis(999));
            came_at_once(&story.client_asks(get(&target)).await, -1);
            story.time_passes(Duration::from_millis(1));
            story.client_asks(get(&target)).await.is_forwarded_for("stale").has_detail("stale-if-error");
            story.origin_was_asked(calls + 2);
            assert_eq!(story.handle.stats().backed_off, 4 * (failed as u64 + 1));
        }
    }

    async fn one_tries_while_the_others_have_the_stale_response(stage) {
        let story = stage.story();
        has_stale(&story, "/a", FOR_ERRORS).await;
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.has_detail("stale-if-error");
        story.time_passes(seconds(1));
        let gate = Gate::closed();
        story.origin_says(ok("new").cache_control("max-age=60").head_after(&gate));
        let trying = tokio::spawn({
            let story = story.clone();
            async move { story.client_asks_and_goes_on(get("/a")).await }
        });
        eventually("one tries", || story.origin.calls() == 3).await;
        for _ in 0..3 {
            came_at_once(&story.client_asks_and_goes_on(get("/a")).await, -2);
        }
        gate.open();
        trying.await.expect("an answer").has_forward_status(200).has_body("new");
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.is_hit().has_ttl(60);
        story.origin_was_asked(3);
    }

    async fn an_answer_ends_the_back_off(stage) {
        let story = stage.story();
        has_stale(&story, "/a", FOR_ERRORS).await;
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.has_detail("stale-if-error");
        story.origin_says(ok("back").cache_control("max-age=0, stale-if-error=30").header("etag", "\"v2\""));
        story.client_asks(with("max-age=0")).await.has_body("back");
        story.client_asks(get("/a")).await.is_forwarded_for("stale").has_forward_status(200).has_body("back");
    }

    async fn who_demands_something_fresher_tries_in_any_case(stage) {
        let story = stage.story();
        has_stale(&story, "/a", FOR_ERRORS).await;
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.has_detail("stale-if-error");
        story.client_asks(with("no-cache")).await.has_forward_status(503).has_status(503);
        for line in ["max-age=0", "max-age=600", "min-fresh=0"] {
            story.client_asks(with(line)).await.has_forward_status(503).has_detail("stale-if-error");
        }
        story.origin_was_asked(6);
    }

    async fn without_permission_each_asks_the_failing_service(stage) {
        let story = stage.story();
        for (number, line) in ["max-age=60", "max-age=60, must-revalidate, stale-if-error=600"].into_iter().enumerate() {
            let target = format!("/{number}");
            has_stale(&story, &target, line).await;
            story.origin_says(status(503).body("sorry"));
            for _ in 0..3 {
                story.client_asks(get(&target)).await.has_forward_status(503).has_status(503).has_body("sorry");
            }
        }
    }

    async fn a_failing_service_is_not_asked_behind_each_hit(stage) {
        let story = stage.story();
        has_stale(&story, "/a", "max-age=60, stale-while-revalidate=30").await;
        for (round, trouble) in [status(500), failure("refused"), status(503)].into_iter().enumerate() {
            story.origin_says(trouble);
            for _ in 0..3 {
                story.client_asks(get("/a")).await.is_hit().has_body("old");
            }
            story.origin_was_asked(2 + round);
            story.time_passes(seconds(1));
        }
        assert_eq!(story.handle.stats().refreshes, 3);
    }

    async fn another_key_is_not_held_back(stage) {
        let story = stage.story();
        has_stale(&story, "/a", FOR_ERRORS).await;
        story.origin_says(ok("old").cache_control(FOR_ERRORS));
        story.client_asks(get("/b")).await.is_stored();
        story.time_passes(seconds(10));
        story.client_asks(with("no-cache")).await.is_stored();
        story.time_passes(seconds(61));
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.is_forwarded_for("stale").has_detail("stale-if-error");
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/b")).await.is_forwarded_for("stale").has_body("new");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_answers_is_given_up_when_nobody_waits_any_more() {
    let story = impatient(&Stage::memory());
    has_stale(&story, "/a", FOR_ERRORS).await;
    story.origin_says(ok("new").head_after(&Gate::closed()));
    came_for_slowness(&story.client_asks_and_goes_on(get("/a")).await);
    assert_eq!(story.handle.stats().flights, 1);
    tokio::time::sleep(seconds(61)).await;
    assert_eq!(story.handle.stats().flights, 0);
}
