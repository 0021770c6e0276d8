//! Responses that are refreshed though they are still fresh: in their last tenth, where the service takes its time.

use std::time::{Duration, Instant};

use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{Reply, failure, ok, status};
use crate::support::story::{Stage, Story, get, head, seconds};

/// So eager that every request in the last tenth refreshes.
fn eager(stage: &Stage) -> Story {
    stage.story_with(|config| config.early_refresh(1e9).expect("a factor"))
}

/// Stored, after the service has taken some milliseconds for it.
async fn has_stored_slowly(story: &Story, target: &str, reply: Reply) {
    let gate = Gate::closed();
    story.origin_says(reply.head_after(&gate));
    let calls = story.origin.calls();
    let asking = tokio::spawn({
        let (story, ask) = (story.clone(), get(target));
        async move { story.client_asks_and_goes_on(ask).await }
    });
    eventually("the service is asked", || story.origin.calls() > calls).await;
    let begun = Instant::now();
    eventually("the service takes its time", || begun.elapsed() > Duration::from_millis(20)).await;
    gate.open();
    asking.await.expect("an answer").is_stored();
    story.fills_are_done().await;
}

on_both_stores! {
    async fn in_its_last_tenth_a_response_is_refreshed_behind_the_hit(stage) {
        let story = eager(&stage);
        has_stored_slowly(&story, "/a", ok("old").cache_control("max-age=60").header("etag", "\"v1\"")).await;
        story.origin_says(ok("new").cache_control("max-age=60"));
        story.time_passes(Duration::from_millis(53_990));
        story.client_asks(get("/a")).await.is_hit();
        story.origin_was_asked(1);
        story.time_passes(seconds(1));
        story.client_asks(get("/a")).await.is_hit().has_age(54).has_ttl(6).has_body("old");
        assert_eq!(story.last_asked().headers["if-none-match"], "\"v1\"");
        story.client_asks(get("/a")).await.is_hit().has_age(0).has_ttl(60).has_body("new");
        story.origin_was_asked(2);
        assert_eq!((story.handle.stats().early_refreshes, story.handle.stats().refreshes), (1, 0));
    }

    async fn however_many_ask_the_early_refresh_is_one(stage) {
        let story = eager(&stage);
        has_stored_slowly(&story, "/a", ok("old").cache_control("max-age=60")).await;
        story.time_passes(seconds(55));
        let gate = Gate::closed();
        story.origin_says(ok("new").cache_control("max-age=60").head_after(&gate));
        for _ in 0..16 {
            story.client_asks_and_goes_on(get("/a")).await.is_hit().has_ttl(5).has_body("old");
        }
        gate.open();
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.is_hit().has_ttl(60).has_body("new");
        story.origin_was_asked(2);
    }

    async fn an_early_refresh_that_fails_takes_nothing_away(stage) {
        let story = eager(&stage);
        let troubles = [failure("refused"), status(500).cache_control("max-age=60"), status(503)];
        for (number, trouble) in troubles.into_iter().enumerate() {
            let target = format!("/{number}");
            has_stored_slowly(&story, &target, ok("old").cache_control("max-age=60")).await;
            story.time_passes(seconds(55));
            story.origin_says(trouble);
            for _ in 0..3 {
                story.client_asks(get(&target)).await.is_hit().has_ttl(5).has_body("old");
            }
            story.origin_was_asked(2 * (number + 1));
        }
    }

    async fn only_a_get_refreshes_early_and_only_where_that_is_wanted(stage) {
        let story = eager(&stage);
        has_stored_slowly(&story, "/a", ok("old").cache_control("max-age=60")).await;
        story.time_passes(seconds(55));
        story.client_asks(head("/a")).await.is_hit();
        story.origin_was_asked(1);
        story.client_asks(get("/a").header("range", "bytes=1-")).await.is_hit().has_status(206);
        story.origin_was_asked(2);
        assert!(!story.last_asked().headers.contains_key("range"));
        let story = stage.story_with(|config| {
            config.early_refresh(0.0).expect("a factor").namespace("never").expect("a namespace")
        });
        has_stored_slowly(&story, "/a", ok("old").cache_control("max-age=60")).await;
        story.time_passes(Duration::from_millis(59_900));
        story.client_asks(get("/a")).await.is_hit();
        story.origin_was_asked(1);
    }
}

#[test]
fn a_factor_is_a_number_from_0() {
    for factor in [-1.0, f64::NAN, f64::INFINITY] {
        let error = tower_redis_cache::CacheConfig::default().early_refresh(factor).expect_err("no factor");
        assert!(error.to_string().contains("early_refresh"), "{error}");
    }
}
