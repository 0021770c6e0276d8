//! What other caches were found to do wrong, one test for each: what becomes of an answer on its way.

use std::time::Duration;

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{failure, ok, status};
use crate::support::story::{Ask, ask, get, head, seconds};
use crate::{date, on_both_stores};

type Asking = fn() -> Ask;

on_both_stores! {
    // A cache kept GET and HEAD under one key as they came: after a HEAD a GET had no body.
    async fn a_head_does_not_empty_the_get(stage) {
        let story = stage.story_with(|config| config.fixed_ttl(seconds(60)));
        story.origin.answers(|parts| {
            let body = if parts.method == "HEAD" { "" } else { "hello" };
            ok(body).cache_control("max-age=60").header("content-length", "5")
        });
        story.client_asks(head("/a")).await.has_status(200).has_body("");
        story.client_asks(get("/a")).await.has_body("hello");
        story.client_asks(head("/a")).await.is_hit();
        story.client_asks(get("/a")).await.is_hit().has_body("hello");
    }

    // A cache stored a body in a coding of its own, and sent it under the length and without the coding.
    async fn a_coded_body_comes_back_with_its_coding_and_its_length(stage) {
        let story = stage.story();
        let coded: Vec<u8> = (0..5000_u32).map(|at| (at * 7 % 256) as u8).collect();
        let reply = ok(coded.clone())
            .cache_control("max-age=60")
            .header("content-encoding", "gzip")
            .header("content-length", "5000");
        story.origin_says(reply);
        story.client_asks(get("/a")).await.is_stored();
        story
            .client_asks(get("/a"))
            .await
            .is_hit()
            .has_header("content-encoding", "gzip")
            .has_header("content-length", "5000")
            .has_body(&coded);
    }

    // In a cache the first one to find a stale response waited for the origin; in another an error then was the answer.
    async fn the_first_one_to_find_it_stale_waits_no_more_than_the_others(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=60, stale-while-revalidate=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        let gate = Gate::closed();
        story.origin_says(failure("refused").head_after(&gate));
        for _ in 0..3 {
            story.client_asks_and_goes_on(get("/a")).await.is_hit().has_body("old");
        }
        gate.open();
    }

    // A cache that held a stale response returned the error of its origin all the same.
    async fn an_error_is_no_answer_where_a_stale_response_may_be(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=60, stale-if-error=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        for trouble in [failure("refused"), status(502), status(503)] {
            story.origin_says(trouble);
            story.client_asks(get("/a")).await.has_status(200).has_body("old");
        }
    }

    // A cache collected every body before it sent the first octet, those of POST and of endless streams among them.
    async fn what_never_ends_is_passed_on_as_it_comes(stage) {
        let story = stage.story();
        let asks: [(Asking, &str); 3] =
            [(|| get("/a"), "no-store"), (|| ask("POST", "/a"), "max-age=60"), (|| get("/a"), "max-age=60")];
        for (ask, line) in asks {
            story.origin_says(
                ok("")
                    .chunks(["data: 1\n\n"])
                    .then_hangs()
                    .cache_control(line)
                    .header("content-type", "text/event-stream"),
            );
            let mut opened = story.client_begins(ask()).await;
            opened.receives("data: 1\n\n").await;
            opened.leaves();
        }
        story.fills_are_done().await;
        assert_eq!(story.handle.stats().bytes_in_flight, 0);
    }

    // A cache looked for Range among the fields of the response.
    async fn a_range_field_in_a_response_means_nothing(stage) {
        let story = stage.story();
        story.origin_says(ok("0123456789").cache_control("max-age=60").header("range", "bytes=0-1"));
        for _ in 0..2 {
            story.client_asks(get("/a")).await.has_status(200).has_body("0123456789");
        }
    }

    // A cache had no limit for bodies of unknown length; another answered 500 to one over its limit.
    async fn a_body_over_the_limit_reaches_its_client_and_is_not_held(stage) {
        let story = stage.story_with(|config| config.max_body_size(1000));
        let body = "x".repeat(5000);
        for reply in [ok(body.clone()), ok("").chunks([body.clone()]), ok("").chunks(vec!["x".repeat(500); 10])] {
            story.origin_says(reply.cache_control("max-age=60"));
            story.client_asks(get("/a")).await.has_status(200).has_body(&body);
            assert_eq!(story.handle.stats().bytes_in_flight, 0);
        }
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss");
    }

    // Caches lost the trailers.
    async fn trailers_come_with_every_answer(stage) {
        let story = stage.story();
        story.origin_says(
            ok("").chunks(["x"]).trailer("x-checksum", "7").trailer("x-checksum", "8").cache_control("max-age=60"),
        );
        story.client_asks(get("/a")).await.is_stored().has_trailer("x-checksum", "7");
        story.client_asks(get("/a")).await.is_hit().has_trailer("x-checksum", "7");
    }

    // Caches stored 206 as any success, and sent a part for the whole or for another part.
    async fn a_part_is_never_sent_for_the_whole(stage) {
        let story = stage.story_with(|config| config.fixed_ttl(seconds(60)));
        story.origin.answers(|parts| match parts.headers.get("range").map(|value| value.to_str().expect("ASCII")) {
            Some("bytes=0-4") => {
                status(206).body("01234").header("content-range", "bytes 0-4/10").cache_control("max-age=60")
            }
            Some(_) => status(206).body("234").header("content-range", "bytes 2-4/10").cache_control("max-age=60"),
            None => ok("0123456789").cache_control("max-age=60"),
        });
        story.client_asks(get("/a").header("range", "bytes=0-4")).await.has_status(206).has_body("01234");
        story.client_asks(get("/a").header("range", "bytes=2-4")).await.has_status(206).has_body("234");
        story.client_asks(get("/a")).await.has_status(200).has_body("0123456789");
        story.client_asks(get("/a").header("range", "bytes=2-4")).await.is_hit().has_status(206).has_body("234");
    }

    // Caches sent stored responses without an Age, or under a name of their own.
    async fn a_hit_has_an_age(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a")).await.is_hit().has_age(0);
        story.time_passes(Duration::from_millis(7_999));
        story.client_asks(get("/a")).await.is_hit().has_age(7).has_no("x-cache-age");
    }

    // Caches called an instance that had not been ready, in the background above all. The scripted origin does not
    // answer such a call.
    async fn what_is_called_was_ready_in_the_background_too(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60, stale-while-revalidate=60"));
        story.client_asks(get("/a")).await.is_stored();
        for round in 1..4 {
            story.time_passes(seconds(61));
            story.client_asks(get("/a")).await.is_hit();
            story.origin_was_asked(1 + round);
        }
    }

    // A cache still wrote Warning, which RFC 9111 has done away with.
    async fn nothing_writes_warning(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored().has_no("warning");
        story.time_passes(seconds(1_000));
        story.client_asks(get("/a").header("cache-control", "max-stale")).await.is_hit().has_no("warning");
        story.origin_says(failure("refused"));
        story.client_asks(get("/a")).await.has_detail("stale-if-error").has_no("warning");
    }

    // A cache left the permission to be stale of an old entry on the new one that had none.
    async fn the_permissions_of_what_was_replaced_end_with_it(stage) {
        let story = stage.story();
        for second in [ok("new").header("etag", "\"v2\""), status(304).header("etag", "\"v1\"")] {
            story.origin_says(
                ok("old")
                    .cache_control("max-age=60, stale-while-revalidate=600, stale-if-error=600")
                    .header("etag", "\"v1\""),
            );
            story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
            story.origin_says(second.cache_control("max-age=60"));
            story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
            story.time_passes(seconds(61));
            story.origin_says(status(503));
            story.client_asks(get("/a")).await.is_forwarded_for("stale").has_status(503);
        }
    }

    // In a cache those who came while a first one was asking waited for ever when that one left.
    async fn who_leaves_leaves_nobody_waiting(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("x").cache_control("max-age=60").head_after(&gate));
        let leaving = tokio::spawn({
            let story = story.clone();
            async move { drop(story.client_tries(get("/a")).await) }
        });
        eventually("the origin is asked", || story.origin.calls() == 1).await;
        let staying = tokio::spawn({
            let story = story.clone();
            async move { story.client_asks_and_goes_on(get("/a")).await }
        });
        leaving.abort();
        assert!(leaving.await.expect_err("the client left").is_cancelled());
        gate.open();
        staying.await.expect("the client is content").has_body("x");
    }

    // A cache called its service on a hit as well, and threw the call away.
    async fn a_hit_leaves_the_service_alone(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        for _ in 0..5 {
            story.client_asks(get("/a")).await.is_hit();
            story.client_asks(head("/a")).await.is_hit();
        }
        story.origin_was_asked(1);
    }

    // A cache read neither unquoted nor weak tags as what they are, nor dates and numbers in odd forms.
    async fn odd_forms_of_tags_are_compared_as_they_are(stage) {
        let story = stage.story();
        for (etag, same, other) in [
            ("\"a\"", "W/\"a\"", "\"A\""),
            ("W/\"a\"", "\"a\"", "\"a "),
            ("\"a,b\"", "\"x\", \"a,b\"", "\"a\", \"b\""),
            ("\"\"", "\"\"", "\" \""),
        ] {
            let target = format!("/{}", story.origin.calls());
            story.origin_says(
                ok("hello")
                    .cache_control("max-age=60")
                    .header("etag", etag)
                    .header("last-modified", &date(&story, -60)),
            );
            story.client_asks(get(&target)).await.is_stored();
            story.client_asks(get(&target).header("if-none-match", same)).await.is_hit().has_status(304);
            story.client_asks(get(&target).header("if-none-match", other)).await.is_hit().has_status(200);
        }
    }

    // A cache gave a status that it did not know another one.
    async fn an_unknown_status_stays_what_it_is(stage) {
        let story = stage.story();
        for code in [299, 499, 599] {
            let target = format!("/{code}");
            story.origin_says(status(code).body("odd").cache_control("max-age=60"));
            story.client_asks(get(&target)).await.has_status(code);
            story.client_asks(get(&target)).await.is_hit().has_status(code).has_body("odd");
        }
    }

    // A cache stored what had come when its client left, as if it were the whole.
    async fn half_a_body_is_never_a_whole_one(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("").chunks(["one "]).waits_for(&gate).chunks(["two"]).cache_control("max-age=60"));
        let mut opened = story.client_begins(get("/a")).await;
        opened.receives("one ").await;
        opened.leaves();
        gate.open();
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.has_body("one two");
    }

    // A cache stored and sent text alone: what was no UTF-8 failed.
    async fn octets_that_are_no_text_are_octets(stage) {
        let story = stage.story();
        let body: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        story.origin_says(ok(body.clone()).cache_control("max-age=60").header("x-latin", "\u{e9}\u{ff}"));
        story.client_asks(get("/a")).await.is_stored().has_body(&body);
        story.client_asks(get("/a")).await.is_hit().has_header("x-latin", "\u{e9}\u{ff}").has_body(&body);
    }
}
