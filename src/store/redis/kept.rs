//! What is kept in memory of what Redis has: how much room it takes, and how much of what is asked for it answers.

use std::sync::Arc;

use allocation_counter::measure;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use quick_cache::sync::Cache;

use super::codec;
use crate::key::CacheKey;
use crate::purge::label::{Label, Site, Stamp};
use crate::semantics::freshness::Freshness;
use crate::semantics::staleness::StalePermission;
use crate::semantics::time::Timestamp;
use crate::store::CellKey;
use crate::store::entry::{Cell, Chunks, StoredBody, StoredResponse};
use crate::store::near::{Keeping, NearCache};

const CONNECTION: u64 = 1;

pub(super) fn key(number: usize) -> CacheKey {
    CacheKey::from_parts(["", "https", "shop.example", &format!("/products/{number}"), ""])
}

/// A response of 1 KB, as Redis has it.
pub(super) fn value(key: &CacheKey) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("date", "Sat, 28 Nov 2026 12:00:00 GMT"),
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "public, max-age=600"),
        ("etag", "\"5f2b7c9e1a\""),
        ("last-modified", "Fri, 27 Nov 2026 12:00:00 GMT"),
        ("vary", "accept-encoding"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let response = StoredResponse {
        status: StatusCode::OK,
        headers,
        freshness: Freshness {
            lifetime: std::time::Duration::from_secs(600),
            corrected_initial_age: std::time::Duration::ZERO,
            response_time: Timestamp::from_millis(1_700_000_000_000),
            stale: StalePermission::default(),
            always_validate: false,
        },
        request_time: Timestamp::from_millis(1_700_000_000_000),
        origin_latency: std::time::Duration::ZERO,
        body: StoredBody::new(vec![Bytes::from(vec![b'x'; 1024])]),
        trailers: None,
        label: Arc::new(Label {
            stamp: Stamp { incarnation: 1, number: 1 },
            site: Site { authority: "shop.example".into(), path: "/products/1".into() },
            tags: ["product-1", "catalogue"].map(Into::into).into(),
        }),
    };
    codec::encode(CellKey::base(key), &Cell::Response(Arc::new(response)), 0)
}

/// Asked for, and read from Redis where it is not there.
fn is_found(near: &NearCache, number: usize) -> bool {
    let key = key(number);
    let found = near.look_up(&key, &HeaderMap::new(), Timestamp::from_millis(1_700_000_000_001), CONNECTION).is_some();
    if !found {
        let cell = CellKey::base(&key);
        // The client of Redis hands over a value without room to spare.
        let value = Bytes::from(value(&key).into_boxed_slice());
        let read = codec::decode(cell, &value).expect("it was written here");
        near.keep(cell, &read, Keeping { connection: CONNECTION, changes: near.changes(&key) });
    }
    found
}

#[test]
fn what_is_kept_takes_hardly_more_than_the_bound() {
    const BOUND: u64 = 32 << 20;
    let mut near = None;
    let held = measure(|| {
        let cache = NearCache::new(BOUND, 64 * 1024);
        (0..125_000).for_each(|number| assert!(!is_found(&cache, number)));
        near = Some(cache);
    });
    let near = near.expect("it was made");
    assert!(near.octets() <= BOUND && near.octets() > BOUND * 9 / 10, "{} of {BOUND}", near.octets());
    let ratio = held.bytes_current as f64 / BOUND as f64;
    assert!((0.75..=1.1).contains(&ratio), "{} octets are held, {ratio:.2} of the bound", held.bytes_current);
}

/// Zipf's law with an exponent of 0.99, as caches are compared by.
struct Zipf(Vec<f64>);

impl Zipf {
    fn of(items: usize) -> Self {
        let mut sum = 0.0;
        Self((1..=items).map(|rank| (sum += (rank as f64).powf(-0.99), sum).1).collect())
    }

    fn next(&self, random: &mut fastrand::Rng) -> usize {
        let point = random.f64() * self.0.last().copied().unwrap_or_default();
        self.0.partition_point(|sum| *sum < point)
    }
}

#[test]
fn as_much_is_found_again_as_the_eviction_can_do() {
    const ITEMS: usize = 50_000;
    let (zipf, near) = (Zipf::of(ITEMS), NearCache::new(8 << 20, 64 * 1024));
    let asked = |seed, is_found: &mut dyn FnMut(usize) -> bool| {
        let mut random = fastrand::Rng::with_seed(seed);
        // Half of it, when the cache is full, is not counted.
        let found = (0..300_000).filter(|count| is_found(zipf.next(&mut random)) && *count >= 150_000).count();
        found as f64 / 150_000.0
    };
    let ours = asked(7, &mut |number| is_found(&near, number));
    let kept = near.len();
    let own = Cache::new(kept);
    let best = asked(7, &mut |number| {
        let found = own.get(&number).is_some();
        if !found {
            own.insert(number, ());
        }
        found
    });
    assert!(ours > best - 0.02, "{ours:.3} of what is asked for is found, and {best:.3} could be, with {kept} entries");
}

#[test]
fn what_was_being_read_when_it_was_forgotten_is_not_kept() {
    let (near, key) = (NearCache::new(1 << 20, 64 * 1024), key(1));
    let cell = CellKey::base(&key);
    let read = codec::decode(cell, &value(&key).into()).expect("it was written here");
    let is_kept = |changes| {
        near.keep(cell, &read, Keeping { connection: CONNECTION, changes });
        near.look_up(&key, &HeaderMap::new(), Timestamp::from_millis(1_700_000_000_001), CONNECTION).is_some()
    };
    let before = near.changes(&key);
    assert!(is_kept(before));
    let changing = near.changing([cell]);
    assert!(!is_kept(before), "it is read since before the change");
    let meanwhile = near.changes(&key);
    assert!(is_kept(meanwhile));
    drop(changing);
    assert!(near.look_up(&key, &HeaderMap::new(), Timestamp::from_millis(0), CONNECTION).is_none());
    assert!(!is_kept(meanwhile), "it was read before the change was done");
    assert!(is_kept(near.changes(&key)));
}

fn chunks(generation: u128) -> Chunks {
    Chunks { generation, length: 2 }
}

/// A response that was received then, with its body, which is in these chunks in Redis.
fn gathered(key: &CacheKey, generation: u128, received: u64) -> Arc<StoredResponse> {
    let read = codec::decode(CellKey::base(key), &value(key).into()).expect("it was written here");
    let Cell::Response(response) = read else { panic!("a response was written") };
    let mut response = Arc::unwrap_or_clone(response);
    response.freshness.response_time = Timestamp::from_millis(received);
    response.body = StoredBody::in_chunks(chunks(generation)).kept(vec![Bytes::from_static(b"xx")]);
    Arc::new(response)
}

#[test]
fn one_gathers_a_body_and_the_ticket_of_another_ends_nothing() {
    let (near, key) = (NearCache::new(1 << 20, 64 * 1024), key(1));
    let cell = CellKey::base(&key);
    let begins = |generation| near.begin_to_gather(cell, chunks(generation), CONNECTION);
    let first = begins(1).expect("nobody is at it");
    assert_eq!(begins(1), None);
    let second = begins(2).expect("that is another body");
    near.end_gathering(cell, first);
    assert_eq!(begins(2), None, "the second is still at it");
    near.end_gathering(cell, second);
    let third = begins(2).expect("nobody is at it");
    near.end_gathering(cell, third);
    let keeping = Keeping { connection: CONNECTION, changes: near.changes(&key) };
    near.keep_gathered(cell, gathered(&key, 2, 9), keeping);
    assert!(near.has_body(cell, chunks(2), CONNECTION) && begins(2).is_none(), "it is kept");
    assert!(!near.has_body(cell, chunks(2), CONNECTION + 1), "that may be another server");
    assert!(begins(3).is_some());
}

#[test]
fn what_is_gathered_takes_no_newer_ones_place_and_gives_way_to_what_is_found() {
    let (near, key) = (NearCache::new(1 << 20, 64 * 1024), key(1));
    let cell = CellKey::base(&key);
    let keeps = |generation, received| {
        let keeping = Keeping { connection: CONNECTION, changes: near.changes(&key) };
        near.keep_gathered(cell, gathered(&key, generation, received), keeping);
        near.has_body(cell, chunks(generation), CONNECTION)
    };
    assert!(keeps(1, 5) && keeps(2, 6));
    assert!(!keeps(1, 5) && near.has_body(cell, chunks(2), CONNECTION));
    near.make_way(cell, &gathered(&key, 2, 6));
    assert!(near.has_body(cell, chunks(2), CONNECTION), "it is the same");
    near.make_way(cell, &gathered(&key, 3, 6));
    assert!(!near.has_body(cell, chunks(2), CONNECTION), "its body is another");
    assert!(keeps(2, 6));
    near.make_way(cell, &gathered(&key, 2, 7));
    assert!(!near.has_body(cell, chunks(2), CONNECTION), "its head is another");
}
