//! The program itself, with a real Redis.

use crate::running::{Running, refused};
use crate::support::gate::until_some;
use crate::support::origin::{Origin, Script};
use crate::support::redis::RedisServer;
use crate::victim::Victim;

#[tokio::test]
async fn it_does_not_start_without_a_list_of_origins_or_with_one_that_makes_no_sense() {
    for (arguments, words) in [
        (&[][..], "--allow <ORIGIN>"),
        (&["--allow", ""], "no origin"),
        (&["--allow", "example.com"], "no origin"),
        (&["--allow", "http://127.0.0.1:8000"], "loopback"),
        (&["--allow", "https://example.com", "--allow-address", "ten"], "10.0.0.0/8"),
        (&["--allow", "https://example.com", "--namespace", "a b"], "--namespace"),
    ] {
        let (code, said) = refused(arguments).await;
        assert!(code == Some(2) && said.contains(words), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn two_instances_share_answers_and_bindings_in_redis() {
    let (redis, origin) = (RedisServer::start(), Origin::start().await);
    origin.says("/a", Script::ok("a").header("cache-control", "max-age=60"));
    origin.says("/b", Script::ok("b"));
    let (url, allow) = (redis.url(), origin.url());
    let arguments = ["--allow", &allow, "--allow-address", "127.0.0.1", "--redis", &url, "--default-ttl", "60s"];
    let (one, other) = (Running::start(&arguments).await, Running::start(&arguments).await);
    let (a, b) = (format!("{allow}/a"), format!("{allow}/b"));
    let asked = [("url", &*a), ("key", "k"), ("params", "{\"page\":2}")];
    one.get(&asked).await.is(200, "a");
    let stored = || async { Some(other.get(&asked).await).filter(|heard| heard.is_hit()) };
    until_some("the other has it from Redis", stored).await.is(200, "a");
    other.get(&[("url", &b), ("key", "k")]).await.is(409, "the key belongs to another URL");
    one.get(&[("url", &b)]).await.is(200, "b");
    assert!(origin.count("/a?page=2") >= 1 && origin.count("/b") == 1);
    assert!(redis.all_keys("*").iter().all(|key| key.starts_with("trc-gateway:")));
}

#[tokio::test]
async fn names_of_this_machine_are_refused_by_the_real_resolver() {
    let victim = Victim::start().await;
    let origin = format!("http://localhost:{}", victim.port());
    let running = Running::start(&["--allow", &origin]).await;
    running.get(&[("url", &format!("{origin}/"))]).await.is(502, "loopback");
    running.get(&[("url", &format!("http://127.0.0.1:{}/", victim.port()))]).await.is(403, "not on the list");
    assert_eq!(victim.connections().await, 0);
    let running = Running::start(&["--allow", &origin, "--allow-address", "127.0.0.0/8,::1"]).await;
    running.get(&[("url", &format!("{origin}/"))]).await.is(200, "secret");
    assert_eq!(victim.connections().await, 1);
}
