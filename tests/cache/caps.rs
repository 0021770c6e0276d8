//! What is too large for the cache still reaches the client whole.

use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::ok;
use crate::support::story::get;

on_both_stores! {
    async fn a_body_that_is_known_to_be_too_large_is_refused_at_once(stage) {
        let story = stage.story_with(|config| config.max_body_size(1000));
        let body = "x".repeat(1001);
        let by_field = ok("").chunks([body.clone()]).cache_control("max-age=60").header("content-length", "1001");
        story.origin_says(by_field);
        story.client_asks(get("/a")).await.is_not_stored().has_detail("body-size").has_body(&body);
        let by_hint = ok(body.clone()).cache_control("max-age=60");
        story.origin_says(by_hint);
        story.client_asks(get("/b")).await.is_not_stored().has_detail("body-size").has_body(&body);
        assert_eq!(story.handle.stats().abandoned, 0, "nothing was recorded");
    }

    async fn a_body_as_large_as_the_cap_is_stored(stage) {
        let story = stage.story_with(|config| config.max_body_size(1000));
        let body = "x".repeat(1000);
        story.origin_says(ok(body.clone()).cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a")).await.is_hit().has_body(&body);
    }

    async fn a_body_that_grows_too_large_is_given_up_while_the_client_goes_on(stage) {
        let story = stage.story_with(|config| config.max_body_size(1000));
        let chunk = "x".repeat(400);
        story.origin_says(ok("").chunks([&chunk; 5].map(|chunk| chunk.clone())).cache_control("max-age=60"));
        story.client_asks(get("/a")).await.has_body("x".repeat(2000));
        assert_eq!(story.handle.stats().abandoned, 1);
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss");
    }

    async fn what_is_given_up_is_let_go_at_the_cap_and_not_at_the_end(stage) {
        let story = stage.story_with(|config| config.max_body_size(1000));
        let gate = Gate::closed();
        let reply = ok("").chunks(["x".repeat(900), "x".repeat(200)]).waits_for(&gate).chunks(["end"]).cache_control("max-age=60");
        story.origin_says(reply);
        let mut opened = story.client_begins(get("/a")).await;
        opened.receives(&"x".repeat(900)).await;
        opened.receives(&"x".repeat(200)).await;
        eventually("the recording is let go", || story.handle.stats().bytes_in_flight == 0).await;
        gate.open();
        opened.reads_to_the_end().await.has_body("x".repeat(1100) + "end");
    }

    async fn too_large_a_head_is_not_stored(stage) {
        let story = stage.story_with(|config| config.max_head_size(1000));
        story.origin_says(ok("x").cache_control("max-age=60").header("x-large", &"y".repeat(1000)));
        story.client_asks(get("/a")).await.is_not_stored().has_detail("head-size").has_body("x");
    }

    async fn too_many_fields_are_not_stored(stage) {
        let story = stage.story_with(|config| config.max_fields(10));
        let reply = (0..10).fold(ok("x").cache_control("max-age=60"), |reply, number| reply.header("x-many", &number.to_string()));
        story.origin_says(reply);
        story.client_asks(get("/a")).await.is_not_stored().has_detail("fields").has_body("x");
    }

    async fn the_bodies_in_memory_are_bounded_all_requests_together(stage) {
        let story = stage.story_with(|config| config.max_body_size(1000).max_inflight_bytes(2500));
        let gate = Gate::closed();
        let body = "x".repeat(900);
        story.origin_says(ok("").chunks([body.clone()]).waits_for(&gate).chunks(["end"]).cache_control("max-age=60"));
        let mut clients = Vec::new();
        for number in 0..6 {
            let mut opened = story.client_begins(get(&format!("/{number}"))).await;
            opened.receives(&body).await;
            assert!(story.handle.stats().bytes_in_flight <= 2500, "{:?}", story.handle.stats());
            clients.push(opened);
        }
        gate.open();
        for client in clients {
            client.reads_to_the_end().await.has_body(format!("{body}end"));
        }
        story.fills_are_done().await;
        assert_eq!(story.handle.stats().bytes_in_flight, 0);
        // On the way to Redis a body may wait a moment for what others give back.
        let stats = story.handle.stats();
        assert!(stats.stored >= 2 && stats.stored + stats.abandoned == 6, "{stats:?}");
        story.client_asks(get("/later")).await;
        story.client_asks(get("/later")).await.is_hit();
    }
}
