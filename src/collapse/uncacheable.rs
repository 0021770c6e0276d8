//! Hit-for-miss: keys whose last response might not be stored.
//!
//! For a key that may be cacheable the client's own conditions are taken off the request, so that the whole response
//! comes and can be stored; for one that is known not to be, that would only cost a transfer. The memory is short
//! and bounded. It is this process's own; what it finds out under a lease it tells the others by a marker in the store.

use std::time::Duration;

use http::header;

use super::recent::RecentKeys;
use crate::clock::Clock;
use crate::key::CacheKey;
use crate::semantics::PresentedRequest;
use crate::semantics::storing::Refusal;
use crate::semantics::time::Timestamp;

/// Keys that were uncacheable a short time ago.
#[derive(Debug)]
pub(crate) struct UncacheableKeys {
    for_all: RecentKeys,
    /// For requests with Authorization or a cookie alone: what they get says nothing of what others get.
    for_somebody: RecentKeys,
    /// Of the first those for which the store had nothing, a moment ago: it need not be asked.
    barren: RecentKeys,
}

/// For how long it is not known that another process has stored something there.
pub(crate) const BARREN: Duration = Duration::from_secs(1);

impl UncacheableKeys {
    pub(crate) fn new() -> Self {
        Self { for_all: RecentKeys::new(), for_somebody: RecentKeys::new(), barren: RecentKeys::lasting(BARREN) }
    }

    /// Most layers know of none, and then look no further.
    pub(crate) fn has(&self, key: &CacheKey, request: &PresentedRequest<'_>, clock: &Clock) -> bool {
        let is_somebodys =
            || [header::AUTHORIZATION, header::COOKIE].iter().any(|name| request.headers.contains_key(name));
        (self.for_all.has_any() && self.for_all.has(key, clock.now()))
            || (self.for_somebody.has_any() && is_somebodys() && self.for_somebody.has(key, clock.now()))
    }

    /// The key's response was refused; whether that says something of the key.
    pub(crate) fn note(&self, key: &CacheKey, refusal: Refusal, now: Timestamp) -> bool {
        let is_of_the_key = is_of_the_key(refusal);
        match refusal {
            _ if is_of_the_key => self.for_all.note(key, now),
            Refusal::Authorization | Refusal::Cookie => self.for_somebody.note(key, now),
            _ => {}
        }
        is_of_the_key
    }

    /// The store was asked, and had nothing either.
    pub(crate) fn note_barren(&self, key: &CacheKey, now: Timestamp) {
        self.barren.note(key, now);
    }

    /// Whether there is any [such](Self::is_barren) key.
    pub(crate) fn may_be_barren(&self) -> bool {
        self.barren.has_any()
    }

    /// Whether the store has nothing, as far as is known, and what comes may not be stored.
    pub(crate) fn is_barren(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.barren.has(key, now)
    }

    /// Another process says so.
    pub(crate) fn heard(&self, key: &CacheKey, now: Timestamp) {
        self.for_all.note(key, now);
    }

    /// The key's response may be stored.
    pub(crate) fn forget(&self, key: &CacheKey) {
        self.for_all.forget(key);
        self.for_somebody.forget(key);
        self.barren.forget(key);
    }
}

/// Whether a refusal says something of the key, and not of one request or one client.
pub(crate) fn is_of_the_key(refusal: Refusal) -> bool {
    // A 304 is what a request with conditions got: were it to renew the memory, there would be no end to it.
    let is_of_one = matches!(
        refusal,
        Refusal::Method | Refusal::RequestNoStore | Refusal::Status | Refusal::Authorization | Refusal::Cookie
    );
    !is_of_one
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn what_speaks_of_one_request_is_not_held_against_the_key() {
        let (keys, key) = (UncacheableKeys::new(), CacheKey::from("k"));
        let time = ManualClock::new();
        let clock = &time.clock();
        let now = clock.now();
        for refusal in [Refusal::Method, Refusal::RequestNoStore, Refusal::Status] {
            assert!(!keys.note(&key, refusal, now));
        }
        let nobodys = HeaderMap::new();
        let somebodys = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"))]);
        let [nobody, somebody] =
            [&nobodys, &somebodys].map(|headers| PresentedRequest { method: &Method::GET, headers });
        assert!(!keys.has(&key, &somebody, clock));
        assert!(!keys.note(&key, Refusal::Authorization, now));
        assert!(keys.has(&key, &somebody, clock) && !keys.has(&key, &nobody, clock));
        assert!(keys.note(&key, Refusal::Private, now));
        assert!(keys.has(&key, &nobody, clock));
        keys.forget(&key);
        assert!(!keys.has(&key, &nobody, clock) && !keys.has(&key, &somebody, clock));
    }
}
