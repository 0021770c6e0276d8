//! Redis answers, and refuses: writes for want of memory, as a replica, without its replicas; or everything for now.

use std::sync::Arc;

use crate::support::gate::{eventually, until_some};
use crate::support::redis::RedisServer;
use crate::support::relay::Relay;
use crate::support::story::{Story, get};
use crate::troupe::{calm_story_at, is_cached_again, passes, the_breaker_is_closed};

/// Reads go on and hit, writes are dropped and counted, and the breaker stays closed.
async fn only_writes_stop(story: &Story, server: &RedisServer) {
    let before = story.handle.stats();
    for number in 0..10 {
        passes(story, &format!("/new-{number}")).await;
        passes(story, "/again").await.is_hit();
    }
    eventually("a write is dropped", || story.handle.stats().dropped_writes > before.dropped_writes).await;
    let stats = story.handle.stats();
    assert_eq!(stats.store_unavailable, 0, "{stats:?}");
    assert!(server.keys("*").len() <= 2, "{:?}", server.keys("*"));
}

async fn writes_go_on(story: &Story) {
    let mut number = 0;
    until_some("writes go on", || {
        number += 1;
        let path = format!("/later-{number}");
        async move {
            passes(story, &path).await;
            assert!(story.handle.drain(crate::support::gate::PATIENCE).await);
            passes(story, &path).await.outcome().is_hit().then_some(())
        }
    })
    .await;
}

#[tokio::test]
async fn a_full_redis_keeps_serving_what_it_has() {
    let server = RedisServer::start();
    let story = calm_story_at(&server.url());
    is_cached_again(&story).await;
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    only_writes_stop(&story, &server).await;
    let said = until_some("the reason is told", || async {
        let answer = passes(&story, "/reason").await;
        answer.cache_status().word("detail").map(str::to_owned)
    });
    assert_eq!(said.await, "store-full");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    writes_go_on(&story).await;
}

#[tokio::test]
async fn a_redis_that_wants_replicas_keeps_serving_what_it_has() {
    let server = RedisServer::start();
    let story = calm_story_at(&server.url());
    is_cached_again(&story).await;
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    only_writes_stop(&story, &server).await;
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    writes_go_on(&story).await;
}

#[tokio::test]
async fn a_primary_that_became_a_replica_keeps_serving_and_may_come_back() {
    let server = RedisServer::start();
    let mut gone = RedisServer::start();
    gone.kill();
    let story = calm_story_at(&server.url());
    is_cached_again(&story).await;
    server.cli(&["REPLICAOF", "127.0.0.1", &gone.port().to_string()]);
    only_writes_stop(&story, &server).await;
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    writes_go_on(&story).await;
}

#[tokio::test]
async fn after_a_failover_the_new_primary_is_found_behind_the_same_address() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let relay = Relay::to(old.port()).await;
    let story = calm_story_at(&relay.url());
    is_cached_again(&story).await;
    relay.lead_new_connections_to(new.port());
    old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
    writes_go_on(&story).await;
    let on_the_new_one = new.keys("*").len();
    assert!(on_the_new_one > 0, "the new primary has what was written since");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_busy_with_a_script_is_passed_by() {
    let server = Arc::new(RedisServer::start());
    let story = calm_story_at(&server.url());
    is_cached_again(&story).await;
    server.cli(&["CONFIG", "SET", "busy-reply-threshold", "1"]);
    let endless = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || server.cli(&["EVAL", "while true do end", "0"])
    });
    until_some("Redis is busy", || async {
        passes(&story, "/again").await;
        server.cli(&["GET", "x"]).starts_with("BUSY").then_some(())
    })
    .await;
    for number in 0..20 {
        passes(&story, &format!("/{number}")).await;
    }
    until_some("the script is killed", || async { (server.cli(&["SCRIPT", "KILL"]) == "OK").then_some(()) }).await;
    endless.await.expect("the script ended");
    is_cached_again(&story).await;
    the_breaker_is_closed(&story).await;
}

#[tokio::test]
async fn what_is_stored_before_memory_runs_out_is_evicted_without_harm() {
    let server = RedisServer::start();
    let story = calm_story_at(&server.url());
    let used = server.info("used_memory");
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.cli(&["CONFIG", "SET", "maxmemory", &(used + 3_000_000).to_string()]);
    let body = "0123456789".repeat(40_000);
    let large = body.clone();
    story.origin.answers(move |_| crate::support::scripted::ok(large.clone()).cache_control("max-age=60"));
    for round in 0..2 {
        for number in 0..20 {
            let answer = story.client_asks(get(&format!("/{number}"))).await;
            answer.has_status(200).has_body(&body);
            assert!(round > 0 || !answer.outcome().is_hit());
        }
    }
    assert!(server.info("evicted_keys") > 0, "something was evicted");
}
