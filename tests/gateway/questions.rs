//! What may be asked, and what is said about the rest.

use hyper::{Method, Request};

use crate::address::AddressRules;
use crate::allow::AllowList;
use crate::front;
use crate::params::Params;
use crate::support::origin::Script;
use crate::troupe::{Stage, ask, ask_with, hear};

/// The parameters, the status, and words of the answer.
type Case<'a> = (&'a [(&'a str, &'a str)], u16, &'a str);

#[tokio::test]
async fn what_is_wrong_with_a_question_is_said() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    let a = stage.url("/a");
    let (long, long_url) = ("x".repeat(8193), stage.url(&format!("/{}", "x".repeat(8192))));
    let nearly = stage.url(&format!("/{}", "x".repeat(8100)));
    let many = format!("{{\"{}\":[{}1]}}", "x".repeat(4000), "1,".repeat(1500));
    let cases: [Case<'_>; 22] = [
        (&[], 400, "url is missing"),
        (&[("key", "k")], 400, "url is missing"),
        (&[("url", "")], 400, "no absolute URL"),
        (&[("url", "/path")], 400, "no absolute URL"),
        (&[("url", "http://")], 400, "no absolute URL"),
        (&[("url", "ftp://good.example/")], 400, "neither http nor https"),
        (&[("url", "data:text/plain,hello")], 400, "neither http nor https"),
        (&[("url", "http://me@good.example/")], 400, "a user or a password"),
        (&[("url", "http://:secret@good.example/")], 400, "a user or a password"),
        (&[("url", "http://good.example/")], 403, "not on the list of allowed origins"),
        (&[("url", "http://good.example.evil.example/")], 403, "not on the list of allowed origins"),
        (&[("url", &a), ("url", &a)], 400, "url is given twice"),
        (&[("url", &a), ("key", "k"), ("key", "k")], 400, "key is given twice"),
        (&[("url", &a), ("params", "{}"), ("params", "{}")], 400, "params is given twice"),
        (&[("url", &a), ("page", "2")], 400, "no others"),
        (&[("url", &a), ("key", "")], 400, "key is empty"),
        (&[("url", &a), ("key", &long)], 400, "key is too long"),
        (&[("url", &long_url)], 400, "url is too long"),
        (&[("url", &a), ("params", &long)], 400, "params is too long"),
        (&[("url", &nearly), ("params", &format!("{{\"x\":\"{}\"}}", "y".repeat(200)))], 400, "too long"),
        // A long name that many values share takes far more room than it came in.
        (&[("url", &a), ("params", &many)], 400, "params are too long"),
        (&[("url", &a), ("params", "{")], 400, "no JSON"),
    ];
    for (parameters, status, words) in cases {
        let heard = ask(&gateway, parameters).await;
        heard.is(status, words);
        assert_eq!(heard.value("x-content-type-options"), Some("nosniff"));
        assert_eq!(heard.value("cache-control"), Some("no-store"));
    }
    assert_eq!(stage.origin.connections(), 0);
}

#[test]
fn params_are_a_flat_object() {
    for json in
        ["[]", "1", "null", "\"x\"", "", "{} {}", "{\"a\":null}", "{\"a\":{}}", "{\"a\":[[1]]}", "{\"a\":[null]}"]
    {
        assert!(Params::read(json).is_err(), "{json}");
    }
    for json in ["{}", "{\"a\":[]}", "{\"a\":[1,\"x\",true]}", " {\"a\" : \"\"} "] {
        assert!(Params::read(json).is_ok(), "{json}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(4000), "]".repeat(4000));
    assert!(Params::read(&deep).is_err());
}

#[tokio::test]
async fn params_are_appended_to_the_urls_own_query_as_a_form_would() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("*", Script::ok("found"));
    for (path, params, target) in [
        ("/a", "{\"q\":\"x y&z=ä\"}", "/a?q=x+y%26z%3D%C3%A4"),
        ("/b?own=1", "{\"b\":2,\"a\":true}", "/b?own=1&a=true&b=2"),
        ("/c?q=1#part", "{\"q\":[\"x\",3,false]}", "/c?q=1&q=x&q=3&q=false"),
        ("/d", "{\"n\":[1.50,-0,12345678901234567890123]}", "/d?n=1.50&n=-0&n=12345678901234567890123"),
        ("/e", "{}", "/e"),
        ("/f?", "{\"a\":[]}", "/f?"),
    ] {
        ask(&gateway, &[("url", &stage.url(path)), ("params", params)]).await.is(200, "found");
        let received = stage.origin.received();
        assert_eq!(received.last().map(|request| request.target().to_owned()).as_deref(), Some(target));
    }
}

#[tokio::test]
async fn only_get_and_head_of_one_path_are_answered() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    let a = stage.url("/a");
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::CONNECT, Method::TRACE] {
        let heard = ask_with(&gateway, &method, &[("url", &a)], &[]).await;
        heard.is(405, "only GET and HEAD");
        assert_eq!(heard.value("allow"), Some("GET, HEAD"));
    }
    let request = Request::get(format!("/elsewhere?url={a}")).body(()).unwrap();
    hear(front::answer(&gateway, request).await).await.is(404, "/?url=URL");
    let request = Request::get(format!("/?url={a}&key=%ff")).body(()).unwrap();
    hear(front::answer(&gateway, request).await).await.is(400, "key is not UTF-8");
    assert_eq!(stage.origin.connections(), 0);
}

#[test]
fn a_list_of_origins_says_what_is_wrong_with_it() {
    let rules = AddressRules::default();
    let list = |origins: &[&str]| AllowList::new(origins, &rules).map(drop);
    for (origin, words) in [
        ("example.com", "no origin"),
        ("//example.com", "no origin"),
        ("ftp://example.com", "only http and https"),
        ("https://example.com/path", "scheme, host and port alone"),
        ("https://example.com/?q", "scheme, host and port alone"),
        ("https://me@example.com", "scheme, host and port alone"),
        ("http://127.0.0.1:8000", "loopback"),
        ("http://[::1]:8000", "loopback"),
        ("http://0x7f.1", "loopback"),
    ] {
        let refusal = list(&["https://api.example.com", origin]).unwrap_err();
        assert!(refusal.contains(words), "{origin}: {refusal}");
    }
    assert!(list(&[]).unwrap_err().contains("no origin is allowed"));
    assert_eq!(list(&["https://api.example.com", "HTTP://Example.com:80/", "http://8.8.8.8"]), Ok(()));
}
