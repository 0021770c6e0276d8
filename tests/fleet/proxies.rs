//! Real processes on one Redis, with the defaults. One of them dies.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinHandle;

use crate::running::Proxy;
use crate::support::gate::{Gate, eventually, until_some};
use crate::support::origin::{Origin, Script};
use crate::support::redis::RedisServer;
use crate::troupe::leases;
use crate::wire::{Answer, End, Wire, get, get_hit};

/// Some proxies before an origin, on one Redis.
struct Fleet {
    origin: Origin,
    redis: RedisServer,
    proxies: Vec<Proxy>,
}

impl Fleet {
    async fn of(count: usize) -> Self {
        let (origin, redis) = (Origin::start().await, RedisServer::start());
        let mut proxies = Vec::new();
        for _ in 0..count {
            proxies.push(Proxy::with(&origin.url(), &["--redis", &redis.url()]).await);
        }
        // Each has its connections.
        for (number, proxy) in proxies.iter().enumerate() {
            get(proxy, &format!("/first-{number}")).await;
        }
        Self { origin, redis, proxies }
    }

    async fn is_asked(&self, times: usize) {
        eventually("the origin is asked", || self.origin.count("/a") == times).await;
    }

    /// All that is in Redis ends by itself, and in the end no lease is left.
    async fn leaves_nothing_for_ever(&self) {
        eventually("no lease is left", || leases(&self.redis).is_empty()).await;
        for key in self.redis.keys("*") {
            let left: i64 = self.redis.cli(&["PTTL", &key]).parse().expect("a number");
            assert!(left > 0 || left == -2, "{key}: {left}");
        }
    }
}

async fn client(proxy: &Proxy) -> JoinHandle<Answer> {
    let mut wire = Wire::to(proxy).await;
    wire.says("GET /a HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    tokio::spawn(async move { wire.hears().await })
}

async fn clients(fleet: &Fleet, count: usize) -> Vec<JoinHandle<Answer>> {
    let mut clients = Vec::new();
    for number in 0..count {
        clients.push(client(&fleet.proxies[number % fleet.proxies.len()]).await);
    }
    clients
}

fn page(text: &str) -> Script {
    Script::ok(text).header("cache-control", "max-age=60")
}

/// Waits until each proxy has looked for the lease, most of them twice. Who waits for more than five seconds gives up.
async fn all_have_looked(fleet: &Fleet) {
    let looks = || fleet.redis.calls("evalsha");
    let before = looks();
    eventually("all have looked", || looks() >= before + 2 * fleet.proxies.len() as u64).await;
}

#[tokio::test]
async fn two_hundred_clients_at_four_proxies_cost_one_fetch() {
    let fleet = Fleet::of(4).await;
    let gate = Gate::closed();
    fleet.origin.says("/a", page("hello").head_after(&gate));
    let clients = clients(&fleet, 200).await;
    fleet.is_asked(1).await;
    all_have_looked(&fleet).await;
    gate.open();
    for client in clients {
        let answer = client.await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{}", answer.head);
    }
    assert_eq!(fleet.origin.count("/a"), 1);
    fleet.leaves_nothing_for_ever().await;
}

#[tokio::test]
async fn two_hundred_clients_at_four_proxies_cost_one_validation() {
    let fleet = Fleet::of(4).await;
    let (gate, held) = (Gate::closed(), Script::status("304 Not Modified").header("etag", "\"v1\""));
    let first = Script::ok("hello").header("cache-control", "max-age=1").header("etag", "\"v1\"");
    let held = held.header("cache-control", "max-age=60").head_after(&gate);
    fleet.origin.says_in_turn("/a", [first, held]);
    get_hit(&fleet.proxies[0], "/a").await;
    // The first of those who find it stale is the validation.
    let early = until_some("it has expired", || async {
        let asking = client(&fleet.proxies[1]).await;
        eventually("it is answered, or the origin is asked", || asking.is_finished() || fleet.origin.count("/a") == 2)
            .await;
        (fleet.origin.count("/a") == 2).then_some(asking)
    })
    .await;
    let clients = clients(&fleet, 200).await;
    all_have_looked(&fleet).await;
    gate.open();
    for client in clients.into_iter().chain([early]) {
        let answer = client.await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{}", answer.head);
    }
    assert_eq!(fleet.origin.count("/a"), 2);
    fleet.leaves_nothing_for_ever().await;
}

#[tokio::test]
async fn what_is_private_is_fetched_by_all_at_once() {
    let fleet = Fleet::of(2).await;
    let gate = Gate::closed();
    let private = Script::ok("mine").header("cache-control", "private");
    fleet.origin.says_in_turn("/a", [private.clone(), private.head_after(&gate)]);
    get(&fleet.proxies[0], "/a").await;
    let clients = clients(&fleet, 40).await;
    fleet.is_asked(41).await;
    gate.open();
    for client in clients {
        assert_eq!(client.await.expect("an answer").text(), "mine");
    }
    fleet.leaves_nothing_for_ever().await;
}

#[tokio::test]
async fn when_who_fetches_is_killed_one_of_those_who_wait_takes_over_within_two_heartbeats() {
    let mut fleet = Fleet::of(4).await;
    let (never, gate) = (Gate::closed(), Gate::closed());
    fleet.origin.says_in_turn("/a", [page("lost").head_after(&never), page("hello").head_after(&gate)]);
    let doomed = client(&fleet.proxies[0]).await;
    fleet.is_asked(1).await;
    let owner = fleet.proxies.remove(0);
    let clients = clients(&fleet, 60).await;
    all_have_looked(&fleet).await;
    owner.signal(Signal::KILL);
    let killed = Instant::now();
    fleet.is_asked(2).await;
    let took = killed.elapsed();
    // Two heartbeats of a second, and what a machine that does much else adds.
    assert!(took < Duration::from_millis(2_500), "it took {took:?}");
    gate.open();
    for client in clients {
        let answer = client.await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{}", answer.head);
    }
    assert_eq!(fleet.origin.count("/a"), 2);
    doomed.abort();
    fleet.leaves_nothing_for_ever().await;
}

const LENGTH: usize = 1024 * 1024;
const HALF: usize = 600 * 1024;

fn long_page(gate: &Gate) -> (String, Script) {
    let body: String = (0..LENGTH).map(|at| char::from(b'a' + (at / 9 % 26) as u8)).collect();
    (body.clone(), page(&body).body_stops_at(HALF, gate))
}

/// Reads the head, and two chunks of what one proxy fetches.
async fn reads_half(proxy: &Proxy, body: &str) -> Wire {
    let mut wire = Wire::to(proxy).await;
    wire.says("GET /a HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    let head = wire.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains(&format!("content-length: {LENGTH}")), "{head}");
    assert_eq!(wire.bytes(512 * 1024).await, body.as_bytes()[..512 * 1024]);
    wire
}

#[tokio::test]
async fn what_one_proxy_fetches_all_send_before_it_has_come() {
    let fleet = Fleet::of(4).await;
    let gate = Gate::closed();
    let (body, script) = long_page(&gate);
    fleet.origin.says("/a", script);
    let mut readers = Vec::new();
    for number in 0..12 {
        readers.push(reads_half(&fleet.proxies[number % 4], &body).await);
    }
    gate.open();
    for mut reader in readers {
        assert_eq!(reader.bytes(512 * 1024).await, body.as_bytes()[512 * 1024..]);
    }
    assert_eq!(fleet.origin.count("/a"), 1);
    fleet.leaves_nothing_for_ever().await;
}

#[tokio::test]
async fn when_who_fetches_is_killed_those_who_read_it_elsewhere_see_no_end() {
    let mut fleet = Fleet::of(2).await;
    let never = Gate::closed();
    let (body, script) = long_page(&never);
    fleet.origin.says_in_turn("/a", [script, page("hello")]);
    let _first = reads_half(&fleet.proxies[0], &body).await;
    let mut second = reads_half(&fleet.proxies[1], &body).await;
    fleet.proxies.remove(0).signal(Signal::KILL);
    assert!(matches!(second.end().await, End::Closed(rest) if rest.is_empty()), "it is cut off where it was");
    assert_eq!(get(&fleet.proxies[0], "/a").await.text(), "hello");
    fleet.leaves_nothing_for_ever().await;
}

#[tokio::test]
async fn who_was_stopped_and_overtaken_writes_nothing() {
    let fleet = Fleet::of(2).await;
    let gate = Gate::closed();
    fleet.origin.says_in_turn("/a", [page("old").head_after(&gate), page("new")]);
    let late = client(&fleet.proxies[0]).await;
    fleet.is_asked(1).await;
    fleet.proxies[0].signal(Signal::STOP);
    assert_eq!(get(&fleet.proxies[1], "/a").await.text(), "new");
    gate.open();
    fleet.proxies[0].signal(Signal::CONT);
    assert_eq!(late.await.expect("an answer").text(), "old");
    // The next story of that proxy comes after the write that was not done.
    get(&fleet.proxies[0], "/after").await;
    for proxy in fleet.proxies.iter().cycle().take(20) {
        let answer = get(proxy, "/a").await;
        assert!(answer.is_hit() && answer.text() == "new", "{}", answer.head);
    }
    assert_eq!(fleet.origin.count("/a"), 2);
    fleet.leaves_nothing_for_ever().await;
}

#[tokio::test]
async fn when_redis_is_killed_all_who_wait_are_answered() {
    let mut fleet = Fleet::of(2).await;
    let gate = Gate::closed();
    fleet.origin.says_in_turn("/a", [page("hello").head_after(&gate), page("hello")]);
    let first = client(&fleet.proxies[0]).await;
    fleet.is_asked(1).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(client(&fleet.proxies[1]).await);
    }
    all_have_looked(&fleet).await;
    fleet.redis.kill();
    for other in others {
        let answer = other.await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{}", answer.head);
    }
    gate.open();
    assert_eq!(first.await.expect("an answer").text(), "hello");
}
