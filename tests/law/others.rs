//! What other caches were found to do wrong, one test for each: to whom an answer goes, and for how long.

use tower_redis_cache::CacheConfig;

use crate::on_both_stores;
use crate::support::scripted::{Reply, failure, ok, status};
use crate::support::story::{Ask, Story, ask, get, seconds};

/// An origin that says whose page it is, and counts on nobody else seeing it.
fn speaks_of_its_reader(story: &Story, reply: impl Fn(Reply) -> Reply + Send + Sync + 'static) {
    story.origin.answers(move |parts| {
        let field = |name| parts.headers.get(name).map_or("nobody", |value| value.to_str().expect("ASCII"));
        let text = format!("{} {} {} {}", field("host"), parts.uri, field("authorization"), field("accept-language"));
        reply(ok(text))
    });
}

/// The second request gets an answer of its own.
async fn are_apart(story: &Story, one: Ask, other: Ask) {
    let first = story.client_asks(one).await;
    let second = story.client_asks(other).await;
    assert!(!second.outcome().is_hit());
    assert_ne!(first.body(), second.body());
}

/// A way to have a lifetime: by settings, by the response's own word, or by both.
struct Lifetime {
    settings: fn(CacheConfig) -> CacheConfig,
    lines: &'static [(&'static str, &'static str)],
}

fn lifetimes() -> [Lifetime; 5] {
    let stated = |lines| Lifetime { settings: |config| config, lines };
    let by_default = |lines| Lifetime { settings: |config| config.default_ttl(seconds(60)), lines };
    [
        stated(&[("cache-control", "max-age=60")]),
        stated(&[("expires", "Fri, 31 Dec 9999 23:59:59 GMT")]),
        by_default(&[("cache-control", "public")]),
        by_default(&[]),
        Lifetime { settings: |config| config.fixed_ttl(seconds(60)), lines: &[] },
    ]
}

fn with_lines(reply: Reply, lines: &[(&str, &str)]) -> Reply {
    lines.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
}

on_both_stores! {
    // A cache served one user's page, with its cookie, to another user of another host, past Vary: * and max-age=0.
    async fn one_users_page_is_no_other_users(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        speaks_of_its_reader(&story, |reply| {
            reply.cache_control("max-age=0, must-revalidate").header("vary", "*").header("set-cookie", "session=1")
        });
        are_apart(
            &story,
            get("/a").host("a.example").header("authorization", "alice"),
            get("/a").host("b.example").header("authorization", "bob"),
        )
        .await;
        speaks_of_its_reader(&story, |reply| reply.cache_control("max-age=60"));
        are_apart(&story, get("/b").host("a.example"), get("/b").host("b.example")).await;
        are_apart(&story, get("/c").header("authorization", "alice"), get("/c").header("authorization", "bob")).await;
        are_apart(&story, get("http://a.example:1/d").without("host"), get("http://a.example:2/d").without("host"))
            .await;
    }

    // A cache filled its store of parts before it looked whether the response was private, and kept them for ever.
    async fn the_parts_of_a_private_response_are_nobody_elses(stage) {
        let story = stage.story();
        for line in ["private, max-age=60", "no-store"] {
            story.origin_says(ok("alice's 0123456789").cache_control(line).header("etag", "\"v1\""));
            story.client_asks(get("/a")).await.is_not_stored();
            story.origin_says(status(206).body("bo").header("content-range", "bytes 0-1/20").cache_control(line));
            story
                .client_asks(get("/a").header("range", "bytes=0-1"))
                .await
                .is_forwarded_for("uri-miss")
                .has_status(206)
                .has_body("bo");
        }
    }

    // A cache refreshed without the fields of the request, and so fetched another variant, or nobody's.
    async fn a_refresh_asks_as_its_client_asked(stage) {
        let story = stage.story();
        let line = "public, max-age=60, stale-while-revalidate=60";
        speaks_of_its_reader(&story, move |reply| reply.cache_control(line).header("vary", "accept-language"));
        let ask = |language: &str| {
            get("/a?q=1").header("accept-language", language).header("x-own", "1").header("authorization", "alice")
        };
        for language in ["de", "en"] {
            story.client_asks(ask(language)).await.is_stored();
        }
        story.time_passes(seconds(61));
        story.client_asks(ask("en")).await.is_hit().has_ttl(-1);
        let asked = story.last_asked();
        assert_eq!(
            (asked.uri.to_string(), asked.headers["accept-language"].clone()),
            ("/a?q=1".to_owned(), "en".parse().expect("a value"))
        );
        assert_eq!(
            (asked.headers["x-own"].clone(), asked.headers["host"].clone()),
            ("1".parse().expect("a value"), "example.com".parse().expect("a value"))
        );
        story.client_asks(ask("en")).await.is_hit().has_ttl(60).has_body("example.com /a?q=1 alice en");
        story.client_asks(ask("de")).await.is_hit().has_ttl(-1).has_body("example.com /a?q=1 alice de");
    }

    // A cache answered POST from what it had stored of another POST; others cached PUT and DELETE.
    async fn no_unsafe_request_is_ever_answered_from_the_cache(stage) {
        let story = stage.story_with(|config| config.fixed_ttl(seconds(60)));
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            for body in ["one", "two"] {
                story.origin_says(ok(body).cache_control("public, max-age=60"));
                story.client_asks(ask(method, "/a").body("x")).await.is_forwarded_for("method").has_body(body);
            }
            story.origin_says(ok("page").cache_control("max-age=60"));
            story.client_asks(get("/a")).await.has_body("page");
        }
    }

    // In a cache a lifetime that was not max-age switched the checks of Vary, URI and credentials off.
    async fn wherever_a_lifetime_comes_from_the_checks_are_the_same(stage) {
        for (number, Lifetime { settings, lines }) in lifetimes().into_iter().enumerate() {
            let story =
                stage.story_with(|config| settings(config).namespace(&format!("n{number}")).expect("a namespace"));
            speaks_of_its_reader(&story, move |reply| with_lines(reply, lines));
            are_apart(&story, get("/a?page=1"), get("/a?page=2")).await;
            are_apart(&story, get("/b").header("authorization", "alice"), get("/b").header("authorization", "bob"))
                .await;
            speaks_of_its_reader(&story, move |reply| with_lines(reply, lines).header("vary", "accept-language"));
            are_apart(&story, get("/c").header("accept-language", "de"), get("/c").header("accept-language", "en"))
                .await;
            story.client_asks(get("/c").header("accept-language", "de")).await.is_hit();
            speaks_of_its_reader(&story, move |reply| with_lines(reply, lines).header("set-cookie", "session=1"));
            are_apart(&story, get("/d").header("accept-language", "de"), get("/d").header("accept-language", "en"))
                .await;
        }
    }

    // In a cache `public` without a lifetime shared what answered credentials.
    async fn a_default_lifetime_shares_nothing_that_answers_credentials(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)).fixed_ttl(seconds(60)));
        speaks_of_its_reader(&story, |reply| reply.cache_control("public"));
        are_apart(&story, get("/a").header("authorization", "alice"), get("/a").header("authorization", "bob")).await;
    }

    // The default key of a cache dropped the query; that of another dropped the host.
    async fn the_default_key_is_the_whole_uri(stage) {
        let story = stage.story();
        speaks_of_its_reader(&story, |reply| reply.cache_control("max-age=60"));
        are_apart(&story, get("/a?q=1"), get("/a?q=2")).await;
        are_apart(&story, get("/b"), get("/b?")).await;
        are_apart(&story, get("/c").host("a.example"), get("/c").host("b.example")).await;
    }

    // A cache read the first line of Cache-Control only.
    async fn the_second_line_of_cache_control_counts(stage) {
        let story = stage.story();
        for second in ["no-store", "private", "no-cache"] {
            story.origin_says(ok("x").cache_control("max-age=60").cache_control(second));
            story.client_asks(get("/a")).await.is_not_stored().has_detail(second);
        }
    }

    // A cache did not hold explicit lifetimes to its own maximum.
    async fn the_maximum_bounds_every_lifetime(stage) {
        for (number, Lifetime { settings, lines }) in lifetimes().into_iter().enumerate() {
            let story = stage.story_with(|config| {
                settings(config).max_ttl(seconds(5)).namespace(&format!("n{number}")).expect("a namespace")
            });
            story.origin_says(with_lines(ok("x"), lines));
            story.client_asks(get("/a")).await.is_stored().has_ttl(5);
            story.time_passes(seconds(5));
            assert!(!story.client_asks(get("/a")).await.outcome().is_hit());
        }
    }

    // A cache had room for one variant of a URI: each displaced the other.
    async fn variants_do_not_displace_each_other(stage) {
        let story = stage.story();
        speaks_of_its_reader(&story, |reply| reply.cache_control("max-age=60").header("vary", "accept-language"));
        for language in ["de", "en", "fr", "it"] {
            story.client_asks(get("/a").header("accept-language", language)).await.is_stored();
        }
        for language in ["de", "en", "fr", "it"] {
            let body = format!("example.com /a nobody {language}");
            story.client_asks(get("/a").header("accept-language", language)).await.is_hit().has_body(body);
        }
    }

    // In a cache those who asked at the same time were handed one answer, whosever it was.
    async fn who_asks_at_the_same_time_gets_an_answer_of_ones_own(stage) {
        let story = stage.story();
        speaks_of_its_reader(&story, |reply| reply.cache_control("private"));
        let clients = (0..32).map(|number| {
            let story = story.clone();
            tokio::spawn(async move {
                let user = format!("user-{number}");
                let answer = story.client_asks_and_goes_on(get("/a").header("authorization", &user)).await;
                answer.has_body(format!("example.com /a {user} nobody"));
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client is content");
        }
    }

    // A cache let any client empty it with a field of its own; another with a method.
    async fn a_client_has_no_field_that_empties_the_cache(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        for name in [
            "x-invalidate-cache",
            "x-purge",
            "x-cache-control",
            "cdn-cache-control",
            "surrogate-control",
            "clear-site-data",
        ] {
            story.client_asks(get("/a").header(name, "no-store, true, \"*\"")).await.is_hit();
        }
        story.origin_says(status(405));
        story.client_asks(ask("PURGE", "/a")).await.has_status(405);
        story.client_asks(get("/a")).await.is_hit();
    }

    // A cache forced responses with a cookie to be stale, and then sent them stale: the cookie went to others.
    async fn a_cookie_is_not_replayed_by_way_of_staleness(stage) {
        let story = stage.story_with(|config| config.stale_while_revalidate(seconds(600)).stale_if_error(seconds(600)));
        let reply =
            ok("x").cache_control("max-age=0, stale-while-revalidate=600, stale-if-error=600").header("etag", "\"v1\"");
        story.origin_says(reply.header("set-cookie", "session=alice"));
        story.client_asks(get("/a")).await.is_not_stored();
        story.origin_says(status(503));
        story.client_asks(get("/a").header("cache-control", "max-stale")).await.has_status(503).has_no("set-cookie");
        story.origin_says(failure("refused"));
        story.client_tries(get("/a")).await.expect_err("there is nothing to send instead");
    }

    // A cache stored every 401 and 206 for a default time.
    async fn an_error_has_no_default_lifetime(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        for code in [206, 401, 403, 404, 407, 500, 503] {
            story.origin_says(status(code));
            story.client_asks(get("/a")).await.is_not_stored();
        }
    }

    // A cache ignored the directives of requests; another did not end what a change had made wrong.
    async fn requests_have_a_say_and_changes_are_heard(stage) {
        let story = stage.story();
        story.origin_says_in_turn(["one", "two", "three"].map(|body| ok(body).cache_control("max-age=60")));
        story.client_asks(get("/a")).await.has_body("one");
        story.client_asks(get("/a").header("cache-control", "no-cache")).await.has_body("two");
        story.client_asks(ask("POST", "/a")).await.has_body("three");
        story.origin_says(ok("four").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.has_body("four");
    }
}
