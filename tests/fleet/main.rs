//! Several processes on one Redis: who fetches, who waits, and whose answer is written. Two layers with nothing in common
//! but the server are two processes; where one has to die, the processes are real.

#[path = "../support/mod.rs"]
mod support;

#[path = "../proxy/running.rs"]
#[allow(dead_code, reason = "the stories of the proxy use more of it")]
mod running;
#[path = "../proxy/wire.rs"]
#[allow(dead_code, reason = "the stories of the proxy use more of it")]
mod wire;

mod troupe;

mod bids;
mod early;
mod failures;
mod fences;
mod leases;
mod proxies;
mod relays;
mod trouble;
mod uncacheable;
mod wake;
