//! What is stored takes less room, and nobody but Redis notices.

use tower_redis_cache::CacheConfig;

use super::story;
use crate::support::redis::RedisServer;
use crate::support::scripted::ok;
use crate::support::story::{Story, get};

const LARGE: usize = 700_000;

fn text(length: usize) -> String {
    (0..length / 20 + 1).map(|number| format!("{{\"number\":{number:08}}},")).collect::<String>()[..length].to_owned()
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..length).map(|_| random.u8(..)).collect()
}

fn with(server: &RedisServer, settings: impl FnOnce(CacheConfig) -> CacheConfig) -> Story {
    let story = story(settings(CacheConfig::new(server.url()).expect("a URL")));
    story.origin.answers(|asked| {
        let reply = match asked.uri.path() {
            "/small" => ok(text(300)),
            "/page" => ok(text(20_000)),
            "/large" => ok(text(LARGE)),
            _ => ok(noise(LARGE)),
        };
        reply.cache_control("max-age=600")
    });
    story
}

/// The octets that Redis has of all there is.
fn octets(server: &RedisServer) -> usize {
    server.keys("*").iter().map(|key| server.value(key).map_or(0, |value| value.len())).sum()
}

#[tokio::test]
async fn what_is_compressed_is_what_it_was() {
    for is_sealed in [false, true] {
        let server = RedisServer::start();
        let sealed = |config: CacheConfig| match is_sealed {
            true => config.entry_secret(1, [7; 32]).expect("a secret"),
            false => config,
        };
        let small = with(&server, |config| sealed(config).compress_at_rest(1024));
        let plain = with(&server, sealed);
        for (page, length, less) in
            [("/small", 300, false), ("/page", 20_000, true), ("/large", LARGE, true), ("/noise", LARGE, false)]
        {
            let before = octets(&server);
            let first = small.client_asks(get(page)).await;
            first.is_stored();
            assert_eq!(octets(&server) - before < length / 2, less, "{page}: {} octets", octets(&server) - before);
            // Whoever has the feature reads it.
            for reader in [&small, &plain] {
                reader.client_asks(get(page)).await.is_hit().has_body(first.body());
                let part = reader.client_asks(get(page).header("range", "bytes=200-209")).await;
                part.is_hit().has_status(206).has_body(&first.body()[200..210]);
            }
            plain.client_asks(get(page).header("cache-control", "no-cache")).await.is_stored();
            small.client_asks(get(page)).await.is_hit().has_body(first.body());
        }
    }
}

#[tokio::test]
async fn what_is_compressed_and_damaged_is_a_miss() {
    let server = RedisServer::start();
    let story = with(&server, |config| config.compress_at_rest(0));
    story.client_asks(get("/page")).await.is_stored();
    let key = server.keys("*").remove(0);
    let value = server.value(&key).expect("a value");
    assert!(value.starts_with(b"TRCZ"));
    for at in (0..value.len()).step_by(7) {
        let mut flipped = value.clone();
        flipped[at] ^= 0x21;
        server.cli_bytes(&[b"SET", key.as_bytes(), &flipped, b"PX", b"60000"]);
        let answer = story.client_asks_and_goes_on(get("/page")).await;
        answer.has_status(200).has_body(text(20_000));
    }
}
