//! What requests for one key know of each other.

pub(crate) mod uncacheable;
