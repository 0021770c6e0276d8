//! Whatever Redis does, each answer is what it would be without a cache, and caching resumes by itself: the same walk
//! through all that a store is asked for, before, during and after each fault.

use std::time::{Duration, Instant};

use crate::support::gate::{PATIENCE, until_some};
use crate::support::redis::RedisServer;
use crate::support::scripted::{ok, status};
use crate::support::story::{Answer, Ask, Story, ask, get};
use crate::support::tamper::{Tamper, Tampering};
use crate::troupe::{DEADLINE, story_with};

const LARGE: usize = 700_000;

/// What the origin has.
fn page(path: &str) -> String {
    match path {
        "/large" => (0..LARGE).map(|at| char::from(b'a' + (at / 11 % 26) as u8)).collect(),
        path => format!("the page at {path}"),
    }
}

fn story_at(url: &str) -> Story {
    let story = story_with(url, |config| config.store_write_timeout(Duration::from_millis(500)));
    story.origin.answers(|asked| match asked.method.as_str() {
        "POST" => status(204),
        _ => {
            let reply = ok(page(asked.uri.path())).cache_control("max-age=60").header("etag", "\"v\"");
            if asked.uri.path() == "/vary" { reply.header("vary", "accept-language") } else { reply }
        }
    });
    story
}

async fn asks(story: &Story, during: &str, ask: Ask) -> Answer {
    let begun = Instant::now();
    let answer = story.client_asks_and_goes_on(ask).await;
    // A walk meets several deadlines, on a machine that does much else.
    assert!(begun.elapsed() < DEADLINE * 30, "{during}: an answer took {:?}", begun.elapsed());
    answer
}

/// All that a store is asked for. Each answer is the origin's.
async fn walk(story: &Story, during: &str) {
    for _ in 0..2 {
        for path in ["/a", "/large", "/vary"] {
            let answer = asks(story, during, get(path).header("accept-language", "de")).await;
            assert!(answer.body()[..] == *page(path).as_bytes(), "{during}: {path} is not what it should be");
            answer.has_status(200).has_header("etag", "\"v\"");
        }
        asks(story, during, get("/vary").header("accept-language", "en")).await.has_body(page("/vary"));
        let part = asks(story, during, get("/large").header("range", "bytes=300000-300009")).await;
        match part.headers().contains_key("content-range") {
            true => part.has_status(206).has_body(&page("/large")[300_000..300_010]),
            false => part.has_status(200).has_body(page("/large")),
        };
        // What the service says to it the server leaves out.
        asks(story, during, ask("HEAD", "/a")).await.has_status(200);
        let conditional = asks(story, during, get("/a").header("if-none-match", "\"v\"")).await;
        // The service, which is asked with the condition where nothing can be stored, takes no notice of it.
        match conditional.body().is_empty() {
            true => conditional.has_status(304),
            false => conditional.has_status(200).has_body(page("/a")),
        };
    }
    asks(story, during, get("/a").header("cache-control", "no-cache")).await.has_body(page("/a"));
    asks(story, during, ask("POST", "/a")).await.has_status(204);
    asks(story, during, get("/a")).await.has_body(page("/a"));
    let _ = story.handle.purge([tower_redis_cache::PurgeTarget::tag("none")], tower_redis_cache::PurgeMode::Hard).await;
}

async fn is_cached_again(story: &Story, after: &str) {
    until_some(&format!("{after}: the cache serves hits again"), || async {
        // A body that came late once is asked for again a second later.
        story.time_passes(Duration::from_secs(1));
        let small = asks(story, after, get("/a")).await.outcome().is_hit();
        (small && asks(story, after, get("/large")).await.outcome().is_hit()).then_some(())
    })
    .await;
}

/// Something that is wrong, and how it is put right.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) begins: fn(&mut RedisServer),
    pub(crate) ends: fn(&mut RedisServer),
}

fn set(server: &RedisServer, name: &str, value: &str) {
    assert_eq!(server.cli(&["CONFIG", "SET", name, value]), "OK", "{name}");
}

fn disconnect(server: &RedisServer) {
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
}

/// A server whose last snapshot failed takes no writes, if it is set so.
fn fail_to_save(server: &RedisServer) {
    set(server, "save", "1000000 1000000");
    set(server, "dir", "/proc");
    server.cli(&["BGSAVE"]);
    let begun = Instant::now();
    while !server.cli(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err") {
        assert!(begun.elapsed() < PATIENCE, "it was saved");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) const FAULTS: [Fault; 16] = [
    Fault { name: "nothing", begins: |_| {}, ends: |_| {} },
    Fault { name: "killed", begins: RedisServer::kill, ends: RedisServer::restart },
    Fault { name: "restarted empty", begins: RedisServer::restart, ends: |_| {} },
    Fault { name: "stopped", begins: |server| server.stop(), ends: |server| server.cont() },
    Fault { name: "disconnected", begins: |server| disconnect(server), ends: |_| {} },
    Fault {
        name: "a halt on writes",
        begins: |server| assert_eq!(server.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]), "OK"),
        ends: |server| assert_eq!(server.cli(&["CLIENT", "UNPAUSE"]), "OK"),
    },
    Fault {
        name: "a halt on everything",
        begins: |server| assert_eq!(server.cli(&["CLIENT", "PAUSE", "1500", "ALL"]), "OK"),
        ends: |_| {},
    },
    Fault { name: "OOM", begins: |server| set(server, "maxmemory", "1"), ends: |server| set(server, "maxmemory", "0") },
    Fault {
        name: "NOREPLICAS",
        begins: |server| set(server, "min-replicas-to-write", "1"),
        ends: |server| set(server, "min-replicas-to-write", "0"),
    },
    Fault { name: "MISCONF", begins: |server| fail_to_save(server), ends: |server| set(server, "save", "") },
    Fault {
        name: "READONLY",
        begins: |server| assert_eq!(server.cli(&["REPLICAOF", "127.0.0.1", "1"]), "OK"),
        ends: |server| assert_eq!(server.cli(&["REPLICAOF", "NO", "ONE"]), "OK"),
    },
    Fault {
        name: "WRONGPASS",
        begins: |server| {
            assert_eq!(server.cli(&["ACL", "SETUSER", "cache", "resetpass", ">other"]), "OK");
            disconnect(server);
        },
        ends: |server| assert_eq!(server.cli(&["ACL", "SETUSER", "cache", ">pw"]), "OK"),
    },
    Fault {
        name: "MAXCLIENTS",
        begins: |server| {
            let kill = |kind| ["CLIENT", "KILL", "TYPE", kind];
            server.cli_kept(&[&["CONFIG", "SET", "maxclients", "1"], &kill("normal"), &kill("pubsub")]);
        },
        ends: |server| server.cli_kept(&[&["CONFIG", "SET", "maxclients", "1000"]]),
    },
    Fault {
        name: "BUSY",
        begins: |server| {
            set(server, "busy-reply-threshold", "1");
            server.begins(&["EVAL", "while true do end", "0"]);
            server.insists(&["PING"], "BUSY");
        },
        ends: |server| server.insists(&["SCRIPT", "KILL"], "NOTBUSY"),
    },
    Fault {
        name: "scripts forgotten",
        begins: |server| assert_eq!(server.cli(&["SCRIPT", "FLUSH"]), "OK"),
        ends: |_| {},
    },
    Fault { name: "emptied", begins: |server| assert_eq!(server.cli(&["FLUSHALL"]), "OK"), ends: |_| {} },
];

/// One on which all that the faults need can be set.
pub(crate) fn server() -> RedisServer {
    RedisServer::start_with(&["--enable-protected-configs", "yes"])
}

pub(crate) fn with_user(server: &RedisServer) -> String {
    let rules = ["ACL", "SETUSER", "cache", "on", ">pw", "~trc:*", "&trc:*", "+@all"];
    assert_eq!(server.cli(&rules), "OK");
    server.url_of_user("cache", "pw")
}

#[tokio::test]
async fn no_fault_of_the_server_changes_an_answer() {
    for fault in FAULTS {
        let mut server = server();
        let url = with_user(&server);
        let story = story_at(&url);
        walk(&story, "before").await;
        is_cached_again(&story, "before").await;
        (fault.begins)(&mut server);
        walk(&story, fault.name).await;
        walk(&story, fault.name).await;
        (fault.ends)(&mut server);
        if ["killed", "restarted empty"].contains(&fault.name) {
            with_user(&server);
        }
        is_cached_again(&story, fault.name).await;
        walk(&story, "after").await;
        // And one that begins in the midst of it.
        (fault.begins)(&mut server);
        let late = story_at(&url);
        walk(&late, fault.name).await;
        (fault.ends)(&mut server);
        if ["killed", "restarted empty"].contains(&fault.name) {
            with_user(&server);
        }
        is_cached_again(&late, fault.name).await;
    }
}

#[tokio::test]
async fn no_right_that_is_missing_changes_an_answer() {
    const COMMANDS: [&str; 22] = [
        "get",
        "getrange",
        "exists",
        "set",
        "pexpire",
        "unlink",
        "evalsha",
        "eval",
        "evalsha_ro",
        "eval_ro",
        "publish",
        "subscribe",
        "zadd",
        "zcard",
        "zrange",
        "zrevrange",
        "zrangebyscore",
        "zremrangebyscore",
        "time",
        "pttl",
        "client",
        "hello",
    ];
    for command in COMMANDS {
        let server = RedisServer::start();
        let url = with_user(&server);
        let story = story_at(&url);
        walk(&story, "before").await;
        let rule = |sign: char| {
            let rule = format!("{sign}{command}");
            assert_eq!(server.cli(&["ACL", "SETUSER", "cache", &rule]), "OK");
        };
        rule('-');
        walk(&story, command).await;
        let late = story_at(&url);
        walk(&late, command).await;
        rule('+');
        is_cached_again(&story, command).await;
        is_cached_again(&late, command).await;
    }
}

/// Anything may be evicted at any time, or overwritten by somebody else.
#[tokio::test]
async fn no_key_that_is_gone_or_not_ours_changes_an_answer() {
    let server = RedisServer::start();
    let story = story_at(&with_user(&server));
    let junk: [&[&str]; 3] = [&["SET", "junk"], &["RPUSH", "junk"], &["HSET", "junk", "junk"]];
    walk(&story, "before").await;
    is_cached_again(&story, "before").await;
    for key in server.all_keys("*") {
        server.cli(&["DEL", &key]);
        walk(&story, &key).await;
        is_cached_again(&story, &key).await;
    }
    for words in junk {
        for key in server.all_keys("*") {
            server.cli(&["DEL", &key]);
            let command = [&words[..1], &[key.as_str()], &words[1..]].concat();
            server.cli(&command);
            walk(&story, &format!("{key} is another's")).await;
        }
        is_cached_again(&story, "another's").await;
    }
}

/// All that a server, or whatever is between, can answer to a command.
#[tokio::test]
async fn no_answer_of_redis_changes_an_answer_of_the_cache() {
    const COMMANDS: [&str; 9] =
        ["GETRANGE", "EXISTS", "SET", "PEXPIRE", "UNLINK", "EVALSHA", "EVAL", "EVALSHA_RO", "CLIENT"];
    let replaced = Tampering::Replaced;
    let kinds = [
        replaced("-LOADING Redis is loading the dataset in memory\r\n"),
        replaced("-BUSY Redis is busy running a script\r\n"),
        replaced("-MASTERDOWN Link with MASTER is down\r\n"),
        replaced("-CLUSTERDOWN The cluster is down\r\n"),
        replaced("-TRYAGAIN Multiple keys request during rehashing of slot\r\n"),
        replaced("-MOVED 1 127.0.0.1:1\r\n"),
        replaced("-ASK 1 127.0.0.1:1\r\n"),
        replaced("-NOSCRIPT No matching script\r\n"),
        replaced("-OOM command not allowed when used memory > 'maxmemory'\r\n"),
        replaced("-READONLY You can't write against a read only replica\r\n"),
        replaced("-NOAUTH Authentication required\r\n"),
        replaced("-NOPERM this user has no permissions\r\n"),
        replaced("-WRONGTYPE Operation against a key\r\n"),
        replaced("-UNHEARDOF of\r\n"),
        replaced("$-1\r\n"),
        replaced(":7\r\n"),
        replaced("*0\r\n"),
        replaced("+\r\n"),
        replaced("$3\r\nabc\r\n"),
        replaced("no answer at all\r\n"),
        Tampering::Truncated,
        Tampering::Trickling,
        Tampering::Withheld,
        Tampering::Doubled,
    ];
    let server = RedisServer::start();
    with_user(&server);
    for command in COMMANDS {
        let mut tampered = 0;
        for kind in &kinds {
            tampered += tampers(&server, command, kind.clone()).await;
        }
        assert!(tampered >= kinds.len() / 2, "{command} is asked for: {tampered}");
    }
    // What is no value of a cell has nothing by which a changed octet is known.
    for (command, right) in [("GETRANGE", "+getrange"), ("GET", "-getrange")] {
        // Without that right values are read whole.
        assert_eq!(server.cli(&["ACL", "SETUSER", "cache", right]), "OK");
        let tampered = tampers(&server, command, Tampering::Flipped).await;
        assert!(tampered > 0, "{command} is asked for");
    }
}

/// How many answers there were to tamper with.
async fn tampers(server: &RedisServer, command: &'static str, kind: Tampering) -> usize {
    let name = format!("{kind:?} to {command}");
    let tamper = Tamper::to(server.port()).await;
    let url = format!("redis://cache:pw@127.0.0.1:{}", tamper.port());
    let story = story_at(&url);
    walk(&story, "before").await;
    tamper.plans(Some((command, kind.clone())));
    match command {
        // For scripts that are not known, and for new connections.
        "EVAL" | "CLIENT" => {
            server.cli(&["SCRIPT", "FLUSH"]);
            walk(&story_at(&url), &name).await;
        }
        // What takes the place of a large body ends it.
        "PEXPIRE" => {
            asks(&story, &name, get("/large").header("cache-control", "no-cache")).await.has_body(page("/large"));
            // A large body whose connection falls silent in the middle of it breaks off: tests/outage/bodies.rs.
            if kind != Tampering::Withheld {
                walk(&story, &name).await;
            }
        }
        _ => walk(&story, &name).await,
    }
    tamper.plans(None);
    if matches!(kind, Tampering::Withheld | Tampering::Trickling) {
        // A body that was late several times is left alone for up to a minute.
        story.time_passes(Duration::from_secs(61));
    }
    is_cached_again(&story, &name).await;
    tamper.tampered()
}
