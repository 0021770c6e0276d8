//! Redis goes, or does not grant what leases need: nobody is worse off than without them.

use crate::support::gate::{Gate, PATIENCE, eventually};
use crate::support::redis::RedisServer;
use crate::support::scripted::ok;
use crate::support::story::{Stage, Story, get, seconds, whole_second};
use crate::troupe::{client, is_asked, leases, process, waits};
use tower_redis_cache::{CacheConfig, RedisCacheLayer};

#[tokio::test]
async fn who_waits_when_redis_dies_asks_the_origin() {
    let mut stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    one.origin_says(ok("one's").cache_control("max-age=60").head_after(&gate));
    other.origin_says(ok("other's").cache_control("max-age=60"));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let others: Vec<_> = (0..20).map(|_| client(&other, get("/a"))).collect();
    waits(&stage, &other).await;
    stage.server_mut().kill();
    for other in others {
        other.await.expect("an answer").has_status(200).has_body("other's");
    }
    gate.open();
    first.await.expect("an answer").has_status(200).has_body("one's");
}

fn story_of_user(server: &RedisServer) -> Story {
    let time = whole_second();
    let config = CacheConfig::new(server.url_of_user("cache", "pw")).expect("a URL").clock(time.clock());
    let config = config.store_timeout(PATIENCE / 2).store_write_timeout(PATIENCE / 2).collapse_timeout(PATIENCE * 2);
    Story::told_by(RedisCacheLayer::new(config), time)
}

async fn each_fetches_and_all_is_cached(rules: &[&str]) {
    let server = RedisServer::start();
    let command = [&["ACL", "SETUSER", "cache", "on", ">pw"], rules].concat();
    assert_eq!(server.cli(&command), "OK");
    let (one, other) = (story_of_user(&server), story_of_user(&server));
    let gate = Gate::closed();
    one.origin_says(ok("one's").cache_control("max-age=60").head_after(&gate));
    other.origin_says(ok("other's").cache_control("max-age=60"));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    assert!(leases(&server).is_empty());
    other.client_asks(get("/a")).await.is_stored().has_body("other's");
    one.client_asks_and_goes_on(get("/a")).await.is_hit().has_body("other's");
    gate.open();
    first.await.expect("an answer").is_stored().has_body("one's");
    for number in 0..20 {
        one.client_asks(get(&format!("/{number}"))).await.is_stored();
        other.client_asks(get(&format!("/{number}"))).await.is_hit();
    }
    assert_eq!((one.handle.stats().store_unavailable, one.handle.stats().dropped_writes), (0, 0));
}

#[tokio::test]
async fn a_user_who_may_not_run_scripts_gets_caching() {
    each_fetches_and_all_is_cached(&["~trc:*", "+get", "+getrange", "+set", "+unlink", "+pexpire"]).await;
}

#[tokio::test]
async fn a_user_who_may_run_only_known_scripts_gets_caching() {
    each_fetches_and_all_is_cached(&["~trc:*", "+get", "+getrange", "+set", "+unlink", "+pexpire", "+evalsha"]).await;
}

#[tokio::test]
async fn a_server_without_scripts_gets_caching() {
    let renames = ["--rename-command", "EVAL", "", "--rename-command", "EVALSHA", ""];
    let server = RedisServer::start_with(&renames);
    let time = whole_second();
    let config = CacheConfig::new(server.url()).expect("a URL").clock(time.clock());
    let story = Story::told_by(RedisCacheLayer::new(config.store_timeout(PATIENCE / 2)), time);
    story.origin_says(ok("page").cache_control("max-age=60"));
    for number in 0..20 {
        story.client_asks(get(&format!("/{number}"))).await.is_stored();
        story.client_asks(get(&format!("/{number}"))).await.is_hit();
    }
    assert_eq!(story.handle.stats().store_unavailable, 0);
}

#[tokio::test]
async fn a_server_that_forgets_its_scripts_is_told_them_again() {
    let stage = Stage::redis();
    let one = process(&stage);
    one.origin_says(ok("page").cache_control("max-age=60"));
    one.client_asks(get("/a")).await.is_stored();
    stage.server().cli(&["SCRIPT", "FLUSH"]);
    let told = stage.server().calls("eval");
    // Where something is stored the lease is taken by a script.
    one.time_passes(seconds(60));
    one.client_asks(get("/a")).await.is_stored();
    one.client_asks(get("/a")).await.is_hit();
    // A heartbeat may have come in between.
    let told = stage.server().calls("eval") - told;
    assert!((2..=3).contains(&told), "one to take the lease, one to write, and one that reads purges: {told}");
}

#[tokio::test]
async fn the_rights_that_the_documentation_names_are_enough() {
    let server = RedisServer::start();
    let page = include_str!("../../docs/redis.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER cache")).expect("the rights");
    let command: Vec<&str> = line.split(' ').map(|word| if word == ">password" { ">pw" } else { word }).collect();
    assert_eq!(server.cli(&command), "OK");
    let (one, other) = (story_of_user(&server), story_of_user(&server));
    let gate = Gate::closed();
    let body = "0123456789".repeat(60_000);
    one.origin_says(ok(body.clone()).cache_control("max-age=60").head_after(&gate));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let looks = server.calls("evalsha");
    let second = client(&other, get("/a"));
    eventually("it waits", || server.calls("evalsha") >= looks + 3).await;
    gate.open();
    first.await.expect("an answer").is_stored().has_body(&body);
    second.await.expect("an answer").has_body(&body);
    other.origin_was_asked(0);
    one.fills_are_done().await;
    for story in [&one, &other] {
        story.client_asks(get("/a")).await.is_hit().has_body(&body);
    }
    other.client_asks(crate::support::story::ask("DELETE", "/a")).await;
    assert_eq!(server.cli(&["ACL", "LOG"]), "", "nothing is refused");
}
