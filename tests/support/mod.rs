//! What the tests stand on: a real Redis, an origin that can misbehave, and the language of the stories.
//!
//! Each test binary uses the part it needs, so what one of them leaves unused is no mistake.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::must_use_candidate, clippy::return_self_not_must_use)]

pub mod cache_status;
pub mod cluster;
pub mod example;
pub mod gate;
pub mod origin;
pub mod redis;
pub mod relay;
pub mod scripted;
pub mod story;
pub mod tamper;
