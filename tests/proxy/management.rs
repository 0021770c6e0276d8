//! The operators' listener: numbers, purges, health, and the page, as a browser shows it.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::running::{Proxy, refused};
use crate::support::gate::{patiently, until_some};
use crate::support::origin::{Origin, Script};
use crate::support::redis::RedisServer;
use crate::wire::{Answer, ask_at, get, get_hit};

pub(crate) const TOKEN: &str = "a token of enough characters";

/// A proxy with an operators' listener.
async fn managed(origin: &Origin, arguments: &[&str]) -> Proxy {
    Proxy::with(&origin.url(), &[&["--admin", "127.0.0.1:0"], arguments].concat()).await
}

/// One request with more lines in its head.
pub(crate) async fn manage_with(proxy: &Proxy, method: &str, target: &str, lines: &str) -> Answer {
    let at = proxy.managed_at();
    let host = if lines.to_ascii_lowercase().contains("host:") { String::new() } else { format!("Host: {at}\r\n") };
    ask_at(at, format!("{method} {target} HTTP/1.1\r\n{host}{lines}Connection: close\r\n\r\n")).await
}

pub(crate) async fn manage(proxy: &Proxy, method: &str, target: &str) -> Answer {
    manage_with(proxy, method, target, "").await
}

async fn json(proxy: &Proxy, target: &str) -> Value {
    let answer = manage(proxy, "GET", target).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

/// The value of one line of `/metrics`.
async fn metric(proxy: &Proxy, name: &str) -> f64 {
    let text = manage(proxy, "GET", "/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.trim().parse().expect("a number")
}

fn page() -> Script {
    Script::ok("hello").header("cache-control", "max-age=60").header("cache-tag", "greeting, all")
}

#[tokio::test]
async fn numbers_say_what_happened() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    origin.says("/mine", Script::ok("mine").header("cache-control", "private"));
    origin.says("/ill", Script::status("500 Ill").body("ill"));
    let proxy = managed(&origin, &[]).await;
    get(&proxy, "/a").await;
    for _ in 0..3 {
        get_hit(&proxy, "/a?secret").await;
    }
    get(&proxy, "/mine").await;
    get(&proxy, "/ill").await;
    let hits = metric(&proxy, "tower_redis_cache_hits_total").await;
    assert!(hits >= 3.0);
    for (name, expected) in [
        ("tower_redis_cache_requests_total{kind=\"fresh\"}", hits),
        ("tower_redis_cache_details_total{detail=\"private\"}", 1.0),
        ("tower_redis_cache_origin_errors_total", 1.0),
        ("tower_redis_cache_saved_bytes_total", hits * 5.0),
        ("tower_redis_cache_store_unavailable", 0.0),
    ] {
        assert_eq!(metric(&proxy, name).await, expected, "{name}");
    }
    let asked = metric(&proxy, "tower_redis_cache_origin_seconds_count").await;
    let told = json(&proxy, "/stats").await;
    assert_eq!(told["origin"]["requests"], asked as u64);
    assert_eq!(told["stats"]["hits"], hits as u64);
    // Queries may hold secrets.
    let top = told["top"].as_array().expect("an array");
    assert!(top[0]["target"].as_str().expect("text").ends_with("/a") && !told.to_string().contains("secret"), "{told}");
}

#[tokio::test]
async fn who_is_turned_away_is_counted() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = managed(&origin, &["--rate-limit", "2/1h"]).await;
    for _ in 0..5 {
        get(&proxy, "/a").await;
    }
    assert_eq!(metric(&proxy, "tower_redis_cache_turned_away_total{status=\"429\"}").await, 3.0);
    assert_eq!(json(&proxy, "/stats").await["turned_away"]["429"], 3);
}

#[tokio::test]
async fn what_is_purged_is_fetched_again() {
    let redis = RedisServer::start();
    let origin = Origin::start().await;
    origin.says("/a/b", page());
    let proxy = managed(&origin, &["--redis", &redis.url()]).await;
    let purges = [
        ("POST", "/purge?url=http%3A%2F%2Fsite.test%2Fa%2Fb", ""),
        ("POST", "/purge?tag=greeting&tag=other", ""),
        ("POST", "/purge?prefix=site.test/a", ""),
        ("POST", "/purge?everything", ""),
        ("PURGE", "/a/b", "Host: site.test\r\n"),
        ("PURGE", "http://site.test/a/b", "Host: site.test\r\n"),
    ];
    for (method, target, lines) in purges {
        get_hit(&proxy, "/a/b").await;
        let known = origin.count("/a/b");
        let purged = manage_with(&proxy, method, target, lines).await;
        assert_eq!(purged.status, 200, "{target}: {}", purged.text());
        assert!(!get(&proxy, "/a/b").await.is_hit(), "{method} {target}");
        assert_eq!(origin.count("/a/b"), known + 1);
    }
    // What a purge does not name stays.
    get_hit(&proxy, "/a/b").await;
    for target in ["/purge?url=http://site.test/a", "/purge?tag=greet", "/purge?prefix=site.test/a/b/c"] {
        assert_eq!(manage(&proxy, "POST", target).await.status, 200);
        assert!(get(&proxy, "/a/b").await.is_hit(), "{target}");
    }
}

/// Paths of the management's own are paths of sites as well.
#[tokio::test]
async fn whatever_a_site_has_can_be_purged_by_method() {
    let origin = Origin::start().await;
    origin.says("/healthz", page());
    let proxy = managed(&origin, &[]).await;
    get_hit(&proxy, "/healthz").await;
    assert_eq!(manage_with(&proxy, "PURGE", "/healthz", "Host: site.test\r\n").await.status, 200);
    assert!(!get(&proxy, "/healthz").await.is_hit());
}

/// What was purged softly is validated, or sent where the origin fails.
#[tokio::test]
async fn a_soft_purge_leaves_what_may_be_sent_stale() {
    let origin = Origin::start().await;
    for (mode, lines) in [("POST", ""), ("PURGE", "Host: site.test\r\nSoft-Purge: 1\r\n")] {
        origin.says("/a", page());
        let proxy = managed(&origin, &["--stale-if-error", "60s"]).await;
        get_hit(&proxy, "/a").await;
        let target = if mode == "POST" { "/purge?tag=all&mode=soft" } else { "/a" };
        assert_eq!(manage_with(&proxy, mode, target, lines).await.status, 200);
        origin.says("/a", Script::status("503 Ill").body("ill"));
        let answer = get(&proxy, "/a").await;
        assert!(answer.body == b"hello" && answer.head.contains("stale-if-error"), "{}", answer.head);
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_with_the_reason() {
    let origin = Origin::start().await;
    let proxy = managed(&origin, &[]).await;
    for (method, target, status, reason) in [
        ("POST", "/purge", 400, "name what to purge"),
        ("POST", "/purge?urls=http://a/", 400, "there are url=URL"),
        ("POST", "/purge?url=/a", 400, ""),
        ("POST", "/purge?tag=a&mode=softly", 400, "hard and soft"),
        ("POST", "/purge?prefix=http://site.test/a", 400, "without a scheme"),
        ("PURGE", "/a", 400, "name the site"),
        ("GET", "/purge?everything", 405, ""),
        ("GET", "/inspect", 400, "name what to look at"),
        ("GET", "/inspect?url=http://a/&header=none", 400, "Name: value"),
        ("GET", "/nothing", 404, "/metrics"),
        ("DELETE", "/nothing", 405, ""),
    ] {
        let answer = manage(&proxy, method, target).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        assert!(answer.text().contains(reason), "{target}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_purge_that_redis_does_not_confirm_is_no_success() {
    let mut redis = RedisServer::start();
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = managed(&origin, &["--redis", &redis.url()]).await;
    get_hit(&proxy, "/a").await;
    redis.kill();
    let answer = manage(&proxy, "POST", "/purge?everything").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    // Requests are answered all the same, and so it is ready.
    let ready = manage(&proxy, "GET", "/readyz").await;
    assert!(ready.status == 200 && ready.text().contains("uncached"), "{}", ready.text());
    assert!(manage(&proxy, "GET", "/doctor").await.text().contains("broken"));
}

#[tokio::test]
async fn inspect_tells_what_would_be_done_and_what_is_stored() {
    let origin = Origin::start().await;
    origin.says("/a", page().header("vary", "accept-language"));
    let proxy = managed(&origin, &[]).await;
    let german = "GET /a HTTP/1.1\r\nHost: site.test\r\nAccept-Language: de\r\n\r\n";
    for _ in 0..2 {
        crate::wire::ask(&proxy, german).await;
    }
    let url = "/inspect?url=http://site.test/a";
    until_some("it is stored", || async {
        let found = json(&proxy, &format!("{url}&header=Accept-Language:%20de")).await;
        (found["would"]["hit"] == true).then_some(())
    })
    .await;
    let other = json(&proxy, &format!("{url}&header=Accept-Language:%20en")).await;
    assert_eq!((&other["would"]["fwd"], &other["vary"][0]), (&Value::from("vary-miss"), &"accept-language".into()));
    assert_eq!(other["responses"][0]["tags"], serde_json::json!(["greeting", "all"]));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn who_has_no_token_is_told_nothing_and_changes_nothing() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("a file");
    let proxy = managed(&origin, &["--admin-token-file", file.to_str().expect("text")]).await;
    get_hit(&proxy, "/a").await;
    use base64::Engine as _;
    let basic = |password: &str| base64::prelude::BASE64_STANDARD.encode(format!("anybody:{password}"));
    let wrong = [
        String::new(),
        "Authorization: Bearer a token of other characters\r\n".to_owned(),
        format!("Authorization: Bearer {TOKEN}s\r\n"),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: {TOKEN}\r\n"),
        format!("Authorization: Basic {}\r\n", basic("wrong")),
        "Authorization: Basic ###\r\n".to_owned(),
    ];
    for lines in &wrong {
        for (method, target) in [("GET", "/"), ("GET", "/metrics"), ("POST", "/purge?everything"), ("PURGE", "/a")] {
            let answer = manage_with(&proxy, method, target, lines).await;
            assert_eq!(answer.status, 401, "{method} {target} {lines}");
            assert!(answer.value("www-authenticate").is_some());
        }
    }
    assert!(get(&proxy, "/a").await.is_hit());
    // Whoever looks after processes has no token.
    for open in ["/healthz", "/readyz"] {
        assert_eq!(manage(&proxy, "GET", open).await.status, 200);
    }
    for right in [format!("Bearer {TOKEN}"), format!("bearer {TOKEN}"), format!("Basic {}", basic(TOKEN))] {
        let answer = manage_with(&proxy, "GET", "/stats", &format!("Authorization: {right}\r\n")).await;
        assert_eq!(answer.status, 200, "{right}");
    }
}

/// Another page in the operator's browser may neither purge nor read, under whatever name it comes.
#[tokio::test]
async fn pages_of_others_are_refused() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    let proxy = managed(&origin, &[]).await;
    get_hit(&proxy, "/a").await;
    for (method, target, lines) in [
        ("POST", "/purge?everything", "Origin: http://evil.test\r\n"),
        ("POST", "/purge?everything", "Origin: null\r\n"),
        ("GET", "/stats", "Host: evil.test\r\n"),
        ("GET", "/", "Host: evil.test:80\r\n"),
        ("POST", "/purge?everything", "Host: evil.test\r\nOrigin: http://evil.test\r\n"),
        ("PURGE", "/a", "Host: evil.test\r\nOrigin: http://evil.test\r\n"),
        ("GET", "/doctor", "Sec-Fetch-Site: cross-site\r\n"),
        ("PURGE", "/healthz", "Host: evil.test\r\nOrigin: http://evil.test\r\n"),
    ] {
        assert_eq!(manage_with(&proxy, method, target, lines).await.status, 403, "{method} {target} {lines}");
    }
    assert!(get(&proxy, "/a").await.is_hit());
    let own = format!("Origin: http://{}\r\n", proxy.managed_at());
    assert_eq!(manage_with(&proxy, "POST", "/purge?everything", &own).await.status, 200);
    assert_eq!(manage_with(&proxy, "GET", "/stats", "Host: localhost:9\r\n").await.status, 200);
}

#[tokio::test]
async fn a_listener_that_others_can_reach_wants_a_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let short = directory.path().join("short");
    std::fs::write(&short, "short").expect("a file");
    let short = short.to_str().expect("text");
    for (arguments, reason) in [
        (&["--admin", "0.0.0.0:0"][..], "--admin-token-file"),
        (&["--admin", "127.0.0.1:0", "--admin-token-file", short], "16 characters"),
        (&["--admin", "127.0.0.1:0", "--admin-token-file", "/nowhere/at/all"], "--admin-token-file"),
        (&["--admin-token-file", short], "--admin"),
        (&["--admin", "here"], "127.0.0.1:8080"),
    ] {
        let given_up =
            refused(&[&["--origin", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"], arguments].concat()).await;
        assert_eq!(given_up.code, Some(2), "{arguments:?}");
        assert!(given_up.stderr.contains(reason), "{}", given_up.stderr);
    }
}

/// Debian's Chromium, without a window.
async fn browser(url: &str) -> Option<(String, String)> {
    let mut chromium = Command::new("chromium");
    let profile = tempfile::tempdir().expect("a directory");
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .args(["--virtual-time-budget=8000", &format!("--user-data-dir={}", profile.path().display()), url])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match patiently("the browser", chromium.output()).await {
        Ok(output) => {
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            Some((text(&output.stdout), text(&output.stderr)))
        }
        Err(error) => {
            println!("NOT RUN: there is no chromium ({error}); install it with: apt-get install chromium");
            None
        }
    }
}

#[tokio::test]
async fn the_page_shows_in_a_browser_how_the_cache_does() {
    let origin = Origin::start().await;
    origin.says("/a", page());
    origin.says("/mine", Script::ok("mine").header("cache-control", "private"));
    let proxy = managed(&origin, &[]).await;
    // What a request holds is text on the page, whatever it looks like.
    origin.says("/%3Cimg%20src=x%20onerror=hit%3E", page());
    get(&proxy, "/%3Cimg%20src=x%20onerror=hit%3E").await;
    get_hit(&proxy, "/a").await;
    get(&proxy, "/mine").await;
    until_some("there is something to plot", || async {
        get(&proxy, "/a").await;
        let told = json(&proxy, "/stats").await;
        told["history"]["samples"].as_array().is_some_and(|samples| samples.len() >= 3).then_some(())
    })
    .await;
    let Some((dom, console)) = browser(&format!("http://{}/", proxy.managed_at())).await else { return };
    for shown in [">live<", "hit ratio, last minute", "class=\"curve fresh\"", "<polygon", "private", "/mine", ">well<"]
    {
        assert!(dom.contains(shown), "{shown} is not on the page: {dom}");
    }
    assert!(dom.contains("%3Cimg") && !dom.contains("<img"), "{dom}");
    let complaint = console.lines().find(|line| line.contains("CONSOLE") || line.contains("Refused"));
    assert_eq!(complaint, None, "{console}");
}
