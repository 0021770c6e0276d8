//! A shared HTTP cache in Redis for any tower service.
//!
//! # Quick start
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_redis_cache::{CacheConfig, RedisCacheLayer};
//!
//! # fn main() -> Result<(), tower_redis_cache::ConfigError> {
//! let cache = RedisCacheLayer::new(CacheConfig::new("redis://127.0.0.1:6379")?);
//! let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(cache);
//! # drop(app);
//! # Ok(())
//! # }
//! ```
//!
//! A response is stored if it says for how long it is fresh (`Cache-Control: max-age=60`, say) and nothing forbids it;
//! the next request for it is answered from Redis, by this process or by any other with the same namespace. Every
//! response says in its `Cache-Status` field (RFC 9211) what happened to it and why.
//!
//! # How a request travels
//!
//! 1. **Admission.** GET and HEAD without content, and QUERY behind a [`QueryLayer`], may be answered from the cache.
//!    Other methods pass; if they are unsafe and succeed, what is stored for their target, and for what `Location` and
//!    `Content-Location` name, ends (RFC 9111 §4.4). Upgrades, and requests without a key, pass untouched.
//! 2. **Look-up.** One GET in Redis for a hit (two where responses vary or are large, one more for a QUERY) under one
//!    deadline, 100 ms by default. A Redis that is slow, down or full never costs more than that, and after a few
//!    failures a circuit breaker makes it cost nothing. Of a large body only the start is read by then, and the rest,
//!    chunk by chunk, as the client takes it.
//! 3. **Decision.** A fresh response that the request's own directives accept is a hit: with `Age`, as 304 if the client
//!    has it already, in the ranges it asks for, without its body for HEAD. A stale one is sent where it, the client or
//!    the operator allows that, and nothing forbids it; `stale-while-revalidate` validates it in the background.
//! 4. **Forwarding.** Everything else goes on to the service: with the stored response's validators, where there is one
//!    (a 304 freshens it), otherwise without the client's own conditions, so that the whole response can be stored. If
//!    the service fails, a stale response may be sent instead.
//!    Requests for the same at the same time wait for the first of them, in this process and, by a lease in Redis, in
//!    all others, which read a long body of a stated length while it comes; a request for which that takes too long
//!    ([`collapse_timeout`](CacheConfig::collapse_timeout)) goes on by itself. An answer that is for one client alone is
//!    waited for by nobody else. The service is called in a task of its own, which task-local values do not reach.
//! 5. **Storing.** Clients get the service's response frame by frame as it comes. If it may be stored, it is recorded up
//!    to a cap, a long one in chunks that go to Redis while it comes; its head, without which the chunks are nothing, is
//!    written when the body has ended as it should. A body that ends early, or does not have the length that it states,
//!    is not stored. One that all clients have left is read to its end, for the store, if little enough is left of it
//!    ([`max_unread_body`](CacheConfig::max_unread_body)).
//!
//! # What is never shared
//!
//! Under the default policy, [`CachePolicy::safe`]: responses with `no-store`, `private`, `Set-Cookie` or `Vary: *`;
//! responses to requests with `Authorization` unless they say `public`, `must-revalidate` or `s-maxage` (RFC 9111 §3.5);
//! errors without explicit freshness; partial responses and event streams. `no-cache` responses are stored where they
//! have an entity tag, and validated on every use. Responses with `Vary` are stored once for each set of values of the
//! fields that it names. Request headers are never written to Redis; what depends on one is found by a digest of it.
//!
//! # Purging
//!
//! [`CacheHandle::purge`] ends responses by URL, key, tag, prefix or altogether, for all instances that share a namespace:
//! hard, or soft, which makes them stale. It writes one record, whatever it covers. A response carries the number of the
//! last purge that was known before it was asked for, and is good as long as none that covers it has a greater one; so
//! neither does a fetch that was under way bring the old answer back. Where the records are lost, everything that is
//! stored counts as purged. Tags come from `Cache-Groups` (RFC 9875), `Surrogate-Key`, `xkey`, `Cache-Tag` or
//! [a closure](CacheConfig::tags): at most 128 of 1 KiB each, 16 KiB in all; a response with more is not stored.
//!
//! # Memory in front of Redis
//!
//! With [`near_cache`](CacheConfig::near_cache) what was found in Redis is answered from memory, without asking Redis, while
//! it is fresh and not purged, and while enough is known of purges ([`max_unsynced`](CacheConfig::max_unsynced)).
//!
//! # The standards
//!
//! | | |
//! |---|---|
//! | RFC 9111 | HTTP caching, as a shared cache: all of it; partial responses are combined under [`CachePolicy::rfc9111`] |
//! | RFC 9110 | preconditions, ranges (single and multiple), HEAD, `Content-Location`, validators |
//! | RFC 9211 | `Cache-Status` |
//! | RFC 9213 | targeted cache control: `CDN-Cache-Control`, or [a list of one's own](CacheConfig::target_list) |
//! | RFC 9875 | `Cache-Groups`, `Cache-Group-Invalidation` |
//! | RFC 5861 | `stale-while-revalidate`, `stale-if-error` |
//! | RFC 10008 | QUERY, with [`QueryLayer`]; an unsafe request ends what is stored for all queries of its target |
//! | | `No-Vary-Search`: queries that differ in nothing that matters share a response |
//!
//! # What it does not do
//!
//! Interim responses (1xx) pass it by in the request's extensions, where hyper's client hands them to whoever listens;
//! tower's services have no other place for them. It is no private (browser's) cache.
//!
//! # What it tells
//!
//! Each response has an [`Outcome`] among its extensions, shown as `Cache-Status` (RFC 9211), and is one debug event of
//! `tracing`. [`CacheHandle::stats`] has totals and gauges. With the feature `metrics` they go to the recorder of the
//! [`metrics`](https://docs.rs/metrics) facade that is installed when the cache is made. All names begin with
//! `tower_redis_cache_`, and all have the label `cache`, the name in `Cache-Status`:
//!
//! | name | kind | labels | |
//! |---|---|---|---|
//! | `requests_total` | counter | `kind`: an [`OutcomeKind`], of eight | requests, each once |
//! | `details_total` | counter | `detail`: a word of `Cache-Status`, of some forty | requests with such a word |
//! | `service_seconds` | histogram | | until the head of the service's response to a GET, HEAD or QUERY for the cache is there |
//! | `store_seconds` | histogram | | a look-up in the store |
//! | each total in [`Stats`] with `_total` | counter | | |
//! | each gauge in [`Stats`] | gauge | | set when [`CacheHandle::stats`] is called |
//!
//! # When Redis is not well
//!
//! [`RedisCacheLayer::new`] connects to nothing, and an unreachable Redis is not an error: requests pass, `Cache-Status`
//! says `fwd=miss; detail=store-unavailable`, the log has one warning for each change, and caching resumes by itself
//! within about a second of recovery. A large body that is on its way by then waits up to
//! [`store_write_timeout`](CacheConfig::store_write_timeout) for each chunk whose turn has come, and then ends in an error:
//! what is not whole is never sent as if it were. A Redis that is out of memory goes on answering look-ups while writes pause.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::print_stdout)]

mod abreast;
mod body;
mod boxed;
mod clock;
mod collapse;
mod config;
mod doctor;
mod error;
mod exchange;
mod future;
mod handle;
mod hex;
mod inspect;
mod key;
mod layer;
mod observe;
mod prime;
mod purge;
mod query;
mod semantics;
mod service;
mod store;
#[cfg(feature = "unstable")]
#[doc(hidden)]
pub mod unstable;

pub use self::body::CacheBody;
pub use self::clock::{Clock, ManualClock};
pub use self::config::{CacheConfig, CacheOverride, Disconnected, EmptyBody, EvictionPolicy};
pub use self::doctor::{Diagnosis, Finding, Severity};
pub use self::error::{BodyError, ConfigError};
pub use self::future::ResponseFuture;
pub use self::handle::CacheHandle;
pub use self::inspect::{InspectedResponse, Inspection, PurgeState, Tier};
pub use self::key::{CacheKey, DefaultKey, KeyExtractor};
pub use self::layer::RedisCacheLayer;
pub use self::observe::counters::{Stats, StatsEntry};
pub use self::observe::{ForwardReason, Outcome, OutcomeKind, PurgeNews};
pub use self::prime::Primed;
pub use self::purge::{PurgeError, PurgeMode, PurgeTarget, Purged};
pub use self::query::{QueryContent, QueryLayer, QueryService};
pub use self::semantics::CachePolicy;
pub use self::semantics::storing::Refusal;
pub use self::service::RedisCache;
pub use self::store::MemoryStore;

/// The examples of the README and of the guide compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/guide.md")]
mod pages {}
