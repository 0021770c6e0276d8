//! Sentinel: where the primary is, is asked whenever a connection is made.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tower_redis_cache::CacheConfig;

use super::{is_cached, story};
use crate::support::gate::{PATIENCE, eventually};
use crate::support::redis::{RedisServer, free_port};
use crate::support::story::get;

/// One that decides alone. Killed when dropped.
pub(crate) struct Sentinel {
    process: Child,
    pub(crate) port: u16,
    _directory: TempDir,
}

impl Sentinel {
    pub(crate) fn over(primary: &RedisServer) -> Self {
        Self::with(primary, "")
    }

    fn with(primary: &RedisServer, more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, port) = (directory.path().join("sentinel.conf"), free_port().expect("a port"));
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor cache 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds cache 300\nsentinel failover-timeout cache 2000\n{more}",
            directory.path().display(),
            primary.port()
        );
        fs::write(&file, text).expect("it can be written");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("redis-server is installed");
        let sentinel = Self { process, port, _directory: directory };
        let begun = Instant::now();
        while sentinel.asks("PING\r\n").is_none() {
            assert!(begun.elapsed() < PATIENCE, "the sentinel does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        sentinel
    }

    fn asks(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(command.as_bytes()).ok()?;
        let mut answer = vec![0; 64 * 1024];
        let length = stream.read(&mut answer).ok()?;
        String::from_utf8(answer[..length].to_vec()).ok()
    }

    pub(crate) fn knows_a_replica(&self) -> bool {
        self.asks("SENTINEL REPLICAS cache\r\n").is_some_and(|answer| answer.contains("slave-repl-offset"))
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_failover_is_followed_without_a_word() {
    let (mut primary, replica) = (RedisServer::start(), RedisServer::start());
    assert_eq!(replica.cli(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]), "OK");
    eventually("it is in step", || replica.cli(&["INFO", "replication"]).contains("master_link_status:up")).await;
    let sentinel = Sentinel::over(&primary);
    eventually("the sentinel knows the replica", || sentinel.knows_a_replica()).await;
    // The first of them is not there.
    let nobody = free_port().expect("a port");
    let url = format!("redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{}/cache", sentinel.port);
    let story = story(CacheConfig::new(url).expect("a URL"));
    is_cached(&story, "/a").await;
    assert!(!primary.keys("trc:*").is_empty());
    primary.kill();
    // Nobody is kept from the page meanwhile.
    is_cached(&story, "/b").await;
    assert!(replica.cli(&["ROLE"]).contains("master"));
    assert!(!replica.keys("trc:*").is_empty());
    story
        .handle
        .purge([tower_redis_cache::PurgeTarget::everything()], tower_redis_cache::PurgeMode::Hard)
        .await
        .expect("it is recorded");
    assert!(!story.client_asks(get("/b")).await.outcome().is_hit());
}

/// The old one goes on as if nothing had happened.
#[tokio::test]
async fn a_primary_that_is_not_the_primary_any_more_is_left() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let sentinel = Sentinel::over(&old);
    let url = format!("redis+sentinel://127.0.0.1:{}/cache", sentinel.port);
    let story = story(CacheConfig::new(url).expect("a URL"));
    is_cached(&story, "/a").await;
    sentinel.asks("SENTINEL REMOVE cache\r\n");
    sentinel.asks(&format!("SENTINEL MONITOR cache 127.0.0.1 {} 1\r\n", new.port()));
    eventually("it is asked for its purges", || !new.all_keys("trc:*").is_empty()).await;
    is_cached(&story, "/b").await;
    assert!(old.keys("trc:*").len() < new.keys("trc:*").len() + 1);
}

#[tokio::test]
async fn without_a_sentinel_that_knows_the_primary_there_is_no_cache_and_no_error() {
    let primary = RedisServer::start();
    let sentinel = Sentinel::over(&primary);
    for hosts in [format!("127.0.0.1:{}/another", sentinel.port), format!("127.0.0.1:{}/cache", primary.port())] {
        let story = story(CacheConfig::new(format!("redis+sentinel://{hosts}")).expect("a URL"));
        story.client_asks(get("/a")).await.is_forwarded_for("miss").has_detail("store-unavailable").has_body("page");
    }
}

#[tokio::test]
async fn sentinels_that_want_a_password_get_their_own() {
    let primary = RedisServer::start_with(&["--requirepass", "primary"]);
    let sentinel = Sentinel::with(&primary, "sentinel auth-pass cache primary\nrequirepass sentinel\n");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    fs::write(&file, "sentinel\n").expect("it can be written");
    let url = format!("redis+sentinel://:primary@127.0.0.1:{}/cache", sentinel.port);
    let config = || CacheConfig::new(&url).expect("a URL");
    story(config()).client_asks(get("/a")).await.is_forwarded_for("miss").has_detail("store-unavailable");
    is_cached(&story(config().redis_sentinel_password_file(None, &file).expect("sentinels")), "/a").await;
    fs::write(&file, "primary").expect("it can be written");
    let wrong = config().redis_sentinel_password_file(Some("default"), &file).expect("sentinels");
    story(wrong).client_asks(get("/a")).await.is_forwarded_for("miss").has_detail("store-unavailable");
    let nobody = CacheConfig::new("redis://127.0.0.1").expect("a URL").redis_sentinel_password_file(None, &file);
    assert!(nobody.expect_err("no sentinels").to_string().contains("redis+sentinel://"));
}

#[tokio::test]
async fn what_is_no_primary_is_not_taken_for_one() {
    let (named, other) = (RedisServer::start(), RedisServer::start());
    let sentinel = Sentinel::over(&named);
    assert_eq!(named.cli(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]), "OK");
    let story = story(CacheConfig::new(format!("redis+sentinel://127.0.0.1:{}/cache", sentinel.port)).expect("a URL"));
    story.client_asks(get("/a")).await.is_forwarded_for("miss").has_detail("store-unavailable");
    assert!(story.handle.doctor().await.to_string().contains("not the primary"));
    assert_eq!(named.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    is_cached(&story, "/a").await;
}
