//! Somebody else may write to the Redis, and does not know the secret.

use tower_redis_cache::{CacheConfig, RedisCacheLayer};

use crate::support::gate::PATIENCE;
use crate::support::redis::RedisServer;
use crate::support::scripted::ok;
use crate::support::story::{Story, get, whole_second};

const OLD: (u32, [u8; 32]) = (1, [7; 32]);
const NEW: (u32, [u8; 32]) = (2, [9; 32]);

fn story(server: &RedisServer, secrets: &[(u32, [u8; 32])]) -> Story {
    let time = whole_second();
    let config = CacheConfig::new(server.url()).expect("a URL").clock(time.clock());
    let config = config.store_timeout(PATIENCE / 2).store_write_timeout(PATIENCE / 2);
    let sealed = secrets.iter().try_fold(config, |config, (number, secret)| config.entry_secret(*number, secret));
    let story = Story::told_by(RedisCacheLayer::new(sealed.expect("good secrets")), time);
    story.origin.answers(|asked| {
        let body = if asked.uri.path() == "/large" { "large".repeat(200_000) } else { asked.uri.path().to_owned() };
        ok(body).cache_control("max-age=600").header("vary", "accept-language")
    });
    story
}

/// All keys, and what they hold.
fn all(server: &RedisServer) -> Vec<(String, Vec<u8>)> {
    let keys = server.keys("*").into_iter();
    keys.map(|key| (key.clone(), server.value(&key).expect("a value"))).collect()
}

fn put(server: &RedisServer, key: &str, value: &[u8]) {
    assert_eq!(server.cli_bytes(&[b"SET", key.as_bytes(), value, b"PX", b"600000"]), "OK");
}

#[tokio::test]
async fn what_was_not_sealed_by_those_who_may_is_a_miss_and_counted() {
    let server = RedisServer::start();
    // As anybody writes it who runs the same software, or knows its format.
    let stranger = story(&server, &[]);
    for page in ["/a", "/large"] {
        stranger.client_asks(get(page)).await.is_stored();
        stranger.client_asks(get(page)).await.is_hit();
    }
    let forged = all(&server);
    server.cli(&["FLUSHALL"]);
    let ours = story(&server, &[OLD]);
    for page in ["/a", "/large"] {
        ours.client_asks(get(page)).await.is_stored();
        ours.client_asks(get(page)).await.is_hit();
    }
    let sealed = all(&server);
    for (key, value) in &forged {
        put(&server, key, value);
    }
    let before = ours.handle.stats().entries_forged;
    for page in ["/a", "/large"] {
        ours.client_asks(get(page)).await.is_forwarded_for("uri-miss");
        ours.client_asks(get(page)).await.is_hit();
    }
    assert!(ours.handle.stats().entries_forged >= before + 2);
    // Each value of ours is good in its own place alone.
    for (key, _) in &sealed {
        for (other, value) in sealed.iter().filter(|(other, _)| other != key) {
            put(&server, key, value);
            let answer = ours.client_asks(get("/a")).await;
            answer.has_status(200).has_body("/a");
            ours.client_asks(get("/large")).await;
            assert!(!other.is_empty());
        }
    }
    ours.client_asks(get("/large")).await.has_body("large".repeat(200_000));
}

#[tokio::test]
async fn a_secret_is_changed_without_a_miss() {
    let server = RedisServer::start();
    let (before, during, after) = (story(&server, &[OLD]), story(&server, &[NEW, OLD]), story(&server, &[NEW]));
    for page in ["/a", "/large"] {
        before.client_asks(get(page)).await.is_stored();
        during.client_asks(get(page)).await.is_hit();
        during.client_asks(get(page).header("cache-control", "no-cache")).await.is_stored();
        during.client_asks(get(page)).await.is_hit();
        after.client_asks(get(page)).await.is_hit();
        assert!(!before.client_asks(get(page)).await.outcome().is_hit(), "it does not know the new one");
    }
}

#[test]
fn a_weak_secret_is_refused() {
    let error = CacheConfig::default().entry_secret(1, "s3cret").expect_err("it is short").to_string();
    assert!(error.starts_with("entry_secret: ") && !error.contains("s3cret"), "{error}");
}
