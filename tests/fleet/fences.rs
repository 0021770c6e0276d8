//! A late write, and a change that comes in between: what is out of date is not stored.

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{ok, status};
use crate::support::story::{Stage, Story, ask, get, seconds};
use crate::troupe::{all_is_well_in_the_end, client, is_asked, leases, process};

/// The lease ends before its holder is done, as that of a process that was stopped.
fn the_lease_ends(stage: &Stage) {
    let [lease] = &leases(stage.server())[..] else { panic!("one lease: {:?}", leases(stage.server())) };
    stage.server().cli(&["UNLINK", lease]);
}

fn fenced(story: &Story) -> u64 {
    story.handle.stats().fenced_writes
}

#[tokio::test]
async fn who_has_lost_the_lease_writes_nothing() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    one.origin_says(ok("old").cache_control("max-age=60").head_after(&gate));
    other.origin_says(ok("new").cache_control("max-age=60"));
    let late = client(&one, get("/a"));
    is_asked(&one, 1).await;
    the_lease_ends(&stage);
    other.client_asks(get("/a")).await.is_stored().has_body("new");
    gate.open();
    late.await.expect("an answer").has_body("old");
    one.fills_are_done().await;
    assert_eq!((fenced(&one), one.handle.stats().stored), (1, 0));
    for story in [&one, &other] {
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn the_body_of_a_write_that_was_fenced_off_ends_soon() {
    for length in [70_000, 800_000] {
        let stage = Stage::redis();
        let one = process(&stage);
        let gate = Gate::closed();
        let body = "x".repeat(length);
        one.origin_says(ok(body.clone()).waits_for(&gate).cache_control("max-age=86400"));
        let late = client(&one, get("/a"));
        eventually("the fetch is under way", || !leases(stage.server()).is_empty()).await;
        is_asked(&one, 1).await;
        the_lease_ends(&stage);
        gate.open();
        late.await.expect("an answer").has_body(&body);
        one.fills_are_done().await;
        assert_eq!(fenced(&one), 1);
        let keys = stage.server().keys("*");
        assert!(keys.iter().any(|key| key.contains(":b:")), "the body was written: {keys:?}");
        for key in keys {
            let left: i64 = stage.server().cli(&["PTTL", &key]).parse().expect("a number");
            let is_of_the_body = key.contains(":b:") || key.contains(":live:");
            assert!(is_of_the_body && left < 60_000, "{key} lives for {left} ms");
        }
    }
}

/// A fetch is under way in one process, and the other hears of a change.
async fn a_change_meanwhile(stage: &Stage, prepare: impl AsyncFnOnce(&Story), late: crate::support::scripted::Reply) {
    let (one, other) = (process(stage), process(stage));
    prepare(&one).await;
    other.time_passes(seconds(63));
    let (asked, gate) = (one.origin.calls(), Gate::closed());
    one.origin_says(late.head_after(&gate));
    other.origin_says(status(204));
    let fetching = client(&one, get("/a").header("accept-language", "en"));
    is_asked(&one, asked + 1).await;
    other.client_asks(ask("POST", "/a")).await.has_status(204);
    gate.open();
    fetching.await.expect("an answer").has_status(200).has_body("old");
    one.fills_are_done().await;
    // Fenced off by the store, unless it has heard of the change before.
    assert_eq!(fenced(&one) + one.handle.stats().dropped_writes, 1);
    other.origin_says(ok("new").cache_control("max-age=60").header("vary", "accept-language"));
    let answer = other.client_asks(get("/a").header("accept-language", "en")).await;
    answer.is_forwarded_for("uri-miss").is_stored().has_body("new");
    all_is_well_in_the_end(stage, &[&one, &other]).await;
}

#[tokio::test]
async fn what_was_asked_for_before_a_change_in_another_process_is_not_stored() {
    a_change_meanwhile(&Stage::redis(), async |_: &Story| {}, ok("old").cache_control("max-age=60")).await;
}

#[tokio::test]
async fn the_first_of_several_variants_is_not_stored_after_a_change() {
    let late = ok("old").cache_control("max-age=60").header("vary", "accept-language");
    a_change_meanwhile(&Stage::redis(), async |_: &Story| {}, late).await;
}

#[tokio::test]
async fn another_variant_is_not_stored_after_a_change() {
    let page = || ok("old").cache_control("max-age=60").header("vary", "accept-language");
    let prepare = async |one: &Story| {
        one.origin_says(page());
        one.client_asks(get("/a").header("accept-language", "de")).await.is_stored();
    };
    a_change_meanwhile(&Stage::redis(), prepare, page()).await;
}

#[tokio::test]
async fn what_was_validated_before_a_change_does_not_come_back() {
    let prepare = async |one: &Story| {
        one.origin_says(ok("old").cache_control("max-age=60").header("etag", "\"v1\""));
        one.client_asks(get("/a")).await.is_stored();
        one.time_passes(seconds(63));
    };
    let late = status(304).header("etag", "\"v1\"").cache_control("max-age=60");
    a_change_meanwhile(&Stage::redis(), prepare, late).await;
}
