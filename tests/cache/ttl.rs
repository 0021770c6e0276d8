//! How long a response is fresh, and who says so.

use std::collections::BTreeSet;

use tower_redis_cache::{CacheOverride, CachePolicy};

use crate::on_both_stores;
use crate::support::gate::Gate;
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Story, get, seconds};

/// Lets the origin say this, and tells the ttl with which it is stored; `None` when it is not.
async fn ttl_of(story: &Story, reply: Reply) -> Option<i64> {
    story.origin_says(reply);
    let answer = story.client_asks(get(&format!("/{}", story.origin.calls()))).await;
    let member = answer.cache_status();
    assert_eq!(member.has("stored"), member.integer("ttl").is_some(), "{member:?}");
    member.integer("ttl")
}

/// An HTTP-date so many seconds from the story's present.
fn date(story: &Story, offset: i64) -> String {
    let now = i64::try_from(story.time.unix_seconds()).expect("the present");
    let then = u64::try_from(now + offset).expect("a time after 1970");
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + seconds(then))
}

on_both_stores! {
    async fn s_maxage_is_stronger_than_max_age_and_both_than_expires(stage) {
        let story = stage.story();
        let expires = date(&story, 30);
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=10, s-maxage=20").header("expires", &expires)).await, Some(20));
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=10").header("expires", &expires)).await, Some(10));
        assert_eq!(ttl_of(&story, ok("x").cache_control("public").header("expires", &date(&story, 30)).header("date", &date(&story, 0))).await, Some(30));
    }

    async fn expires_counts_from_the_date_of_the_response(stage) {
        let story = stage.story();
        let reply = ok("x").header("date", &date(&story, -100)).header("expires", &date(&story, -40));
        assert_eq!(ttl_of(&story, reply).await, None);
        let reply = ok("x").header("date", &date(&story, -10)).header("expires", &date(&story, 50));
        assert_eq!(ttl_of(&story, reply).await, Some(50));
    }

    async fn a_senseless_expires_is_in_the_past(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        for senseless in ["0", "-1", "tomorrow", ""] {
            assert_eq!(ttl_of(&story, ok("x").header("expires", senseless)).await, None, "{senseless:?}");
        }
    }

    async fn what_states_no_freshness_is_not_stored(stage) {
        let story = stage.story();
        story.origin_says(ok("x").header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"));
        story.client_asks(get("/a")).await.is_not_stored().has_detail("no-freshness");
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss");
    }

    async fn a_default_ttl_serves_those_that_state_none_and_only_those(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        assert_eq!(ttl_of(&story, ok("x")).await, Some(60));
        assert_eq!(ttl_of(&story, ok("x").cache_control("public")).await, Some(60));
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=5")).await, Some(5));
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=0")).await, None);
        assert_eq!(ttl_of(&story, ok("x").cache_control("no-store")).await, None);
        assert_eq!(ttl_of(&story, ok("x").cache_control("private")).await, None);
    }

    async fn a_default_ttl_is_not_for_errors(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        for code in [302, 400, 401, 403, 404, 405, 410, 429, 500, 501, 502, 503, 504] {
            assert_eq!(ttl_of(&story, status(code)).await, None, "{code}");
        }
    }

    async fn a_fixed_ttl_is_stronger_than_what_the_response_states(stage) {
        let story = stage.story_with(|config| config.fixed_ttl(seconds(60)));
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=5")).await, Some(60));
        assert_eq!(ttl_of(&story, ok("x")).await, Some(60));
        assert_eq!(ttl_of(&story, ok("x").cache_control("s-maxage=9000")).await, Some(60));
        assert_eq!(ttl_of(&story, ok("x").cache_control("no-store, max-age=5")).await, None);
        assert_eq!(ttl_of(&story, ok("x").cache_control("private")).await, None);
        assert_eq!(ttl_of(&story, ok("x").header("set-cookie", "a=b")).await, None);
    }

    async fn a_route_may_have_a_ttl_of_its_own(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)).max_ttl(seconds(100)));
        let route = CacheOverride::new().ttl(seconds(300));
        story.origin_says(ok("x").cache_control("max-age=5"));
        story.client_asks(get("/a").extension(route)).await.is_stored().has_ttl(300);
        story.time_passes(seconds(299));
        story.client_asks(get("/a").extension(route)).await.is_hit().has_ttl(1);
        story.origin_says(ok("x").cache_control("no-store"));
        story.client_asks(get("/b").extension(route)).await.is_not_stored().has_detail("no-store");
    }

    async fn a_route_may_have_a_default_ttl_of_its_own(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)).max_ttl(seconds(100)));
        let route = CacheOverride::new().default_ttl(seconds(20));
        story.origin_says(ok("x"));
        story.client_asks(get("/a").extension(route)).await.is_stored().has_ttl(20);
        story.origin_says(ok("x").cache_control("max-age=5"));
        story.client_asks(get("/b").extension(route)).await.is_stored().has_ttl(5);
        story.origin_says(ok("x"));
        story.client_asks(get("/c").extension(CacheOverride::new().default_ttl(seconds(300)))).await.has_ttl(100);
        story.origin_says(ok("x"));
        story.client_asks(get("/d").extension(CacheOverride::new().default_ttl(seconds(0)))).await.is_not_stored();
        story.origin_says(status(503));
        story.client_asks(get("/e").extension(route)).await.is_not_stored();
    }

    async fn a_route_may_grant_more_time_to_what_is_stale(stage) {
        let story = stage.story();
        let route = CacheOverride::new().stale_while_revalidate(seconds(30)).stale_if_error(seconds(60));
        for (path, said) in [("/a", "max-age=5"), ("/b", "max-age=5, must-revalidate"), ("/c", "s-maxage=5")] {
            story.origin_says(ok("old").cache_control(said));
            story.client_asks(get(path).extension(route)).await.is_stored();
        }
        story.time_passes(seconds(34));
        // Whoever asks: the grace is in the store.
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.is_hit().has_ttl(-29).has_body("old");
        story.fills_are_done().await;
        for path in ["/b", "/c"] {
            story.origin_says(status(503));
            story.client_asks(get(path).extension(route)).await.has_status(503);
        }
        story.time_passes(seconds(20));
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.has_body("old");
        story.time_passes(seconds(11));
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.has_status(503);
    }

    async fn the_ttl_of_a_route_does_not_keep_an_error_alive(stage) {
        let story = stage.story();
        let route = CacheOverride::new().ttl(seconds(300));
        story.origin_says(status(503));
        story.client_asks(get("/a").extension(route)).await.is_not_stored();
        story.origin_says(ok("back"));
        story.client_asks(get("/a").extension(route)).await.is_stored().has_body("back");
    }

    async fn lifetimes_are_kept_between_the_minimum_and_the_maximum(stage) {
        let story = stage.story_with(|config| config.min_ttl(seconds(10)).max_ttl(seconds(100)));
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=5")).await, Some(10));
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=50")).await, Some(50));
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=500")).await, Some(100));
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=0")).await, None);
    }

    async fn an_enormous_lifetime_ends_after_thirty_days(stage) {
        let story = stage.story();
        for enormous in ["2592001", "2147483648", "99999999999999999999"] {
            let reply = ok("x").cache_control(&format!("max-age={enormous}"));
            assert_eq!(ttl_of(&story, reply).await, Some(30 * 24 * 60 * 60), "{enormous}");
        }
    }

    async fn jitter_shortens_lifetimes_and_spreads_them(stage) {
        let story = stage.story_with(|config| config.ttl_jitter(20));
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            let ttl = ttl_of(&story, ok("x").cache_control("max-age=1000")).await.expect("it is stored");
            assert!((800..=1000).contains(&ttl), "{ttl}");
            seen.insert(ttl);
        }
        assert!(seen.len() > 5, "the lifetimes are spread: {seen:?}");
    }

    async fn a_jittered_lifetime_ends_when_it_was_said_to_end(stage) {
        let story = stage.story_with(|config| config.ttl_jitter(50));
        story.origin_says(ok("x").cache_control("max-age=1000"));
        let ttl = story.client_asks(get("/a")).await.cache_status().integer("ttl").expect("it is stored");
        story.time_passes(seconds(u64::try_from(ttl).expect("a lifetime")) - seconds(1));
        story.client_asks(get("/a")).await.is_hit();
        story.time_passes(seconds(2));
        story.client_asks(get("/a")).await.is_forwarded_for("stale");
    }

    async fn the_age_that_a_response_came_with_counts(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60").header("age", "45"));
        story.client_asks(get("/a")).await.is_stored().has_ttl(15);
        story.time_passes(seconds(14));
        story.client_asks(get("/a")).await.is_hit().has_age(59).has_ttl(1);
        story.time_passes(seconds(1));
        story.client_asks(get("/a")).await.is_forwarded_for("stale");
    }

    async fn an_old_date_counts_as_age(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60").header("date", &date(&story, -20)));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a")).await.is_hit().has_age(20);
    }

    async fn the_time_that_the_origin_took_counts_as_age(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("x").cache_control("max-age=60").head_after(&gate));
        let client = tokio::spawn({
            let story = story.clone();
            async move { story.client_asks(get("/a")).await }
        });
        crate::support::gate::eventually("the origin is asked", || story.origin.calls() == 1).await;
        story.time_passes(seconds(10));
        gate.open();
        client.await.expect("the client is content").is_stored().has_ttl(50);
        story.client_asks(get("/a")).await.is_hit().has_age(10).has_ttl(50);
    }

    async fn a_response_that_is_stale_on_arrival_is_not_stored(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60").header("age", "60"));
        story.client_asks(get("/a")).await.is_not_stored().has_detail("stale");
    }

    async fn a_hit_has_the_date_of_the_origin_or_of_its_receipt(stage) {
        let story = stage.story();
        let origins = date(&story, -5);
        story.origin_says(ok("x").cache_control("max-age=60").header("date", &origins));
        story.client_asks(get("/a")).await;
        story.client_asks(get("/a")).await.is_hit().has_header("date", &origins);
        let receipt = date(&story, 0);
        story.origin_says(ok("x").cache_control("max-age=60"));
        story.client_asks(get("/b")).await;
        story.time_passes(seconds(30));
        story.client_asks(get("/b")).await.is_hit().has_age(30).has_header("date", &receipt);
    }

    async fn heuristic_freshness_is_for_the_policy_of_the_rfc(stage) {
        let story = stage.story_with(|config| config.policy(CachePolicy::rfc9111()));
        let reply = ok("x").header("date", &date(&story, 0)).header("last-modified", &date(&story, -1000));
        assert_eq!(ttl_of(&story, reply).await, Some(100));
    }

}
