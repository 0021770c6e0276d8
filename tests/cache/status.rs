//! Cache-Status (RFC 9211) is on every response and tells what happened.

use std::collections::HashSet;

use crate::on_both_stores;
use crate::support::scripted::{ok, status};
use crate::support::story::{ask, get, head, seconds};

on_both_stores! {
    async fn the_key_is_shown_where_it_is_asked_for(stage) {
        let story = stage.story_with(|config| config.cache_status_key(true));
        story.origin_says(ok("x").cache_control("max-age=60"));
        let miss = story.client_asks(get("/a?token=s3cret")).await;
        let hit = story.client_asks(get("/a?token=s3cret")).await;
        let key = |answer: &crate::support::story::Answer| answer.cache_status().word("key").map(str::to_owned);
        let shown = key(hit.is_hit());
        assert!(shown.as_ref().is_some_and(|key| key.len() == 40) && shown == key(miss.is_stored()), "{shown:?}");
        assert_eq!(key(&stage.story().client_asks(get("/b")).await), None);
    }

    async fn every_response_says_what_the_cache_did(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        let miss = story.client_asks(get("/a")).await;
        miss.is_forwarded_for("uri-miss").has_forward_status(200).is_stored().has_ttl(60);
        story.time_passes(seconds(20));
        story.client_asks(get("/a")).await.is_hit().has_ttl(40);
        story.client_asks(head("/a")).await.is_hit().has_ttl(40);
        story.client_asks(ask("POST", "/a")).await.is_forwarded_for("method").has_forward_status(200);
        story.client_asks(get("/a").header("upgrade", "h2c").header("connection", "upgrade")).await.is_forwarded_for("bypass");
        story.origin_says(status(500));
        story.client_asks(get("/b")).await.is_forwarded_for("uri-miss").has_forward_status(500).is_not_stored();
        story.client_asks(get("/c").header("cache-control", "only-if-cached")).await.is_not_stored();
    }

    async fn a_response_has_exactly_the_parameters_that_mean_something(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        let names = |answer: &crate::support::story::Answer| -> HashSet<String> {
            answer.cache_status().parameters.iter().map(|(name, _)| name.clone()).collect()
        };
        let set = |names: &[&str]| -> HashSet<String> { names.iter().map(|&name| name.to_owned()).collect() };
        assert_eq!(names(&story.client_asks(get("/a")).await), set(&["fwd", "fwd-status", "stored", "ttl"]));
        assert_eq!(names(&story.client_asks(get("/a")).await), set(&["hit", "ttl"]));
    }

    async fn the_caches_before_this_one_keep_their_word(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60").header("cache-status", "OriginCache; hit; ttl=1100"));
        let miss = story.client_asks(get("/a")).await;
        let names = |answer: &crate::support::story::Answer| -> Vec<String> {
            answer.cache_status_members().iter().map(|member| member.cache.clone()).collect()
        };
        assert_eq!(names(&miss), ["OriginCache", "tower-redis-cache"]);
        let hit = story.client_asks(get("/a")).await;
        hit.is_hit();
        assert_eq!(hit.cache_status().cache, "tower-redis-cache");
        let own = names(&hit).iter().filter(|name| *name == "tower-redis-cache").count();
        assert_eq!(own, 1, "the miss of then is not replayed: {:?}", names(&hit));
    }

    async fn the_cache_may_have_another_name(stage) {
        let story = stage.story_with(|config| config.cache_status_name("edge \"1\"").expect("a name"));
        story.origin_says(ok("x"));
        assert_eq!(story.client_asks(get("/a")).await.cache_status().cache, "edge \"1\"");
    }

    async fn the_counters_count_what_the_responses_say(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        story.client_asks(get("/a")).await;
        story.client_asks(get("/a")).await;
        story.client_asks(get("/a")).await;
        story.client_asks(ask("POST", "/b")).await;
        story.origin_says(ok("x").cache_control("no-store"));
        story.client_asks(get("/c")).await;
        let stats = story.handle.stats();
        assert_eq!((stats.hits, stats.misses, stats.bypasses, stats.stored, stats.refused), (2, 2, 1, 1, 1), "{stats:?}");
        assert_eq!((stats.fills_in_flight, stats.bytes_in_flight, stats.store_unavailable), (0, 0, 0), "{stats:?}");
    }
}
