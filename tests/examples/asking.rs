//! One request to an example, and what came of it.

use std::cell::RefCell;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, Response, StatusCode};
use tower::ServiceExt;
use tower_redis_cache::{CacheConfig, CacheHandle, ConfigError, MemoryStore, Outcome, RedisCacheLayer};

use crate::support::gate::PATIENCE;
use crate::support::redis::RedisServer;

/// What a client got, and what the cache says of it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.head.extensions().get()
    }

    /// It was fetched, and is stored.
    #[track_caller]
    pub(crate) fn is_stored(&self) -> &Self {
        assert!(self.outcome().is_some_and(|outcome| !outcome.is_hit() && outcome.is_stored()), "{self:?}");
        self
    }

    /// It was fetched, and is not stored.
    #[track_caller]
    pub(crate) fn is_not_stored(&self) -> &Self {
        assert!(self.outcome().is_some_and(|outcome| !outcome.is_hit() && !outcome.is_stored()), "{self:?}");
        self
    }

    /// It comes from the cache.
    #[track_caller]
    pub(crate) fn is_a_hit(&self) -> &Self {
        assert!(self.outcome().is_some_and(Outcome::is_hit), "{self:?}");
        self
    }

    /// It comes from the cache and is stale.
    #[track_caller]
    pub(crate) fn is_stale_hit(&self) -> &Self {
        let is_stale = |outcome: &Outcome| outcome.is_hit() && outcome.ttl() <= Some(0);
        assert!(self.outcome().is_some_and(is_stale), "{self:?}");
        self
    }

    /// It comes from the cache, with so many seconds of freshness left.
    #[track_caller]
    pub(crate) fn is_hit_with_ttl(&self, ttl: i64) -> &Self {
        let found = self.outcome().map(|outcome| (outcome.is_hit(), outcome.ttl()));
        assert_eq!(found, Some((true, Some(ttl))), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert_eq!(self.text, text, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn has_status(&self, status: StatusCode) -> &Self {
        assert_eq!(self.head.status(), status, "{self:?}");
        self
    }
}

/// GETs `path` as from `localhost`.
pub(crate) async fn get(app: &Router, path: &str) -> Answer {
    send(app, Request::get(path), "").await
}

/// Sends a request as to `localhost`, and reads the answer to its end.
pub(crate) async fn send(app: &Router, request: http::request::Builder, content: &'static str) -> Answer {
    let request = request.header("host", "localhost").body(Body::from(content)).expect("a request");
    let response = app.clone().oneshot(request).await.expect("a router has no errors");
    let (parts, body) = response.into_parts();
    let octets = to_bytes(body, 1 << 20).await.expect("the body is whole");
    let text = String::from_utf8(octets.to_vec()).expect("the examples speak UTF-8");
    Answer { head: Response::from_parts(parts, ()), text }
}

/// Waits until what was to be stored is stored.
pub(crate) async fn stored(cache: &CacheHandle) {
    assert!(cache.drain(PATIENCE).await, "a fill did not come to its end: {:?}", cache.stats());
}

/// What `app` makes of the layers that `layer` makes for it, and their handles in that order.
pub(crate) fn with_handles<T>(
    layer: impl Fn(CacheConfig) -> RedisCacheLayer,
    app: impl FnOnce(&dyn Fn(CacheConfig) -> RedisCacheLayer) -> Result<T, ConfigError>,
) -> (T, Vec<CacheHandle>) {
    let handles = RefCell::new(Vec::new());
    let made = app(&|settings| {
        let layer = layer(settings);
        handles.borrow_mut().push(layer.handle());
        layer
    });
    (made.expect("the example's settings make sense"), handles.into_inner())
}

/// A small cache in memory.
pub(crate) fn in_memory(settings: CacheConfig) -> RedisCacheLayer {
    RedisCacheLayer::with_store(MemoryStore::new(1 << 20), settings)
}

/// Settings for a cache in this server. These tests are not about deadlines, and machines can be slow.
pub(crate) fn settings_for(server: &RedisServer) -> CacheConfig {
    let settings = CacheConfig::new(server.url()).expect("the server's URL is a URL");
    settings.store_timeout(PATIENCE / 2).store_write_timeout(PATIENCE / 2)
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
