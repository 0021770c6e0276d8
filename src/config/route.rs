//! Settings for one request, said by the application.

use std::fmt;
use std::time::Duration;

use super::GREATEST_TTL;
use crate::semantics::RouteRules;

/// A request extension by which an outer service or middleware says how this request is to be cached.
///
/// ```
/// use std::time::Duration;
/// use http::Request;
/// use tower_redis_cache::CacheOverride;
///
/// let mut request = Request::new(());
/// request.extensions_mut().insert(CacheOverride::new().ttl(Duration::from_secs(300)));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheOverride {
    pub(crate) rules: RouteRules,
    pub(crate) bypass: bool,
}

impl CacheOverride {
    /// Overrides nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The freshness lifetime of the response, whatever it states, and whatever the configuration's bounds. What may
    /// not be stored is still not stored (`no-store`, `private`, `no-cache`, Set-Cookie, Authorization, `Vary: *`), and
    /// an error counts by its own freshness alone, as it does for all configured lifetimes under the safe policy.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.rules.ttl = Some(ttl.min(GREATEST_TTL));
        self
    }

    /// The freshness lifetime of a response that states none, in place of
    /// [`CacheConfig::default_ttl`](crate::CacheConfig::default_ttl) and as it says. Zero: it is not stored.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.rules.default_ttl = Some(ttl.min(GREATEST_TTL));
        self
    }

    /// For how long after it became stale the response may be sent while it is validated in the background (RFC 5861 §3).
    /// The longest of this, the response's own word and
    /// [`CacheConfig::stale_while_revalidate`](crate::CacheConfig::stale_while_revalidate) counts. It is stored with the
    /// response: a later change is for what is stored later, and a request without it that validates the response takes it
    /// away. A response that is never fresh has to have a validator to be stored at all, or a grace of its own. One that
    /// forbids it stays forbidden (`must-revalidate`, `proxy-revalidate`, `no-cache`, `s-maxage`; RFC 9111 §4.2.4).
    pub fn stale_while_revalidate(mut self, grace: Duration) -> Self {
        self.rules.grace.while_revalidate = grace.min(GREATEST_TTL);
        self
    }

    /// For how long after it became stale the response may be sent in place of an error of the service (RFC 5861 §4); in
    /// all else as [`stale_while_revalidate`](Self::stale_while_revalidate).
    pub fn stale_if_error(mut self, grace: Duration) -> Self {
        self.rules.grace.if_error = grace.min(GREATEST_TTL);
        self
    }

    /// Stores nothing of the response, as if the request said `no-store` (RFC 9111 §5.2.1.5) and clients had that say. What
    /// is stored already may answer, and an unsafe request ends it.
    pub fn no_store(mut self) -> Self {
        self.rules.no_store = true;
        self
    }

    /// Keeps the cache out of this request altogether: an unsafe request ends nothing either.
    pub fn bypass(mut self) -> Self {
        self.bypass = true;
        self
    }
}

/// A response extension by which a service says that it could not reach its origin, and made the response itself.
///
/// A service that turns a failed connection into a 502 or 504 has answered, as far as the cache can see. With this
/// extension the cache takes the response for what it is, and may send a stale one instead (RFC 9111 §4.2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disconnected;

/// A request extension by which an application lends the cache the means to ask the service once more.
///
/// The cache gives the client's request away when it forwards it, body and all. With this extension, for `Q` the service's
/// type of request body, it can ask the service something else in its place, or again:
///
/// - for the rest of a large stored body that Redis ceases to give while it is sent: by `Range`, and under the strong
///   `ETag` of what is stored with `If-Range` (RFC 9110 §13.1.5), so that what comes is of the same representation or
///   nothing. Without the extension the body breaks off. At most eight such requests are made for one answer, each under
///   [`max_fetches`](crate::CacheConfig::max_fetches); they are counted in [`Stats::resumed`](crate::Stats::resumed).
/// - for the whole, where it asked with validators or for a rest (under
///   [`CachePolicy::rfc9111`](crate::CachePolicy::rfc9111)) and what came does not fit. Without the extension it asks so
///   only where entity tags guarantee that it fits.
///
/// ```
/// use http::Request;
/// use http_body_util::Empty;
/// use tower_redis_cache::EmptyBody;
///
/// let mut request = Request::new(Empty::<bytes::Bytes>::new());
/// request.extensions_mut().insert(EmptyBody::<Empty<bytes::Bytes>>::new(Empty::new));
/// ```
pub struct EmptyBody<Q> {
    make: fn() -> Q,
}

impl<Q> EmptyBody<Q> {
    /// With a function that makes a body without content.
    pub fn new(make: fn() -> Q) -> Self {
        Self { make }
    }

    pub(crate) fn make(&self) -> Q {
        (self.make)()
    }
}

impl<Q> Clone for EmptyBody<Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q> Copy for EmptyBody<Q> {}

impl<Q> fmt::Debug for EmptyBody<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmptyBody")
    }
}
