//! What is stored for a target ends when a request changes it (RFC 9111 §4.4).

use std::future::Future;
use std::task::Poll;

use tower::ServiceExt;

use crate::on_both_stores;
use crate::support::gate::Gate;
use crate::support::scripted::{failure, ok, status};
use crate::support::story::{Story, ask, get, head, seconds};

async fn has_a_cached_page(story: &Story) {
    story.origin_says(ok("page").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    story.client_asks(get("/a")).await.is_hit();
}

on_both_stores! {
    async fn a_client_that_leaves_before_the_answer_leaves_nothing_old_behind(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        let never = Gate::closed();
        story.origin_says(ok("done").head_after(&never));
        let mut asking = Box::pin(story.service().oneshot(ask("PUT", "/a").into_request()));
        let waits = std::future::poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx).is_pending())).await;
        assert!(waits);
        story.origin_was_asked(2);
        drop(asking);
        assert!(story.handle.drain(seconds(10)).await);
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
    }

    async fn a_successful_unsafe_request_ends_what_is_stored_for_its_target(stage) {
        for method in ["POST", "PUT", "PATCH", "DELETE", "MKCOL"] {
            for code in [200, 201, 204, 303] {
                let story = stage.story_with(|config| config.namespace(&format!("{method}{code}")).expect("a namespace"));
                has_a_cached_page(&story).await;
                story.origin_says(status(code));
                story.client_asks(ask(method, "/a")).await.is_forwarded_for("method").has_status(code);
                story.origin_says(ok("changed").cache_control("max-age=60"));
                story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("changed");
            }
        }
    }

    async fn a_failed_request_ends_nothing(stage) {
        let story = stage.story();
        has_a_cached_page(&story).await;
        for code in [400, 403, 409, 500, 503] {
            story.origin_says(status(code));
            story.client_asks(ask("POST", "/a")).await.has_status(code);
            story.client_asks(get("/a")).await.is_hit();
        }
        story.origin_says(failure("connection refused"));
        story.client_tries(ask("POST", "/a")).await.expect_err("the origin fails");
        story.client_asks(get("/a")).await.is_hit();
    }

    async fn a_safe_request_ends_nothing(stage) {
        let story = stage.story();
        has_a_cached_page(&story).await;
        for method in ["OPTIONS", "PROPFIND", "TRACE"] {
            story.client_asks(ask(method, "/a")).await.is_forwarded_for("method");
            story.client_asks(get("/a")).await.is_hit();
        }
        story.client_asks(head("/a").header("cache-control", "no-cache")).await;
        story.client_asks(get("/a")).await.is_hit();
    }

    async fn other_targets_stay(stage) {
        let story = stage.story();
        has_a_cached_page(&story).await;
        story.client_asks(ask("POST", "/b")).await;
        story.client_asks(ask("POST", "/a").host("example.org")).await;
        story.client_asks(get("/a")).await.is_hit();
    }

    async fn all_variants_of_the_target_end(stage) {
        let story = stage.story();
        story.origin_says(ok("page").cache_control("max-age=60").header("vary", "accept"));
        for accept in ["a", "b", "c"] {
            story.client_asks(get("/a").header("accept", accept)).await.is_stored();
        }
        story.client_asks(ask("DELETE", "/a").header("accept", "z")).await.has_status(200);
        story.origin_says(status(404));
        for accept in ["a", "b", "c"] {
            story.client_asks(get("/a").header("accept", accept)).await.has_status(404);
        }
    }

    async fn who_has_seen_the_change_does_not_read_what_was_before(stage) {
        let story = stage.story();
        for round in 0..20 {
            story.origin_says(ok(format!("round {round}")).cache_control("max-age=60"));
            story.client_asks_and_goes_on(ask("PUT", "/a")).await;
            story.client_asks(get("/a")).await.has_body(format!("round {round}"));
        }
    }
}
