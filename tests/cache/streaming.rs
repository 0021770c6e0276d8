//! Bodies pass as they come; only whole ones are stored.

use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::ok;
use crate::support::story::get;

on_both_stores! {
    async fn the_client_gets_each_frame_before_the_next_is_there(stage) {
        let story = stage.story();
        let (second, third) = (Gate::closed(), Gate::closed());
        let reply = ok("")
            .chunks(["one "])
            .waits_for(&second)
            .chunks(["two "])
            .waits_for(&third)
            .chunks(["three"])
            .cache_control("max-age=60");
        story.origin_says(reply);
        let mut opened = story.client_begins(get("/a")).await;
        opened.receives("one ").await;
        second.open();
        opened.receives("two ").await;
        third.open();
        opened.reads_to_the_end().await.is_stored().has_body("one two three");
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.is_hit().has_body("one two three");
    }

    async fn the_head_comes_before_the_body(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("").waits_for(&gate).chunks(["late"]).cache_control("max-age=60"));
        let opened = story.client_begins(get("/a")).await;
        gate.open();
        opened.reads_to_the_end().await.has_status(200).has_body("late");
    }

    async fn what_is_not_complete_yet_answers_nobody(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("").chunks(["one "]).waits_for(&gate).chunks(["two"]).cache_control("max-age=60"));
        let mut first = story.client_begins(get("/a")).await;
        first.receives("one ").await;
        story.origin_says(ok("another").cache_control("no-store"));
        let second = tokio::spawn({
            let story = story.clone();
            async move { story.client_asks_and_goes_on(get("/a")).await }
        });
        gate.open();
        first.reads_to_the_end().await.has_body("one two");
        let second = second.await.expect("the second client is content");
        assert!(second.body() == "another" || second.body() == "one two", "{:?}", second.body());
    }

    async fn trailers_pass(stage) {
        let story = stage.story();
        story.origin_says(ok("").chunks(["x"]).trailer("x-checksum", "7").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.has_body("x").has_trailer("x-checksum", "7");
    }

    async fn trailers_never_become_header_fields(stage) {
        let story = stage.story();
        story.origin_says(ok("").chunks(["x"]).trailer("x-checksum", "7").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.has_no("x-checksum");
        story.client_asks(get("/a")).await.has_status(200).has_no("x-checksum").has_body("x");
    }

    async fn a_body_that_breaks_off_is_not_stored_and_the_client_sees_it(stage) {
        let story = stage.story();
        story.origin_says(ok("").chunks(["one ", "two "]).then_breaks_off().cache_control("max-age=60"));
        story.client_asks(get("/a")).await.breaks_off();
        story.origin_says(ok("whole").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("whole");
        assert_eq!(story.handle.stats().abandoned, 1);
    }

    async fn a_body_that_does_not_match_its_content_length_is_not_stored(stage) {
        for (length, body) in [("6", "short"), ("4", "longer"), ("1", "")] {
            let story = stage.story();
            let target = format!("/{length}");
            story.origin_says(ok("").chunks([body]).cache_control("max-age=60").header("content-length", length));
            story.client_asks(get(&target)).await;
            story.origin_says(ok("whole").cache_control("max-age=60"));
            story.client_asks(get(&target)).await.is_forwarded_for("uri-miss").has_body("whole");
            assert_eq!(story.handle.stats().abandoned, 1, "{length}");
        }
    }

    async fn a_client_that_leaves_poisons_nothing(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("").chunks(["one "]).waits_for(&gate).chunks(["two"]).cache_control("max-age=60"));
        let mut opened = story.client_begins(get("/a")).await;
        opened.receives("one ").await;
        opened.leaves();
        gate.open();
        story.fills_are_done().await;
        let answer = story.client_asks(get("/a")).await;
        answer.has_body("one two");
        story.client_asks(get("/a")).await.is_hit().has_body("one two");
    }

    async fn a_client_that_leaves_before_the_first_frame_poisons_nothing(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60"));
        story.client_begins(get("/a")).await.leaves();
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.has_body("hello");
        story.client_asks(get("/a")).await.is_hit().has_body("hello");
    }

    async fn a_client_that_leaves_before_the_head_poisons_nothing(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("hello").cache_control("max-age=60").head_after(&gate));
        let client = tokio::spawn({
            let story = story.clone();
            async move { drop(story.client_tries(get("/a")).await) }
        });
        eventually("the origin is asked", || story.origin.calls() == 1).await;
        client.abort();
        assert!(client.await.expect_err("the client left").is_cancelled());
        gate.open();
        story.client_asks(get("/a")).await.has_body("hello");
        story.client_asks(get("/a")).await.is_hit().has_body("hello");
    }

    async fn an_uncacheable_body_is_let_go_when_its_client_leaves(stage) {
        let story = stage.story();
        story.origin_says(ok("").chunks(["one "]).then_hangs().cache_control("no-store"));
        let mut opened = story.client_begins(get("/a")).await;
        opened.receives("one ").await;
        opened.leaves();
        eventually("the origin's body is dropped", || story.origin.bodies_left() == 1).await;
    }

    async fn a_large_body_is_not_held_while_its_client_is_slow(stage) {
        let story = stage.story_with(|config| config.max_body_size(10_000));
        let chunk = "x".repeat(4_000);
        story.origin_says(ok("").chunks(vec![chunk.clone(); 100]).cache_control("max-age=60"));
        let mut opened = story.client_begins(get("/a")).await;
        for _ in 0..10 {
            opened.receives(&chunk).await;
            assert!(story.handle.stats().bytes_in_flight <= 10_000, "{:?}", story.handle.stats());
        }
        opened.reads_to_the_end().await.has_body(chunk.repeat(100));
    }

    async fn a_hit_that_nobody_reads_harms_nobody(stage) {
        let story = stage.story();
        let body = "0123456789".repeat(50_000);
        story.origin_says(ok(body.clone()).cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_begins(get("/a")).await.leaves();
        story.client_asks(get("/a")).await.is_hit().has_body(&body);
    }
}
