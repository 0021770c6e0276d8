//! The cache between a hyper server and a hyper client, on real sockets, before an origin that can misbehave.

#[path = "../support/mod.rs"]
mod support;

mod fit;
mod gateway;
mod misbehaviour;
mod passage;
