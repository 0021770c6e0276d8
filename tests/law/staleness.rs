//! When a stale response is better than none, and when it is not (RFC 9111 §4.2.4, RFC 5861).

use std::time::Duration;

use http::StatusCode;
use tower_redis_cache::Disconnected;

use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{failure, ok, status};
use crate::support::story::{Ask, Stage, Story, get, head, seconds};

/// What forbids any use of a stale response.
const FORBID: [&str; 4] = ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"];

const ERRORS: [u16; 4] = [500, 502, 503, 504];

/// Stored with this Cache-Control and a tag.
async fn has_stored(story: &Story, target: &str, line: &str) {
    story.origin_says(ok("old").cache_control(line).header("etag", "\"v1\""));
    story.client_asks(get(target)).await.is_stored();
}

/// The stored response came instead of the trouble.
#[track_caller]
fn is_the_old_one(answer: &crate::support::story::Answer, ttl: i64) {
    answer.is_forwarded_for("stale").has_detail("stale-if-error").has_ttl(ttl).has_status(200).has_body("old");
}

on_both_stores! {
    async fn what_is_stale_from_the_start_is_kept_for_its_window(stage) {
        let story = stage.story();
        story.origin_says(ok("one").cache_control("max-age=0, stale-while-revalidate=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a")).await.is_hit().has_body("one");
    }

    async fn a_stale_response_is_sent_at_once_and_refreshed_behind(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60, stale-while-revalidate=30").await;
        story.time_passes(seconds(65));
        let gate = Gate::closed();
        story.origin_says(ok("new").cache_control("max-age=60").head_after(&gate));
        story.client_asks_and_goes_on(get("/a")).await.is_hit().has_age(65).has_ttl(-5).has_status(200).has_body("old");
        eventually("the origin is asked", || story.origin.calls() == 2).await;
        assert_eq!(story.last_asked().headers["if-none-match"], "\"v1\"");
        gate.open();
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.is_hit().has_age(0).has_ttl(60).has_body("new");
        story.origin_was_asked(2);
        assert_eq!(story.handle.stats().refreshes, 1);
    }

    async fn a_refresh_that_ends_in_304_freshens(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60, stale-while-revalidate=30").await;
        story.time_passes(seconds(65));
        story.origin_says(status(304).header("etag", "\"v1\"").header("x-new", "1"));
        story.client_asks(get("/a")).await.is_hit().has_ttl(-5).has_no("x-new").has_body("old");
        story.client_asks(get("/a")).await.is_hit().has_ttl(60).has_header("x-new", "1").has_body("old");
        story.origin_was_asked(2);
    }

    async fn however_many_ask_the_refresh_is_one(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60, stale-while-revalidate=30").await;
        story.time_passes(seconds(65));
        let gate = Gate::closed();
        story.origin_says(ok("new").cache_control("max-age=60").head_after(&gate));
        let clients = (0..64).map(|_| {
            let story = story.clone();
            tokio::spawn(async move {
                story.client_asks_and_goes_on(get("/a")).await.is_hit().has_ttl(-5).has_body("old");
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client is content");
        }
        gate.open();
        story.fills_are_done().await;
        story.origin_was_asked(2);
        story.client_asks(get("/a")).await.is_hit().has_ttl(60).has_body("new");
    }

    async fn a_refresh_that_fails_is_tried_again_and_harms_nobody(stage) {
        let story = stage.story_with(|config| config.failure_backoff(Duration::ZERO));
        has_stored(&story, "/a", "max-age=60, stale-while-revalidate=30").await;
        story.time_passes(seconds(61));
        for (round, trouble) in [
            failure("refused"),
            status(500),
            status(503),
            ok("").chunks(["half"]).then_breaks_off().cache_control("max-age=60"),
        ]
        .into_iter()
        .enumerate()
        {
            story.origin_says(trouble);
            story.client_asks(get("/a")).await.is_hit().has_status(200).has_body("old");
            story.origin_was_asked(2 + round);
        }
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_hit().has_body("old");
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }

    async fn a_refresh_asks_for_what_all_share_and_not_for_what_its_client_wanted(stage) {
        let story = stage.story();
        let asks: [fn() -> Ask; 5] = [
            || head("/a"),
            || get("/a").header("if-none-match", "\"mine\""),
            || get("/a").header("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
            || get("/a").header("range", "bytes=0-0").header("if-range", "\"v1\""),
            || get("/a").header("cache-control", "only-if-cached"),
        ];
        for ask in asks {
            story
                .origin_says(ok("old").cache_control("max-age=60, stale-while-revalidate=30").header("etag", "\"v1\""));
            story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
            story.time_passes(seconds(61));
            story
                .origin_says(ok("new").cache_control("max-age=60, stale-while-revalidate=30").header("etag", "\"v2\""));
            story.client_asks(ask()).await.is_hit();
            let asked = story.last_asked();
            assert_eq!(asked.method, "GET");
            assert_eq!(crate::lines(&asked.headers, "if-none-match"), ["\"v1\""]);
            for name in ["if-modified-since", "range", "if-range", "cache-control"] {
                assert!(!asked.headers.contains_key(name), "{name}");
            }
            story.client_asks(get("/a")).await.is_hit().has_ttl(60).has_body("new");
        }
    }

    async fn the_window_for_refreshing_behind_ends(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60, stale-while-revalidate=30").await;
        story.time_passes(seconds(90));
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("stale").has_body("new");
    }

    async fn an_error_is_answered_with_the_stale_response_where_that_allows_it(stage) {
        let story = stage.story_with(|config| config.failure_backoff(Duration::ZERO));
        has_stored(&story, "/a", "max-age=60, stale-if-error=30").await;
        story.time_passes(seconds(65));
        for code in ERRORS {
            story.origin_says(status(code).body("sorry"));
            let answer = story.client_asks(get("/a")).await;
            is_the_old_one(&answer, -5);
            answer.has_forward_status(code.into()).has_age(65).is_not_stored();
        }
        story.origin_says(failure("connection refused"));
        let answer = story.client_asks(get("/a")).await;
        is_the_old_one(&answer, -5);
        assert_eq!(answer.cache_status().get("fwd-status"), None, "nobody answered");
        assert_eq!(story.handle.stats().stale_on_error, 5);
        story.origin_says(ok("back").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.has_body("back");
    }

    async fn other_errors_are_answers(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60, stale-if-error=30").await;
        story.time_passes(seconds(61));
        for code in [400, 401, 403, 404, 410, 429, 501, 505, 599] {
            story.origin_says(status(code).body("sorry"));
            story.client_asks(get("/a")).await.has_status(code).has_body("sorry");
        }
    }

    async fn the_window_for_errors_ends(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60, stale-if-error=30").await;
        story.time_passes(seconds(89));
        story.origin_says(status(503).body("sorry"));
        is_the_old_one(&story.client_asks(get("/a")).await, -29);
        story.time_passes(seconds(1));
        story.client_asks(get("/a")).await.has_status(503).has_body("sorry");
    }

    async fn without_permission_an_error_is_the_answer(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60").await;
        story.time_passes(seconds(61));
        for code in ERRORS {
            story.origin_says(status(code).body("sorry"));
            story.client_asks(get("/a")).await.has_status(code).has_body("sorry").is_not_stored();
        }
        story.origin_says(status(304).header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.has_forward_status(304).has_body("old");
    }

    async fn nothing_stale_is_sent_where_the_response_demands_validation(stage) {
        for forbids in FORBID {
            for line in ["max-age=60, stale-while-revalidate=600, stale-if-error=600", "max-age=60"] {
                let story = stage.story_with(|config| {
                    config
                        .stale_while_revalidate(seconds(600))
                        .stale_if_error(seconds(600))
                        .namespace("forbid")
                        .expect("a namespace")
                });
                let target = format!("/{forbids}/{}", line.len());
                has_stored(&story, &target, &format!("{line}, {forbids}")).await;
                story.time_passes(seconds(61));
                for code in ERRORS {
                    story.origin_says(status(code).body("sorry"));
                    story.client_asks(get(&target)).await.has_status(code).has_body("sorry");
                    story.origin_says(status(code).extension(Disconnected).body("sorry"));
                    story.client_asks(get(&target)).await.has_status(code).has_body("sorry");
                }
                story.origin_says(failure("connection refused"));
                story.client_tries(get(&target)).await.expect_err("nothing may stand in for the origin");
                story
                    .client_asks(get(&target).header("cache-control", "max-stale, only-if-cached"))
                    .await
                    .has_status(504);
                story.origin_says(ok("new").cache_control("max-age=60"));
                story.client_asks(get(&target)).await.has_body("new");
            }
        }
    }

    async fn the_operator_may_allow_what_the_response_does_not_speak_of(stage) {
        let story = stage.story_with(|config| config.stale_while_revalidate(seconds(10)).stale_if_error(seconds(100)));
        has_stored(&story, "/a", "max-age=60").await;
        story.time_passes(seconds(69));
        story.origin_says(status(500));
        story.client_asks(get("/a")).await.is_hit().has_ttl(-9).has_body("old");
        story.origin_was_asked(2);
        story.time_passes(seconds(1));
        is_the_old_one(&story.client_asks(get("/a")).await, -10);
        story.time_passes(seconds(89));
        is_the_old_one(&story.client_asks(get("/a")).await, -99);
        story.time_passes(seconds(1));
        story.client_asks(get("/a")).await.has_status(500);
    }

    async fn the_word_of_a_response_may_be_longer_than_the_operators(stage) {
        let story = stage.story_with(|config| config.stale_while_revalidate(seconds(1)).stale_if_error(seconds(1)));
        has_stored(&story, "/a", "max-age=60, stale-while-revalidate=20, stale-if-error=40").await;
        story.origin_says(status(500));
        story.time_passes(seconds(79));
        story.client_asks(get("/a")).await.is_hit().has_ttl(-19);
        story.time_passes(seconds(1));
        is_the_old_one(&story.client_asks(get("/a")).await, -20);
    }

    /// §4.2.4: a cache that is disconnected may, where nothing forbids it.
    async fn an_origin_that_cannot_be_reached_needs_no_permission(stage) {
        let story = stage.story_with(|config| config.failure_backoff(Duration::ZERO));
        has_stored(&story, "/a", "max-age=60").await;
        story.time_passes(seconds(100));
        story.origin_says(failure("connection refused"));
        is_the_old_one(&story.client_asks(get("/a")).await, -40);
        for code in ERRORS {
            story.origin_says(status(code).extension(Disconnected).body("made here"));
            is_the_old_one(&story.client_asks(get("/a")).await, -40);
            story.origin_says(status(code).body("made there"));
            story.client_asks(get("/a")).await.has_status(code).has_body("made there");
        }
    }

    /// RFC 9211 §2.3: what is said in an origin's place has no status of the next hop.
    async fn who_speaks_for_an_origin_that_is_away_is_told_apart(stage) {
        let story = stage.story();
        story.origin_says(status(502).extension(Disconnected).body("made here"));
        let answer = story.client_asks(get("/a")).await;
        answer.has_status(502).is_not_stored().has_detail("disconnected");
        assert_eq!(answer.cache_status().integer("fwd-status"), None);
        has_stored(&story, "/b", "max-age=60").await;
        story.time_passes(seconds(100));
        story.origin_says(status(502).extension(Disconnected).body("made here"));
        let answer = story.client_asks(get("/b")).await;
        answer.has_status(200).has_detail("stale-if-error");
        assert_eq!(answer.cache_status().integer("fwd-status"), None);
    }

    async fn with_nothing_stored_the_error_is_the_clients(stage) {
        let story = stage.story_with(|config| config.stale_if_error(seconds(600)));
        story.origin_says(failure("connection refused"));
        assert_eq!(story.client_tries(get("/a")).await.expect_err("the origin fails").0, "connection refused");
        story.origin_says(status(502).extension(Disconnected).body("made here"));
        story.client_asks(get("/a")).await.has_status(502).is_not_stored().has_body("made here");
    }

    async fn a_stale_answer_keeps_what_its_request_asked_for(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60, stale-if-error=30").await;
        story.time_passes(seconds(61));
        story.origin_says(status(503));
        story.client_asks(get("/a").header("if-none-match", "\"v1\"")).await.has_status(304).has_body("");
        story.client_asks(get("/a").header("range", "bytes=1-")).await.has_status(206).has_body("ld");
        story.client_asks(head("/a")).await.has_status(200).has_body("");
    }

    async fn a_request_for_validation_is_not_answered_stale(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60, stale-while-revalidate=30, stale-if-error=30").await;
        story.time_passes(seconds(61));
        story.origin_says(status(503));
        story.client_asks(get("/a").header("cache-control", "no-cache")).await.has_status(503);
        story.origin_says(failure("connection refused"));
        story
            .client_tries(get("/a").header("cache-control", "no-cache"))
            .await
            .expect_err("the client wants the origin");
    }

    async fn a_request_for_something_fresher_is_not_answered_and_refreshed_behind(stage) {
        let story = stage.story();
        for line in ["no-cache", "max-age=0", "max-age=60", "min-fresh=1"] {
            story.origin_says(ok("old").cache_control("max-age=60, stale-while-revalidate=30"));
            story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
            story.time_passes(seconds(61));
            story.origin_says(ok("new").cache_control("no-store"));
            story
                .client_asks(get("/a").header("cache-control", line))
                .await
                .is_forwarded_for("request")
                .has_body("new");
        }
    }

    async fn a_request_may_ask_for_the_stale_response_on_an_error(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60").await;
        story.time_passes(seconds(69));
        story.origin_says(status(503));
        is_the_old_one(&story.client_asks(get("/a").header("cache-control", "stale-if-error=10")).await, -9);
        story.client_asks(get("/a").header("cache-control", "stale-if-error=9")).await.has_status(503);
        story.client_asks(get("/a")).await.has_status(503);
    }

    async fn max_stale_accepts_as_much_as_it_says(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60").await;
        story.time_passes(seconds(70));
        let with = |line: &str| get("/a").header("cache-control", line);
        for line in [
            "max-stale",
            "max-stale=10",
            "Max-Stale=11",
            "max-stale=\"10\"",
            "only-if-cached, max-stale=99999999999999999999",
        ] {
            story.client_asks(with(line)).await.is_hit().has_age(70).has_ttl(-10).has_body("old");
        }
        story.origin_was_asked(1);
        for line in ["max-stale=9", "max-stale=x", "max-stale=-1", "max-stale="] {
            story.client_asks(with(&format!("{line}, only-if-cached"))).await.has_status(504);
        }
    }

    async fn a_stale_response_has_no_warning(stage) {
        let story = stage.story();
        has_stored(&story, "/a", "max-age=60, stale-while-revalidate=30, stale-if-error=90").await;
        story.time_passes(seconds(61));
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.is_hit().has_no("warning");
        story.time_passes(seconds(30));
        story.client_asks(get("/a")).await.has_detail("stale-if-error").has_no("warning");
    }

    async fn stale_errors_and_redirects_keep_their_status(stage) {
        let story = stage
            .story_with(|config| config.negative_ttl(StatusCode::NOT_FOUND, seconds(60)).stale_if_error(seconds(60)));
        story.origin_says(status(404).body("gone"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        story.origin_says(failure("connection refused"));
        story.client_asks(get("/a")).await.has_detail("stale-if-error").has_status(404).has_body("gone");
    }
}

#[tokio::test]
async fn what_is_stale_is_kept_for_as_long_as_the_operator_says_in_memory() {
    for (keep, is_kept) in [(0, false), (30, false), (31, true), (3600, true)] {
        let story = Stage::memory().story_with(|config| config.keep_stale(seconds(keep)));
        has_stored(&story, "/a", "max-age=60").await;
        story.time_passes(seconds(91));
        story.origin_says(status(304).header("etag", "\"v1\""));
        story.client_asks(get("/a")).await;
        assert_eq!(story.last_asked().headers.contains_key("if-none-match"), is_kept, "{keep}");
    }
}

#[tokio::test]
async fn what_is_stale_is_kept_for_as_long_as_somebody_says_in_redis() {
    let stage = Stage::redis();
    for (keep, line, seconds_left) in [
        (0, "max-age=60", 60),
        (500, "max-age=60", 560),
        (0, "max-age=60, stale-while-revalidate=200", 260),
        (0, "max-age=60, stale-while-revalidate=200, stale-if-error=300", 360),
        (0, "max-age=60, stale-if-error=300, must-revalidate", 60),
    ] {
        let story = stage.story_with(|config| config.keep_stale(seconds(keep)));
        stage.server().cli(&["FLUSHALL"]);
        has_stored(&story, "/a", line).await;
        let keys = stage.server().keys("*");
        let left: i64 = stage.server().cli(&["PTTL", &keys[0]]).parse().expect("a number");
        let expected = seconds_left * 1000;
        assert!((expected - 20_000..expected + 10_000).contains(&left), "{line}, {keep}: {left} ms");
    }
}
