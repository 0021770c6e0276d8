//! Redirects: followed so many times, to allowed origins, without what was asked of the first URL alone.

use hyper::Method;

use crate::support::origin::{Origin, Script};
use crate::troupe::{GOOD, Stage, ask, ask_with};

fn to(status: &str, location: &str) -> Script {
    Script::status(status).header("location", location).body("moved")
}

fn fresh(body: &str) -> Script {
    Script::ok(body).header("cache-control", "max-age=60")
}

#[tokio::test]
async fn redirects_are_followed_and_what_they_lead_to_is_kept_for_the_first_url() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    let statuses = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"];
    for (status, index) in statuses.iter().zip(0..) {
        let (path, target) = (format!("/from/{index}"), format!("/end/{index}"));
        stage.origin.says(&path, to(status, &format!("../end/{index}#part")));
        stage.origin.says(&target, fresh("the end"));
        ask(&gateway, &[("url", &stage.url(&path))]).await.is(200, "the end");
        assert!(ask(&gateway, &[("url", &stage.url(&path))]).await.is_hit());
        assert_eq!((stage.origin.count(&path), stage.origin.count(&target)), (1, 1));
    }
}

/// What depends on the client, or changes soon, is not kept in the place of the redirect.
#[tokio::test]
async fn a_redirect_for_some_or_for_a_moment_is_followed_each_time() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/end", fresh("the end"));
    let fields = [
        ("vary", "accept-language"),
        ("set-cookie", "a=b"),
        ("cache-control", "max-age=0"),
        ("cache-control", "public, s-maxage=\"5\""),
        ("cdn-cache-control", "max-age=5"),
        ("cache-control", "no-store, x=\"\u{fc}\""),
        ("expires", "0"),
    ];
    for ((name, value), index) in fields.iter().zip(0..) {
        let path = format!("/from/{index}");
        stage.origin.says(&path, to("302 Found", "/end").header(name, value));
        for _ in 0..2 {
            let heard = ask(&gateway, &[("url", &stage.url(&path))]).await;
            heard.is(200, "the end");
            assert!(!heard.is_hit(), "{name}: {value}");
        }
        assert_eq!(stage.origin.count(&path), 2, "{name}: {value}");
    }
    stage.origin.says("/from/all", to("301 Moved", "/end").header("cache-control", "public, max-age=3600"));
    ask(&gateway, &[("url", &stage.url("/from/all"))]).await.is(200, "the end");
    assert!(ask(&gateway, &[("url", &stage.url("/from/all"))]).await.is_hit());
}

#[tokio::test]
async fn redirects_have_an_end() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    for hop in 0..4 {
        stage.origin.says(&format!("/hop/{hop}"), to("302 Found", &format!("/hop/{}", hop + 1)));
    }
    stage.origin.says("/hop/4", fresh("the end"));
    ask(&gateway, &[("url", &stage.url("/hop/1"))]).await.is(200, "the end");
    ask(&gateway, &[("url", &stage.url("/hop/0"))]).await.is(502, "more than 3 times");
    stage.origin.says("/round", to("302 Found", "/round"));
    ask(&gateway, &[("url", &stage.url("/round"))]).await.is(502, "more than 3 times");
    assert_eq!(stage.origin.count("/round"), 4);
}

#[tokio::test]
async fn a_redirect_to_an_origin_that_is_not_listed_is_not_followed() {
    let stage = Stage::new().await;
    let elsewhere = Origin::start_at(GOOD).await;
    elsewhere.says("/", fresh("elsewhere"));
    stage.liar.says("elsewhere.example", [vec![GOOD.into()]]);
    let origin = format!("http://elsewhere.example:{}", elsewhere.port());
    stage.origin.says("/out", to("302 Found", &format!("{origin}/")));
    let heard = ask(&stage.gateway(), &[("url", &stage.url("/out"))]).await;
    heard.is(502, "not on the list of allowed origins");
    heard.is(502, &origin);
    assert_eq!((elsewhere.connections(), stage.liar.asked("elsewhere.example")), (0, 0));
    // The same where it is listed.
    let stage = stage.allowing([origin]);
    ask(&stage.gateway(), &[("url", &stage.url("/out"))]).await.is(200, "elsewhere");
}

#[tokio::test]
async fn a_redirect_to_what_is_no_url_to_fetch_is_not_followed() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    let good = format!("good.example:{}", stage.origin.port());
    for (location, words) in [
        (format!("http://user@{good}/"), "a user or a password"),
        ("file:///etc/passwd".to_owned(), "neither http nor https"),
        ("http://[::1".to_owned(), "cannot be read"),
        ("\u{ff}".to_owned(), "cannot be read"),
        (format!("https://{good}/"), "not on the list"),
        ("//good.example/".to_owned(), "not on the list"),
    ] {
        stage.origin.says("/out", to("302 Found", &location));
        ask(&gateway, &[("url", &stage.url("/out"))]).await.is(502, words);
    }
    // What is no redirect passes, without a place to go to.
    stage.origin.says("/choice", to("300 Multiple Choices", "http://evil.example/"));
    let choice = ask(&gateway, &[("url", &stage.url("/choice"))]).await;
    assert_eq!((choice.status.as_u16(), choice.value("location")), (300, None));
}

#[tokio::test]
async fn a_condition_is_for_the_first_url_alone() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/from", to("302 Found", "/end"));
    let stale = |body| Script::ok(body).header("cache-control", "max-age=0").header("etag", "\"1\"");
    stage.origin.says_in_turn("/end", [stale("one"), stale("two")]);
    let from = stage.url("/from");
    ask(&gateway, &[("url", &from)]).await.is(200, "one");
    ask(&gateway, &[("url", &from)]).await.is(200, "two");
    ask_with(&gateway, &Method::GET, &[("url", &from)], &[("range", "bytes=0-0"), ("if-range", "\"x\"")]).await;
    let received = stage.origin.received();
    let conditions: Vec<_> = received.iter().map(|request| request.values("if-none-match").len()).collect();
    assert_eq!(conditions[..4], [0, 0, 1, 0], "{received:?}");
    assert!(received.iter().filter(|request| request.target() == "/end").all(|end| end.values("if-range").is_empty()));
}

#[tokio::test]
async fn what_a_redirect_led_to_is_not_validated_by_another_that_has_its_validator_by_chance() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    let from = stage.url("/from");
    let dated = |script: Script| script.header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    stage.origin.says("/from", to("302 Found", "/end"));
    stage.origin.says("/end", dated(fresh("the end").header("etag", "W/\"1\"")));
    let first = ask(&gateway, &[("url", &from)]).await;
    let tag = first.value("etag").expect("an entity tag");
    assert!(tag.starts_with("W/\"1-at-") && tag.ends_with('"'), "{tag}");
    assert_eq!(first.value("last-modified"), None);
    // It is good for what is stored, and nothing of it matches what the first URL gives out.
    let unchanged = ask_with(&gateway, &Method::GET, &[("url", &from)], &[("if-none-match", tag)]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.is_hit()), (304, true));
    ask_with(&gateway, &Method::GET, &[("url", &from)], &[("cache-control", "no-cache")]).await.is(200, "the end");
    let received = stage.origin.received();
    let again = received.iter().filter(|request| request.target() == "/from").nth(1).expect("a second request");
    assert_eq!((again.values("if-none-match"), again.values("if-modified-since").len()), (vec![tag], 0));
}

#[tokio::test]
async fn what_a_redirect_forbids_to_keep_is_not_kept() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    for (name, value) in
        [("cache-control", "no-store"), ("cache-control", "Private"), ("cdn-cache-control", "no-cache")]
    {
        stage.origin.says("/from", to("302 Found", "/end").header(name, value));
        stage.origin.says("/end", fresh("the end").header("cdn-cache-control", "max-age=60"));
        let before = stage.origin.count("/from");
        for _ in 0..2 {
            let heard = ask(&gateway, &[("url", &stage.url("/from"))]).await;
            assert!(!heard.is_hit(), "{heard:?}");
        }
        assert_eq!(stage.origin.count("/from"), before + 2);
    }
}
