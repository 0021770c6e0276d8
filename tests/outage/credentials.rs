//! Wrong passwords, lost rights, few rights.

use crate::support::redis::RedisServer;
use crate::troupe::{calm_story_at, is_cached_again, passes, the_breaker_is_closed, the_breaker_opens};

#[tokio::test]
async fn a_wrong_password_put_right_on_the_server_needs_no_restart() {
    let server = RedisServer::start_with(&["--requirepass", "old"]);
    let story = calm_story_at(&server.url_with_password("new"));
    passes(&story, "/first").await.is_forwarded_for("miss").is_not_stored();
    the_breaker_opens(&story).await;
    assert_eq!(server.cli(&["CONFIG", "SET", "requirepass", "new"]), "OK");
    is_cached_again(&story).await;
    the_breaker_is_closed(&story).await;
}

#[tokio::test]
async fn a_missing_password_is_no_error_of_the_users() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    let story = calm_story_at(&server.url());
    for number in 0..20 {
        passes(&story, &format!("/{number}")).await.is_forwarded_for("miss").is_not_stored();
    }
    assert_eq!(server.cli(&["CONFIG", "SET", "requirepass", ""]), "OK");
    is_cached_again(&story).await;
}

#[tokio::test]
async fn a_password_changed_at_run_time_and_changed_back_is_survived() {
    let server = RedisServer::start_with(&["--requirepass", "one"]);
    let story = calm_story_at(&server.url_with_password("one"));
    is_cached_again(&story).await;
    assert_eq!(server.cli(&["CONFIG", "SET", "requirepass", "two"]), "OK");
    server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    the_breaker_opens(&story).await;
    assert_eq!(server.cli(&["CONFIG", "SET", "requirepass", "one"]), "OK");
    is_cached_again(&story).await;
}

fn user(server: &RedisServer, rules: &[&str]) {
    let command = [&["ACL", "SETUSER", "cache", "on", ">pw"], rules].concat();
    assert_eq!(server.cli(&command), "OK");
}

#[tokio::test]
async fn a_user_with_the_plain_rights_gets_caching() {
    let server = RedisServer::start();
    user(&server, &["~trc:*", "+get", "+mget", "+getrange", "+set", "+unlink", "+pexpire"]);
    let story = calm_story_at(&server.url_of_user("cache", "pw"));
    is_cached_again(&story).await;
    let body = "0123456789".repeat(50_000);
    let large = body.clone();
    story.origin.answers(move |_| crate::support::scripted::ok(large.clone()).cache_control("max-age=60"));
    story.client_asks(crate::support::story::get("/large")).await.is_stored();
    story.client_asks(crate::support::story::get("/large")).await.is_hit().has_body(&body);
}

#[tokio::test]
async fn a_user_without_getrange_gets_caching_by_get() {
    let server = RedisServer::start();
    user(&server, &["~trc:*", "+get", "+set", "+unlink"]);
    let story = calm_story_at(&server.url_of_user("cache", "pw"));
    is_cached_again(&story).await;
}

#[tokio::test]
async fn rights_lost_and_granted_again_are_noticed() {
    let server = RedisServer::start();
    user(&server, &["~trc:*", "+@read", "+@write"]);
    let story = calm_story_at(&server.url_of_user("cache", "pw"));
    is_cached_again(&story).await;
    user(&server, &["-@all"]);
    for number in 0..30 {
        let answer = passes(&story, &format!("/{number}")).await;
        assert!(!answer.outcome().is_hit());
    }
    user(&server, &["+@read", "+@write"]);
    is_cached_again(&story).await;
}

#[tokio::test]
async fn a_user_who_may_not_write_still_reads() {
    let server = RedisServer::start();
    let writer = calm_story_at(&server.url());
    is_cached_again(&writer).await;
    user(&server, &["~trc:*", "+get", "+getrange", "+mget"]);
    let reader = calm_story_at(&server.url_of_user("cache", "pw"));
    is_cached_again(&reader).await;
    for number in 0..30 {
        passes(&reader, &format!("/{number}")).await;
        passes(&reader, "/again").await.is_hit();
    }
    assert_eq!(reader.handle.stats().store_unavailable, 0);
}
