//! The cache is filled before clients ask.

use tower_redis_cache::{PurgeTarget, RedisCache};

use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{ScriptedService, failure, ok, status};
use crate::support::story::{Story, get};
use crate::targets::{has_pages, is_purged};

async fn prime(cache: RedisCache<ScriptedService>, targets: &[&'static str], at_once: usize) -> [u64; 4] {
    let requests: Vec<_> = targets.iter().map(|target| get(target).into_request()).collect();
    // Sent to another task, as an application would.
    let primed = tokio::spawn(async move { cache.prime(requests, at_once).await }).await.expect("no panic");
    [primed.stored, primed.present, primed.not_stored, primed.failed]
}

fn origin_says(story: &Story, pages: usize) {
    story.origin_says_in_turn((0..pages).map(|_| ok("after").cache_control("max-age=600")));
}

on_both_stores! {
    async fn what_was_purged_is_there_again_before_anybody_asks(stage) {
        let story = stage.story();
        let all = ["/a", "/b", "/c", "/d"];
        has_pages(&story, &all).await;
        for page in ["/a", "/b", "/c"] {
            is_purged(&story, PurgeTarget::prefix("example.com", page)).await;
        }
        origin_says(&story, 3);
        let before = story.origin.calls();
        assert_eq!(prime(story.service(), &all, 2).await, [3, 1, 0, 0]);
        story.origin_was_asked(before + 3);
        story.fills_are_done().await;
        for page in ["/a", "/b", "/c"] {
            story.client_asks(get(page)).await.is_hit().has_body("after");
        }
    }

    async fn what_comes_of_each_is_counted(stage) {
        let story = stage.story();
        story.origin_says_in_turn([
            ok("page").cache_control("max-age=600"),
            ok("mine").cache_control("private"),
            status(503),
            failure("away"),
            ok("").cache_control("max-age=600").chunks(["one"]).then_breaks_off(),
        ]);
        assert_eq!(prime(story.service(), &["/a", "/b", "/c", "/d", "/e", "/a"], 1).await, [1, 1, 2, 2]);
        assert_eq!(prime(story.service(), &[], 0).await, [0; 4]);
    }

    async fn no_more_are_under_way_than_are_allowed(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says_in_turn((0..9).map(|_| ok("page").cache_control("max-age=600").head_after(&gate)));
        let targets = ["/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9"];
        let cache = story.service();
        let priming = tokio::spawn(async move { prime(cache, &targets, 3).await });
        eventually("three are asked for", || story.origin.calls() == 3).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        story.origin_was_asked(3);
        gate.open();
        assert_eq!(priming.await.expect("no panic"), [9, 0, 0, 0]);
        story.origin_was_asked(9);
    }
}
