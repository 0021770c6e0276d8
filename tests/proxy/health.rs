//! Checks of the origins' health.

use crate::management::manage;
use crate::running::{Proxy, refused};
use crate::support::gate::{eventually, patiently, until_some};
use crate::support::origin::{Origin, Script};
use crate::wire::{get, get_hit};

const CHECKED: [&str; 6] = ["--health-check", "/health?deep", "--health-interval", "300ms", "--admin", "127.0.0.1:0"];

/// Waits until the operators' numbers say so of this origin.
async fn is_up(proxy: &Proxy, origin: &str, up: bool) {
    let line = format!("tower_redis_cache_origin_up{{origin=\"{origin}\"}} {}\n", u8::from(up));
    let is_said = || async { manage(proxy, "GET", "/metrics").await.text().contains(&line).then_some(()) };
    until_some(&line, is_said).await;
}

#[tokio::test]
async fn an_origin_that_is_not_well_is_spared_until_it_is() {
    let origin = Origin::start().await;
    origin.says("/health?deep", Script::ok("well"));
    for target in ["/kept", "/new"] {
        origin.says(target, Script::ok("hello").header("cache-control", "max-age=1"));
    }
    let proxy = Proxy::with(&origin.url(), &CHECKED).await;
    get_hit(&proxy, "/kept").await;
    // One that goes wrong is not enough.
    let one_ill = [Script::status("503 Ill").body("ill"), Script::ok("well")];
    origin.says_in_turn("/health?deep", one_ill);
    let asked = origin.count("/health?deep");
    eventually("three checks more", || origin.count("/health?deep") >= asked + 3).await;
    is_up(&proxy, &origin.url(), true).await;
    assert!(!proxy.log().contains("out of service"), "{}", proxy.log());
    origin.says("/health?deep", Script::status("503 Ill").body("ill"));
    is_up(&proxy, &origin.url(), false).await;
    proxy.logs(1, |line| line.contains("out of service") && line.contains("status 503")).await;
    get(&proxy, "/new").await.is_refusal(503);
    let asked = origin.count("/kept");
    // Fresh or stale: what is there is sent.
    let stale = async {
        loop {
            let answer = get(&proxy, "/kept").await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{}", answer.head);
            if !answer.is_hit() {
                break answer;
            }
        }
    };
    let answer = patiently("it is stale", stale).await;
    assert!(answer.value("cache-status").unwrap_or_default().contains("stale-if-error"), "{}", answer.head);
    assert_eq!((origin.count("/kept"), origin.count("/new")), (asked, 0));
    origin.says("/health?deep", Script::ok("well"));
    is_up(&proxy, &origin.url(), true).await;
    assert_eq!(get(&proxy, "/new").await.status, 200);
    let numbers = manage(&proxy, "GET", "/metrics").await.text();
    assert!(numbers.contains("origin_errors_total 0\n"), "the origin has not been asked: {numbers}");
}

/// One that is silent is not well either; and others have nothing to do with it.
#[tokio::test]
async fn each_origin_has_its_own_health() {
    let [usual, other] = [Origin::start().await, Origin::start().await];
    usual.says("/health?deep", Script::status("404 Not Found").body(""));
    other.says("/health?deep", Script::silent());
    for origin in [&usual, &other] {
        origin.says("/other/a", Script::ok("hello"));
        origin.says("/a", Script::ok("hello"));
    }
    let gone = "http://127.0.0.1:1";
    let rules = [format!("path=/other origin={}", other.url()), format!("path=/gone origin={gone}")];
    let proxy =
        Proxy::with(&usual.url(), &[&CHECKED[..], &["--route", &rules[0], "--route", &rules[1]]].concat()).await;
    is_up(&proxy, &other.url(), false).await;
    is_up(&proxy, gone, false).await;
    proxy.logs(1, |line| line.contains("out of service") && line.contains("refused")).await;
    eventually("it has been asked twice", || usual.count("/health?deep") >= 2).await;
    is_up(&proxy, &usual.url(), true).await;
    assert_eq!(get(&proxy, "/a").await.status, 200);
    get(&proxy, "/other/a").await.is_refusal(503);
    let stats = manage(&proxy, "GET", "/stats").await.text();
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    let origins = stats["origins"].as_array().expect("a list");
    assert_eq!(origins.iter().filter(|origin| origin["up"] == true).count(), 1, "{stats}");
}

#[tokio::test]
async fn a_check_of_no_path_is_refused() {
    let given_up = refused(&["--origin", "http://127.0.0.1:1", "--health-check", "healthz"]).await;
    assert!(given_up.code == Some(2) && given_up.stderr.contains("such as /healthz"), "{}", given_up.stderr);
}
