//! What is purged softly is stale: validated, or sent as staleness may be.

use tower_redis_cache::{PurgeMode, PurgeTarget};

use crate::on_both_stores;
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Story, get};
use crate::targets::is_purged;

fn page(cache_control: &str) -> Reply {
    ok("old").cache_control(cache_control).header("etag", "\"v1\"").header("cache-tag", "t")
}

async fn is_softly_purged(story: &Story, target: PurgeTarget) {
    story.handle.purge([target], PurgeMode::Soft).await.expect("it is recorded");
}

fn targets() -> [PurgeTarget; 4] {
    let url = "http://example.com/a".parse().expect("a URL");
    let prefix = PurgeTarget::prefix("example.com", "/");
    [PurgeTarget::tag("t"), PurgeTarget::url(url), prefix, PurgeTarget::everything()]
}

on_both_stores! {
    async fn a_soft_purge_leaves_validators(stage) {
        let story = stage.story();
        for target in targets() {
            story.origin_says(page("max-age=600"));
            story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
            story.client_asks(get("/a")).await.is_hit();
            is_softly_purged(&story, target).await;
            story.origin_says(status(304).cache_control("max-age=600").header("etag", "\"v1\""));
            let answer = story.client_asks(get("/a")).await;
            answer.is_forwarded_for("stale").has_forward_status(304).has_status(200).has_body("old");
            assert_eq!(story.last_asked().headers["if-none-match"], "\"v1\"");
            story.client_asks(get("/a")).await.is_hit().has_body("old");
        }
    }

    async fn a_soft_purge_leaves_stale_while_revalidate(stage) {
        let story = stage.story();
        story.origin_says(page("max-age=600, stale-while-revalidate=60"));
        story.client_asks(get("/a")).await.is_stored();
        is_softly_purged(&story, PurgeTarget::tag("t")).await;
        story.origin_says(ok("new").cache_control("max-age=600"));
        story.client_asks(get("/a")).await.is_hit().has_body("old");
        story.origin_was_asked(2);
        story.client_asks(get("/a")).await.is_hit().has_body("new");
        story.origin_was_asked(2);
    }

    async fn a_soft_purge_leaves_stale_if_error_and_a_hard_one_does_not(stage) {
        let story = stage.story();
        for (mode, status_then, body) in [(PurgeMode::Soft, 200, "old"), (PurgeMode::Hard, 503, "")] {
            story.origin_says(page("max-age=600, stale-if-error=60"));
            story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
            story.handle.purge([PurgeTarget::tag("t")], mode).await.expect("it is recorded");
            story.origin_says(status(503));
            story.client_asks(get("/a")).await.has_status(status_then).has_body(body);
        }
    }

    async fn a_hard_purge_ends_what_a_soft_one_left(stage) {
        let story = stage.story();
        story.origin_says(page("max-age=600, stale-while-revalidate=60"));
        story.client_asks(get("/a")).await.is_stored();
        is_softly_purged(&story, PurgeTarget::tag("t")).await;
        is_purged(&story, PurgeTarget::tag("t")).await;
        story.origin_says(ok("new").cache_control("max-age=600"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
    }

    async fn what_demands_validation_is_not_sent_after_a_soft_purge(stage) {
        let story = stage.story();
        story.origin_says(page("max-age=600, must-revalidate, stale-if-error=60"));
        story.client_asks(get("/a")).await.is_stored();
        is_softly_purged(&story, PurgeTarget::everything()).await;
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.has_status(503);
    }
}
