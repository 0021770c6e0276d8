//! What may be stored (RFC 9111 §3).

use http::StatusCode;
use tower_redis_cache::CachePolicy;

use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Ask, Story, ask, get, head, seconds};
use crate::{date, on_both_stores};

/// The first request stores nothing for this reason, and the second one is the origin's again.
async fn refuses(story: &Story, ask: impl Fn() -> Ask, reply: Reply, reason: &str) {
    let before = story.origin.calls();
    story.origin_says(reply);
    story.client_asks(ask()).await.is_not_stored().has_detail(reason);
    story.client_asks(ask()).await.is_not_stored();
    story.origin_was_asked(before + 2);
}

/// The second request is answered from the cache, with the first one's status.
async fn shares(story: &Story, ask: impl Fn() -> Ask, reply: Reply, code: u16) {
    let before = story.origin.calls();
    story.origin_says(reply);
    story.client_asks(ask()).await.is_stored().has_status(code);
    story.client_asks(ask()).await.is_hit().has_status(code);
    story.origin_was_asked(before + 1);
}

/// A form whose answer says that it is the page itself.
fn becomes_the_page(code: u16, location: &str) -> Reply {
    status(code).body("the new page").cache_control("max-age=60").header("content-location", location)
}

on_both_stores! {
    /// §3: the final status is understood, or need not be.
    async fn every_final_status_with_explicit_freshness_is_stored(stage) {
        let story = stage.story();
        let known = [200, 203, 204, 205, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 429, 451];
        let errors = [500, 501, 502, 503, 504];
        let unknown = [299, 399, 418, 420, 499, 520, 599];
        for code in known.into_iter().chain(errors).chain(unknown) {
            let target = format!("/{code}");
            shares(&story, || get(&target), status(code).cache_control("max-age=60").header("location", "/b"), code)
                .await;
        }
    }

    async fn a_status_without_freshness_is_not_stored_whether_known_or_not(stage) {
        let story = stage.story();
        for code in [200, 204, 299, 302, 303, 307, 400, 401, 403, 404, 410, 418, 499, 500, 503, 599] {
            let target = format!("/{code}");
            refuses(&story, || get(&target), status(code), "no-freshness").await;
        }
    }

    /// §5.2.2.3: it lifts no-store where the status is understood, and forbids storing where it is not.
    async fn must_understand_is_stronger_than_no_store_and_limits_what_is_stored(stage) {
        let story = stage.story();
        let both = "no-store, must-understand, max-age=60";
        let understood = [
            (200, both),
            (404, both),
            (200, "must-understand, max-age=60"),
            (200, "Must-Understand, NO-STORE, max-age=60"),
        ];
        for (number, (code, line)) in understood.into_iter().enumerate() {
            let target = format!("/{number}");
            shares(&story, || get(&target), status(code).cache_control(line), code).await;
        }
        for code in [299, 499, 599] {
            for line in [both, "must-understand, max-age=60", "max-age=60, must-understand"] {
                refuses(&story, || get("/unknown"), status(code).cache_control(line), "not-understood").await;
            }
        }
        refuses(&story, || get("/plain"), status(200).cache_control("no-store, max-age=60"), "no-store").await;
        refuses(&story, || get("/ours"), ok("x").cache_control("must-understand, private, max-age=60"), "private")
            .await;
    }

    /// §3.5.
    async fn what_answers_credentials_is_shared_only_where_it_says_so(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)).fixed_ttl(seconds(60)));
        let with = |target: &'static str| move || get(target).header("authorization", "Basic dTpw");
        for line in [
            "max-age=60",
            "no-cache, max-age=60",
            "proxy-revalidate, max-age=60",
            "s-maxage=x, max-age=60",
            "immutable, max-age=60",
        ] {
            refuses(&story, with("/mine"), ok("mine").cache_control(line), "authorization").await;
        }
        refuses(&story, with("/mine"), ok("mine"), "authorization").await;
        refuses(&story, with("/mine"), ok("mine").header("expires", &date(&story, 60)), "authorization").await;
        shares(&story, with("/public"), ok("ours").cache_control("Public, max-age=60"), 200).await;
        shares(&story, with("/s-maxage"), ok("ours").cache_control("s-maxage=60"), 200).await;
        shares(&story, with("/must-revalidate"), ok("ours").cache_control("max-age=60, must-revalidate"), 200).await;
        // Shared means shared: with whoever has other credentials, or none.
        story.client_asks(get("/public")).await.is_hit().has_body("ours");
        story.client_asks(get("/public").header("authorization", "Basic b3RoZXI=")).await.is_hit();
    }

    async fn a_configured_lifetime_is_no_permission_to_share_what_answers_credentials(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)).policy(CachePolicy::rfc9111()));
        let with = || get("/a").header("authorization", "Bearer one");
        refuses(&story, with, ok("mine").cache_control("public"), "no-freshness").await;
    }

    async fn private_without_names_forbids_and_with_names_withholds_the_fields(stage) {
        let story = stage.story();
        for line in
            ["private", "private, max-age=60", "max-age=60, private=\"\"", "max-age=60, private, private=\"x-user\""]
        {
            refuses(&story, || get("/whole"), ok("x").cache_control(line), "private").await;
        }
        let named = "max-age=60, private=\"X-User, x-plan\"";
        let reply =
            ok("x").cache_control(named).header("x-user", "alice").header("x-plan", "gold").header("x-all", "1");
        story.origin_says(reply);
        story.client_asks(get("/named")).await.is_stored().has_header("x-user", "alice").has_header("x-plan", "gold");
        story.client_asks(get("/named")).await.is_hit().has_no("x-user").has_no("x-plan").has_header("x-all", "1");
    }

    async fn no_cache_with_names_withholds_the_fields_and_leaves_the_rest_reusable(stage) {
        let story = stage.story();
        let reply = ok("x").cache_control("no-cache=\"x-token, X-Count\", max-age=60");
        story.origin_says(
            reply.header("x-token", "t").header("x-count", "1").header("x-count", "2").header("x-all", "1"),
        );
        story.client_asks(get("/a")).await.is_stored().has_lines("x-count", &["1", "2"]);
        story.client_asks(get("/a")).await.is_hit().has_no("x-token").has_no("x-count").has_header("x-all", "1");
    }

    async fn no_cache_without_a_validator_is_not_stored(stage) {
        let story = stage.story();
        for line in
            ["no-cache", "no-cache, max-age=60", "max-age=60, no-cache=\"\"", "no-cache=\"x\", no-cache, max-age=60"]
        {
            refuses(&story, || get("/a"), ok("x").cache_control(line), "no-cache").await;
        }
    }

    /// RFC 9110 §9.3.3.
    async fn the_answer_to_a_post_that_is_the_page_itself_answers_a_later_get_and_head(stage) {
        let story = stage.story();
        for location in ["/form?id=1", "http://example.com/form?id=1", "?id=1", "form?id=1"] {
            story.origin_says(ok("the old page").cache_control("max-age=60"));
            story.client_asks(get("/form?id=1").header("cache-control", "no-cache")).await.is_stored();
            story.origin_says(becomes_the_page(200, location));
            story
                .client_asks(ask("POST", "/form?id=1").body("x=1"))
                .await
                .is_forwarded_for("method")
                .is_stored()
                .has_ttl(60);
            story.time_passes(seconds(10));
            story.client_asks(get("/form?id=1")).await.is_hit().has_age(10).has_body("the new page");
            story.client_asks(head("/form?id=1")).await.is_hit().has_body("");
        }
    }

    async fn the_answer_to_a_post_that_is_another_page_or_states_no_freshness_is_not_stored(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        let stated = |line: &str| ok("x").header("content-location", "/form").cache_control(line);
        let elsewhere = |location: &str| ok("x").cache_control("max-age=60").header("content-location", location);
        let replies = [
            ok("x").cache_control("max-age=60"),
            elsewhere("/other"),
            elsewhere("/form?id=1"),
            elsewhere("http://example.org/form"),
            elsewhere("//example.org/form"),
            ok("x").header("content-location", "/form"),
            stated("public"),
            stated("no-store, max-age=60"),
            stated("private, max-age=60"),
        ];
        for reply in replies {
            story.origin_says(reply);
            story.client_asks(ask("POST", "/form").body("x=1")).await.is_not_stored();
            story.origin_says(ok("the page").cache_control("no-store"));
            story.client_asks(get("/form")).await.is_forwarded_for("uri-miss").has_body("the page");
        }
    }

    /// RFC 9110 §8.7: what Content-Location says of the target, it says in a successful response alone.
    async fn a_failed_post_says_nothing_of_the_page(stage) {
        let story = stage.story();
        for code in [303, 400, 404, 409, 422, 500, 503] {
            story.origin_says(becomes_the_page(code, "/form"));
            story.client_asks(ask("POST", "/form").body("x=1")).await.has_status(code).is_not_stored();
            story.origin_says(ok("the page").cache_control("no-store"));
            story.client_asks(get("/form")).await.is_forwarded_for("uri-miss").has_status(200).has_body("the page");
        }
    }

    async fn a_post_is_never_answered_from_the_cache(stage) {
        let story = stage.story();
        for body in ["one", "two", "three"] {
            story.origin_says(ok(body).cache_control("max-age=60").header("content-location", "/form"));
            story.client_asks(ask("POST", "/form").body("x=1")).await.is_forwarded_for("method").has_body(body);
        }
        story.origin_was_asked(3);
    }

    async fn no_other_method_stores_its_answer(stage) {
        let story = stage.story();
        for method in ["PUT", "PATCH", "DELETE", "MKCOL", "OPTIONS", "PROPFIND"] {
            story.origin_says(becomes_the_page(200, "/form"));
            story.client_asks(ask(method, "/form")).await.is_not_stored();
            story.origin_says(ok("the page").cache_control("no-store"));
            story.client_asks(get("/form")).await.is_forwarded_for("uri-miss").has_body("the page");
        }
    }

    async fn a_negative_ttl_serves_its_status_alone(stage) {
        let story = stage.story_with(|config| {
            config
                .negative_ttl(StatusCode::NOT_FOUND, seconds(10))
                .negative_ttl(StatusCode::SERVICE_UNAVAILABLE, seconds(2))
        });
        story.origin_says(status(404).body("nothing here"));
        story.client_asks(get("/404")).await.is_stored().has_ttl(10);
        story.time_passes(seconds(9));
        story.client_asks(get("/404")).await.is_hit().has_status(404).has_age(9).has_body("nothing here");
        story.time_passes(seconds(1));
        story.client_asks(get("/404")).await.is_forwarded_for("stale").is_stored();
        story.origin_says(status(503));
        story.client_asks(get("/503")).await.is_stored().has_ttl(2);
        for code in [200, 302, 403, 410, 500, 502] {
            refuses(&story, || get("/other"), status(code), "no-freshness").await;
        }
    }

    async fn a_response_that_states_its_freshness_is_stronger_than_a_negative_ttl(stage) {
        let story = stage.story_with(|config| config.negative_ttl(StatusCode::NOT_FOUND, seconds(10)));
        story.origin_says(status(404).cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored().has_ttl(60);
        refuses(&story, || get("/b"), status(404).cache_control("no-store"), "no-store").await;
        refuses(&story, || get("/b"), status(404).cache_control("private"), "private").await;
        refuses(&story, || get("/b"), status(404).header("set-cookie", "s=1"), "set-cookie").await;
        refuses(&story, || get("/b"), status(404).cache_control("max-age=0"), "stale").await;
        refuses(&story, || get("/b").header("authorization", "Bearer one"), status(404), "authorization").await;
    }

    /// §3, last but one item: there is nothing by which it could ever be used.
    async fn what_has_neither_freshness_nor_validator_is_never_reused(stage) {
        let story = stage.story_with(|config| config.policy(CachePolicy::rfc9111()));
        let neither = || ok("x").header("date", &date(&story, 0));
        for reply in
            [ok("x"), neither(), neither().cache_control("public"), status(404), status(301).header("location", "/b")]
        {
            refuses(&story, || get("/a"), reply, "no-freshness").await;
        }
        for line in ["max-age=0", "s-maxage=0", "max-age=0, stale-while-revalidate=0"] {
            refuses(&story, || get("/a"), ok("x").cache_control(line), "stale").await;
        }
        let with = || get("/a").header("cache-control", "max-stale");
        refuses(&story, with, ok("x"), "no-freshness").await;
    }

    async fn a_validator_makes_a_stale_response_worth_keeping(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=0").header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.is_stored();
        story.origin_says(status(304).header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.has_forward_status(304).has_status(200).has_body("hello");
        assert_eq!(story.last_asked().headers["if-none-match"], "\"v1\"");
    }

    /// §3.3, §3.4.
    async fn partial_content_is_never_stored_nor_combined(stage) {
        let story = stage.story();
        for range in ["bytes 0-1/5", "bytes 0-4/5"] {
            let part = status(206).body("he").cache_control("max-age=60").header("etag", "\"v1\"");
            let reply = part.header("content-range", range);
            refuses(&story, || get("/a").header("range", "bytes=0-1"), reply.clone(), "status").await;
            refuses(&story, || get("/a"), reply, "status").await;
        }
    }

    /// §3.3: an incomplete response is not stored as if it were whole.
    async fn what_breaks_off_is_never_stored(stage) {
        let story = stage.story();
        story.origin_says(
            ok("").chunks(["one ", "two "]).then_breaks_off().cache_control("max-age=60").header("etag", "\"v1\""),
        );
        story.client_asks(get("/a")).await.breaks_off();
        story.origin_says(ok("whole").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("whole");
        assert!(!story.last_asked().headers.contains_key("if-none-match"));
    }
}
