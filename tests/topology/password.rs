//! The password is read from a file whenever a connection is made.

use std::fs;

use tower_redis_cache::CacheConfig;

use super::{is_cached, story};
use crate::support::gate::eventually;
use crate::support::redis::RedisServer;
use crate::support::story::get;

#[tokio::test]
async fn a_password_that_changes_needs_no_restart() {
    let server = RedisServer::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    let config = || CacheConfig::new(server.url_of_user("cache", "none")).expect("a URL").redis_password_file(&file);
    let user = |password: &str| {
        let rules = ["ACL", "SETUSER", "cache", "on", "resetpass", password, "~*", "&*", "+@all"];
        assert_eq!(server.cli(&rules), "OK");
        server.cli(&["CLIENT", "KILL", "USER", "cache"]);
    };
    user(">first");
    fs::write(&file, "first\n").expect("it can be written");
    let story = story(config());
    is_cached(&story, "/a").await;
    // The file may come before the server, or after it.
    fs::write(&file, "second\r\n").expect("it can be written");
    user(">second");
    is_cached(&story, "/b").await;
    user(">third");
    story.client_asks(get("/c")).await.has_status(200);
    fs::write(&file, "third").expect("it can be written");
    is_cached(&story, "/c").await;
    // A file that is gone for a while is an outage, and no more.
    fs::remove_file(&file).expect("it is there");
    server.cli(&["CLIENT", "KILL", "USER", "cache"]);
    eventually("it is known", || {
        let _ = &story;
        story.handle.stats().store_unavailable == 1
    })
    .await;
    story.client_asks(get("/d")).await.is_forwarded_for("miss").has_detail("store-unavailable");
    fs::write(&file, "third").expect("it can be written");
    is_cached(&story, "/d").await;
}
