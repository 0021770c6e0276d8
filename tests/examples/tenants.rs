//! `examples/tenants.rs`, in a real Redis.

use http::{Request, StatusCode};
use tower_redis_cache::{CacheHandle, PurgeMode, PurgeTarget, RedisCacheLayer};

use crate::asking::{Answer, get, send, settings_for, stored, with_handles};
use crate::support::redis::RedisServer;

#[allow(dead_code)]
#[path = "../../examples/tenants.rs"]
mod example;

/// The application on one server, and the handles of its layers.
fn app_on(server: &RedisServer) -> (axum::Router, Vec<CacheHandle>) {
    with_handles(RedisCacheLayer::new, |layer| example::app(&settings_for(server), layer))
}

async fn get_as(app: &axum::Router, tenant: &str) -> Answer {
    send(app, Request::get("/prices").header("x-tenant", tenant), "").await
}

#[tokio::test]
async fn no_tenant_gets_what_is_stored_for_another() {
    let server = RedisServer::start();
    let (app, caches) = app_on(&server);
    for tenant in ["acme", "globex"] {
        get(&app, &format!("/{tenant}/prices")).await.is_stored().says(&format!("prices of {tenant}\n"));
    }
    for tenant in ["initech", "hooli"] {
        get_as(&app, tenant).await.is_stored().says(&format!("prices of {tenant}\n"));
    }
    for cache in &caches {
        stored(cache).await;
    }
    // Another process has the same Redis.
    let (other, _) = app_on(&server);
    for app in [&app, &other] {
        for tenant in ["acme", "globex"] {
            get(app, &format!("/{tenant}/prices")).await.is_a_hit().says(&format!("prices of {tenant}\n"));
        }
        for tenant in ["initech", "hooli"] {
            get_as(app, tenant).await.is_a_hit().says(&format!("prices of {tenant}\n"));
        }
    }
}

#[tokio::test]
async fn a_request_without_a_tenant_is_refused_and_not_stored() {
    let server = RedisServer::start();
    let (app, _) = app_on(&server);
    for _ in 0..2 {
        get(&app, "/prices").await.is_not_stored().has_status(StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn all_of_one_tenant_can_be_purged_by_its_tag() {
    let server = RedisServer::start();
    let (app, caches) = app_on(&server);
    get_as(&app, "initech").await.is_stored();
    get_as(&app, "hooli").await.is_stored();
    for cache in &caches {
        stored(cache).await;
    }
    // The others hear of it some milliseconds later.
    let named = caches.iter().find(|cache| cache.stats().stored == 2).expect("the layer of tenants by name");
    named.purge([PurgeTarget::tag("initech")], PurgeMode::Hard).await.unwrap();
    get_as(&app, "initech").await.is_stored();
    get_as(&app, "hooli").await.is_a_hit();
}
