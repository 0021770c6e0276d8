//! A stored response whose validation brings another one that may not be stored is not right any more: it ends, and is
//! not sent stale for as long as it might have been (RFC 9111 §4.3.3).

use crate::on_both_stores;
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Ask, Story, get, head, seconds};

const WINDOWS: &str = "max-age=60, stale-while-revalidate=600, stale-if-error=600";

/// Sent stale to those who accept it, and never refreshed behind.
const KEPT: &str = "max-age=60";

/// Stored, and stale by now.
async fn has_stale(story: &Story, target: &str, reply: Reply) {
    story.origin_says(reply);
    story.client_asks(insisting(target)).await.is_stored();
    story.time_passes(seconds(61));
}

/// What a client is told who will have nothing but what is stored.
async fn is_over(story: &Story, target: &str) {
    story.client_asks(get(target).header("cache-control", "only-if-cached")).await.has_status(504);
}

async fn goes_on(story: &Story, target: &str) {
    let stored = get(target).header("cache-control", "only-if-cached, max-stale");
    story.client_asks(stored).await.is_hit().has_body("old");
}

fn tagged() -> Reply {
    ok("old").header("etag", "\"v1\"")
}

fn insisting(target: &str) -> Ask {
    get(target).header("cache-control", "no-cache")
}

on_both_stores! {
    async fn a_refresh_that_brings_what_may_not_be_stored_ends_the_old_response(stage) {
        let story = stage.story();
        let replies = [
            ok("new").cache_control("no-store"),
            ok("new").cache_control("private, max-age=60"),
            ok("new").cache_control("max-age=60").header("set-cookie", "session=1"),
            ok("new").cache_control("max-age=60").header("vary", "*"),
            status(302).header("location", "/login"),
            status(401),
            status(403),
            status(404),
            status(410),
        ];
        for (number, reply) in replies.into_iter().enumerate() {
            for old in [ok("old"), tagged()] {
                let target = format!("/{number}");
                has_stale(&story, &target, old.cache_control(WINDOWS)).await;
                story.origin_says(reply.clone());
                story.client_asks(get(&target)).await.is_hit().has_body("old");
                is_over(&story, &target).await;
            }
        }
    }

    async fn a_validation_that_brings_what_may_not_be_stored_ends_the_old_response(stage) {
        let story = stage.story();
        has_stale(&story, "/a", tagged().cache_control(WINDOWS)).await;
        story.origin_says(ok("new").cache_control("no-store"));
        story.client_asks(insisting("/a")).await.has_body("new").has_detail("no-store");
        assert_eq!(story.last_asked().headers["if-none-match"], "\"v1\"");
        is_over(&story, "/a").await;
    }

    async fn an_error_of_the_service_does_not_end_it(stage) {
        let story = stage.story();
        for code in [500, 501, 502, 503, 504, 505] {
            has_stale(&story, "/a", tagged().cache_control(KEPT)).await;
            story.origin_says(status(code).cache_control("no-store"));
            story.client_asks(insisting("/a")).await.has_status(code);
            goes_on(&story, "/a").await;
        }
    }

    async fn what_speaks_of_one_request_does_not_end_it(stage) {
        let story = stage.story();
        has_stale(&story, "/a", tagged().cache_control(KEPT)).await;
        for code in [400, 408, 413, 429, 431] {
            story.origin_says(status(code).cache_control("no-store"));
            story.client_asks(insisting("/a")).await.has_status(code);
            goes_on(&story, "/a").await;
        }
        for code in [401, 403] {
            story.origin_says(status(code));
            story.client_asks(insisting("/a").header("authorization", "mallory")).await.has_status(code);
            story.client_asks(insisting("/a").header("cookie", "session=0")).await.has_status(code);
            goes_on(&story, "/a").await;
        }
    }

    async fn a_refusal_for_one_clients_sake_does_not_end_it(stage) {
        let story = stage.story();
        has_stale(&story, "/a", tagged().cache_control(KEPT)).await;
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/a").header("cache-control", "no-cache, no-store")).await.has_body("new");
        goes_on(&story, "/a").await;
        story.client_asks(insisting("/a").header("authorization", "alice")).await.has_detail("authorization");
        goes_on(&story, "/a").await;
    }

    async fn an_answer_that_may_be_stored_and_does_not_come_whole_ends_nothing(stage) {
        let story = stage.story();
        has_stale(&story, "/a", tagged().cache_control(KEPT)).await;
        story.origin_says(ok("").chunks(["ha"]).then_breaks_off().cache_control("max-age=60"));
        story.client_tries(get("/a")).await.expect("an answer");
        story.fills_are_done().await;
        goes_on(&story, "/a").await;
    }

    async fn a_reload_of_what_is_fresh_asks_nothing_of_it(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.origin_says(ok("new").cache_control("no-store"));
        story.client_asks(insisting("/a")).await.has_body("new");
        story.client_asks(get("/a")).await.is_hit().has_body("old");
    }

    async fn a_head_that_is_refused_does_not_end_it(stage) {
        let story = stage.story();
        has_stale(&story, "/a", tagged().cache_control(KEPT)).await;
        story.origin_says(status(404));
        story.client_asks(head("/a")).await.is_forwarded_for("stale").has_status(404);
        goes_on(&story, "/a").await;
    }
}
