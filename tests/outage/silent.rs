//! Redis is there and says nothing.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::gate::{PATIENCE, eventually, patiently, until_some};
use crate::support::redis::RedisServer;
use crate::support::relay::Relay;
use crate::support::story::{ask, get};
use crate::troupe::{
    Crowd, DEADLINE, has_stored, is_cached_again, page, passes, story_at, story_with, the_breaker_is_closed,
    the_breaker_opens,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_costs_a_few_requests_the_deadline_and_later_ones_nothing() {
    let server = RedisServer::start();
    let story = story_at(&server.url());
    is_cached_again(&story).await;
    let crowd = Crowd::gathers(&story, 16);
    crowd.has_answers(200).await;
    server.stop();
    the_breaker_opens(&story).await;
    crowd.has_answers(500).await;
    assert!(story.handle.stats().store_timeouts > 0, "{:?}", story.handle.stats());
    server.cont();
    is_cached_again(&story).await;
    crowd.has_answers(200).await;
    crowd.goes_home_content().await;
    the_breaker_is_closed(&story).await;
}

/// What goes beside a look-up is no failure of its own, and leaves nothing for long.
#[tokio::test]
async fn who_asks_for_the_lease_as_well_does_not_give_up_sooner() {
    let server = RedisServer::start();
    let story = story_at(&server.url());
    has_stored(&story, "/before", 20).await;
    let sets = server.calls("set");
    server.stop();
    for number in 0..3 {
        passes(&story, &format!("/{number}")).await.is_forwarded_for("miss");
    }
    let stats = story.handle.stats();
    assert_eq!((stats.store_timeouts, stats.store_unavailable), (3, 0), "five are too many");
    server.cont();
    eventually("they were asked for", || server.calls("set") >= sets + 3).await;
    eventually("no lease is left", || server.keys("*:lease").is_empty()).await;
    is_cached_again(&story).await;
}

#[tokio::test]
async fn answers_that_come_too_late_are_given_to_nobody() {
    let server = RedisServer::start();
    let story = story_at(&server.url());
    for number in 0..16 {
        story.client_asks(get(&format!("/{number}"))).await;
    }
    for _ in 0..3 {
        server.stop();
        // Fewer than open the breaker, so that the connection with its late answers stays in use.
        passes(&story, "/1").await;
        passes(&story, "/2").await;
        server.cont();
        for number in 0..16 {
            // `passes` looks at each body.
            passes(&story, &format!("/{number}")).await;
        }
    }
    is_cached_again(&story).await;
}

#[tokio::test]
async fn paused_clients_are_not_waited_for() {
    let server = RedisServer::start();
    let story = story_at(&server.url());
    is_cached_again(&story).await;
    assert_eq!(server.cli(&["CLIENT", "PAUSE", "3000", "ALL"]), "OK");
    the_breaker_opens(&story).await;
    is_cached_again(&story).await;
}

#[tokio::test]
async fn a_connection_that_went_dead_without_a_word_is_replaced() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port()).await;
    let story = story_at(&relay.url());
    is_cached_again(&story).await;
    let before = relay.connections();
    relay.silence_present_connections();
    is_cached_again(&story).await;
    assert!(relay.connections() > before, "a new connection was made");
    the_breaker_is_closed(&story).await;
}

#[tokio::test]
async fn a_redis_that_accepts_and_never_answers_is_no_redis() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port()).await;
    relay.silence_all();
    let story = story_at(&relay.url());
    passes(&story, "/first").await.is_forwarded_for("miss").is_not_stored();
    the_breaker_opens(&story).await;
    relay.let_new_connections_speak();
    is_cached_again(&story).await;
}

#[tokio::test]
async fn probing_a_silent_redis_makes_few_connections() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port()).await;
    relay.silence_all();
    let story = story_at(&relay.url());
    the_breaker_opens(&story).await;
    let before = relay.connections();
    for _ in 0..500 {
        passes(&story, "/again").await;
    }
    assert!(relay.connections() <= before + 10, "{} connections for 500 requests", relay.connections() - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_thousand_requests_at_once_before_a_stopped_redis_all_pass() {
    let server = RedisServer::start();
    let story = story_with(&server.url(), |config| config.max_inflight_bytes(1_000_000));
    is_cached_again(&story).await;
    server.stop();
    let clients: Vec<_> = (0..3000)
        .map(|number| {
            let story = story.clone();
            tokio::spawn(async move {
                let path = format!("/{number}");
                story.client_asks_and_goes_on(get(&path)).await.has_status(200).has_body(page(&path));
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client had a bad answer");
    }
    let stats = story.handle.stats();
    assert!(stats.bytes_in_flight <= 1_000_000, "{stats:?}");
    server.cont();
    is_cached_again(&story).await;
}

#[tokio::test]
async fn a_write_that_redis_does_not_take_in_time_is_dropped() {
    let server = RedisServer::start();
    let write_timeout = Duration::from_millis(300);
    let story = story_with(&server.url(), |config| config.store_write_timeout(write_timeout));
    is_cached_again(&story).await;
    let gate = crate::support::gate::Gate::closed();
    let body = gate.clone();
    story.origin.answers(move |_| {
        crate::support::scripted::ok("").chunks(["one "]).waits_for(&body).chunks(["two"]).cache_control("max-age=60")
    });
    let mut opened = story.client_begins(get("/slow")).await;
    opened.receives("one ").await;
    server.stop();
    gate.open();
    // The client has its answer at once; the write behind it is given up.
    let begun = Instant::now();
    opened.reads_to_the_end().await.has_body("one two");
    assert!(begun.elapsed() < write_timeout, "the client waited for the write");
    eventually("the write is dropped", || story.handle.stats().dropped_writes == 1).await;
    assert!(begun.elapsed() < write_timeout * 10);
    assert!(story.handle.drain(DEADLINE * 10).await);
    server.cont();
    is_cached_again_with(&story, "one two").await;
}

async fn is_cached_again_with(story: &crate::support::story::Story, body: &str) {
    crate::support::gate::until_some("the cache serves hits again", || async {
        let answer = story.client_asks_and_goes_on(get("/slow")).await;
        answer.has_status(200).has_body(body);
        answer.outcome().is_hit().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_change_is_not_held_up_and_says_that_it_could_not_invalidate() {
    let server = RedisServer::start();
    let story = story_at(&server.url());
    is_cached_again(&story).await;
    server.stop();
    let mut said = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        let answer = story.client_asks_and_goes_on(ask("POST", "/again")).await;
        assert!(begun.elapsed() < DEADLINE * 10, "{:?}", begun.elapsed());
        answer.has_status(200).is_forwarded_for("method");
        said.push(answer.cache_status().word("detail").map(str::to_owned));
    }
    assert!(said.iter().all(|detail| detail.as_deref() == Some("not-invalidated")), "{said:?}");
    server.cont();
    is_cached_again(&story).await;
}

#[tokio::test]
async fn the_deadline_is_one_for_all_that_a_look_up_takes() {
    let server = RedisServer::start();
    let story = story_at(&server.url());
    story
        .origin
        .answers(|_| crate::support::scripted::ok("varied").cache_control("max-age=60").header("vary", "accept"));
    let ask_for = |accept: &str| get("/varied").header("accept", accept);
    for accept in ["a", "b", "c"] {
        until_some("the variant is stored", || async {
            story.client_asks(ask_for(accept)).await.outcome().is_hit().then_some(())
        })
        .await;
    }
    server.stop();
    let begun = Instant::now();
    story.client_asks_and_goes_on(ask_for("a")).await.is_forwarded_for("miss").has_body("varied");
    assert!(begun.elapsed() < DEADLINE * 10, "{:?}", begun.elapsed());
    server.cont();
}

#[tokio::test]
async fn a_layer_that_is_gone_leaves_no_connection_and_tries_no_more() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port()).await;
    let story = story_at(&relay.url());
    is_cached_again(&story).await;
    assert!(server.info("connected_clients") > 1);
    drop(story);
    // One is the administrator, who asks.
    eventually("all connections are closed", || server.info("connected_clients") == 1).await;

    relay.silence_all();
    let story = story_at(&relay.url());
    the_breaker_opens(&story).await;
    drop(story);
    eventually("the last attempt is given up", || relay.open_connections() == 0).await;
}

/// Whatever it is asked, it answers this, again and again.
async fn babbler(words: &'static [u8]) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("a bound listener has an address"));
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut heard = [0; 1024];
                while connection.read(&mut heard).await.is_ok_and(|length| length > 0) {
                    if connection.write_all(words).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, task)
}

#[tokio::test]
async fn what_does_not_speak_redis_is_no_redis() {
    let languages: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$99999999999999\r\nand so on",
        b"*1000000000\r\n",
        b"\0\0\0\0",
        b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n",
    ];
    for words in languages {
        let (url, task) = babbler(words).await;
        let story = story_at(&url);
        for number in 0..20 {
            let answer = passes(&story, &format!("/{number}")).await;
            assert!(!answer.outcome().is_hit());
        }
        task.abort();
    }
}

/// The bound is longer than any test: only what Redis took before it hung can have ended the wait.
#[tokio::test]
async fn a_redis_that_was_quick_is_not_waited_for_as_long_as_a_slow_one() {
    let server = RedisServer::start();
    let quick = story_with(&server.url(), |config| {
        config.store_timeout(10 * PATIENCE).adaptive_store_timeout(Duration::from_millis(20))
    });
    for _ in 0..50 {
        quick.client_asks(get("/again")).await;
    }
    server.stop();
    patiently("all are answered", async {
        while quick.handle.stats().store_unavailable == 0 {
            quick.client_asks_and_goes_on(get("/again")).await.has_body(page("/again"));
        }
    })
    .await;
    server.cont();
    patiently("the cache serves hits again", async {
        while !quick.client_asks_and_goes_on(get("/again")).await.outcome().is_hit() {}
    })
    .await;
}
