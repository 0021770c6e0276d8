//! Who has looked in vain for long asks for the lease together with the look-up.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use http_body_util::BodyExt;

use crate::support::gate::{Gate, PATIENCE, eventually};
use crate::support::redis::RedisServer;
use crate::support::scripted::ok;
use crate::support::story::{Ask, Stage, Story, ask, get};
use crate::troupe::{all_is_well_in_the_end, client, is_asked, leases, process, process_with, waits};

/// Look-ups in vain after which it is worth it, and some.
const MANY: usize = 20;

/// A process that finds nothing, and has not for long.
async fn process_in_the_cold(stage: &Stage, name: &str) -> Story {
    let story = process(stage);
    story.origin_says(ok("before").cache_control("max-age=600"));
    for number in 0..MANY {
        story.client_asks(get(&format!("/{name}/{number}"))).await.is_stored();
    }
    story
}

/// A request that is under way, and goes on when it is polled: its answer's body.
type Underway = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

/// One that has bid and looked, and has yet to learn what came of it.
async fn has_bid(stage: &Stage, story: &Story, ask: Ask) -> Underway {
    let looks = stage.server().calls("getrange");
    let story = story.clone();
    let mut asking: Underway = Box::pin(async move {
        let response = story.client_tries(ask).await.expect("an answer");
        response.into_body().collect().await.expect("a whole body").to_bytes().to_vec()
    });
    assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    eventually("it has looked", || stage.server().calls("getrange") > looks).await;
    assert_eq!(leases(stage.server()).len(), 1);
    asking
}

/// After so many removals it is given back, and does not only end by itself.
async fn is_given_back(stage: &Stage, removals: u64) {
    eventually("the lease is given back", || stage.server().calls("unlink") > removals).await;
    assert!(leases(stage.server()).is_empty());
}

#[tokio::test]
async fn one_round_trip_is_enough_before_the_service_is_asked() {
    let stage = Stage::redis();
    let story = process_in_the_cold(&stage, "one").await;
    stage.server().cli(&["CONFIG", "RESETSTAT"]);
    let gate = Gate::closed();
    story.origin_says(ok("page").cache_control("max-age=600").head_after(&gate));
    let first = client(&story, get("/a"));
    is_asked(&story, MANY + 1).await;
    let calls = ["set", "getrange", "exists", "evalsha"].map(|command| stage.server().calls(command));
    assert_eq!((calls, leases(stage.server()).len()), ([1, 1, 0, 0], 1));
    gate.open();
    first.await.expect("an answer").is_stored().has_body("page");
    story.client_asks(get("/a")).await.is_hit().has_body("page");
    all_is_well_in_the_end(&stage, &[&story]).await;
}

#[tokio::test]
async fn two_processes_that_find_nothing_fetch_once() {
    let stage = Stage::redis();
    let (one, other) = (process_in_the_cold(&stage, "one").await, process_in_the_cold(&stage, "other").await);
    let gate = Gate::closed();
    one.origin_says(ok("page").cache_control("max-age=600").head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, MANY + 1).await;
    stage.server().cli(&["CONFIG", "RESETSTAT"]);
    let second = client(&other, get("/a"));
    waits(&stage, &other).await;
    // That the lease is not free it knows from its bid.
    assert_eq!(stage.server().calls("exists"), 0);
    gate.open();
    first.await.expect("an answer").is_stored().has_body("page");
    let second = second.await.expect("an answer");
    second.is_not_stored().has_body("page");
    assert!(second.outcome().is_collapsed());
    other.origin_was_asked(MANY);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn a_crowd_in_one_process_bids_once_and_fetches_once() {
    let stage = Stage::redis();
    let story = process_in_the_cold(&stage, "one").await;
    let gate = Gate::closed();
    story.origin_says(ok("page").cache_control("max-age=600").head_after(&gate));
    stage.server().cli(&["CONFIG", "RESETSTAT"]);
    let misses = story.handle.stats().misses;
    let clients: Vec<_> = (0..50).map(|_| client(&story, get("/a"))).collect();
    eventually("everybody is there", || story.handle.stats().misses == misses + 50).await;
    assert_eq!(stage.server().calls("set"), 1);
    gate.open();
    for client in clients {
        client.await.expect("an answer").has_body("page");
    }
    story.origin_was_asked(MANY + 1);
    all_is_well_in_the_end(&stage, &[&story]).await;
}

#[tokio::test]
async fn what_is_found_after_all_gives_the_lease_back_and_ends_the_bidding() {
    let stage = Stage::redis();
    let (one, other) = (process_in_the_cold(&stage, "one").await, process(&stage));
    other.origin_says(ok("page").cache_control("max-age=600"));
    other.client_asks(get("/a")).await.is_stored();
    let (sets, removals) = (stage.server().calls("set"), stage.server().calls("unlink"));
    one.client_asks(get("/a")).await.is_hit().has_body("page");
    assert_eq!(stage.server().calls("set"), sets + 1, "it has bid");
    is_given_back(&stage, removals).await;
    stage.server().cli(&["CONFIG", "RESETSTAT"]);
    one.client_asks(get("/b")).await.is_stored();
    assert_eq!(stage.server().calls("exists"), 1);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

/// Its variants have leases of their own.
#[tokio::test]
async fn a_variant_that_is_not_there_is_fetched_under_its_own_lease() {
    let stage = Stage::redis();
    let (one, other) = (process_in_the_cold(&stage, "one").await, process(&stage));
    let page = || ok("page").cache_control("max-age=600").header("vary", "accept-language");
    other.origin_says(page());
    other.client_asks(get("/a").header("accept-language", "de")).await.is_stored();
    let (gate, sets, removals) = (Gate::closed(), stage.server().calls("set"), stage.server().calls("unlink"));
    one.origin_says(page().head_after(&gate));
    let first = client(&one, get("/a").header("accept-language", "en"));
    is_asked(&one, MANY + 1).await;
    assert!(stage.server().calls("set") > sets + 1, "it has bid, and then taken the right one");
    eventually(
        "it has no lease but that",
        || matches!(&leases(stage.server())[..], [lease] if lease.matches(':').count() == 3),
    )
    .await;
    assert!(stage.server().calls("unlink") > removals, "the other is given back");
    // That there are others is something that was found: the next does not bid.
    let sets = stage.server().calls("set");
    let second = client(&one, get("/a").header("accept-language", "fr"));
    is_asked(&one, MANY + 2).await;
    assert_eq!(stage.server().calls("set"), sets + 1);
    gate.open();
    first.await.expect("an answer").is_stored();
    second.await.expect("an answer").is_stored();
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_looks_leaves_no_lease() {
    let stage = Stage::redis();
    let story = process_in_the_cold(&stage, "one").await;
    let removals = stage.server().calls("unlink");
    drop(has_bid(&stage, &story, get("/a")).await);
    is_given_back(&stage, removals).await;
    story.client_asks(get("/a")).await.is_stored();
    all_is_well_in_the_end(&stage, &[&story]).await;
}

/// Whoever has bid for it need not be the one who fetches it.
#[tokio::test]
async fn who_fetches_takes_over_what_another_has_bid() {
    let stage = Stage::redis();
    let (one, other) = (process_in_the_cold(&stage, "one").await, process(&stage));
    let bidder = has_bid(&stage, &one, get("/a")).await;
    let held = stage.server().value(&leases(stage.server())[0]);
    let gate = Gate::closed();
    one.origin_says(ok("page").cache_control("max-age=600").head_after(&gate));
    let lead = client(&one, get("/a"));
    is_asked(&one, MANY + 1).await;
    assert_eq!(leases(stage.server()).iter().map(|lease| stage.server().value(lease)).collect::<Vec<_>>(), [held]);
    let second = client(&other, get("/a"));
    waits(&stage, &other).await;
    gate.open();
    lead.await.expect("an answer").is_stored().has_body("page");
    second.await.expect("an answer").is_not_stored().has_body("page");
    assert_eq!(bidder.await, b"page");
    one.origin_was_asked(MANY + 1);
    other.origin_was_asked(0);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

/// A lead that took the bid over holds the lease for longer than the bidder is there.
#[tokio::test]
async fn a_bidder_that_leaves_gives_back_nothing_that_another_has() {
    let stage = Stage::redis();
    let story = process_in_the_cold(&stage, "one").await;
    let bidder = has_bid(&stage, &story, get("/a")).await;
    let gate = Gate::closed();
    story.origin_says(ok("page").cache_control("max-age=600").head_after(&gate));
    let lead = client(&story, get("/a"));
    is_asked(&story, MANY + 1).await;
    let held = leases(stage.server());
    drop(bidder);
    // What it would have sent comes before that.
    story.client_asks_and_goes_on(get("/one/0")).await.is_hit();
    assert!(held.len() == 1 && leases(stage.server()).contains(&held[0]), "{held:?}");
    gate.open();
    lead.await.expect("an answer").is_stored();
    all_is_well_in_the_end(&stage, &[&story]).await;
}

#[tokio::test]
async fn whose_answer_may_not_be_for_others_bids_for_nothing() {
    let stage = Stage::redis();
    let story = process_in_the_cold(&stage, "one").await;
    let alone: [(&str, Ask); 6] = [
        ("only-if-cached", get("/1").header("cache-control", "only-if-cached")),
        ("no-cache", get("/2").header("cache-control", "no-cache")),
        ("pragma", get("/3").header("pragma", "no-cache")),
        ("a range", get("/4").header("range", "bytes=0-1")),
        ("HEAD", ask("HEAD", "/5")),
        ("POST", ask("POST", "/6")),
    ];
    let gate = Gate::closed();
    story.origin_says(ok("page").cache_control("max-age=60").head_after(&gate));
    for (what, ask) in alone {
        let (asked, sets) = (story.origin.calls(), stage.server().calls("set"));
        let client = client(&story, ask);
        eventually("it is answered, or forwarded", || client.is_finished() || story.origin.calls() > asked).await;
        assert_eq!((stage.server().calls("set"), leases(stage.server()).len()), (sets, 0), "{what}");
    }
    let (asked, sets) = (story.origin.calls(), stage.server().calls("set"));
    let plain = client(&story, get("/7"));
    is_asked(&story, asked + 1).await;
    assert_eq!((stage.server().calls("set"), leases(stage.server()).len()), (sets + 1, 1));
    gate.open();
    plain.await.expect("an answer").is_stored();
}

/// Should its bidder be cut off, the others have little to wait for.
#[tokio::test]
async fn a_bid_is_for_a_short_time_and_a_lease_for_longer() {
    let stage = Stage::redis();
    let story = process_in_the_cold(&stage, "one").await;
    let bidder = has_bid(&stage, &story, get("/a")).await;
    let left = |server: &RedisServer| -> i64 {
        let lease = leases(server).pop().unwrap_or_default();
        server.cli(&["PTTL", &lease]).parse().expect("a number")
    };
    assert!(left(stage.server()) <= 1000);
    let gate = Gate::closed();
    story.origin_says(ok("page").cache_control("max-age=60").head_after(&gate));
    let lead = tokio::spawn(bidder);
    is_asked(&story, MANY + 1).await;
    eventually("it is renewed", || left(stage.server()) > 1000).await;
    gate.open();
    assert_eq!(lead.await.expect("an answer"), b"page");
    story.client_asks(get("/a")).await.is_hit();
}

#[tokio::test]
async fn what_is_changed_while_it_is_fetched_is_not_stored() {
    let stage = Stage::redis();
    let (one, other) = (process_in_the_cold(&stage, "one").await, process(&stage));
    let gate = Gate::closed();
    one.origin_says(ok("page").cache_control("max-age=60").head_after(&gate));
    let late = client(&one, get("/a"));
    is_asked(&one, MANY + 1).await;
    other.origin_says(ok("done"));
    assert_eq!(leases(stage.server()).len(), 1);
    other.client_asks(ask("POST", "/a")).await.has_status(200);
    assert_eq!(leases(stage.server()).len(), 0, "it goes with the change");
    gate.open();
    late.await.expect("an answer").has_body("page");
    one.fills_are_done().await;
    // It has lost the lease, or heard of the change before it wrote.
    let stats = one.handle.stats();
    assert_eq!(stats.fenced_writes + stats.dropped_writes, 1, "{stats:?}");
    other.origin_says(ok("new").cache_control("max-age=60"));
    other.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

/// Who bids takes no place of those who look.
#[tokio::test]
async fn as_many_look_ups_as_ever_are_under_way_at_once() {
    let stage = Stage::redis();
    let story = process_with(&stage, |config| config.store_timeout(PATIENCE * 2).store_write_timeout(PATIENCE * 2));
    story.origin_says(ok("before").cache_control("max-age=600"));
    for number in 0..MANY {
        story.client_asks(get(&format!("/before/{number}"))).await.is_stored();
    }
    stage.server().stop();
    let clients: Vec<_> = (0..1_000).map(|number| client(&story, get(&format!("/{number}")))).collect();
    tokio::task::yield_now().await;
    stage.server().cont();
    for client in clients {
        client.await.expect("an answer").is_forwarded_for("uri-miss");
    }
    all_is_well_in_the_end(&stage, &[&story]).await;
}

/// Who bids first need not lead, nor does whoever leads know what has become of the bid.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn crowds_in_two_processes_on_several_threads_fetch_once() {
    let stage = Stage::redis();
    let stories = [process_in_the_cold(&stage, "one").await, process_in_the_cold(&stage, "other").await];
    for round in 0..20 {
        let gate = Gate::closed();
        for story in &stories {
            story.origin_says(ok("page").cache_control("max-age=600").head_after(&gate));
        }
        let asked = || stories.iter().map(|story| story.origin.calls()).sum::<usize>();
        let (before, misses) = (asked(), stories.each_ref().map(|story| story.handle.stats().misses));
        let target = format!("/crowd/{round}");
        let clients: Vec<_> = (0..40).map(|number| client(&stories[number % 2], get(&target))).collect();
        for (story, misses) in stories.iter().zip(misses) {
            eventually("everybody is there", || story.handle.stats().misses == misses + 20).await;
        }
        eventually("somebody fetches", || asked() > before).await;
        gate.open();
        for client in clients {
            client.await.expect("an answer").has_body("page");
        }
        assert_eq!(asked(), before + 1, "{round}");
        for story in &stories {
            story.fills_are_done().await;
        }
    }
    all_is_well_in_the_end(&stage, &stories.each_ref()).await;
}
