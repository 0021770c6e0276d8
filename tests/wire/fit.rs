//! Where the layer fits: axum, tower's builder, hyper's server; and what it asks of a service, which is little.

use std::convert::Infallible;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_layer::Layer;
use tower_redis_cache::{CacheConfig, MemoryStore, RedisCacheLayer};

use crate::gateway::{Gateway, is_forwarded, is_hit, split};
use crate::support::gate::PATIENCE;

fn layer() -> RedisCacheLayer {
    RedisCacheLayer::with_store(MemoryStore::new(1024 * 1024), CacheConfig::default())
}

type Page = Response<Full<Bytes>>;

/// A service that needs nothing and says this, fresh for a minute.
fn says(
    text: &'static str,
) -> impl Service<Request<Full<Bytes>>, Response = Page, Error = Infallible, Future: Send> + Clone + Send {
    service_fn(move |_: Request<Full<Bytes>>| async move {
        let page = Full::from(Bytes::from_static(text.as_bytes()));
        Ok(Response::builder().header("cache-control", "max-age=60").body(page).expect("a response"))
    })
}

#[tokio::test]
async fn a_router_of_axum_takes_the_layer_and_caches() {
    async fn page() -> impl IntoResponse {
        ([("cache-control", "max-age=60")], "hello from axum")
    }

    let layer = layer();
    let handle = layer.handle();
    let app = Router::new().route("/a", get(page)).layer(layer);
    let gateway = Gateway::serving(app.into_service(), handle).await;
    is_forwarded(&gateway.get("/a").await);
    let answer = gateway.get("/a").await;
    is_hit(&answer);
    assert_eq!(split(&answer).1, "hello from axum");
}

#[tokio::test]
async fn the_error_of_the_service_stays_its_error() {
    fn errs_never<S: Service<Request<Full<Bytes>>, Error = Infallible>>(service: S) -> S {
        service
    }

    let page = says("hello");
    let layer = layer();
    let handle = layer.handle();
    let service = errs_never(ServiceBuilder::new().layer(layer).service(page));
    for hit in [false, true] {
        let request = Request::builder().uri("http://example.com/").body(Full::default()).expect("a request");
        let response = service.clone().oneshot(request).await.expect("it errs never");
        assert_eq!(response.headers()["cache-status"].to_str().expect("text").contains("; hit"), hit);
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "hello");
        assert!(handle.drain(PATIENCE).await);
    }
}

#[tokio::test]
async fn one_layer_over_two_services_is_one_cache() {
    let layer = layer();
    let ask = || Request::builder().uri("http://example.com/").body(Full::default()).expect("a request");
    let body = async |response: Response<tower_redis_cache::CacheBody<Full<Bytes>>>| {
        response.into_body().collect().await.expect("a body").to_bytes()
    };
    let (one, other) = (layer.layer(says("one")), layer.layer(says("other")));
    assert_eq!(body(one.oneshot(ask()).await.expect("it errs never")).await, "one");
    assert!(layer.handle().drain(PATIENCE).await);
    assert_eq!(body(other.oneshot(ask()).await.expect("it errs never")).await, "one");
}

#[test]
fn making_a_layer_needs_neither_a_runtime_nor_redis() {
    let config = CacheConfig::new("redis://192.0.2.1:1").expect("a URL");
    let layer = RedisCacheLayer::new(config);
    let service = layer.layer(service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    drop((layer.handle(), service));
}

#[test]
fn a_bad_url_is_told_when_it_is_written_and_repeats_no_password() {
    for url in ["", "localhost", "http://127.0.0.1", "redis://:s3cret@host:port", "redis://"] {
        let error = CacheConfig::new(url).map(drop).expect_err(url).to_string();
        assert!(!error.contains("s3cret") && !error.contains('\n'), "{error}");
    }
}
