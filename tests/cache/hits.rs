//! What a hit is: the stored response, whole, and nothing else.

use std::task::{Context, Poll, Waker};

use http::Request;
use tower_redis_cache::RedisCache;
use tower_service::Service;

use crate::on_both_stores;
use crate::support::gate::Gate;
use crate::support::scripted::{ScriptBody, ScriptedService, failure, ok, status};
use crate::support::story::{ask, get, head, seconds};

on_both_stores! {
    async fn a_fresh_response_is_answered_from_the_cache(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("content-type", "text/plain"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").is_stored().has_body("hello");
        story.time_passes(seconds(59));
        story
            .client_asks(get("/a"))
            .await
            .is_hit()
            .has_status(200)
            .has_age(59)
            .has_header("content-type", "text/plain")
            .has_header("cache-control", "max-age=60")
            .has_body("hello");
        story.origin_was_asked(1);
    }

    /// What was told of one response a moment ago is not told of another, nor twice.
    async fn hits_within_one_second_have_the_head_of_their_own_response(stage) {
        let story = stage.story();
        for version in ["1", "2", "3"] {
            let page = ok("old").cache_control("max-age=600").header("etag", "\"v\"");
            story.origin_says(page.header("x-version", version));
            story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
            for second in 0..3 {
                let mut outcomes = Vec::new();
                for _ in 0..4 {
                    let answer = story.client_asks(get("/a")).await;
                    answer.is_hit().has_header("x-version", version).has_age(second).has_ttl(600 - second as i64);
                    answer.has_body("old");
                    outcomes.push(answer.outcome().clone());
                    assert_eq!(answer.headers().get_all("cache-status").iter().count(), 1);
                    let not_modified = story.client_asks(get("/a").header("if-none-match", "\"v\"")).await;
                    not_modified.is_hit().has_status(304).has_body("");
                    story.client_asks(get("/a").header("range", "bytes=1-")).await.has_status(206).has_body("ld");
                    story.client_asks(head("/a")).await.is_hit().has_header("x-version", version).has_body("");
                }
                assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "{outcomes:?}");
                story.time_passes(seconds(1));
            }
        }
    }

    async fn a_stale_response_is_fetched_again_and_replaced(stage) {
        let story = stage.story();
        story.origin_says_in_turn([ok("old").cache_control("max-age=60"), ok("new").cache_control("max-age=60")]);
        story.client_asks(get("/a")).await.has_body("old");
        story.time_passes(seconds(60));
        story.client_asks(get("/a")).await.is_forwarded_for("stale").is_stored().has_body("new");
        story.client_asks(get("/a")).await.is_hit().has_age(0).has_body("new");
        story.origin_was_asked(2);
    }

    async fn every_field_line_is_replayed_in_order_and_byte_for_byte(stage) {
        let story = stage.story();
        let reply = ok("x")
            .cache_control("max-age=60")
            .header("link", "<a>")
            .header("x-empty", "")
            .header("link", "<b>, <c>")
            .header("x-latin", "caf\u{e9} \u{ff}")
            .header("link", "<a>");
        story.origin_says(reply);
        story.client_asks(get("/a")).await;
        story
            .client_asks(get("/a"))
            .await
            .is_hit()
            .has_lines("link", &["<a>", "<b>, <c>", "<a>"])
            .has_header("x-empty", "")
            .has_header("x-latin", "caf\u{e9} \u{ff}");
    }

    async fn bodies_of_all_sizes_come_back_byte_for_byte(stage) {
        for size in [0, 1, 1_000, 64 * 1024, 64 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 3_000_000] {
            let story = stage.story();
            let body: Vec<u8> = (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            story.origin_says(ok(body.clone()).cache_control("max-age=60"));
            let target = format!("/{size}");
            story.client_asks(get(&target)).await.is_stored().has_body(&body);
            story.client_asks(get(&target)).await.is_hit().has_body(&body);
        }
    }

    async fn a_hit_knows_the_length_of_its_body(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("content-length", "5"));
        story.client_asks(get("/a")).await;
        let hit = story.client_begins(get("/a")).await;
        assert_eq!(hit.stated_length(), Some(5));
        hit.reads_to_the_end().await.is_hit().has_header("content-length", "5").has_body("hello");
    }

    async fn a_body_of_unknown_length_is_stored_once_it_is_complete(stage) {
        let story = stage.story();
        story.origin_says(ok("").chunks(["one ", "two ", "three"]).cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored().has_body("one two three");
        story.client_asks(get("/a")).await.is_hit().has_body("one two three");
    }

    async fn head_is_answered_from_what_get_stored_without_a_body(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60").header("content-length", "5").header("etag", "\"1\""));
        story.client_asks(get("/a")).await;
        story
            .client_asks(head("/a"))
            .await
            .is_hit()
            .has_status(200)
            .has_header("content-length", "5")
            .has_header("etag", "\"1\"")
            .has_body("");
        story.origin_was_asked(1);
    }

    async fn head_stores_nothing(stage) {
        let story = stage.story();
        story.origin_says(ok("").cache_control("max-age=60").header("content-length", "5"));
        story.client_asks(head("/a")).await.is_not_stored();
        story.origin_says(ok("hello").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("hello");
        story.origin_was_asked(2);
    }

    async fn other_methods_are_neither_answered_from_the_cache_nor_stored(stage) {
        let story = stage.story();
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
            let target = format!("/{method}");
            story.origin_says(ok("page").cache_control("max-age=60"));
            story.client_asks(get(&target)).await.is_stored();
            story.origin_says(ok("done").cache_control("max-age=60"));
            story.client_asks(ask(method, &target)).await.is_forwarded_for("method").is_not_stored().has_body("done");
        }
        story.origin_was_asked(12);
    }

    async fn the_body_of_a_request_reaches_the_origin(stage) {
        let story = stage.story();
        story.origin_says(ok("done"));
        story.client_asks(ask("POST", "/a").body("a form")).await.has_body("done");
        assert_eq!(story.last_asked().body, "a form");
        story.client_asks(get("/a").body("a fat get")).await.has_body("done");
        assert_eq!(story.last_asked().body, "a fat get");
    }

    async fn a_get_with_a_body_passes_untouched(stage) {
        let story = stage.story();
        story.origin_says(ok("page").cache_control("max-age=60"));
        story.client_asks(get("/a").body("q=1")).await.is_forwarded_for("bypass").is_not_stored();
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").is_stored();
        story.client_asks(get("/a").body("q=1")).await.is_forwarded_for("bypass");
        story.origin_was_asked(3);
    }

    async fn a_redirect_and_an_explicitly_fresh_404_are_stored_with_their_status(stage) {
        for code in [301, 404, 410, 500] {
            let story = stage.story();
            let target = format!("/{code}");
            story.origin_says(status(code).cache_control("max-age=60").header("location", "/b").body("moved"));
            story.client_asks(get(&target)).await.is_stored();
            story.client_asks(get(&target)).await.is_hit().has_status(code).has_header("location", "/b").has_body("moved");
        }
    }

    async fn the_origin_sees_the_request_as_the_client_sent_it(stage) {
        let story = stage.story();
        story.origin_says(ok("x"));
        story.client_asks(get("/a?b=%2F&a=1").header("x-one", "1").header("x-one", "2").header("cookie", "s=1")).await;
        let asked = story.last_asked();
        assert_eq!(asked.uri, "/a?b=%2F&a=1");
        assert_eq!(asked.headers["host"], "example.com");
        assert_eq!(asked.headers.get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(asked.headers["cookie"], "s=1");
    }

    async fn the_error_of_the_service_is_the_error_of_the_cache(stage) {
        let story = stage.story();
        story.origin_says(failure("connection refused"));
        let error = story.client_tries(get("/a")).await.expect_err("the origin fails");
        assert_eq!(error.0, "connection refused");
        story.origin_says(ok("back").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored().has_body("back");
    }

    async fn a_bypass_extension_keeps_the_cache_out(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        let bypass = tower_redis_cache::CacheOverride::new().bypass();
        story.client_asks(get("/a").extension(bypass)).await.is_forwarded_for("bypass").is_not_stored();
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a").extension(bypass)).await.is_forwarded_for("bypass");
        story.origin_was_asked(3);
    }

    async fn the_cache_is_ready_when_the_service_is(stage) {
        let story = stage.story();
        let mut service = story.service();
        let gate = Gate::closed();
        story.origin.ready_after(&gate);
        story.origin_says(ok("x").cache_control("max-age=60"));
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |service: &mut RedisCache<ScriptedService>| {
            let poll = Service::<Request<ScriptBody>>::poll_ready(service, &mut context);
            poll.map(|result| result.is_ok())
        };
        assert_eq!(poll(&mut service), Poll::Pending);
        gate.open();
        assert_eq!(poll(&mut service), Poll::Ready(true));
        // The scripted origin panics when an instance is called that was not ready itself.
        let response = service.call(get("/a").into_request()).await.expect("the origin answers");
        assert_eq!(response.status(), 200);
    }

    async fn many_clients_at_once_all_get_the_whole_body(stage) {
        let story = stage.story();
        let body = "0123456789".repeat(10_000);
        story.origin_says(ok(body.clone()).cache_control("max-age=60"));
        let clients = (0..64).map(|number| {
            let story = story.clone();
            let body = body.clone();
            tokio::spawn(async move {
                let target = format!("/{}", number % 4);
                story.client_asks_and_goes_on(get(&target)).await.has_status(200).has_body(&body);
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client is content");
        }
        story.fills_are_done().await;
        for number in 0..4 {
            story.client_asks(get(&format!("/{number}"))).await.is_hit().has_body(&body);
        }
    }
}
