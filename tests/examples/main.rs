//! Each example of the library, run the way its header says. `examples/proxy` has tests of its own.

#[path = "../support/mod.rs"]
mod support;

mod asking;

mod axum;
mod client;
mod hyper;
mod opentelemetry;
mod policies;
mod tags;
mod tenants;
