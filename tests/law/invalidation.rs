//! What an unsafe request ends (RFC 9111 §4.4).

use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{Reply, failure, ok, status};
use crate::support::story::{Stage, Story, ask, get, head, seconds};

/// These targets are stored, fresh and hits.
async fn has_pages(story: &Story, targets: &[&str]) {
    for target in targets {
        story.origin_says(ok("before").cache_control("max-age=600"));
        story.client_asks(get(target).header("cache-control", "no-cache")).await.is_stored();
        story.client_asks(get(target)).await.is_hit();
    }
}

/// Whether the target is still answered from the cache; asks nobody.
async fn is_cached(story: &Story, target: &str) -> bool {
    story.client_asks(get(target).header("cache-control", "only-if-cached")).await.outcome().is_hit()
}

async fn is_changed(story: &Story, method: &str, target: &str, reply: Reply) {
    story.origin_says(reply);
    story.client_asks(ask(method, target).body("x=1")).await.is_forwarded_for("method");
}

on_both_stores! {
    async fn every_method_that_is_not_known_to_be_safe_ends_its_target(stage) {
        let story = stage.story();
        for method in ["POST", "PUT", "DELETE", "PATCH", "MKCOL", "LOCK", "FROB", "post", "get"] {
            has_pages(&story, &["/a?q=1", "/a", "/a?q=2"]).await;
            is_changed(&story, method, "/a?q=1", status(204)).await;
            assert!(!is_cached(&story, "/a?q=1").await, "{method}");
            assert!(is_cached(&story, "/a").await && is_cached(&story, "/a?q=2").await, "{method}: another URI");
        }
    }

    async fn a_method_that_is_safe_ends_nothing(stage) {
        let story = stage.story();
        has_pages(&story, &["/a"]).await;
        for method in ["OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH"] {
            story.origin_says(ok("x").header("location", "/a").header("content-location", "/a"));
            story.client_asks(ask(method, "/a")).await.is_forwarded_for("method");
            assert!(is_cached(&story, "/a").await, "{method}");
        }
    }

    async fn only_what_succeeds_or_redirects_ends_anything(stage) {
        let story = stage.story();
        for code in [200, 201, 202, 204, 205, 226, 299, 301, 302, 303, 307, 308] {
            has_pages(&story, &["/a"]).await;
            is_changed(&story, "POST", "/a", status(code)).await;
            assert!(!is_cached(&story, "/a").await, "{code}");
        }
        has_pages(&story, &["/a", "/b", "/c"]).await;
        for code in [400, 401, 403, 404, 405, 409, 412, 422, 429, 500, 501, 502, 503, 504, 599] {
            let reply = status(code).header("location", "/b").header("content-location", "/c");
            is_changed(&story, "POST", "/a", reply).await;
            for target in ["/a", "/b", "/c"] {
                assert!(is_cached(&story, target).await, "{code} {target}");
            }
        }
        story.origin_says(failure("connection refused"));
        story.client_tries(ask("POST", "/a")).await.expect_err("the origin fails");
        assert!(is_cached(&story, "/a").await);
    }

    async fn what_location_and_content_location_name_ends_too(stage) {
        let story = stage.story();
        for field in ["location", "content-location"] {
            for (reference, ended) in [
                ("/other", "/other"),
                ("/other#part", "/other"),
                ("http://example.com/other", "/other"),
                ("http://EXAMPLE.com:80/other", "/other"),
                ("http://example.com/other?q=1", "/other?q=1"),
                ("sister", "/shop/sister"),
                ("./sister", "/shop/sister"),
                ("../other", "/other"),
                ("../../../other", "/other"),
                ("deep/er?q=1", "/shop/deep/er?q=1"),
                ("?page=2", "/shop/cart?page=2"),
                (".", "/shop/"),
                ("..", "/"),
            ] {
                has_pages(&story, &["/shop/cart", ended, "/bystander"]).await;
                is_changed(&story, "POST", "/shop/cart", status(201).header(field, reference)).await;
                assert!(!is_cached(&story, ended).await, "{field}: {reference}");
                assert!(!is_cached(&story, "/shop/cart").await, "{field}: {reference}: the target itself");
                assert!(is_cached(&story, "/bystander").await, "{field}: {reference}");
            }
        }
    }

    async fn both_fields_count_at_once(stage) {
        let story = stage.story();
        has_pages(&story, &["/a", "/b", "/c"]).await;
        is_changed(&story, "DELETE", "/a", status(200).header("location", "/b").header("content-location", "/c")).await;
        for target in ["/a", "/b", "/c"] {
            assert!(!is_cached(&story, target).await, "{target}");
        }
    }

    /// §4.4: the origin of the URI has to be the same. Else one site could empty another's cache.
    async fn what_belongs_to_another_origin_stays(stage) {
        let story = stage.story();
        let host = "victim.example";
        story.origin_says(ok("theirs").cache_control("max-age=600"));
        for target in ["/other", "https://victim.example/other", "http://victim.example:8080/other"] {
            let ask = get(target);
            let ask = if target.starts_with('/') { ask.host(host) } else { ask.without("host") };
            story.client_asks(ask).await.is_stored();
        }
        for reference in [
            "http://victim.example/other",
            "https://victim.example/other",
            "//victim.example/other",
            "http://victim.example:8080/other",
            "http://example.com@victim.example/other",
        ] {
            for field in ["location", "content-location"] {
                is_changed(&story, "POST", "/a", status(201).header(field, reference)).await;
                story.client_asks(get("/other").host(host)).await.is_hit();
                story.client_asks(get("https://victim.example/other").without("host")).await.is_hit();
                story.client_asks(get("http://victim.example:8080/other").without("host")).await.is_hit();
            }
        }
        let target = "http://victim.example/a";
        for reference in ["https://victim.example/other", "http://victim.example:8080/other"] {
            story.origin_says(status(201).header("location", reference));
            story.client_asks(ask("POST", target).without("host")).await.has_status(201);
            let answer = story.client_asks(get(reference).without("host")).await;
            assert!(answer.outcome().is_hit(), "{reference}");
        }
        has_pages(&story, &["/other"]).await;
        is_changed(&story, "POST", "/a", status(201).header("location", "http://example.com:8080/other")).await;
        assert!(is_cached(&story, "/other").await, "another port is another origin");
    }

    /// Behind a listener that ends TLS the service knows that it is https, and the request in origin form does not say so.
    async fn a_target_without_a_scheme_is_ended_by_its_name_under_either(stage) {
        let story = stage.story();
        for reference in ["http://example.com/other", "https://example.com/other", "https://EXAMPLE.com:443/other"] {
            has_pages(&story, &["/other"]).await;
            is_changed(&story, "POST", "/a", status(201).header("location", reference)).await;
            assert!(!is_cached(&story, "/other").await, "{reference}");
        }
    }

    async fn a_location_that_is_no_reference_harms_nobody(stage) {
        let story = stage.story();
        has_pages(&story, &["/b"]).await;
        for junk in ["", "http://", "://", "http://[", "/b c", "%%", "mailto:x@example.com", "\u{e9}"] {
            has_pages(&story, &["/a"]).await;
            is_changed(&story, "POST", "/a", status(201).header("location", junk)).await;
            assert!(!is_cached(&story, "/a").await, "{junk:?}");
            assert!(is_cached(&story, "/b").await, "{junk:?}");
        }
    }

    async fn all_variants_of_all_named_targets_end(stage) {
        let story = stage.story();
        for target in ["/a", "/b"] {
            story.origin_says(ok("before").cache_control("max-age=600").header("vary", "accept"));
            for accept in ["x", "y", "z"] {
                story.client_asks(get(target).header("accept", accept)).await.is_stored();
            }
        }
        is_changed(&story, "PUT", "/a", status(204).header("content-location", "/b")).await;
        story.origin_says(status(404));
        for target in ["/a", "/b"] {
            for accept in ["x", "y", "z"] {
                story.client_asks(get(target).header("accept", accept)).await.has_status(404);
            }
        }
    }

    async fn what_is_ended_is_not_revived_by_staleness_nor_validation(stage) {
        let story = stage.story();
        story.origin_says(
            ok("before")
                .cache_control("max-age=60, stale-while-revalidate=600, stale-if-error=600")
                .header("etag", "\"v1\""),
        );
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        is_changed(&story, "POST", "/a", status(204)).await;
        story.client_asks(get("/a").header("cache-control", "max-stale, only-if-cached")).await.has_status(504);
        story.origin_says(status(503));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_status(503);
        assert!(!story.last_asked().headers.contains_key("if-none-match"));
    }

    /// What was fetched before a change does not outlive it, however long it took.
    async fn a_slow_fill_from_before_does_not_undo_it(stage) {
        let story = stage.story();
        for (method, target, location) in
            [("POST", "/a", None), ("PUT", "/b", Some("/a")), ("DELETE", "/b", Some("http://example.com/a"))]
        {
            let gate = Gate::closed();
            story.origin_says(ok("").chunks(["be"]).waits_for(&gate).chunks(["fore"]).cache_control("max-age=600"));
            let mut slow = story.client_begins(get("/a").header("cache-control", "no-cache")).await;
            slow.receives("be").await;
            let reply = location.into_iter().fold(status(204), |reply, location| reply.header("location", location));
            story.origin_says(reply);
            story.client_asks_and_goes_on(ask(method, target)).await.has_status(204);
            gate.open();
            slow.reads_to_the_end().await.has_body("before");
            story.fills_are_done().await;
            assert!(!is_cached(&story, "/a").await, "{method}");
        }
    }

    async fn a_slow_head_from_before_does_not_undo_it(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(ok("before").cache_control("max-age=600").head_after(&gate));
        let slow = tokio::spawn({
            let story = story.clone();
            async move { story.client_asks_and_goes_on(get("/a")).await }
        });
        eventually("the origin is asked", || story.origin.calls() == 1).await;
        story.origin_says(status(204));
        story.client_asks_and_goes_on(ask("POST", "/a")).await.has_status(204);
        gate.open();
        slow.await.expect("the client is content").has_body("before");
        story.fills_are_done().await;
        assert!(!is_cached(&story, "/a").await);
    }

    async fn a_validation_from_before_does_not_undo_it(stage) {
        let story = stage.story();
        story.origin_says(ok("before").cache_control("max-age=60").header("etag", "\"v1\""));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(60));
        let gate = Gate::closed();
        story.origin_says(status(304).header("etag", "\"v1\"").head_after(&gate));
        let slow = tokio::spawn({
            let story = story.clone();
            async move { story.client_asks_and_goes_on(get("/a")).await }
        });
        eventually("the origin is asked", || story.origin.calls() == 2).await;
        story.origin_says(status(204));
        story.client_asks_and_goes_on(ask("POST", "/a")).await.has_status(204);
        gate.open();
        slow.await.expect("the client is content").has_body("before");
        story.fills_are_done().await;
        assert!(!is_cached(&story, "/a").await);
    }

    async fn a_refresh_from_before_does_not_undo_it(stage) {
        let story = stage.story();
        story.origin_says(ok("before").cache_control("max-age=60, stale-while-revalidate=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        let gate = Gate::closed();
        story.origin_says(ok("before").cache_control("max-age=60").head_after(&gate));
        story.client_asks_and_goes_on(get("/a")).await.is_hit();
        eventually("the origin is asked", || story.origin.calls() == 2).await;
        story.origin_says(status(204));
        story.client_asks_and_goes_on(ask("POST", "/a")).await.has_status(204);
        gate.open();
        story.fills_are_done().await;
        assert!(!is_cached(&story, "/a").await);
    }

    async fn a_client_that_does_not_read_the_answer_has_changed_it_all_the_same(stage) {
        let story = stage.story();
        has_pages(&story, &["/a", "/b"]).await;
        story.origin_says(ok("").chunks(["one "]).then_hangs().header("location", "/b"));
        story.client_begins(ask("POST", "/a")).await.leaves();
        story.fills_are_done().await;
        assert!(!is_cached(&story, "/a").await && !is_cached(&story, "/b").await);
    }

    async fn a_head_says_after_a_change_what_a_get_would(stage) {
        let story = stage.story();
        has_pages(&story, &["/a"]).await;
        is_changed(&story, "PUT", "/a", status(204)).await;
        story.origin_says(status(404));
        story.client_asks(head("/a")).await.is_forwarded_for("uri-miss").has_status(404);
    }
}

#[tokio::test]
async fn the_client_leaving_does_not_stop_it() {
    let stage = Stage::redis();
    let story = stage.story();
    has_pages(&story, &["/a", "/b"]).await;
    story.origin_says(status(204).header("location", "/b"));
    let before = story.handle.stats().fills_in_flight;
    stage.server().stop();
    let client = tokio::spawn({
        let story = story.clone();
        async move { drop(story.client_tries(ask("POST", "/a")).await) }
    });
    eventually("the removal is under way", || story.handle.stats().fills_in_flight > before).await;
    client.abort();
    assert!(client.await.expect_err("the client left").is_cancelled());
    stage.server().cont();
    story.fills_are_done().await;
    assert!(!is_cached(&story, "/a").await && !is_cached(&story, "/b").await);
}

#[tokio::test]
async fn what_one_instance_changes_ends_for_all() {
    let stage = Stage::redis();
    let (one, other) = (stage.story(), stage.story());
    has_pages(&one, &["/a", "/b"]).await;
    assert!(is_cached(&other, "/a").await && is_cached(&other, "/b").await);
    is_changed(&other, "POST", "/a", status(303).header("location", "/b")).await;
    assert!(!is_cached(&one, "/a").await && !is_cached(&one, "/b").await);
}
