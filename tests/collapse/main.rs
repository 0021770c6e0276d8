//! Requests for the same thing at the same time: one is forwarded, and its response answers all of them.

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod cancelled;
mod crowd;
mod followers;
mod leads;
mod leaving;
mod redis;
mod soak;
mod together;
