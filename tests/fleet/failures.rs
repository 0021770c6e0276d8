//! The service has failed one process: the others leave it alone for a while, where they have something stale to send.

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{Reply, failure, ok, status};
use crate::support::story::{Stage, Story, get, seconds};
use crate::troupe::{all_is_well_in_the_end, client, is_asked, process, process_with, waits};

fn page() -> Reply {
    ok("page").cache_control("max-age=60, stale-if-error=600").header("etag", "\"v1\"")
}

/// Some processes that all have the page, which has become stale.
async fn with_a_stale_page<const N: usize>(stage: &Stage) -> [Story; N] {
    let processes = [(); N].map(|()| process(stage));
    processes[0].origin_says(page());
    processes[0].client_asks(get("/a")).await.is_stored();
    for story in &processes {
        story.time_passes(seconds(62));
        story.origin_says(page());
    }
    processes
}

fn marks(stage: &Stage) -> Vec<String> {
    stage.server().keys("*:failing")
}

fn asked(processes: &[&Story]) -> usize {
    processes.iter().map(|story| story.origin.calls()).sum()
}

#[tokio::test]
async fn what_one_process_was_refused_the_others_do_not_ask_for() {
    for trouble in [status(503), failure("refused")] {
        let stage = Stage::redis();
        let [one, other] = with_a_stale_page(&stage).await;
        one.origin_says(trouble);
        one.client_asks(get("/a")).await.is_forwarded_for("stale").has_detail("stale-if-error").has_body("page");
        for _ in 0..3 {
            other.client_asks(get("/a")).await.is_hit().has_detail("stale-if-error").has_body("page");
        }
        assert_eq!((other.origin.calls(), other.handle.stats().backed_off), (0, 3));
        let [mark] = &marks(&stage)[..] else { panic!("one mark") };
        let left: i64 = stage.server().cli(&["PTTL", mark]).parse().expect("a number");
        assert!((1..=2_000).contains(&left), "{left}");
        // It is time to try again.
        for story in [&one, &other] {
            story.time_passes(seconds(2));
        }
        other.client_asks(get("/a")).await.is_forwarded_for("stale").is_stored();
        assert_eq!((other.origin.calls(), marks(&stage).len()), (1, 0), "it has answered");
        one.client_asks(get("/a")).await.is_hit();
        all_is_well_in_the_end(&stage, &[&one, &other]).await;
    }
}

#[tokio::test]
async fn those_who_wait_for_another_process_have_the_stale_page_when_that_is_refused() {
    let stage = Stage::redis();
    let [one, other] = with_a_stale_page(&stage).await;
    let gate = Gate::closed();
    one.origin_says(status(503).head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 2).await;
    let others: Vec<_> = (0..20).map(|_| client(&other, get("/a"))).collect();
    waits(&stage, &other).await;
    gate.open();
    first.await.expect("an answer").has_body("page");
    for other in others {
        other.await.expect("an answer").has_status(200).has_detail("stale-if-error").has_body("page");
    }
    assert_eq!(asked(&[&one, &other]), 2);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn while_one_tries_again_the_others_do_not_wait() {
    let stage = Stage::redis();
    let [one, other, third] = with_a_stale_page(&stage).await;
    one.origin_says(status(503));
    one.client_asks(get("/a")).await.has_body("page");
    for story in [&one, &other, &third] {
        story.time_passes(seconds(1));
    }
    let gate = Gate::closed();
    other.origin_says(page().head_after(&gate));
    let attempt = client(&other, get("/a"));
    is_asked(&other, 1).await;
    third.client_asks(get("/a")).await.is_hit().has_detail("stale-if-error").has_body("page");
    third.origin_was_asked(0);
    gate.open();
    attempt.await.expect("an answer").is_forwarded_for("stale").is_stored();
    all_is_well_in_the_end(&stage, &[&one, &other, &third]).await;
    assert_eq!(marks(&stage), [""; 0]);
}

#[tokio::test]
async fn who_has_nothing_to_send_instead_asks() {
    let stage = Stage::redis();
    let [one, other] = with_a_stale_page(&stage).await;
    one.origin_says(status(503));
    one.client_asks(get("/a")).await.has_detail("stale-if-error");
    // This one may not be told anything stale.
    let strict = || get("/a").header("cache-control", "max-age=10");
    other.client_asks(strict()).await.is_forwarded_for("request");
    other.origin_was_asked(1);
}

#[tokio::test]
async fn who_remembers_no_failure_heeds_none() {
    let stage = Stage::redis();
    let [one] = with_a_stale_page(&stage).await;
    let bold = process_with(&stage, |config| config.failure_backoff(std::time::Duration::ZERO));
    bold.time_passes(seconds(62));
    bold.origin_says(status(503));
    one.origin_says(status(503));
    one.client_asks(get("/a")).await.has_detail("stale-if-error");
    for times in 1..4 {
        bold.client_asks(get("/a")).await.is_forwarded_for("stale").has_body("page");
        bold.origin_was_asked(times);
    }
    // Nor does it say anything of its own.
    eventually("the mark has ended", || marks(&stage).is_empty()).await;
    bold.client_asks(get("/a")).await.is_forwarded_for("stale");
    assert_eq!(marks(&stage), [""; 0]);
}

#[tokio::test]
async fn junk_in_place_of_a_failure_is_none() {
    let stage = Stage::redis();
    let [one, other] = with_a_stale_page(&stage).await;
    one.origin_says(status(503));
    one.client_asks(get("/a")).await.has_detail("stale-if-error");
    let [mark] = &marks(&stage)[..] else { panic!("one mark") };
    for junk in ["", "e", "junk", "e1", "e99999999999999999999999999", "\u{0}"] {
        stage.server().cli(&["SET", mark, junk, "PX", "60000"]);
        other.time_passes(seconds(62));
        let before = other.origin.calls();
        other.client_asks(get("/a")).await.is_forwarded_for("stale").has_body("page");
        other.origin_was_asked(before + 1);
    }
}
