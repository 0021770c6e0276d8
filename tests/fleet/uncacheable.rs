//! What is for nobody else makes nobody wait.

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{ok, status};
use crate::support::story::{Stage, get, seconds};
use crate::troupe::{all_is_well_in_the_end, client, is_asked, leases, process, waits};

#[tokio::test]
async fn who_waited_for_what_is_private_asks_at_once() {
    for reply in [ok("mine").cache_control("private"), status(200), status(206), status(500)] {
        let stage = Stage::redis();
        let processes = [(); 4].map(|()| process(&stage));
        let (gate, held) = (Gate::closed(), Gate::closed());
        processes[0].origin_says(reply.clone().head_after(&gate));
        let first = client(&processes[0], get("/a"));
        is_asked(&processes[0], 1).await;
        let mut others = Vec::new();
        for story in &processes[1..] {
            story.origin_says(reply.clone().head_after(&held));
            others.extend((0..5).map(|_| client(story, get("/a"))));
            eventually("all are there", || story.handle.stats().misses == 5).await;
            waits(&stage, story).await;
        }
        gate.open();
        first.await.expect("an answer");
        // All of them at once: none is answered before all have asked.
        for story in &processes[1..] {
            is_asked(story, 5).await;
        }
        held.open();
        for other in others {
            other.await.expect("an answer").is_not_stored();
        }
        all_is_well_in_the_end(&stage, &processes.each_ref()).await;
    }
}

#[tokio::test]
async fn what_one_process_found_to_be_private_no_other_waits_for() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    one.origin_says(ok("mine").cache_control("private"));
    one.client_asks(get("/a")).await.is_not_stored();
    // What the lease said of it is forgotten by now.
    eventually("no lease is left", || leases(stage.server()).is_empty()).await;
    let gate = Gate::closed();
    other.origin_says(ok("mine").cache_control("private").head_after(&gate));
    let clients: Vec<_> = (0..5).map(|_| client(&other, get("/a"))).collect();
    is_asked(&other, 5).await;
    gate.open();
    for client in clients {
        client.await.expect("an answer").is_forwarded_for("uri-miss").has_detail("private");
    }
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn what_has_turned_private_no_other_waits_for() {
    let pages =
        [("max-age=60", ok("mine").cache_control("private")), ("max-age=60", status(304).cache_control("private"))];
    for (cacheable, private) in pages {
        let stage = Stage::redis();
        let (one, other) = (process(&stage), process(&stage));
        one.origin_says(ok("page").cache_control(cacheable).header("etag", "\"v1\""));
        one.client_asks(get("/a")).await.is_stored();
        for story in [&one, &other] {
            story.time_passes(seconds(62));
        }
        one.origin_says(private);
        one.client_asks(get("/a")).await.is_forwarded_for("stale").is_not_stored();
        eventually("no lease is left", || leases(stage.server()).is_empty()).await;
        let gate = Gate::closed();
        other.origin_says(ok("mine").cache_control("private").head_after(&gate));
        let clients: Vec<_> = (0..5).map(|_| client(&other, get("/a"))).collect();
        is_asked(&other, 5).await;
        gate.open();
        for client in clients {
            client.await.expect("an answer").is_forwarded_for("uri-miss").has_body("mine");
        }
        all_is_well_in_the_end(&stage, &[&one, &other]).await;
    }
}

#[tokio::test]
async fn a_key_that_has_become_cacheable_is_stored_for_all() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    one.origin_says(ok("mine").cache_control("private"));
    one.client_asks(get("/a")).await.is_not_stored();
    other.origin_says(ok("all's").cache_control("max-age=60"));
    other.client_asks(get("/a")).await.is_forwarded_for("uri-miss").is_stored();
    // For a second it knows no better, and does not ask.
    one.time_passes(seconds(1));
    one.client_asks(get("/a")).await.is_hit().has_body("all's");
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

/// An error says nothing of the key.
#[tokio::test]
async fn after_an_error_redis_is_asked_at_once() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    one.origin_says(status(503));
    one.client_asks(get("/a")).await.has_status(503).is_not_stored();
    other.origin_says(ok("all's").cache_control("max-age=60"));
    other.client_asks(get("/a")).await.is_stored();
    one.client_asks(get("/a")).await.is_hit().has_body("all's");
}

/// What may not be stored costs Redis nothing, once that is known.
#[tokio::test]
async fn redis_is_not_asked_again_for_what_it_cannot_have() {
    let stage = Stage::redis();
    let story = process(&stage);
    story.origin_says(ok("mine").cache_control("private"));
    story.client_asks(get("/a")).await.is_not_stored();
    let asked = stage.server().calls("getrange");
    for _ in 0..10 {
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_detail("private");
    }
    assert_eq!(stage.server().calls("getrange"), asked);
    // Who wants nothing but what is stored has a look; and so has anybody after a second.
    story.client_asks(get("/a").header("cache-control", "only-if-cached")).await.has_status(504);
    let asked = stage.server().calls("getrange");
    story.time_passes(seconds(1));
    story.client_asks(get("/a")).await.is_forwarded_for("uri-miss");
    assert!(stage.server().calls("getrange") > asked);
    // What becomes cacheable is stored at once.
    story.origin_says(ok("all's").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    story.client_asks(get("/a")).await.is_hit();
}

#[tokio::test]
async fn what_a_private_response_replaces_is_over_for_all() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    one.origin_says(ok("old").cache_control("max-age=60, stale-if-error=600").header("etag", "\"v1\""));
    one.client_asks(get("/a")).await.is_stored();
    for story in [&one, &other] {
        story.time_passes(seconds(63));
    }
    one.origin_says(ok("mine").cache_control("private"));
    one.client_asks(get("/a")).await.is_not_stored().has_body("mine");
    other.origin_says(status(500));
    other.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_status(500);
    // A marker gives way to what may be stored.
    other.origin_says(ok("new").cache_control("max-age=60"));
    other.client_asks(get("/a")).await.is_stored();
    one.client_asks(get("/a")).await.is_hit().has_body("new");
}

#[tokio::test]
async fn a_request_that_must_not_be_stored_says_nothing_of_its_key() {
    let stage = Stage::redis();
    let one = process(&stage);
    one.origin_says(ok("page").cache_control("max-age=60"));
    one.client_asks(get("/a").header("cache-control", "no-store")).await.is_not_stored();
    assert!(stage.server().keys("*").is_empty(), "{:?}", stage.server().keys("*"));
    one.client_asks(get("/a")).await.is_stored();
}

#[tokio::test]
async fn what_each_has_to_validate_is_stored_and_waited_for_by_nobody() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let page = || ok("").header("etag", "\"v1\"").cache_control("no-cache").chunks(["one "]);
    let (head, rest) = (Gate::closed(), Gate::closed());
    one.origin_says(page().waits_for(&rest).chunks(["two"]).head_after(&head));
    other.origin_says(page().chunks(["two"]));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let second = client(&other, get("/a"));
    waits(&stage, &other).await;
    head.open();
    // The first is still on its way.
    second.await.expect("an answer").is_forwarded_for("uri-miss").has_body("one two");
    rest.open();
    first.await.expect("an answer").is_stored().has_body("one two");
    one.fills_are_done().await;
    assert_eq!((one.handle.stats().stored, one.handle.stats().fenced_writes), (1, 0));
    other.origin_says(status(304).header("etag", "\"v1\""));
    other.client_asks(get("/a")).await.is_forwarded_for("stale").has_forward_status(304).has_body("one two");
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}
