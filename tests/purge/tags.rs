//! Where the tags of a response come from, and who sees them.

use http::response::Parts;
use tower_redis_cache::PurgeTarget;

use crate::on_both_stores;
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Story, ask, get};
use crate::targets::{is_cached, is_purged};

const FIELDS: [&str; 4] = ["cache-groups", "surrogate-key", "xkey", "cache-tag"];

fn page() -> Reply {
    ok("page").cache_control("max-age=600")
}

async fn is_stored(story: &Story, target: &str, reply: Reply) {
    story.origin_says(reply);
    story.client_asks(get(target)).await.is_stored();
}

on_both_stores! {
    async fn each_field_tags_in_its_own_way(stage) {
        let story = stage.story();
        for (name, value, tags) in [
            ("cache-groups", r#""a b", "c""#, ["a b", "c"]),
            ("surrogate-key", " a  c", ["a", "c"]),
            ("xkey", "a c", ["a", "c"]),
            ("cache-tag", "a b , c", ["a b", "c"]),
        ] {
            for tag in tags {
                is_stored(&story, "/a", page().header(name, value)).await;
                is_stored(&story, "/b", page().header(name, if name == "cache-groups" { "\"other\"" } else { "other" })).await;
                is_purged(&story, PurgeTarget::tag(tag)).await;
                assert!(!is_cached(&story, get("/a")).await, "{name} {tag}");
                assert!(is_cached(&story, get("/b")).await, "{name} {tag}");
                is_purged(&story, PurgeTarget::everything()).await;
            }
        }
    }

    async fn a_closure_tags_by_whatever_the_response_says(stage) {
        let story = stage.story_with(|config| {
            config.tags(|response: &Parts| {
                let product = response.headers.get("x-product").and_then(|id| id.to_str().ok());
                product.map(|id| format!("product-{id}")).into_iter().collect()
            })
        });
        is_stored(&story, "/a", page().header("x-product", "7").header("xkey", "x")).await;
        is_stored(&story, "/b", page().header("x-product", "8").header("xkey", "x")).await;
        is_purged(&story, PurgeTarget::tag("product-7")).await;
        assert!(!is_cached(&story, get("/a")).await && is_cached(&story, get("/b")).await);
        is_purged(&story, PurgeTarget::tag("x")).await;
        assert!(!is_cached(&story, get("/b")).await);
    }

    async fn clients_see_tags_only_where_they_may(stage) {
        for pass in [false, true] {
            let story = stage.story_with(|config| config.pass_tags(pass).namespace(&format!("p{pass}")).expect("a name"));
            let tagged = |reply: Reply| FIELDS.iter().fold(reply, |reply, name| reply.header(name, "\"a\""));
            let sees = |answer: &crate::support::story::Answer| FIELDS.map(|name| answer.headers().contains_key(name));
            story.origin_says(tagged(page()));
            assert_eq!(sees(story.client_asks(get("/a")).await.is_stored()), [pass; 4]);
            assert_eq!(sees(story.client_asks(get("/a")).await.is_hit()), [pass; 4]);
            story.origin_says(tagged(ok("private").cache_control("private")));
            assert_eq!(sees(&story.client_asks(get("/b")).await), [pass; 4], "what is not stored");
            story.origin_says(tagged(status(204)));
            assert_eq!(sees(&story.client_asks(ask("POST", "/c")).await), [pass; 4], "what passes");
        }
    }

    async fn a_response_that_could_not_be_purged_by_all_its_tags_is_not_stored(stage) {
        let story = stage.story();
        let many = |count: usize, length: usize| {
            let tag = |number| format!("{number:0length$}");
            (0..count).map(tag).collect::<Vec<_>>().join(",")
        };
        for (value, is_stored) in [
            (many(128, 3), true),
            (many(129, 3), false),
            (many(1, 1024), true),
            (many(1, 1025), false),
            (many(16, 1024), true),
            (many(17, 1000), false),
        ] {
            story.origin_says(page().header("cache-tag", &value));
            let answer = story.client_asks(get("/a")).await;
            match is_stored {
                true => answer.is_stored(),
                false => answer.is_not_stored().has_detail("tags").has_no("cache-tag"),
            };
            is_purged(&story, PurgeTarget::everything()).await;
        }
        story.origin_says(page().header("cache-groups", "no string"));
        story.client_asks(get("/a")).await.is_not_stored().has_detail("tags");
    }

    async fn an_unsafe_request_ends_the_groups_that_its_answer_names(stage) {
        let story = stage.story();
        let has_groups = async || {
            for (target, groups) in [("/a", r#""x", "y""#), ("/b", "\"y\""), ("/c", "\"z\"")] {
                is_stored(&story, target, page().header("cache-groups", groups)).await;
            }
            story.origin_says(page().header("cache-groups", "\"y\""));
            story.client_asks(get("/other").host("other.example")).await.is_stored();
        };
        has_groups().await;
        story.origin_says(status(204).header("cache-group-invalidation", "\"x\", \"y\""));
        let answer = story.client_asks(ask("POST", "/new")).await;
        answer.has_status(204);
        for (target, stays) in [("/a", false), ("/b", false), ("/c", true)] {
            assert_eq!(is_cached(&story, get(target)).await, stays, "{target}");
        }
        assert!(is_cached(&story, get("/other").host("other.example")).await, "another host's group of that name");
        is_purged(&story, PurgeTarget::everything()).await;
        for reply in [
            status(500).header("cache-group-invalidation", "\"y\""),
            status(204).header("cache-group-invalidation", "y"),
        ] {
            has_groups().await;
            story.origin_says(reply);
            story.client_asks(ask("POST", "/new")).await;
            assert!(is_cached(&story, get("/b")).await, "an error, or no list of strings");
            is_purged(&story, PurgeTarget::everything()).await;
        }
        has_groups().await;
        story.origin_says(ok("").header("cache-group-invalidation", "\"y\""));
        story.client_asks(get("/safe")).await;
        assert!(is_cached(&story, get("/b")).await, "a safe request ends nothing");
    }

    async fn a_304_may_bring_other_tags(stage) {
        let story = stage.story();
        let tagged = |reply: Reply, tag| reply.header("etag", "\"v\"").header("cache-tag", tag);
        is_stored(&story, "/a", tagged(ok("page").cache_control("max-age=60"), "old")).await;
        story.time_passes(std::time::Duration::from_secs(61));
        story.origin_says(tagged(status(304).cache_control("max-age=60"), "new"));
        story.client_asks(get("/a")).await.is_forwarded_for("stale").has_body("page");
        is_purged(&story, PurgeTarget::tag("old")).await;
        assert!(is_cached(&story, get("/a")).await);
        is_purged(&story, PurgeTarget::tag("new")).await;
        assert!(!is_cached(&story, get("/a")).await);
    }
}
