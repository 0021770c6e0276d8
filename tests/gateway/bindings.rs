//! A key is bound to the URL and the parameters that it was filled from, for all instances, whatever is asked.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Empty, Full};
use hyper::{Method, Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_cache::{CacheConfig, RedisCacheLayer};

use crate::params::Params;
use crate::support::gate::{Gate, eventually};
use crate::support::origin::Script;
use crate::support::redis::RedisServer;
use crate::troupe::{Stage, ask, ask_with, hear};

const CONFLICT: &str = "the key belongs to another URL";

fn fresh(body: &str) -> Script {
    Script::ok(body).header("cache-control", "max-age=60").header("etag", "\"1\"")
}

#[tokio::test]
async fn the_same_question_is_a_hit_and_another_url_under_its_key_a_conflict() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/a", fresh("a"));
    stage.origin.says("/b", fresh("b"));
    let (a, b) = (stage.url("/a"), stage.url("/b"));
    ask(&gateway, &[("url", &a), ("key", "k")]).await.is(200, "a");
    let again = ask(&gateway, &[("url", &a), ("key", "k")]).await;
    assert!(again.is_hit(), "{again:?}");
    again.is(200, "a");
    ask(&gateway, &[("url", &b), ("key", "k")]).await.is(409, CONFLICT);
    assert_eq!(stage.origin.count("/b"), 0, "a conflict is known before anything is fetched");
    ask(&gateway, &[("url", &b), ("key", "other")]).await.is(200, "b");
    assert!(ask(&gateway, &[("url", &a), ("key", "k")]).await.is_hit());
    assert_eq!(stage.origin.count("/a"), 1);
}

#[tokio::test]
async fn other_parameters_are_another_question() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/a", fresh("a"));
    let a = stage.url("/a");
    let one = [("url", &*a), ("key", "k"), ("params", "{\"x\":1,\"y\":2}")];
    ask(&gateway, &one).await.is(200, "a");
    // The order of members means nothing in JSON.
    assert!(ask(&gateway, &[("url", &a), ("key", "k"), ("params", "{\"y\":2,\"x\":1}")]).await.is_hit());
    for params in ["{\"x\":2,\"y\":2}", "{}", "{\"x\":1}"] {
        ask(&gateway, &[("url", &a), ("key", "k"), ("params", params)]).await.is(409, CONFLICT);
    }
    // Without a key each is its own.
    let two = ask(&gateway, &[("url", &a), ("params", "{\"x\":2}")]).await;
    let three = ask(&gateway, &[("url", &a), ("params", "{\"x\":3}")]).await;
    assert!(!two.is_hit() && !three.is_hit());
    assert_eq!((stage.origin.count("/a?x=2"), stage.origin.count("/a?x=3")), (1, 1));
}

#[tokio::test]
async fn nothing_that_a_client_can_say_breaks_the_binding() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    let (a, b) = (stage.url("/a"), stage.url("/b"));
    let varied = |body| fresh(body).header("vary", "accept-language");
    stage.origin.says("/a", varied("a"));
    stage.origin.says("/b", varied("b"));
    ask_with(&gateway, &Method::GET, &[("url", &a), ("key", "k")], &[("accept-language", "en")]).await.is(200, "a");
    let attempts: [&[(&str, &str)]; 9] = [
        &[("cache-control", "no-cache")],
        &[("cache-control", "no-store")],
        &[("pragma", "no-cache")],
        &[("cache-control", "max-age=0")],
        &[("cache-control", "max-stale")],
        &[("if-none-match", "\"1\"")],
        &[("if-none-match", "*")],
        &[("range", "bytes=0-0")],
        &[("accept-language", "de")],
    ];
    for fields in attempts {
        for method in [Method::GET, Method::HEAD] {
            let heard = ask_with(&gateway, &method, &[("url", &b), ("key", "k")], fields).await;
            assert_eq!(heard.status, 409, "{method} {fields:?}: {heard:?}");
        }
    }
    assert!(stage.origin.received().iter().all(|request| request.target() == "/a"));
    let owner = ask_with(&gateway, &Method::GET, &[("url", &a), ("key", "k")], &[("accept-language", "en")]).await;
    assert!(owner.is_hit(), "{owner:?}");
    let variant = ask_with(&gateway, &Method::GET, &[("url", &a), ("key", "k")], &[("accept-language", "de")]).await;
    assert_eq!((variant.status.as_u16(), variant.is_hit()), (200, false));
}

#[tokio::test]
async fn what_became_stale_is_still_bound() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/a", Script::ok("a").header("cache-control", "max-age=0").header("etag", "\"1\""));
    // The other has the same validator, and would say that nothing has changed.
    stage.origin.says("/b", Script::status("304 Not Modified").header("etag", "\"1\""));
    ask(&gateway, &[("url", &stage.url("/a")), ("key", "k")]).await.is(200, "a");
    ask(&gateway, &[("url", &stage.url("/b")), ("key", "k")]).await.is(409, CONFLICT);
}

#[tokio::test]
async fn of_two_at_the_same_time_the_first_answered_has_the_key() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    let (a_may, b_may) = (Gate::closed(), Gate::closed());
    stage.origin.says("/a", fresh("a").head_after(&a_may));
    stage.origin.says("/b", fresh("b").head_after(&b_may));
    let asking = |path| {
        let (gateway, url) = (gateway.clone(), stage.url(path));
        tokio::spawn(async move { hear(gateway.get(&url, Some("k"), &Params::default()).await.unwrap()).await })
    };
    let (a, b) = (asking("/a"), asking("/b"));
    eventually("both are asked", || stage.origin.count("/a") + stage.origin.count("/b") == 2).await;
    b_may.open();
    b.await.unwrap().is(200, "b");
    a_may.open();
    a.await.unwrap().is(409, CONFLICT);
}

#[tokio::test]
async fn of_many_at_the_same_time_one_url_has_the_key_and_nobody_anothers_data() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    for round in 0..30 {
        let gate = Gate::closed();
        let paths: Vec<String> = (0..4).map(|index| format!("/{round}-{index}")).collect();
        for path in &paths {
            stage.origin.says(path, fresh(path).head_after(&gate));
        }
        let key = format!("round-{round}");
        let asking: Vec<_> = (paths.iter().chain(&paths))
            .map(|path| {
                let (gateway, url, key, path) = (gateway.clone(), stage.url(path), key.clone(), path.clone());
                tokio::spawn(async move {
                    (path, hear(gateway.get(&url, Some(&key), &Params::default()).await.unwrap()).await)
                })
            })
            .collect();
        let all_asked = || paths.iter().all(|path| stage.origin.count(path) == 1);
        eventually("all are asked", all_asked).await;
        gate.open();
        let mut owners = Vec::new();
        for asked in asking {
            let (path, heard) = asked.await.unwrap();
            match heard.status.as_u16() {
                200 => owners.push((path, heard.text())),
                _ => heard.is(409, CONFLICT),
            }
        }
        assert!(!owners.is_empty());
        assert!(owners.iter().all(|(path, body)| path == body && *path == owners[0].0), "{owners:?}");
    }
}

#[tokio::test]
async fn a_key_is_taken_by_an_answer_and_not_by_an_attempt() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/missing", Script::status("404 Not Found").body("no"));
    stage.origin.says("/broken", Script::reset());
    stage.origin.says("/large", fresh(&"x".repeat((1 << 20) + 1)));
    stage.origin.says("/a", fresh("a"));
    ask(&gateway, &[("url", &stage.url("/missing")), ("key", "k")]).await.is(404, "no");
    ask(&gateway, &[("url", &stage.url("/broken")), ("key", "k")]).await.is(502, "");
    ask(&gateway, &[("url", &stage.url("/large")), ("key", "k")]).await.is(502, "longer than");
    ask(&gateway, &[("url", &stage.url("/a")), ("key", "k")]).await.is(200, "a");
}

#[tokio::test]
async fn a_key_that_is_a_url_is_that_urls_own() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    stage.origin.says("/a", fresh("a"));
    stage.origin.says("/b", fresh("b"));
    let (a, b) = (stage.url("/a"), stage.url("/b"));
    ask(&gateway, &[("url", &b), ("key", &a)]).await.is(409, "the key is a URL");
    ask(&gateway, &[("url", &a), ("key", &a), ("params", "{\"x\":1}")]).await.is(409, "the key is a URL");
    ask(&gateway, &[("url", &a)]).await.is(200, "a");
    assert!(ask(&gateway, &[("url", &a), ("key", &a)]).await.is_hit());
}

#[tokio::test]
async fn an_origin_cannot_say_whose_a_key_is() {
    let stage = Stage::new().await;
    let gateway = stage.gateway();
    let (a, b) = (stage.url("/a"), stage.url("/b"));
    let digest = blake3::hash(b.as_bytes()).to_hex();
    stage.origin.says("/a", fresh("a").header("gateway-bound-to", &digest));
    stage.origin.says("/b", fresh("b"));
    ask(&gateway, &[("url", &a), ("key", "k")]).await.is(200, "a");
    ask(&gateway, &[("url", &b), ("key", "k")]).await.is(409, CONFLICT);
    assert!(ask(&gateway, &[("url", &a), ("key", "k")]).await.is_hit());
}

#[tokio::test]
async fn redis_another_instance_hits_and_sees_the_binding() {
    let redis = RedisServer::start();
    let stage = Stage::new().await.in_redis(&redis.url(), "trc-gateway");
    let (one, other) = (stage.gateway(), stage.gateway());
    stage.origin.says("/a", fresh("a"));
    stage.origin.says("/b", fresh("b"));
    let (a, b) = (stage.url("/a"), stage.url("/b"));
    ask(&one, &[("url", &a), ("key", "k")]).await.is(200, "a");
    let hit = ask(&other, &[("url", &a), ("key", "k")]).await;
    assert!(hit.is_hit(), "{hit:?}");
    for gateway in [&other, &one, &stage.gateway()] {
        ask(gateway, &[("url", &b), ("key", "k")]).await.is(409, CONFLICT);
    }
    assert_eq!((stage.origin.count("/a"), stage.origin.count("/b")), (1, 0));
    assert!(redis.all_keys("*").iter().all(|key| key.starts_with("trc-gateway:")), "{:?}", redis.all_keys("*"));
}

#[tokio::test]
async fn redis_of_two_instances_at_the_same_time_one_has_the_key() {
    let redis = RedisServer::start();
    let stage = Stage::new().await.in_redis(&redis.url(), "trc-gateway");
    let gateways = [stage.gateway(), stage.gateway()];
    for round in 0..20 {
        let (gate, key) = (Gate::closed(), format!("round-{round}"));
        let paths = [format!("/{round}/a"), format!("/{round}/b")];
        let asking = gateways.clone().into_iter().zip(&paths).map(|(gateway, path)| {
            stage.origin.says(path, fresh(path).head_after(&gate));
            let (url, key, path) = (stage.url(path), key.clone(), path.clone());
            tokio::spawn(
                async move { (path, hear(gateway.get(&url, Some(&key), &Params::default()).await.unwrap()).await) },
            )
        });
        let asking: Vec<_> = asking.collect();
        eventually("both are asked", || paths.iter().all(|path| stage.origin.count(path) == 1)).await;
        gate.open();
        let mut owners = 0;
        for asked in asking {
            let (path, heard) = asked.await.unwrap();
            match heard.status.as_u16() {
                200 => {
                    heard.is(200, &path);
                    owners += 1;
                }
                _ => heard.is(409, CONFLICT),
            }
        }
        assert_eq!(owners, 1, "round {round}");
    }
}

#[tokio::test]
async fn redis_that_is_gone_costs_hits_and_nothing_else() {
    let mut redis = RedisServer::start();
    let stage = Stage::new().await.in_redis(&redis.url(), "trc-gateway");
    let gateway = stage.gateway();
    stage.origin.says("/a", fresh("a"));
    stage.origin.says("/b", fresh("b"));
    let (a, b) = (stage.url("/a"), stage.url("/b"));
    ask(&gateway, &[("url", &a), ("key", "k")]).await.is(200, "a");
    redis.kill();
    ask(&gateway, &[("url", &a), ("key", "k")]).await.is(200, "a");
    // Nobody can say whose the key is; each gets its own all the same.
    ask(&gateway, &[("url", &b), ("key", "k")]).await.is(200, "b");
    ask(&gateway, &[("url", &a), ("key", "k")]).await.is(200, "a");
}

/// Even where somebody gave both the same namespace.
#[tokio::test]
async fn redis_no_key_of_a_client_finds_or_replaces_what_a_proxy_stored() {
    let redis = RedisServer::start();
    let config = CacheConfig::new(redis.url()).unwrap().namespace("shared").unwrap();
    let layer = RedisCacheLayer::new(config.store_timeout(Duration::from_secs(10)));
    let proxy = layer.layer(service_fn(|_: Request<Empty<Bytes>>| async {
        let response = Response::builder().header("cache-control", "max-age=60");
        Ok::<_, std::convert::Infallible>(response.body(Full::new(Bytes::from("the proxy's"))).unwrap())
    }));
    let through_the_proxy = || async {
        let request = Request::get("http://shop.example/x").body(Empty::new()).unwrap();
        let heard = hear(proxy.clone().oneshot(request).await.unwrap()).await;
        assert!(layer.handle().drain(Duration::from_secs(20)).await);
        heard
    };
    through_the_proxy().await.is(200, "the proxy's");

    let stage = Stage::new().await.in_redis(&redis.url(), "shared");
    let gateway = stage.gateway();
    stage.origin.says("/a", fresh("the gateway's"));
    let a = stage.url("/a");
    for key in ["shop.example/x", "shared:shop.example", "httpshop.example/x", "\u{0}http", "{purge}", "purge", "x"] {
        let heard = ask(&gateway, &[("url", &a), ("key", key)]).await;
        assert!(!heard.is_hit(), "{key}");
        heard.is(200, "the gateway's");
    }
    // Not by its digest either, which is what names an entry in Redis.
    for key in redis.all_keys("shared:*") {
        ask(&gateway, &[("url", &a), ("key", &key)]).await.is(200, "the gateway's");
    }
    let hit = through_the_proxy().await;
    assert!(hit.is_hit(), "{hit:?}");
    hit.is(200, "the proxy's");
}
