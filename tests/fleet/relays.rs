//! What one process fetches, others read while it comes.

use crate::support::gate::{Gate, eventually, until_some};
use crate::support::scripted::{Reply, ok};
use crate::support::story::{Ask, Opened, Stage, Story, ask, get, seconds};
use crate::troupe::{QUICK, all_is_well_in_the_end, client, is_asked, leases, process, process_with, waits};

/// The octets of a chunk, and a body of three and a bit.
const CHUNK: usize = 256 * 1024;
const LENGTH: usize = 3 * CHUNK + 1234;

fn body() -> String {
    (0..LENGTH).map(|at| char::from(b'a' + (at / 7 % 26) as u8)).collect()
}

/// Two chunks and a bit come at once, and what is left when the gate opens.
fn page(gate: &Gate) -> Reply {
    let (start, rest) = (body()[..2 * CHUNK + 99].to_owned(), body()[2 * CHUNK + 99..].to_owned());
    ok(start).waits_for(gate).body(rest).cache_control("max-age=60").header("etag", "\"v1\"")
}

/// The first process is in the middle of its fetch.
async fn is_half_way(stage: &Stage, story: &Story, ask: Ask) -> Opened {
    let opened = story.client_begins(ask).await;
    let written = (2 * CHUNK as u64).to_le_bytes();
    let says_so = |name: &String| {
        stage.server().value(name).is_some_and(|value| value.windows(written.len()).any(|part| part == written))
    };
    eventually("two chunks are told of", || told(stage).iter().any(says_so)).await;
    opened
}

/// Reads so much, and no more is to be had.
async fn reads(client: &mut Opened, octets: usize) {
    let mut read = 0;
    while read < octets {
        read += client.reads_on().await;
    }
    assert_eq!(read, octets);
}

fn told(stage: &Stage) -> Vec<String> {
    stage.server().keys("*:live:*").into_iter().filter(|key| !key.ends_with(":read")).collect()
}

#[tokio::test]
async fn what_has_been_written_is_read_elsewhere_before_the_rest_has_come() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    one.origin_says(page(&gate));
    let first = is_half_way(&stage, &one, get("/a")).await;
    let mut second = other.client_begins(get("/a")).await;
    assert_eq!(second.stated_length(), Some(LENGTH as u64));
    reads(&mut second, 2 * CHUNK).await;
    // Whoever comes now has it as well.
    let mut third = other.client_begins(get("/a")).await;
    reads(&mut third, CHUNK).await;
    gate.open();
    for (reader, is_stored) in [(first, true), (second, false), (third, false)] {
        let answer = reader.reads_to_the_end().await;
        answer.is_forwarded_for("uri-miss").has_status(200).has_body(body()).has_ttl(60).has_header("etag", "\"v1\"");
        assert_eq!((answer.outcome().is_stored(), answer.outcome().is_collapsed()), (is_stored, !is_stored));
    }
    other.origin_was_asked(0);
    assert_eq!((other.handle.stats().collapsed, other.handle.stats().misses), (2, 2));
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
    other.client_asks(get("/a")).await.is_hit().has_body(body());
}

#[tokio::test]
async fn who_waits_already_begins_as_soon_as_there_is_a_head() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let (head, rest) = (Gate::closed(), Gate::closed());
    one.origin_says(page(&rest).head_after(&head));
    let first = client(&one, get("/a"));
    is_asked(&one, 1).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let other = other.clone();
        waiting.push(tokio::spawn(async move { other.client_begins(get("/a")).await }));
    }
    waits(&stage, &other).await;
    head.open();
    let mut readers = Vec::new();
    for reader in waiting {
        let mut reader = reader.await.expect("a head");
        reads(&mut reader, 2 * CHUNK).await;
        readers.push(reader);
    }
    rest.open();
    for reader in readers {
        reader.reads_to_the_end().await.has_body(body());
    }
    first.await.expect("an answer").has_body(body());
    other.origin_was_asked(0);
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn a_variant_that_another_process_fetches_is_for_those_who_want_it() {
    let stage = Stage::redis();
    let [one, other, third] = [(); 3].map(|()| process(&stage));
    let gate = Gate::closed();
    one.origin_says(page(&gate).header("vary", "accept-language"));
    third.origin_says(ok("anders").cache_control("max-age=60").header("vary", "accept-language"));
    let english = || get("/a").header("accept-language", "en");
    let first = is_half_way(&stage, &one, english()).await;
    let mut second = other.client_begins(english()).await;
    reads(&mut second, CHUNK).await;
    for story in [&third, &other] {
        let german = story.client_asks_and_goes_on(get("/a").header("accept-language", "de")).await;
        german.has_body("anders");
    }
    assert_eq!((other.origin.calls(), third.origin.calls()), (0, 1));
    gate.open();
    second.reads_to_the_end().await.has_body(body());
    first.reads_to_the_end().await.has_body(body());
    all_is_well_in_the_end(&stage, &[&one, &other, &third]).await;
    other.client_asks(english()).await.is_hit().has_body(body());
    other.origin_was_asked(0);
}

#[tokio::test]
async fn a_fetch_that_comes_to_nothing_is_an_error_for_those_who_read_it_elsewhere() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    // It is shorter than it said.
    let short = ok(body()[..2 * CHUNK + 99].to_owned()).waits_for(&gate).then_breaks_off();
    one.origin_says(short.cache_control("max-age=60").header("content-length", &LENGTH.to_string()));
    other.origin_says(ok("whole").cache_control("max-age=60"));
    let first = is_half_way(&stage, &one, get("/a")).await;
    let mut second = other.client_begins(get("/a")).await;
    reads(&mut second, 2 * CHUNK).await;
    gate.open();
    second.reads_to_the_end().await.breaks_off();
    first.reads_to_the_end().await.breaks_off();
    eventually("the flight is over", || other.handle.stats().flights == 0).await;
    other.client_asks(get("/a")).await.is_stored().has_body("whole");
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
}

#[tokio::test]
async fn a_fetch_that_is_read_elsewhere_goes_on_when_its_own_clients_have_left() {
    let stage = Stage::redis();
    let settings = |config: tower_redis_cache::CacheConfig| config.max_unread_body(0);
    let (one, other) = (process_with(&stage, settings), process_with(&stage, settings));
    let gate = Gate::closed();
    one.origin_says(page(&gate));
    let first = is_half_way(&stage, &one, get("/a")).await;
    let mut second = other.client_begins(get("/a")).await;
    reads(&mut second, CHUNK).await;
    first.leaves();
    // The second look has been when the third begins.
    let before = stage.server().calls("evalsha");
    eventually("it is known that somebody reads it", || stage.server().calls("evalsha") >= before + 3).await;
    gate.open();
    second.reads_to_the_end().await.has_body(body());
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
    assert_eq!(one.handle.stats().stored, 1);
}

#[tokio::test]
async fn a_fetch_that_nobody_reads_anywhere_ends() {
    let stage = Stage::redis();
    let one = process_with(&stage, |config| config.max_unread_body(0).lease_heartbeat(QUICK));
    let other = process_with(&stage, |config| config.lease_heartbeat(QUICK));
    let never = Gate::closed();
    one.origin_says(page(&never));
    let first = is_half_way(&stage, &one, get("/a")).await;
    let mut second = other.client_begins(get("/a")).await;
    reads(&mut second, CHUNK).await;
    first.leaves();
    second.leaves();
    all_is_well_in_the_end(&stage, &[&one, &other]).await;
    assert_eq!((one.handle.stats().abandoned, one.handle.stats().stored), (1, 0));
    eventually("nothing is told any more", || stage.server().keys("*:live:*").is_empty()).await;
}

#[tokio::test]
async fn who_reads_has_it_to_the_end_and_nobody_who_comes_after_a_change() {
    let stage = Stage::redis();
    let quick = |config: tower_redis_cache::CacheConfig| config.lease_heartbeat(QUICK);
    let [one, other, third] = [(); 3].map(|()| process_with(&stage, quick));
    let gate = Gate::closed();
    one.origin_says(page(&gate));
    let first = is_half_way(&stage, &one, get("/a")).await;
    let mut second = other.client_begins(get("/a")).await;
    reads(&mut second, CHUNK).await;
    third.origin_says(ok("done"));
    third.client_asks(ask("POST", "/a")).await.has_body("done");
    for story in [&one, &other] {
        eventually("nobody can join it", || story.handle.stats().flights == 0).await;
        story.origin_says(ok("new").cache_control("max-age=60"));
    }
    other.client_asks_and_goes_on(get("/a")).await.has_body("new");
    let before = stage.server().calls("pexpire");
    eventually("many heartbeats", || stage.server().calls("pexpire") >= before + 20).await;
    gate.open();
    second.reads_to_the_end().await.has_body(body());
    first.reads_to_the_end().await.has_body(body());
    all_is_well_in_the_end(&stage, &[&one, &other, &third]).await;
    for story in [&one, &other, &third] {
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }
}

#[tokio::test]
async fn a_fetch_that_hangs_is_nobody_elses_to_wait_for() {
    let stage = Stage::redis();
    let quick = |config: tower_redis_cache::CacheConfig| config.collapse_timeout(QUICK);
    let (one, other) = (process_with(&stage, quick), process_with(&stage, quick));
    let gate = Gate::closed();
    one.origin_says(page(&gate));
    other.origin_says(ok("own").cache_control("max-age=60"));
    let first = is_half_way(&stage, &one, get("/a")).await;
    let yielded = || {
        let held = leases(stage.server()).first().and_then(|lease| stage.server().value(lease));
        held.is_some_and(|held| held.starts_with(b"-"))
    };
    eventually("nobody need wait for it", yielded).await;
    other.client_asks_and_goes_on(get("/a")).await.has_body("own");
    other.origin_was_asked(1);
    gate.open();
    first.reads_to_the_end().await.has_body(body());
}

#[tokio::test]
async fn what_is_short_or_of_unknown_length_is_not_told() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let parts = || [body()[..2 * CHUNK].to_owned(), body()[2 * CHUNK..].to_owned()];
    let replies = [
        ok(body()[..CHUNK].to_owned()).cache_control("max-age=60"),
        ok("").chunks(parts()).cache_control("max-age=60"),
        ok(body()).cache_control("max-age=60").header("trailer", "x-sum"),
        ok(body()).cache_control("max-age=0"),
    ];
    for (number, reply) in replies.into_iter().enumerate() {
        one.origin_says(reply);
        one.client_asks(get(&format!("/{number}"))).await;
        assert_eq!(told(&stage), [""; 0], "{number}");
    }
    let before = stage.server().calls("evalsha");
    one.origin_says(ok(body()).cache_control("max-age=60"));
    one.client_asks(get("/long")).await.is_stored();
    // Besides the lease, which is given back.
    assert!(stage.server().calls("evalsha") - before > 1 + 4, "a long one is told of, and of each chunk");
    other.client_asks(get("/long")).await.is_hit().has_body(body());
}

#[tokio::test]
async fn what_is_told_ends_by_itself_and_says_nothing_of_what_it_is() {
    let stage = Stage::redis();
    let one = process_with(&stage, |config| config.lease_heartbeat(QUICK));
    let gate = Gate::closed();
    one.origin_says(page(&gate));
    let first = is_half_way(&stage, &one, get("/secret?token=7")).await;
    let [name] = &told(&stage)[..] else { panic!("one fetch is told of") };
    let name = name.clone();
    assert!(!name.contains("secret"), "{name}");
    let left: i64 = stage.server().cli(&["PTTL", &name]).parse().expect("a number");
    assert!((1..=200).contains(&left), "{left}");
    let before = stage.server().calls("pexpire");
    eventually("many heartbeats", || stage.server().calls("pexpire") >= before + 20).await;
    assert_eq!(told(&stage).first(), Some(&name));
    gate.open();
    first.reads_to_the_end().await.has_body(body());
    eventually("it has ended", || told(&stage).is_empty()).await;
}

#[tokio::test]
async fn junk_in_place_of_what_is_told_is_nothing() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let gate = Gate::closed();
    one.origin_says(page(&gate));
    let first = is_half_way(&stage, &one, get("/a")).await;
    let [name] = &told(&stage)[..] else { panic!("one fetch is told of") };
    let sound = stage.server().value(name).expect("it is there");
    let mut flipped = sound.clone();
    flipped[40] ^= 1;
    let long = [&sound[..], &[0; 200_000]].concat();
    let second = client(&other, get("/a"));
    for junk in [&b"junk"[..], &sound[..30], &flipped, &long] {
        stage.server().cli_bytes(&[b"SET", name.as_bytes(), junk, b"PX", b"60000"]);
        waits(&stage, &other).await;
        assert!(!second.is_finished());
    }
    stage.server().cli_bytes(&[b"SET", name.as_bytes(), &sound, b"PX", b"60000"]);
    until_some("it is read", || async { (!stage.server().keys("*:live:*:read").is_empty()).then_some(()) }).await;
    gate.open();
    second.await.expect("an answer").has_body(body());
    first.reads_to_the_end().await.has_body(body());
    other.origin_was_asked(0);
    other.time_passes(seconds(1));
}

/// Its own client is not the measure of all others.
#[tokio::test]
async fn a_slow_client_of_the_process_that_fetches_slows_nobody_elsewhere() {
    const FRAME: usize = 64 * 1024;
    const LENGTH: usize = 16 << 20;
    let stage = Stage::redis();
    let large = |config: tower_redis_cache::CacheConfig| config.max_body_size(64 << 20).max_inflight_bytes(4 << 20);
    let (one, other) = (process_with(&stage, large), process_with(&stage, large));
    let frames = (0..LENGTH / FRAME).map(|number| vec![b'a' + (number % 26) as u8; FRAME]);
    one.origin_says(ok("").chunks(frames).header("content-length", &LENGTH.to_string()).cache_control("max-age=60"));
    let mut slow = one.client_begins(get("/a")).await;
    let fast = client(&other, get("/a"));
    let mut had = 0;
    while !fast.is_finished() && had < LENGTH {
        had += slow.reads_on().await;
        // So slow it is.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(had < LENGTH - (5 << 20), "the other had to wait for it: {had} octets");
    assert_eq!(fast.await.expect("an answer").body().len(), LENGTH);
    other.origin_was_asked(0);
    let answer = slow.reads_to_the_end().await;
    assert_eq!(answer.body().len(), LENGTH);
}
