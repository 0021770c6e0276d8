//! Cache control that is meant for this kind of cache (RFC 9213).

use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Story, ask, get, head, seconds};
use crate::{date, on_both_stores};

const FIELD: &str = "cdn-cache-control";

/// With how much freshness left the origin's word is stored; `None` where it is not.
async fn ttl_of(story: &Story, reply: Reply) -> Option<i64> {
    story.origin_says(reply);
    story.client_asks(get(&format!("/{}", story.origin.calls()))).await.cache_status().integer("ttl")
}

on_both_stores! {
    async fn a_targeted_field_is_obeyed_in_place_of_cache_control(stage) {
        let story = stage.story();
        let both = |targeted: &str, general: &str| ok("x").header(FIELD, targeted).cache_control(general);
        assert_eq!(ttl_of(&story, both("max-age=60", "max-age=10")).await, Some(60));
        assert_eq!(ttl_of(&story, both("max-age=10", "max-age=60")).await, Some(10));
        assert_eq!(ttl_of(&story, both("max-age=60", "no-store")).await, Some(60));
        assert_eq!(ttl_of(&story, both("max-age=60", "private")).await, Some(60));
        assert_eq!(ttl_of(&story, both("max-age=60", "s-maxage=10, must-revalidate")).await, Some(60));
        assert_eq!(ttl_of(&story, both("max-age=60, s-maxage=70", "max-age=10")).await, Some(70));
        assert_eq!(ttl_of(&story, both("no-store", "max-age=60")).await, None);
        assert_eq!(ttl_of(&story, both("private", "max-age=60, public")).await, None);
        assert_eq!(ttl_of(&story, both("no-cache", "max-age=60")).await, None);
        assert_eq!(ttl_of(&story, both("max-age=0", "max-age=60")).await, None);
        assert_eq!(ttl_of(&story, ok("x").header(FIELD, "max-age=60")).await, Some(60));
    }

    /// RFC 9213 §2.2: neither the directives of Cache-Control nor Expires fill its gaps.
    async fn what_a_targeted_field_leaves_out_is_left_out(stage) {
        let story = stage.story();
        let expires = date(&story, 3600);
        assert_eq!(
            ttl_of(&story, ok("x").header(FIELD, "public").cache_control("max-age=60").header("expires", &expires))
                .await,
            None
        );
        assert_eq!(ttl_of(&story, ok("x").header(FIELD, "max-age=60").header("expires", "0")).await, Some(60));
        let ask = || get("/a").header("authorization", "Bearer one");
        story.origin_says(ok("x").header(FIELD, "max-age=60").cache_control("public, max-age=60"));
        story.client_asks(ask()).await.is_not_stored().has_detail("authorization");
        story.origin_says(ok("x").header(FIELD, "max-age=60, public").cache_control("private"));
        story.client_asks(ask()).await.is_stored();
    }

    async fn a_field_that_is_empty_or_unsound_is_as_if_it_were_absent(stage) {
        let story = stage.story();
        for unsound in [
            "",
            " ",
            "max-age",
            "max-age=60,",
            "max-age=\"60\"",
            "MAX-AGE=60",
            "max-age=6 0",
            "max-age=60.5",
            "max-age=tok",
            "max-age=60; ;",
            "no-store=1, max-age=60",
            "max-age=60, must-revalidate=\"x\"",
            "&max-age=60",
            "max-age=60, public, =",
            "max-age=9999999999999999",
        ] {
            assert_eq!(
                ttl_of(&story, ok("x").header(FIELD, unsound).cache_control("max-age=10")).await,
                Some(10),
                "{unsound:?}"
            );
            assert_eq!(
                ttl_of(&story, ok("x").header(FIELD, unsound).cache_control("no-store")).await,
                None,
                "{unsound:?}"
            );
        }
    }

    async fn a_targeted_field_is_a_dictionary(stage) {
        let story = stage.story();
        let targeted = |line: &str| ok("x").header(FIELD, line).cache_control("max-age=10");
        assert_eq!(ttl_of(&story, targeted("max-age=60;x=1, y=(a b), z=\"no-store\"")).await, Some(60));
        assert_eq!(
            ttl_of(&story, targeted("max-age=50, max-age=60")).await,
            Some(60),
            "the last one counts (RFC 8941 §3.2)"
        );
        assert_eq!(ttl_of(&story, targeted("max-age=60, no-store=?0")).await, Some(60));
        assert_eq!(ttl_of(&story, targeted("max-age=60, no-store=?1")).await, None);
        assert_eq!(
            ttl_of(&story, targeted("public").header(FIELD, "max-age=60")).await,
            Some(60),
            "several lines are one"
        );
        assert_eq!(ttl_of(&story, targeted("max-age=-1")).await, None);
        assert_eq!(ttl_of(&story, targeted("max-age=60, unknown")).await, Some(60));
        story.origin_says(ok("x").header(FIELD, "max-age=60, private=\"x-user\"").header("x-user", "alice"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a")).await.is_hit().has_no("x-user");
    }

    async fn the_first_field_of_the_list_that_is_there_counts(stage) {
        let list = ["Edge-Cache-Control", "CDN-Cache-Control"];
        let story = stage.story_with(|config| config.target_list(list).expect("field names"));
        let reply = |edge: &str, cdn: &str| {
            ok("x").header("cdn-cache-control", cdn).header("edge-cache-control", edge).cache_control("max-age=10")
        };
        assert_eq!(ttl_of(&story, reply("max-age=60", "max-age=30")).await, Some(60));
        assert_eq!(ttl_of(&story, reply("no-store", "max-age=30")).await, None);
        assert_eq!(ttl_of(&story, reply("max-age=\"x\"", "max-age=30")).await, Some(30));
        assert_eq!(ttl_of(&story, reply("", "")).await, Some(10));
        assert_eq!(
            ttl_of(&story, ok("x").header("cdn-cache-control", "max-age=30").cache_control("no-store")).await,
            Some(30)
        );
    }

    async fn an_empty_list_obeys_none(stage) {
        let story = stage.story_with(|config| config.target_list(Vec::<String>::new()).expect("no names"));
        assert_eq!(ttl_of(&story, ok("x").header(FIELD, "max-age=60").cache_control("max-age=10")).await, Some(10));
        assert_eq!(ttl_of(&story, ok("x").header(FIELD, "no-store").cache_control("max-age=10")).await, Some(10));
    }

    async fn a_field_meant_for_others_is_not_obeyed_and_passes(stage) {
        let story = stage.story_with(|config| config.pass_targeted_fields(false));
        story.origin_says(ok("x").header("edge-cache-control", "no-store").cache_control("max-age=10"));
        story.client_asks(get("/a")).await.is_stored().has_ttl(10).has_header("edge-cache-control", "no-store");
        story.client_asks(get("/a")).await.is_hit().has_header("edge-cache-control", "no-store");
    }

    async fn the_fields_pass_to_clients_unless_they_are_consumed(stage) {
        for (pass, namespace) in [(true, "pass"), (false, "consume")] {
            let story =
                stage.story_with(|config| config.pass_targeted_fields(pass).namespace(namespace).expect("a namespace"));
            let reply = || {
                ok("hello")
                    .header(FIELD, "max-age=60")
                    .header("cdn-cache-control", "public")
                    .header("etag", "\"v1\"")
                    .cache_control("no-store")
            };
            story.origin_says(reply());
            let mut answers = Vec::new();
            for ask in [
                get("/a"),
                get("/a"),
                head("/a"),
                get("/a").header("if-none-match", "\"v1\""),
                get("/a").header("range", "bytes=0-0"),
                ask("POST", "/b"),
                get("/c").body("content"),
            ] {
                answers.push(story.client_asks(ask).await);
            }
            story.time_passes(seconds(60));
            story.origin_says(status(304).header("etag", "\"v1\"").header(FIELD, "max-age=100"));
            answers.push(story.client_asks(get("/a")).await);
            answers.push(story.client_asks(get("/a")).await);
            assert!(answers[1].outcome().is_hit() && answers.last().expect("answers").outcome().is_hit());
            for (number, answer) in answers.iter().enumerate() {
                answer.has_header("cache-control", "no-store");
                assert_eq!(answer.headers().contains_key(FIELD), pass, "{number}");
            }
            story.time_passes(seconds(99));
            story.client_asks(get("/a")).await.is_hit();
        }
    }

    async fn a_targeted_field_rules_staleness_as_well(stage) {
        let story = stage.story();
        story.origin_says(
            ok("old")
                .header(FIELD, "max-age=60, stale-while-revalidate=30")
                .cache_control("max-age=60, must-revalidate"),
        );
        story.client_asks(get("/a")).await.is_stored();
        story.origin_says(
            ok("old")
                .header(FIELD, "max-age=60, must-revalidate")
                .cache_control("max-age=60, stale-while-revalidate=30"),
        );
        story.client_asks(get("/b")).await.is_stored();
        story.time_passes(seconds(61));
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_hit().has_body("old");
        story.client_asks(get("/b")).await.has_forward_status(200).has_body("new");
    }
}
