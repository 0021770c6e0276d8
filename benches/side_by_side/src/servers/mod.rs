//! The servers that are this program itself: each is a process with one thread.

mod bare;
mod hitbox;
mod origin;
mod ours;
mod peers;
mod upstream;

use bytes::Bytes;
use clap::ValueEnum;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::Service;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The largest body that is asked for.
const LARGEST: usize = 1024 * 1024;

/// Which server to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Origin,
    Hyper,
    RedisGet,
    RedisGetSet,
    HyperProxy,
    LayerMemory,
    LayerNear,
    LayerRedis,
    TowerHttpCacheMemory,
    TowerHttpCacheRedis,
    HttpCacheTowerServer,
    HitboxMemory,
    HitboxRedis,
    AxumResponseCache,
}

/// Runs one of the servers until the process is killed; its address is the first line of its output.
pub(crate) fn serve(kind: Kind, origin: &str, redis_url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match kind {
            Kind::Origin => origin::serve().await,
            Kind::Hyper => bare::prebuilt().await,
            Kind::RedisGet => bare::redis_get(redis_url).await,
            Kind::RedisGetSet => bare::redis_get_set(origin, redis_url).await,
            Kind::HyperProxy => listen(upstream::Upstream::new(origin)).await,
            Kind::LayerMemory => ours::in_memory(origin).await,
            Kind::LayerNear => ours::serve(origin, redis_url, 64 * 1024 * 1024).await,
            Kind::LayerRedis => ours::serve(origin, redis_url, 0).await,
            Kind::TowerHttpCacheMemory => peers::tower_http_cache_memory(origin).await,
            Kind::TowerHttpCacheRedis => peers::tower_http_cache_redis(origin, redis_url).await,
            Kind::HttpCacheTowerServer => peers::http_cache_tower_server(origin).await,
            Kind::HitboxMemory => hitbox::memory(origin).await,
            Kind::HitboxRedis => hitbox::redis(origin, redis_url).await,
            Kind::AxumResponseCache => peers::axum_response_cache(origin).await,
        }
    });
}

async fn listen<S, B>(service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("an address"));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The number that is the second part of a path: `/hit/1024/…`.
fn size_in(path: &str) -> usize {
    path.split('/').nth(2).and_then(|size| size.parse().ok()).unwrap_or_default()
}

/// So many octets of one whole, without a copy.
#[derive(Clone)]
struct Filling(Bytes);

impl Filling {
    fn new() -> Self {
        Self(Bytes::from(vec![b'x'; LARGEST]))
    }

    fn of(&self, size: usize) -> Bytes {
        self.0.slice(..size.min(LARGEST))
    }
}
