//! One key, several responses: what Vary names selects among them.

use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Ask, Story, get, seconds};

/// An origin that speaks the language it is asked for.
fn speaks_languages(story: &Story, vary: &'static str) {
    story.origin.answers(move |parts| -> Reply {
        let language = parts.headers.get("accept-language").map_or("none", |value| value.to_str().expect("a language"));
        ok(language.to_owned()).cache_control("max-age=60").header("vary", vary)
    });
}

fn in_language(language: &str) -> Ask {
    get("/a").header("accept-language", language)
}

on_both_stores! {
    async fn each_variant_is_stored_and_found_again(stage) {
        let story = stage.story();
        speaks_languages(&story, "Accept-Language");
        story.client_asks(in_language("de")).await.is_forwarded_for("uri-miss").is_stored();
        story.client_asks(in_language("en")).await.is_forwarded_for("vary-miss").is_stored();
        story.client_asks(get("/a")).await.is_forwarded_for("vary-miss").is_stored();
        story.client_asks(in_language("de")).await.is_hit().has_body("de");
        story.client_asks(in_language("en")).await.is_hit().has_body("en");
        story.client_asks(get("/a")).await.is_hit().has_body("none");
        story.client_asks(in_language("")).await.is_forwarded_for("vary-miss");
        story.origin_was_asked(4);
    }

    async fn a_field_that_vary_does_not_name_does_not_matter(stage) {
        let story = stage.story();
        speaks_languages(&story, "accept-encoding");
        story.client_asks(in_language("de")).await.is_stored();
        story.client_asks(in_language("en")).await.is_hit().has_body("de");
    }

    async fn all_fields_on_all_lines_of_vary_count(stage) {
        let story = stage.story();
        let reply = ok("x").cache_control("max-age=60").header("vary", "Accept , accept-language").header("vary", "X-Plan");
        story.origin_says(reply);
        let ask = |accept: &str, language: &str, plan: &str| {
            get("/a").header("accept", accept).header("accept-language", language).header("x-plan", plan)
        };
        story.client_asks(ask("a", "b", "c")).await.is_stored();
        story.client_asks(ask("a", "b", "c")).await.is_hit();
        story.client_asks(ask("z", "b", "c")).await.is_forwarded_for("vary-miss");
        story.client_asks(ask("a", "z", "c")).await.is_forwarded_for("vary-miss");
        story.client_asks(ask("a", "b", "z")).await.is_forwarded_for("vary-miss");
        story.client_asks(ask("b", "a", "c")).await.is_forwarded_for("vary-miss");
    }

    async fn vary_star_anywhere_is_not_stored(stage) {
        let story = stage.story();
        for vary in ["*", "accept, *", "*, accept", " * "] {
            story.origin_says(ok("x").cache_control("max-age=60").header("vary", vary));
            story.client_asks(get("/a")).await.is_not_stored().has_detail("vary-star");
        }
        story.origin_says(ok("x").cache_control("max-age=60").header("vary", "accept").header("vary", "*"));
        story.client_asks(get("/a")).await.is_not_stored().has_detail("vary-star");
    }

    async fn a_variant_grows_stale_alone(stage) {
        let story = stage.story();
        speaks_languages(&story, "accept-language");
        story.client_asks(in_language("de")).await.is_stored();
        story.time_passes(seconds(30));
        story.client_asks(in_language("en")).await.is_stored();
        story.time_passes(seconds(30));
        story.client_asks(in_language("en")).await.is_hit().has_age(30);
        story.client_asks(in_language("de")).await.is_forwarded_for("stale").is_stored();
        story.client_asks(in_language("en")).await.is_hit();
    }

    async fn a_response_that_stops_to_vary_answers_everybody(stage) {
        let story = stage.story();
        speaks_languages(&story, "accept-language");
        story.client_asks(in_language("de")).await.is_stored();
        story.time_passes(seconds(60));
        story.origin_says(ok("all").cache_control("max-age=60"));
        story.client_asks(in_language("de")).await.is_stored();
        story.client_asks(in_language("de")).await.is_hit().has_body("all");
        story.client_asks(in_language("en")).await.is_hit().has_body("all");
    }

    async fn a_response_that_begins_to_vary_answers_only_its_like(stage) {
        let story = stage.story();
        story.origin_says(ok("all").cache_control("max-age=60"));
        story.client_asks(in_language("de")).await.is_stored();
        story.time_passes(seconds(60));
        speaks_languages(&story, "accept-language");
        story.client_asks(in_language("de")).await.is_stored();
        story.client_asks(in_language("en")).await.is_forwarded_for("vary-miss").has_body("en");
        story.client_asks(in_language("de")).await.is_hit().has_body("de");
    }

    async fn another_field_in_vary_never_mixes_the_variants_up(stage) {
        let story = stage.story();
        speaks_languages(&story, "accept-language");
        story.client_asks(in_language("de").header("x-plan", "free")).await.is_stored();
        story.origin_says(ok("paid, en").cache_control("max-age=60").header("vary", "accept-language, x-plan"));
        story.client_asks(in_language("en").header("x-plan", "paid")).await.is_stored();
        let answer = story.client_asks(in_language("en").header("x-plan", "free")).await;
        answer.is_forwarded_for("vary-miss");
        story.client_asks(in_language("en").header("x-plan", "paid")).await.is_hit().has_body("paid, en");
    }

    async fn variants_are_bounded_and_further_ones_pass(stage) {
        let story = stage.story_with(|config| config.max_variants(3));
        speaks_languages(&story, "accept-language");
        for language in ["a", "b", "c", "d", "e"] {
            story.client_asks(in_language(language)).await.has_status(200).has_body(language);
        }
        let mut hits = 0;
        for language in ["a", "b", "c", "d", "e"] {
            let answer = story.client_asks(in_language(language)).await;
            answer.has_body(language);
            hits += u32::from(answer.outcome().is_hit());
        }
        assert_eq!(hits, 3, "three variants are kept and serve");
    }

    async fn what_has_no_room_among_the_variants_is_not_written_in_vain(stage) {
        let story = stage.story_with(|config| config.max_variants(2));
        let body = |language: &str| language.repeat(300_000);
        story.origin.answers(move |parts| {
            let language = parts.headers["accept-language"].to_str().expect("a language");
            ok(body(language)).cache_control("max-age=60").header("vary", "accept-language")
        });
        for language in ["a", "b"] {
            story.client_asks(in_language(language)).await.is_stored();
        }
        let chunks = || stage.has_server().then(|| stage.server().keys("*:b:*").len());
        let (before, refused) = (chunks(), story.handle.stats().refused);
        let answer = story.client_asks(in_language("c")).await;
        answer.is_not_stored().has_detail("too-many-variants").has_body(body("c"));
        assert_eq!(story.handle.stats().refused, refused + 1);
        assert_eq!(chunks(), before);
        // Who has a place keeps it.
        story.time_passes(seconds(62));
        story.client_asks(in_language("b")).await.is_stored();
        // Where a variant has ended there is room.
        story.time_passes(seconds(400 * 86_400));
        story.client_asks(in_language("c")).await.is_stored();
    }

    async fn an_error_for_one_variant_leaves_the_others_alone(stage) {
        let story = stage.story();
        speaks_languages(&story, "accept-language");
        story.client_asks(in_language("de")).await.is_stored();
        story.origin_says(status(503));
        story.client_asks(in_language("en")).await.has_status(503).is_not_stored();
        story.client_asks(in_language("de")).await.is_hit().has_body("de");
    }

    async fn variants_that_come_at_the_same_time_are_all_stored(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("page").cache_control("max-age=60").header("vary", "accept").head_after(&gate));
        let accepts: Vec<String> = (0..16).map(|number| format!("type/{number}")).collect();
        let clients: Vec<_> = accepts.iter().map(|accept| {
            let (story, ask) = (story.clone(), get("/a").header("accept", accept));
            tokio::spawn(async move { story.client_asks_and_goes_on(ask).await })
        }).collect();
        eventually("the first of them has been forwarded", || story.origin.calls() > 0).await;
        gate.open();
        for client in clients {
            client.await.expect("a client is content").has_body("page");
        }
        story.fills_are_done().await;
        for accept in &accepts {
            story.client_asks(get("/a").header("accept", accept)).await.is_hit();
        }
        story.origin_was_asked(16);
    }
}
