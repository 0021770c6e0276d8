//! Which request a stored variant answers (RFC 9111 §4.1).

use crate::on_both_stores;
use crate::support::scripted::{ok, status};
use crate::support::story::{Ask, Story, get, seconds};

/// Whether a response to the first request, which varies by this, answers the second one.
async fn is_shared(story: &Story, vary: &str, one: &[(&str, &str)], other: &[(&str, &str)]) -> bool {
    let target = format!("/{}", story.origin.calls());
    let ask = |fields: &[(&str, &str)]| -> Ask {
        fields.iter().fold(get(&target), |ask, (name, value)| ask.header(name, value))
    };
    story.origin_says(ok("x").cache_control("max-age=60").header("vary", vary));
    story.client_asks(ask(one)).await.is_stored();
    let answer = story.client_asks(ask(other)).await;
    let shared = answer.outcome().is_hit();
    if !shared {
        answer.is_forwarded_for("vary-miss");
    }
    shared
}

on_both_stores! {
    async fn preferences_that_mean_the_same_share_a_variant(stage) {
        let story = stage.story();
        for (one, other) in [
            ("en, de", "de, en"),
            ("en,de", "en ,  de"),
            ("EN, de", "en, De"),
            ("en;q=1.0, de;q=0.5", "de;q=0.50, en"),
            ("en; q=0.5", "en;q=0.5"),
        ] {
            assert!(
                is_shared(&story, "accept-language", &[("accept-language", one)], &[("accept-language", other)]).await,
                "{one} | {other}"
            );
        }
        assert!(
            is_shared(
                &story,
                "accept-encoding",
                &[("accept-encoding", "gzip, br")],
                &[("accept-encoding", "br"), ("accept-encoding", "gzip")]
            )
            .await
        );
    }

    async fn preferences_that_mean_something_else_do_not(stage) {
        let story = stage.story();
        for (one, other) in [
            ("en, de;q=0.5", "en;q=0.5, de"),
            ("en, de", "en"),
            ("en", "en;q=0"),
            ("en;q=0.5", "en;q=0.6"),
            ("en", "en-GB"),
            ("en", ""),
        ] {
            assert!(
                !is_shared(&story, "accept-language", &[("accept-language", one)], &[("accept-language", other)]).await,
                "{one} | {other}"
            );
        }
        assert!(!is_shared(&story, "accept-language", &[("accept-language", "en")], &[]).await);
        assert!(!is_shared(&story, "accept-language", &[("accept-language", "")], &[]).await, "absent is not empty");
        assert!(!is_shared(&story, "x-a", &[], &[("x-a", "")]).await, "absent is not empty");
        assert!(!is_shared(&story, "accept-language", &[], &[("accept-language", "en")]).await);
    }

    async fn blanks_and_lines_between_members_do_not_matter_but_their_order_does(stage) {
        let story = stage.story();
        assert!(is_shared(&story, "x-list", &[("x-list", "1,2")], &[("x-list", "1"), ("x-list", " 2 ")]).await);
        assert!(!is_shared(&story, "x-list", &[("x-list", "1,2")], &[("x-list", "2,1")]).await);
        assert!(!is_shared(&story, "x-list", &[("x-list", "a")], &[("x-list", "A")]).await);
        assert!(!is_shared(&story, "x-list", &[("x-list", "\"1,2\"")], &[("x-list", "\"1\",\"2\"")]).await);
    }

    async fn who_somebody_is_matches_octet_for_octet(stage) {
        let story = stage.story();
        for name in ["cookie", "user-agent"] {
            assert!(!is_shared(&story, name, &[(name, "a=1, b")], &[(name, "a=1,b")]).await);
            assert!(!is_shared(&story, name, &[(name, "a=1")], &[(name, "A=1")]).await);
            assert!(is_shared(&story, name, &[(name, "a=1, b")], &[(name, "a=1, b")]).await);
        }
    }

    async fn values_do_not_run_from_one_field_into_another(stage) {
        let story = stage.story();
        assert!(!is_shared(&story, "x-a, x-b", &[("x-a", "1"), ("x-b", "2")], &[("x-a", "2"), ("x-b", "1")]).await);
        assert!(!is_shared(&story, "x-a, x-b", &[("x-a", "12"), ("x-b", "3")], &[("x-a", "1"), ("x-b", "23")]).await);
        assert!(!is_shared(&story, "x-a, x-b", &[("x-a", "1")], &[("x-b", "1")]).await);
        assert!(
            is_shared(
                &story,
                "X-B, X-A, x-b",
                &[("x-a", "1"), ("x-b", "2")],
                &[("x-b", "2"), ("x-a", "1"), ("x-c", "3")]
            )
            .await
        );
    }

    async fn a_star_anywhere_matches_no_later_request(stage) {
        let story = stage.story();
        for lines in [&["*"][..], &["accept, *"], &["accept", "*"], &["*, accept"], &["accept", "x-a,*,x-b"]] {
            story.origin_says(
                lines.iter().fold(ok("x").cache_control("max-age=60"), |reply, line| reply.header("vary", line)),
            );
            story.client_asks(get("/a")).await.is_not_stored().has_detail("vary-star");
            story.client_asks(get("/a")).await.is_forwarded_for("uri-miss");
        }
    }

    async fn a_304_that_begins_to_vary_by_everything_ends_what_is_stored(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60").header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(60));
        story.origin_says(status(304).header("etag", "\"v1\"").header("vary", "*"));
        story.client_asks(get("/a")).await.is_not_stored().has_status(200).has_body("x");
        story.origin_says(ok("y").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("y");
    }

    async fn the_newest_of_the_variants_that_match_answers(stage) {
        let story = stage.story();
        let ask = || get("/a").header("x-a", "1").header("x-b", "2");
        for (body, vary) in [("one", "x-a"), ("two", "x-b"), ("three", "x-a, x-b")] {
            story.origin_says(ok(body).cache_control("max-age=60").header("vary", vary));
            story.client_asks(ask().header("cache-control", "no-cache")).await.is_stored();
            story.time_passes(seconds(1));
            story.client_asks(ask()).await.is_hit().has_age(1).has_body(body);
        }
    }
}
