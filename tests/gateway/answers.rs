//! What of a request reaches an origin, what of its answer reaches the client, and what bounds both.

use std::time::Duration;

use hyper::Method;
use tower_redis_cache::{PurgeMode, PurgeTarget};

use crate::connect::roots_in;
use crate::params::Params;
use crate::support::gate::Gate;
use crate::support::origin::Script;
use crate::tls_origin::TlsOrigin;
use crate::troupe::{Stage, ask, ask_with, hear};

fn fresh(body: &str) -> Script {
    Script::ok(body).header("cache-control", "max-age=60").header("etag", "\"1\"")
}

#[tokio::test]
async fn credentials_and_unknown_fields_stay_here() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/a", fresh("a"));
    let fields = [
        ("authorization", "Basic c2VjcmV0"),
        ("cookie", "session=1"),
        ("proxy-authorization", "Basic c2VjcmV0"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-api-key", "secret"),
        ("referer", "http://intranet.example/"),
        ("host", "127.0.0.1"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("accept", "application/json"),
        ("accept-language", "de"),
    ];
    ask_with(&gateway, &Method::GET, &[("url", &stage.url("/a"))], &fields).await.is(200, "a");
    let received = stage.origin.received();
    let head = received[0].head.to_lowercase();
    for absent in ["authorization", "cookie", "secret", "forwarded", "referer", "127.0.0.1", "x-hop", "te:", "upgrade"]
    {
        assert!(!head.contains(absent), "{head}");
    }
    assert_eq!(received[0].values("host"), [format!("good.example:{}", stage.origin.port())]);
    assert_eq!(
        (received[0].values("accept"), received[0].values("accept-language")),
        (vec!["application/json"], vec!["de"])
    );
}

#[tokio::test]
async fn an_origin_speaks_for_itself_and_not_for_the_gateways_host() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    let script = fresh("<script>")
        .header("set-cookie", "a=b")
        .header("strict-transport-security", "max-age=1")
        .header("clear-site-data", "\"*\"")
        .header("alt-svc", "h3=\":443\"")
        .header("www-authenticate", "Basic")
        .header("refresh", "0; url=http://evil.example/")
        .header("service-worker-allowed", "/")
        .header("no-vary-search", "params")
        .header("x-accel-redirect", "/internal")
        .header("access-control-allow-origin", "*")
        .header("report-to", "{}")
        .header("link", "</>; rel=preload")
        .header("content-security-policy", "default-src *")
        .header("x-content-type-options", "sniff")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("x-own", "stays");
    stage.origin.says("/a", script);
    for _ in 0..2 {
        let heard = ask(&gateway, &[("url", &stage.url("/a"))]).await;
        heard.is(200, "<script>");
        for absent in ["set-cookie", "strict-transport-security", "clear-site-data", "alt-svc", "www-authenticate"] {
            assert_eq!(heard.value(absent), None);
        }
        for absent in ["no-vary-search", "x-accel-redirect", "access-control-allow-origin", "report-to", "link"] {
            assert_eq!(heard.value(absent), None);
        }
        for absent in ["refresh", "service-worker-allowed", "connection", "x-hop", "transfer-encoding"] {
            assert_eq!(heard.value(absent), None);
        }
        assert_eq!(heard.value("content-security-policy"), Some("sandbox"));
        assert_eq!((heard.value("x-content-type-options"), heard.value("x-own")), (Some("nosniff"), Some("stays")));
        assert!(!heard.is_hit(), "what sets a cookie is for one client");
    }
    assert_eq!(stage.origin.count("/a"), 2);
}

/// On a hit as well.
#[tokio::test]
async fn what_is_stored_is_sent_without_what_is_kept_back() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/a", fresh("a").header("no-vary-search", "params").header("x-accel-redirect", "/internal"));
    stage.origin.says("/b", fresh("b"));
    ask(&gateway, &[("url", &stage.url("/a"))]).await.is(200, "a");
    let hit = ask(&gateway, &[("url", &stage.url("/a"))]).await;
    assert!(hit.is_hit());
    assert_eq!((hit.value("no-vary-search"), hit.value("x-accel-redirect")), (None, None));
    ask(&gateway, &[("url", &stage.url("/b"))]).await.is(200, "b");
}

#[tokio::test]
async fn an_answer_that_is_none_is_not_passed_on() {
    let stage = Stage::new().await;
    stage.origin.says("/switch", Script::upgrade("other"));
    ask(&stage.gateway(), &[("url", &stage.url("/switch"))]).await.is(502, "");
}

#[tokio::test]
async fn trailers_of_an_origin_end_with_it() {
    let stage = Stage::new().await;
    let script = Script::status("200 OK").chunked(["a", "b"]).trailer("set-cookie", "a=b");
    stage.origin.says("/a", script.header("cache-control", "max-age=60"));
    let gateway = stage.gateway();
    for _ in 0..2 {
        let heard = ask(&gateway, &[("url", &stage.url("/a"))]).await;
        heard.is(200, "ab");
        assert!(heard.trailers.is_none(), "{:?}", heard.trailers);
    }
}

#[tokio::test]
async fn head_conditions_and_ranges_are_answered_from_what_is_stored() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/a", fresh("0123456789"));
    let url = stage.url("/a");
    let asked = [("url", &*url), ("key", "k")];
    ask(&gateway, &asked).await.is(200, "0123456789");
    let head = ask_with(&gateway, &Method::HEAD, &asked, &[]).await;
    assert_eq!((head.status.as_u16(), head.value("content-length"), &*head.text()), (200, Some("10"), ""));
    let unchanged = ask_with(&gateway, &Method::GET, &asked, &[("if-none-match", "\"1\"")]).await;
    assert_eq!((unchanged.status.as_u16(), &*unchanged.text()), (304, ""));
    let part = ask_with(&gateway, &Method::GET, &asked, &[("range", "bytes=2-4")]).await;
    part.is(206, "234");
    assert_eq!(part.value("content-range"), Some("bytes 2-4/10"));
    ask_with(&gateway, &Method::GET, &asked, &[("range", "bytes=99-")]).await.is(416, "");
    for heard in [head, unchanged, part] {
        assert!(heard.is_hit(), "{heard:?}");
    }
    assert_eq!(stage.origin.received().len(), 1);
    let missing = [("url", &*stage.url("/b")), ("key", "b")];
    let unsatisfiable = ask_with(&gateway, &Method::GET, &missing, &[("cache-control", "only-if-cached")]).await;
    assert_eq!(unsatisfiable.status, 504);
    assert_eq!(stage.origin.count("/b"), 0);
}

#[tokio::test]
async fn the_library_call_is_the_same_without_http() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/a", fresh("a"));
    let params = Params::read("{\"page\": 2}").unwrap();
    let get = || gateway.get("http://unlisted.example/", None, &params);
    assert_eq!(get().await.unwrap_err().status, 403);
    let url = stage.url("/a");
    for is_hit in [false, true] {
        let heard = hear(gateway.get(&url, Some("k"), &params).await.unwrap()).await;
        assert!(gateway.handle().drain(Duration::from_secs(20)).await);
        heard.is(200, "a");
        assert_eq!(heard.is_hit(), is_hit);
    }
    assert_eq!(stage.origin.count("/a?page=2"), 1);
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_where_it_says_so_and_broken_off_where_not() {
    let mut stage = Stage::new().await;
    stage.limits.max_body = 10;
    let gateway = stage.gateway();
    stage.origin.says("/fits", fresh("0123456789"));
    stage.origin.says("/stated", fresh("0123456789x"));
    stage.origin.says(
        "/grows",
        Script::status("200 OK").header("cache-control", "max-age=60").chunked(["01234", "56789", "x"]),
    );
    ask(&gateway, &[("url", &stage.url("/fits"))]).await.is(200, "0123456789");
    ask(&gateway, &[("url", &stage.url("/stated"))]).await.is(502, "longer than 10 octets");
    for _ in 0..2 {
        let grows = ask(&gateway, &[("url", &stage.url("/grows"))]).await;
        assert_eq!((grows.status.as_u16(), grows.body.as_ref()), (200, None));
    }
    assert_eq!(stage.origin.count("/grows"), 2, "what broke off is not stored");
}

#[tokio::test]
async fn an_origin_that_is_silent_is_not_waited_for_longer() {
    let mut stage = Stage::new().await;
    stage.limits.timeout = Duration::from_millis(200);
    stage.origin.says("/silent", Script::silent());
    ask(&stage.gateway(), &[("url", &stage.url("/silent"))]).await.is(504, "did not answer in time");
    // Longer, because here the head has to come before the limit.
    stage.limits.timeout = Duration::from_secs(2);
    let gateway = stage.gateway();
    let never = Gate::closed();
    stage.origin.says("/stalls", fresh("0123456789").body_stops_at(5, &never));
    let stalls = ask(&gateway, &[("url", &stage.url("/stalls"))]).await;
    assert_eq!((stalls.status.as_u16(), stalls.body), (200, None));
}

#[tokio::test]
async fn an_origin_that_fails_is_a_502_and_a_kept_connection_that_broke_is_none() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/nonsense", Script::raw("this is no HTTP\r\n\r\n"));
    stage.origin.says("/reset", Script::reset());
    ask(&gateway, &[("url", &stage.url("/nonsense"))]).await.is(502, "not valid");
    ask(&gateway, &[("url", &stage.url("/reset"))]).await.is(502, "without an answer");
    stage.origin.says_in_turn("/once", [Script::reset(), fresh("a")]);
    ask(&gateway, &[("url", &stage.url("/once"))]).await.is(200, "a");
}

#[tokio::test]
async fn an_https_origin_is_checked_by_its_address_and_then_by_its_certificate() {
    let secret = TlsOrigin::start();
    let mut stage = Stage::new().await.allowing([secret.url()]);
    stage.liar.says("localhost", [vec!["127.0.0.1".parse().unwrap()]]);
    let blocks = ["127.0.0.1/32", "127.0.0.9/32"];
    let redirect = Script::status("302 Found").header("location", &secret.url()).body("");
    stage.origin.says("/to", redirect);
    let both = [secret.url(), stage.url("/to")];
    for url in &both {
        ask(&stage.gateway(), &[("url", url)]).await.is(502, "loopback");
        ask(&stage.gateway_that_dials(&blocks), &[("url", url)]).await.is(502, "cannot be reached");
    }
    stage.roots = Some(roots_in(TlsOrigin::certificate().as_ref()).unwrap());
    for url in &both {
        ask(&stage.gateway_that_dials(&blocks), &[("url", url)]).await.is(200, "secret hello");
    }
}

#[tokio::test]
async fn an_answer_that_ignores_its_query_is_still_kept_for_its_own_url_alone() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    for query in ["x=1", "x=2"] {
        stage.origin.says(&format!("/a?{query}"), fresh(query).header("no-vary-search", "params"));
        for is_hit in [false, true] {
            let heard = ask(&gateway, &[("url", &stage.url(&format!("/a?{query}")))]).await;
            heard.is(200, query);
            assert_eq!(heard.is_hit(), is_hit, "{heard:?}");
        }
    }
}

#[tokio::test]
async fn a_purge_of_an_origins_prefix_ends_what_was_kept_of_it() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("*", fresh("a"));
    let (inside, outside) = (stage.url("/in/a"), stage.url("/out/a"));
    for url in [&inside, &outside] {
        ask(&gateway, &[("url", url), ("key", url.rsplit_once("//").unwrap().1)]).await.is(200, "a");
    }
    let host = format!("good.example:{}", stage.origin.port());
    gateway.handle().purge([PurgeTarget::prefix(host, "/in")], PurgeMode::Hard).await.unwrap();
    for (url, is_hit) in [(&inside, false), (&outside, true)] {
        let heard = ask(&gateway, &[("url", url), ("key", url.rsplit_once("//").unwrap().1)]).await;
        assert_eq!(heard.is_hit(), is_hit, "{heard:?}");
    }
}
