//! The repair itself: who does it, and what must not disturb it.

use crate::support::redis::RedisServer;
use crate::support::story::{ask, get};
use crate::troupe::{calm_story_at, is_cached_again, passes, the_breaker_opens};

/// A runtime of its own, which ends with the returned value's drop.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

#[test]
fn a_repair_whose_runtime_has_ended_is_taken_up_by_another() {
    let mut server = RedisServer::start();
    let story = calm_story_at(&server.url());
    let first = runtime();
    first.block_on(is_cached_again(&story));
    server.kill();
    first.block_on(the_breaker_opens(&story));
    drop(first);
    server.restart();
    runtime().block_on(is_cached_again(&story));
}

#[tokio::test]
async fn a_user_who_may_not_remove_may_still_store() {
    let server = RedisServer::start();
    let rules = ["~trc:*", "+get", "+getrange", "+set", "-unlink"];
    assert_eq!(server.cli(&[&["ACL", "SETUSER", "cache", "on", ">pw"][..], &rules].concat()), "OK");
    let story = calm_story_at(&server.url_of_user("cache", "pw"));
    is_cached_again(&story).await;
    story.client_asks(ask("POST", "/other")).await.has_detail("not-invalidated");
    for number in 0..5 {
        story.client_asks(get(&format!("/{number}"))).await.is_stored();
        passes(&story, &format!("/{number}")).await.is_hit();
    }
}

#[tokio::test]
async fn a_full_redis_that_lets_entries_be_removed_is_still_full() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "noeviction"]);
    let story = calm_story_at(&server.url());
    is_cached_again(&story).await;
    assert_eq!(server.cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    story.client_asks(get("/one")).await;
    for number in 0..5 {
        story.client_asks(ask("POST", "/other")).await.has_status(200);
        passes(&story, &format!("/{number}")).await.has_detail("store-full");
    }
}
