//! What [`CacheHandle::inspect`](crate::CacheHandle::inspect) tells.

use std::time::Duration;

use http::StatusCode;

use crate::key::CacheKey;
use crate::observe::Outcome;

/// What the cache would do with a request at present, and what it has for it.
///
/// It is a look at one moment: what is fetched, purged or evicted meanwhile changes it. Bodies are not read, so one whose
/// chunks Redis has evicted still counts as a hit here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The key of the request; `None` where the request is not for the cache, for the reason in `outcome`.
    pub key: Option<CacheKey>,
    /// What would be done: a hit with its [`ttl`](Outcome::ttl), or why not, in the words of `Cache-Status` (RFC 9211).
    pub outcome: Outcome,
    /// Where the selected response is; `None` where there is none.
    pub tier: Option<Tier>,
    /// The response that the request selects (RFC 9111 §4), whether it may be used as it is or has to be validated.
    pub selected: Option<InspectedResponse>,
    /// What is stored under the key, the newest variant first and at most 64 of them, purged ones included that nobody
    /// has removed yet. Empty as well where the store does not answer in time.
    pub responses: Vec<InspectedResponse>,
    /// The request fields that select among the responses, in lower case and in alphabetical order.
    pub vary: Vec<String>,
    /// The number of the last purge that is known here.
    pub last_purge: u64,
    /// Whether enough is known of purges to serve what is stored: see
    /// [`max_unsynced`](crate::CacheConfig::max_unsynced).
    pub knows_purges: bool,
    /// The key's last response was for nobody else, so that requests for it do not wait for each other.
    pub is_uncacheable: bool,
    /// This process is fetching it.
    pub is_being_fetched: bool,
}

/// A stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedResponse {
    /// Its status; 206 where only a part is stored.
    pub status: StatusCode,
    /// The octets of its body.
    pub length: u64,
    /// Its age (RFC 9111 §4.2.3).
    pub age: Duration,
    /// How long it is fresh (RFC 9111 §4.2.1): it is, as long as its age is less.
    pub lifetime: Duration,
    /// By which it can be purged.
    pub tags: Vec<String>,
    /// The last purge that was known when it was asked for. Later ones that cover it have ended it.
    pub fetched_at_purge: u64,
    /// Whether one has.
    pub purge: PurgeState,
}

/// Where a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// In this process, in front of Redis: see [`near_cache`](crate::CacheConfig::near_cache).
    Near,
    /// In Redis.
    Redis,
    /// In this process, which has no other store.
    Memory,
}

/// What purges have done to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PurgeState {
    /// It may be served.
    NotPurged,
    /// The soft purge of this number has made it stale.
    Stale {
        /// That of [`Purged::number`](crate::Purged).
        number: u64,
    },
    /// It is not served any more, and soon removed.
    Purged,
    /// It was stored by an instance that knows of purges which this one has not heard of yet: it is asked for anew.
    Unknown,
}
