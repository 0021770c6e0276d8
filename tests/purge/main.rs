//! What an operator ends, told as dialogues: on both stores, in a fleet, and when Redis loses what it knows of it.

#[path = "../support/mod.rs"]
mod support;

#[path = "../fleet/troupe.rs"]
#[allow(dead_code, reason = "the stories of the fleet use more of it")]
mod troupe;

mod fleet;
mod inspect;
mod near;
mod near_large;
mod prime;
mod races;
mod soft;
mod tags;
mod targets;
