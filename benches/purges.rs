//! What a purge costs Redis, and how soon another instance sees it.
//!
//! ```sh
//! cargo bench --bench purges               # needs redis-server in PATH
//! ```
//!
//! The time is that which Redis says the script took (`INFO commandstats`), for a tag that one response has and for one
//! that 100,000 have; what is compared is one with the other, in turn. Then one instance purges a thousand times, and
//! another is asked until it does not answer from the cache any more.

#[path = "../tests/support/redis.rs"]
#[allow(dead_code, unreachable_pub)]
mod redis_server;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use redis_server::RedisServer;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_redis_cache::{CacheConfig, CacheHandle, Outcome, PurgeMode, PurgeTarget, RedisCacheLayer};

const ENTRIES: usize = 100_000;
const ROUNDS: usize = 300;
const PURGES: usize = 1_000;

fn main() {
    // `cargo test --benches` runs this without `--bench`: there is nothing to test.
    if std::env::args().any(|argument| argument == "--bench") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(measure());
    }
}

async fn measure() {
    let server = RedisServer::start();
    let layers = [(); 2].map(|()| {
        let config = CacheConfig::new(server.url()).expect("a URL").store_timeout(Duration::from_secs(5));
        RedisCacheLayer::new(config.near_cache(1 << 20))
    });
    let [one, other] = layers.each_ref().map(RedisCacheLayer::handle);
    let origin = || {
        service_fn(|request: Request<Full<Bytes>>| async move {
            let tag = if request.uri().path().starts_with("/rare") { "rare" } else { "common" };
            let response = Response::builder().header("cache-control", "max-age=3600").header("cache-tag", tag);
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from_static(b"page"))).expect("a response"))
        })
    };
    let [one_service, mut other_service] = layers.each_ref().map(|layer| layer.layer(origin()));
    fill(&one_service).await;
    assert!(one.drain(Duration::from_secs(60)).await);
    println!("{} keys in Redis", server.cli(&["DBSIZE"]));
    cost(&server, &one).await;
    let (mut waits, mut worst) = (Vec::new(), 0);
    for _ in 0..PURGES {
        while !asks(&mut other_service, "/common/1").await {}
        other.drain(Duration::from_secs(5)).await;
        one.purge([PurgeTarget::tag("common")], PurgeMode::Hard).await.expect("a purge");
        let begun = Instant::now();
        let mut looks = 0;
        while asks(&mut other_service, "/common/1").await {
            looks += 1;
        }
        worst = worst.max(looks);
        waits.push(begun.elapsed());
    }
    waits.sort();
    let at = |share: f64| waits[(share * (PURGES - 1) as f64) as usize];
    println!("seen by another: p50 {:?}, p99 {:?}, worst {:?} ({worst} looks)", at(0.5), at(0.99), at(1.0));
}

async fn fill<S>(service: &S)
where
    S: Service<
            Request<Full<Bytes>>,
            Response = Response<tower_redis_cache::CacheBody<Full<Bytes>>>,
            Error = Infallible,
        > + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let mut service = service.clone();
            tokio::spawn(async move {
                for number in (task..ENTRIES).step_by(16) {
                    asks(&mut service, &format!("/common/{number}")).await;
                }
                asks(&mut service, "/rare").await;
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it fills");
    }
}

/// Whether it is answered from the cache.
async fn asks<S, B>(service: &mut S, path: &str) -> bool
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body,
{
    let request = Request::get(path).header("host", "example.com").body(Full::default()).expect("a request");
    let response = service.ready().await.expect("no error").call(request).await.expect("no error");
    let is_hit = response.extensions().get::<Outcome>().is_some_and(Outcome::is_hit);
    let _ = response.into_body().collect().await;
    is_hit
}

/// Of a purge by either tag, in turn.
async fn cost(server: &RedisServer, handle: &CacheHandle) {
    let mut micros = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (tag, micros) in ["rare", "common"].into_iter().zip(&mut micros) {
            server.cli(&["CONFIG", "RESETSTAT"]);
            handle.purge([PurgeTarget::tag(tag)], PurgeMode::Hard).await.expect("a purge");
            // Reading what is new is another script, which each instance runs.
            micros.push(micros_of_scripts(server));
        }
    }
    let [rare, common] = micros.map(|mut micros| {
        micros.sort_by(f64::total_cmp);
        (micros[ROUNDS / 2], micros[ROUNDS - 1])
    });
    println!("a tag of 1 response: {} us of Redis, {} at the most", rare.0, rare.1);
    println!("a tag of {ENTRIES}: {} us of Redis, {} at the most, ratio {:.2}", common.0, common.1, common.0 / rare.0);
}

/// The mean time of the scripts since the last reset.
fn micros_of_scripts(server: &RedisServer) -> f64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).expect("a script ran");
    let field = line.split(',').find_map(|field| field.strip_prefix("usec_per_call=")).expect("its time");
    field.parse().expect("a number")
}
