//! Look-ups in replicas.

use tower_redis_cache::{CacheConfig, PurgeMode, PurgeTarget};

use super::{is_cached, story};
use crate::sentinel::Sentinel;
use crate::support::cluster::RedisCluster;
use crate::support::gate::{eventually, until_some};
use crate::support::redis::RedisServer;
use crate::support::scripted::ok;
use crate::support::story::{Story, get};

const LARGE: usize = 700_000;

/// All that is read from Redis is read from replicas; what they lack is found all the same.
async fn are_read_from(story: &Story, primaries: &[&RedisServer], replicas: &[&RedisServer]) {
    let reads = |servers: &[&RedisServer]| servers.iter().map(|server| server.calls("getrange")).sum::<u64>();
    story.origin.answers(|asked| match asked.uri.path() {
        "/large" => ok(vec![b'x'; LARGE]).cache_control("max-age=600"),
        _ => ok("page").cache_control("max-age=600"),
    });
    is_cached(story, "/a").await;
    story.client_asks(get("/large")).await.is_stored();
    let all = format!("{0} of {0} can be read from", replicas.len());
    let is_known = || async { story.handle.doctor().await.to_string().contains(&all).then_some(()) };
    until_some("the replicas are known", is_known).await;
    let has_all = || {
        let keys = |servers: &[&RedisServer]| servers.iter().map(|server| server.keys("trc:*").len()).sum::<usize>();
        keys(replicas) >= keys(primaries)
    };
    eventually("they are in step", has_all).await;
    let before = (reads(primaries), reads(replicas));
    for _ in 0..10 {
        story.client_asks(get("/a")).await.is_hit().has_body("page");
        story.client_asks(get("/large")).await.is_hit();
    }
    let after = (reads(primaries), reads(replicas));
    assert!(after.1 >= before.1 + 10 * 4, "{before:?} {after:?}");
    // The first chunk is asked for with the question whether all are there.
    assert!(after.0 <= before.0 + 10, "{before:?} {after:?}");
    for replica in replicas {
        replica.cli(&["CONFIG", "SET", "replica-read-only", "no"]);
        for key in replica.keys("trc:{*}") {
            replica.cli(&["DEL", &key]);
        }
    }
    story.client_asks(get("/a")).await.is_hit().has_body("page");
    // What was purged is not found, though a replica may have it still.
    story.handle.purge([PurgeTarget::everything()], PurgeMode::Hard).await.expect("it is recorded");
    story.client_asks(get("/large")).await.is_forwarded_for("uri-miss");
}

#[tokio::test]
async fn a_cluster_is_read_from_its_replicas_and_without_them() {
    let mut cluster = RedisCluster::start(2, 1);
    let config = CacheConfig::new(cluster.url()).expect("a URL").redis_read_from_replicas().expect("a cluster");
    let story = story(config);
    let [one, other, first, second] = &cluster.nodes[..] else { panic!("four nodes") };
    are_read_from(&story, &[one, other], &[first, second]).await;
    cluster.nodes[2].kill();
    cluster.nodes[3].kill();
    is_cached(&story, "/b").await;
}

#[tokio::test]
async fn the_replicas_that_sentinel_names_are_read_from() {
    let (primary, replica) = (RedisServer::start(), RedisServer::start());
    assert_eq!(replica.cli(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]), "OK");
    eventually("it is in step", || replica.cli(&["INFO", "replication"]).contains("master_link_status:up")).await;
    let sentinel = Sentinel::over(&primary);
    eventually("the sentinel knows the replica", || sentinel.knows_a_replica()).await;
    let url = format!("redis+sentinel://127.0.0.1:{}/cache", sentinel.port);
    let config = CacheConfig::new(url).expect("a URL").redis_read_from_replicas().expect("sentinels");
    are_read_from(&story(config), &[&primary], &[&replica]).await;
}

#[test]
fn nobody_says_where_the_replicas_of_one_server_are() {
    let refused = CacheConfig::new("redis://127.0.0.1").expect("a URL").redis_read_from_replicas();
    assert!(refused.expect_err("no replicas").to_string().contains("redis+sentinel://"));
}
