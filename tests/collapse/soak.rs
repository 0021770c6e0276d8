//! Many clients that leave at random while bodies are fetched, followed, written and read.
//!
//! `COLLAPSE_SOAK=10000` asks for more of them, `COLLAPSE_SEED=7` for the same as another time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::together::{frames, nothing_is_left, octets, page};
use crate::support::gate::eventually;
use crate::support::story::{Stage, Story, get};

const CLIENTS_AT_ONCE: usize = 16;
/// Pages with bodies of these lengths.
const LENGTHS: [usize; 8] = [0, 1, 30_000, 66_000, 120_000, 262_144, 600_001, 3_000_000];

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn body_of(path: &str) -> Bytes {
    let number: usize = path.trim_start_matches('/').parse().expect("a number");
    octets(LENGTHS[number % LENGTHS.len()])
}

/// What came of the clients.
#[derive(Debug, Default)]
struct Tally {
    left: AtomicUsize,
    whole: AtomicUsize,
    behind: AtomicUsize,
}

/// One client: it reads at a speed of its own, and as often as not leaves in the middle.
async fn visits(story: &Story, bodies: &HashMap<String, Bytes>, tally: &Tally, mut chance: fastrand::Rng) {
    // The long ones less often: two of each length.
    let length = chance.usize(..LENGTHS.len()).min(chance.usize(..LENGTHS.len()));
    let path = format!("/{}", length + LENGTHS.len() * chance.usize(..2));
    let expected = &bodies[&path];
    let ask = match chance.u8(..8) {
        0 => get(&path).header("cache-control", "no-cache"),
        _ => get(&path),
    };
    // Some leave before they have the head.
    let asking = story.client_tries(ask);
    let response = match chance.u8(..4) {
        0 => tokio::time::timeout(Duration::from_micros(chance.u64(..1500)), asking).await.ok(),
        _ => Some(asking.await),
    };
    let Some(response) = response else {
        tally.left.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let mut body = response.expect("the origin has no error of its own").into_body();
    let leaves_at = if chance.bool() { chance.usize(..=expected.len()) } else { usize::MAX };
    let is_slow = chance.u8(..4) == 0;
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().expect("a frame of data"),
            // The only reason for which a body may end early.
            Err(error) => {
                assert_eq!(error.to_string(), "read too slowly to share a response with others");
                tally.behind.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        assert!(expected.get(read..read + data.len()) == Some(&data[..]), "{path}: other octets at {read}");
        read += data.len();
        if read >= leaves_at {
            tally.left.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if is_slow {
            tokio::time::sleep(Duration::from_micros(chance.u64(..500))).await;
        }
    }
    assert_eq!(read, expected.len(), "{path}: it ended as if that were all");
    tally.whole.fetch_add(1, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_and_whenever_the_others_have_what_the_origin_says() {
    let visits_in_all = setting("COLLAPSE_SOAK").unwrap_or(2_000) as usize;
    let seed = setting("COLLAPSE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("COLLAPSE_SEED={seed} COLLAPSE_SOAK={visits_in_all}");
    let stage = Stage::redis();
    let story = stage.story_with(|config| config.namespace("soak").expect("a namespace"));
    let bodies: HashMap<_, _> =
        (0..2 * LENGTHS.len()).map(|number| format!("/{number}")).map(|path| (path.clone(), body_of(&path))).collect();
    let pages: HashMap<_, _> = bodies.iter().map(|(path, body)| (path.clone(), frames(body.len(), 40_000))).collect();
    story.origin.answers(move |asked| page("").chunks(pages[asked.uri.path()].clone()).header("etag", "\"1\""));
    let (bodies, tally, next) = (Arc::new(bodies), Arc::<Tally>::default(), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS_AT_ONCE)
        .map(|_| {
            let (story, bodies, tally, next) = (story.clone(), bodies.clone(), tally.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= visits_in_all {
                        return;
                    }
                    // All ends now and then, so that there is always something to fetch.
                    if number % 40 == 39 {
                        story.time_passes(Duration::from_secs(100_000));
                    }
                    visits(&story, &bodies, &tally, fastrand::Rng::with_seed(seed ^ number as u64)).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("every client has what it is to have");
    }
    nothing_is_left(&story).await;
    println!("{tally:?} {:?}", story.handle.stats());
    assert!(tally.left.load(Ordering::Relaxed) > visits_in_all / 4 && story.handle.stats().collapsed > 0);
    for (path, body) in bodies.iter() {
        story.client_asks(get(path)).await.has_body(body);
        story.client_asks(get(path)).await.is_hit().has_body(body);
    }
    nothing_is_left(&story).await;
    // A lease whose end was not heard of in time ends by itself.
    let is_momentary = |key: &String| key.ends_with(":lease") || key.contains(":live:");
    eventually("leases have ended", || !stage.server().keys("*").iter().any(is_momentary)).await;
    keys_are_as_they_should_be(&stage);
}

/// Each is in the namespace and has a TTL; chunks to which no head leads end within a minute of their body's last use,
/// or with the time that a fill may take.
fn keys_are_as_they_should_be(stage: &Stage) {
    let server = stage.server();
    let keys = server.keys("*");
    let heads: Vec<Vec<u8>> =
        keys.iter().filter(|key| !key.contains(":b:")).filter_map(|key| server.value(key)).collect();
    // A generation stands in front of the body.
    let leads_to = |generation: [u8; 16]| {
        heads.iter().any(|head| head[..head.len().min(1000)].windows(16).any(|octets| octets == generation))
    };
    assert_eq!(heads.len(), 2 * LENGTHS.len());
    let (mut led_to, mut astray) = (0, 0);
    for key in &keys {
        let left: i64 = server.cli(&["PTTL", key]).parse().expect("a number");
        assert!(key.starts_with("soak:{") && left > 0, "{key} has {left} ms");
        let Some(generation) = key.split(":b:").nth(1).and_then(|rest| rest.split(':').next()) else { continue };
        let generation = u128::from_str_radix(generation, 16).expect("a number").to_be_bytes();
        if leads_to(generation) {
            led_to += 1;
        } else {
            astray += 1;
            assert!(left <= 15 * 60_000, "{key} leads nowhere and has {left} ms");
        }
    }
    println!("{} keys, {led_to} chunks in use, {astray} on their way out", keys.len());
    assert!(led_to > 0);
}
