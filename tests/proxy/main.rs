//! The caching proxy of `examples/proxy`, started as a person would start it and spoken to over raw sockets, because
//! half of what it must answer no HTTP client would send.

#[path = "../support/mod.rs"]
mod support;

mod running;
mod tls_origin;
mod wire;

mod access;
mod bodies;
mod deadlines;
mod failures;
mod forwarding;
mod front_door;
mod health;
mod hits;
mod leaving;
mod management;
mod pages;
mod parts;
mod queries;
mod routes;
mod settings;
mod starting;
mod tls_clients;
mod upgrades;
