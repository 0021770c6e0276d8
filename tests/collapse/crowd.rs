//! Two hundred clients at once.

use super::together::{all_ask, answers, has_collapsed, nothing_is_left, page, page_behind};
use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Stage, get, seconds};

const CROWD: usize = 200;

on_both_stores! {
    async fn a_cold_key_is_fetched_once_for_all(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "hello"));
        let clients = all_ask(&story, CROWD, || get("/a")).await;
        gate.open();
        let answers = answers(clients).await;
        answers.iter().for_each(|answer| { answer.is_forwarded_for("uri-miss").has_status(200).has_body("hello"); });
        assert_eq!(answers.iter().filter(|answer| !has_collapsed(answer)).count(), 1);
        story.origin_was_asked(1);
        nothing_is_left(&story).await;
        assert_eq!((story.handle.stats().collapsed, story.handle.stats().stored), (CROWD as u64 - 1, 1));
        story.client_asks(get("/a")).await.is_hit().has_body("hello");
    }

    async fn an_expired_key_is_validated_once_for_all(stage) {
        let story = stage.story();
        story.origin_says(page("hello").header("etag", "\"1\""));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        let gate = Gate::closed();
        story.origin_says(status(304).cache_control("max-age=60").header("etag", "\"1\"").header("x-new", "1").head_after(&gate));
        let clients = all_ask(&story, CROWD, || get("/a")).await;
        gate.open();
        for answer in answers(clients).await {
            answer.is_forwarded_for("stale").has_status(200).has_body("hello").has_header("x-new", "1").has_age(0).has_ttl(60);
        }
        story.origin_was_asked(2);
        assert_eq!(story.last_asked().headers["if-none-match"], "\"1\"");
        nothing_is_left(&story).await;
        assert_eq!(story.handle.stats().validated, 1);
        story.client_asks(get("/a")).await.is_hit().has_header("x-new", "1");
    }

    async fn a_private_response_is_awaited_once_and_then_by_nobody(stage) {
        is_fetched_by_each(stage, ok("mine").cache_control("private, max-age=60"), true).await;
    }

    async fn a_response_that_is_not_to_be_stored_is_awaited_once_and_then_by_nobody(stage) {
        is_fetched_by_each(stage, ok("mine").cache_control("no-store"), true).await;
    }

    async fn a_response_that_sets_a_cookie_is_awaited_once_and_then_by_nobody(stage) {
        is_fetched_by_each(stage, page("mine").header("set-cookie", "a=b"), true).await;
    }

    async fn a_refusal_sends_the_others_themselves(stage) {
        is_fetched_by_each(stage, status(503).body("busy"), false).await;
    }

    async fn a_response_that_demands_validation_is_for_the_one_who_asked(stage) {
        is_fetched_by_each(stage, ok("mine").cache_control("no-cache").header("etag", "\"1\""), false).await;
    }

    /// Each has a cookie of its own, which the service may look at when it validates.
    async fn a_response_that_is_stale_from_the_start_is_for_the_one_who_asked(stage) {
        let reply = ok("mine").cache_control("max-age=0").header("etag", "\"1\"");
        is_fetched_by_each(stage, reply, false).await;
    }

    async fn a_crowd_of_other_keys_waits_for_nobody(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "hello"));
        let next = std::sync::atomic::AtomicUsize::new(0);
        let other = || get(&format!("/{}", next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)));
        let clients = all_ask(&story, CROWD, other).await;
        eventually("each is forwarded", || story.origin.calls() == CROWD).await;
        gate.open();
        answers(clients).await.iter().for_each(|answer| assert!(!has_collapsed(answer)));
        nothing_is_left(&story).await;
    }
}

/// The first is answered, and lets all others go to the origin, of whom none has an answer before all have asked. Where
/// the key is remembered, a later crowd asks without waiting for the first of them.
async fn is_fetched_by_each(stage: Stage, reply: Reply, is_remembered: bool) {
    let story = stage.story();
    let (first, others) = (Gate::closed(), Gate::closed());
    story.origin_says_in_turn([reply.clone().head_after(&first), reply.clone().head_after(&others)]);
    let clients = all_ask(&story, CROWD, || get("/a")).await;
    story.origin_was_asked(1);
    first.open();
    eventually("all are at the origin at once", || story.origin.calls() == CROWD).await;
    others.open();
    for answer in answers(clients).await {
        assert!(!has_collapsed(&answer));
    }
    let all = Gate::closed();
    story.origin_says(reply.head_after(&all));
    let clients = all_ask(&story, CROWD, || get("/a")).await;
    if is_remembered {
        eventually("all ask at once", || story.origin.calls() == 2 * CROWD).await;
    }
    all.open();
    answers(clients).await;
    story.origin_was_asked(2 * CROWD);
    nothing_is_left(&story).await;
}
