//! A plain hyper server, without any framework, with a cache in front of its service.
//!
//! Run with
//!
//! ```sh
//! cargo run --example hyper                                       # a cache in memory
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example hyper      # a cache in Redis
//! curl -i http://127.0.0.1:3001/     # twice within 10 s: `; hit`, with an Age, and the service is called once
//! ```

use std::convert::Infallible;
use std::env;
use std::io;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CACHE_CONTROL;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_redis_cache::{CacheConfig, MemoryStore, RedisCacheLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = match env::var("REDIS_URL") {
        Ok(url) => RedisCacheLayer::new(CacheConfig::new(url)?.namespace("hyper-example")?),
        Err(_) => RedisCacheLayer::with_store(MemoryStore::new(64 * 1024 * 1024), CacheConfig::default()),
    };
    let listener = TcpListener::bind("127.0.0.1:3001").await?;
    println!("listening on http://{}/", listener.local_addr()?);
    serve(listener, cache).await?;
    Ok(())
}

/// The server, apart from `main` so that a test can call it.
pub(crate) async fn serve(listener: TcpListener, cache: RedisCacheLayer) -> io::Result<()> {
    // A layer is made once, a service is cloned for each connection: all of them share one cache.
    let service = ServiceBuilder::new().layer(cache).service(service_fn(answer));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let served = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            if let Err(error) = served {
                eprintln!("connection: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    println!("the service is called for {}", request.uri());
    let mut response = Response::new(Full::new(Bytes::from_static(b"hello\n")));
    response.headers_mut().insert(CACHE_CONTROL, "max-age=10".parse().expect("a field value"));
    Ok(response)
}
