//! Bodies that are kept in Redis in chunks of 256 KiB: read as they are sent, and never passed off as whole.

use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::BodyExt;

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{failure, ok, status};
use crate::support::story::{Answer, Opened, Stage, Story, get, head, seconds};

const CHUNK: usize = 256 * 1024;
const LENGTH: usize = 12 * CHUNK + 1000;

/// Octets that tell their place.
fn body() -> Bytes {
    static BODY: LazyLock<Bytes> =
        LazyLock::new(|| (0..LENGTH).map(|at| (at % 251) as u8 ^ (at / CHUNK) as u8).collect::<Vec<u8>>().into());
    BODY.clone()
}

/// A story in which `/a` is stored.
async fn stored(stage: &Stage) -> Story {
    let story = stage.story();
    stores(&story, "max-age=60").await;
    story
}

async fn stores(story: &Story, cache_control: &str) {
    story.origin_says(ok(body()).cache_control(cache_control).header("etag", "\"1\""));
    story.client_asks(get("/a")).await.is_stored();
}

/// The Redis key of a chunk.
fn chunk(stage: &Stage, index: usize) -> String {
    let keys = stage.server().keys(&format!("*:b:*:{index}"));
    assert_eq!(keys.len(), 1, "one writing of the body: {keys:?}");
    keys[0].clone()
}

fn lose(stage: &Stage, indices: impl IntoIterator<Item = usize>) {
    for index in indices {
        assert_eq!(stage.server().cli(&["DEL", &chunk(stage, index)]), "1");
    }
}

fn damage(stage: &Stage, index: usize) {
    let key = chunk(stage, index);
    let mut value = stage.server().value(&key).expect("the chunk");
    *value.last_mut().expect("it is not empty") ^= 1;
    assert_eq!(stage.server().cli_bytes(&[b"SET", key.as_bytes(), &value, b"PX", b"60000"]), "OK");
}

/// Has the head and the first chunk.
async fn begins(story: &Story) -> Opened {
    let mut opened = story.client_begins(get("/a")).await;
    assert_eq!(opened.stated_length(), Some(LENGTH as u64));
    assert_eq!(opened.reads_on().await, CHUNK);
    opened
}

/// The answer broke off after so many octets, all of them right, and the next is whole.
async fn is_mended(story: &Story, broken: Answer, at: usize) {
    broken.is_hit().breaks_off();
    assert_eq!((broken.body().len(), &broken.body()[..]), (at, &body()[..at]));
    assert_eq!(story.handle.stats().broken_off, 1);
    let answer = story.client_asks(get("/a")).await;
    assert!(!answer.outcome().is_hit());
    answer.has_status(200).has_body(body());
    story.client_asks(get("/a")).await.is_hit().has_body(body());
}

#[tokio::test]
async fn a_large_hit_is_what_was_stored() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    for _ in 0..3 {
        story.client_asks(get("/a")).await.is_hit().has_body(body());
    }
    assert_eq!(begins(&story).await.stated_length(), Some((LENGTH - CHUNK) as u64));
}

#[tokio::test]
async fn trailers_follow_a_large_body() {
    let stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok("").chunks([body()]).trailer("x-checksum", "7").cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    assert_eq!(story.client_begins(get("/a")).await.stated_length(), None);
    story.client_asks(get("/a")).await.is_hit().has_body(body()).has_trailer("x-checksum", "7");
}

#[tokio::test]
async fn a_chunk_that_is_gone_before_the_head_is_a_miss() {
    let stage = Stage::redis();
    for index in [0, 1, 12] {
        let story = stored(&stage).await;
        lose(&stage, [index]);
        let answer = story.client_asks(get("/a")).await;
        answer.is_forwarded_for("uri-miss").is_stored().has_body(body());
        assert_eq!(story.handle.stats().entries_torn, 1, "chunk {index}");
        story.client_asks(get("/a")).await.is_hit().has_body(body());
        stage.server().cli(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn a_chunk_that_is_lost_under_way_breaks_the_body_off_once() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    let opened = begins(&story).await;
    lose(&stage, [7]);
    is_mended(&story, opened.reads_to_the_end().await, 7 * CHUNK).await;
    assert!(story.handle.stats().entries_torn >= 1);
}

#[tokio::test]
async fn a_chunk_that_is_damaged_breaks_the_body_off_once() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    damage(&stage, 2);
    is_mended(&story, story.client_asks(get("/a")).await, 2 * CHUNK).await;
    assert_eq!(story.handle.stats().entries_damaged, 1);
}

#[tokio::test]
async fn a_variant_that_broke_off_is_mended() {
    let stage = Stage::redis();
    let story = stage.story();
    story.origin_says(ok(body()).cache_control("max-age=60").header("vary", "accept"));
    story.client_asks(get("/a")).await.is_stored();
    damage(&stage, 12);
    is_mended(&story, story.client_asks(get("/a")).await, 12 * CHUNK).await;
}

#[tokio::test]
async fn the_end_of_a_body_is_read_without_the_rest() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    lose(&stage, 0..12);
    let answer = story.client_asks(get("/a").header("range", "bytes=-900")).await;
    answer.is_hit().has_status(206).has_header("content-length", "900").has_body(&body()[LENGTH - 900..]);
    assert_eq!(story.handle.stats().entries_torn, 0);
}

#[tokio::test]
async fn several_parts_are_read_from_the_chunks_that_they_lie_in() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    lose(&stage, (0..13).filter(|index| ![1, 4, 5].contains(index)));
    let parts = [5 * CHUNK - 10..5 * CHUNK + 10, CHUNK..CHUNK + 5, CHUNK + 9..CHUNK + 10];
    let ranges: Vec<String> = parts.iter().map(|part| format!("{}-{}", part.start, part.end - 1)).collect();
    let answer = story.client_asks(get("/a").header("range", &format!("bytes={}", ranges.join(",")))).await;
    answer.is_hit().has_status(206);
    let boundary = answer.headers()["content-type"].to_str().expect("text").split("boundary=").nth(1);
    let boundary = boundary.expect("a boundary").to_owned();
    let mut expected = Vec::new();
    for (part, range) in parts.iter().zip(ranges) {
        let line = format!("\r\n--{boundary}\r\nContent-Range: bytes {range}/{LENGTH}\r\n\r\n");
        expected.extend_from_slice(line.as_bytes());
        expected.extend_from_slice(&body()[part.clone()]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    answer.has_header("content-length", &expected.len().to_string()).has_body(&expected);
}

#[tokio::test]
async fn an_answer_without_a_body_needs_no_chunk() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    lose(&stage, 0..13);
    story.client_asks(head("/a")).await.is_hit().has_header("content-length", &LENGTH.to_string());
    story.client_asks(get("/a").header("if-none-match", "\"1\"")).await.is_hit().has_status(304);
    story.client_asks(get("/a").header("range", &format!("bytes={LENGTH}-"))).await.is_hit().has_status(416);
    assert_eq!((story.handle.stats().entries_torn, story.handle.stats().broken_off), (0, 0));
}

#[tokio::test]
async fn a_slow_client_has_a_few_chunks_read_for_it() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    stage.server().cli(&["CONFIG", "RESETSTAT"]);
    let opened = begins(&story).await;
    let held = |story: &Story| story.handle.stats().bytes_read_ahead;
    assert_eq!(held(&story), 4 * CHUNK as u64, "the chunk that was taken last, and three more");
    eventually("the head and four chunks are read", || stage.server().calls("getrange") == 5).await;
    lose(&stage, 4..13);
    let answer = opened.reads_to_the_end().await;
    answer.breaks_off();
    assert_eq!(&answer.body()[..], &body()[..4 * CHUNK]);
    assert_eq!(held(&story), 0);
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing_behind() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    story.client_begins(get("/a")).await.leaves();
    begins(&story).await.leaves();
    let stats = story.handle.stats();
    assert_eq!((stats.bytes_read_ahead, stats.broken_off), (0, 0));
}

#[tokio::test]
async fn without_room_bodies_are_read_one_chunk_at_a_time() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.max_inflight_bytes(1));
    stores(&story, "max-age=60").await;
    let mut opened = Vec::new();
    for _ in 0..4 {
        opened.push(begins(&story).await);
    }
    assert!(story.handle.stats().bytes_read_ahead <= 4 * 2 * CHUNK as u64, "{:?}", story.handle.stats());
    for opened in opened {
        opened.reads_to_the_end().await.is_hit().has_body(body());
    }
    assert_eq!(story.handle.stats().bytes_read_ahead, 0);
}

#[tokio::test]
async fn a_validated_body_is_read_as_it_is_sent() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    story.time_passes(seconds(61));
    story.origin_says(status(304).cache_control("max-age=60").header("etag", "\"1\""));
    let opened = begins(&story).await;
    assert!(story.handle.stats().bytes_read_ahead <= 4 * CHUNK as u64);
    opened.reads_to_the_end().await.has_forward_status(304).is_stored().has_body(body());
    story.fills_are_done().await;
    story.client_asks(get("/a")).await.is_hit().has_body(body());
}

#[tokio::test]
async fn a_stale_body_is_sent_instead_of_an_error_if_it_is_whole() {
    let stage = Stage::redis();
    let story = stage.story();
    stores(&story, "max-age=60, stale-if-error=600").await;
    story.time_passes(seconds(61));
    story.origin_says(failure("no route"));
    story.client_asks(get("/a")).await.has_detail("stale-if-error").has_body(body());
    lose(&stage, [3]);
    assert!(story.client_tries(get("/a")).await.is_err());
}

#[tokio::test]
async fn a_body_that_is_replaced_under_way_is_received_to_its_end() {
    let stage = Stage::redis();
    let story = stored(&stage).await;
    let last = chunk(&stage, 12);
    let opened = begins(&story).await;
    story.origin_says(ok("small").cache_control("max-age=60"));
    story.client_asks(get("/a").header("cache-control", "no-cache")).await.is_stored().has_body("small");
    let left: u64 = stage.server().cli(&["PTTL", &last]).parse().expect("a number");
    assert!((45_000..=56_000).contains(&left), "half a minute, and two seconds for each of 13 chunks: {left} ms");
    opened.reads_to_the_end().await.has_body(body());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stop_reading_do_not_keep_redis_busy() {
    const MORE_THAN_MAY_BE_IN_FLIGHT: usize = 1100;
    let stage = Stage::redis();
    let story = stage.story();
    let just_two_chunks = vec![b'x'; CHUNK + 1];
    story.origin_says(ok(just_two_chunks.clone()).cache_control("max-age=60"));
    story.client_asks(get("/a")).await.is_stored();
    let mut stopped = Vec::new();
    for _ in 0..MORE_THAN_MAY_BE_IN_FLIGHT {
        let mut body = story.client_tries(get("/a")).await.expect("a hit").into_body();
        assert!(body.frame().await.expect("the first chunk").is_ok());
        stopped.push(body);
    }
    story.client_asks(get("/a")).await.is_hit().has_body(just_two_chunks);
    drop(stopped);
    assert_eq!(story.handle.stats().bytes_read_ahead, 0);
}

#[tokio::test]
async fn a_client_far_behind_another_goes_on_from_the_store() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.max_body_size(64 << 20).max_inflight_bytes(1 << 20));
    let chunk = "0123456789abcdef".repeat(4 * 1024);
    let gate = Gate::closed();
    let chunks = |count: usize| vec![chunk.clone(); count];
    story.origin_says(ok("").chunks(chunks(2)).waits_for(&gate).chunks(chunks(198)).cache_control("max-age=60"));
    let (mut fast, mut slow) = (story.client_begins(get("/a")).await, story.client_begins(get("/a")).await);
    slow.receives(&chunk).await;
    fast.receives(&chunk).await;
    gate.open();
    fast.reads_to_the_end().await.has_body(chunk.repeat(200));
    assert!(story.handle.stats().bytes_in_flight <= 1 << 20, "{:?}", story.handle.stats());
    slow.reads_to_the_end().await.has_body(chunk.repeat(200));
    story.fills_are_done().await;
    story.client_asks(get("/a")).await.is_hit().has_body(chunk.repeat(200));
    story.origin_was_asked(1);
}

/// The store may evict what is yet to be led to.
#[tokio::test]
async fn a_chunk_that_is_lost_while_its_body_comes_breaks_off_one_client_and_no_more() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.max_inflight_bytes(1 << 20));
    let gate = Gate::closed();
    let (start, rest) = (body().slice(..10 * CHUNK), body().slice(10 * CHUNK..));
    let slow = || ok("").chunks([start.clone()]).waits_for(&gate).chunks([rest.clone()]).cache_control("max-age=60");
    story.origin_says(slow());
    let mut first = story.client_begins(get("/a")).await;
    let mut had = 0;
    while had < start.len() {
        had += first.reads_on().await;
    }
    eventually("its beginning is written", || stage.server().keys("*:b:*:0").len() == 1).await;
    eventually("its beginning is not held any more", || story.handle.stats().bytes_in_flight < 9 * CHUNK as u64).await;
    lose(&stage, [0]);
    let second = story.client_begins(get("/a")).await;
    second.reads_to_the_end().await.breaks_off();
    story.origin_says(ok(body()).cache_control("max-age=60"));
    story.client_asks_and_goes_on(get("/a")).await.has_body(body());
    story.origin_was_asked(2);
    gate.open();
    first.reads_to_the_end().await;
}

#[tokio::test]
async fn a_body_in_two_pieces_however_uneven_is_stored() {
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.max_body_size(32 << 20));
    let pieces = [Bytes::from_static(&[b'a'; 1000]), Bytes::from(vec![b'b'; 6 << 20])];
    let whole = pieces.concat();
    story.origin_says(ok("").chunks(pieces).cache_control("max-age=60"));
    story.client_asks(get("/a")).await.has_body(&whole);
    story.client_asks(get("/a")).await.is_hit().has_body(&whole);
}
