//! Who plays: an origin, a resolver that lies, and a gateway that knows both.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use ipnet::IpNet;
use rustls::RootCertStore;
use tower_redis_cache::{CacheConfig, MemoryStore};

use crate::address::AddressRules;
use crate::allow::AllowList;
use crate::fetch::Limits;
use crate::front;
use crate::gateway::{Gateway, Settings};
use crate::resolver::{Resolve, Resolving};
use crate::support::origin::Origin;

/// Where the origin is that may be asked. All other addresses of this machine are refused.
pub(crate) const GOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// A resolver that says what it was told to say, in turn; the last answer is repeated.
#[derive(Debug, Default)]
pub(crate) struct Liar {
    answers: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Liar {
    pub(crate) fn says(&self, name: &str, turns: impl IntoIterator<Item = Vec<IpAddr>>) {
        self.answers.lock().expect("no test panics with it").insert(name.to_owned(), turns.into_iter().collect());
    }

    /// How often it was asked for this name.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.asked.lock().expect("no test panics with it").iter().filter(|asked| *asked == name).count()
    }
}

impl Resolve for Liar {
    fn resolve(&self, host: &str) -> Resolving {
        self.asked.lock().expect("no test panics with it").push(host.to_owned());
        let mut answers = self.answers.lock().expect("no test panics with it");
        let answer = answers.get_mut(host).and_then(|turns| match turns.len() {
            1 => turns.front().cloned(),
            _ => turns.pop_front(),
        });
        Box::pin(async { answer.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)) })
    }
}

/// An origin that may be asked as `http://good.example:<port>`, and who knows its name.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) origin: Origin,
    pub(crate) liar: Arc<Liar>,
    pub(crate) limits: Limits,
    pub(crate) cache: CacheConfig,
    pub(crate) roots: Option<RootCertStore>,
    also_allowed: Vec<String>,
    redis: Option<String>,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let origin = Origin::start_at(GOOD).await;
        let liar = Arc::<Liar>::default();
        liar.says("good.example", [vec![GOOD.into()]]);
        let limits = Limits {
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(20),
            max_redirects: 3,
            max_body: 1 << 20,
        };
        let cache = CacheConfig::default();
        Self { origin, liar, limits, cache, roots: None, also_allowed: Vec::new(), redis: None }
    }

    /// The URL of a path at the origin.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://good.example:{}{path}", self.origin.port())
    }

    /// Allows more origins, whatever their addresses are.
    pub(crate) fn allowing(mut self, origins: impl IntoIterator<Item = String>) -> Self {
        self.also_allowed.extend(origins);
        self
    }

    pub(crate) fn in_redis(mut self, url: &str, namespace: &str) -> Self {
        let cache = CacheConfig::new(url).and_then(|config| config.namespace(namespace)).expect("good settings");
        // On a machine that is busy Redis counts as away sooner than it should in a test.
        self.cache = cache.store_timeout(Duration::from_secs(10));
        self.redis = Some(url.to_owned());
        self
    }

    pub(crate) fn gateway(&self) -> Gateway {
        self.gateway_that_dials(&["127.0.0.9/32"])
    }

    pub(crate) fn gateway_that_dials(&self, blocks: &[&str]) -> Gateway {
        let everything = ["0.0.0.0/0", "::/0"].map(network);
        let origins = self.also_allowed.iter().cloned().chain([self.url("")]);
        let settings = Settings {
            allow: AllowList::new(origins, &AddressRules::listing(everything)).expect("a list of origins"),
            addresses: AddressRules::listing(blocks.iter().copied().map(network)),
            resolver: Arc::clone(&self.liar) as Arc<dyn Resolve>,
            roots: self.roots.clone(),
            limits: self.limits,
            cache: self.cache.clone(),
            memory: self.redis.is_none().then(|| MemoryStore::new(64 << 20)),
        };
        Gateway::new(settings)
    }
}

fn network(block: &str) -> IpNet {
    block.parse().expect("a block of addresses")
}

/// What a client heard.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// `None` where the body broke off.
    pub(crate) body: Option<Bytes>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Heard {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.body.as_ref().expect("a whole body")).into_owned()
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a value in ASCII"))
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.value("cache-status").is_some_and(|status| status.contains("; hit"))
    }

    /// An answer with this status and something about this in its text.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, words: &str) {
        assert!(self.status == status && self.text().contains(words), "{self:?}");
    }
}

/// Asks over the HTTP side; what was stored by it is stored when this is over.
pub(crate) async fn ask(gateway: &Gateway, parameters: &[(&str, &str)]) -> Heard {
    ask_with(gateway, &Method::GET, parameters, &[]).await
}

pub(crate) async fn ask_with(
    gateway: &Gateway,
    method: &Method,
    parameters: &[(&str, &str)],
    fields: &[(&str, &str)],
) -> Heard {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let mut request = Request::builder().method(method).uri(format!("/?{query}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let heard = hear(front::answer(gateway, request.body(()).expect("a valid request")).await).await;
    assert!(gateway.handle().drain(Duration::from_secs(20)).await);
    heard
}

pub(crate) async fn hear<B>(response: Response<B>) -> Heard
where
    B: hyper::body::Body<Data = Bytes>,
{
    let (head, body) = response.into_parts();
    let collected = body.collect().await.ok();
    let trailers = collected.as_ref().and_then(|collected| collected.trailers().cloned());
    let body = collected.map(http_body_util::Collected::to_bytes);
    Heard { status: head.status, headers: head.headers, body, trailers }
}
