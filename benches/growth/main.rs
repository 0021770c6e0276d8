//! How cost grows: with the number of responses in Redis, and with their size.
//!
//! ```sh
//! cargo bench --bench growth            # needs redis-server in PATH, 3 GB of memory, and two minutes
//! ```
//!
//! A server (hyper and the layer, one thread, no memory in front of Redis) is asked once for each of so many paths, and then
//! at random for those that it has stored. Told are the CPU time of a hit for the server and for Redis, the median time of
//! one request at a time, and what Redis's memory has grown by for each response.

#[path = "../redis_hit/load.rs"]
mod load;

#[path = "../redis_hit/process.rs"]
mod process;

#[path = "../redis_hit/servers.rs"]
#[allow(dead_code)]
mod servers;

#[path = "../../tests/support/redis.rs"]
#[allow(dead_code, unreachable_pub)]
mod redis_server;

use std::env;

use process::Server;
use redis_server::RedisServer;

/// As in the proxy: with glibc's it is luck how many page faults a large body costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 32;
const HITS: usize = 100_000;
/// How many responses, and octets of body in each.
const CASES: [(usize, usize); 7] = [
    (100, 1024),
    (10_000, 1024),
    (1_000_000, 1024),
    (10_000, 100),
    (10_000, 10 * 1024),
    (2_000, 100 * 1024),
    (200, 1024 * 1024),
];

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => servers::serve(&arguments[2], &arguments[3], arguments[4].parse().expect("a size")),
        // `cargo test --benches` runs this without `--bench`: there is nothing to test.
        _ if arguments.iter().any(|argument| argument == "--bench") => CASES.into_iter().for_each(measure),
        _ => {}
    }
}

fn measure((count, size): (usize, usize)) {
    let redis = RedisServer::start();
    let server = Server::start("filled", &redis.url(), size);
    load::run(&server.address, CONNECTIONS, (0..CONNECTIONS).map(|_| 0), size);
    let before = number(&redis, "memory", "used_memory");
    // Each path once, and the first of them more than that.
    load::run(&server.address, CONNECTIONS, 1..=count, size);
    let stored = number(&redis, "memory", "used_memory") - before;
    let hits = if size > 64 * 1024 { HITS / 50 } else { HITS };
    let targets = || (0..hits).map(move |_| fastrand::usize(1..=count));
    load::run(&server.address, CONNECTIONS, targets().take(hits / 10), size);
    let (of_redis, of_server) = (redis_cpu(&redis), server.cpu_ticks());
    load::run(&server.address, CONNECTIONS, targets(), size);
    let of_server = (server.cpu_ticks() - of_server) as f64 * 10_000.0 / hits as f64;
    let of_redis = (redis_cpu(&redis) - of_redis) * 1e6 / hits as f64;
    let median = load::median_time(&server.address, targets().take(3_000), size);
    println!(
        "{count:>9} of {size:>7} B: {of_server:6.1} us of CPU a hit, {of_redis:6.1} us of Redis's, {:6.0} us one at a time, \
         {:9.0} B of Redis's memory each",
        median.as_secs_f64() * 1e6,
        stored / count as f64
    );
}

/// User and system time of the server, in seconds.
fn redis_cpu(redis: &RedisServer) -> f64 {
    number(redis, "cpu", "used_cpu_user") + number(redis, "cpu", "used_cpu_sys")
}

fn number(redis: &RedisServer, section: &str, name: &str) -> f64 {
    let told = redis.cli(&["info", section]);
    let value = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.expect("it is told").trim().parse().expect("a number")
}
