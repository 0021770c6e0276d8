//! The operators' door: what was purged, and when, in one clock for the whole fleet.
//!
//! A purge is a record: what it names, and a number that is greater than that of any purge before it. A response carries
//! the number that was known when its fetch set out, and is good as long as nothing that covers it has a greater one. So
//! a purge costs the same whatever it covers, and a fetch that set out before it cannot bring the old answer back,
//! however late it comes.
//!
//! This is the law of it alone: [`clock`] judges, [`reading`] is how a copy comes to be and what
//! a store has lost, [`label`] is what an entry is found by, [`target`] what can be named,
//! [`tags`] and [`groups`] what responses say. Where the numbers come from is the store's affair.

pub(crate) mod clock;
pub(crate) mod groups;
pub(crate) mod label;
#[cfg(test)]
mod model;
pub(crate) mod plane;
pub(crate) mod reading;
pub(crate) mod tags;
pub(crate) mod target;

pub use target::{PurgeError, PurgeMode, PurgeTarget, Purged};
