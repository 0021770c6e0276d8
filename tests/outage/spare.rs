//! The store ceases to give a large body while it is sent: the service, which has it, goes on.

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, Method};
use tower_redis_cache::{CacheConfig, EmptyBody};

use crate::support::gate::{Gate, PATIENCE, eventually, until_some};
use crate::support::redis::RedisServer;
use crate::support::scripted::{Reply, ScriptBody, failure, ok, status};
use crate::support::story::{Ask, Opened, Story, ask, get};
use crate::troupe::story_with;

const CHUNK: usize = 256 * 1024;
const LENGTH: usize = 20 * CHUNK + 7;
const LATE: Duration = Duration::from_millis(300);

fn body() -> Vec<u8> {
    (0..LENGTH).map(|at| (at % 251) as u8).collect()
}

/// The request of a client whose service can be asked again.
pub(crate) fn again(ask: Ask) -> Ask {
    ask.extension(EmptyBody::<ScriptBody>::new(|| ScriptBody::of("")))
}

fn large() -> Ask {
    again(get("/a"))
}

/// The one range that is asked for.
pub(crate) fn range_of(headers: &HeaderMap) -> Option<Range<usize>> {
    let (first, last) = headers.get("range")?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<usize>().ok()? + 1)
}

/// A part, as a service that knows ranges has it.
fn part(range: Range<usize>, etag: &str, rest: impl FnOnce(Vec<u8>) -> Reply) -> Reply {
    let content_range = format!("bytes {}-{}/{LENGTH}", range.start, range.end - 1);
    rest(body()[range].to_vec()).header("content-range", &content_range).header("etag", etag)
}

/// A story whose service has the body under an entity tag.
fn story(url: &str, etag: &'static str, settings: impl FnOnce(CacheConfig) -> CacheConfig) -> Story {
    let story = story_with(url, |config| settings(config.store_timeout(LATE).store_write_timeout(PATIENCE / 4)));
    story.origin.answers(move |asked| match range_of(&asked.headers) {
        Some(range) => part(range, etag, |rest| status(206).body(rest)),
        None => ok(body()).cache_control("max-age=60").header("etag", etag),
    });
    story
}

/// The client has the head of a large hit, and its first chunk.
async fn begun(story: &Story, ask: Ask) -> Opened {
    story.client_asks(large()).await.is_stored();
    let mut opened = story.client_begins(ask).await;
    assert_eq!(opened.reads_on().await, CHUNK);
    opened
}

#[tokio::test]
async fn what_redis_does_not_give_in_time_comes_from_the_service() {
    let server = RedisServer::start();
    let story = story(&server.url(), "\"v\"", |config| config);
    let opened = begun(&story, large().header("if-none-match", "\"other\"").header("authorization-of", "a")).await;
    server.stop();
    opened.reads_to_the_end().await.is_hit().has_body(body());
    server.cont();
    story.origin_was_asked(2);
    let asked = story.last_asked();
    assert_eq!((asked.method, asked.uri.path()), (Method::GET, "/a"));
    let range = range_of(&asked.headers).expect("a range");
    assert!(range.start > 0 && range.start.is_multiple_of(CHUNK) && range.end == LENGTH, "{range:?}");
    assert_eq!(asked.headers["if-range"], "\"v\"");
    assert!(!asked.headers.contains_key("if-none-match") && asked.headers["authorization-of"] == "a");
    let stats = story.handle.stats();
    assert_eq!((stats.resumed, stats.broken_off, stats.bytes_read_ahead), (1, 0, 0));
    // No client has seen an error: it is asked for again a second later.
    story.time_passes(Duration::from_secs(1));
    until_some("Redis is asked again", || async {
        story.client_asks_and_goes_on(large()).await.outcome().is_hit().then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_redis_has_lost_comes_from_the_service() {
    let losses: [fn(&mut RedisServer); 3] = [RedisServer::kill, RedisServer::restart, |server| {
        for key in server.all_keys("*") {
            server.cli(&["DEL", &key]);
        }
    }];
    for loses in losses {
        let mut server = RedisServer::start();
        let story = story(&server.url(), "\"v\"", |config| config);
        let opened = begun(&story, large()).await;
        loses(&mut server);
        opened.reads_to_the_end().await.is_hit().has_body(body());
        let stats = story.handle.stats();
        assert!(stats.resumed > 0 && stats.broken_off == 0, "{stats:?}");
    }
}

#[tokio::test]
async fn what_comes_in_small_pieces_is_put_together() {
    let mut server = RedisServer::start();
    let story = story(&server.url(), "\"v\"", |config| config);
    let opened = begun(&story, large()).await;
    story.origin.answers(|asked| {
        let range = range_of(&asked.headers).expect("only the rest is asked for");
        part(range, "\"v\"", |rest| status(206).chunks(rest.chunks(10_007).map(<[u8]>::to_vec).collect::<Vec<_>>()))
    });
    server.kill();
    opened.reads_to_the_end().await.is_hit().has_body(body());
    story.origin_was_asked(2);
}

/// Each has its own part of the body to go on with.
#[tokio::test]
async fn parts_that_a_client_asked_for_come_from_the_service() {
    let mut server = RedisServer::start();
    let story = story(&server.url(), "\"v\"", |config| config);
    story.client_asks(large()).await.is_stored();
    let (first, second) = (10..2 * CHUNK, 9 * CHUNK + 5..12 * CHUNK);
    let ranges = format!("bytes={}-{},{}-{}", first.start, first.end - 1, second.start, second.end - 1);
    let mut opened = story.client_begins(large().header("range", &ranges)).await;
    opened.reads_on().await;
    server.kill();
    let answer = opened.reads_to_the_end().await;
    answer.is_hit().has_status(206);
    let place = |part: Range<usize>| {
        let wanted = &body()[part];
        answer.body().windows(wanted.len()).position(|window| window == wanted)
    };
    let [first, second] = [first, second].map(place);
    assert!(first.is_some() && first < second, "{first:?} {second:?}");
    // Not what comes after the last part.
    assert_eq!(range_of(&story.last_asked().headers).expect("a range").end, 12 * CHUNK);
    let stats = story.handle.stats();
    assert!((1..=2).contains(&stats.resumed) && stats.broken_off == 0, "{stats:?}");
}

/// No octet of another representation is ever put behind the first ones.
#[tokio::test]
async fn what_is_not_the_rest_of_the_same_body_is_not_sent() {
    type Other = fn(Range<usize>) -> Reply;
    let others: [(&str, Other); 9] = [
        ("the whole", |_| ok(body()).header("etag", "\"v\"")),
        ("a newer one", |_| ok("new").header("etag", "\"w\"")),
        ("the rest of a newer one", |range| part(range, "\"w\"", |rest| status(206).body(rest))),
        ("with a weak tag", |range| part(range, "W/\"v\"", |rest| status(206).body(rest))),
        ("of elsewhere", |range| part(range.start + 1..range.end, "\"v\"", |rest| status(206).body(rest))),
        ("in another coding", |range| {
            part(range, "\"v\"", |rest| status(206).body(rest)).header("content-encoding", "br")
        }),
        ("an error", |_| status(500)),
        ("nothing", |_| failure("the origin is away")),
        ("less than it says", |range| part(range, "\"v\"", |rest| status(206).body(rest[..CHUNK + 3].to_vec()))),
    ];
    for (what, other) in others {
        let mut server = RedisServer::start();
        let story = story(&server.url(), "\"v\"", |config| config);
        let opened = begun(&story, large()).await;
        story.origin.answers(move |asked| other(range_of(&asked.headers).expect("only the rest is asked for")));
        server.kill();
        let answer = opened.reads_to_the_end().await;
        answer.is_hit().breaks_off();
        assert_eq!(&answer.body()[..], &body()[..answer.body().len()], "{what}");
        assert_eq!(story.handle.stats().broken_off, 1, "{what}");
        // Those who were to read on do not ask again.
        story.origin_was_asked(2);
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_asked_for_the_rest_is_not_asked() {
    let cases: [(&str, &'static str, Ask); 3] = [
        ("no empty body to ask with", "\"v\"", get("/a")),
        ("a weak tag", "W/\"v\"", large()),
        ("not to be forwarded", "\"v\"", large().header("cache-control", "only-if-cached")),
    ];
    for (what, etag, ask) in cases {
        let mut server = RedisServer::start();
        let story = story(&server.url(), etag, |config| config.store_write_timeout(LATE));
        let opened = begun(&story, ask).await;
        server.kill();
        opened.reads_to_the_end().await.is_hit().breaks_off();
        story.origin_was_asked(1);
        assert_eq!(story.handle.stats().resumed, 0, "{what}");
    }
}

#[tokio::test]
async fn a_service_with_as_many_fetches_as_it_may_have_is_not_asked_for_the_rest() {
    let mut server = RedisServer::start();
    let story = story(&server.url(), "\"v\"", |config| config.max_fetches(1).fetch_queue_timeout(LATE));
    let opened = begun(&story, large()).await;
    let gate = Gate::closed();
    let held = gate.clone();
    story.origin.answers(move |_| ok("slow").head_after(&held));
    let other = tokio::spawn({
        let story = story.clone();
        async move { story.client_asks_and_goes_on(ask("GET", "/slow")).await }
    });
    eventually("the other is under way", || story.handle.stats().fetches == 1).await;
    server.kill();
    opened.reads_to_the_end().await.is_hit().breaks_off();
    assert_eq!(story.handle.stats().resumed, 0);
    gate.open();
    other.await.expect("the other has its answer").has_body("slow");
}

/// Nothing of it is left behind.
#[tokio::test]
async fn who_leaves_while_the_service_goes_on_leaves_the_service() {
    let mut server = RedisServer::start();
    let story = story(&server.url(), "\"v\"", |config| config.max_fetches(1));
    let mut opened = begun(&story, large()).await;
    story.origin.answers(|asked| {
        let range = range_of(&asked.headers).expect("only the rest is asked for");
        part(range, "\"v\"", |rest| status(206).body(rest[..CHUNK + 1].to_vec()).then_hangs())
    });
    server.kill();
    let handle = story.handle.clone();
    while handle.stats().resumed == 0 {
        opened.reads_on().await;
    }
    assert_eq!(handle.stats().fetches, 1);
    opened.leaves();
    eventually("the permit is back", || handle.stats().fetches == 0).await;
    assert_eq!(handle.stats().bytes_read_ahead, 0);
}
