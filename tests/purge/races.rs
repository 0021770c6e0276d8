//! What is under way while it is purged.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_cache::{CacheConfig, EmptyBody, PurgeMode, PurgeTarget, RedisCacheLayer};

use crate::on_both_stores;
use crate::support::gate::{Gate, PATIENCE, eventually};
use crate::support::redis::RedisServer;
use crate::support::scripted::{Reply, ScriptBody, ok, status};
use crate::support::story::{get, seconds};
use crate::targets::{is_purged, url};
use crate::troupe::{client, is_asked};

fn page(body: &'static str) -> Reply {
    ok(body).cache_control("max-age=600").header("cache-tag", "t").header("etag", format!("\"{body}\"").as_str())
}

fn targets() -> [PurgeTarget; 4] {
    let prefix = PurgeTarget::prefix("example.com", "/");
    [PurgeTarget::tag("t"), url("http://example.com/a"), prefix, PurgeTarget::everything()]
}

on_both_stores! {
    async fn what_was_asked_for_before_a_purge_is_not_served_after_it(stage) {
        let story = stage.story();
        for (target, asked) in targets().into_iter().zip((0..).step_by(2)) {
            let gate = Gate::closed();
            story.origin_says(page("old").head_after(&gate));
            let late = client(&story, get("/a"));
            is_asked(&story, asked + 1).await;
            is_purged(&story, target.clone()).await;
            gate.open();
            late.await.expect("an answer").has_body("old");
            story.fills_are_done().await;
            story.origin_says(page("new"));
            story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
            story.client_asks(get("/a")).await.is_hit().has_body("new");
            is_purged(&story, target).await;
        }
    }

    async fn what_is_coming_when_it_is_purged_is_not_served_after_it(stage) {
        let story = stage.story();
        for target in targets() {
            let gate = Gate::closed();
            story.origin_says(page("").chunks(["old "]).waits_for(&gate).chunks(["end"]));
            let mut lead = story.client_begins(get("/a")).await;
            lead.receives("old ").await;
            is_purged(&story, target.clone()).await;
            story.origin_says(page("new"));
            story.client_asks_and_goes_on(get("/a")).await.has_body("new");
            gate.open();
            lead.reads_to_the_end().await.has_body("old end");
            story.fills_are_done().await;
            story.client_asks(get("/a")).await.is_hit().has_body("new");
            is_purged(&story, target).await;
        }
    }

    async fn what_was_asked_for_before_a_soft_purge_is_stale(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page("old").head_after(&gate));
        let late = client(&story, get("/a"));
        is_asked(&story, 1).await;
        story.handle.purge([PurgeTarget::tag("t")], PurgeMode::Soft).await.expect("it is recorded");
        gate.open();
        late.await.expect("an answer").has_body("old");
        story.fills_are_done().await;
        story.origin_says(page("new"));
        story.client_asks(get("/a")).await.is_forwarded_for("stale").has_body("new");
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }

    async fn who_waits_for_a_fetch_that_was_purged_has_what_is_right_by_now(stage) {
        let story = stage.story();
        for target in targets() {
            let gate = Gate::closed();
            let (asked, missed) = (story.origin.calls(), story.handle.stats().misses);
            story.origin_says(page("old").head_after(&gate));
            let lead = client(&story, get("/a"));
            is_asked(&story, asked + 1).await;
            let waiting = [(); 5].map(|()| client(&story, get("/a")));
            eventually("they wait", || story.handle.stats().misses == missed + 6).await;
            is_purged(&story, target.clone()).await;
            story.origin_says(page("new"));
            gate.open();
            lead.await.expect("an answer").has_body("old");
            for waiting in waiting {
                waiting.await.expect("an answer").has_body("new");
            }
            story.fills_are_done().await;
            story.client_asks(get("/a")).await.is_hit().has_body("new");
            story.origin_was_asked(asked + 2);
            is_purged(&story, PurgeTarget::everything()).await;
        }
    }

    async fn a_304_for_what_was_purged_meanwhile_is_no_answer(stage) {
        let story = stage.story();
        for target in targets() {
            story.origin_says(page("old"));
            story.client_asks(get("/a")).await.is_stored();
            story.time_passes(seconds(601));
            let (asked, gate) = (story.origin.calls(), Gate::closed());
            story.origin_says_in_turn([status(304).header("etag", "\"old\"").head_after(&gate), page("new")]);
            let again = EmptyBody::<ScriptBody>::new(|| ScriptBody::of(""));
            let late = client(&story, get("/a").extension(again));
            is_asked(&story, asked + 1).await;
            is_purged(&story, target).await;
            gate.open();
            late.await.expect("an answer").has_status(200).has_body("new");
            assert!(!story.last_asked().headers.contains_key("if-none-match"), "it was asked for whole");
            story.fills_are_done().await;
            // Fenced off where the purge took the lease away.
            story.client_asks(get("/a")).await.has_body("new");
            is_purged(&story, PurgeTarget::everything()).await;
        }
    }

    async fn a_304_from_a_service_that_cannot_be_asked_again_is_for_this_client_alone(stage) {
        let story = stage.story();
        story.origin_says(page("old"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(601));
        let gate = Gate::closed();
        story.origin_says(status(304).header("etag", "\"old\"").cache_control("max-age=600").head_after(&gate));
        let late = client(&story, get("/a"));
        is_asked(&story, 2).await;
        is_purged(&story, PurgeTarget::tag("t")).await;
        gate.open();
        late.await.expect("an answer").has_status(200).has_body("old");
        story.fills_are_done().await;
        story.origin_says(page("new"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
    }

    async fn what_was_purged_while_the_service_failed_is_not_sent_instead(stage) {
        let story = stage.story();
        for (mode, code, body) in [(PurgeMode::Soft, 200, "old"), (PurgeMode::Hard, 503, "")] {
            let page = ok("old").cache_control("max-age=60, stale-if-error=600").header("cache-tag", "t");
            story.origin_says(page);
            story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
            story.time_passes(seconds(61));
            let (asked, gate) = (story.origin.calls(), Gate::closed());
            story.origin_says(status(503).head_after(&gate));
            let late = client(&story, get("/a"));
            is_asked(&story, asked + 1).await;
            story.handle.purge([PurgeTarget::tag("t")], mode).await.expect("it is recorded");
            gate.open();
            late.await.expect("an answer").has_status(code).has_body(body);
            story.fills_are_done().await;
        }
    }
}

/// Its own record may come here before the answer to a reading of the purge clock that went out before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_post_is_good_whatever_else_is_purged_meanwhile() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 400;
    let server = RedisServer::start();
    let config = CacheConfig::new(server.url()).expect("a URL");
    let config = config.store_timeout(PATIENCE / 2).store_write_timeout(PATIENCE / 2);
    let service = RedisCacheLayer::new(config).layer(service_fn(|request: Request<ScriptBody>| async move {
        let response = Response::builder().header("cache-control", "max-age=600");
        let response = response.header("content-location", request.uri().path()).body(ScriptBody::default());
        Ok::<_, Infallible>(response.expect("a response"))
    }));
    let clients = (0..CLIENTS).map(|client| {
        let service = service.clone();
        tokio::spawn(async move {
            let ask = async |method: &str, target: &str| {
                let request = Request::builder().method(method).uri(target).header("host", "example.com");
                let request = request.body(ScriptBody::default()).expect("a request");
                let (head, body) = service.clone().oneshot(request).await.expect("an answer").into_parts();
                body.collect().await.expect("a body");
                head.headers["cache-status"].to_str().expect("text").to_owned()
            };
            for round in 0..ROUNDS {
                let target = format!("/{client}/{round}");
                let posted = ask("POST", &target).await;
                let got = ask("GET", &target).await;
                assert!(posted.ends_with("; stored") && got.contains("; hit"), "{posted}, and then {got}");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("all were hits");
    }
}
