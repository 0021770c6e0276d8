//! What the law costs, beside the same work done by `http-cache-semantics` in the same run.
//!
//! ```sh
//! cargo bench --features unstable --bench law
//! ```
//!
//! Each figure is the median of batches, in nanoseconds an operation; the batches of both sides take turns, so that a
//! machine that slows down slows both. The other crate has one door for several things: to read Cache-Control it makes
//! its policy of a response with no other field, and where it decides it copies the answer's fields as well; the lines
//! that begin with "..." add that on our side.

use std::hint::black_box;
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::header::{self, HeaderValue};
use http::{Request, Response, request, response};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use tower_redis_cache::{CacheConfig, DefaultKey, KeyExtractor, unstable};

const BATCHES: usize = 101;
const BATCH: Duration = Duration::from_millis(2);

/// 6 November 1994, a minute after the response's Date.
const RECEIVED: u64 = 784_111_777;
const NOW: u64 = RECEIVED + 60;

fn main() {
    // `cargo test --benches` runs this without `--bench`: there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (config, request, response) = (CacheConfig::default(), request(), response());
    let ours = unstable::store(&config, &request, &response, RECEIVED * 1000).expect("it may be stored");
    let (received, now) = (UNIX_EPOCH + Duration::from_secs(RECEIVED), UNIX_EPOCH + Duration::from_secs(NOW));
    let theirs = CachePolicy::new_options(&request, &response, received, CacheOptions::default());
    assert_eq!(unstable::decide(&config, &request, &ours, NOW * 1000), Some(Duration::from_secs(60)));
    assert!(matches!(theirs.before_request(&request, now), BeforeRequest::Fresh(_)));

    let fields = unstable::stored_fields(&response.headers);
    let nobody = Request::new(()).into_parts().0;
    let key = DefaultKey::new();
    let decide = || unstable::decide(&config, black_box(&request), black_box(&ours), NOW * 1000);
    let answer = || {
        let age = decide()?;
        let mut fields = fields.clone();
        fields.insert(header::AGE, HeaderValue::from(age.as_secs()));
        Some(fields)
    };
    let store = || unstable::store(&config, black_box(&request), black_box(&response), RECEIVED * 1000);
    let policy = || CachePolicy::new_options(black_box(&request), black_box(&response), received, <_>::default());

    println!("{:<64} {:>8} {:>8} {:>7}", "", "ours", "theirs", "ratio");
    for text in ["public, max-age=3600", "public, max-age=600, s-maxage=3600, stale-while-revalidate=30"] {
        let bare = bare(text);
        let parse = || unstable::directives(black_box(&bare.headers));
        line(text, parse, || CachePolicy::new_options(&nobody, black_box(&bare), received, <_>::default()));
    }
    line("decide: may what is stored answer", decide, || theirs.before_request(black_box(&request), now));
    line("... and the fields of the answer, with its Age", answer, || theirs.before_request(black_box(&request), now));
    line("storability: may a response be stored", store, || policy().is_storable());
    line(
        "... and the fields to store",
        || (store(), unstable::stored_fields(&response.headers)),
        || {
            let policy = policy();
            (policy.is_storable(), policy)
        },
    );
    alone("a key built", || key.key(black_box(&request)));
}

fn request() -> request::Parts {
    let request = Request::get("https://www.example.com/catalogue/shoes?colour=red&size=42")
        .header("host", "www.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
        .header("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
        .header("accept-language", "en-GB,en;q=0.5")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("cache-control", "max-age=300");
    request.body(()).expect("a request").into_parts().0
}

fn response() -> response::Parts {
    let response = Response::builder()
        .header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .header("content-type", "text/html; charset=utf-8")
        .header("content-length", "18342")
        .header("cache-control", "public, max-age=3600, stale-while-revalidate=60")
        .header("etag", "\"5e3a-61b2f0c1a4d40\"")
        .header("last-modified", "Sat, 05 Nov 1994 12:00:00 GMT")
        .header("vary", "accept-encoding")
        .header("server", "origin/1.0");
    response.body(()).expect("a response").into_parts().0
}

/// Cache-Control and nothing else.
fn bare(text: &'static str) -> response::Parts {
    let mut bare = Response::new(()).into_parts().0;
    bare.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(text));
    bare
}

/// Measures both sides and prints one line.
fn line<A, B>(name: &str, mut ours: impl FnMut() -> A, mut theirs: impl FnMut() -> B) {
    let (own_count, other_count) = (calibrated(&mut ours), calibrated(&mut theirs));
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        own.push(nanos_each(&mut ours, own_count));
        other.push(nanos_each(&mut theirs, other_count));
    }
    let (own, other) = (median(own), median(other));
    println!("{name:<64} {own:>5.0} ns {other:>5.0} ns {:>6.1}x", other / own);
}

/// The same for work that the other crate does not do.
fn alone<T>(name: &str, mut work: impl FnMut() -> T) {
    let count = calibrated(&mut work);
    let figures = (0..BATCHES).map(|_| nanos_each(&mut work, count)).collect();
    println!("{name:<64} {:>5.0} ns", median(figures));
}

/// How many operations make a batch.
fn calibrated<T>(work: &mut impl FnMut() -> T) -> u32 {
    let mut count = 1;
    while nanos_each(work, count) * f64::from(count) < BATCH.as_nanos() as f64 && count < 1 << 24 {
        count *= 2;
    }
    count
}

fn nanos_each<T>(work: &mut impl FnMut() -> T, count: u32) -> f64 {
    let begun = Instant::now();
    for _ in 0..count {
        black_box(work());
    }
    begun.elapsed().as_nanos() as f64 / f64::from(count)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
