//! What other engines of HTTP caching were found to do wrong, one test for each.

use crate::support::scripted::{ok, status};
use crate::support::story::{Stage, Story, ask, get, head, seconds};
use crate::{date, on_both_stores};

/// The response is stored and answers the next request.
async fn is_shared(story: &Story, reply: crate::support::scripted::Reply) -> bool {
    let target = format!("/{}", story.origin.calls());
    story.origin_says(reply);
    story.client_asks(get(&target)).await;
    story.client_asks(get(&target)).await.outcome().is_hit()
}

on_both_stores! {
    // An engine knew directives in lower case only: `No-Store` and `PRIVATE` were stored, `Max-Age` was zero.
    async fn the_case_of_a_directive_does_not_matter(stage) {
        let story = stage.story();
        assert!(!is_shared(&story, ok("x").cache_control("No-Store, max-age=60")).await);
        assert!(!is_shared(&story, ok("x").cache_control("PRIVATE, max-age=60")).await);
        assert!(is_shared(&story, ok("x").cache_control("Max-Age=60")).await);
    }

    // An engine took max-stale for permission, past no-cache, s-maxage and Set-Cookie; another user's cookie went out.
    async fn max_stale_is_a_wish_and_no_permission(stage) {
        let story = stage.story();
        let lines = ["no-cache, max-age=60", "s-maxage=60", "max-age=60, must-revalidate"];
        for (number, line) in lines.into_iter().enumerate() {
            let target = format!("/{number}");
            story.origin_says(ok("alice").cache_control(line).header("etag", "\"alice\""));
            story.client_asks(get(&target)).await.is_stored();
            story.time_passes(seconds(61));
            story.origin_says(ok("bob").cache_control("no-store"));
            story
                .client_asks(get(&target).header("cache-control", "max-stale"))
                .await
                .has_forward_status(200)
                .has_body("bob");
        }
        story.origin_says(ok("alice").cache_control("max-age=60").header("set-cookie", "session=alice"));
        story.client_asks(get("/cookie")).await.has_header("set-cookie", "session=alice");
        story.origin_says(ok("bob").cache_control("no-store"));
        story
            .client_asks(get("/cookie").header("cache-control", "max-stale"))
            .await
            .has_no("set-cookie")
            .has_body("bob");
    }

    // An engine kept one line of each field on every hit: of two Link lines one was left.
    async fn repeated_field_lines_all_come_back(stage) {
        let story = stage.story();
        let reply = ok("x")
            .cache_control("max-age=60")
            .header("link", "<a>")
            .header("link", "<b>")
            .header("vary", "accept")
            .header("vary", "x-plan");
        story.origin_says(reply.header("content-security-policy", "a").header("content-security-policy", "b"));
        story.client_asks(get("/a")).await.is_stored();
        let hit = story.client_asks(get("/a")).await;
        hit.is_hit().has_lines("link", &["<a>", "<b>"]).has_lines("vary", &["accept", "x-plan"]);
        hit.has_lines("content-security-policy", &["a", "b"]);
    }

    // An engine put the present, in a form that is no HTTP-date, in place of the origin's Date.
    async fn the_date_of_the_origin_stays(stage) {
        let story = stage.story();
        let then = date(&story, -7);
        story.origin_says(ok("x").cache_control("max-age=60").header("date", &then));
        story.client_asks(get("/a")).await.is_stored().has_header("date", &then);
        story.time_passes(seconds(9));
        story.client_asks(get("/a")).await.is_hit().has_header("date", &then).has_age(16);
        story.origin_says(ok("x").cache_control("max-age=60"));
        story.client_asks(get("/b")).await.is_stored();
        let hit = story.client_asks(get("/b")).await;
        let own = hit.headers()["date"].to_str().expect("a date");
        assert_eq!(own, date(&story, 0), "an IMF-fixdate");
    }

    // An engine read Expires in one of its three formats alone.
    async fn obsolete_dates_are_dates(stage) {
        let story = stage.story();
        for future in ["Friday, 01-Jan-70 00:00:00 GMT", "Thu Jan  1 00:00:00 1970"] {
            assert!(!is_shared(&story, ok("x").header("expires", future)).await, "{future} is past");
        }
        let asctime = "Fri Dec 31 23:59:59 9999";
        assert!(is_shared(&story, ok("x").header("expires", asctime)).await);
        assert!(
            !is_shared(&story, ok("x").header("expires", asctime).header("date", "Sun Nov  6 08:49:37 1994")).await,
            "30 days old"
        );
    }

    // An engine took an Age that it could not count for zero, and a max-age that it could not count for zero as well.
    async fn numbers_too_great_to_count_are_great(stage) {
        let story = stage.story();
        assert!(!is_shared(&story, ok("x").cache_control("max-age=60").header("age", "99999999999999999999999")).await);
        assert!(is_shared(&story, ok("x").cache_control("max-age=99999999999999999999999")).await);
    }

    // An engine did not count the apparent age: a response of 1994 without Age was new.
    async fn an_old_date_is_an_old_response(stage) {
        let story = stage.story();
        assert!(
            !is_shared(&story, ok("x").cache_control("max-age=60").header("date", "Sun, 06 Nov 1994 08:49:37 GMT"))
                .await
        );
        story.origin_says(ok("x").cache_control("max-age=60").header("date", &date(&story, -40)));
        story.client_asks(get("/a")).await.is_stored().has_ttl(20);
    }

    // An engine compared the first line of a nominated field only, and read the first line of Vary only.
    async fn vary_compares_all_lines_of_all_fields(stage) {
        let story = stage.story();
        story.origin_says(ok("one").cache_control("max-age=60").header("vary", "x-a").header("vary", "x-b"));
        let ask = |second: &str, b: &str| get("/a").header("x-a", "1").header("x-a", second).header("x-b", b);
        story.client_asks(ask("2", "3")).await.is_stored();
        story.client_asks(ask("2", "3")).await.is_hit();
        story.client_asks(ask("9", "3")).await.is_forwarded_for("vary-miss");
        story.client_asks(ask("2", "9")).await.is_forwarded_for("vary-miss");
        story.client_asks(get("/a").header("x-a", "1").header("x-b", "3")).await.is_forwarded_for("vary-miss");
    }

    // An engine stored a POST for its max-age, and answered another POST with it.
    async fn a_post_is_not_the_answer_to_another_post(stage) {
        let story = stage.story();
        for body in ["one", "two"] {
            story.origin_says(ok(body).cache_control("public, max-age=60"));
            story
                .client_asks(ask("POST", "/a").body(body))
                .await
                .is_forwarded_for("method")
                .is_not_stored()
                .has_body(body);
        }
        story.origin_says(ok("page").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("page");
    }

    // In an engine a stored GET never answered a HEAD.
    async fn a_stored_get_answers_a_head(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.is_stored();
        story
            .client_asks(head("/a"))
            .await
            .is_hit()
            .has_header("etag", "\"v1\"")
            .has_header("content-length", "5")
            .has_body("");
        story.origin_was_asked(1);
    }

    // An engine lost what was new in a 304, and made a response with the status 304 of one without ETag.
    async fn a_304_brings_its_new_fields_and_never_its_status(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("etag", "\"v1\"").header("x-old", "1"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(60));
        story.origin_says(status(304).header("x-new", "1").header("x-old", "2"));
        for _ in 0..2 {
            let answer = story.client_asks(get("/a")).await;
            answer
                .has_status(200)
                .has_header("x-new", "1")
                .has_header("x-old", "2")
                .has_header("etag", "\"v1\"")
                .has_body("hello");
        }
        story.origin_was_asked(2);
    }

    // An engine read `proxy-revalidate, max-age=60` as no freshness at all.
    async fn proxy_revalidate_takes_nothing_from_max_age(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("proxy-revalidate, max-age=60"));
        story.client_asks(get("/a")).await.is_stored().has_ttl(60);
        story.time_passes(seconds(59));
        story.client_asks(get("/a")).await.is_hit();
    }

    // An engine stored no 5xx whatever it said, and knew neither must-understand nor only-if-cached, targeted fields,
    // nor staleness by permission.
    async fn what_an_engine_did_not_know_is_known_here(stage) {
        let story = stage.story();
        assert!(is_shared(&story, status(500).cache_control("max-age=60")).await);
        assert!(is_shared(&story, ok("x").cache_control("must-understand, no-store, max-age=60")).await);
        assert!(is_shared(&story, ok("x").cache_control("no-store").header("cdn-cache-control", "max-age=60")).await);
        story.client_asks(get("/a").header("cache-control", "only-if-cached")).await.has_status(504);
        story.origin_says(ok("old").cache_control("max-age=60, stale-while-revalidate=60, stale-if-error=90"));
        story.client_asks(get("/b")).await.is_stored();
        story.time_passes(seconds(61));
        story.origin_says(status(503));
        story.client_asks(get("/b")).await.is_hit().has_body("old");
        story.time_passes(seconds(60));
        story.client_asks(get("/b")).await.has_detail("stale-if-error").has_body("old");
    }

    // In an engine contradictions only set must-revalidate, and the response stayed fresh.
    async fn of_contradicting_directives_the_stricter_counts(stage) {
        let story = stage.story();
        for line in
            ["no-store, max-age=60", "public, private, max-age=60", "no-cache, max-age=60", "max-age=0, max-age=60"]
        {
            assert!(!is_shared(&story, ok("x").cache_control(line)).await, "{line}");
        }
    }
}

// An engine wrote the fields of the request, credentials among them, into the store with each entry.
#[tokio::test]
async fn no_credential_of_a_request_is_found_in_the_store() {
    let stage = Stage::redis();
    let story = stage.story();
    let with = || {
        get("/a")
            .header("authorization", "Bearer SECRETTOKEN")
            .header("cookie", "s=SECRETCOOKIE")
            .header("x-key", "SECRETKEY")
    };
    story.origin_says(
        ok("x")
            .cache_control("public, max-age=60")
            .header("vary", "authorization, cookie, x-key")
            .header("etag", "\"v1\""),
    );
    story.client_asks(with()).await.is_stored();
    story.time_passes(seconds(60));
    story.origin_says(status(304).header("etag", "\"v1\""));
    story.client_asks(with()).await.is_stored();
    story.client_asks(with()).await.is_hit();
    let keys = stage.server().keys("*");
    assert!(keys.len() >= 2);
    for key in keys {
        let value = stage.server().value(&key).expect("the keys are strings");
        assert!(!String::from_utf8_lossy(&value).contains("SECRET") && !key.contains("SECRET"), "{key}");
    }
}
