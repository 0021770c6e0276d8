//! What stands in Redis is not what was written there.

use tower_redis_cache::Stats;

use crate::support::redis::RedisServer;
use crate::support::scripted::ok;
use crate::support::story::{Story, get};
use crate::troupe::{calm_story_at, has_stored, page, passes};

/// A server with one small entry, its story, its key and its value.
async fn one_entry() -> (RedisServer, Story, String, Vec<u8>) {
    let server = RedisServer::start();
    let story = calm_story_at(&server.url());
    story.client_asks(get("/a")).await.is_stored();
    let keys = server.keys("*");
    assert_eq!(keys.len(), 1, "one small response is one key: {keys:?}");
    let value = server.value(&keys[0]).expect("the entry");
    (server, story, keys[0].clone(), value)
}

/// The value is a miss, counted by `counter`, and replaced by what the origin says.
async fn is_a_counted_miss(
    server: &RedisServer,
    story: &Story,
    key: &str,
    value: &[u8],
    counter: fn(&Stats) -> u64,
    what: &str,
) {
    assert_eq!(server.cli_bytes(&[b"SET", key.as_bytes(), value, b"PX", b"60000"]), "OK");
    let before = counter(&story.handle.stats());
    let answer = story.client_asks(get("/a")).await;
    answer.has_status(200).has_body(page("/a"));
    assert!(!answer.outcome().is_hit(), "{what} is a miss");
    assert_eq!(counter(&story.handle.stats()), before + 1, "{what} is counted: {:?}", story.handle.stats());
    story.client_asks(get("/a")).await.is_hit().has_body(page("/a"));
}

#[tokio::test]
async fn a_value_with_any_octet_changed_is_never_served_changed() {
    let (server, story, key, value) = one_entry().await;
    let sound = story.client_asks(get("/a")).await;
    for at in 0..value.len() {
        let mut damaged = value.clone();
        damaged[at] ^= 1 << (at % 8);
        assert_eq!(server.cli_bytes(&[b"SET", key.as_bytes(), &damaged, b"PX", b"60000"]), "OK");
        let answer = story.client_asks(get("/a")).await;
        answer.has_status(200).has_body(page("/a"));
        if answer.outcome().is_hit() {
            assert_eq!(answer.headers(), sound.headers(), "octet {at} changes nothing that is served");
        }
    }
    let stats = story.handle.stats();
    let refused = stats.entries_damaged + stats.entries_foreign + stats.entries_mismatched;
    assert!(refused >= value.len() as u64 - 8, "{refused} of {} were noticed: {stats:?}", value.len());
    assert_eq!(stats.store_unavailable, 0, "damage is no outage");
}

/// What is asked for often is not decoded each time, but what Redis says is read each time.
#[tokio::test]
async fn a_value_that_is_read_often_is_never_served_changed_either() {
    let (server, story, key, value) = one_entry().await;
    for at in (0..value.len()).step_by(3) {
        assert_eq!(server.cli_bytes(&[b"SET", key.as_bytes(), &value, b"PX", b"60000"]), "OK");
        for _ in 0..3 {
            story.client_asks(get("/a")).await.is_hit().has_body(page("/a"));
        }
        let mut damaged = value.clone();
        damaged[at] ^= 1 << (at % 8);
        let before = story.handle.stats().misses;
        assert_eq!(server.cli_bytes(&[b"SET", key.as_bytes(), &damaged, b"PX", b"60000"]), "OK");
        story.client_asks(get("/a")).await.has_status(200).has_body(page("/a"));
        assert_eq!(story.handle.stats().misses, before + 1, "octet {at}");
    }
    assert_eq!(server.cli(&["DEL", &key]), "1");
    story.client_asks(get("/a")).await.is_stored();
}

#[tokio::test]
async fn a_damaged_value_is_a_miss_and_counted() {
    let (server, story, key, value) = one_entry().await;
    let mut flipped = value.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    is_a_counted_miss(&server, &story, &key, &flipped, |stats| stats.entries_damaged, "a flipped bit").await;
    for length in [16, 17, value.len() / 2, value.len() - 1] {
        let what = format!("a value cut to {length}");
        is_a_counted_miss(&server, &story, &key, &value[..length], |stats| stats.entries_damaged, &what).await;
    }
    let longer = [&value[..], b"x"].concat();
    is_a_counted_miss(&server, &story, &key, &longer, |stats| stats.entries_damaged, "a longer value").await;
}

#[tokio::test]
async fn a_foreign_value_is_a_miss_and_counted() {
    let (server, story, key, _) = one_entry().await;
    for foreign in [&b"hello"[..], b"{\"status\":200,\"body\":\"evil\"}", &[0; 64], b"TRC", b"x"] {
        let what = String::from_utf8_lossy(foreign);
        is_a_counted_miss(&server, &story, &key, foreign, |stats| stats.entries_foreign, &what).await;
    }
}

#[tokio::test]
async fn a_value_of_a_newer_version_is_a_miss_and_counted() {
    let (server, story, key, value) = one_entry().await;
    assert_eq!(&value[..3], b"TRC");
    for version in [0, value[3] + 1, 255] {
        let mut newer = value.clone();
        newer[3] = version;
        let what = format!("version {version}");
        is_a_counted_miss(&server, &story, &key, &newer, |stats| stats.entries_foreign, &what).await;
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_a_miss_and_counted() {
    let (server, story, key, _) = one_entry().await;
    for command in [["RPUSH", "x"].as_slice(), &["SADD", "x"], &["HSET", "f", "x"], &["ZADD", "1", "x"]] {
        server.cli(&["DEL", &key]);
        let before = story.handle.stats().entries_foreign;
        let command: Vec<&str> = [&command[..1], &[key.as_str()], &command[1..]].concat();
        assert_eq!(server.cli(&command), "1");
        let answer = story.client_asks(get("/a")).await;
        answer.has_body(page("/a"));
        assert!(!answer.outcome().is_hit());
        assert_eq!(story.handle.stats().entries_foreign, before + 1);
        story.client_asks(get("/a")).await.is_hit();
    }
}

#[tokio::test]
async fn an_entry_of_another_key_is_a_miss_and_counted() {
    let (server, story, key, _) = one_entry().await;
    story.client_asks(get("/secret")).await.is_stored();
    let other = server.keys("*").into_iter().find(|other| *other != key).expect("two entries");
    let secret = server.value(&other).expect("the other entry");
    is_a_counted_miss(&server, &story, &key, &secret, |stats| stats.entries_mismatched, "another's entry").await;
}

#[tokio::test]
async fn three_megabytes_of_junk_are_a_miss_counted_and_not_read_whole() {
    let (server, story, key, _) = one_entry().await;
    let junk = vec![b'x'; 3 * 1024 * 1024];
    let before = server.info("total_net_output_bytes");
    is_a_counted_miss(&server, &story, &key, &junk, |stats| stats.entries_oversized, "three megabytes").await;
    let sent = server.info("total_net_output_bytes") - before;
    assert!(sent < 1024 * 1024, "Redis sent {sent} octets of it");
}

#[tokio::test]
async fn a_damaged_part_of_a_large_body_is_a_miss() {
    let server = RedisServer::start();
    let story = calm_story_at(&server.url());
    let body = "0123456789".repeat(70_000);
    let large = body.clone();
    story.origin.answers(move |_| ok(large.clone()).cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    let parts: Vec<String> = server.keys("*").into_iter().filter(|key| key.contains(":b:")).collect();
    assert!(parts.len() >= 2, "{parts:?}");
    let (one, other) = (server.value(&parts[0]).expect("a part"), server.value(&parts[1]).expect("a part"));
    let mut flipped = one.clone();
    flipped[1000] ^= 1;
    for bad in [&flipped[..], &other, &one[..one.len() - 1], b"", &[b'x'; 3_000_000]] {
        // Every miss writes a new generation: damage the parts of the present one.
        for part in server.keys("*").into_iter().filter(|key| key.contains(":b:") && key.ends_with(":0")) {
            assert_eq!(server.cli_bytes(&[b"SET", part.as_bytes(), bad, b"PX", b"60000"]), "OK");
        }
        let answer = story.client_asks(get("/a")).await;
        answer.has_status(200).has_body(&body);
        assert!(!answer.outcome().is_hit(), "{} octets of junk", bad.len());
        story.client_asks(get("/a")).await.is_hit().has_body(&body);
    }
}

#[tokio::test]
async fn junk_in_every_place_at_once_harms_nobody() {
    let server = RedisServer::start();
    let story = calm_story_at(&server.url());
    has_stored(&story, "", 20).await;
    for key in server.keys("*") {
        server.cli(&["SET", &key, "junk"]);
    }
    for number in 0..20 {
        let answer = passes(&story, &format!("/{number}")).await;
        assert!(!answer.outcome().is_hit());
    }
    assert_eq!(story.handle.stats().entries_foreign, 20);
    assert_eq!(story.handle.stats().store_unavailable, 0, "junk is no outage");
}
