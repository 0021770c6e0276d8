//! What is never shared, whatever else a response says.

use tower_redis_cache::{CacheOverride, CachePolicy};

use crate::on_both_stores;
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Ask, Story, get, seconds};

/// The story's first request stores nothing for this reason, and its second one goes to the origin again.
async fn refuses(story: &Story, ask: impl Fn() -> Ask, reply: Reply, reason: &str) {
    let before = story.origin.calls();
    story.origin_says(reply);
    story.client_asks(ask()).await.is_not_stored().has_detail(reason);
    story.client_asks(ask()).await.is_not_stored();
    story.origin_was_asked(before + 2);
}

/// The second request is a hit.
async fn shares(story: &Story, ask: impl Fn() -> Ask, reply: Reply) {
    story.origin_says(reply);
    story.client_asks(ask()).await.is_stored();
    story.client_asks(ask()).await.is_hit();
}

on_both_stores! {
    async fn no_store_is_obeyed_in_any_case_and_any_place(stage) {
        let story = stage.story_with(|config| config.fixed_ttl(seconds(60)));
        for line in ["no-store", "No-Store", "max-age=60, NO-STORE", "public , no-store,max-age=60", "x=\"a,b\", no-store"] {
            refuses(&story, || get("/a"), ok("x").cache_control(line), "no-store").await;
        }
        let reply = ok("x").cache_control("max-age=60").cache_control("no-store");
        refuses(&story, || get("/a"), reply, "no-store").await;
    }

    async fn private_is_obeyed_in_any_case_and_any_place(stage) {
        let story = stage.story_with(|config| config.fixed_ttl(seconds(60)));
        for line in ["private", "max-age=60, Private", "s-maxage=60, private", "private=\"\", max-age=60"] {
            refuses(&story, || get("/a"), ok("x").cache_control(line), "private").await;
        }
    }

    async fn fields_that_private_or_no_cache_name_are_not_stored(stage) {
        let story = stage.story();
        for (path, line) in [("/a", "private=\"x-user\", max-age=60"), ("/b", "no-cache=\"X-User\", max-age=60")] {
            story.origin_says(ok("x").cache_control(line).header("x-user", "alice").header("x-all", "1"));
            story.client_asks(get(path)).await.is_stored().has_header("x-user", "alice");
            story.client_asks(get(path)).await.is_hit().has_no("x-user").has_header("x-all", "1");
        }
    }

    async fn a_directive_inside_a_quoted_string_is_none(stage) {
        let story = stage.story();
        shares(&story, || get("/a"), ok("x").cache_control("ext=\"no-store, private\", max-age=60")).await;
    }

    async fn no_cache_is_never_served_without_asking_the_origin(stage) {
        let story = stage.story();
        refuses(&story, || get("/a"), ok("x").cache_control("no-cache, max-age=60"), "no-cache").await;
    }

    async fn a_request_with_no_store_leaves_nothing_behind(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        let ask = || get("/a").header("cache-control", "no-store");
        story.client_asks(ask()).await.is_not_stored();
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").is_stored();
    }

    async fn a_response_to_a_request_with_authorization_needs_permission(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        let ask = || get("/a").header("authorization", "Bearer one");
        refuses(&story, ask, ok("mine").cache_control("max-age=60"), "authorization").await;
        refuses(&story, ask, ok("mine"), "authorization").await;
        for (number, allowed) in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"].into_iter().enumerate() {
            let target = format!("/{number}");
            let ask = || get(&target).header("authorization", "Bearer one");
            shares(&story, ask, ok("ours").cache_control(allowed)).await;
        }
    }

    async fn a_route_ttl_lifts_no_prohibition(stage) {
        let story = stage.story();
        let route = CacheOverride::new().ttl(seconds(60));
        let ask = || get("/a").extension(route);
        refuses(&story, ask, ok("x").cache_control("private"), "private").await;
        refuses(&story, ask, ok("x").cache_control("no-store"), "no-store").await;
        refuses(&story, ask, ok("x").header("set-cookie", "s=1"), "set-cookie").await;
        refuses(&story, ask, ok("x").header("vary", "*"), "vary-star").await;
        refuses(&story, || ask().header("authorization", "Bearer one"), ok("x"), "authorization").await;
    }

    async fn a_response_that_sets_a_cookie_is_not_stored(stage) {
        let story = stage.story();
        let reply = ok("x").cache_control("public, s-maxage=60").header("set-cookie", "session=1");
        refuses(&story, || get("/a"), reply, "set-cookie").await;
    }

    async fn the_policy_of_the_rfc_stores_cookies_but_lifts_no_prohibition(stage) {
        let story = stage.story_with(|config| config.policy(CachePolicy::rfc9111()));
        let reply = ok("x").cache_control("max-age=60").header("set-cookie", "a=1").header("set-cookie", "b=2");
        story.origin_says(reply);
        story.client_asks(get("/cookie")).await.is_stored();
        story.client_asks(get("/cookie")).await.is_hit().has_lines("set-cookie", &["a=1", "b=2"]);
        refuses(&story, || get("/a"), ok("x").cache_control("no-store, max-age=60"), "no-store").await;
        refuses(&story, || get("/a"), ok("x").cache_control("private, max-age=60"), "private").await;
        refuses(&story, || get("/a"), ok("x").cache_control("max-age=60").header("vary", "*"), "vary-star").await;
        let ask = || get("/a").header("authorization", "Basic eA==");
        refuses(&story, ask, ok("x").cache_control("max-age=60"), "authorization").await;
    }

    async fn a_request_with_a_cookie_gets_no_guessed_freshness_for_others(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        refuses(&story, || get("/a").header("cookie", "s=1"), ok("x"), "cookie").await;
        shares(&story, || get("/b").header("cookie", "s=1"), ok("x").cache_control("max-age=60")).await;
    }

    async fn partial_and_not_modified_responses_pass_and_are_not_stored(stage) {
        let story = stage.story_with(|config| config.fixed_ttl(seconds(60)));
        for code in [206, 304, 412, 416] {
            refuses(&story, || get("/a"), status(code).cache_control("max-age=60"), "status").await;
        }
        story.origin_says(status(206).header("content-range", "bytes 0-0/2").body("a"));
        story.client_asks(get("/a")).await.has_status(206).has_header("content-range", "bytes 0-0/2").has_body("a");
    }

    async fn an_error_is_stored_only_where_it_says_how_long(stage) {
        let story = stage.story();
        for code in [400, 403, 404, 405, 500, 501, 502, 503, 504] {
            refuses(&story, || get("/a"), status(code).body("error"), "no-freshness").await;
        }
    }

    async fn an_event_stream_is_not_recorded(stage) {
        let story = stage.story();
        let reply = ok("data: 1\n\n").cache_control("max-age=60").header("content-type", "Text/Event-Stream; charset=utf-8");
        refuses(&story, || get("/a"), reply, "event-stream").await;
    }

    async fn a_range_request_passes_untouched_and_stores_nothing(stage) {
        let story = stage.story();
        story.origin_says(status(206).cache_control("max-age=60").header("content-range", "bytes 0-1/5").body("he"));
        story.client_asks(get("/a").header("range", "bytes=0-1")).await.has_status(206).is_not_stored().has_body("he");
        assert_eq!(story.last_asked().headers["range"], "bytes=0-1");
        story.origin_says(ok("hello").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").is_stored().has_body("hello");
    }

    async fn an_upgrade_passes_untouched(stage) {
        #[derive(Clone, Debug, PartialEq)]
        struct OnUpgrade(u8);

        let story = stage.story_with(|config| config.fixed_ttl(seconds(60)));
        let reply = status(101).header("connection", "upgrade").header("upgrade", "websocket").extension(OnUpgrade(7));
        story.origin_says(reply);
        let ask = get("/chat").header("connection", "upgrade").header("upgrade", "websocket");
        let response = story.client_tries(ask).await.expect("the origin answers");
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert_eq!(response.headers()["connection"], "upgrade");
        assert_eq!(response.extensions().get(), Some(&OnUpgrade(7)));
        assert_eq!(story.last_asked().headers["upgrade"], "websocket");
        assert_eq!(story.last_asked().headers["connection"], "upgrade");
    }

    async fn fields_of_the_connection_are_neither_stored_nor_replayed(stage) {
        let story = stage.story();
        let reply = ok("x")
            .cache_control("max-age=60")
            .header("connection", "close, X-Hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-connection", "close")
            .header("proxy-authenticate", "Basic")
            .header("te", "trailers")
            .header("upgrade", "h2c")
            .header("x-stays", "1");
        story.origin_says(reply);
        story.client_asks(get("/a")).await.is_stored();
        let hit = story.client_asks(get("/a")).await;
        hit.is_hit().has_header("x-stays", "1");
        for name in ["connection", "x-hop", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "upgrade"] {
            hit.has_no(name);
        }
    }

    async fn connection_cannot_strike_off_what_the_cache_judges_by(stage) {
        let story = stage.story();
        let reply = ok("x").cache_control("private, max-age=60").header("connection", "cache-control");
        refuses(&story, || get("/a"), reply, "private").await;
        let reply = ok("x").cache_control("max-age=60").header("vary", "accept").header("connection", "vary, cache-control");
        story.origin_says(reply);
        story.client_asks(get("/b").header("accept", "text/html")).await.is_stored();
        story.client_asks(get("/b").header("accept", "text/plain")).await.is_forwarded_for("vary-miss");
    }

    async fn a_client_cannot_strike_its_credentials_off(stage) {
        let story = stage.story();
        let ask = || get("/a").header("authorization", "Bearer one").header("connection", "authorization");
        refuses(&story, ask, ok("mine").cache_control("max-age=60"), "authorization").await;
    }

    async fn contradicting_lengths_are_not_stored(stage) {
        let story = stage.story();
        let reply = ok("hello").cache_control("max-age=60").header("content-length", "5").header("content-length", "6");
        refuses(&story, || get("/a"), reply, "invalid-length").await;
    }

    async fn request_directives_make_the_cache_stricter_and_never_laxer(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        let with = |directives: &str| get("/a").header("cache-control", directives);
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(30));
        story.client_asks(with("max-age=30")).await.is_hit().has_age(30);
        story.client_asks(with("min-fresh=30")).await.is_hit();
        story.client_asks(with("only-if-cached")).await.is_hit();
        story.time_passes(seconds(30));
        story.client_asks(with("only-if-cached, max-stale=9")).await.is_hit();
        story.client_asks(with("only-if-cached")).await.has_status(504);
        story.origin_was_asked(1);
        story.client_asks(get("/a")).await.is_forwarded_for("stale").is_stored();
        for line in ["max-age=60, must-revalidate", "s-maxage=60", "max-age=60, proxy-revalidate"] {
            story.origin_says(ok("x").cache_control(line));
            story.client_asks(get(&format!("/{}", line.len()))).await.is_stored();
            story.time_passes(seconds(61));
            story.client_asks(get(&format!("/{}", line.len())).header("cache-control", "max-stale")).await.is_stored();
        }
    }

    async fn a_request_may_ask_for_a_fresher_answer_and_others_profit(stage) {
        let story = stage.story();
        story.origin_says_in_turn(["one", "two", "three", "four"].map(|body| ok(body).cache_control("max-age=60")));
        story.client_asks(get("/a")).await.has_body("one");
        story.time_passes(seconds(10));
        let with = |name: &str, value: &str| get("/a").header(name, value);
        story.client_asks(with("cache-control", "no-cache")).await.is_forwarded_for("request").is_stored().has_body("two");
        story.client_asks(get("/a")).await.is_hit().has_age(0).has_body("two");
        story.time_passes(seconds(10));
        story.client_asks(with("cache-control", "max-age=9")).await.is_forwarded_for("request").has_body("three");
        story.client_asks(with("pragma", "no-cache")).await.is_forwarded_for("request").has_body("four");
        story.client_asks(get("/a")).await.is_hit().has_body("four");
    }

    async fn only_if_cached_never_reaches_the_origin(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        let answer = story.client_asks(get("/a").header("cache-control", "only-if-cached")).await;
        answer.has_status(504).is_not_stored();
        story.origin_was_asked(0);
    }
}
