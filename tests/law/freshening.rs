//! What a 304 and a HEAD change of what is stored (RFC 9111 §3.2, §4.3.4, §4.3.5).

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Ask, Story, get, head, seconds};
use crate::{date, octets, on_both_stores};

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

fn hello() -> Reply {
    ok("hello").header("etag", "\"v1\"").header("content-length", "5").header("content-type", "text/plain")
}

/// A stored page that has become stale.
async fn has_a_stale_page(story: &Story, reply: Reply) {
    story.origin_says(reply.cache_control("max-age=60"));
    story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
    story.time_passes(seconds(60));
}

on_both_stores! {
    async fn a_304_replaces_the_fields_that_it_has_and_leaves_the_others(stage) {
        let story = stage.story();
        let old = hello()
            .header("link", "<a>")
            .header("link", "<b>")
            .header("x-gone", "1")
            .header("x-kept", "1")
            .header("x-kept", "2");
        has_a_stale_page(&story, old).await;
        let new = status(304)
            .header("etag", "\"v1\"")
            .cache_control("max-age=100")
            .header("link", "<c>")
            .header("x-gone", "")
            .header("x-new", "a")
            .header("x-new", "b");
        story.origin_says(new);
        for hit in [false, true] {
            let answer = story.client_asks(get("/a")).await;
            assert_eq!(answer.outcome().is_hit(), hit);
            answer.has_status(200).has_body("hello").has_header("cache-control", "max-age=100");
            answer
                .has_header("link", "<c>")
                .has_header("x-gone", "")
                .has_lines("x-new", &["a", "b"])
                .has_lines("x-kept", &["1", "2"]);
            answer.has_header("content-type", "text/plain").has_header("content-length", "5");
        }
        story.time_passes(seconds(99));
        story.client_asks(get("/a")).await.is_hit();
    }

    /// §3.2: what describes the stored content, and what belongs to a connection.
    async fn a_304_does_not_change_what_describes_the_content_nor_bring_fields_of_the_connection(stage) {
        let story = stage.story();
        has_a_stale_page(&story, hello().header("content-encoding", "x-none")).await;
        let reply = status(304)
            .header("etag", "\"v1\"")
            .header("content-length", "0")
            .header("content-encoding", "gzip")
            .header("content-range", "bytes 0-1/5")
            .header("connection", "close, x-hop")
            .header("keep-alive", "timeout=5")
            .header("proxy-authenticate", "Basic")
            .header("x-hop", "1");
        story.origin_says(reply);
        for _ in 0..2 {
            let answer = story.client_asks(get("/a")).await;
            answer
                .has_status(200)
                .has_header("content-length", "5")
                .has_header("content-encoding", "x-none")
                .has_body("hello");
            for name in ["content-range", "connection", "keep-alive", "proxy-authenticate", "x-hop"] {
                answer.has_no(name);
            }
        }
    }

    async fn a_304_with_a_new_expires_or_date_moves_the_freshness(stage) {
        let story = stage.story();
        story.origin_says(hello().header("date", &date(&story, 0)).header("expires", &date(&story, 30)));
        story.client_asks(get("/a")).await.is_stored().has_ttl(30);
        story.time_passes(seconds(30));
        let (now, later) = (date(&story, 0), date(&story, 50));
        story.origin_says(status(304).header("date", &now).header("expires", &later));
        story
            .client_asks(get("/a"))
            .await
            .is_stored()
            .has_ttl(50)
            .has_header("date", &now)
            .has_header("expires", &later);
        story.time_passes(seconds(49));
        story.client_asks(get("/a")).await.is_hit().has_age(49).has_header("date", &now);
    }

    async fn age_begins_anew_or_where_the_304_says(stage) {
        let story = stage.story();
        has_a_stale_page(&story, hello().header("age", "20")).await;
        story.origin_says(status(304));
        story.client_asks(get("/a")).await.is_stored().has_ttl(60).has_age(0);
        story.time_passes(seconds(60));
        story.origin_says(status(304).header("age", "25"));
        story.client_asks(get("/a")).await.is_stored().has_ttl(35).has_age(25);
        story.time_passes(seconds(10));
        story.client_asks(get("/a")).await.is_hit().has_age(35).has_ttl(25);
    }

    async fn a_304_without_a_validator_freshens_the_one_response_that_was_asked_about(stage) {
        let story = stage.story();
        for validator in [("etag", "\"v1\""), ("last-modified", MODIFIED)] {
            has_a_stale_page(&story, ok("hello").header(validator.0, validator.1)).await;
            story.origin_says(status(304).header("x-new", "1"));
            story.client_asks(get("/a")).await.has_forward_status(304).is_stored().has_status(200).has_body("hello");
            story
                .client_asks(get("/a"))
                .await
                .is_hit()
                .has_header("x-new", "1")
                .has_header(validator.0, validator.1)
                .has_body("hello");
        }
    }

    async fn a_weak_tag_that_matches_freshens(stage) {
        let story = stage.story();
        for (stored, replied) in [("W/\"v1\"", "W/\"v1\""), ("W/\"v1\"", "\"v1\""), ("\"v1\"", "W/\"v1\"")] {
            has_a_stale_page(&story, ok("hello").header("etag", stored)).await;
            story.origin_says(status(304).header("etag", replied));
            story.client_asks(get("/a")).await.has_status(200).has_body("hello");
            story.client_asks(get("/a")).await.is_hit().has_status(200).has_body("hello");
        }
    }

    /// §4.3.4: a strong validator that nothing stored has updates nothing.
    async fn a_304_about_something_else_changes_nothing(stage) {
        let story = stage.story();
        let strange = [
            (hello(), status(304).header("etag", "\"v2\"")),
            (ok("hello").header("last-modified", MODIFIED), status(304).header("etag", "\"v2\"")),
            (ok("hello").header("last-modified", MODIFIED), status(304).header("last-modified", LATER)),
        ];
        for (stored, reply) in strange {
            has_a_stale_page(&story, stored).await;
            story.origin_says(reply.cache_control("max-age=600").header("x-strange", "1"));
            for _ in 0..2 {
                let answer = story.client_asks(get("/a")).await;
                assert!(!answer.outcome().is_hit(), "what was not freshened is not fresh");
                answer.has_status(200).has_no("x-strange").has_body("hello");
            }
        }
    }

    /// §4.3.5.
    async fn a_200_to_head_freshens_what_it_agrees_with(stage) {
        let story = stage.story();
        for body in [octets(5), octets(300_000)] {
            let length = body.len().to_string();
            let page =
                || ok(body.clone()).header("etag", "\"v1\"").header("content-length", &length).header("x-old", "1");
            has_a_stale_page(&story, page()).await;
            let agrees = ok("")
                .header("etag", "\"v1\"")
                .header("content-length", &length)
                .cache_control("max-age=100")
                .header("x-new", "1");
            story.origin_says(agrees);
            story.client_asks(head("/a")).await.is_forwarded_for("stale").has_status(200).has_body("");
            let before = story.origin.calls();
            story.time_passes(seconds(90));
            let answer = story.client_asks(get("/a")).await;
            answer
                .is_hit()
                .has_age(90)
                .has_header("x-new", "1")
                .has_header("x-old", "1")
                .has_header("cache-control", "max-age=100");
            answer.has_header("content-length", &length).has_body(&body);
            story.origin_was_asked(before);
            story.time_passes(seconds(60));
        }
    }

    async fn a_200_to_head_that_contradicts_ends_what_is_stored(stage) {
        let story = stage.story();
        let agrees = || ok("").cache_control("max-age=100");
        let contradictions = [
            agrees().header("etag", "\"v2\"").header("content-length", "5"),
            agrees().header("etag", "\"v1\"").header("content-length", "6"),
            agrees().header("content-length", "6"),
            agrees().header("last-modified", LATER),
        ];
        for reply in contradictions {
            has_a_stale_page(&story, hello().header("last-modified", MODIFIED)).await;
            story.origin_says(reply);
            story.client_asks(head("/a")).await.has_status(200);
            story.origin_says(ok("changed").cache_control("max-age=60"));
            let answer = story.client_asks(get("/a")).await;
            assert!(!answer.outcome().is_hit());
            answer.has_body("changed");
        }
    }

    async fn a_head_that_fails_or_says_no_store_never_freshens(stage) {
        let story = stage.story();
        let head_of = |code: u16| status(code).header("etag", "\"v1\"");
        for reply in [
            head_of(404).cache_control("max-age=60"),
            head_of(503),
            head_of(200).cache_control("no-store"),
            head_of(204).cache_control("max-age=60"),
        ] {
            has_a_stale_page(&story, hello()).await;
            story.origin_says(reply);
            story.client_asks(head("/a")).await.has_body("");
            story.origin_says(ok("changed").cache_control("no-store"));
            let answer = story.client_asks(get("/a")).await;
            assert!(!answer.outcome().is_hit());
            answer.has_body("changed");
        }
    }

    async fn a_head_for_what_is_fresh_asks_nobody(stage) {
        let story = stage.story();
        story.origin_says(hello().cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(head("/a")).await.is_hit().has_header("content-length", "5").has_body("");
        story.origin_was_asked(1);
    }

    async fn a_304_that_sets_a_cookie_sets_it_for_its_own_client_alone(stage) {
        let story = stage.story();
        has_a_stale_page(&story, hello()).await;
        story.origin_says(status(304).header("etag", "\"v1\"").header("set-cookie", "session=alice"));
        story.client_asks(get("/a")).await.has_status(200).has_body("hello");
        story.origin_says(hello().cache_control("max-age=60"));
        for _ in 0..2 {
            story.client_asks(get("/a")).await.has_status(200).has_no("set-cookie").has_body("hello");
        }
    }

    async fn fields_that_private_names_stay_withheld_after_a_304(stage) {
        let story = stage.story();
        let line = "max-age=60, private=\"x-user\"";
        story.origin_says(ok("hello").header("etag", "\"v1\"").cache_control(line).header("x-user", "alice"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(60));
        story.origin_says(status(304).header("etag", "\"v1\"").header("x-user", "bob"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a")).await.is_hit().has_no("x-user").has_body("hello");
    }

    async fn a_304_that_comes_late_does_not_undo_a_newer_answer(stage) {
        let story = stage.story();
        has_a_stale_page(&story, hello()).await;
        let gate = Gate::closed();
        story.origin_says(status(304).header("etag", "\"v1\"").head_after(&gate));
        let before = story.origin.calls();
        let late = tokio::spawn({
            let story = story.clone();
            async move { story.client_asks_and_goes_on(get("/a")).await }
        });
        eventually("the origin is asked", || story.origin.calls() == before + 1).await;
        story.origin_says(ok("newer").header("etag", "\"v2\"").cache_control("max-age=60"));
        story.client_asks_and_goes_on(get("/a")).await.has_body("newer");
        eventually("the newer answer is stored", || story.handle.stats().stored == 2).await;
        gate.open();
        late.await.expect("the client is content").has_status(200).has_body("hello");
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.is_hit().has_header("etag", "\"v2\"").has_body("newer");
    }

    async fn a_refresh_begun_by_a_request_that_needs_no_body_keeps_the_body(stage) {
        let story = stage.story();
        let asks: [fn() -> Ask; 3] = [
            || head("/a"),
            || get("/a").header("if-none-match", "\"v1\""),
            || get("/a").header("range", "bytes=999999-"),
        ];
        for body in [octets(5), octets(300_000)] {
            for ask in asks {
                story.origin_says(
                    ok(body.clone()).header("etag", "\"v1\"").cache_control("max-age=60, stale-while-revalidate=60"),
                );
                story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
                story.time_passes(seconds(61));
                story.origin_says(status(304).header("etag", "\"v1\""));
                story.client_asks(ask()).await.is_hit().has_ttl(-1).has_body("");
                story.client_asks(get("/a")).await.is_hit().has_ttl(60).has_status(200).has_body(&body);
            }
        }
    }

    async fn trailers_outlive_a_304(stage) {
        let story = stage.story();
        story.origin_says(
            ok("").chunks(["hello"]).trailer("x-checksum", "7").header("etag", "\"v1\"").cache_control("max-age=60"),
        );
        story.client_asks(get("/a")).await.is_stored().has_trailer("x-checksum", "7");
        story.client_asks(get("/a")).await.is_hit().has_trailer("x-checksum", "7");
        story.time_passes(seconds(60));
        story.origin_says(status(304).header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.has_forward_status(304).has_body("hello").has_trailer("x-checksum", "7");
        story.client_asks(get("/a")).await.is_hit().has_body("hello").has_trailer("x-checksum", "7");
    }
}
