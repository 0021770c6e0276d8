//! The layer of hitbox over the same client: one request at a time to the origin for each key, and nothing stored that
//! says `no-store`, which it does not see to itself.

use std::time::Duration;

use hitbox::Config;
use hitbox::backend::CacheBackend;
use hitbox::concurrency::BroadcastConcurrencyManager;
use hitbox::policy::{ConcurrencyLimit, PolicyConfig};
use hitbox::predicate::PredicateExt;
use hitbox_backend::format::BincodeFormat;
use hitbox_http::extractors::Method;
use hitbox_http::extractors::path::PathExtractor;
use hitbox_http::predicates::NeutralRequestPredicate;
use hitbox_http::predicates::header::{Header, Operation};
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};
use hitbox_tower::Cache;
use hyper::header::CACHE_CONTROL;
use tower::Layer;

use super::listen;
use super::upstream::Upstream;

const LIFETIME: Duration = Duration::from_secs(3600);

pub(super) async fn memory(origin: &str) {
    serve(origin, MokaBackend::builder().max_entries(10_000).value_format(BincodeFormat).build()).await;
}

pub(super) async fn redis(origin: &str, redis_url: &str) {
    let builder = RedisBackend::builder().connection(ConnectionMode::single(redis_url));
    let backend = builder.response_timeout(Duration::from_secs(10)).value_format(BincodeFormat).build();
    serve(origin, backend.expect("a backend")).await;
}

async fn serve<B>(origin: &str, backend: B)
where
    B: CacheBackend + Clone + Send + Sync + 'static,
{
    let policy = PolicyConfig::builder().ttl(LIFETIME).concurrency(ConcurrencyLimit::const_new::<1>()).build();
    let unstorable = Header::new(Operation::Contains(CACHE_CONTROL, "no-store".to_owned()));
    let config = Config::builder()
        .request_predicate(NeutralRequestPredicate::new())
        .response_predicate(unstorable.not())
        .extractor(Method::new().path("{path}*"))
        .policy(policy)
        .build();
    let layer = Cache::builder()
        .backend(backend)
        .config(config)
        .concurrency_manager(BroadcastConcurrencyManager::new())
        .build();
    listen(layer.layer(Upstream::new(origin))).await;
}
