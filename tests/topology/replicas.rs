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

/// Nearly all that is read is read from replicas.
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
}

/// A replica that lacks what its primary has, or has what was purged, changes nothing.
async fn may_be_behind(story: &Story, replica: &RedisServer) {
    let mut old = Vec::new();
    replica.cli(&["CONFIG", "SET", "replica-read-only", "no"]);
    for key in replica.keys("trc:{*}") {
        let value = replica.value(&key).expect("it is there");
        assert_eq!(replica.cli(&["DEL", &key]), "1");
        old.push((key, value));
    }
    story.client_asks(get("/a")).await.is_hit().has_body("page");
    // What was purged is not found, though a replica has it still.
    story.handle.purge([PurgeTarget::everything()], PurgeMode::Hard).await.expect("it is recorded");
    let is_behind = |old: &[(String, Vec<u8>)]| {
        for (key, value) in old {
            assert_eq!(replica.cli_bytes(&[b"SET", key.as_bytes(), value]), "OK");
        }
    };
    is_behind(&old);
    story.origin.answers(|_| ok("new").cache_control("max-age=600"));
    for target in ["/a", "/large"] {
        story.client_asks(get(target)).await.is_forwarded_for("uri-miss").is_stored().has_body("new");
    }
    eventually("the new ones are there as well", || {
        let is_new = |(key, value): &(String, Vec<u8>)| replica.value(key).as_ref() != Some(value);
        old.iter().all(is_new)
    })
    .await;
    is_behind(&old);
    for target in ["/a", "/large"] {
        story.client_asks(get(target)).await.is_hit().has_body("new");
    }
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
    let story = story(config);
    are_read_from(&story, &[&primary], &[&replica]).await;
    may_be_behind(&story, &replica).await;
    // One that hangs costs a few look-ups their part of the time, and is then left alone.
    replica.stop();
    let is_known = || async {
        story.client_asks(get("/a")).await.is_hit();
        story.handle.doctor().await.to_string().contains(" 0 of ").then_some(())
    };
    until_some("it is known that it hangs", is_known).await;
    let reads = primary.calls("getrange");
    story.client_asks(get("/a")).await.is_hit();
    assert!(primary.calls("getrange") > reads);
    replica.cont();
}

#[test]
fn nobody_says_where_the_replicas_of_one_server_are() {
    let refused = CacheConfig::new("redis://127.0.0.1").expect("a URL").redis_read_from_replicas();
    assert!(refused.expect_err("no replicas").to_string().contains("redis+sentinel://"));
}
