//! Which requests may share an answer.

use tower_redis_cache::{CacheKey, DefaultKey, KeyExtractor};

use crate::on_both_stores;
use crate::support::scripted::ok;
use crate::support::story::{Ask, Stage, Story, get};

fn story_keyed_by(stage: &Stage, key: impl KeyExtractor) -> Story {
    let story = stage.story_with(|config| config.key(key));
    story.origin.answers(|parts| ok(parts.uri.to_string()).cache_control("max-age=60"));
    story
}

async fn share(story: &Story, one: Ask, other: Ask) {
    story.client_asks(one).await.is_stored();
    story.client_asks(other).await.is_hit();
}

async fn are_apart(story: &Story, one: Ask, other: Ask) {
    story.client_asks(one).await.is_stored();
    story.client_asks(other).await.is_forwarded_for("uri-miss").is_stored();
}

on_both_stores! {
    async fn scheme_authority_path_and_query_make_the_key(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new());
        are_apart(&story, get("/1?q=1"), get("/1?q=2")).await;
        are_apart(&story, get("/2"), get("/2?")).await;
        are_apart(&story, get("/3"), get("/3/")).await;
        are_apart(&story, get("/4"), get("/4").host("example.org")).await;
        are_apart(&story, get("/5"), get("/5").host("example.com:8080")).await;
        are_apart(&story, get("http://example.com/6"), get("https://example.com/6")).await;
    }

    async fn the_path_is_taken_as_received(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new());
        are_apart(&story, get("/path"), get("/Path")).await;
        are_apart(&story, get("/a%2Fb"), get("/a/b")).await;
        are_apart(&story, get("/%61"), get("/a")).await;
        are_apart(&story, get("//c"), get("/c")).await;
        are_apart(&story, get("/d/../e"), get("/e")).await;
        are_apart(&story, get("/f?a=1&b=2"), get("/f?b=2&a=1")).await;
        are_apart(&story, get("/g;v=1"), get("/g")).await;
    }

    async fn the_authority_is_normalised(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new());
        share(&story, get("/1"), get("/1").host("EXAMPLE.com")).await;
        share(&story, get("/2"), get("/2").host("example.com:80")).await;
        share(&story, get("/3"), get("http://example.com/3").without("host")).await;
        share(&story, get("/4"), get("http://EXAMPLE.COM:80/4").host("Example.com")).await;
        share(&story, get("https://example.com/5"), get("https://example.com:443/5")).await;
    }

    async fn a_target_and_a_host_that_disagree_are_not_cached(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new());
        story.origin_says(ok("links to evil").cache_control("max-age=60"));
        story.client_asks(get("http://victim.example/").host("evil.example")).await.is_forwarded_for("bypass");
        story.client_asks(get("/").host("victim.example")).await.is_forwarded_for("uri-miss");
    }

    async fn get_and_head_share_a_key(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new());
        share(&story, get("/1"), crate::support::story::head("/1")).await;
    }

    async fn a_request_without_one_valid_host_is_not_cached(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new());
        let asks: [fn() -> Ask; 5] = [
            || get("/1").without("host"),
            || get("/1").header("host", "example.org"),
            || get("/1").host("a b"),
            || get("/1").host("user@example.com"),
            || get("/1").host(""),
        ];
        for ask in asks {
            story.client_asks(ask()).await.has_status(200).is_forwarded_for("bypass").is_not_stored();
        }
        story.origin_was_asked(5);
    }

    async fn ignored_parameters_reach_neither_the_key_nor_the_origin(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new().ignore_query(["utm_*", "fbclid"]));
        share(&story, get("/1?id=7"), get("/1?utm_source=x&id=7&fbclid=9")).await;
        share(&story, get("/2?utm_source=x&id=7"), get("/2?id=7")).await;
        assert_eq!(story.last_asked().uri, "/2?id=7");
        are_apart(&story, get("/3?id=7"), get("/3?id=8")).await;
    }

    async fn a_query_of_ignored_parameters_only_is_as_good_as_none(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new().ignore_query(["utm_*"]));
        share(&story, get("/1"), get("/1?utm_source=x")).await;
        share(&story, get("/2?utm_source=x"), get("/2")).await;
        assert_eq!(story.last_asked().uri, "/2");
    }

    async fn kept_and_sorted_parameters_share_what_is_the_same(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new().keep_query(["id", "page"]).sort_query());
        share(&story, get("/1?page=2&id=7"), get("/1?id=7&session=1&page=2")).await;
        are_apart(&story, get("/2?id=7"), get("/2?id=7&page=2")).await;
    }

    async fn a_header_may_join_the_key(stage) {
        let key = DefaultKey::new().header("x-country").expect("a field name");
        let story = story_keyed_by(&stage, key);
        are_apart(&story, get("/1").header("x-country", "at"), get("/1").header("x-country", "ch")).await;
        are_apart(&story, get("/2"), get("/2").header("x-country", "")).await;
        share(&story, get("/3").header("x-country", "at"), get("/3").header("x-country", "at").header("x-other", "1")).await;
    }

    async fn a_cookie_may_join_the_key(stage) {
        let story = story_keyed_by(&stage, DefaultKey::new().cookie("plan"));
        are_apart(&story, get("/1").header("cookie", "plan=a"), get("/1").header("cookie", "plan=b")).await;
        share(&story, get("/2").header("cookie", "x=1; plan=a"), get("/2").header("cookie", "plan=a; y=2")).await;
        are_apart(&story, get("/3"), get("/3").header("cookie", "plan=a")).await;
    }

    async fn tenants_are_apart(stage) {
        let one = story_keyed_by(&stage, DefaultKey::new().tenant("one"));
        let other = story_keyed_by(&stage, DefaultKey::new().tenant("other"));
        one.client_asks(get("/1")).await.is_stored();
        other.client_asks(get("/1")).await.is_forwarded_for("uri-miss");
    }

    async fn a_closure_may_make_the_key(stage) {
        let story = story_keyed_by(&stage, |parts: &http::request::Parts| {
            let page = parts.uri.query()?.strip_prefix("page=")?;
            Some(CacheKey::from_parts([page]))
        });
        share(&story, get("/one?page=1"), get("/two?page=1")).await;
        are_apart(&story, get("/one?page=2"), get("/one?page=3")).await;
    }

    async fn a_request_without_a_key_is_not_cached(stage) {
        let story = story_keyed_by(&stage, |_: &http::request::Parts| None::<String>);
        story.client_asks(get("/1")).await.is_forwarded_for("bypass").is_not_stored();
        story.client_asks(get("/1")).await.is_forwarded_for("bypass");
        story.origin_was_asked(2);
    }

    async fn a_request_with_too_long_a_key_is_not_cached(stage) {
        let story = stage.story_with(|config| config.max_key_size(200));
        story.origin_says(ok("x").cache_control("max-age=60"));
        let long = format!("/{}", "a".repeat(200));
        story.client_asks(get(&long)).await.is_forwarded_for("bypass").is_not_stored();
        story.client_asks(get("/short")).await.is_stored();
    }
}
