//! A body that several read while it comes.

use bytes::Bytes;

use super::together::{all_ask, answers, asks, frames, nothing_is_left, octets, page};
use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::Reply;
use crate::support::story::{Opened, Stage, Story, get};

const MIB: usize = 1024 * 1024;

on_both_stores! {
    async fn a_body_that_breaks_off_does_so_for_all(stage) {
        is_an_error_for_all(&stage.story(), |reply| reply.then_breaks_off(), "the origin broke off").await;
    }

    async fn a_body_that_panics_breaks_off_for_all(stage) {
        is_an_error_for_all(&stage.story(), |reply| reply.then_panics(), "not read to its end").await;
    }

    async fn a_body_of_another_length_reaches_all_and_is_not_stored(stage) {
        for (length, body) in [("9", "one two"), ("5", "one two")] {
            let story = stage.story();
            let gate = Gate::closed();
            let target = format!("/{length}");
            story.origin_says(page("").chunks(["one ", "two"]).header("content-length", length).head_after(&gate));
            let clients = all_ask(&story, 5, || get(&target)).await;
            gate.open();
            answers(clients).await.iter().for_each(|answer| { answer.has_body(body); });
            story.origin_was_asked(1);
            nothing_is_left(&story).await;
            assert_eq!((story.handle.stats().abandoned, story.handle.stats().stored), (1, 0));
            story.client_asks(get(&target)).await.is_forwarded_for("uri-miss");
        }
    }

    async fn a_body_that_grows_too_large_reaches_all_who_have_begun(stage) {
        let story = stage.story_with(|config| config.max_body_size(1000));
        let (gate, frame) = (Gate::closed(), "x".repeat(400));
        story.origin_says(page("").chunks([frame.clone()]).waits_for(&gate).chunks([frame.clone(), frame.clone(), frame.clone()]));
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = story.client_begins(get("/a")).await;
            client.receives(&frame).await;
            clients.push(client);
        }
        gate.open();
        // They go on side by side: what is not kept is not held for the slowest.
        for _ in 0..3 {
            for client in &mut clients {
                client.receives(&frame).await;
            }
        }
        for client in clients {
            client.reads_to_the_end().await.has_body(frame.repeat(4));
        }
        story.origin_was_asked(1);
        nothing_is_left(&story).await;
        assert_eq!((story.handle.stats().abandoned, story.handle.stats().stored), (1, 0));
    }
}

/// Three have had the start of a body that comes to no good.
async fn is_an_error_for_all(story: &Story, ending: fn(Reply) -> Reply, words: &str) {
    let gate = Gate::closed();
    story.origin_says(ending(page("").chunks(["one "]).waits_for(&gate)));
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = story.client_begins(get("/a")).await;
        client.receives("one ").await;
        clients.push(client);
    }
    gate.open();
    for client in clients {
        let answer = client.reads_to_the_end().await;
        assert!(answer.error().is_some_and(|error| error.contains(words)), "{:?}", answer.error());
    }
    story.origin_was_asked(1);
    nothing_is_left(story).await;
    story.origin_says(page("whole"));
    story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("whole");
}

/// A story on Redis with little room, and a body of 8 MiB that waits after its first frame.
fn large(stage: &Stage, gate: &Gate) -> Story {
    let story = stage.story_with(|config| config.max_body_size(64 << 20).max_inflight_bytes(16 << 20));
    let mut all = frames(8 * MIB, 64 * 1024);
    let first = all.remove(0);
    story.origin_says(page("").chunks([first]).waits_for(gate).chunks(all));
    story
}

async fn begins(story: &Story) -> Opened {
    let mut opened = story.client_begins(get("/a")).await;
    assert_eq!(opened.reads_on().await, 64 * 1024);
    opened
}

#[tokio::test]
async fn a_slow_follower_neither_stalls_the_others_nor_takes_more_than_its_room_and_goes_on_from_the_store() {
    let stage = Stage::redis();
    let gate = Gate::closed();
    let story = large(&stage, &gate);
    let (lead, follower, slow) = (begins(&story).await, begins(&story).await, begins(&story).await);
    gate.open();
    let watched = story.clone();
    let highest = tokio::spawn(async move {
        let mut highest = 0;
        while watched.handle.stats().fills_in_flight > 0 {
            highest = highest.max(watched.handle.stats().bytes_in_flight);
            tokio::task::yield_now().await;
        }
        highest
    });
    let body = octets(8 * MIB);
    let (lead, follower) = tokio::join!(lead.reads_to_the_end(), follower.reads_to_the_end());
    lead.has_body(&body);
    follower.has_body(&body);
    story.fills_are_done().await;
    let highest = highest.await.expect("no panic");
    assert!(highest <= 2 << 20, "an eighth of the room: {highest}");
    slow.reads_to_the_end().await.has_body(&body);
    nothing_is_left(&story).await;
    story.client_asks(get("/a")).await.is_hit().has_body(&body);
    story.origin_was_asked(1);
}

/// What is not stored cannot be had a second time: the slow one is waited for a little, and told why it ends.
#[tokio::test]
async fn a_slow_follower_of_what_turns_out_too_large_to_be_stored_is_told_why_it_ends() {
    let stage = Stage::redis();
    let gate = Gate::closed();
    let story = stage.story_with(|config| config.max_body_size(2 << 20));
    let body = octets(8 * MIB);
    let mut rest = frames(8 * MIB, 64 * 1024);
    let first = rest.remove(0);
    story.origin_says(page("").chunks([first]).waits_for(&gate).chunks(rest));
    let (fast, slow) = (begins(&story).await, begins(&story).await);
    gate.open();
    fast.reads_to_the_end().await.has_body(&body);
    let slow = slow.reads_to_the_end().await;
    assert_eq!(slow.error(), Some("read too slowly to share a response with others"));
    assert!(slow.body()[..] == body[..slow.body().len()]);
    nothing_is_left(&story).await;
    story.origin_was_asked(1);
}

#[tokio::test]
async fn one_slow_client_is_waited_for() {
    let stage = Stage::redis();
    let gate = Gate::closed();
    let story = large(&stage, &gate);
    let slow = begins(&story).await;
    gate.open();
    eventually("what there is room for has come", || story.handle.stats().bytes_in_flight > (1 << 20)).await;
    super::together::settled().await;
    assert!(story.handle.stats().bytes_in_flight <= 2 << 20, "{:?}", story.handle.stats());
    slow.reads_to_the_end().await.has_body(octets(8 * MIB));
    nothing_is_left(&story).await;
    story.client_asks(get("/a")).await.is_hit().has_body(octets(8 * MIB));
}

/// What other bodies hold is no reason to hang.
#[tokio::test]
async fn bodies_that_find_no_room_reach_their_clients_all_the_same() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.max_inflight_bytes(700_000).max_body_size(64 << 20));
    let gate = Gate::closed();
    let filling: Vec<Bytes> = frames(690_000, 10_000);
    story.origin_says(page("").chunks(filling).waits_for(&gate).chunks(["end"]));
    let mut greedy = story.client_begins(get("/greedy")).await;
    while story.handle.stats().bytes_in_flight < 200_000 {
        greedy.reads_on().await;
    }
    let body = octets(3 * MIB);
    story.origin_says(page("").chunks(frames(3 * MIB, 70_000)));
    let clients: Vec<_> = (0..6).map(|number| asks(&story, get(&format!("/{number}")))).collect();
    for answer in answers(clients).await {
        answer.has_body(&body);
    }
    gate.open();
    greedy.reads_to_the_end().await;
    nothing_is_left(&story).await;
}
