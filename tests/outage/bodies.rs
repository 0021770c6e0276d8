//! Redis falls ill while a large body is on its way.

use std::time::Duration;

use crate::support::gate::{PATIENCE, until_some};
use crate::support::redis::RedisServer;
use crate::support::relay::Relay;
use crate::support::scripted::ok;
use crate::support::story::{Opened, Story, get};
use crate::support::tamper::{Tamper, Tampering};
use crate::troupe::story_with;

const CHUNK: usize = 256 * 1024;
const LATE: Duration = Duration::from_millis(300);

fn body() -> Vec<u8> {
    (0..20 * CHUNK).map(|at| (at % 251) as u8).collect()
}

/// A story whose client has the head of a large hit and its first chunk.
async fn under_way(url: &str, patience: Duration) -> (Story, Opened) {
    let story = story_with(url, |config| config.store_timeout(PATIENCE / 4).store_write_timeout(patience));
    story.origin.answers(|_| ok(body()).cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    let mut opened = story.client_begins(get("/a")).await;
    assert_eq!(opened.reads_on().await, CHUNK);
    (story, opened)
}

#[tokio::test]
async fn a_body_that_redis_stops_giving_breaks_off() {
    let server = RedisServer::start();
    let (story, opened) = under_way(&server.url(), LATE).await;
    server.stop();
    let answer = opened.reads_to_the_end().await;
    answer.is_hit().breaks_off();
    assert_eq!(&answer.body()[..], &body()[..answer.body().len()]);
    let stats = story.handle.stats();
    assert!(stats.store_timeouts >= 1 && stats.broken_off == 1 && stats.bytes_read_ahead == 0, "{stats:?}");
    server.cont();
    // It would be begun, and break off, again and again.
    let answer = story.client_asks(get("/a")).await;
    assert!(!answer.outcome().is_hit());
    answer.has_body(body());
}

/// One stall of the network is no reason to do without what is stored for long.
#[tokio::test]
async fn a_body_that_came_late_once_is_asked_for_again_a_second_later() {
    let server = RedisServer::start();
    let tamper = Tamper::to(server.port()).await;
    let story = story_with(&format!("redis://127.0.0.1:{}", tamper.port()), |config| config.store_timeout(LATE));
    story.origin.answers(|_| ok(body()).cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    tamper.plans(Some(("GETRANGE", Tampering::WithheldIfLong)));
    let late = story.client_asks(get("/a")).await;
    assert_eq!(late.outcome().detail(), Some("store-unavailable"));
    late.has_body(body());
    tamper.plans(None);
    until_some("Redis gives bodies again", || async {
        let other = get("/other");
        story.client_asks_and_goes_on(other).await.outcome().is_hit().then_some(())
    })
    .await;
    assert!(!story.client_asks_and_goes_on(get("/a")).await.outcome().is_hit());
    story.time_passes(Duration::from_secs(1));
    story.client_asks(get("/a")).await.is_hit().has_body(body());
}

#[tokio::test]
async fn a_body_that_redis_lost_altogether_breaks_off() {
    let mut server = RedisServer::start();
    let (story, opened) = under_way(&server.url(), PATIENCE / 4).await;
    server.restart();
    opened.reads_to_the_end().await.is_hit().breaks_off();
    assert_eq!(story.handle.stats().broken_off, 1);
}

#[tokio::test]
async fn a_body_survives_its_connection() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port()).await;
    let (story, mut opened) = under_way(&relay.url(), PATIENCE / 2).await;
    for _ in 0..2 {
        relay.cut_present_connections();
        opened.reads_on().await;
        opened.reads_on().await;
    }
    opened.reads_to_the_end().await.is_hit().has_body(body());
    assert_eq!(story.handle.stats().broken_off, 0);
}
