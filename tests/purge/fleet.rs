//! Purges among several processes on one Redis: two layers with nothing in common but the server are two processes.

use std::time::Duration;

use tower_redis_cache::{CacheConfig, PurgeError, PurgeMode, PurgeNews, PurgeTarget, QueryContent, RedisCacheLayer};

use crate::support::gate::{Gate, PATIENCE, eventually};
use crate::support::redis::RedisServer;
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Stage, Story, ask, get, whole_second};
use crate::targets::{is_cached, is_purged, url};
use crate::troupe::{client, is_asked, process, process_with};

const CLOCK: &str = "trc:{purge}";
/// Nothing is heard by this within a test.
const DEAF: Duration = Duration::from_secs(60 * 60);

fn page(body: &'static str) -> Reply {
    ok(body).cache_control("max-age=600").header("cache-tag", "t")
}

fn news(story: &Story) -> PurgeNews {
    story.handle.stats().purge_news
}

async fn hears_by(story: &Story, how: PurgeNews) {
    eventually(&format!("it hears by {how:?}"), || news(story) == how).await;
}

/// One has stored it, and all answer from it.
async fn all_have_page(target: &str, stories: &[&Story]) {
    stories[0].origin_says(page("old"));
    stories[0].client_asks(get(target)).await.is_stored();
    for story in stories {
        story.client_asks(get(target)).await.is_hit().has_body("old");
        story.origin_says(page("new"));
    }
}

async fn no_more_has(target: &str, story: &Story) {
    let begun = std::time::Instant::now();
    while is_cached(story, get(target)).await {
        assert!(begun.elapsed() < PATIENCE, "{target} is still served");
    }
}

/// A process whose user of Redis has these rights alone.
fn user(server: &RedisServer, name: &str, rights: &[&str], settings: impl FnOnce(CacheConfig) -> CacheConfig) -> Story {
    let base = ["ACL", "SETUSER", name, "on", ">pw", "~trc:*", "resetchannels"];
    assert_eq!(server.cli(&[&base[..], rights].concat()), "OK");
    let time = whole_second();
    let config = CacheConfig::new(server.url_of_user(name, "pw")).expect("a URL").clock(time.clock());
    let config = config.store_timeout(PATIENCE / 2).store_write_timeout(PATIENCE / 2);
    Story::told_by(RedisCacheLayer::new(settings(config)), time)
}

const CELLS: [&str; 6] = ["+get", "+getrange", "+exists", "+set", "+unlink", "+pexpire"];
/// As a failover does it.
#[tokio::test]
async fn a_halt_on_writes_does_not_keep_the_purge_clock_from_being_read() {
    let stage = Stage::redis();
    let one = process(&stage);
    all_have_page("/a", &[&one]).await;
    one.fills_are_done().await;
    assert_eq!(stage.server().cli(&["CLIENT", "PAUSE", "60000", "WRITE"]), "OK");
    let readings = || stage.server().calls("evalsha_ro");
    let before = readings();
    eventually("it is read again and again", || readings() > before + 3).await;
    one.client_asks_and_goes_on(get("/a")).await.is_hit();
    assert_eq!(stage.server().cli(&["CLIENT", "UNPAUSE"]), "OK");
}

/// More than one answer of the server holds.
#[tokio::test]
async fn a_long_purge_clock_is_read_whole() {
    let stage = Stage::redis();
    let one = process(&stage);
    all_have_page("/a", &[&one]).await;
    for thousand in 0..5 {
        let tags = (0..1023).map(|number| PurgeTarget::tag(format!("{thousand}-{number}")));
        one.handle.purge(tags.chain([PurgeTarget::tag("t")]), PurgeMode::Hard).await.expect("they are recorded");
    }
    let other = process(&stage);
    other.origin_says(page("new"));
    assert!(!is_cached(&other, get("/a")).await, "the last purge is known");
    other.client_asks(get("/a")).await.is_stored();
    let count = || stage.server().cli(&["ZCARD", CLOCK]);
    let (records, number) = (count(), stage.server().cli(&["ZREVRANGE", CLOCK, "0", "0", "WITHSCORES"]));
    // Over another connection all of it is read again, and nothing of it was lost.
    stage.server().cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    let begun = std::time::Instant::now();
    while !is_cached(&one, get("/a")).await || !is_cached(&other, get("/a")).await {
        assert!(begun.elapsed() < PATIENCE, "it is served again");
    }
    let top = stage.server().cli(&["ZREVRANGE", CLOCK, "0", "0", "WITHSCORES"]);
    assert_eq!((count(), top), (records, number));
}

/// As before Redis 7.
#[tokio::test]
async fn a_server_without_scripts_that_only_read_has_a_purge_clock() {
    let server = RedisServer::start_with(&["--rename-command", "EVALSHA_RO", "", "--rename-command", "EVAL_RO", ""]);
    let time = whole_second();
    let config = CacheConfig::new(server.url()).expect("a URL").clock(time.clock());
    let story = Story::told_by(RedisCacheLayer::new(config.store_timeout(PATIENCE / 2)), time);
    all_have_page("/a", &[&story]).await;
    is_purged(&story, PurgeTarget::tag("t")).await;
    assert!(!is_cached(&story, get("/a")).await);
    assert_eq!(story.handle.stats().store_unavailable, 0);
}

const SCRIPTS: [&str; 2] = ["+eval", "+evalsha"];
const SETS: [&str; 8] =
    ["+time", "+pttl", "+zadd", "+zcard", "+zrange", "+zrangebyscore", "+zrevrange", "+zremrangebyscore"];
const CHANNELS: [&str; 3] = ["+publish", "+subscribe", "&trc:*"];

#[tokio::test]
async fn a_purge_reaches_all_by_whatever_news_there_is() {
    let server = RedisServer::start();
    let all = [&CELLS[..], &SCRIPTS, &SETS].concat();
    let tracking = [&all[..], &CHANNELS, &["+client|tracking"]].concat();
    let messages = [&all[..], &CHANNELS].concat();
    let at_once = |config: CacheConfig| config.max_unsynced(DEAF);
    let stories = [
        (user(&server, "tracking", &tracking, at_once), PurgeNews::Tracking),
        (user(&server, "messages", &messages, at_once), PurgeNews::Messages),
        (
            user(&server, "heartbeat", &all, |config| config.max_unsynced(Duration::from_millis(100))),
            PurgeNews::Heartbeat,
        ),
    ];
    let all = stories.each_ref().map(|(story, _)| story);
    for (number, (story, how)) in (0..).zip(&stories) {
        story.client_asks(get("/")).await;
        hears_by(story, *how).await;
        let target = format!("/{number}");
        all_have_page(&target, &all).await;
        is_purged(story, PurgeTarget::tag("t")).await;
        assert!(!is_cached(story, get(&target)).await, "who has purged knows it");
        for story in &all {
            no_more_has(&target, story).await;
        }
    }
}

#[tokio::test]
async fn who_was_cut_off_hears_again() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    for round in 0..3 {
        let target = format!("/{round}");
        all_have_page(&target, &[&one, &other]).await;
        hears_by(&other, PurgeNews::Tracking).await;
        stage.server().cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        is_purged(&one, PurgeTarget::tag("t")).await;
        no_more_has(&target, &other).await;
    }
    hears_by(&other, PurgeNews::Tracking).await;
}

#[tokio::test]
async fn in_strict_mode_nobody_need_hear_of_it() {
    let server = RedisServer::start();
    let rights = [&CELLS[..], &SCRIPTS, &SETS].concat();
    let deaf = |strict| move |config: CacheConfig| config.max_unsynced(DEAF).strict_purges(strict);
    let [one, strict, other] = [("one", true), ("strict", true), ("other", false)]
        .map(|(name, is_strict)| user(&server, name, &rights, deaf(is_strict)));
    let mut deaf = 0;
    for round in 0..20 {
        let target = format!("/{round}");
        all_have_page(&target, &[&one, &strict, &other]).await;
        is_purged(&one, PurgeTarget::prefix("example.com", "/")).await;
        // It may be reading just now what it needed a moment ago.
        deaf += usize::from(is_cached(&other, get(&target)).await);
        assert!(!is_cached(&strict, get(&target)).await);
    }
    assert!(deaf > 10, "this one has no way to hear of it, and did not {deaf} times");
    // A purge of one's own does not hide that of another before it.
    for round in 20..40 {
        let target = format!("/{round}");
        all_have_page(&target, &[&one, &strict]).await;
        is_purged(&one, PurgeTarget::tag("t")).await;
        is_purged(&strict, PurgeTarget::tag("else")).await;
        assert!(!is_cached(&strict, get(&target)).await);
    }
}

#[tokio::test]
async fn a_fetch_elsewhere_that_was_purged_is_not_stored() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    for target in [PurgeTarget::tag("t"), url("http://example.com/a"), PurgeTarget::everything()] {
        let (asked, gate) = (one.origin.calls(), Gate::closed());
        one.origin_says(page("old").head_after(&gate));
        let late = client(&one, get("/a"));
        is_asked(&one, asked + 1).await;
        is_purged(&other, target.clone()).await;
        gate.open();
        late.await.expect("an answer").has_body("old");
        one.fills_are_done().await;
        other.origin_says(page("new"));
        other.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
        no_more_has_old(&one).await;
        is_purged(&one, PurgeTarget::everything()).await;
        no_more_has("/a", &other).await;
    }
}

async fn no_more_has_old(story: &Story) {
    story.origin_says(page("new"));
    story.client_asks(get("/a")).await.has_body("new");
}

/// A long body whose length is stated is read by other processes while it comes.
#[tokio::test]
async fn what_is_coming_elsewhere_is_not_read_after_it_was_purged() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    other.client_asks(get("/warm")).await;
    let (gate, start, end) = (Gate::closed(), "x".repeat(300_000), "y".repeat(300_000));
    let reply = ok("").cache_control("max-age=600").header("cache-tag", "t").header("content-length", "600000");
    one.origin_says(reply.chunks([start]).waits_for(&gate).chunks([end]));
    let late = client(&one, get("/a"));
    is_asked(&one, 1).await;
    is_purged(&other, PurgeTarget::tag("t")).await;
    let asked = other.origin.calls();
    other.origin_says(page("new"));
    let reader = client(&other, get("/a"));
    eventually("it waits", || other.handle.stats().flights > 0).await;
    gate.open();
    assert_eq!(late.await.expect("an answer").body().len(), 600_000);
    reader.await.expect("an answer").has_body("new");
    other.origin_was_asked(asked + 1);
}

/// What is stored for it goes by other keys, which nobody else knows before it comes.
#[tokio::test]
async fn a_purge_of_a_url_ends_what_is_fetched_elsewhere_for_its_queries() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    let asks = |target: &str| match target {
        "/q" => {
            let query = ask("QUERY", target).header("content-type", "text/sql").body("q");
            query.extension(QueryContent::new("q"))
        }
        _ => get(target),
    };
    for mode in [PurgeMode::Hard, PurgeMode::Soft] {
        for target in ["/q", "/p?b=2&a=1"] {
            let (asked, gate) = (one.origin.calls(), Gate::closed());
            let reply = page("old").header("no-vary-search", "key-order");
            one.origin_says(reply.clone().head_after(&gate));
            let late = client(&one, asks(target));
            is_asked(&one, asked + 1).await;
            other.handle.purge([url(&format!("http://example.com{target}"))], mode).await.expect("it is recorded");
            gate.open();
            late.await.expect("an answer").has_body("old");
            one.fills_are_done().await;
            // One that has just begun knows of no path that it has nothing.
            let third = process(&stage);
            for story in [&third, &other, &one] {
                story.origin_says(page("new").header("no-vary-search", "key-order"));
                let answer = story.client_asks(asks(target)).await;
                answer.has_body("new");
            }
            is_purged(&other, PurgeTarget::everything()).await;
        }
    }
}

#[tokio::test]
async fn a_purge_clock_that_is_gone_purges_everything() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    all_have_page("/a", &[&one, &other]).await;
    let junk: [&[&str]; 5] = [
        &["UNLINK", CLOCK],
        &["SET", CLOCK, "junk"],
        &["ZADD", CLOCK, "0", "x"],
        &["ZADD", CLOCK, "inf", "t:x"],
        &["EVAL", "redis.call('DEL', KEYS[1]) return redis.call('ZADD', KEYS[1], 7, 'f:junk')", "1", CLOCK],
    ];
    for lose in junk {
        all_have_page("/b", &[&one, &other]).await;
        stage.server().cli(lose);
        for story in [&one, &other] {
            no_more_has("/a", story).await;
            no_more_has("/b", story).await;
        }
        assert_eq!(stage.server().all_keys(CLOCK), [CLOCK]);
    }
    one.client_asks(get("/a")).await.is_stored();
    other.client_asks(get("/a")).await.is_hit().has_body("new");
}

/// As after a failover to a server that had not yet heard of the last purges.
#[tokio::test]
async fn purges_that_redis_has_lost_are_recorded_anew_by_those_who_know_them() {
    let stage = Stage::redis();
    let (one, other) = (process(&stage), process(&stage));
    all_have_page("/a", &[&one, &other]).await;
    is_purged(&one, PurgeTarget::tag("else")).await;
    let old = stage.server().command(&["ZRANGE", CLOCK, "0", "-1", "WITHSCORES"]);
    let crate::support::redis::Reply::Array(old) = old else { panic!("a list") };
    let number = is_purged(&one, PurgeTarget::tag("t")).await;
    eventually("both know it", || [&one, &other].iter().all(|story| story.handle.stats().purge_records == 2)).await;
    // In one step, as another server has it: with the name of the floor that both know.
    let pairs: Vec<String> = old.chunks(2).flat_map(|pair| [pair[1].to_string(), pair[0].to_string()]).collect();
    let script = "redis.call('DEL', KEYS[1]) return redis.call('ZADD', KEYS[1], unpack(ARGV))";
    let mut command = vec!["EVAL", script, "1", CLOCK];
    command.extend(pairs.iter().map(String::as_str));
    stage.server().cli(&command);
    stage.server().cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    let again = || stage.server().cli(&["ZSCORE", CLOCK, "t:t"]).parse::<f64>().ok();
    eventually("it is recorded anew", || again().is_some_and(|score| score > number as f64)).await;
    let third = process(&stage);
    third.origin_says(page("new"));
    assert!(!is_cached(&third, get("/a")).await, "nobody serves what was purged");
}

/// The same, and the server takes no writes for now.
#[tokio::test]
async fn purges_that_redis_has_lost_are_known_until_they_can_be_recorded_anew() {
    let stage = Stage::redis();
    let one = process(&stage);
    all_have_page("/a", &[&one]).await;
    one.origin_says(ok("other").cache_control("max-age=600"));
    one.client_asks(get("/b")).await.is_stored();
    let pairs = stage.server().command(&["ZRANGE", CLOCK, "0", "-1", "WITHSCORES"]);
    let crate::support::redis::Reply::Array(pairs) = pairs else { panic!("a list") };
    one.handle.purge([PurgeTarget::tag("t")], PurgeMode::Hard).await.expect("it is recorded");
    let script = "redis.call('DEL', KEYS[1]) return redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])";
    stage.server().cli(&["EVAL", script, "1", CLOCK, &pairs[0].to_string(), &pairs[1].to_string()]);
    assert_eq!(stage.server().cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
    stage.server().cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    let begun = std::time::Instant::now();
    while !is_cached(&one, get("/b")).await {
        assert!(begun.elapsed() < PATIENCE, "what was not purged is served");
    }
    assert!(!is_cached(&one, get("/a")).await);
    assert_eq!(stage.server().cli(&["ZCARD", CLOCK]), "1");
    assert_eq!(stage.server().cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "OK");
    eventually("it is recorded anew", || stage.server().cli(&["ZCARD", CLOCK]) == "2").await;
    assert!(!is_cached(&one, get("/a")).await && is_cached(&one, get("/b")).await);
}

#[tokio::test]
async fn strict_mode_works_over_resp3() {
    let server = RedisServer::start();
    let time = whole_second();
    let config = CacheConfig::new(server.url() + "/?protocol=resp3").expect("a URL").clock(time.clock());
    let config = config.strict_purges(true).store_timeout(PATIENCE / 2).store_write_timeout(PATIENCE / 2);
    let story = Story::told_by(RedisCacheLayer::new(config), time);
    all_have_page("/a", &[&story]).await;
    is_purged(&story, PurgeTarget::tag("t")).await;
    assert!(!is_cached(&story, get("/a")).await);
    all_have_page("/b", &[&story]).await;
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_takes_up_where_it_was() {
    let mut stage = Stage::redis();
    let one = process(&stage);
    all_have_page("/a", &[&one]).await;
    let before = is_purged(&one, PurgeTarget::tag("x")).await;
    stage.server_mut().restart();
    eventually("it is back", || one.handle.stats().store_unavailable == 0).await;
    let begun = std::time::Instant::now();
    while !one.client_asks(get("/a")).await.cache_status().has("stored") {
        assert!(begun.elapsed() < PATIENCE, "nothing is stored");
    }
    one.client_asks(get("/a")).await.is_hit();
    let after = is_purged(&one, PurgeTarget::tag("t")).await;
    assert!(after > before);
    assert!(!is_cached(&one, get("/a")).await);
}

#[tokio::test]
async fn without_redis_a_purge_is_an_error() {
    let mut stage = Stage::redis();
    let one = stage.story_with(|config| config.store_write_timeout(Duration::from_millis(500)));
    one.client_asks(get("/a")).await;
    stage.server_mut().kill();
    let failed = one.handle.purge([PurgeTarget::everything()], PurgeMode::Hard).await;
    assert!(matches!(failed, Err(PurgeError::Store(_))), "{failed:?}");
    assert_eq!(one.handle.stats().purges, 0);
}

/// Whatever goes, in whatever order: what was purged is not served.
#[tokio::test]
async fn a_redis_that_evicts_anything_serves_nothing_purged() {
    let server = RedisServer::start_with(&["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"]);
    let time = whole_second();
    let config = CacheConfig::new(server.url()).expect("a URL").clock(time.clock());
    let config = config.near_cache(1 << 20).store_timeout(PATIENCE / 2);
    let story = Story::told_by(RedisCacheLayer::new(config), time);
    let filler = "x".repeat(30_000);
    let (mut hits, mut version) = (0, 0);
    for round in 0..400 {
        let target = format!("/{}", round % 7);
        story.origin.answers(move |_| ok(version.to_string()).cache_control("max-age=600").header("cache-tag", "t"));
        let answer = story.client_asks(get(&target)).await;
        answer.has_body(version.to_string());
        hits += usize::from(answer.outcome().is_hit());
        let junk = format!("junk:{round}");
        server.cli(&["SET", &junk, &filler]);
        if round % 20 == 19 {
            is_purged(&story, PurgeTarget::tag("t")).await;
            version += 1;
        }
        if round % 90 == 89 {
            // What is least used goes first: the clock, where nobody purges.
            for more in 0..150 {
                server.cli(&["SET", &format!("junk:{round}:{more}"), &filler]);
            }
        }
    }
    assert!(server.info("evicted_keys") > 100 && hits > 0, "{hits} hits");
}

#[tokio::test]
async fn a_user_who_may_not_purge_gets_caching_and_an_error() {
    let server = RedisServer::start();
    for (name, rights) in [("plain", CELLS.to_vec()), ("scripts", [&CELLS[..], &SCRIPTS].concat())] {
        let story = user(&server, name, &rights, |config| config);
        story.origin_says(page("page"));
        for target in ["/a", "/b"] {
            story.client_asks(get(target)).await.is_stored();
            story.client_asks(get(target)).await.is_hit();
        }
        let refused = story.handle.purge([PurgeTarget::tag("t")], PurgeMode::Hard).await;
        assert!(matches!(refused, Err(PurgeError::Store(_))), "{refused:?}");
        assert_eq!(news(&story), PurgeNews::Denied);
        story.origin_says(status(204));
        story.client_asks(ask("DELETE", "/a")).await.has_status(204);
        assert!(!is_cached(&story, get("/a")).await && is_cached(&story, get("/b")).await);
        assert_eq!(story.handle.stats().store_unavailable, 0);
        server.cli(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn what_is_found_purged_leaves_redis() {
    let stage = Stage::redis();
    let one = process(&stage);
    one.origin_says(ok("x".repeat(600_000)).cache_control("max-age=86400").header("cache-tag", "t"));
    one.client_asks(get("/a")).await.is_stored();
    one.origin_says(page("small").header("vary", "accept"));
    one.client_asks(get("/b").header("accept", "a")).await.is_stored();
    one.client_asks(get("/b").header("accept", "b")).await.is_stored();
    is_purged(&one, PurgeTarget::tag("t")).await;
    for target in [get("/a"), get("/b").header("accept", "a"), get("/b").header("accept", "b")] {
        assert!(!is_cached(&one, target).await);
    }
    let lives = |key: &str| stage.server().cli(&["PTTL", key]).parse::<i64>().expect("a number");
    let stays = || -> Vec<String> {
        let mut keys = stage.server().keys("*");
        keys.retain(|key| lives(key) > 60_000);
        keys
    };
    // The index of the variants names two that are gone, and stays.
    eventually("what is dead is gone", || stays().len() <= 1).await;
    assert_eq!(one.handle.stats().reclaimed, 3);
}

#[tokio::test]
async fn a_purge_is_not_refused_because_much_else_is_asked() {
    let stage = Stage::redis();
    let story = process_with(&stage, |config| config.store_timeout(PATIENCE * 2).store_write_timeout(PATIENCE * 2));
    all_have_page("/a", &[&story]).await;
    stage.server().stop();
    let asking: Vec<_> = (0..1_100).map(|number| client(&story, get(&format!("/{number}")))).collect();
    eventually("one look-up is too many", || asking.iter().any(tokio::task::JoinHandle::is_finished)).await;
    let purging = {
        let story = story.clone();
        tokio::spawn(async move { is_purged(&story, PurgeTarget::tag("t")).await })
    };
    tokio::task::yield_now().await;
    assert!(!purging.is_finished(), "it waits for Redis");
    stage.server().cont();
    purging.await.expect("it is recorded");
    let mut refused = 0;
    for client in asking {
        refused += usize::from(client.await.expect("an answer").outcome().detail() == Some("store-busy"));
    }
    assert!(refused > 0, "the bound was reached");
    story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
}
