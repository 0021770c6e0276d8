//! What a purge can name, and that it ends that and nothing else.

use tower_redis_cache::{CacheKey, DefaultKey, KeyExtractor, PurgeError, PurgeMode, PurgeTarget, QueryContent};

use crate::on_both_stores;
use crate::support::scripted::{ok, status};
use crate::support::story::{Ask, Story, ask, get, head};

/// These targets are stored, fresh and hits.
pub(crate) async fn has_pages(story: &Story, targets: &[&str]) {
    for target in targets {
        story.origin_says(ok("before").cache_control("max-age=600"));
        story.client_asks(get(target)).await.is_stored();
        story.client_asks(get(target)).await.is_hit();
    }
}

/// Whether it is still answered from the cache; asks nobody.
pub(crate) async fn is_cached(story: &Story, ask: Ask) -> bool {
    story.client_asks(ask.header("cache-control", "only-if-cached")).await.outcome().is_hit()
}

pub(crate) async fn is_purged(story: &Story, target: PurgeTarget) -> u64 {
    story.handle.purge([target], PurgeMode::Hard).await.expect("it is recorded").number
}

pub(crate) fn url(url: &str) -> PurgeTarget {
    PurgeTarget::url(url.parse().expect("a URL"))
}

/// The key of a GET of this path of example.com.
pub(crate) fn key_of(path: &str) -> CacheKey {
    let (parts, ()) = http::Request::get(path).header("host", "example.com").body(()).expect("a request").into_parts();
    DefaultKey::new().key(&parts).expect("a key")
}

on_both_stores! {
    async fn each_target_ends_what_it_names_and_nothing_else(stage) {
        let story = stage.story();
        let all = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/a?q=1", "/c"];
        let prefix = |path| PurgeTarget::prefix("EXAMPLE.com:80", path);
        for (target, ended) in [
            (url("http://example.com/a"), &["/a"][..]),
            (url("https://example.com:443/a?q=1"), &["/a?q=1"]),
            (url("http://example.com"), &["/"]),
            (PurgeTarget::key(key_of("/a/b")), &["/a/b"]),
            (prefix("/a"), &["/a", "/a/", "/a/b", "/a/b/c", "/a?q=1"]),
            (prefix("/a/b/"), &["/a/b", "/a/b/c"]),
            (prefix("/"), &all),
            (PurgeTarget::everything(), &all),
            (url("http://other.example/a"), &[]),
            (PurgeTarget::prefix("other.example", "/"), &[]),
            (PurgeTarget::prefix("example.com", "/a/b/c/d"), &[]),
            (PurgeTarget::tag("a"), &[]),
        ] {
            has_pages(&story, &all).await;
            is_purged(&story, target.clone()).await;
            for page in all {
                assert_eq!(is_cached(&story, get(page)).await, !ended.contains(&page), "{page} after {target:?}");
            }
            is_purged(&story, PurgeTarget::everything()).await;
        }
    }

    async fn all_variants_of_a_url_end_and_what_head_has_of_it(stage) {
        let story = stage.story();
        story.origin_says(ok("page").cache_control("max-age=600").header("vary", "accept"));
        for accept in ["a", "b", "c"] {
            story.client_asks(get("/a").header("accept", accept)).await.is_stored();
        }
        is_purged(&story, url("http://example.com/a")).await;
        for accept in ["a", "b", "c"] {
            assert!(!is_cached(&story, get("/a").header("accept", accept)).await);
            assert!(!is_cached(&story, head("/a").header("accept", accept)).await);
        }
        story.client_asks(get("/a").header("accept", "a")).await.is_forwarded_for("uri-miss").is_stored();
        story.client_asks(get("/a").header("accept", "a")).await.is_hit();
    }

    async fn one_variant_may_be_tagged_and_end_alone(stage) {
        let story = stage.story();
        for accept in ["a", "b"] {
            let page = ok(accept).cache_control("max-age=600").header("vary", "accept");
            story.origin_says(page.header("cache-tag", accept));
            story.client_asks(get("/a").header("accept", accept)).await.is_stored();
        }
        is_purged(&story, PurgeTarget::tag("a")).await;
        assert!(!is_cached(&story, get("/a").header("accept", "a")).await);
        assert!(is_cached(&story, get("/a").header("accept", "b")).await);
    }

    async fn the_answers_to_queries_of_a_url_end_with_it(stage) {
        for mode in [PurgeMode::Hard, PurgeMode::Soft] {
            let story = stage.story();
            let query = |target| {
                let query = ask("QUERY", target).header("content-type", "text/sql").body("q");
                query.extension(QueryContent::new("q"))
            };
            story.origin_says(ok("found").cache_control("max-age=600"));
            for target in ["/a", "/b"] {
                story.client_asks(query(target)).await.is_stored();
                story.client_asks(query(target)).await.is_hit();
            }
            story.handle.purge([url("http://example.com/a")], mode).await.expect("it is recorded");
            assert!(!is_cached(&story, query("/a")).await && is_cached(&story, query("/b")).await, "{mode:?}");
            is_purged(&story, PurgeTarget::everything()).await;
            assert!(!is_cached(&story, query("/b")).await);
        }
    }

    async fn several_targets_are_one_purge_and_its_number_is_that_of_the_last(stage) {
        let story = stage.story();
        has_pages(&story, &["/a", "/b", "/c"]).await;
        let first = is_purged(&story, PurgeTarget::tag("x")).await;
        let targets = [url("http://example.com/a"), PurgeTarget::key(key_of("/b"))];
        let second = story.handle.purge(targets, PurgeMode::Hard).await.expect("it is recorded").number;
        let third = is_purged(&story, PurgeTarget::tag("x")).await;
        assert!(first < second && second < third, "{first} {second} {third}");
        assert!(!is_cached(&story, get("/a")).await && !is_cached(&story, get("/b")).await);
        assert!(is_cached(&story, get("/c")).await);
        assert_eq!(story.handle.stats().purges, 3);
    }

    async fn what_cannot_be_purged_is_an_error_and_purges_nothing(stage) {
        let story = stage.story();
        has_pages(&story, &["/a"]).await;
        let everything_and = |other| vec![PurgeTarget::everything(), other];
        for bad in [url("/a"), url("http://me@example.com/a"), PurgeTarget::tag(""), PurgeTarget::prefix("a/b", "/")] {
            let refused = story.handle.purge(everything_and(bad), PurgeMode::Hard).await;
            assert!(matches!(refused, Err(PurgeError::Invalid(_))), "{refused:?}");
        }
        let many = std::iter::repeat_with(PurgeTarget::everything);
        assert_eq!(story.handle.purge([], PurgeMode::Hard).await, Err(PurgeError::Count(0)));
        assert_eq!(story.handle.purge(many, PurgeMode::Hard).await, Err(PurgeError::Count(1025)));
        assert!(is_cached(&story, get("/a")).await);
        assert_eq!(story.handle.stats().purges, 0);
    }

    async fn what_is_fetched_after_a_purge_is_stored_and_served(stage) {
        let story = stage.story();
        for _ in 0..3 {
            has_pages(&story, &["/a"]).await;
            is_purged(&story, PurgeTarget::everything()).await;
            is_purged(&story, url("http://example.com/a")).await;
        }
        has_pages(&story, &["/a"]).await;
        assert!(is_cached(&story, get("/a")).await);
    }

    async fn what_an_unsafe_request_ends_is_a_purge_as_well(stage) {
        let story = stage.story();
        has_pages(&story, &["/a", "/b"]).await;
        story.origin_says(status(204));
        story.client_asks(ask("POST", "/a")).await.has_status(204);
        assert!(!is_cached(&story, get("/a")).await && is_cached(&story, get("/b")).await);
        assert!(story.handle.stats().purge_records > 0);
    }
}
