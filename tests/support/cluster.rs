//! A real Redis Cluster for one test: so many primaries with a share of the slots each, and so many replicas of each.

use std::time::{Duration, Instant};

use super::redis::RedisServer;

const READY_WITHIN: Duration = Duration::from_secs(30);
const SLOTS: usize = 16_384;
const SETTINGS: [&str; 10] = [
    "--cluster-enabled",
    "yes",
    // Failovers are quick.
    "--cluster-node-timeout",
    "500",
    "--cluster-require-full-coverage",
    "no",
    "--repl-diskless-sync-delay",
    "0",
    "--cluster-replica-validity-factor",
    "0",
];

/// The servers are killed when it is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// The primaries first, as it begins; then a replica of each, and another of each.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the servers, and waits until all of them know all of it.
    pub fn start(primaries: usize, replicas: usize) -> Self {
        let all = primaries * (1 + replicas);
        let nodes: Vec<_> = (0..all).map(|_| RedisServer::start_with(&SETTINGS)).collect();
        for (index, node) in nodes.iter().enumerate() {
            assert_eq!(node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]), "OK");
            if index < primaries {
                let (first, end) = (SLOTS * index / primaries, SLOTS * (index + 1) / primaries);
                assert_eq!(node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()]), "OK");
            }
        }
        for node in &nodes[1..] {
            assert_eq!(nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]), "OK");
        }
        let cluster = Self { nodes };
        let is_known = format!("cluster_known_nodes:{all}\r");
        cluster.all("know each other", |node| node.cli(&["CLUSTER", "INFO"]).contains(&is_known));
        for (index, replica) in cluster.nodes.iter().enumerate().skip(primaries) {
            let id = cluster.nodes[index % primaries].cli(&["CLUSTER", "MYID"]);
            let is_a_replica = || replica.cli(&["CLUSTER", "REPLICATE", &id]) == "OK";
            patiently("a replica knows its primary", is_a_replica);
        }
        cluster.all("are in step", |node| {
            let has_all = node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            let replication = node.cli(&["INFO", "replication"]);
            let in_step = replication.contains("role:master") || replication.contains("master_link_status:up");
            let sharded = node.cli(&["CLUSTER", "SLOTS"]).matches("127.0.0.1").count();
            has_all && in_step && sharded == all
        });
        cluster
    }

    /// `redis+cluster://127.0.0.1:<port>` of a node.
    pub fn url_of(&self, node: usize) -> String {
        format!("redis+cluster://127.0.0.1:{}", self.nodes[node].port())
    }

    pub fn url(&self) -> String {
        self.url_of(0)
    }

    pub fn slot_of(&self, key: &str) -> String {
        self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key])
    }

    /// The node that a key is with, as the others have it.
    pub fn owner_of(&self, key: &str) -> usize {
        self.owner(&self.slot_of(key))
    }

    fn owner(&self, slot: &str) -> usize {
        let is_owner = |node: &RedisServer| {
            node.cli(&["CLUSTER", "NODES"]).lines().any(|line| line.contains("myself,master") && owns(line, slot))
        };
        self.nodes.iter().position(is_owner).expect("one has it")
    }

    /// Moves a slot to another node, with all its keys. In the middle, some of them are here and the others there.
    pub fn move_slot(&self, slot: &str, to: usize, in_the_middle: impl FnOnce(&RedisServer)) {
        let (from, to) = (&self.nodes[self.owner(slot)], &self.nodes[to]);
        let ids = [from, to].map(|node| node.cli(&["CLUSTER", "MYID"]));
        assert_eq!(to.cli(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &ids[0]]), "OK");
        assert_eq!(from.cli(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &ids[1]]), "OK");
        in_the_middle(from);
        loop {
            let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", slot, "100"]);
            let keys: Vec<_> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            for key in keys {
                Self::migrate(from, to, key);
            }
        }
        for node in [to, from] {
            assert_eq!(node.cli(&["CLUSTER", "SETSLOT", slot, "NODE", &ids[1]]), "OK");
        }
    }

    /// Moves one key of a slot that is being moved.
    pub fn migrate(from: &RedisServer, to: &RedisServer, key: &str) {
        let said = from.cli(&["MIGRATE", "127.0.0.1", &to.port().to_string(), key, "0", "5000"]);
        assert!(matches!(&*said, "OK" | "NOKEY"), "{key}: {said}");
    }

    fn all(&self, what: &str, is_so: impl Fn(&RedisServer) -> bool) {
        patiently(what, || self.nodes.iter().all(&is_so));
    }
}

fn owns(line: &str, slot: &str) -> bool {
    let slot: usize = slot.parse().expect("a number");
    line.split(' ').skip(8).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().is_ok_and(|first: usize| first <= slot) && last.parse().is_ok_and(|last: usize| slot <= last)
    })
}

fn patiently(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < READY_WITHIN, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
