//! What becomes of requests when Redis is not well: they pass, within the deadline, and caching comes back by itself.

#[path = "../support/mod.rs"]
mod support;

mod away;
mod bodies;
mod credentials;
mod forged;
mod junk;
mod matrix;
mod refusing;
mod repairs;
mod silent;
mod soak;
mod spare;
mod troupe;
