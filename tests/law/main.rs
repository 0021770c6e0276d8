//! The law as clients and origins see it: RFC 9111 and what stands around it, told as dialogues, chapter by chapter.
//! Each story is played on the memory store and on a real Redis.

#[path = "../support/mod.rs"]
mod support;

mod busy;
mod draining;
mod early;
mod engines;
mod freshening;
mod freshness;
mod invalidation;
mod leaks;
mod others;
mod others_in_redis;
mod others_on_the_way;
mod patience;
mod queries;
mod ranges;
mod refused;
mod requests;
mod staleness;
mod status;
mod storing;
mod targeted;
mod validation;
mod vary;

use http::HeaderMap;

use crate::support::story::{Story, seconds};

/// An HTTP-date so many seconds from the story's present.
fn date(story: &Story, offset: i64) -> String {
    let now = i64::try_from(story.time.unix_seconds()).expect("the present");
    let then = u64::try_from(now + offset).expect("a time after 1970");
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + seconds(then))
}

/// The lines of a request's field as the origin got them.
fn lines(fields: &HeaderMap, name: &str) -> Vec<String> {
    fields.get_all(name).iter().map(|value| value.to_str().expect("ASCII").to_owned()).collect()
}

/// Octets that repeat nowhere near.
fn octets(count: u32) -> Vec<u8> {
    (0..count).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
