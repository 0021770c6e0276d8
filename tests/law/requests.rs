//! What a request may say (RFC 9111 §5.2.1, §5.4), and what the operator lets it say.

use crate::on_both_stores;
use crate::support::scripted::{failure, ok, status};
use crate::support::story::{Ask, Story, get, head, seconds};

fn with(directives: &str) -> Ask {
    get("/a").header("cache-control", directives)
}

/// Stored so many seconds ago, fresh for 60.
async fn has_a_page(story: &Story, age: u64) {
    story.origin_says(ok("hello").cache_control("max-age=60"));
    story.client_asks(with("no-cache")).await.is_stored();
    story.time_passes(seconds(age));
}

/// Each is answered from the cache.
async fn are_hits(story: &Story, lines: &[&str]) {
    let before = story.origin.calls();
    for line in lines {
        let answer = story.client_asks(with(line)).await;
        assert!(answer.outcome().is_hit(), "{line}: {:?}", answer.cache_status());
    }
    story.origin_was_asked(before);
}

/// Each is passed on for the request's own sake; nothing is stored, so that the page stays as old as it is.
async fn are_passed_on(story: &Story, lines: &[&str]) {
    for line in lines {
        story.origin_says(ok("newer").cache_control("no-store"));
        story.client_asks(with(line)).await.is_forwarded_for("request").has_body("newer");
    }
}

on_both_stores! {
    async fn no_cache_passes_what_is_fresh(stage) {
        let story = stage.story();
        has_a_page(&story, 10).await;
        are_passed_on(
            &story,
            &["no-cache", "NO-CACHE", "max-age=99, no-cache", "no-cache=\"x\"", "x=\"a,b\" ,no-cache"],
        )
        .await;
        are_hits(&story, &["x=\"no-cache\"", "no-caches", "private"]).await;
    }

    async fn max_age_limits_the_age(stage) {
        let story = stage.story();
        has_a_page(&story, 30).await;
        are_hits(
            &story,
            &["max-age=30", "max-age=31", "Max-Age=\"30\"", "max-age=99999999999999999999", "max-age=30, max-age=0"],
        )
        .await;
        are_passed_on(
            &story,
            &[
                "max-age=29",
                "max-age=0",
                "MAX-AGE=0",
                "max-age=29, max-age=60",
                "max-age=x",
                "max-age=",
                "max-age",
                "max-age=-1",
            ],
        )
        .await;
    }

    async fn min_fresh_demands_freshness_to_come(stage) {
        let story = stage.story();
        has_a_page(&story, 30).await;
        are_hits(&story, &["min-fresh=30", "min-fresh=0", "Min-Fresh=\"29\""]).await;
        are_passed_on(&story, &["min-fresh=31", "min-fresh=99999999999999999999", "min-fresh=x", "min-fresh"]).await;
    }

    async fn no_store_leaves_nothing_behind_and_lets_what_is_stored_be_used(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60"));
        for line in ["no-store", "No-Store", "max-age=0, no-store"] {
            story
                .client_asks(with(line))
                .await
                .is_forwarded_for("uri-miss")
                .is_not_stored()
                .has_detail("request-no-store");
        }
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").is_stored();
        story.client_asks(with("no-store")).await.is_hit();
    }

    async fn only_if_cached_is_answered_without_the_origin(stage) {
        let story = stage.story();
        story.client_asks(with("only-if-cached")).await.has_status(504).has_body("");
        has_a_page(&story, 30).await;
        are_hits(&story, &["only-if-cached", "Only-If-Cached, max-age=30", "only-if-cached, min-fresh=30"]).await;
        let before = story.origin.calls();
        for line in ["only-if-cached, max-age=29", "only-if-cached, min-fresh=31", "no-cache, only-if-cached"] {
            story.client_asks(with(line)).await.has_status(504);
        }
        story.client_asks(head("/a").header("cache-control", "only-if-cached")).await.is_hit();
        story
            .client_asks(get("/a").header("cache-control", "only-if-cached").header("range", "bytes=0-0"))
            .await
            .is_hit()
            .has_status(206);
        story.time_passes(seconds(30));
        story.client_asks(with("only-if-cached")).await.has_status(504);
        story.client_asks(with("only-if-cached, max-stale")).await.is_hit();
        story.origin_was_asked(before);
    }

    async fn directives_on_several_lines_are_one_list(stage) {
        let story = stage.story();
        has_a_page(&story, 30).await;
        story.origin_says(ok("newer").cache_control("no-store"));
        story.client_asks(with("max-age=60").header("cache-control", "no-cache")).await.is_forwarded_for("request");
        story.client_asks(with("x").header("cache-control", "max-age=29")).await.is_forwarded_for("request");
        story.client_asks(with("max-age=29").header("cache-control", "only-if-cached")).await.has_status(504);
    }

    /// §5.4.
    async fn pragma_counts_where_cache_control_is_absent(stage) {
        let story = stage.story();
        has_a_page(&story, 10).await;
        let pragma = |value: &str| get("/a").header("pragma", value);
        story.origin_says(ok("newer").cache_control("no-store"));
        for value in ["no-cache", "No-Cache", "x, no-cache"] {
            story.client_asks(pragma(value)).await.is_forwarded_for("request").has_body("newer");
        }
        story.client_asks(pragma("x").header("pragma", "no-cache")).await.is_forwarded_for("request");
        story.client_asks(pragma("x")).await.is_hit();
        story.client_asks(pragma("no-cache").header("cache-control", "max-age=60")).await.is_hit();
    }

    async fn pragma_in_a_response_means_nothing(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("pragma", "no-cache"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a")).await.is_hit().has_header("pragma", "no-cache");
    }

    async fn a_request_never_makes_a_response_more_shareable(stage) {
        let story = stage.story();
        let generous =
            "max-stale, max-age=99999, min-fresh=0, public, s-maxage=600, stale-if-error=600, must-revalidate";
        for line in ["no-store, max-age=60", "private, max-age=60", "no-cache", "max-age=0", "public"] {
            story.origin_says(ok("x").cache_control(line));
            story.client_asks(with(generous)).await.is_not_stored();
            story.client_asks(with(generous)).await.is_not_stored();
        }
        story.origin_says(ok("x").cache_control("max-age=60"));
        story
            .client_asks(with(generous).header("authorization", "Bearer one"))
            .await
            .is_not_stored()
            .has_detail("authorization");
    }

    async fn an_operator_may_leave_clients_without_a_say(stage) {
        let story = stage.story_with(|config| config.obey_request_directives(false));
        story.origin_says(ok("hello").cache_control("max-age=60"));
        story.client_asks(with("no-store")).await.is_stored();
        story.time_passes(seconds(30));
        are_hits(&story, &["no-cache", "max-age=0", "min-fresh=60", "no-store", "max-age=x", "only-if-cached"]).await;
        story.client_asks(get("/a").header("pragma", "no-cache")).await.is_hit();
        story.origin_was_asked(1);
        story.time_passes(seconds(30));
        story.origin_says(ok("newer").cache_control("max-age=0").header("etag", "\"v2\""));
        for line in ["max-stale", "only-if-cached", "max-stale=99, only-if-cached"] {
            story.client_asks(with(line)).await.is_forwarded_for("stale").has_status(200).has_body("newer");
        }
        story
            .client_asks(get("/b").header("cache-control", "only-if-cached"))
            .await
            .is_forwarded_for("uri-miss")
            .has_body("newer");
    }

    async fn without_a_say_a_client_cannot_ask_for_staleness_on_errors_either(stage) {
        let story = stage.story_with(|config| config.obey_request_directives(false));
        story.origin_says(ok("hello").cache_control("max-age=60").header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        story.origin_says(status(503));
        story.client_asks(with("stale-if-error=600")).await.has_status(503);
        story.origin_says(failure("connection refused"));
        story.client_asks(with("no-cache")).await.has_detail("stale-if-error").has_body("hello");
    }

    async fn the_directives_of_a_request_reach_the_origin(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("no-store"));
        story.client_asks(with("no-cache, max-age=0").header("pragma", "no-cache")).await;
        assert_eq!(story.last_asked().headers["cache-control"], "no-cache, max-age=0");
        assert_eq!(story.last_asked().headers["pragma"], "no-cache");
    }

    /// RFC 9110 §13.1.1, §13.1.4: what speaks of the origin's present state is the origin's to judge.
    async fn if_match_and_if_unmodified_since_pass_untouched(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.is_stored();
        for (name, value) in
            [("if-match", "\"v2\""), ("if-match", "*"), ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]
        {
            story.origin_says(status(412).cache_control("max-age=60"));
            let ask = get("/a").header(name, value).header("if-none-match", "\"v0\"").header("range", "bytes=0-1");
            story.client_asks(ask).await.is_forwarded_for("bypass").is_not_stored().has_status(412);
            let asked = story.last_asked();
            assert_eq!(asked.headers[name], value);
            assert_eq!(asked.headers["if-none-match"], "\"v0\"");
            assert_eq!(asked.headers["range"], "bytes=0-1");
        }
        story.client_asks(get("/a")).await.is_hit().has_status(200);
    }
}
