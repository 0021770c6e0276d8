//! Settings for one request, said by the application.

use std::time::Duration;

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
    pub(crate) ttl: Option<Duration>,
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
        self.ttl = Some(ttl);
        self
    }

    /// Keeps the cache out of this request altogether.
    pub fn bypass(mut self) -> Self {
        self.bypass = true;
        self
    }
}
