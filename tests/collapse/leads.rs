//! What a lead comes to, and who takes over.

use super::together::{all_ask, answers, asks, nothing_is_left, page_behind, tries};
use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{OriginError, failure, ok, panic};
use crate::support::story::{get, seconds};

on_both_stores! {
    async fn an_error_is_for_the_one_who_led_and_one_of_the_others_takes_over(stage) {
        let story = stage.story();
        let (failing, second) = (Gate::closed(), Gate::closed());
        story.origin_says_in_turn([failure("no route").head_after(&failing), page_behind(&second, "hello")]);
        let lead = tries(&story);
        eventually("it is forwarded", || story.origin.calls() == 1).await;
        let followers = all_ask(&story, 20, || get("/a")).await;
        failing.open();
        let error = lead.await.expect("no panic").expect_err("its own error");
        assert_eq!(error, OriginError("no route".to_owned()));
        eventually("one takes over", || story.origin.calls() == 2).await;
        assert_eq!(story.handle.stats().flights, 1);
        second.open();
        answers(followers).await.iter().for_each(|answer| { answer.has_body("hello"); });
        story.origin_was_asked(2);
        nothing_is_left(&story).await;
    }

    async fn a_panic_is_for_the_one_who_led_and_one_of_the_others_takes_over(stage) {
        let story = stage.story();
        let (panicking, second) = (Gate::closed(), Gate::closed());
        story.origin_says_in_turn([panic().head_after(&panicking), page_behind(&second, "hello")]);
        let lead = asks(&story, get("/a"));
        eventually("it is forwarded", || story.origin.calls() == 1).await;
        let followers = all_ask(&story, 20, || get("/a")).await;
        panicking.open();
        assert!(lead.await.expect_err("its own panic").is_panic());
        second.open();
        answers(followers).await.iter().for_each(|answer| { answer.has_body("hello"); });
        story.origin_was_asked(2);
        nothing_is_left(&story).await;
    }

    async fn an_error_lets_each_have_the_stale_response_that_it_may_have(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=60, stale-if-error=600").header("etag", "\"1\""));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        let gate = Gate::closed();
        story.origin_says(failure("no route").head_after(&gate));
        let clients = all_ask(&story, 20, || get("/a")).await;
        gate.open();
        answers(clients).await.iter().for_each(|answer| { answer.has_body("old").has_detail("stale-if-error"); });
        story.origin_was_asked(2);
        nothing_is_left(&story).await;
    }

    async fn a_service_that_always_fails_fails_for_each_in_the_end(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(failure("no route").head_after(&gate));
        let clients: Vec<_> = (0..20).map(|_| tries(&story)).collect();
        eventually("all have looked in vain", || story.handle.stats().misses == 20).await;
        gate.open();
        for client in clients {
            client.await.expect("no panic").expect_err("each has an error of its own");
        }
        story.origin_was_asked(20);
        nothing_is_left(&story).await;
    }
}
