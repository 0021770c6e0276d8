//! Clients that leave: the fetch is not theirs alone.

use std::time::Duration;

use super::together::{all_ask, answers, asks, frames, nothing_is_left, octets, page, page_behind, settled};
use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::status;
use crate::support::story::{Opened, get};

on_both_stores! {
    async fn a_lead_that_leaves_before_the_head_leaves_it_to_the_others(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "hello"));
        let lead = all_ask(&story, 1, || get("/a")).await;
        let followers = all_ask(&story, 9, || get("/a")).await;
        leave(lead).await;
        gate.open();
        answers(followers).await.iter().for_each(|answer| { answer.has_body("hello"); });
        story.origin_was_asked(1);
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body("hello");
    }

    async fn a_lead_that_leaves_in_the_middle_of_the_body_leaves_it_to_the_others(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page("").chunks(["one "]).waits_for(&gate).chunks(["two"]));
        let mut lead = story.client_begins(get("/a")).await;
        let mut follower = story.client_begins(get("/a")).await;
        lead.receives("one ").await;
        follower.receives("one ").await;
        lead.leaves();
        // One more comes after the lead has left.
        let late = story.client_begins(get("/a")).await;
        gate.open();
        follower.reads_to_the_end().await.has_body("one two");
        late.reads_to_the_end().await.has_body("one two");
        story.origin_was_asked(1);
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body("one two");
    }

    async fn what_all_have_left_is_completed_for_the_store(stage) {
        let story = stage.story();
        let (head, rest) = (Gate::closed(), Gate::closed());
        story.origin_says(page("").chunks(["one "]).waits_for(&rest).chunks(["two"]).head_after(&head));
        leave(all_ask(&story, 5, || get("/a")).await).await;
        head.open();
        rest.open();
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body("one two");
        assert_eq!((story.origin.bodies_left(), story.origin.bodies_finished()), (0, 1));
    }

    async fn what_all_have_left_is_let_go_if_it_is_long(stage) {
        let story = stage.story_with(|config| config.max_unread_body(1000));
        let gate = Gate::closed();
        let body = page("").chunks(["one "]).waits_for(&gate).chunks(["x".repeat(2000)]);
        story.origin_says(body.header("content-length", "2004"));
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = story.client_begins(get("/a")).await;
            client.receives("one ").await;
            clients.push(client);
        }
        clients.into_iter().for_each(Opened::leaves);
        eventually("the origin's body is dropped", || story.origin.bodies_left() == 1).await;
        nothing_is_left(&story).await;
        assert_eq!(story.handle.stats().abandoned, 1);
    }

    async fn what_all_have_left_is_let_go_if_it_is_slow(stage) {
        let story = stage.story_with(|config| config.unread_timeout(Duration::from_millis(30)));
        story.origin_says(page("").chunks(["one "]).then_hangs());
        let mut client = story.client_begins(get("/a")).await;
        client.receives("one ").await;
        client.leaves();
        eventually("the origin's body is dropped", || story.origin.bodies_left() == 1).await;
        nothing_is_left(&story).await;
    }

    async fn a_body_that_somebody_has_come_to_wait_for_is_not_let_go(stage) {
        let limit = Duration::from_millis(150);
        let story = stage.story_with(|config| config.unread_timeout(limit));
        let gate = Gate::closed();
        story.origin_says(page("").waits_for(&gate).chunks(["late"]));
        story.client_begins(get("/a")).await.leaves();
        // It has the head, and nothing more to read until the time for an unread body is over.
        let follower = story.client_begins(get("/a")).await;
        story.origin_was_asked(1);
        tokio::time::sleep(2 * limit).await;
        assert_eq!(story.origin.bodies_left(), 0);
        gate.open();
        follower.reads_to_the_end().await.has_body("late");
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body("late");
    }

    async fn a_service_that_does_not_answer_those_who_have_left_is_not_waited_for(stage) {
        let story = stage.story_with(|config| config.unread_timeout(Duration::from_millis(30)));
        story.origin_says(status(200).head_after(&Gate::closed()));
        leave(all_ask(&story, 3, || get("/a")).await).await;
        nothing_is_left(&story).await;
        story.origin_says(page("hello"));
        story.client_asks(get("/a")).await.is_stored().has_body("hello");
        story.origin_was_asked(2);
    }

    async fn a_service_that_does_not_answer_is_waited_for_as_long_as_somebody_waits(stage) {
        let limit = Duration::from_millis(30);
        let story = stage.story_with(|config| config.unread_timeout(limit));
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "hello"));
        let lead = all_ask(&story, 1, || get("/a")).await;
        let follower = all_ask(&story, 1, || get("/a")).await;
        leave(lead).await;
        tokio::time::sleep(3 * limit).await;
        gate.open();
        answers(follower).await[0].has_body("hello");
        story.origin_was_asked(1);
        nothing_is_left(&story).await;
    }

    async fn a_follower_that_leaves_is_missed_by_nobody(stage) {
        let story = stage.story();
        let body = octets(200_000);
        let (gate, rest) = (Gate::closed(), Gate::closed());
        let [start, end] = [&frames(200_000, 10_000)[..9], &frames(200_000, 10_000)[9..]].map(<[_]>::to_vec);
        story.origin_says(page("").chunks(start).waits_for(&rest).chunks(end).head_after(&gate));
        let lead = asks(&story, get("/a"));
        eventually("it is forwarded", || story.origin.calls() == 1).await;
        let waiting = all_ask(&story, 5, || get("/a")).await;
        leave(waiting).await;
        gate.open();
        let mut reading = story.client_begins(get("/a")).await;
        reading.reads_on().await;
        reading.leaves();
        settled().await;
        rest.open();
        lead.await.expect("an answer").has_body(&body);
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body(&body);
        story.origin_was_asked(1);
    }
}

async fn leave(clients: Vec<super::together::Client>) {
    for client in clients {
        client.abort();
        assert!(client.await.expect_err("the client left").is_cancelled());
    }
}
