//! What an operator is told of a request: the key, what is stored for it, and why it would go to the service.

use tower_redis_cache::{ForwardReason, Inspection, PurgeMode, PurgeState, PurgeTarget, Tier};

use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::ok;
use crate::support::story::{Ask, Stage, Story, ask, get, seconds};
use crate::targets::{is_purged, key_of};
use crate::troupe::client;

async fn inspect(story: &Story, ask: Ask) -> Inspection {
    story.handle.inspect(&ask.into_request().into_parts().0).await
}

fn here(stage: &Stage) -> Option<Tier> {
    Some(if stage.has_server() { Tier::Redis } else { Tier::Memory })
}

on_both_stores! {
    async fn what_is_stored_is_shown_as_the_request_would_find_it(stage) {
        let story = stage.story();
        let nothing = inspect(&story, get("/a")).await;
        assert_eq!(nothing.outcome.forward_reason(), Some(ForwardReason::UriMiss));
        assert_eq!((nothing.tier, nothing.selected, nothing.responses.len()), (None, None, 0));
        let before = is_purged(&story, PurgeTarget::tag("else")).await;
        story.origin_says(ok("hello").cache_control("max-age=60").header("cache-tag", "x,y"));
        story.client_asks(get("/a")).await.is_stored();
        let stats = story.handle.stats();
        story.time_passes(seconds(20));
        let found = inspect(&story, get("/a")).await;
        assert!(found.outcome.is_hit());
        assert_eq!((found.outcome.ttl(), found.tier), (Some(40), here(&stage)));
        let selected = found.selected.expect("a response");
        assert_eq!((selected.status.as_u16(), selected.length), (200, 5));
        assert_eq!((selected.age, selected.lifetime), (seconds(20), seconds(60)));
        assert_eq!((&selected.tags[..], selected.purge), (&["x".to_owned(), "y".to_owned()][..], PurgeState::NotPurged));
        assert_eq!((selected.fetched_at_purge, found.last_purge, found.knows_purges), (before, before, true));
        assert_eq!(found.responses, [selected]);
        assert_eq!(found.key, Some(key_of("/a")));
        // What it was asked for is not done.
        assert_eq!(story.handle.stats(), stats);
        story.origin_was_asked(1);
    }

    async fn why_a_response_is_not_served_is_told(stage) {
        let story = stage.story();
        story.origin_says(ok("hello").cache_control("max-age=60, stale-while-revalidate=60").header("cache-tag", "x"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(1));
        let because = |found: &Inspection| (found.outcome.forward_reason(), found.outcome.detail());
        let demanding = inspect(&story, get("/a").header("cache-control", "max-age=0")).await;
        assert_eq!(because(&demanding), (Some(ForwardReason::Request), None));
        let elsewhere = inspect(&story, get("/b").header("cache-control", "only-if-cached")).await;
        assert_eq!(because(&elsewhere), (None, Some("only-if-cached")));
        let unsafe_one = inspect(&story, ask("DELETE", "/a")).await;
        assert_eq!(because(&unsafe_one), (Some(ForwardReason::Method), None));
        let upgrade = inspect(&story, get("/a").header("connection", "upgrade").header("upgrade", "websocket")).await;
        assert_eq!((because(&upgrade), upgrade.key), ((Some(ForwardReason::Bypass), Some("upgrade")), None));
        story.time_passes(seconds(129));
        let stale = inspect(&story, get("/a")).await;
        assert_eq!((because(&stale), stale.outcome.ttl()), ((Some(ForwardReason::Stale), None), Some(-70)));
        let number = story.handle.purge([PurgeTarget::tag("x")], PurgeMode::Soft).await.expect("it is recorded").number;
        let soft = inspect(&story, get("/a")).await;
        assert_eq!(soft.responses[0].purge, PurgeState::Stale { number });
        is_purged(&story, PurgeTarget::tag("x")).await;
        let hard = inspect(&story, get("/a")).await;
        assert_eq!((because(&hard), hard.selected), ((Some(ForwardReason::UriMiss), None), None));
        // Unless somebody has removed it by now.
        assert!(hard.responses.iter().all(|response| response.purge == PurgeState::Purged));
    }

    async fn variants_and_what_selects_them_are_shown(stage) {
        let story = stage.story();
        for language in ["de", "en"] {
            story.origin_says(ok(language).cache_control("max-age=60").header("vary", "accept-language, accept"));
            story.client_asks(get("/a").header("accept-language", language)).await.is_stored();
        }
        let found = inspect(&story, get("/a").header("accept-language", "en")).await;
        assert!(found.outcome.is_hit());
        assert_eq!((found.responses.len(), &found.vary[..]), (2, &["accept".to_owned(), "accept-language".to_owned()][..]));
        let other = inspect(&story, get("/a").header("accept-language", "fr")).await;
        assert_eq!(other.outcome.forward_reason(), Some(ForwardReason::VaryMiss));
        assert_eq!((other.selected, other.responses.len()), (None, 2));
    }

    async fn what_is_being_fetched_or_never_shared_is_told(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("mine").cache_control("private").head_after(&gate));
        let asking = client(&story, get("/a"));
        eventually("the service is asked", || story.origin.calls() == 1).await;
        let during = inspect(&story, get("/a")).await;
        assert!(during.is_being_fetched && !during.is_uncacheable);
        gate.open();
        asking.await.expect("an answer").has_body("mine");
        story.fills_are_done().await;
        let after = inspect(&story, get("/a")).await;
        assert!(!after.is_being_fetched && after.is_uncacheable);
    }
}

#[tokio::test]
async fn what_is_in_memory_in_front_of_redis_is_told() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.near_cache(1 << 20));
    story.origin_says(ok("hello").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    story.client_asks(get("/a")).await.is_hit();
    assert_eq!(inspect(&story, get("/a")).await.tier, Some(Tier::Near));
}

#[tokio::test]
async fn without_redis_that_is_what_is_told() {
    let mut stage = Stage::redis();
    let story = stage.story();
    stage.server_mut().kill();
    let found = inspect(&story, get("/a")).await;
    assert_eq!(found.outcome.forward_reason(), Some(ForwardReason::Miss));
    assert_eq!(found.outcome.detail(), Some("store-unavailable"));
    assert!(found.selected.is_none() && found.responses.is_empty());
}
