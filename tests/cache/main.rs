//! The cache as its users see it, told as dialogues: the origin says, a client asks, the cache answers. Each story is
//! played on the memory store and on a real Redis.

#[path = "../support/mod.rs"]
mod support;

mod beyond;
mod capacity;
mod caps;
mod conditional;
mod hits;
mod invalidation;
mod keys;
mod large;
mod safe;
mod shared;
mod status;
mod streaming;
mod ttl;
mod vary;
