//! What an unsafe request ends of the responses to QUERY (RFC 10008), whose keys nobody can name (RFC 9111 §4.4).

use tower_redis_cache::{EmptyBody, QueryContent};

use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{ScriptBody, failure, ok, status};
use crate::support::story::{Ask, Stage, Story, ask, get, seconds};

/// A QUERY whose content was read on the way.
fn query(target: &str, content: &'static str) -> Ask {
    ask("QUERY", target).header("content-type", "text/sql").body(content).extension(QueryContent::new(content))
}

/// What these queries found is stored, fresh and a hit.
async fn has_found(story: &Story, queries: &[(&str, &'static str)]) {
    for (target, content) in queries {
        story.origin_says(ok("before").cache_control("max-age=600"));
        story.client_asks(query(target, content).header("cache-control", "no-cache")).await.is_stored();
        story.client_asks(query(target, content)).await.is_hit().has_body("before");
    }
}

/// Whether the query is still answered from the cache; asks nobody.
async fn is_cached(story: &Story, target: &str, content: &'static str) -> bool {
    let only = query(target, content).header("cache-control", "only-if-cached");
    story.client_asks_and_goes_on(only).await.outcome().is_hit()
}

on_both_stores! {
    async fn an_unsafe_request_ends_all_queries_of_its_target_and_no_others(stage) {
        let story = stage.story();
        for method in ["POST", "PUT", "DELETE", "PATCH", "FROB"] {
            has_found(&story, &[("/a?q=1", "one"), ("/a?q=1", "two"), ("/a", "one"), ("/b", "one")]).await;
            story.origin_says(status(204));
            story.client_asks(ask(method, "/a?q=1").body("x=1")).await.is_forwarded_for("method");
            for content in ["one", "two"] {
                assert!(!is_cached(&story, "/a?q=1", content).await, "{method}: {content}");
            }
            for target in ["/a", "/b"] {
                assert!(is_cached(&story, target, "one").await, "{method}: {target} is another target");
            }
            story.origin_says(ok("after").cache_control("max-age=600"));
            story.client_asks(query("/a?q=1", "one")).await.is_forwarded_for("uri-miss").is_stored().has_body("after");
            story.client_asks(query("/a?q=1", "one")).await.is_hit().has_body("after");
        }
    }

    async fn neither_a_failure_nor_a_safe_method_ends_a_query(stage) {
        let story = stage.story();
        has_found(&story, &[("/a", "one")]).await;
        for code in [400, 404, 409, 500, 503] {
            story.origin_says(status(code));
            story.client_asks(ask("POST", "/a")).await.has_status(code);
            assert!(is_cached(&story, "/a", "one").await, "{code}");
        }
        story.origin_says(failure("connection refused"));
        story.client_tries(ask("POST", "/a")).await.expect_err("the origin fails");
        story.origin_says(ok("x").header("content-location", "/a").header("location", "/a"));
        for safe in [get("/b"), ask("OPTIONS", "/a"), query("/a", "two")] {
            story.client_asks(safe).await.has_status(200);
        }
        assert!(is_cached(&story, "/a", "one").await);
    }

    async fn a_location_that_names_the_target_ends_its_queries(stage) {
        let story = stage.story();
        for field in ["location", "content-location"] {
            for reference in ["/a?q=1", "http://example.com/a?q=1", "../a?q=1#part"] {
                has_found(&story, &[("/a?q=1", "one"), ("/b", "one")]).await;
                story.origin_says(status(201).header(field, reference));
                story.client_asks(ask("PUT", "/shop/cart").body("x")).await.has_status(201);
                assert!(!is_cached(&story, "/a?q=1", "one").await, "{field}: {reference}");
                assert!(is_cached(&story, "/b", "one").await, "{field}: {reference}: another target");
            }
        }
        has_found(&story, &[("/a", "one")]).await;
        story.origin_says(status(201).header("location", "http://other.example/a"));
        story.client_asks(ask("PUT", "/shop/cart")).await.has_status(201);
        assert!(is_cached(&story, "/a", "one").await, "another origin");
    }

    async fn a_query_and_a_get_of_one_target_end_together(stage) {
        let story = stage.story();
        has_found(&story, &[("/a", "one")]).await;
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a")).await.is_hit();
        story.origin_says(status(204));
        story.client_asks(ask("DELETE", "/a")).await.has_status(204);
        assert!(!is_cached(&story, "/a", "one").await);
        story.origin_says(status(404));
        story.client_asks(get("/a")).await.has_status(404);
    }

    /// The first query of a target has no epoch yet, the second finds one.
    async fn a_slow_query_from_before_a_change_does_not_outlive_it(stage) {
        for knows_others in [false, true] {
            let story = stage.story_with(|config| config.namespace(&format!("n{knows_others}")).expect("a name"));
            if knows_others {
                has_found(&story, &[("/a", "other")]).await;
            }
            let gate = Gate::closed();
            story.origin_says(ok("").chunks(["be"]).waits_for(&gate).chunks(["fore"]).cache_control("max-age=600"));
            let mut slow = story.client_begins(query("/a", "one")).await;
            slow.receives("be").await;
            story.origin_says(status(204));
            story.client_asks_and_goes_on(ask("POST", "/a")).await.has_status(204);
            gate.open();
            slow.reads_to_the_end().await.has_body("before");
            story.fills_are_done().await;
            assert!(!is_cached(&story, "/a", "one").await, "{knows_others}");
            // Nor when a later query has begun another epoch.
            has_found(&story, &[("/a", "other")]).await;
            assert!(!is_cached(&story, "/a", "one").await, "{knows_others}");
        }
    }

    async fn a_client_that_leaves_before_the_answer_may_have_changed_what_was_found(stage) {
        let story = stage.story();
        has_found(&story, &[("/a", "one")]).await;
        let calls = story.origin.calls();
        let gate = Gate::closed();
        story.origin_says(status(204).head_after(&gate));
        let leaving = tokio::spawn({
            let story = story.clone();
            async move { drop(story.client_tries(ask("POST", "/a")).await) }
        });
        eventually("the origin is asked", || story.origin.calls() > calls).await;
        leaving.abort();
        assert!(leaving.await.expect_err("the client left").is_cancelled());
        story.fills_are_done().await;
        assert!(!is_cached(&story, "/a", "one").await);
    }

    async fn what_a_query_found_is_validated_with_its_content(stage) {
        let story = stage.story();
        let lent = EmptyBody::<ScriptBody>::new(|| ScriptBody::of(""));
        story.origin_says(ok("found").cache_control("max-age=60").header("etag", "\"v1\""));
        story.client_asks(query("/a", "one").extension(lent)).await.is_stored();
        story.time_passes(seconds(61));
        story.origin_says(status(304).header("etag", "\"v1\"").cache_control("max-age=60"));
        story.client_asks(query("/a", "one").extension(lent)).await.is_forwarded_for("stale").has_body("found");
        assert_eq!(story.last_asked().headers["if-none-match"], "\"v1\"");
        story.client_asks(query("/a", "one")).await.is_hit();
        story.time_passes(seconds(61));
        // A validator that is not the stored response's: a GET would be asked again, without content.
        let calls = story.origin.calls();
        story.origin_says(status(304).header("etag", "\"v2\""));
        story.client_asks(query("/a", "one").extension(lent)).await.has_forward_status(304);
        story.origin_was_asked(calls + 1);
    }
}

/// A fill of a response with a short life does not take from the epoch what one with a long life needs.
#[tokio::test]
async fn an_epoch_in_memory_lasts_as_long_as_the_longest_life_in_it() {
    let story = Stage::memory().story();
    for (content, line) in [("short", "max-age=60"), ("long", "max-age=200000"), ("shorter", "max-age=1")] {
        story.origin_says(ok("found").cache_control(line));
        story.client_asks(query("/a", content)).await.is_stored();
    }
    story.time_passes(seconds(199_999));
    assert!(is_cached(&story, "/a", "long").await && !is_cached(&story, "/a", "short").await);
}

/// No process knows of the other's change but by the store.
#[tokio::test]
async fn what_one_instance_changes_ends_the_queries_of_all_and_their_slow_ones() {
    let stage = Stage::redis();
    let (one, other) = (stage.story(), stage.story());
    has_found(&one, &[("/a", "one")]).await;
    assert!(is_cached(&other, "/a", "one").await);
    let gate = Gate::closed();
    one.origin_says(ok("").chunks(["be"]).waits_for(&gate).chunks(["fore"]).cache_control("max-age=600"));
    let mut slow = one.client_begins(query("/a", "slow")).await;
    slow.receives("be").await;
    other.origin_says(status(204));
    other.client_asks(ask("POST", "/a")).await.has_status(204);
    assert!(!is_cached(&one, "/a", "one").await);
    has_found(&other, &[("/a", "two")]).await;
    gate.open();
    slow.reads_to_the_end().await.has_body("before");
    one.fills_are_done().await;
    assert!(!is_cached(&one, "/a", "slow").await && !is_cached(&other, "/a", "slow").await);
    assert!(is_cached(&one, "/a", "two").await, "what was found after the change stays");
}

/// A query that knew of no epoch does not move into one that may be younger than the change.
#[tokio::test]
async fn a_slow_first_query_does_not_join_an_epoch_of_another_instance() {
    let stage = Stage::redis();
    let (one, other) = (stage.story(), stage.story());
    let gate = Gate::closed();
    one.origin_says(ok("").chunks(["be"]).waits_for(&gate).chunks(["fore"]).cache_control("max-age=600"));
    let mut slow = one.client_begins(query("/a", "slow")).await;
    slow.receives("be").await;
    other.origin_says(status(204));
    other.client_asks(ask("POST", "/a")).await.has_status(204);
    has_found(&other, &[("/a", "two")]).await;
    gate.open();
    slow.reads_to_the_end().await.has_body("before");
    one.fills_are_done().await;
    assert!(!is_cached(&one, "/a", "slow").await);
    assert!(is_cached(&one, "/a", "two").await);
}

/// Whatever is lost of an epoch, or of what was found in it, the query goes to the origin and is stored anew.
#[tokio::test]
async fn a_lost_epoch_is_a_miss_and_each_fill_prolongs_the_one_there_is() {
    let stage = Stage::redis();
    let story = stage.story();
    has_found(&story, &[("/a", "one")]).await;
    let lives = |key: &str| stage.server().cli(&["PTTL", key]).parse::<u64>().expect("a number");
    let (epochs, entries): (Vec<_>, Vec<_>) =
        stage.server().keys("*").into_iter().partition(|key| lives(key) > 23 * 3600 * 1000);
    assert_eq!((epochs.len(), entries.len()), (1, 1), "one epoch and one entry");
    stage.server().cli(&["PEXPIRE", &epochs[0], "700000"]);
    has_found(&story, &[("/a", "two")]).await;
    assert!(lives(&epochs[0]) > 23 * 3600 * 1000);
    story.origin_says(ok("long").cache_control("max-age=864000"));
    story.client_asks(query("/a", "long")).await.is_stored();
    assert!(lives(&epochs[0]) >= 863_000_000, "it outlives what is found in it");
    stage.server().cli(&["UNLINK", &epochs[0]]);
    story.client_asks(query("/a", "one")).await.is_forwarded_for("uri-miss").is_stored();
    story.client_asks(query("/a", "one")).await.is_hit();
}
