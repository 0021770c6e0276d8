//! What a Redis hit costs, beside a bare server that does one Redis GET a request; and what a hit in the memory tier costs,
//! beside one that has the answer at hand.
//!
//! ```sh
//! cargo bench --bench redis_hit            # needs redis-server in PATH
//! ```
//!
//! Servers run as processes of their own: *bare* (hyper, one `redis-rs` GET a request on a multiplexed connection, the
//! value as the body) and *cached* (hyper and the layer, whose inner service never has to answer after the first request);
//! *prebuilt* (hyper, `Bytes` that are at hand, and the fields that the layer sends) and *near* (as *cached*, with
//! `near_cache`). The same load goes to both in turn; what counts is the CPU time that each server's process used, as the
//! kernel accounts it, for a fixed number of requests. Medians of the rounds and their ratio are printed.

#[allow(dead_code)]
mod load;
mod process;
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

const ROUNDS: usize = 7;
const CONNECTIONS: usize = 32;
const REQUESTS_PER_CONNECTION: usize = 1_500;
const SIZES: [usize; 2] = [1024, 64 * 1024];

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => servers::serve(&arguments[2], &arguments[3], arguments[4].parse().expect("a size")),
        // `cargo test --benches` runs this without `--bench`: there is nothing to test.
        _ if arguments.iter().any(|argument| argument == "--bench") => measure(),
        _ => {}
    }
}

fn measure() {
    let redis = RedisServer::start();
    println!("{CONNECTIONS} connections, {ROUNDS} rounds of {} requests", CONNECTIONS * REQUESTS_PER_CONNECTION);
    let in_redis = SIZES.map(|size| ("bare", "cached", size));
    for (bare_kind, kind, size) in in_redis.into_iter().chain([("prebuilt", "near", SIZES[0])]) {
        let bare = Server::start(bare_kind, &redis.url(), size);
        let cached = Server::start(kind, &redis.url(), size);
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (server, costs) in [&bare, &cached].into_iter().zip(&mut costs) {
                let before = server.cpu_ticks();
                load::run(&server.address, CONNECTIONS, (0..CONNECTIONS * REQUESTS_PER_CONNECTION).map(|_| 0), size);
                let spent = server.cpu_ticks() - before;
                // The first round warms up.
                if round > 0 {
                    costs.push(micros_per_request(spent));
                }
            }
        }
        let [bare, cached] = costs.map(median);
        let ratio = cached / bare;
        println!("{size:>6} B: {bare_kind} {bare:.1} us of CPU a request, {kind} {cached:.1} us, ratio {ratio:.2}");
    }
}

fn micros_per_request(ticks: u64) -> f64 {
    const MICROS_PER_TICK: f64 = 10_000.0;
    ticks as f64 * MICROS_PER_TICK / (CONNECTIONS * REQUESTS_PER_CONNECTION) as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
