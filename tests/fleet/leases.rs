//! One fetch for all processes, and what the others do meanwhile.

use std::time::Duration;

use crate::support::gate::{Gate, PATIENCE, eventually};
use crate::support::scripted::{failure, ok, status};
use crate::support::story::{Stage, get, seconds};
use crate::troupe::{QUICK, all_is_well_in_the_end, client, is_asked, leases, process, process_with, waits};

#[tokio::test]
async fn who_comes_while_another_process_fetches_waits_for_its_answer() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    one.origin_says(ok("page").cache_control("max-age=60").head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let second = client(&other, get("/a"));
    waits(&stage, &other).await;
    gate.open();
    first.await.expect("an answer").is_forwarded_for("uri-miss").is_stored().has_body("page");
    let second = second.await.expect("an answer");
    second.is_forwarded_for("uri-miss").is_not_stored().has_status(200).has_body("page").has_ttl(60);
    assert!(second.outcome().is_collapsed());
    other.origin_was_asked(0);
    assert_eq!(other.handle.stats().collapsed, 1);
    other.client_asks(get("/a")).await.is_hit();
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

/// Where scripts are known to run, a lease that is free is taken without one.
#[tokio::test]
async fn one_fetch_is_enough_for_those_who_have_stored_before() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    for (story, own) in [(&one, "/one"), (&other, "/other")] {
        story.origin_says(ok("own").cache_control("max-age=60"));
        story.client_asks(get(own)).await.is_stored();
    }
    let gate = Gate::closed();
    one.origin_says(ok("page").cache_control("max-age=60").head_after(&gate));
    let scripts = stage.server().calls("evalsha");
    let first = client(&one, get("/a"));
    is_asked(&one, 2).await;
    assert_eq!((stage.server().calls("evalsha"), leases(stage.server()).len()), (scripts, 1));
    let second = client(&other, get("/a"));
    waits(&stage, &other).await;
    gate.open();
    first.await.expect("an answer").is_stored().has_body("page");
    second.await.expect("an answer").is_not_stored().has_body("page");
    other.origin_was_asked(1);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn a_right_that_is_taken_away_costs_no_lease() {
    let stage = Stage::redis();
    let one = process(&stage);
    one.origin_says(ok("page").cache_control("max-age=60"));
    one.client_asks(get("/before")).await.is_stored();
    stage.server().cli(&["ACL", "SETUSER", "default", "-exists"]);
    for number in 0..3 {
        one.client_asks(get(&format!("/{number}"))).await.is_stored();
        all_is_well_in_the_end(&stage, &[&one]).await;
    }
    assert_eq!(one.handle.stats().store_unavailable, 0);
}

#[tokio::test]
async fn a_crowd_at_four_processes_costs_one_fetch() {
    let stage = Stage::redis();
    let processes = [(); 4].map(|()| process(&stage));
    let gate = Gate::closed();
    let body = "0123456789".repeat(60_000);
    for story in &processes {
        story.origin_says(ok(body.clone()).cache_control("max-age=60").head_after(&gate));
    }
    let clients: Vec<_> = (0..200).map(|number| client(&processes[number % 4], get("/a"))).collect();
    let asked = || processes.iter().map(|story| story.origin.calls()).sum::<usize>();
    eventually("somebody fetches", || asked() == 1).await;
    for story in &processes {
        eventually("everybody is there", || story.handle.stats().misses == 50).await;
    }
    gate.open();
    for client in clients {
        client.await.expect("an answer").has_status(200).has_body(&body);
    }
    assert_eq!(asked(), 1);
    all_is_well_in_the_end(&stage, &processes.each_ref()).await;
}

#[tokio::test]
async fn what_has_expired_is_validated_once_for_all() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    one.origin_says(ok("page").cache_control("max-age=60").header("etag", "\"v1\""));
    one.client_asks(get("/a")).await.is_stored();
    for story in [&one, &other] {
        story.time_passes(seconds(62));
    }
    let gate = Gate::closed();
    one.origin_says(status(304).header("etag", "\"v1\"").cache_control("max-age=60").head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 2).await;
    let others: Vec<_> = (0..20).map(|_| client(&other, get("/a"))).collect();
    waits(&stage, &other).await;
    gate.open();
    first.await.expect("an answer").is_forwarded_for("stale").has_forward_status(304).has_body("page");
    for other in others {
        other.await.expect("an answer").is_forwarded_for("stale").has_body("page");
    }
    other.origin_was_asked(0);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn an_answer_that_is_stale_at_once_is_validated_by_each() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    let page = ok("page").cache_control("max-age=0").header("etag", "\"v1\"");
    other.origin_says(page.clone());
    one.origin_says(page.head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let second = client(&other, get("/a"));
    waits(&stage, &other).await;
    gate.open();
    first.await.expect("an answer").is_stored();
    second.await.expect("an answer").has_body("page");
    other.origin_was_asked(1);
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_the_fetch_takes() {
    let stage = Stage::redis();
    let (one, other) = [(); 2].map(|()| process_with(&stage, |config| config.lease_heartbeat(2 * QUICK))).into();
    let gate = Gate::closed();
    one.origin_says(ok("").chunks(["one "]).waits_for(&gate).chunks(["two"]).cache_control("max-age=60"));
    let mut first = one.client_begins(get("/a")).await;
    first.receives("one ").await;
    let [lease] = &leases(stage.server())[..] else { panic!("one lease") };
    let holder = stage.server().value(lease);
    let second = client(&other, get("/a"));
    let before = stage.server().calls("pexpire");
    eventually("five heartbeats", || stage.server().calls("pexpire") >= before + 5).await;
    assert_eq!(stage.server().value(lease), holder);
    let left: i64 = stage.server().cli(&["PTTL", lease]).parse().expect("a number");
    assert!(left > 0 && left <= i64::try_from(QUICK.as_millis()).expect("small") * 4, "{left}");
    gate.open();
    first.reads_to_the_end().await.has_body("one two");
    second.await.expect("an answer").has_body("one two");
    other.origin_was_asked(0);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn when_a_fetch_fails_exactly_one_of_those_who_wait_takes_over() {
    let stage = Stage::redis();
    let processes = [(); 4].map(|()| process(&stage));
    let gate = Gate::closed();
    processes[0].origin.answers({
        let gate = gate.clone();
        move |_| failure("gone").head_after(&gate)
    });
    let held = Gate::closed();
    for story in &processes[1..] {
        story.origin_says(ok("page").cache_control("max-age=60").head_after(&held));
    }
    let failing = tokio::spawn({
        let story = processes[0].clone();
        async move { story.client_tries(get("/a")).await.is_err() }
    });
    is_asked(&processes[0], 1).await;
    let waiting: Vec<_> = processes[1..].iter().map(|story| client(story, get("/a"))).collect();
    for story in &processes[1..] {
        waits(&stage, story).await;
    }
    gate.open();
    assert!(failing.await.expect("an answer"), "the service's error is its client's");
    let asked = || processes[1..].iter().map(|story| story.origin.calls()).sum::<usize>();
    eventually("one takes over", || asked() == 1).await;
    held.open();
    for client in waiting {
        client.await.expect("an answer").has_body("page");
    }
    assert_eq!(asked(), 1);
    all_is_well_in_the_end(&stage, &processes[1..].iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn each_variant_has_its_lease() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    for story in [&one, &other] {
        story.origin.answers(|parts| {
            let language = parts.headers["accept-language"].to_str().expect("ASCII").to_owned();
            ok(language).cache_control("max-age=60").header("vary", "accept-language")
        });
    }
    one.client_asks(get("/a").header("accept-language", "de")).await.is_stored();
    let gate = Gate::closed();
    let page = |body: &'static str| ok(body).cache_control("max-age=60").header("vary", "accept-language");
    one.origin_says(page("en").head_after(&gate));
    let english = client(&one, get("/a").header("accept-language", "en"));
    is_asked(&one, 2).await;
    // Another variant does not wait, the same does.
    other.client_asks(get("/a").header("accept-language", "fr")).await.is_stored().has_body("fr");
    let again = client(&other, get("/a").header("accept-language", "en"));
    waits(&stage, &other).await;
    gate.open();
    english.await.expect("an answer").is_stored().has_body("en");
    again.await.expect("an answer").is_forwarded_for("vary-miss").has_body("en");
    other.origin_was_asked(1);
    for language in ["de", "en", "fr"] {
        other.client_asks(get("/a").header("accept-language", language)).await.is_hit().has_body(language);
    }
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn who_waited_for_what_turns_out_to_vary_fetches_its_own() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    let page = |body: &'static str| ok(body).cache_control("max-age=60").header("vary", "accept-language");
    one.origin_says(page("de").head_after(&gate));
    other.origin_says(page("en"));
    let german = client(&one, get("/a").header("accept-language", "de"));
    is_asked(&one, 1).await;
    let english = client(&other, get("/a").header("accept-language", "en"));
    waits(&stage, &other).await;
    gate.open();
    german.await.expect("an answer").has_body("de");
    english.await.expect("an answer").is_stored().has_body("en");
    other.fills_are_done().await;
    one.client_asks(get("/a").header("accept-language", "en")).await.is_hit().has_body("en");
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn one_process_refreshes_behind_a_stale_answer() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let page = |body: &'static str| ok(body).cache_control("max-age=60, stale-while-revalidate=60");
    one.origin_says(page("old"));
    one.client_asks(get("/a")).await.is_stored();
    for story in [&one, &other] {
        story.time_passes(seconds(63));
    }
    let gate = Gate::closed();
    one.origin_says(page("new").head_after(&gate));
    one.client_asks_and_goes_on(get("/a")).await.is_hit().has_body("old");
    is_asked(&one, 2).await;
    other.client_asks(get("/a")).await.is_hit().has_body("old");
    assert_eq!(other.handle.stats().refreshes, 0);
    gate.open();
    one.fills_are_done().await;
    other.client_asks(get("/a")).await.is_hit().has_body("new");
    other.origin_was_asked(0);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn who_has_waited_long_enough_asks_the_origin() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process_with(&stage, |config| config.collapse_timeout(2 * QUICK)));
    let gate = Gate::closed();
    one.origin_says(ok("slow").cache_control("max-age=60").head_after(&gate));
    other.origin_says(ok("quick").cache_control("max-age=60"));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    other.client_asks_and_goes_on(get("/a")).await.has_body("quick");
    assert_eq!(other.handle.stats().collapse_timeouts, 1);
    gate.open();
    first.await.expect("an answer").has_body("slow");
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn who_has_waited_long_enough_gets_a_stale_answer_where_that_is_allowed() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process_with(&stage, |config| config.collapse_timeout(2 * QUICK)));
    one.origin_says(ok("old").cache_control("max-age=60, stale-if-error=600"));
    one.client_asks(get("/a")).await.is_stored();
    for story in [&one, &other] {
        story.time_passes(seconds(63));
    }
    let gate = Gate::closed();
    one.origin_says(ok("new").cache_control("max-age=60").head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 2).await;
    let answer = other.client_asks_and_goes_on(get("/a")).await;
    answer.is_forwarded_for("stale").has_detail("stale-if-error").has_body("old");
    other.origin_was_asked(0);
    gate.open();
    first.await.expect("an answer").has_body("new");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_leaves_nothing_behind() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process_with(&stage, |config| config.collapse_timeout(4 * QUICK)));
    let gate = Gate::closed();
    one.origin_says(ok("page").cache_control("max-age=60").head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let second = client(&other, get("/a"));
    eventually("it waits", || other.handle.stats().flights == 1).await;
    second.abort();
    gate.open();
    first.await.expect("an answer").is_stored();
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
    assert!(other.handle.drain(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn when_a_body_breaks_off_another_process_takes_over() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    one.origin_says(ok("").waits_for(&gate).then_breaks_off().cache_control("max-age=60"));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    other.origin_says(ok("page").cache_control("max-age=60"));
    let second = client(&other, get("/a"));
    waits(&stage, &other).await;
    gate.open();
    first.await.expect("an answer").breaks_off();
    second.await.expect("an answer").is_stored().has_body("page");
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn when_a_service_panics_another_process_takes_over() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    one.origin.answers(|_| panic!("the service panics, as it is meant to"));
    other.origin_says(ok("page").cache_control("max-age=60"));
    assert!(client(&one, get("/a")).await.is_err(), "the panic is the caller's");
    other.client_asks(get("/a")).await.is_stored().has_body("page");
    all_is_well_in_the_end(&stage, &[&other]).await;
}

#[tokio::test]
async fn a_lease_is_given_back_however_much_else_is_asked() {
    let stage = Stage::redis();
    let one = process_with(&stage, |config| config.store_timeout(PATIENCE * 2).store_write_timeout(PATIENCE * 2));
    let gate = Gate::closed();
    one.origin_says(status(500).head_after(&gate));
    let failing = client(&one, get("/a"));
    is_asked(&one, 1).await;
    one.origin_says(ok("page").cache_control("max-age=60"));
    stage.server().stop();
    let asking: Vec<_> = (0..1_100).map(|number| client(&one, get(&format!("/{number}")))).collect();
    eventually("one look-up is too many", || asking.iter().any(tokio::task::JoinHandle::is_finished)).await;
    gate.open();
    failing.await.expect("an answer").has_status(500);
    stage.server().cont();
    let mut refused = 0;
    for client in asking {
        refused += usize::from(client.await.expect("an answer").outcome().detail() == Some("store-busy"));
    }
    assert!(refused > 0, "the bound was reached");
    all_is_well_in_the_end(&stage, &[&one]).await;
}
