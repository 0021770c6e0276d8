//! What a person sees who starts the proxy, rightly or wrongly.

use crate::running::{Proxy, command, refused};
use crate::support::origin::{Origin, Script};
use crate::support::redis::RedisServer;
use crate::wire::get;

#[tokio::test]
async fn the_banner_says_where_it_listens_what_it_caches_in_and_how_to_see_that_it_works() {
    let origin = Origin::start().await;
    let proxy = Proxy::before(&origin.url()).await;
    let banner = proxy.banner();
    assert!(banner.contains(&format!("listening on   http://{}\n", proxy.address())), "{banner}");
    assert_ne!(proxy.address().port(), 0);
    assert!(banner.contains(&origin.url()), "{banner}");
    assert!(banner.contains("memory, up to 256 MiB"), "{banner}");
}

#[tokio::test]
async fn the_store_can_be_looked_at_before_anything_is_served() {
    let mut server = RedisServer::start_with(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let url = server.url();
    let arguments = ["--origin", "http://127.0.0.1:1", "--redis", &url, "--check"];
    let well = refused(&arguments).await;
    assert_eq!(well.code, Some(0), "{}", well.stderr);
    assert!(well.stdout.contains("64 MiB, allkeys-lru") && !well.stdout.contains("broken"), "{}", well.stdout);
    server.kill();
    let ill = refused(&arguments).await;
    assert!(ill.code == Some(2) && ill.stdout.contains("broken"), "{}", ill.stdout);
}

#[tokio::test]
async fn help_names_every_setting_under_headings() {
    let help = refused(&["--help"]).await;
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let names = [
        "--origin <URL>",
        "--redis <URL>",
        "--memory-size",
        "--listen",
        "--namespace",
        "--policy",
        "--default-ttl",
        "--ttl",
        "--min-ttl",
        "--max-ttl",
        "--ttl-jitter",
        "--max-body-size",
        "--store-timeout",
        "--soft-timeout",
        "--failure-backoff",
        "--early-refresh",
        "--redis-password-file",
        "--redis-ca",
        "--redis-cert",
        "--redis-key",
        "--entry-secret",
        "--compress-at-rest",
        "--redis-max-memory",
        "--redis-eviction",
        "--redis-max-clients",
        "--check",
        "--max-fetches",
        "--max-queued-fetches",
        "--fetch-queue-timeout",
        "--connect-timeout",
        "--first-byte-timeout",
        "--idle-timeout",
        "--header-timeout",
        "--keep-alive-timeout",
        "--max-connections",
        "--max-header-size",
        "--max-uri-size",
        "--shutdown-timeout",
        "--upgrades",
        "--origin-ca",
        "--host",
        "--trust-forwarded",
        "--ignore-query",
        "--keep-query",
        "--sort-query",
        "--key-header",
        "--key-cookie",
        "--log",
        "Origin:",
        "Cache:",
        "Clients:",
        "Slow and failing origins:",
        "Examples:",
    ];
    for name in names {
        assert!(help.stdout.contains(name), "{name} is missing in\n{}", help.stdout);
    }
    let longest = help.stdout.lines().map(str::len).max();
    assert!(longest <= Some(110), "a line has {longest:?} characters");
}

#[tokio::test]
async fn a_bad_argument_gets_one_line_that_says_what_to_do() {
    let origin = ["--origin", "http://127.0.0.1:9"];
    let cases: [(&[&str], &str); 23] = [
        (&[], "--origin is missing: name the server"),
        (&["--origin"], "--origin <URL>"),
        (&["--origin", "127.0.0.1:9"], "for example http://127.0.0.1:8000"),
        (&["--origin", "ftp://a"], "expected http:// or https://"),
        (&["--origin", "http://a/base"], "an origin has no path"),
        (&["--origin", "http://a?x"], "an origin has no path"),
        (&["--origin", "http://u:secret@a"], "leave it out"),
        (&["--orign", "http://a"], "'--origin'"),
        (&["--idle-timeout", "soon"], "such as 100ms, 5s, 2m"),
        (&["--idle-timeout", "0"], "longer than zero"),
        (&["--max-body-size", "8 elephants"], "such as 65536, 64k, 8MiB"),
        (&["--policy", "bold"], "safe, rfc9111"),
        (&["--listen", "8080"], "such as 127.0.0.1:8080"),
        (&["--ttl-jitter", "51"], "0..=50"),
        (&["--min-ttl", "2m", "--max-ttl", "1m"], "--min-ttl is longer than --max-ttl"),
        (&["--namespace", ""], "--namespace"),
        (&["--redis", "http://u:secret@a"], "--redis"),
        (&["--trust-forwarded", "10.0.0.0/33"], "10.0.0.0/8"),
        (&["--max-entries", "5"], "--max-entries is for Redis alone: add --redis URL"),
        (&["--redis-max-memory", "5m"], "--redis-max-memory is for Redis alone"),
        (&["--threads", "0"], "from 1 to 1024"),
        (&["--threads", "100000"], "from 1 to 1024"),
        (&["--origin-ca", "/nowhere/ca.pem"], "--origin-ca: /nowhere/ca.pem"),
    ];
    for (arguments, expected) in cases {
        let mut all = arguments.to_vec();
        if !arguments.is_empty() && !arguments[0].starts_with("--ori") || arguments.contains(&"--origin-ca") {
            all.extend(origin);
        }
        let told = refused(&all).await;
        assert_eq!(told.code, Some(2), "{all:?}: {told:?}");
        assert_eq!((told.stdout.as_str(), told.stderr.lines().count()), ("", 1), "{all:?}: {told:?}");
        assert!(told.stderr.contains(expected), "{all:?}: {}", told.stderr);
        assert!(!told.stderr.contains("secret"), "{all:?}: {}", told.stderr);
    }
}

#[tokio::test]
async fn a_taken_port_gets_one_line_that_names_the_way_out() {
    let origin = Origin::start().await;
    let taken = origin.authority();
    let told = refused(&["--origin", &origin.url(), "--listen", &taken]).await;
    assert_eq!((told.code, told.stderr.lines().count()), (Some(2), 1), "{told:?}");
    assert!(told.stderr.contains(&taken) && told.stderr.contains("--listen ADDR"), "{told:?}");
}

#[tokio::test]
async fn the_redis_of_the_environment_is_used_and_its_password_is_never_printed() {
    let redis = RedisServer::start_with(&["--requirepass", "hush-hush"]);
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=60"));
    let mut command = command();
    command.env("REDIS_URL", redis.url_with_password("hush-hush"));
    command.args(["--origin", &origin.url(), "--listen", "127.0.0.1:0", "--log", "trace"]);
    let proxy = Proxy::start(command).await;
    assert!(proxy.banner().contains(&format!("Redis at redis://***@127.0.0.1:{}", redis.port())), "{}", proxy.banner());
    crate::wire::get_hit(&proxy, "/a").await;
    assert!(!redis.keys("trc*").is_empty());
    assert!(!proxy.banner().contains("hush-hush") && !proxy.log().contains("hush-hush"), "{}", proxy.log());
}

#[tokio::test]
async fn a_redis_that_is_down_is_no_error_but_is_told() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=60"));
    let proxy = Proxy::with(&origin.url(), &["--redis", "redis://:hush-hush@127.0.0.1:1"]).await;
    assert_eq!(get(&proxy, "/a").await.text(), "hello");
    proxy.logs(1, |line| line.contains("Redis does not answer; requests go to the origin")).await;
    assert!(!proxy.log().contains("hush-hush"), "{}", proxy.log());
}

#[tokio::test]
async fn each_request_is_one_line_in_the_log_without_its_query() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=60"));
    let proxy = Proxy::before(&origin.url()).await;
    get(&proxy, "/a?token=hush-hush").await;
    get(&proxy, "/a%1b[31m?token=hush-hush").await;
    let access = |line: &str| line.contains("access: ");
    proxy.logs(2, access).await;
    let log = proxy.log();
    let lines: Vec<&str> = log.lines().filter(|line| access(line)).collect();
    assert_eq!(lines.len(), 2, "{log}");
    for expected in ["method=\"GET\"", "path=/a", "status=200", "cache=\"tower-redis-cache; fwd=", "duration="] {
        assert!(lines[0].contains(expected), "{expected} is missing in {}", lines[0]);
    }
    assert!(!log.contains("hush-hush") && !log.contains('\u{1b}'), "{log}");
}
