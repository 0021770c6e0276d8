//! The end of a graceful shutdown: what is under way is finished, nothing new begins, and nothing runs on.

use std::task::{Context, Waker};
use std::time::Duration;

use crate::on_both_stores;
use crate::support::gate::{Gate, PATIENCE, eventually, patiently};
use crate::support::scripted::{failure, ok};
use crate::support::story::{Story, get, seconds};

const SHORT: Duration = Duration::from_millis(20);

/// The rest of this response's body comes when the gate opens; its client has left.
async fn is_being_recorded(story: &Story, target: &str) -> Gate {
    let gate = Gate::closed();
    story.origin_says(ok("a").waits_for(&gate).body("b").cache_control("max-age=600"));
    story.client_begins(get(target)).await.receives("a").await;
    gate
}

on_both_stores! {
    async fn what_is_being_recorded_is_waited_for(stage) {
        let story = stage.story();
        let gate = is_being_recorded(&story, "/a").await;
        let mut draining = Box::pin(story.handle.drain(PATIENCE));
        assert!(draining.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        gate.open();
        assert!(draining.await, "{:?}", story.handle.stats());
        story.client_asks(get("/a")).await.is_hit().has_body("ab");
    }

    async fn no_refresh_begins_meanwhile(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=60, stale-while-revalidate=60"));
        story.client_asks(get("/stale")).await.is_stored();
        story.time_passes(seconds(61));
        let gate = is_being_recorded(&story, "/a").await;
        let mut draining = Box::pin(story.handle.drain(PATIENCE));
        assert!(draining.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        for _ in 0..3 {
            story.client_asks_and_goes_on(get("/stale")).await.is_hit().has_body("old");
        }
        gate.open();
        assert!(draining.await);
        story.origin_was_asked(2);
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/stale")).await.is_hit().has_body("old");
        story.client_asks(get("/stale")).await.is_hit().has_body("new");
    }

    async fn a_recording_that_takes_too_long_is_stopped(stage) {
        let story = stage.story();
        for (round, target) in ["/a", "/b"].into_iter().enumerate() {
            story.origin_says(ok("a").then_hangs().cache_control("max-age=60"));
            let mut reading = story.client_begins(get(target)).await;
            reading.receives("a").await;
            assert!(!story.handle.drain(SHORT).await);
            let stats = story.handle.stats();
            assert_eq!((stats.fills_in_flight, stats.flights), (0, 0));
            eventually("the origin is let go", || story.origin.bodies_left() == round + 1).await;
            reading.reads_to_the_end().await.breaks_off();
        }
        assert_eq!(story.handle.stats().bytes_in_flight, 0);
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }

    async fn a_refresh_that_takes_too_long_is_stopped(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=60, stale-while-revalidate=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        story.origin_says(ok("new").head_after(&Gate::closed()));
        story.client_asks_and_goes_on(get("/a")).await.is_hit();
        eventually("the origin is asked", || story.origin.calls() == 2).await;
        assert!(!story.handle.drain(SHORT).await);
        assert_eq!(story.handle.stats().flights, 0);
        story.fills_are_done().await;
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_hit().has_body("old");
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }

    async fn a_client_that_still_waits_is_told(stage) {
        let story = stage.story();
        story.origin_says(ok("late").head_after(&Gate::closed()));
        let asking = tokio::spawn({
            let story = story.clone();
            async move { story.client_asks_and_goes_on(get("/a")).await }
        });
        eventually("the origin is asked", || story.origin.calls() == 1).await;
        assert!(!story.handle.drain(SHORT).await);
        let answer = patiently("an answer", asking).await.expect("no panic");
        answer.has_status(503).has_detail("drained").has_body("").is_not_stored();
    }

    async fn an_idle_cache_is_drained_at_once(stage) {
        let story = stage.story();
        story.origin_says(failure("refused"));
        assert!(story.handle.drain(Duration::ZERO).await);
        story.client_tries(get("/a")).await.expect_err("the origin fails");
        story.fills_are_done().await;
        assert!(story.handle.drain(Duration::ZERO).await);
    }
}
