//! A small reverse proxy around the cache, and a client that reads bytes.

use std::net::{Ipv4Addr, SocketAddr};

use http::{Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tower::{ServiceBuilder, service_fn};
use tower_redis_cache::{CacheConfig, CacheHandle, MemoryStore, RedisCacheLayer};
use tower_service::Service;

use crate::support::gate::{PATIENCE, patiently};
use crate::support::origin::Origin;

/// The proxy; gone when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    address: SocketAddr,
    pub(crate) handle: CacheHandle,
    task: JoinHandle<()>,
}

impl Gateway {
    /// With a memory store, before this origin.
    pub(crate) async fn before(origin: &Origin) -> Self {
        Self::configured(origin, CacheConfig::default()).await
    }

    pub(crate) async fn configured(origin: &Origin, config: CacheConfig) -> Self {
        let layer = RedisCacheLayer::with_store(MemoryStore::new(64 * 1024 * 1024), config);
        let handle = layer.handle();
        let client: Client<HttpConnector, Incoming> = Client::builder(TokioExecutor::new()).build_http();
        let authority = origin.authority();
        let forward = service_fn(move |mut request: Request<Incoming>| {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = format!("http://{authority}{path}").parse::<Uri>().expect("a URI");
            *request.version_mut() = http::Version::HTTP_11;
            client.request(request)
        });
        Self::serving(ServiceBuilder::new().layer(layer).service(forward), handle).await
    }

    /// Serves any service over HTTP/1.1 and h2c.
    pub(crate) async fn serving<S, B>(service: S, handle: CacheHandle) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                connections.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A client that leaves, or an origin that breaks off, ends the connection with an error.
                    let _ = server.serve_connection_with_upgrades(TokioIo::new(connection), service).await;
                });
            }
        });
        Self { address, handle, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn connect(&self) -> Wire {
        let stream = TcpStream::connect(self.address).await.expect("the gateway listens");
        Wire { stream, read: Vec::new() }
    }

    /// One request on a connection of its own; all that came until the connection ended, and the fills done.
    pub(crate) async fn get(&self, target: &str) -> String {
        let mut wire = self.connect().await;
        wire.send(&format!("GET {target} HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n")).await;
        let answer = wire.until_closed().await;
        assert!(self.handle.drain(PATIENCE).await);
        answer
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client's connection, byte for byte; one `char` for each byte.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("the gateway reads");
    }

    /// All that comes until the connection ends, or is reset.
    pub(crate) async fn until_closed(mut self) -> String {
        let reading = self.stream.read_to_end(&mut self.read);
        // A reset is an end as well; what came before it counts.
        let _ = patiently("the end of the connection", reading).await;
        text(&self.read)
    }

    /// What comes up to and with these words; later reads go on behind them.
    pub(crate) async fn until(&mut self, words: &str) -> String {
        loop {
            if let Some(at) = find(&self.read, words.as_bytes()) {
                let rest = self.read.split_off(at + words.len());
                return text(&std::mem::replace(&mut self.read, rest));
            }
            let length = patiently(words, self.stream.read_buf(&mut self.read)).await.expect("the gateway writes");
            assert!(length > 0, "the connection ended before {words:?}; there was {:?}", text(&self.read));
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// Head and body of an answer.
pub(crate) fn split(answer: &str) -> (&str, &str) {
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {answer:?}"))
}

/// The values of a field in an answer's head.
pub(crate) fn values<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let lines = split(answer).0.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

#[track_caller]
pub(crate) fn is_hit(answer: &str) {
    assert!(values(answer, "cache-status").concat().contains("; hit"), "not a hit: {answer:?}");
}

#[track_caller]
pub(crate) fn is_forwarded(answer: &str) {
    assert!(values(answer, "cache-status").concat().contains("; fwd="), "not forwarded: {answer:?}");
}
