//! A client that has the response already is told so by the cache.

use crate::on_both_stores;
use crate::support::scripted::{ok, status};
use crate::support::story::{Ask, get, head, seconds};

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

fn if_none_match(value: &str) -> Ask {
    get("/a").header("if-none-match", value)
}

fn if_modified_since(value: &str) -> Ask {
    get("/a").header("if-modified-since", value)
}

on_both_stores! {
    async fn a_matching_entity_tag_is_answered_304_from_the_cache(stage) {
        let story = stage.story();
        let reply = ok("hello")
            .cache_control("max-age=60")
            .header("etag", "\"v1\"")
            .header("content-type", "text/plain")
            .header("content-length", "5")
            .header("vary", "accept");
        story.origin_says(reply);
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(10));
        for value in ["\"v1\"", "W/\"v1\"", "\"other\", \"v1\"", "*"] {
            let answer = story.client_asks(if_none_match(value)).await;
            answer.is_hit().has_status(304).has_body("").has_age(10);
            answer.has_header("etag", "\"v1\"").has_header("cache-control", "max-age=60").has_header("vary", "accept");
            answer.has_no("content-type").has_no("content-length");
        }
        story.origin_was_asked(1);
    }

    async fn another_entity_tag_gets_the_whole_response(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.is_stored();
        for value in ["\"v2\"", "\"V1\"", "v1", "\"\"", ""] {
            story.client_asks(if_none_match(value)).await.is_hit().has_status(200).has_body("hello");
        }
    }

    async fn a_weak_entity_tag_matches_weakly(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("etag", "W/\"v1\""));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(if_none_match("\"v1\"")).await.is_hit().has_status(304);
    }

    async fn a_date_that_is_not_older_is_answered_304(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("last-modified", MODIFIED));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(if_modified_since(MODIFIED)).await.is_hit().has_status(304).has_body("");
        story.client_asks(if_modified_since("Mon, 07 Nov 1994 08:49:37 GMT")).await.is_hit().has_status(304);
        story.client_asks(if_modified_since(BEFORE)).await.is_hit().has_status(200).has_body("hello");
        story.client_asks(if_modified_since("yesterday")).await.is_hit().has_status(200).has_body("hello");
    }

    async fn an_entity_tag_silences_a_date(stage) {
        let story = stage.story();
        let reply = ok("hello").cache_control("max-age=60").header("etag", "\"v1\"").header("last-modified", MODIFIED);
        story.origin_says(reply);
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(if_none_match("\"v2\"").header("if-modified-since", MODIFIED)).await.is_hit().has_status(200);
        story.client_asks(if_none_match("\"v1\"").header("if-modified-since", BEFORE)).await.is_hit().has_status(304);
    }

    async fn head_is_told_too(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(head("/a").header("if-none-match", "\"v1\"")).await.is_hit().has_status(304);
    }

    async fn only_a_stored_200_becomes_304(stage) {
        let story = stage.story();
        story.origin_says(status(404).cache_control("max-age=60").header("etag", "\"v1\"").body("gone"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(if_none_match("\"v1\"")).await.is_hit().has_status(404).has_body("gone");
    }

    async fn the_conditions_of_one_client_do_not_shape_what_is_stored(stage) {
        let story = stage.story();
        story.origin.answers(|parts| {
            let conditional = parts.headers.contains_key("if-none-match") || parts.headers.contains_key("if-modified-since");
            let reply = if conditional { status(304) } else { ok("hello") };
            reply.cache_control("max-age=60").header("etag", "\"v1\"")
        });
        let answer = story.client_asks(if_none_match("\"v1\"").header("if-modified-since", MODIFIED)).await;
        answer.is_forwarded_for("uri-miss");
        story.client_asks(get("/a")).await.is_hit().has_status(200).has_body("hello");
    }

    async fn a_client_with_the_new_response_already_needs_no_second_copy(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("etag", "\"v1\""));
        story.client_asks(if_none_match("\"v1\"")).await.is_forwarded_for("uri-miss");
        story.client_asks(get("/a")).await.is_hit().has_status(200).has_body("hello");
    }
}
