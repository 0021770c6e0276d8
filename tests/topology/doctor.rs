//! What is said of a Redis before anybody trusts it with a cache.

use tower_redis_cache::{CacheConfig, Diagnosis, EvictionPolicy, MemoryStore, RedisCacheLayer, Severity};

use super::story;
use crate::support::redis::RedisServer;

async fn diagnose(url: &str) -> Diagnosis {
    story(CacheConfig::new(url).expect("a URL")).handle.doctor().await
}

/// The worst that is said of a subject, and all that is said of it.
fn on<'a>(diagnosis: &'a Diagnosis, subject: &str) -> (Severity, String) {
    let findings: Vec<_> = diagnosis.findings().iter().filter(|finding| finding.subject == subject).collect();
    let severity = findings.iter().map(|finding| finding.severity).max();
    let says: Vec<&'a str> = findings.iter().map(|finding| &*finding.says).collect();
    (severity.unwrap_or_else(|| panic!("nothing is said of {subject}:\n{diagnosis}")), says.join("; "))
}

#[tokio::test]
async fn a_server_as_it_should_be_is_fine() {
    let server = RedisServer::start_with(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lfu"]);
    let diagnosis = diagnose(&server.url()).await;
    assert_eq!(diagnosis.severity(), Severity::Fine, "{diagnosis}");
    assert!(on(&diagnosis, "server").1.contains("standalone"), "{diagnosis}");
    assert_eq!(on(&diagnosis, "memory").1, "64 MiB, allkeys-lfu");
    assert!(on(&diagnosis, "clock").1.contains("ms apart"));
    assert!(on(&diagnosis, "purges").1.contains("tracking"));
    // It leaves nothing behind but the purge clock.
    assert!(server.keys("*").iter().all(|key| key.contains("{purge}")), "{:?}", server.keys("*"));
    let over_resp3 = diagnose(&(server.url() + "/?protocol=resp3")).await;
    assert_eq!(over_resp3.severity(), Severity::Fine, "{over_resp3}");
}

#[tokio::test]
async fn what_will_go_wrong_is_told_with_what_helps() {
    let server = RedisServer::start_with(&["--maxmemory", "64mb", "--maxmemory-policy", "noeviction"]);
    let full = diagnose(&server.url()).await;
    let (severity, says) = on(&full, "memory");
    assert!(severity == Severity::Degraded && says.contains("allkeys-lfu"), "{full}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    let (severity, says) = on(&diagnose(&server.url()).await, "memory").clone();
    assert!(severity == Severity::Degraded && says.contains("maxmemory is not set"));
    let primary = RedisServer::start();
    server.cli(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    let replica = diagnose(&server.url()).await;
    let (severity, says) = on(&replica, "server");
    assert!(severity == Severity::Degraded && says.contains("primary"), "{replica}");
}

#[tokio::test]
async fn each_right_that_is_missing_is_named_with_what_is_lost() {
    let server = RedisServer::start();
    let user = |rights: &[&str]| {
        let base = ["ACL", "SETUSER", "cache", "reset", "on", ">pw", "~trc:*", "&trc:*"];
        assert_eq!(server.cli(&[&base[..], rights].concat()), "OK");
        server.url_of_user("cache", "pw")
    };
    let plain = diagnose(&user(&["+get", "+set"])).await;
    assert_eq!(plain.severity(), Severity::Degraded, "{plain}");
    for missing in ["GETRANGE", "EXISTS", "PEXPIRE", "UNLINK", "EVAL", "PUBLISH"] {
        assert!(on(&plain, "rights").1.contains(&format!("{missing} is not granted")), "{missing}:\n{plain}");
    }
    assert!(on(&plain, "memory").1.contains("unknown"), "{plain}");
    assert!(on(&plain, "purges").1.contains("no purge clock"));
    let without_sets = diagnose(&user(&["+@all", "-zadd", "-@admin", "-info", "-hello", "-config"])).await;
    assert!(on(&without_sets, "rights").1.contains("ZADD not granted in scripts"), "{without_sets}");
    let without_set = diagnose(&user(&["+@all", "-set"])).await;
    assert_eq!(on(&without_set, "rights").0, Severity::Broken, "{without_set}");
}

/// The rights that the page on Redis names are enough.
#[tokio::test]
async fn the_rights_in_the_documentation_are_enough() {
    let page = include_str!("../../docs/redis.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER cache")).expect("it is in there");
    let server = RedisServer::start();
    let command: Vec<_> = line.split(' ').collect();
    assert_eq!(server.cli(&command), "OK");
    let diagnosis = diagnose(&server.url_of_user("cache", "password")).await;
    assert_eq!(on(&diagnosis, "rights").0, Severity::Fine, "{diagnosis}");
    assert!(on(&diagnosis, "purges").1.contains("tracking"), "{diagnosis}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_all_there_is_to_say() {
    let mut server = RedisServer::start();
    server.kill();
    let diagnosis = diagnose(&server.url().replace("redis://", "redis://user:s3cret@")).await;
    assert_eq!((diagnosis.severity(), diagnosis.findings().len()), (Severity::Broken, 1), "{diagnosis}");
    assert!(diagnosis.to_string().contains("check that the server runs") && !diagnosis.to_string().contains("s3cret"));
}

#[tokio::test]
async fn memory_has_nothing_to_be_asked() {
    let layer = RedisCacheLayer::with_store(MemoryStore::new(1 << 20), CacheConfig::default());
    assert_eq!(layer.handle().doctor().await.severity(), Severity::Fine);
}

#[tokio::test]
async fn whose_redis_it_is_may_have_it_set() {
    let server = RedisServer::start();
    let setting = |name: &str| server.cli(&["CONFIG", "GET", name]).lines().last().unwrap_or_default().to_owned();
    let provided = |url: &str| {
        let config = CacheConfig::new(url).expect("a URL").provision_max_memory(48 << 20);
        let config = config.provision_eviction(EvictionPolicy::AllKeysLfu);
        story(config.provision_max_clients(500).expect("enough"))
    };
    let ours = provided(&server.url());
    let made = ours.handle.doctor().await;
    assert_eq!(made.severity(), Severity::Fine, "{made}");
    assert_eq!(setting("maxmemory"), (48 << 20).to_string());
    assert_eq!((&*setting("maxmemory-policy"), &*setting("maxclients")), ("allkeys-lfu", "500"));
    // A server that has been restarted is set again.
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    super::is_cached(&ours, "/a").await;
    assert_eq!(setting("maxmemory"), (48 << 20).to_string());
    // Who may not has a cache, and is told.
    let rules = ["ACL", "SETUSER", "cache", "on", ">pw", "~trc:*", "&trc:*", "+@all", "-config"];
    assert_eq!(server.cli(&rules), "OK");
    let theirs = provided(&server.url_of_user("cache", "pw"));
    super::is_cached(&theirs, "/b").await;
    let (severity, says) = on(&theirs.handle.doctor().await, "settings").clone();
    assert!(severity == Severity::Degraded && says.contains("maxmemory cannot be set (not granted)"), "{says}");
    assert!(CacheConfig::default().provision_max_clients(3).is_err());
}
