//! Filling the cache before clients ask: after a purge, or a start.

use std::future::poll_fn;
use std::pin::pin;

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::abreast::abreast;
use crate::error::BoxError;
use crate::observe::Outcome;
use crate::service::RedisCache;

/// What became of the requests of one [`RedisCache::prime`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Primed {
    /// Responses that were fetched and stored.
    pub stored: u64,
    /// Responses that the cache had, or that somebody else was fetching.
    pub present: u64,
    /// Responses that the cache did not store.
    pub not_stored: u64,
    /// Requests that the service failed, or whose body broke off.
    pub failed: u64,
}

/// What became of one.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Stored,
    Present,
    NotStored,
    Failed,
}

/// Requests under way at one time.
const MOST_AT_ONCE: usize = 64;

impl<S> RedisCache<S> {
    /// Sends these requests through the cache and reads the answers to their end, so that those who ask next find them
    /// stored: what was [purged](crate::CacheHandle::purge), or what a new namespace lacks.
    ///
    /// So many of them are under way at once, 1 to 64; the next is taken from the iterator when one has ended. They go the way of
    /// any other: what is fresh is not fetched, what others are fetching is waited for, and the bounds on fetches and on
    /// memory hold. Dropped, it sends no more.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    /// # use http_body_util::Full;
    /// # use tower::{ServiceBuilder, service_fn};
    /// # use tower_redis_cache::{CacheConfig, MemoryStore, PurgeMode, PurgeTarget, RedisCacheLayer};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = RedisCacheLayer::with_store(MemoryStore::new(1 << 20), CacheConfig::default());
    /// let handle = layer.handle();
    /// let cache = ServiceBuilder::new().layer(layer).service(service_fn(|_: Request<Full<Bytes>>| async {
    ///     Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from("page")))
    /// }));
    /// handle.purge([PurgeTarget::tag("product-7")], PurgeMode::Hard).await?;
    /// let pages = ["/products/7", "/"].map(|path| format!("http://shop.example{path}"));
    /// let requests = pages.iter().filter_map(|page| Request::get(page).body(Full::default()).ok());
    /// let primed = cache.prime(requests, 4).await;
    /// println!("{} stored, {} failed", primed.stored, primed.failed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn prime<Q, R, I>(&self, requests: I, at_once: usize) -> impl Future<Output = Primed> + use<S, Q, R, I>
    where
        S: Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        Q: Body + Send + 'static,
        R: Body<Error: Into<BoxError>> + Send + 'static,
        I: IntoIterator<Item = Request<Q>>,
    {
        let (cache, at_once) = (self.clone(), at_once.clamp(1, MOST_AT_ONCE));
        let asking = requests.into_iter().map(move |request| ask(cache.clone(), request));
        async move {
            let mut primed = Primed::default();
            abreast(asking, at_once, |answer| primed.count(answer)).await;
            primed
        }
    }
}

impl Primed {
    fn count(&mut self, answer: Answer) {
        *match answer {
            Answer::Stored => &mut self.stored,
            Answer::Present => &mut self.present,
            Answer::NotStored => &mut self.not_stored,
            Answer::Failed => &mut self.failed,
        } += 1;
    }
}

async fn ask<C, Q, B>(mut cache: C, request: Request<Q>) -> Answer
where
    C: Service<Request<Q>, Response = Response<B>>,
    B: Body,
{
    if poll_fn(|cx| cache.poll_ready(cx)).await.is_err() {
        return Answer::Failed;
    }
    let Ok(response) = cache.call(request).await else { return Answer::Failed };
    let answer = match response.extensions().get::<Outcome>() {
        Some(outcome) if outcome.is_hit() || outcome.is_collapsed() => Answer::Present,
        Some(outcome) if outcome.is_stored() => Answer::Stored,
        _ => Answer::NotStored,
    };
    let mut body = pin!(response.into_body());
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if frame.is_err() {
            return Answer::Failed;
        }
    }
    answer
}
