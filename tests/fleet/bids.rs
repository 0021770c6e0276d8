//! Who has looked in vain for long asks for the lease together with the look-up.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use http_body_util::BodyExt;

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::ok;
use crate::support::story::{Ask, Stage, Story, get};
use crate::troupe::{all_is_well_in_the_end, client, is_asked, leases, process, waits};

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
type Underway = Pin<Box<dyn Future<Output = Vec<u8>>>>;

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
    assert_eq!((stage.server().calls("set"), stage.server().calls("evalsha")), (1, 0));
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
    one.client_asks(get("/a")).await.is_hit().has_body("page");
    eventually("the lease is given back", || leases(stage.server()).is_empty()).await;
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
    let gate = Gate::closed();
    one.origin_says(page().head_after(&gate));
    let first = client(&one, get("/a").header("accept-language", "en"));
    is_asked(&one, MANY + 1).await;
    eventually(
        "it has no lease but that",
        || matches!(&leases(stage.server())[..], [lease] if lease.matches(':').count() == 3),
    )
    .await;
    gate.open();
    first.await.expect("an answer").is_stored();
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_looks_leaves_no_lease() {
    let stage = Stage::redis();
    let story = process_in_the_cold(&stage, "one").await;
    drop(has_bid(&stage, &story, get("/a")).await);
    eventually("the lease is given back", || leases(stage.server()).is_empty()).await;
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
async fn a_request_that_is_not_to_be_forwarded_bids_for_nothing() {
    let stage = Stage::redis();
    let story = process_in_the_cold(&stage, "one").await;
    let sets = stage.server().calls("set");
    story.client_asks(get("/a").header("cache-control", "only-if-cached")).await.has_status(504);
    assert_eq!((stage.server().calls("set"), leases(stage.server()).len()), (sets, 0));
}
