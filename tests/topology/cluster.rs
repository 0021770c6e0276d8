//! A cluster: each key is with one of its nodes, and that may be another from one moment to the next.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tower_redis_cache::{CacheConfig, PurgeMode, PurgeTarget, RedisCacheLayer, Severity};

use super::{is_cached, story};
use crate::support::cluster::RedisCluster;
use crate::support::gate::{PATIENCE, eventually};
use crate::support::scripted::ok;
use crate::support::story::{Story, get, head, whole_second};

const CLOCK: &str = "trc:{purge}";

fn config(cluster: &RedisCluster) -> CacheConfig {
    CacheConfig::new(cluster.url()).expect("a URL")
}

/// A store that does not answer is not waited for longer than in production.
fn impatient(cluster: &RedisCluster) -> Story {
    let time = whole_second();
    let config = config(cluster).clock(time.clock()).store_timeout(Duration::from_millis(250));
    let story = Story::told_by(RedisCacheLayer::new(config), time);
    story.origin.answers(|_| ok("page").cache_control("max-age=600"));
    story
}

/// The base key of what is stored for a target, and the node that it is with.
fn stored(cluster: &RedisCluster, known: &[String]) -> (String, usize) {
    let found = cluster.nodes.iter().enumerate().find_map(|(index, node)| {
        let keys = node.keys("trc:{*}");
        keys.into_iter().find(|key| !known.contains(key)).map(|key| (key, index))
    });
    found.expect("it is stored")
}

/// One target with each of the primaries.
async fn one_on_each(cluster: &RedisCluster, story: &Story, primaries: usize) -> Vec<String> {
    let (mut targets, mut known) = (vec![None; primaries], Vec::new());
    for number in 0.. {
        let target = format!("/{number}");
        is_cached(story, &target).await;
        let (key, node) = stored(cluster, &known);
        known.push(key);
        targets[node].get_or_insert(target);
        if targets.iter().all(Option::is_some) {
            break;
        }
        assert!(number < 1000, "they go to all of them");
    }
    targets.into_iter().flatten().collect()
}

fn replies(cluster: &RedisCluster, code: &str) -> u64 {
    let count = |node: &crate::support::redis::RedisServer| {
        let line = format!("errorstat_{code}:count=");
        let stats = node.cli(&["INFO", "errorstats"]);
        stats.lines().find_map(|found| found.strip_prefix(&line)?.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    cluster.nodes.iter().map(count).sum()
}

#[tokio::test]
async fn all_that_a_cache_does_goes_to_the_node_that_has_the_key() {
    let cluster = RedisCluster::start(3, 0);
    let [one, other] = [0, 1].map(|_| story(config(&cluster)));
    let large = Bytes::from(vec![b'x'; 700_000]);
    for number in 0..20 {
        let (small, big) = (format!("/{number}"), format!("/{number}/large"));
        one.origin.answers(|_| ok("page").cache_control("max-age=600").header("vary", "accept-language"));
        one.client_asks(get(&small).header("accept-language", "de")).await.is_stored();
        one.client_asks(get(&small).header("accept-language", "en")).await.is_stored();
        let body = large.clone();
        one.origin.answers(move |_| ok(body.clone()).cache_control("max-age=600").header("cache-tag", "all"));
        one.client_asks(get(&big)).await.is_stored().has_body(&large);
        for language in ["de", "en"] {
            other.client_asks(get(&small).header("accept-language", language)).await.is_hit().has_body("page");
        }
        other.client_asks(get(&big)).await.is_hit().has_body(&large);
        other.client_asks(get(&big).header("range", "bytes=5-6")).await.is_hit().has_body("xx");
        other.client_asks(head(&big)).await.is_hit();
    }
    assert!(cluster.nodes.iter().all(|node| node.keys("trc:{*}").len() > 3), "they are with all nodes");
    one.client_asks(get("/0").header("accept-language", "de")).await.is_hit();
    one.handle.purge([PurgeTarget::tag("all")], PurgeMode::Hard).await.expect("it is recorded");
    eventually("the other has heard of it", || {
        let handle = other.handle.clone();
        handle.stats().purge_records > 0
    })
    .await;
    other.client_asks(get("/3/large")).await.is_forwarded_for("uri-miss");
    other.client_asks(get("/3").header("accept-language", "en")).await.is_hit();
    for code in ["CROSSSLOT", "TRYAGAIN", "ASK"] {
        assert_eq!(replies(&cluster, code), 0, "{code}");
    }
    // Each connection is tried out by a key that another node may have: two lanes of two caches to two nodes.
    assert!(replies(&cluster, "MOVED") <= 8);
}

#[tokio::test]
async fn slots_that_move_under_requests_lose_nothing() {
    let cluster = RedisCluster::start(2, 0);
    let story = story(config(&cluster));
    let targets = one_on_each(&cluster, &story, 2).await;
    let key = cluster.nodes[0].keys("trc:{*}").remove(0);
    let calls = story.origin.calls();
    // Of the node that all of it leaves.
    for name in [key.as_str(), CLOCK] {
        let from = cluster.owner_of(name);
        let to = 1 - from;
        let slot = cluster.slot_of(name);
        cluster.move_slot(&slot, to, |from| RedisCluster::migrate(from, &cluster.nodes[to], name));
        assert_eq!(cluster.owner_of(name), to);
        for target in &targets {
            story.client_asks(get(target)).await.is_hit();
        }
    }
    assert_eq!(story.origin.calls(), calls);
    story.handle.purge([PurgeTarget::everything()], PurgeMode::Hard).await.expect("it is recorded");
    story.client_asks(get(&targets[0])).await.is_forwarded_for("uri-miss").is_stored();
    story.client_asks(get(&targets[0])).await.is_hit();
}

/// What is there already is found where it is, and what is new is written where it will be.
#[tokio::test]
async fn a_slot_in_the_middle_of_its_move_is_read_and_written() {
    let cluster = RedisCluster::start(2, 0);
    let story = story(config(&cluster));
    let targets = one_on_each(&cluster, &story, 2).await;
    // With the first node: that of the first target.
    let key = cluster.nodes[0].keys("trc:{*}").remove(0);
    let begun = Instant::now();
    let slot = cluster.slot_of(&key);
    let ids = [0, 1].map(|node: usize| cluster.nodes[node].cli(&["CLUSTER", "MYID"]));
    assert_eq!(cluster.nodes[1].cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]), "OK");
    assert_eq!(cluster.nodes[0].cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]), "OK");
    for target in &targets {
        story.client_asks(get(target)).await.is_hit();
    }
    RedisCluster::migrate(&cluster.nodes[0], &cluster.nodes[1], &key);
    for target in &targets {
        story.client_asks(get(target)).await.is_hit();
    }
    let _ = story.client_asks(get(&targets[0]).header("cache-control", "no-cache")).await.has_body("page");
    for node in [1, 0] {
        assert_eq!(cluster.nodes[node].cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]), "OK");
    }
    story.origin_says(ok("new").cache_control("max-age=600"));
    story.client_asks(get(&targets[0]).header("cache-control", "no-cache")).await.has_body("new").is_stored();
    story.client_asks(get(&targets[0])).await.is_hit().has_body("new");
    assert!(replies(&cluster, "ASK") > 0 && begun.elapsed() < PATIENCE);
    assert!(!cluster.nodes[0].keys("trc:{*}").contains(&key), "it is not written where it is no more");
}

#[tokio::test]
async fn a_primary_that_dies_is_replaced_by_its_replica_and_no_purge_is_lost() {
    let mut cluster = RedisCluster::start(3, 1);
    let story = impatient(&cluster);
    let targets = one_on_each(&cluster, &story, 3).await;
    let dead = cluster.owner_of(CLOCK);
    // With another node, so that it outlives that one.
    let mut tagged = Vec::new();
    for number in 0..20 {
        let target = format!("/tagged/{number}");
        story.origin_says(ok("old").cache_control("max-age=600").header("cache-tag", "a"));
        story.client_asks(get(&target)).await.is_stored();
        story.client_asks(get(&target)).await.is_hit();
        tagged.push(target);
    }
    story.origin.answers(|_| ok("page").cache_control("max-age=600"));
    story.handle.purge([PurgeTarget::tag("a")], PurgeMode::Hard).await.expect("it is recorded");
    let offset = |node: usize| cluster.nodes[node].info("master_repl_offset");
    eventually("it is in step", || offset(dead + 3) >= offset(dead)).await;
    cluster.nodes[dead].kill();
    // Meanwhile everybody is answered.
    let begun = Instant::now();
    let mut answered = 0;
    while cluster.nodes[dead + 3].cli(&["ROLE"]).starts_with("slave") {
        assert!(begun.elapsed() < PATIENCE, "no failover");
        for target in &targets {
            story.client_asks(get(target)).await.has_status(200).has_body("page");
            answered += 1;
        }
    }
    assert!(answered > 0);
    for target in &targets {
        is_cached(&story, target).await;
    }
    // Who has never heard of it, learns it from the replica.
    let newcomer = impatient(&cluster);
    is_cached(&newcomer, &targets[0]).await;
    for target in &tagged {
        newcomer.client_asks(get(target)).await.has_body("page");
    }
    story.handle.purge([PurgeTarget::everything()], PurgeMode::Hard).await.expect("it is recorded");
    assert!(!story.client_asks(get(&targets[1])).await.outcome().is_hit());
}

#[tokio::test]
async fn what_is_with_other_nodes_is_answered_while_one_is_away() {
    let cluster = RedisCluster::start(3, 0);
    let story = impatient(&cluster);
    let targets = one_on_each(&cluster, &story, 3).await;
    let away = (cluster.owner_of(CLOCK) + 1) % 3;
    cluster.nodes[away].stop();
    let calls = story.origin.calls();
    // A few look-ups wait for their deadline, and from then on nobody does.
    for round in 0..20 {
        for (node, target) in targets.iter().enumerate() {
            let answer = story.client_asks(get(target)).await;
            answer.has_status(200).has_body("page");
            match node == away {
                true => answer.is_forwarded_for("miss").has_detail("store-unavailable"),
                false => answer.is_hit(),
            };
        }
        if round == 10 {
            assert!(story.origin.calls() > calls);
        }
    }
    assert_eq!(story.handle.stats().store_unavailable, 0);
    cluster.nodes[away].cont();
    is_cached(&story, &targets[away]).await;
}

/// Nobody can know what has been purged.
#[tokio::test]
async fn while_the_node_with_the_record_of_purges_is_away_nothing_stored_is_served() {
    let cluster = RedisCluster::start(3, 0);
    let story = impatient(&cluster);
    let targets = one_on_each(&cluster, &story, 3).await;
    let away = cluster.owner_of(CLOCK);
    cluster.nodes[away].stop();
    let begun = Instant::now();
    let is_served = async |target: &String| story.client_asks(get(target)).await.has_body("page").outcome().is_hit();
    for target in &targets {
        while is_served(target).await {
            assert!(begun.elapsed() < PATIENCE, "{target} is served for ever");
        }
    }
    assert!(story.handle.purge([PurgeTarget::everything()], PurgeMode::Hard).await.is_err());
    cluster.nodes[away].cont();
    for target in &targets {
        is_cached(&story, target).await;
    }
}

#[tokio::test]
async fn any_node_will_do_to_begin_with_and_a_plain_url_is_told_what_helps() {
    let cluster = RedisCluster::start(2, 0);
    let nobody = crate::support::redis::free_port().expect("a port");
    let url = format!("redis+cluster://127.0.0.1:{nobody},127.0.0.1:{}", cluster.nodes[1].port());
    let story = story(CacheConfig::new(url).expect("a URL"));
    is_cached(&story, "/a").await;
    let diagnosis = story.handle.doctor().await;
    assert_eq!(diagnosis.findings()[0].severity, Severity::Fine, "{diagnosis}");
    let plain = super::story(CacheConfig::new(cluster.nodes[0].url()).expect("a URL"));
    plain.client_asks(get("/b")).await.has_body("page");
    let diagnosis = plain.handle.doctor().await.to_string();
    assert!(diagnosis.contains("redis+cluster://"), "{diagnosis}");
}

#[tokio::test]
async fn without_a_node_there_is_no_cache_and_no_error() {
    let nobody = crate::support::redis::free_port().expect("a port");
    let server = crate::support::redis::RedisServer::start();
    for port in [nobody, server.port()] {
        let story = story(CacheConfig::new(format!("redis+cluster://127.0.0.1:{port}")).expect("a URL"));
        for _ in 0..3 {
            story
                .client_asks(get("/a"))
                .await
                .is_forwarded_for("miss")
                .has_detail("store-unavailable")
                .has_body("page");
        }
        assert_eq!(story.handle.doctor().await.severity(), Severity::Broken);
    }
}
