//! The three ways in which caches of this kind are known to leak or to break, by name, and what is near them.

use tower_redis_cache::CachePolicy;

use crate::on_both_stores;
use crate::support::scripted::{ok, status};
use crate::support::story::{Story, get, head, seconds};

/// What a request might try to be served more than the response allows.
const PLEAS: [&str; 6] = [
    "max-stale",
    "max-stale=99999999",
    "Max-Stale, max-age=99999999",
    "max-stale, min-fresh=0",
    "max-stale, only-if-cached",
    "max-stale, stale-if-error=99999999",
];

/// A first user's answer is not a second one's, whatever that one pleads.
async fn stays_with_the_first(story: &Story, line: &str, etag: bool, passes: u64) {
    let target = format!("/{}", story.origin.calls());
    for plea in PLEAS {
        let first = ok("the first one's").cache_control(line).header("x-whose", "first");
        story.origin_says(if etag { first.header("etag", "\"first\"") } else { first });
        story.client_asks(get(&target).header("cache-control", "no-cache")).await.has_body("the first one's");
        story.time_passes(seconds(passes));
        story.origin_says(ok("the second one's").cache_control("no-store"));
        let answer = story.client_asks(get(&target).header("cache-control", plea)).await;
        assert!(!answer.outcome().is_hit(), "{line}, {plea}: {:?}", answer.cache_status());
        assert!(answer.body() != "the first one's", "{line}, {plea}");
        let head = story.client_asks(head(&target).header("cache-control", plea)).await;
        assert!(!head.outcome().is_hit(), "{line}, {plea}: {:?}", head.cache_status());
    }
}

on_both_stores! {
    async fn max_stale_does_not_revive_what_demands_validation(stage) {
        for policy in [CachePolicy::safe(), CachePolicy::rfc9111()] {
            let story = stage.story_with(|config| config.policy(policy).stale_while_revalidate(seconds(600)));
            for line in ["no-cache", "no-cache, max-age=60", "max-age=60, No-Cache"] {
                stays_with_the_first(&story, line, true, 1).await;
                stays_with_the_first(&story, line, false, 1).await;
            }
            for line in [
                "s-maxage=60",
                "s-maxage=60, max-age=3600",
                "max-age=60, must-revalidate",
                "max-age=60, Proxy-Revalidate",
                "s-maxage=0, max-age=3600",
            ] {
                stays_with_the_first(&story, line, true, 61).await;
                stays_with_the_first(&story, line, false, 61).await;
            }
        }
    }

    async fn max_stale_does_not_revive_a_cookie_nor_what_was_never_to_be_stored(stage) {
        let story = stage.story();
        for line in ["no-store", "private", "max-age=60, private"] {
            stays_with_the_first(&story, line, true, 1).await;
        }
        for plea in PLEAS {
            story.origin_says(ok("the first one's").cache_control("max-age=60").header("set-cookie", "session=first"));
            story.client_asks(get("/cookie").header("cache-control", plea)).await.is_not_stored();
            story.origin_says(ok("the second one's").cache_control("no-store"));
            let answer = story.client_asks(get("/cookie").header("cache-control", plea)).await;
            answer.has_no("set-cookie");
            assert!(answer.body() != "the first one's");
        }
    }

    async fn a_duplicated_directive_is_not_lost(stage) {
        let story = stage.story();
        for lines in [
            &["max-age=60, no-store, no-store"][..],
            &["no-store", "max-age=60"],
            &["max-age=60", "no-store"],
            &["max-age=60", "public", "private", "max-age=60"],
            &["private, max-age=60, private"],
            &["no-cache, max-age=60, no-cache"],
            &["no-cache=\"x\", max-age=60", "no-cache"],
            &["private", "private=\"x\", max-age=60"],
            &["max-age=0", "max-age=60"],
            &["s-maxage=0, max-age=60", "s-maxage=60"],
        ] {
            let reply = || lines.iter().fold(ok("the first one's"), |reply, line| reply.cache_control(line));
            story.origin_says(reply());
            story.client_asks(get("/a")).await.is_not_stored();
            story.origin_says(ok("the second one's").cache_control("no-store"));
            story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("the second one's");
        }
    }

    async fn a_duplicated_demand_for_validation_is_not_lost(stage) {
        let story = stage.story();
        for lines in [
            ["max-age=60, must-revalidate", "must-revalidate"],
            ["max-age=60", "proxy-revalidate"],
            ["must-revalidate", "max-age=60, max-age=60"],
        ] {
            let target = format!("/{}", story.origin.calls());
            story.origin_says(lines.iter().fold(ok("old"), |reply, line| reply.cache_control(line)));
            story.client_asks(get(&target)).await.is_stored();
            story.time_passes(seconds(61));
            story.origin_says(ok("new").cache_control("max-age=60"));
            story
                .client_asks(get(&target).header("cache-control", "max-stale"))
                .await
                .has_forward_status(200)
                .has_body("new");
        }
    }

    async fn a_capitalised_directive_is_not_lost(stage) {
        let story = stage.story();
        for line in [
            "No-Store, max-age=60",
            "NO-STORE, MAX-AGE=60",
            "Max-Age=60, Private",
            "PRIVATE, max-age=60",
            "max-age=60, No-Cache",
            "S-MAXAGE=0, max-age=60",
            "Max-Age=0",
        ] {
            story.origin_says(ok("the first one's").cache_control(line));
            story.client_asks(get("/a")).await.is_not_stored();
            story.origin_says(ok("the second one's").cache_control("no-store"));
            story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("the second one's");
        }
        for line in ["max-age=60, Must-Revalidate", "Proxy-Revalidate, max-age=60", "S-MaxAge=60"] {
            stays_with_the_first(&story, line, true, 61).await;
        }
    }

    async fn a_304_without_validators_never_becomes_a_stored_empty_304(stage) {
        let story = stage.story();
        for (stored, reply) in [
            (ok("hello").header("etag", "\"v1\""), status(304)),
            (ok("hello").header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), status(304)),
            (
                ok("hello").header("etag", "\"v1\""),
                status(304).cache_control("max-age=600").header("content-length", "0"),
            ),
            (ok("hello").header("etag", "\"v1\""), status(304).header("etag", "\"v2\"").cache_control("max-age=600")),
            (ok("hello").header("etag", "\"v1\""), status(304).header("etag", "").header("last-modified", "")),
        ] {
            let target = format!("/{}", story.origin.calls());
            story.origin_says(stored.cache_control("max-age=60"));
            story.client_asks(get(&target)).await.is_stored();
            for _ in 0..2 {
                story.time_passes(seconds(600));
                story.origin_says(reply.clone());
                story.client_asks(get(&target)).await.has_forward_status(304).has_status(200).has_body("hello");
                story.client_asks(get(&target)).await.has_status(200).has_body("hello");
                story.client_asks(head(&target)).await.has_body("");
            }
        }
    }

    async fn a_304_that_nobody_asked_for_is_passed_and_not_stored(stage) {
        let story = stage.story();
        for fresh in ["max-age=600", "public, s-maxage=600"] {
            story.origin_says(status(304).cache_control(fresh).header("etag", "\"v1\""));
            story.client_asks(get("/a")).await.has_status(304).is_not_stored().has_detail("status");
            story.origin_says(ok("hello").cache_control("max-age=60"));
            story.client_asks(get("/b")).await.is_stored();
            story.time_passes(seconds(60));
            // The stored response has nothing that a 304 could be about.
            story.origin_says(status(304).cache_control(fresh).header("etag", "\"v1\""));
            story.client_asks(get("/b")).await.is_not_stored();
            story.origin_says(ok("whole").cache_control("max-age=60"));
            for target in ["/a", "/b"] {
                story
                    .client_asks(get(target).header("cache-control", "no-cache"))
                    .await
                    .has_status(200)
                    .has_body("whole");
                story.time_passes(seconds(60));
            }
        }
    }
}
