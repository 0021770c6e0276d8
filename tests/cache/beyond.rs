//! What few caches do: QUERY, No-Vary-Search, the completion of parts, and the validation of several variants at once.

use tower_redis_cache::{CachePolicy, EmptyBody, QueryContent};

use crate::on_both_stores;
use crate::support::scripted::{Reply, ScriptBody, ok, status};
use crate::support::story::{Ask, Story, ask, get, seconds};

fn query(content_type: &str, content: &'static str) -> Ask {
    ask("QUERY", "/search").header("content-type", content_type).body(content).extension(QueryContent::new(content))
}

/// A request that the cache can make once more.
fn repeatable(target: &str) -> Ask {
    get(target).extension(EmptyBody::<ScriptBody>::new(|| ScriptBody::of("")))
}

fn found(story: &Story, no_vary_search: &str) {
    story.origin_says(ok("found").cache_control("max-age=60").header("no-vary-search", no_vary_search));
}

/// An origin whose page exists in two languages, and which knows what it has sent.
fn two_languages(story: &Story) {
    story.origin.answers(|parts| -> Reply {
        let field = |name: &str| parts.headers.get(name).map_or("", |value| value.to_str().expect("text")).to_owned();
        let page = if field("accept-language").starts_with("de") { "seite" } else { "page" };
        let tag = format!("\"{page}\"");
        let reply = if field("if-none-match").contains(&tag) { status(304) } else { ok(page) };
        reply.cache_control("max-age=60").header("vary", "accept-language").header("etag", &tag)
    });
}

on_both_stores! {
    async fn a_query_is_answered_for_the_same_content_and_type(stage) {
        let story = stage.story();
        story.origin_says(ok("found").cache_control("max-age=60"));
        story.client_asks(query("text/sql", "select 1")).await.is_forwarded_for("uri-miss").is_stored();
        story.client_asks(query("text/sql", "select 1")).await.is_hit().has_body("found");
        story.client_asks(query("text/sql", "select 2")).await.is_forwarded_for("uri-miss");
        story.client_asks(query("text/plain", "select 1")).await.is_forwarded_for("uri-miss");
        story.client_asks(get("/search")).await.is_forwarded_for("uri-miss");
    }

    async fn a_query_whose_content_nobody_read_passes(stage) {
        let story = stage.story();
        story.origin_says(ok("found").cache_control("max-age=60"));
        for _ in 0..2 {
            story.client_asks(ask("QUERY", "/search").body("select 1")).await.is_forwarded_for("method").is_not_stored();
        }
    }

    async fn queries_that_differ_in_nothing_that_matters_share_a_response(stage) {
        let story = stage.story();
        found(&story, "key-order, params=(\"utm_source\")");
        story.client_asks(get("/a?b=2&utm_source=x&a=1")).await.is_forwarded_for("uri-miss").is_stored();
        for target in ["/a?a=1&b=2", "/a?b=2&a=1&utm_source=y", "/a?utm_source=x&a=%31&b=2"] {
            story.client_asks(get(target)).await.is_hit().has_body("found");
        }
        for target in ["/a?a=1", "/a?a=2&b=2", "/a?a=1&b=2&c=3", "/b?a=1&b=2"] {
            story.client_asks(get(target)).await.is_forwarded_for("uri-miss");
        }
    }

    async fn a_response_without_that_field_answers_its_own_query_alone(stage) {
        let story = stage.story();
        found(&story, "params");
        story.client_asks(get("/a?x=1")).await.is_stored();
        story.client_asks(get("/a?x=2")).await.is_hit();
        story.origin_says(ok("plain").cache_control("max-age=60"));
        story.client_asks(get("/a?x=3").header("cache-control", "no-cache")).await.is_stored().has_body("plain");
        story.client_asks(get("/a?x=3")).await.is_hit().has_body("plain");
        story.client_asks(get("/a?x=4")).await.is_hit().has_body("found");
        story.client_asks(get("/a")).await.is_hit().has_body("found");
    }

    async fn an_unsafe_request_ends_what_equal_queries_share(stage) {
        let story = stage.story();
        found(&story, "params");
        story.client_asks(get("/a?x=1")).await.is_stored();
        story.client_asks(get("/a?x=2")).await.is_hit();
        story.client_asks(ask("DELETE", "/a?x=7")).await.has_status(200);
        story.client_asks(get("/a?x=2")).await.is_forwarded_for("uri-miss");
    }

    async fn the_rest_of_a_stored_start_is_asked_for_and_joined(stage) {
        let story = stage.story_with(|config| config.policy(CachePolicy::rfc9111()));
        let part = |range: &str, body: &'static str| {
            status(206).body(body).cache_control("max-age=60").header("etag", "\"a\"").header("content-range", range)
        };
        story.origin_says(part("bytes 0-4/10", "01234"));
        story.client_asks(get("/a").header("range", "bytes=0-4")).await.has_status(206).is_stored();
        story.origin_says(part("bytes 5-9/10", "56789"));
        story.client_asks(repeatable("/a")).await.is_forwarded_for("partial").has_forward_status(206).has_status(200)
            .has_body("0123456789").has_no("content-range").is_stored();
        let asked = story.last_asked();
        assert_eq!(asked.headers["range"], "bytes=5-");
        assert_eq!(asked.headers["if-range"], "\"a\"");
        story.client_asks(get("/a")).await.is_hit().has_status(200).has_body("0123456789");
    }

    async fn a_rest_that_does_not_fit_is_fetched_whole(stage) {
        let story = stage.story_with(|config| config.policy(CachePolicy::rfc9111()));
        let part = |range: &str, body: &'static str| {
            status(206).body(body).cache_control("max-age=60").header("content-range", range)
        };
        story.origin_says(part("bytes 0-4/10", "01234"));
        story.client_asks(get("/a").header("range", "bytes=0-4")).await.has_status(206).is_stored();
        story.origin.answers(move |parts| match parts.headers.get("range") {
            Some(_) => part("bytes 5-9/10", "fghij"),
            None => ok("abcdefghij").cache_control("max-age=60"),
        });
        story.client_asks(repeatable("/a")).await.has_status(200).has_body("abcdefghij");
        story.origin_was_asked(3);
        story.client_asks(get("/a")).await.is_hit().has_body("abcdefghij");
    }

    async fn the_safe_policy_stores_no_part(stage) {
        let story = stage.story();
        let part = status(206).body("01234").cache_control("max-age=60").header("content-range", "bytes 0-4/10");
        story.origin_says(part.header("etag", "\"a\""));
        story.client_asks(get("/a").header("range", "bytes=0-4")).await.has_status(206).is_not_stored();
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss");
    }

    async fn the_tags_of_all_variants_are_validated_together(stage) {
        let story = stage.story();
        two_languages(&story);
        let asks = |language: &str| repeatable("/a").header("accept-language", language);
        story.client_asks(asks("de")).await.is_stored().has_body("seite");
        story.client_asks(asks("en")).await.is_stored().has_body("page");
        story.client_asks(asks("de-AT")).await.is_forwarded_for("vary-miss").has_forward_status(304).is_stored()
            .has_status(200).has_body("seite");
        story.client_asks(asks("de-AT")).await.is_hit().has_body("seite");
        story.client_asks(asks("en")).await.is_hit().has_body("page");
    }

    async fn a_304_that_names_no_variant_is_asked_again(stage) {
        let story = stage.story();
        two_languages(&story);
        let asks = |language: &str| repeatable("/a").header("accept-language", language);
        story.client_asks(asks("de")).await.is_stored();
        story.origin.answers(|parts| match parts.headers.get("if-none-match") {
            Some(_) => status(304),
            None => ok("whole").cache_control("max-age=60").header("vary", "accept-language"),
        });
        story.client_asks(asks("fr")).await.has_status(200).has_body("whole").is_stored();
        story.time_passes(seconds(1));
        story.client_asks(asks("fr")).await.is_hit().has_body("whole");
    }

    async fn a_reload_is_not_hidden_by_what_its_own_query_had_before(stage) {
        let story = stage.story();
        story.origin_says(ok("one").cache_control("max-age=60"));
        story.client_asks(get("/a?x=1")).await.is_stored();
        story.origin_says(ok("two").cache_control("max-age=60").header("no-vary-search", "params"));
        story.client_asks(get("/a?x=1").header("cache-control", "no-cache")).await.is_stored();
        story.client_asks(get("/a?x=1")).await.is_hit().has_body("two");
        story.client_asks(get("/a?x=2")).await.is_hit().has_body("two");
    }

    async fn a_query_in_another_coding_is_another_query(stage) {
        let story = stage.story();
        story.origin_says(ok("found").cache_control("max-age=60"));
        story.client_asks(query("a/b", "q").header("content-encoding", "gzip")).await.is_stored();
        story.client_asks(query("a/b", "q")).await.is_forwarded_for("uri-miss");
        story.client_asks(query("a/b", "q").header("content-type", "c/d")).await.is_forwarded_for("uri-miss");
    }

    async fn a_head_with_a_tag_that_is_not_stored_confirms_nothing(stage) {
        let story = stage.story();
        story.origin_says(ok("one").cache_control("max-age=1"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(2));
        story.origin_says(ok("").cache_control("max-age=60").header("etag", "\"v2\""));
        story.client_asks(crate::support::story::head("/a")).await.has_status(200);
        story.origin_says(ok("two").cache_control("max-age=60").header("etag", "\"v2\""));
        story.client_asks(get("/a")).await.has_body("two").is_stored();
    }

    async fn a_start_is_never_sent_as_a_variant(stage) {
        let story = stage.story_with(|config| config.policy(CachePolicy::rfc9111()));
        let part = status(206).body("012").cache_control("max-age=60").header("content-range", "bytes 0-2/10");
        story.origin_says(part.header("etag", "\"a\"").header("vary", "accept-language"));
        let asks = |language: &str| repeatable("/a").header("accept-language", language);
        story.client_asks(asks("de").header("range", "bytes=0-2")).await.has_status(206).is_stored();
        story.origin.answers(|parts| match parts.headers.get("if-none-match") {
            Some(_) => status(304).header("etag", "\"a\""),
            None => ok("0123456789").cache_control("max-age=60"),
        });
        story.client_asks(asks("en")).await.has_status(200).has_body("0123456789");
    }

    async fn a_coded_variant_is_not_offered_to_who_may_not_accept_it(stage) {
        let story = stage.story();
        let coded = ok("GZIPPED").cache_control("max-age=60").header("vary", "accept-encoding");
        story.origin_says(coded.header("content-encoding", "gzip").header("etag", "\"a\""));
        story.client_asks(repeatable("/a").header("accept-encoding", "gzip")).await.is_stored();
        story.origin.answers(|parts| match parts.headers.get("if-none-match") {
            Some(_) => status(304).header("etag", "\"a\""),
            None => ok("plain").cache_control("max-age=60").header("vary", "accept-encoding"),
        });
        story.client_asks(repeatable("/a")).await.has_body("plain").has_no("content-encoding");
    }

    async fn what_must_be_validated_is_not_sent_on_a_304_for_something_else(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=1, must-revalidate").header("etag", "\"a\""));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(2));
        story.origin.answers(|parts| match parts.headers.get("if-none-match") {
            Some(_) => status(304).header("etag", "\"b\""),
            None => ok("new").cache_control("max-age=60"),
        });
        story.client_asks(get("/a")).await.has_status(502).has_detail("validator-mismatch");
        story.client_asks(repeatable("/a")).await.has_status(200).has_body("new");
    }
}
