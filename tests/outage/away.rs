//! Redis is not there: not yet, not any more, or not for long.

use std::time::Duration;

use crate::support::gate::until_some;
use crate::support::redis::RedisServer;
use crate::support::relay::Relay;
use crate::support::story::get;
use crate::troupe::{Crowd, is_cached_again, passes, story_at, the_breaker_is_closed, the_breaker_opens};

#[tokio::test]
async fn a_redis_that_is_down_at_the_start_is_used_once_it_is_there() {
    let mut server = RedisServer::start();
    server.kill();
    let story = story_at(&server.url());
    passes(&story, "/first").await.is_forwarded_for("miss").has_detail("store-unavailable").is_not_stored();
    the_breaker_opens(&story).await;
    assert!(!story.handle.ready().await, "the handle says that the cache is not in use");
    server.restart();
    is_cached_again(&story).await;
    the_breaker_is_closed(&story).await;
    assert!(story.handle.ready().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_redis_is_killed_under_load_and_restarted_empty() {
    let mut server = RedisServer::start();
    let story = story_at(&server.url());
    is_cached_again(&story).await;
    let crowd = Crowd::gathers(&story, 16);
    crowd.has_answers(200).await;
    server.kill();
    the_breaker_opens(&story).await;
    crowd.has_answers(200).await;
    server.restart();
    is_cached_again(&story).await;
    crowd.has_answers(200).await;
    crowd.goes_home_content().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_reset_again_and_again_harm_nobody() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port()).await;
    let story = story_at(&relay.url());
    is_cached_again(&story).await;
    let crowd = Crowd::gathers(&story, 8);
    for _ in 0..5 {
        crowd.has_answers(50).await;
        relay.cut_present_connections();
        is_cached_again(&story).await;
    }
    crowd.goes_home_content().await;
    the_breaker_is_closed(&story).await;
}

#[tokio::test]
async fn clients_killed_by_the_administrator_come_back() {
    let server = RedisServer::start();
    let story = story_at(&server.url());
    is_cached_again(&story).await;
    for _ in 0..3 {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        passes(&story, "/again").await;
        is_cached_again(&story).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_is_filled_again() {
    let server = RedisServer::start();
    let story = story_at(&server.url());
    let crowd = Crowd::gathers(&story, 8);
    for _ in 0..5 {
        crowd.has_answers(50).await;
        assert_eq!(server.cli(&["FLUSHALL"]), "OK");
    }
    crowd.goes_home_content().await;
    is_cached_again(&story).await;
    assert_eq!(story.handle.stats().store_errors, 0);
}

#[tokio::test]
async fn a_connection_reset_in_the_middle_of_a_value_is_a_miss_and_nothing_worse() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port()).await;
    let story = story_at(&relay.url());
    let body = "0123456789".repeat(100_000);
    let large = body.clone();
    story.origin.answers(move |_| crate::support::scripted::ok(large.clone()).cache_control("max-age=60"));
    until_some("the large response is stored", || async {
        story.client_asks(get("/large")).await.outcome().is_hit().then_some(())
    })
    .await;
    relay.cut_after(100_000);
    for _ in 0..10 {
        let answer = story.client_asks_and_goes_on(get("/large")).await;
        answer.has_status(200).has_body(&body);
    }
    relay.cut_no_more();
    until_some("the large response is a hit again", || async {
        let answer = story.client_asks_and_goes_on(get("/large")).await;
        answer.has_status(200).has_body(&body);
        answer.outcome().is_hit().then_some(())
    })
    .await;
}

#[tokio::test]
async fn fills_that_find_no_redis_end_by_themselves() {
    let mut server = RedisServer::start();
    let story = story_at(&server.url());
    is_cached_again(&story).await;
    server.kill();
    for number in 0..20 {
        passes(&story, &format!("/{number}")).await;
    }
    assert!(story.handle.drain(Duration::from_secs(20)).await);
    let stats = story.handle.stats();
    assert_eq!((stats.fills_in_flight, stats.bytes_in_flight), (0, 0), "{stats:?}");
}
