//! Who waits is told when it need not wait any longer, and learns it without being told.

use std::time::{Duration, Instant};

use tower_redis_cache::{CacheConfig, RedisCacheLayer};

use crate::support::gate::{Gate, PATIENCE, eventually};
use crate::support::redis::RedisServer;
use crate::support::scripted::ok;
use crate::support::story::{Stage, Story, get, whole_second};
use crate::troupe::{all_is_well_in_the_end, client, is_asked, leases, process, waits};

const CHANNEL: &str = "trc:{wake}";

fn listeners(server: &RedisServer) -> u64 {
    server.cli(&["PUBSUB", "NUMSUB", CHANNEL]).lines().nth(1).and_then(|count| count.parse().ok()).expect("a number")
}

/// The octets of the key's digest, as messages name it.
fn digest(lease: &str) -> Vec<u8> {
    let hex = lease.split(['{', '}']).nth(1).expect("a hash tag");
    let octet = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(octet).collect()
}

#[tokio::test]
async fn who_waits_looks_as_soon_as_it_is_told() {
    const MESSAGES: u32 = 40;
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    one.origin_says(ok("page").cache_control("max-age=60").head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let second = client(&other, get("/a"));
    waits(&stage, &other).await;
    eventually("both listen", || listeners(stage.server()) == 2).await;
    let digest = digest(&leases(stage.server())[0]);
    let begun = Instant::now();
    for _ in 0..MESSAGES {
        let before = stage.server().calls("evalsha");
        stage.server().cli_bytes(&[b"PUBLISH", CHANNEL.as_bytes(), &digest]);
        eventually("it looks", || stage.server().calls("evalsha") > before).await;
    }
    // By itself it looks no more than eight times a second by now.
    let took = begun.elapsed();
    assert!(took < MESSAGES * Duration::from_millis(125) / 2, "{took:?}");
    gate.open();
    first.await.expect("an answer").has_body("page");
    second.await.expect("an answer").has_body("page");
    other.origin_was_asked(0);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
    let clients = stage.server().info("connected_clients");
    drop(other);
    eventually("its connections are closed", || stage.server().info("connected_clients") <= clients - 3).await;
}

#[tokio::test]
async fn nobody_is_told_of_what_nobody_waits_for() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let long = ok(vec![b'x'; 300_000]).cache_control("max-age=60");
    one.origin_says_in_turn([ok("page").cache_control("max-age=60"), ok("own").cache_control("private"), long]);
    one.client_asks(get("/stored")).await.is_stored();
    one.client_asks(get("/refused")).await.has_body("own");
    one.client_asks(get("/long")).await.is_stored();
    other.client_asks(get("/stored")).await.is_hit();
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
    assert_eq!(stage.server().calls("publish"), 0);
}

#[tokio::test]
async fn who_waits_is_told_that_it_is_over_whatever_the_end() {
    for ending in [ok("page").cache_control("max-age=60"), ok("own").cache_control("private")] {
        let stage = Stage::redis();
        let (one, other) = (process(&stage), process(&stage));
        let gate = Gate::closed();
        one.origin_says(ending.head_after(&gate));
        other.origin_says(ok("own").cache_control("private"));
        let first = client(&one, get("/a"));
        is_asked(&one, 1).await;
        let second = client(&other, get("/a"));
        waits(&stage, &other).await;
        assert_eq!(stage.server().calls("publish"), 0, "there is nothing to be told yet");
        gate.open();
        first.await.expect("an answer");
        second.await.expect("an answer");
        all_is_well_in_the_end(&stage, &[&one, &other]).await;
        assert_ne!(stage.server().calls("publish"), 0);
    }
}

/// A lease that was given back a moment ago tells nobody.
#[tokio::test]
async fn the_script_that_begins_a_wait_says_whether_there_is_anything_to_wait_for() {
    const SCRIPT: &str = include_str!("../../src/store/redis/lua/attend.lua");
    let server = RedisServer::start();
    let attend = || server.cli(&["EVAL", SCRIPT, "3", "{a}:lease", "{a}:told", "{a}:mark", "token", "60000", "100"]);
    let is_marked = || server.cli(&["EXISTS", "{a}:mark"]) == "1";
    assert!(attend() == "0" && !is_marked());
    server.cli(&["SET", "{a}:lease", "-token"]);
    assert!(attend() == "0" && !is_marked(), "nobody waits for it any longer");
    server.cli(&["SET", "{a}:lease", "token"]);
    assert!(attend() == "1" && is_marked());
    server.cli(&["SET", "{a}:told", "head"]);
    assert_eq!(attend(), "head\n1");
    server.cli(&["DEL", "{a}:lease"]);
    assert_eq!(attend(), "head\n0");
}

#[tokio::test]
async fn whose_ear_is_cut_off_learns_it_all_the_same() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    one.origin_says(ok("page").cache_control("max-age=60").head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let second = client(&other, get("/a"));
    waits(&stage, &other).await;
    eventually("both listen", || listeners(stage.server()) == 2).await;
    assert_eq!(stage.server().cli(&["CLIENT", "KILL", "TYPE", "pubsub"]), "2");
    gate.open();
    first.await.expect("an answer").has_body("page");
    second.await.expect("an answer").has_body("page");
    other.origin_was_asked(0);
    assert_eq!(other.handle.stats().store_unavailable, 0);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn a_user_who_may_use_no_channel_waits_all_the_same() {
    let server = RedisServer::start();
    let rules = ["~trc:*", "+get", "+getrange", "+set", "+unlink", "+pexpire", "+eval", "+evalsha"];
    let command = [&["ACL", "SETUSER", "cache", "on", ">pw", "resetchannels"], &rules[..]].concat();
    assert_eq!(server.cli(&command), "OK");
    let [one, other] = [(); 2].map(|()| {
        let time = whole_second();
        let config = CacheConfig::new(server.url_of_user("cache", "pw")).expect("a URL").clock(time.clock());
        let config = config.store_timeout(PATIENCE / 2).store_write_timeout(PATIENCE / 2).collapse_timeout(PATIENCE);
        Story::told_by(RedisCacheLayer::new(config), time)
    });
    let gate = Gate::closed();
    one.origin_says(ok("page").cache_control("max-age=60").head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let looks = server.calls("evalsha");
    let second = client(&other, get("/a"));
    eventually("it waits", || server.calls("evalsha") >= looks + 3).await;
    gate.open();
    first.await.expect("an answer").is_stored().has_body("page");
    second.await.expect("an answer").has_body("page");
    other.origin_was_asked(0);
    other.client_asks(get("/a")).await.is_hit();
}
