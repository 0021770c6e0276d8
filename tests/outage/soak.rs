//! Clients that ask two thousand times a second while faults come and go at random.
//!
//! `FAULT_SOAK=600` asks for so many seconds, `FAULT_SEED=7` for the same faults as another time.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::matrix::{FAULTS, server, with_user};
use crate::spare::{again, range_of};
use crate::support::gate::{eventually, until_some};
use crate::support::scripted::{ok, status};
use crate::support::story::{Story, get};
use crate::troupe::story_with;

/// Set where this is the process.
const ALONE: &str = "FAULT_SOAK_ALONE";
const CLIENTS: u64 = 12;
const PAGES: u64 = 48;
/// Of each client between two requests, in µs, on average: that makes 2,000 a second.
const PAUSE: u64 = 1_000_000 * CLIENTS / 2_000;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Octets that tell which page they are of.
fn body_of(path: &str) -> String {
    let number: usize = path.trim_start_matches('/').parse().expect("a number");
    let length = [0, 10, 5_000, 70_000, 270_000, 600_000][number % 6];
    format!("{number:08}").repeat(length / 8 + 1)
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("this is Linux").count()
}

/// In KiB.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// What came of the requests.
#[derive(Debug, Default)]
struct Tally {
    whole: AtomicU64,
    hits: AtomicU64,
}

async fn client(story: Story, seed: u64, is_over: Arc<AtomicBool>, tally: Arc<Tally>) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !is_over.load(Ordering::Relaxed) {
        let path = format!("/{}", random.u64(0..PAGES));
        let answer = story.client_asks_and_goes_on(again(get(&path))).await;
        assert_eq!(answer.error(), None, "{path} breaks off: {:?}", answer.outcome());
        assert!(answer.body()[..] == *body_of(&path).as_bytes(), "{path} is not what it should be");
        answer.has_status(200);
        tally.whole.fetch_add(1, Ordering::Relaxed);
        tally.hits.fetch_add(u64::from(answer.outcome().is_hit()), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_micros(random.u64(0..=2 * PAUSE))).await;
    }
}

/// In a process of its own, whose files and memory are nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_wrong_while_faults_come_and_go() {
    if std::env::var_os(ALONE).is_none() {
        let mut itself = Command::new(std::env::current_exe().expect("this test"));
        itself.args(["soak::no_answer_is_wrong_while_faults_come_and_go", "--exact", "--nocapture"]).env(ALONE, "1");
        return assert!(itself.status().expect("it can be started").success());
    }
    let span = Duration::from_secs(setting("FAULT_SOAK").unwrap_or(10));
    let seed = setting("FAULT_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("FAULT_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = server();
    let url = with_user(&server);
    let story = story_with(&url, |config| {
        let config = config.store_write_timeout(Duration::from_millis(500)).near_cache(1 << 20);
        config.max_unsynced(Duration::from_millis(500)).entry_secret(1, [7; 32]).expect("a secret")
    });
    story.origin.forgets();
    story.origin.answers(|asked| {
        let body = body_of(asked.uri.path());
        let reply = match range_of(&asked.headers) {
            Some(range) => {
                let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, body.len());
                status(206).header("content-range", &content_range).body(body[range].to_owned())
            }
            None => ok(body),
        };
        reply.cache_control("max-age=600").header("etag", "\"v\"")
    });
    let (is_over, tally) = (Arc::<AtomicBool>::default(), Arc::<Tally>::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(story.clone(), seed ^ number, Arc::clone(&is_over), Arc::clone(&tally))))
        .collect();
    let (begun, mut slowest) = (Instant::now(), (Duration::ZERO, ""));
    let mut before = None;
    while begun.elapsed() < span && !clients.iter().any(tokio::task::JoinHandle::is_finished) {
        let fault = &FAULTS[random.usize(0..FAULTS.len())];
        (fault.begins)(&mut server);
        // That the others have time is the point of it.
        tokio::time::sleep(Duration::from_millis(random.u64(20..400))).await;
        (fault.ends)(&mut server);
        with_user(&server);
        let ended = Instant::now();
        let served = tally.whole.load(Ordering::Relaxed);
        eventually(&format!("{} is survived", fault.name), || {
            tally.whole.load(Ordering::Relaxed) > served + CLIENTS
                || clients.iter().any(tokio::task::JoinHandle::is_finished)
        })
        .await;
        let found = || story.handle.stats().hits - story.handle.stats().near_hits;
        let known = found();
        eventually(&format!("{} is over", fault.name), || found() > known).await;
        slowest = slowest.max((ended.elapsed(), fault.name));
        if before.is_none() && begun.elapsed() > span / 4 {
            before = Some((open_files(), memory()));
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("every answer was right");
    }
    // A large body that was late several times is left alone for up to a minute.
    story.time_passes(Duration::from_secs(61));
    until_some("the cache serves hits again", || async {
        story.client_asks_and_goes_on(get("/4")).await.outcome().is_hit().then_some(())
    })
    .await;
    story.fills_are_done().await;
    let handle = story.handle.clone();
    eventually("nothing is left", || {
        let stats = handle.stats();
        [stats.fills_in_flight, stats.flights, stats.bytes_in_flight, stats.bytes_read_ahead] == [0; 4]
    })
    .await;
    let (files, octets) = before.expect("it took longer than a quarter of it");
    println!(
        "{tally:?}; {} went on from the service; hits again {slowest:?} after a fault; files {files} to {}, memory {octets} to {} KiB",
        story.handle.stats().resumed,
        open_files(),
        memory()
    );
    // Three of the cache, and the administrator's.
    assert!(server.info("connected_clients") <= 5, "{} connections", server.info("connected_clients"));
    assert!(open_files() <= files + 8 && memory() < octets + 16 * 1024, "{} files, {} KiB", open_files(), memory());
    assert!(tally.hits.load(Ordering::Relaxed) > 0);
}
