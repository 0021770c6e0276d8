//! Asking the origin whether what is stored is still right (RFC 9111 §4.3.1 to §4.3.3).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tower_redis_cache::EmptyBody;

use crate::support::scripted::{Reply, ScriptBody, ok, status};
use crate::support::story::{Ask, Stage, Story, get, head, seconds};
use crate::{lines, octets, on_both_stores};

type Asking = fn() -> Ask;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

/// An origin with this content, which answers 304 to whoever names its tag.
fn has(story: &Story, etag: &'static str, body: &'static str, line: &'static str) {
    story.origin.answers(move |parts| {
        let known = lines(&parts.headers, "if-none-match").iter().any(|list| list.contains(etag));
        let reply = if known { status(304) } else { ok(body) };
        reply.header("etag", etag).cache_control(line)
    });
}

/// The conditions of the request that the origin got last.
fn conditions(story: &Story) -> (Vec<String>, Vec<String>) {
    let asked = story.last_asked();
    (lines(&asked.headers, "if-none-match"), lines(&asked.headers, "if-modified-since"))
}

async fn stored_and_stale(story: &Story, reply: Reply) {
    story.origin_says(reply.cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    story.time_passes(seconds(60));
}

on_both_stores! {
    async fn a_304_makes_a_stale_response_fresh_again(stage) {
        let story = stage.story();
        has(&story, "\"v1\"", "hello", "max-age=60");
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(60));
        let answer = story.client_asks(get("/a")).await;
        answer.is_forwarded_for("stale").has_forward_status(304).is_stored().has_ttl(60);
        answer.has_status(200).has_age(0).has_body("hello");
        story.time_passes(seconds(59));
        story.client_asks(get("/a")).await.is_hit().has_age(59).has_ttl(1).has_body("hello");
        story.origin_was_asked(2);
        assert_eq!(story.handle.stats().validated, 1);
    }

    async fn the_conditions_are_those_of_what_is_stored(stage) {
        let story = stage.story();
        let validators = [
            (Some("\"v1\""), None),
            (Some("W/\"v1\""), None),
            (None, Some(MODIFIED)),
            (Some("\"v1\""), Some(MODIFIED)),
        ];
        for (number, (etag, modified)) in validators.into_iter().enumerate() {
            let target = format!("/{number}");
            let reply = etag.iter().fold(ok("hello"), |reply, etag| reply.header("etag", etag));
            let reply = modified.iter().fold(reply, |reply, date| reply.header("last-modified", date));
            story.origin_says(reply.cache_control("max-age=60"));
            story.client_asks(get(&target)).await.is_stored();
            story.time_passes(seconds(60));
            story.origin_says(status(304));
            story.client_asks(get(&target)).await.has_forward_status(304).has_status(200).has_body("hello");
            let expected = |value: Option<&str>| value.map(str::to_owned).into_iter().collect::<Vec<_>>();
            assert_eq!(conditions(&story), (expected(etag), expected(modified)));
        }
    }

    /// The client's may be about something that this cache never saw.
    async fn the_conditions_of_a_client_are_not_sent_along(stage) {
        let story = stage.story();
        stored_and_stale(&story, ok("hello").header("etag", "\"v1\"").header("last-modified", MODIFIED)).await;
        story.origin_says(status(304).header("etag", "\"v1\""));
        let ask = get("/a")
            .header("if-none-match", "\"mine\"")
            .header("if-none-match", "\"other\"")
            .header("if-modified-since", LATER);
        story.client_asks(ask.header("x-own", "1")).await.has_forward_status(304).has_status(200).has_body("hello");
        assert_eq!(conditions(&story), (vec!["\"v1\"".to_owned()], vec![MODIFIED.to_owned()]));
        assert_eq!(story.last_asked().headers["x-own"], "1");
    }

    async fn a_condition_of_a_kind_that_nothing_stored_has_is_not_sent_either(stage) {
        let story = stage.story();
        stored_and_stale(&story, ok("hello").header("etag", "\"v1\"")).await;
        story.origin_says(status(304));
        story.client_asks(get("/a").header("if-modified-since", LATER)).await.has_status(200).has_body("hello");
        assert_eq!(conditions(&story), (vec!["\"v1\"".to_owned()], vec![]));
        let story = stage.story_with(|config| config.namespace("dated").expect("a namespace"));
        stored_and_stale(&story, ok("hello").header("last-modified", MODIFIED)).await;
        story.origin_says(status(304));
        story.client_asks(get("/a").header("if-none-match", "\"v1\"")).await.has_status(200).has_body("hello");
        assert_eq!(conditions(&story), (vec![], vec![MODIFIED.to_owned()]));
    }

    async fn without_a_validator_the_whole_is_asked_for(stage) {
        let story = stage.story();
        stored_and_stale(&story, ok("old")).await;
        story.origin_says(ok("new").cache_control("max-age=60").header("etag", "\"v2\""));
        story
            .client_asks(get("/a").header("if-none-match", "\"mine\"").header("if-modified-since", LATER))
            .await
            .has_body("new");
        assert_eq!(conditions(&story), (vec![], vec![]));
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }

    async fn a_200_replaces_what_is_stored(stage) {
        let story = stage.story();
        stored_and_stale(&story, ok("old").header("etag", "\"v1\"").header("x-old", "1")).await;
        story.origin_says(ok("new").header("etag", "\"v2\"").cache_control("max-age=60"));
        story
            .client_asks(get("/a"))
            .await
            .is_forwarded_for("stale")
            .has_forward_status(200)
            .is_stored()
            .has_body("new");
        story.client_asks(get("/a")).await.is_hit().has_header("etag", "\"v2\"").has_no("x-old").has_body("new");
    }

    async fn a_final_answer_of_any_other_kind_goes_to_the_client(stage) {
        let story = stage.story();
        for code in [204, 302, 400, 401, 403, 404, 410, 501, 599] {
            stored_and_stale(&story, ok("old").header("etag", "\"v1\"")).await;
            story.origin_says(status(code).body(if code == 204 { "" } else { "news" }));
            story
                .client_asks(get("/a"))
                .await
                .is_forwarded_for("stale")
                .has_forward_status(code.into())
                .has_status(code);
        }
        story.origin_says(status(410).cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(get("/a")).await.is_hit().has_status(410);
    }

    async fn a_client_that_has_it_already_gets_304_after_the_validation(stage) {
        let story = stage.story();
        has(&story, "\"v1\"", "hello", "max-age=60");
        story.client_asks(get("/a")).await.is_stored();
        for condition in ["\"v1\"", "W/\"v1\"", "\"v0\", \"v1\"", "*"] {
            story.time_passes(seconds(60));
            let answer = story.client_asks(get("/a").header("if-none-match", condition)).await;
            answer
                .is_forwarded_for("stale")
                .has_forward_status(304)
                .has_status(304)
                .has_header("etag", "\"v1\"")
                .has_body("");
            assert_eq!(conditions(&story).0, ["\"v1\""]);
        }
        story.time_passes(seconds(60));
        story.client_asks(get("/a").header("if-none-match", "\"v0\"")).await.has_status(200).has_body("hello");
    }

    async fn a_client_that_has_the_replacement_already_gets_304_and_the_whole_is_stored(stage) {
        let story = stage.story();
        stored_and_stale(&story, ok("old").header("etag", "\"v1\"")).await;
        story.origin_says(ok("new").header("etag", "\"v2\"").cache_control("max-age=60"));
        story.client_asks(get("/a").header("if-none-match", "\"v2\"")).await.has_status(304).has_body("");
        story.client_asks(get("/a")).await.is_hit().has_status(200).has_body("new");
    }

    async fn a_client_with_an_older_date_gets_the_whole_after_the_validation(stage) {
        let story = stage.story();
        let since = |date: &str| get("/a").header("if-modified-since", date);
        stored_and_stale(&story, ok("hello").header("last-modified", LATER)).await;
        story.origin_says(status(304));
        story.client_asks(since(MODIFIED)).await.has_forward_status(304).has_status(200).has_body("hello");
        assert_eq!(conditions(&story), (vec![], vec![LATER.to_owned()]));
        story.time_passes(seconds(60));
        story.client_asks(since(LATER)).await.has_forward_status(304).has_status(304).has_body("");
    }

    async fn a_request_with_no_cache_validates_what_is_fresh(stage) {
        let story = stage.story();
        has(&story, "\"v1\"", "hello", "max-age=60");
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(10));
        for (name, value) in [
            ("cache-control", "no-cache"),
            ("cache-control", "No-Cache"),
            ("cache-control", "max-age=0"),
            ("pragma", "no-cache"),
        ] {
            story.time_passes(seconds(1));
            let answer = story.client_asks(get("/a").header(name, value)).await;
            answer.is_forwarded_for("request").has_forward_status(304).has_status(200).has_body("hello");
            assert_eq!(conditions(&story).0, ["\"v1\""]);
        }
        story.client_asks(get("/a")).await.is_hit().has_age(0);
    }

    /// §5.2.2.4.
    async fn a_response_with_no_cache_is_kept_and_validated_on_each_use(stage) {
        let story = stage.story();
        for line in ["no-cache", "No-Cache, max-age=600", "max-age=600, no-cache, no-cache=\"x\""] {
            let target = format!("/{}", line.len());
            has(&story, "\"v1\"", "hello", line);
            story.client_asks(get(&target)).await.is_stored();
            let before = story.origin.calls();
            for round in 1..4 {
                let answer = story.client_asks(get(&target)).await;
                answer.has_forward_status(304).has_status(200).has_header("cache-control", line).has_body("hello");
                assert!(!answer.outcome().is_hit());
                story.origin_was_asked(before + round);
            }
            has(&story, "\"v2\"", "changed", line);
            story.client_asks(get(&target)).await.has_forward_status(200).has_body("changed");
            story.client_asks(get(&target)).await.has_forward_status(304).has_body("changed");
        }
    }

    async fn a_304_may_take_back_the_permission_to_store(stage) {
        let story = stage.story();
        for line in ["no-store", "private", "private, max-age=60"] {
            stored_and_stale(&story, ok("hello").header("etag", "\"v1\"")).await;
            story.origin_says(status(304).header("etag", "\"v1\"").cache_control(line));
            story.client_asks(get("/a")).await.is_not_stored().has_status(200).has_body("hello");
            story.origin_says(ok("whole").cache_control("no-store"));
            story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("whole");
            assert_eq!(conditions(&story), (vec![], vec![]));
        }
    }

    async fn each_variant_is_validated_by_its_own_tag_and_alone(stage) {
        let story = stage.story();
        story.origin.answers(|parts| {
            let language = parts.headers["accept-language"].to_str().expect("a language").to_owned();
            let etag = format!("\"{language}\"");
            let known = lines(&parts.headers, "if-none-match").iter().any(|list| list.contains(&etag));
            let reply = if known { status(304) } else { ok(language.clone()) };
            reply.header("etag", &etag).header("vary", "accept-language").cache_control("max-age=60")
        });
        let ask = |language: &str| get("/a").header("accept-language", language);
        story.client_asks(ask("de")).await.is_stored();
        story.client_asks(ask("en")).await.is_stored();
        story.time_passes(seconds(60));
        story.client_asks(ask("de")).await.is_forwarded_for("stale").has_forward_status(304).has_body("de");
        assert!(conditions(&story).0.iter().any(|list| list.contains("\"de\"")));
        story.client_asks(ask("de")).await.is_hit().has_header("etag", "\"de\"").has_body("de");
        story.client_asks(ask("en")).await.is_forwarded_for("stale").has_forward_status(304).has_body("en");
        story.client_asks(ask("en")).await.is_hit().has_header("etag", "\"en\"").has_body("en");
    }

    /// §4.1, §4.3.1: the origin may say that one of the stored variants is the one.
    async fn all_stored_tags_are_offered_for_a_variant_that_is_not_known(stage) {
        let story = stage.story();
        story.origin.answers(|parts| {
            let language = parts.headers["accept-language"].to_str().expect("a language").to_owned();
            let spoken = if language == "de-AT" { "de".to_owned() } else { language };
            let etag = format!("\"{spoken}\"");
            let known = lines(&parts.headers, "if-none-match").iter().any(|list| list.contains(&etag));
            let reply = if known { status(304) } else { ok(spoken.clone()) };
            reply.header("etag", &etag).header("vary", "accept-language").cache_control("max-age=60")
        });
        // A service that names none of the tags has to be asked again: the application lends an empty body for that.
        let lent = || EmptyBody::<ScriptBody>::new(|| ScriptBody::of(""));
        let ask = |language: &str| get("/a").header("accept-language", language).extension(lent());
        story.client_asks(ask("de")).await.is_stored();
        story.client_asks(ask("en")).await.is_stored();
        story
            .client_asks(ask("de-AT"))
            .await
            .is_forwarded_for("vary-miss")
            .has_forward_status(304)
            .has_status(200)
            .has_body("de");
        let offered = conditions(&story).0.join(", ");
        assert!(offered.contains("\"de\"") && offered.contains("\"en\""), "{offered}");
    }

    async fn who_asks_for_what_is_not_stored_sends_no_conditions_to_the_origin(stage) {
        let story = stage.story();
        has(&story, "\"v1\"", "hello", "max-age=60");
        story.client_asks(get("/a").header("if-none-match", "\"v1\"")).await.has_status(304);
        assert_eq!(conditions(&story), (vec![], vec![]));
        story.client_asks(get("/a")).await.is_hit().has_body("hello");
    }

    async fn a_head_for_a_stale_response_keeps_the_clients_own_conditions(stage) {
        let story = stage.story();
        stored_and_stale(&story, ok("hello").header("etag", "\"v1\"")).await;
        story.origin_says(status(304).header("etag", "\"mine\""));
        story.client_asks(head("/a").header("if-none-match", "\"mine\"")).await.has_status(304).has_body("");
        assert_eq!(conditions(&story).0, ["\"mine\""]);
    }

    /// What is said to one client, or withheld from the store for its sake, is no judgement on what all share.
    async fn the_validation_for_one_client_costs_the_others_nothing(stage) {
        let asks: [(&str, Asking); 3] = [
            ("max-age=60", || get("/a").header("cache-control", "no-store")),
            ("max-age=60", || get("/a").header("authorization", "Bearer one")),
            ("no-cache", || get("/a").header("cookie", "s=1")),
        ];
        for (number, (line, ask)) in asks.into_iter().enumerate() {
            let story = stage.story_with(|config| config.namespace(&format!("n{number}")).expect("a namespace"));
            has(&story, "\"v1\"", "hello", line);
            story.client_asks(get("/a")).await.is_stored();
            story.time_passes(seconds(60));
            story.client_asks(ask()).await.has_forward_status(304).has_status(200).has_body("hello");
            story.client_asks(get("/a")).await.has_status(200).has_body("hello");
            assert!(
                story.origin.asked().iter().skip(1).all(|asked| asked.headers.contains_key("if-none-match")),
                "{number}"
            );
        }
    }

    async fn many_validations_at_once_all_come_to_a_whole_answer(stage) {
        let story = stage.story();
        has(&story, "\"v1\"", "hello", "max-age=60");
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(60));
        let clients = (0..32).map(|_| {
            let story = story.clone();
            tokio::spawn(async move {
                story.client_asks_and_goes_on(get("/a")).await.has_status(200).has_body("hello");
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client is content");
        }
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.is_hit().has_body("hello");
    }
}

/// The keys and values of the parts of a large body.
fn parts(stage: &Stage) -> Vec<(String, Option<Vec<u8>>)> {
    let keys = stage.server().keys("*").into_iter().filter(|key| key.contains(":b:"));
    keys.map(|key| (key.clone(), stage.server().value(&key))).collect()
}

#[tokio::test]
async fn a_large_body_is_validated_without_being_written_again() {
    let stage = Stage::redis();
    let story = stage.story();
    let body = octets(600_000);
    let bodies_sent = Arc::new(AtomicUsize::new(0));
    story.origin.answers({
        let (body, bodies_sent) = (body.clone(), Arc::clone(&bodies_sent));
        move |parts| {
            let known = parts.headers.contains_key("if-none-match");
            bodies_sent.fetch_add(usize::from(!known), Ordering::SeqCst);
            let reply = if known { status(304) } else { ok(body.clone()) };
            reply.header("etag", "\"v1\"").cache_control("max-age=60")
        }
    });
    story.client_asks(get("/a")).await.is_stored().has_body(&body);
    let before = parts(&stage);
    assert!(before.len() >= 2, "a large body has parts");
    for _ in 0..3 {
        story.time_passes(seconds(60));
        stage.server().cli(&["CONFIG", "RESETSTAT"]);
        story.client_asks(get("/a")).await.has_forward_status(304).is_stored().has_body(&body);
        assert_eq!(stage.server().calls("set"), 2, "the lease, and the head alone is written");
        assert_eq!(parts(&stage), before);
        story.client_asks(get("/a")).await.is_hit().has_age(0).has_body(&body);
    }
    assert_eq!(bodies_sent.load(Ordering::SeqCst), 1);
    let ttl = |key: &str| stage.server().cli(&["PTTL", key]).parse::<i64>().expect("a number");
    let head = stage.server().keys("*").into_iter().find(|key| !key.contains(":b:")).expect("a head");
    for (key, _) in before {
        assert!(ttl(&key) >= ttl(&head), "a part outlives the head that names it");
    }
}

#[tokio::test]
async fn a_large_body_that_changed_replaces_its_parts() {
    let stage = Stage::redis();
    let story = stage.story();
    let (old, new) = (octets(600_000), octets(500_000));
    stored_and_stale(&story, ok(old).header("etag", "\"v1\"")).await;
    let before = parts(&stage);
    story.origin_says(ok(new.clone()).header("etag", "\"v2\"").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored().has_body(&new);
    story.client_asks(get("/a")).await.is_hit().has_body(&new);
    for (key, _) in before {
        let left: i64 = stage.server().cli(&["PTTL", &key]).parse().expect("a number");
        assert!(left <= 60_000, "{key} belongs to nobody and stays for {left} ms");
    }
}

#[tokio::test]
async fn a_large_body_that_lost_a_part_is_fetched_whole() {
    let stage = Stage::redis();
    let story = stage.story();
    let body = octets(600_000);
    stored_and_stale(&story, ok(body.clone()).header("etag", "\"v1\"")).await;
    assert_eq!(stage.server().cli(&["DEL", &parts(&stage)[1].0]), "1");
    story.origin_says(ok(body.clone()).header("etag", "\"v1\"").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.has_forward_status(200).has_body(&body);
    assert_eq!(conditions(&story), (vec![], vec![]), "there is nothing that a 304 could stand for");
    story.client_asks(get("/a")).await.is_hit().has_body(&body);
}
