//! Large bodies in the memory tier: kept when somebody has had all of one, and never when there is any doubt.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

use bytes::Bytes;
use http_body_util::BodyExt;
use tower_redis_cache::{CacheConfig, PurgeMode, PurgeTarget};

use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Stage, Story, ask, get, head, seconds};

const CHUNK: usize = 256 * 1024;
const TIER: u64 = 64 << 20;

fn near(stage: &Stage) -> Story {
    near_with(stage, |config| config)
}

fn near_with(stage: &Stage, settings: impl FnOnce(CacheConfig) -> CacheConfig) -> Story {
    stage.story_with(|config| settings(config.near_cache(TIER)))
}

fn octets(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn page(length: usize) -> Reply {
    ok(octets(length)).cache_control("max-age=600").header("cache-tag", "t").header("etag", "\"v\"")
}

fn near_hits(story: &Story) -> u64 {
    story.handle.stats().near_hits
}

/// It is in Redis, and not in memory.
async fn is_in_redis(story: &Story, target: &str, length: usize) {
    story.origin_says(page(length));
    story.client_asks(get(target).header("cache-control", "no-cache")).await.is_stored().has_body(octets(length));
    story.origin_says(ok("new").cache_control("max-age=600"));
}

/// A hit; whether it came from memory.
async fn is_from_memory(story: &Story, target: &str, length: usize) -> bool {
    let before = near_hits(story);
    story.client_asks(get(target)).await.is_hit().has_body(octets(length));
    near_hits(story) > before
}

#[tokio::test]
async fn a_body_of_any_number_of_chunks_is_kept_when_it_was_read_whole() {
    let stage = Stage::redis();
    let story = near(&stage);
    for (number, length) in [64 * 1024 + 1, CHUNK, CHUNK + 1, 1 << 20].into_iter().enumerate() {
        let target = format!("/{number}");
        is_in_redis(&story, &target, length).await;
        assert!(!is_from_memory(&story, &target, length).await, "{length}");
        stage.server().cli(&["CONFIG", "RESETSTAT"]);
        assert!(is_from_memory(&story, &target, length).await, "{length}");
        story.client_asks(head(&target)).await.is_hit().has_header("content-length", &length.to_string());
        let part = story.client_asks(get(&target).header("range", "bytes=20000-30000")).await;
        part.is_hit().has_status(206).has_body(octets(length).slice(20_000..=30_000));
        assert_eq!(stage.server().calls("getrange") + stage.server().calls("exists"), 0, "{length}");
    }
}

#[tokio::test]
async fn who_has_had_a_part_of_a_body_leaves_nothing_in_memory() {
    let stage = Stage::redis();
    let (story, length) = (near(&stage), 3 * CHUNK + 7);
    is_in_redis(&story, "/a", length).await;
    story.client_asks(head("/a")).await.is_hit();
    story.client_asks(get("/a").header("if-none-match", "\"v\"")).await.is_hit().has_status(304);
    // The last of them is all chunks, and not all of the body.
    for range in ["bytes=0-9", "bytes=0-0,300000-300009", "bytes=1-"] {
        story.client_asks(get("/a").header("range", range)).await.is_hit().has_status(206);
    }
    let mut reading = story.client_begins(get("/a")).await;
    reading.reads_on().await;
    reading.reads_on().await;
    reading.leaves();
    let stats = story.handle.stats();
    assert_eq!((stats.near_hits, stats.near_bytes, stats.bytes_read_ahead), (0, 0, 0));
    assert!(!is_from_memory(&story, "/a", length).await);
    assert!(is_from_memory(&story, "/a", length).await);
}

/// What was read before the change is not what is stored after it.
#[tokio::test]
async fn what_is_purged_changed_or_replaced_while_it_is_read_is_not_kept() {
    let stage = Stage::redis();
    let (story, length) = (near(&stage), 3 * CHUNK + 7);
    for change in ["hard", "soft", "unsafe", "replaced"] {
        is_in_redis(&story, "/a", length).await;
        let mut reading = story.client_begins(get("/a")).await;
        reading.reads_on().await;
        match change {
            "unsafe" => {
                story.origin_says(status(204));
                story.client_asks(ask("DELETE", "/a")).await.has_status(204);
                story.origin_says(ok("new").cache_control("max-age=600"));
            }
            "replaced" => {
                let again = story.client_asks(get("/a").header("cache-control", "no-cache")).await;
                again.is_stored().has_body("new");
            }
            _ => {
                let mode = if change == "hard" { PurgeMode::Hard } else { PurgeMode::Soft };
                story.handle.purge([PurgeTarget::tag("t")], mode).await.expect("it is recorded");
            }
        }
        assert_eq!(reading.reads_to_the_end().await.body().len(), length, "{change}");
        story.fills_are_done().await;
        assert_eq!(story.handle.stats().near_bytes, 0, "{change}");
        let before = near_hits(&story);
        story.client_asks(get("/a")).await.has_body("new");
        assert_eq!(near_hits(&story), before, "{change}");
    }
}

#[tokio::test]
async fn a_purge_reaches_a_large_body_in_memory() {
    let stage = Stage::redis();
    let story = near(&stage);
    is_in_redis(&story, "/a", 2 * CHUNK).await;
    is_from_memory(&story, "/a", 2 * CHUNK).await;
    assert!(is_from_memory(&story, "/a", 2 * CHUNK).await);
    story.handle.purge([PurgeTarget::tag("t")], PurgeMode::Hard).await.expect("it is recorded");
    story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
}

#[tokio::test]
async fn each_variant_has_its_own_body_in_memory() {
    let stage = Stage::redis();
    let story = near(&stage);
    let length = |language: &str| CHUNK + usize::from(language.as_bytes()[0]);
    for language in ["de", "en"] {
        story.origin_says(page(length(language)).header("vary", "accept-language"));
        story.client_asks(get("/a").header("accept-language", language)).await.is_stored();
    }
    for round in 0..3 {
        for language in ["de", "en"] {
            let answer = story.client_asks(get("/a").header("accept-language", language)).await;
            answer.is_hit().has_body(octets(length(language)));
        }
        assert_eq!(near_hits(&story), 2 * round);
    }
}

#[tokio::test]
async fn the_tier_is_bounded_and_one_body_has_a_64th_of_it_at_the_most() {
    let stage = Stage::redis();
    let (story, tier) = (stage.story_with(|config| config.near_cache(8 << 20)), 8 << 20);
    for (number, (length, is_kept)) in [(tier / 64, true), (tier / 64 + 1, false)].into_iter().enumerate() {
        let target = format!("/{number}");
        is_in_redis(&story, &target, length).await;
        is_from_memory(&story, &target, length).await;
        assert_eq!(is_from_memory(&story, &target, length).await, is_kept, "{length}");
    }
    for number in 0..100 {
        let target = format!("/many/{number}");
        is_in_redis(&story, &target, tier / 64).await;
        is_from_memory(&story, &target, tier / 64).await;
        assert!(story.handle.stats().near_bytes <= tier as u64);
    }
    assert!(story.handle.stats().near_bytes > tier as u64 / 2);
    let greedy = stage.story_with(|config| config.near_cache(tier as u64).near_cache_max_entry(u64::MAX));
    for (target, length, is_kept) in [("/quarter", tier / 4 - 4096, true), ("/more", tier / 4 + 1, false)] {
        is_in_redis(&greedy, target, length).await;
        is_from_memory(&greedy, target, length).await;
        assert_eq!(is_from_memory(&greedy, target, length).await, is_kept, "{length}");
    }
}

/// What is gathered is held besides what is sent.
#[tokio::test]
async fn without_room_to_gather_it_a_body_is_sent_all_the_same() {
    let stage = Stage::redis();
    // Half of four times as much is for what can be done without.
    let story = near_with(&stage, |config| config.max_inflight_bytes(1 << 20).near_cache_max_entry(TIER / 4));
    for (target, length, is_kept) in [("/less", 1 << 20, true), ("/more", (2 << 20) + 1, false)] {
        is_in_redis(&story, target, length).await;
        assert!(!is_from_memory(&story, target, length).await);
        assert_eq!(is_from_memory(&story, target, length).await, is_kept, "{length}");
    }
}

/// Who reads slowly does not bring back what another process has replaced: neither over the new one, nor in its place.
#[tokio::test]
async fn what_another_process_replaces_while_it_is_read_is_not_kept() {
    let stage = Stage::redis();
    let (story, other, length) = (near(&stage), near(&stage), 3 * CHUNK + 7);
    for is_found_meanwhile in [true, false] {
        is_in_redis(&story, "/a", length).await;
        let mut reading = story.client_begins(get("/a")).await;
        reading.reads_on().await;
        story.time_passes(seconds(1));
        other.time_passes(seconds(1));
        other.origin_says(page(length + 1));
        other.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
        if is_found_meanwhile {
            is_from_memory(&story, "/a", length + 1).await;
            assert!(is_from_memory(&story, "/a", length + 1).await);
        }
        assert_eq!(reading.reads_to_the_end().await.body().len(), length);
        story.fills_are_done().await;
        story.client_asks(get("/a")).await.is_hit().has_body(octets(length + 1));
    }
}

/// What is kept gives way to what another process has stored, as soon as that is seen.
#[tokio::test]
async fn a_newer_response_that_is_found_takes_the_place_of_what_is_in_memory() {
    let stage = Stage::redis();
    let (story, other) = (near(&stage), near(&stage));
    is_in_redis(&story, "/a", 2 * CHUNK).await;
    is_from_memory(&story, "/a", 2 * CHUNK).await;
    assert!(is_from_memory(&story, "/a", 2 * CHUNK).await);
    story.time_passes(seconds(1));
    other.time_passes(seconds(1));
    other.origin_says(page(3 * CHUNK));
    other.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored();
    // This one asks Redis, and has no more of it than its head.
    let head = head("/a").header("cache-control", "max-age=60");
    story.client_asks(head).await.is_hit().has_header("content-length", &(3 * CHUNK).to_string());
    assert!(!is_from_memory(&story, "/a", 3 * CHUNK).await);
    assert!(is_from_memory(&story, "/a", 3 * CHUNK).await);
}

#[tokio::test]
async fn what_could_not_be_answered_from_memory_is_not_kept() {
    let stage = Stage::redis();
    let story = near_with(&stage, |config| config.stale_while_revalidate(seconds(600)));
    is_in_redis(&story, "/stale", 2 * CHUNK).await;
    story.time_passes(seconds(601));
    // It is not refreshed.
    story.origin_says(status(503));
    story.client_asks(get("/stale")).await.is_hit().has_body(octets(2 * CHUNK));
    assert_eq!(story.handle.stats().near_bytes, 0);
    story.origin_says(page(2 * CHUNK).cache_control("max-age=600, no-cache"));
    story.client_asks(get("/validated")).await.is_stored();
    story.origin_says(status(304).header("etag", "\"v\"").cache_control("max-age=600, no-cache"));
    for _ in 0..2 {
        story.client_asks(get("/validated")).await.has_forward_status(304).has_body(octets(2 * CHUNK));
    }
    assert_eq!(story.handle.stats().near_bytes, 0);
}

/// One of those who read at the same time gathers for all.
#[tokio::test]
async fn of_many_who_read_one_gathers() {
    let stage = Stage::redis();
    let (story, length) = (near(&stage), 1 << 20);
    is_in_redis(&story, "/a", length).await;
    let mut reading = Vec::new();
    for _ in 0..10 {
        let mut one = story.client_begins(get("/a")).await;
        one.reads_on().await;
        reading.push(one);
    }
    // A chunk that is sent, and three ahead of it, of each; and the whole of one, or of two where that is slow.
    let most = 10 * 4 * CHUNK as u64 + 2 * length as u64;
    let used = story.handle.stats().bytes_read_ahead;
    assert!(used <= most, "{used}");
    for one in reading {
        assert_eq!(one.reads_to_the_end().await.body().len(), length);
    }
    story.fills_are_done().await;
    assert!(is_from_memory(&story, "/a", length).await);
    assert_eq!(story.handle.stats().bytes_read_ahead, 0);
}

/// The tier may let it go before it is sent: it counts as what is held for clients.
#[tokio::test]
async fn large_bodies_that_are_sent_from_memory_take_room_and_without_it_redis_is_asked() {
    let stage = Stage::redis();
    let (story, length) = (near_with(&stage, |config| config.max_inflight_bytes(1 << 20)), 1 << 20);
    for number in 0..5 {
        is_in_redis(&story, &format!("/{number}"), length).await;
        is_from_memory(&story, &format!("/{number}"), length).await;
    }
    // Those who send the same body have one room for it.
    let mut reading = Vec::new();
    for number in 0..12 {
        reading.push(story.client_begins(get(&format!("/{}", number % 4))).await);
    }
    assert_eq!((near_hits(&story), story.handle.stats().bytes_read_ahead), (12, 4 << 20));
    assert!(!is_from_memory(&story, "/4", length).await);
    // What has no body needs none.
    story.client_asks(head("/4")).await.is_hit();
    assert_eq!(near_hits(&story), 13);
    drop(reading);
    assert!(is_from_memory(&story, "/4", length).await);
    assert_eq!(story.handle.stats().bytes_read_ahead, 0);
}

fn without_a_runtime<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let (waker, mut future) = (Arc::new(Unpark(thread::current())).into(), pin!(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// A body may be read by whoever it is given to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_read_outside_a_runtime_is_kept() {
    let stage = Stage::redis();
    let (story, length) = (near(&stage), 3 * CHUNK);
    is_in_redis(&story, "/a", length).await;
    let body = story.client_tries(get("/a")).await.expect("an answer").into_body();
    let read = thread::spawn(move || without_a_runtime(body.collect()).expect("a whole body").to_bytes());
    assert_eq!(read.join().expect("no panic"), octets(length));
    story.fills_are_done().await;
    assert!(is_from_memory(&story, "/a", length).await);
}
