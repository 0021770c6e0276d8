//! Several origins, and what is different for some requests.

use crate::management::manage;
use crate::running::{Proxy, command, refused};
use crate::support::origin::{Origin, Script};
use crate::wire::{Answer, ask};

fn says(text: &str) -> Script {
    Script::ok(text).header("cache-control", "max-age=60")
}

async fn get(proxy: &Proxy, host: &str, target: &str) -> Answer {
    ask(proxy, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}

/// Asks until it is a hit, and has it.
async fn hit(proxy: &Proxy, host: &str, target: &str) -> Answer {
    crate::support::gate::until_some("a hit", || async { Some(get(proxy, host, target).await).filter(Answer::is_hit) })
        .await
}

#[tokio::test]
async fn each_request_goes_to_its_origin_and_is_kept_apart() {
    let [usual, api, newer] = [Origin::start().await, Origin::start().await, Origin::start().await];
    for (origin, name) in [(&usual, "usual"), (&api, "api"), (&newer, "newer")] {
        for target in ["/a", "/v2/a", "/v22/a"] {
            origin.says(target, says(&format!("{name} {target}")));
        }
    }
    let rules =
        [format!("host=api.test origin={}", api.url()), format!("path=/v2 host=api.test origin={}", newer.url())];
    let proxy = Proxy::with(&usual.url(), &["--route", &rules[0], "--route", &rules[1]]).await;
    for (host, target, body) in [
        ("site.test", "/a", "usual /a"),
        ("site.test", "/v2/a", "usual /v2/a"),
        ("api.test", "/a", "api /a"),
        ("API.test", "/v2/a", "newer /v2/a"),
        ("api.test", "/v22/a", "api /v22/a"),
    ] {
        assert_eq!(get(&proxy, host, target).await.text(), body);
        assert_eq!(hit(&proxy, host, target).await.text(), body);
    }
    assert_eq!((usual.count("/a"), api.count("/a"), newer.count("/a")), (1, 1, 0));
    // Each is asked as itself.
    assert_eq!(newer.received()[0].values("host"), [newer.authority()]);
}

/// By the tables of a file.
#[tokio::test]
async fn a_route_has_a_lifetime_of_its_own_or_no_cache() {
    let origin = Origin::start().await;
    for target in ["/short", "/long/a", "/admin/a"] {
        origin.says(target, Script::ok("hello").header("cache-control", "max-age=5"));
    }
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("proxy.toml");
    let text = format!(
        "origin = \"{}\"\nlisten = \"127.0.0.1:0\"\n[[route]]\npath = \"/long\"\nttl = \"1h\"\n\
         [[route]]\npath = \"/admin\"\nbypass = true\n",
        origin.url()
    );
    std::fs::write(&file, text).expect("a file");
    let mut command = command();
    command.arg("--config").arg(&file);
    let proxy = Proxy::start(command).await;
    assert!(status(&get(&proxy, "site.test", "/short").await).contains("ttl=5;"));
    let long = status(&get(&proxy, "site.test", "/long/a").await);
    assert!(long.contains("ttl=3600;"), "{long}");
    for _ in 0..2 {
        let admin = status(&get(&proxy, "site.test", "/admin/a").await);
        assert!(admin.contains("fwd=bypass"), "{admin}");
    }
    assert_eq!(origin.count("/admin/a"), 2);
}

/// What an origin that decodes paths takes for another place is not kept by the rule of this one.
#[tokio::test]
async fn a_rule_is_not_got_round_by_other_spellings() {
    let origin = Origin::start().await;
    let spellings = ["/assets/..%2faccount", "/%61dmin/a", "/assets/%2e%2e/account", "/x/..%2fadmin/a"];
    for target in spellings {
        // Nothing is said of a lifetime, or a long one.
        origin.says(target, Script::ok("private").header("cache-control", "max-age=60"));
    }
    origin.says("/assets/a", Script::ok("public"));
    let proxy = Proxy::with(&origin.url(), &["--route", "path=/assets ttl=1d", "--route", "path=/admin bypass"]).await;
    for target in spellings {
        for _ in 0..3 {
            let answer = get(&proxy, "site.test", target).await;
            let status = answer.value("cache-status").unwrap_or_default();
            assert!(status.contains("fwd=bypass"), "{target}: {}", answer.head);
        }
        assert_eq!(origin.count(target), 3, "{target}");
    }
    assert_eq!(hit(&proxy, "site.test", "/assets/a").await.text(), "public");
}

fn status(answer: &Answer) -> String {
    answer.value("cache-status").unwrap_or_default().to_owned()
}

/// Who is signed in is not answered from the cache, and not for others; what it changes is known all the same.
#[tokio::test]
async fn the_cache_is_kept_out_on_conditions() {
    let origin = Origin::start().await;
    origin.says("/blog/a", says("for all"));
    let proxy =
        Proxy::with(&origin.url(), &["--route", "path=/blog bypass-cookie=session* bypass-header=x-preview"]).await;
    hit(&proxy, "site.test", "/blog/a").await;
    origin.says("/blog/a", says("for one"));
    let with = async |method: &str, line: &str| {
        ask(&proxy, format!("{method} /blog/a HTTP/1.1\r\nHost: site.test\r\n{line}\r\n\r\n")).await
    };
    for line in ["Cookie: a=b; session_1=c", "X-Preview: yes"] {
        let answer = with("GET", line).await;
        assert!(status(&answer).contains("fwd=bypass") && answer.text() == "for one", "{}", answer.head);
    }
    assert_eq!(hit(&proxy, "site.test", "/blog/a").await.text(), "for all");
    with("POST", "Cookie: session_1=c\r\nContent-Length: 0").await;
    assert_eq!(get(&proxy, "site.test", "/blog/a").await.text(), "for one");
}

/// What answers a POST can be stored for a later GET (RFC 9110 §9.3.3): not for one who is signed in.
#[tokio::test]
async fn what_is_for_one_is_not_kept_by_a_post_either() {
    let origin = Origin::start().await;
    origin.says("/blog/a", says("for one").header("content-location", "/blog/a"));
    let proxy = Proxy::with(&origin.url(), &["--route", "path=/blog bypass-cookie=session"]).await;
    let post = "POST /blog/a HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n";
    let answer = ask(&proxy, format!("{post}Cookie: session=1\r\n\r\n")).await;
    assert!(status(&answer).contains("detail=request-no-store"), "{}", answer.head);
    assert!(status(&get(&proxy, "site.test", "/blog/a").await).contains("fwd=uri-miss"));
    // As it is without the cookie.
    let answer = ask(&proxy, format!("{post}\r\n")).await;
    assert!(status(&answer).contains("stored"), "{}", answer.head);
}

#[tokio::test]
async fn a_route_has_grace_of_its_own() {
    let origin = Origin::start().await;
    let soon = || Script::ok("hello").header("cache-control", "max-age=1");
    origin.says("/late/a", soon());
    origin.says("/a", soon());
    let proxy = Proxy::with(&origin.url(), &["--route", "path=/late stale-while-revalidate=1h"]).await;
    hit(&proxy, "site.test", "/late/a").await;
    hit(&proxy, "site.test", "/a").await;
    // So that it stays stale.
    origin.says("/late/a", Script::status("503 Ill").body("ill"));
    let goes_on = async |target: &str, what: &str| {
        let is_so = || async { status(&get(&proxy, "site.test", target).await).contains(what).then_some(()) };
        crate::support::gate::until_some(what, is_so).await;
    };
    goes_on("/a", "fwd=stale").await;
    goes_on("/late/a", "hit; ttl=-").await;
}

#[tokio::test]
async fn a_route_has_a_key_methods_and_grace_of_its_own() {
    let origin = Origin::start().await;
    origin.says("/shop/a", says("a").header("content-length", "1"));
    origin.says("/shop/a?ref=1", says("not to be asked for"));
    origin.says("/search?q=1", Script::ok("found"));
    let rules =
        ["--route", "path=/shop ignore-query=ref methods=GET", "--route", "path=/search keep-query=q default-ttl=1m"];
    let proxy = Proxy::with(&origin.url(), &[&rules[..], &["--admin", "127.0.0.1:0"]].concat()).await;
    hit(&proxy, "site.test", "/shop/a").await;
    assert_eq!(hit(&proxy, "site.test", "/shop/a?ref=1").await.text(), "a");
    let query = "QUERY /shop/a HTTP/1.1\r\nHost: site.test\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
    let query = ask(&proxy, query).await;
    assert!(status(&query).contains("fwd=bypass"), "{}", query.head);
    assert!(status(&get(&proxy, "site.test", "/search?x=2&q=1").await).contains("ttl=60"));
    assert_eq!(hit(&proxy, "site.test", "/search?q=1&x=3").await.text(), "found");
    // Inspection goes by the same rules.
    let told = manage(&proxy, "GET", "/inspect?url=http://site.test/shop/a%3Fref%3D5").await.text();
    assert!(told.contains("\"hit\": true"), "{told}");
    let told = manage(&proxy, "GET", "/inspect?url=http://site.test/shop/a&method=HEAD").await.text();
    assert!(told.contains("\"fwd\": \"bypass\""), "{told}");
    // And so does a purge of one URL.
    let purged = manage(&proxy, "POST", "/purge?url=http://site.test/shop/a").await;
    assert_eq!(purged.status, 200, "{}", purged.text());
    assert!(!get(&proxy, "site.test", "/shop/a?ref=1").await.is_hit());
}

/// A redirect to itself leads back to the proxy, whichever origin it is.
#[tokio::test]
async fn an_origin_of_a_route_that_is_away_is_its_own_trouble() {
    let [usual, other] = [Origin::start().await, Origin::start().await];
    usual.says("/a", says("usual"));
    other.says("/a", Script::status("302 Found").header("location", &format!("{}/b", other.url())).body(""));
    let rules =
        [format!("host=other.test origin={}", other.url()), "host=gone.test origin=http://127.0.0.1:1".to_owned()];
    let proxy = Proxy::with(&usual.url(), &["--route", &rules[0], "--route", &rules[1]]).await;
    let location = get(&proxy, "other.test", "/a").await;
    assert_eq!(location.value("location"), Some("http://other.test/b"), "{}", location.head);
    assert_eq!(get(&proxy, "gone.test", "/a").await.status, 502);
    assert_eq!(get(&proxy, "site.test", "/a").await.text(), "usual");
}

#[tokio::test]
async fn rules_that_say_nothing_are_refused() {
    for (rules, reason) in [
        (&["host=a"][..], "what is different"),
        (&["path=/a ttl=1s", "path=/a/ bypass"], "two of them"),
        (&["path=/a tll=1s"], "did you mean ttl?"),
        (&["host=a.test:8080 bypass"], "write a name"),
    ] {
        let rules = rules.iter().flat_map(|rule| ["--route", rule]);
        let all: Vec<&str> =
            ["--origin", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"].into_iter().chain(rules).collect();
        let given_up = refused(&all).await;
        assert!(given_up.code == Some(2) && given_up.stderr.contains(reason), "{all:?}: {}", given_up.stderr);
    }
}
