//! What requests for one key know of each other.

pub(crate) mod bids;
pub(crate) mod failing;
pub(crate) mod flight;
pub(crate) mod imminent;
pub(crate) mod lease;
pub(crate) mod order;
pub(crate) mod permits;
pub(crate) mod recent;
pub(crate) mod remembered;
pub(crate) mod slow;
pub(crate) mod uncacheable;
