//! What `Cache-Status` says, and that it is true (RFC 9211).

use std::time::Duration;

use http::StatusCode;

use crate::on_both_stores;
use crate::support::cache_status::Member;
use crate::support::gate::Gate;
use crate::support::scripted::{Reply, failure, ok, status};
use crate::support::story::{Ask, Stage, Story, ask, get, head, seconds};

/// The member as it is written, without the cache's name.
fn said(member: &Member) -> String {
    let parameter = |(name, value): &(String, _)| format!("{name}={value}");
    member.parameters.iter().map(parameter).collect::<Vec<_>>().join("; ")
}

/// A client asks, and the cache says exactly this.
async fn says(story: &Story, ask: Ask, expected: &str) {
    let answer = story.client_asks(ask).await;
    assert_eq!(said(answer.cache_status()), expected);
}

on_both_stores! {
    async fn each_way_of_a_request_has_its_word(stage) {
        let story = stage.story_with(|config| config.failure_backoff(Duration::ZERO));
        story.origin_says(
            ok("x").cache_control("max-age=60, stale-if-error=90").header("vary", "accept").header("etag", "\"v1\""),
        );
        says(&story, get("/a"), "fwd=uri-miss; fwd-status=200; ttl=60; stored=?1").await;
        says(
            &story,
            get("/a").header("accept", "y").header("cache-control", "no-store"),
            "fwd=vary-miss; fwd-status=200; detail=request-no-store",
        )
        .await;
        story.time_passes(seconds(20));
        says(&story, get("/a"), "hit=?1; ttl=40").await;
        says(&story, head("/a"), "hit=?1; ttl=40").await;
        says(&story, get("/a").header("if-none-match", "\"v1\""), "hit=?1; ttl=40").await;
        says(&story, get("/a").header("range", "bytes=0-0"), "hit=?1; ttl=40").await;
        says(&story, get("/a").header("range", "bytes=7-"), "hit=?1; ttl=40").await;
        story.origin_says(status(304));
        says(&story, get("/a").header("cache-control", "no-cache"), "fwd=request; fwd-status=304; ttl=60; stored=?1")
            .await;
        story.time_passes(seconds(60));
        says(&story, get("/a"), "fwd=stale; fwd-status=304; ttl=60; stored=?1").await;
        story.time_passes(seconds(67));
        says(&story, get("/a").header("cache-control", "max-stale"), "hit=?1; ttl=-7").await;
        story.origin_says(status(503));
        says(&story, get("/a"), "fwd=stale; fwd-status=503; ttl=-7; detail=stale-if-error").await;
        story.origin_says(failure("connection refused"));
        says(&story, get("/a"), "fwd=stale; ttl=-7; detail=stale-if-error").await;
        story.origin_says(status(304).header("etag", "\"v2\""));
        says(&story, get("/a"), "fwd=stale; fwd-status=304; detail=validator-mismatch").await;
        story.origin_says(ok("new").cache_control("max-age=60"));
        says(&story, get("/a"), "fwd=stale; fwd-status=200; ttl=60; stored=?1").await;
    }

    async fn what_the_cache_keeps_out_of_has_its_word(stage) {
        let story = stage.story();
        story.origin_says(status(204));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "FROB"] {
            says(&story, ask(method, "/a"), "fwd=method; fwd-status=204").await;
        }
        says(
            &story,
            get("/a").header("connection", "upgrade").header("upgrade", "h2c"),
            "fwd=bypass; fwd-status=204; detail=upgrade",
        )
        .await;
        says(&story, get("/a").header("if-match", "*"), "fwd=bypass; fwd-status=204; detail=precondition").await;
        says(&story, get("/a").body("content"), "fwd=bypass; fwd-status=204; detail=request-content").await;
        says(&story, get("/a").without("host"), "fwd=bypass; fwd-status=204; detail=no-key").await;
    }

    async fn a_post_that_is_stored_says_so(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60").header("content-location", "/a"));
        says(&story, ask("POST", "/a"), "fwd=method; fwd-status=200; ttl=60; stored=?1").await;
    }

    async fn only_if_cached_forwards_nothing_and_says_neither_hit_nor_fwd(stage) {
        let story = stage.story();
        says(&story, get("/a").header("cache-control", "only-if-cached"), "detail=only-if-cached").await;
        story.origin_says(ok("x").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(60));
        says(&story, get("/a").header("cache-control", "only-if-cached"), "detail=only-if-cached").await;
        story.origin_was_asked(1);
    }

    async fn each_refusal_names_its_reason(stage) {
        let story = stage.story_with(|config| {
            config
                .max_body_size(1000)
                .max_head_size(2000)
                .max_fields(20)
                .default_ttl(seconds(60))
                .negative_ttl(StatusCode::NOT_FOUND, seconds(60))
        });
        let fresh = || ok("x").cache_control("max-age=60");
        let plain = || get("/a");
        let many = (0..30).fold(fresh(), |reply, _| reply.header("x-many", "1"));
        let refusals: [(&str, Ask, Reply); 21] = [
            ("method", head("/a"), fresh()),
            (
                "status",
                plain(),
                status(206).cache_control("max-age=60").header("content-range", "bytes 0-0/2").body("x"),
            ),
            ("status", plain(), status(304).cache_control("max-age=60")),
            ("not-understood", plain(), status(299).cache_control("must-understand, max-age=60")),
            ("request-no-store", plain().header("cache-control", "no-store"), fresh()),
            ("no-store", plain(), ok("x").cache_control("no-store")),
            ("private", plain(), ok("x").cache_control("private")),
            ("no-cache", plain(), ok("x").cache_control("no-cache")),
            ("authorization", plain().header("authorization", "Bearer one"), fresh()),
            ("set-cookie", plain(), fresh().header("set-cookie", "s=1")),
            ("cookie", plain().header("cookie", "s=1"), ok("x")),
            ("vary-star", plain(), fresh().header("vary", "*")),
            ("no-freshness", plain(), status(500)),
            ("stale", plain(), ok("x").cache_control("max-age=0")),
            ("stale", plain(), fresh().header("age", "60")),
            ("event-stream", plain(), fresh().header("content-type", "text/event-stream")),
            ("invalid-length", plain(), fresh().header("content-length", "1, 2")),
            ("transfer-coding", plain(), fresh().header("transfer-encoding", "gzip, chunked")),
            ("body-size", plain(), ok("x".repeat(1001)).cache_control("max-age=60")),
            ("head-size", plain(), fresh().header("x-large", &"y".repeat(2000))),
            ("fields", plain(), many),
        ];
        for (reason, ask, reply) in refusals {
            story.origin_says(reply);
            let answer = story.client_asks(ask).await;
            answer.is_forwarded_for("uri-miss").has_detail(reason).is_not_stored();
            assert_eq!(answer.cache_status().get("ttl"), None, "{reason}");
        }
        assert_eq!(story.handle.stats().refused, 21);
    }

    async fn fwd_status_is_the_origins_though_the_client_gets_another(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("etag", "\"v1\""));
        let answer = story.client_asks(get("/a").header("if-none-match", "\"v1\"")).await;
        answer.has_status(304).is_forwarded_for("uri-miss").has_forward_status(200).is_stored();
        story.time_passes(seconds(60));
        story.origin_says(status(304));
        story.client_asks(get("/a")).await.has_status(200).has_forward_status(304);
    }

    async fn ttl_is_the_freshness_left_rounded_as_age_is_not(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60, stale-while-revalidate=60").header("age", "10"));
        story.client_asks(get("/a")).await.is_stored().has_ttl(50);
        let gate = Gate::closed();
        story.origin_says(status(500).head_after(&gate));
        for (millis, age, ttl) in
            [(500, 10, 50), (500, 11, 49), (48_500, 59, 1), (500, 60, 0), (999, 60, 0), (1, 61, -1)]
        {
            story.time_passes(std::time::Duration::from_millis(millis));
            story.client_asks_and_goes_on(get("/a")).await.is_hit().has_age(age).has_ttl(ttl);
        }
        gate.open();
    }

    async fn what_breaks_off_was_being_stored_and_is_not_there_afterwards(stage) {
        let story = stage.story();
        story.origin_says(ok("").chunks(["x"]).then_breaks_off().cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss");
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss");
        assert_eq!((story.handle.stats().stored, story.handle.stats().abandoned), (0, 2));
    }

    async fn the_members_of_other_caches_stay_before_ours_on_hits_and_after_a_304(stage) {
        let story = stage.story();
        let upstream = |reply: Reply, word: &str| {
            reply.header("cache-status", word).cache_control("max-age=60").header("etag", "\"v1\"")
        };
        story.origin_says(upstream(ok("x"), "Inner; fwd=miss, Outer; hit"));
        for number in 0..4 {
            if number == 2 {
                story.time_passes(seconds(60));
                story.origin_says(upstream(status(304), "Inner; hit"));
            }
            let answer = story.client_asks(get("/a")).await;
            let names: Vec<&str> = answer.cache_status_members().iter().map(|member| &*member.cache).collect();
            let expected: &[&str] =
                if number < 2 { &["Inner", "Outer", "tower-redis-cache"] } else { &["Inner", "tower-redis-cache"] };
            assert_eq!(names, expected, "{number}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_named_and_is_no_miss_of_the_uri() {
    let mut stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("x").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    stage.server_mut().kill();
    let answer = story.client_asks(get("/a")).await;
    answer
        .is_forwarded_for("miss")
        .has_forward_status(200)
        .has_detail("store-unavailable")
        .is_not_stored()
        .has_body("x");
    story.origin_was_asked(2);
}
