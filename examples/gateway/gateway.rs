//! The gateway as a library call: a URL, a key and parameters go in, an answer comes out of the cache or of the origin.
//!
//! A name that a client gives, its `key`, stays bound to the URL and the parameters that it was first filled from. Two
//! things see to that. The cache key of an answer holds the name *and* a digest of the URL, so that no other URL can
//! find it: not by a condition, a range, HEAD, a variant, or by asking at the same time. And a record under the name
//! alone says whose it is; whoever asks with another URL is told so (409) before anything is fetched. A name is taken
//! by an answer (2xx or 304), not by an attempt.
//!
//! Neither record nor answer can be one of the proxy's: the namespace is another, and even in one namespace the parts
//! of a key here can be none of a key there.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, PRAGMA, RANGE,
};
use hyper::{HeaderMap, Method, Request, Response};
use rustls::RootCertStore;
use tower::{Layer, ServiceExt};
use tower_redis_cache::{CacheBody, CacheConfig, CacheHandle, EmptyBody, MemoryStore, RedisCache, RedisCacheLayer};

use crate::address::AddressRules;
use crate::allow::AllowList;
use crate::binding::Bindings;
use crate::connector::connector;
use crate::fetch::{Fetch, FetchBody, Limits};
use crate::params::Params;
use crate::question::{Question, Wanted};
use crate::refusal::Refusal;
use crate::resolver::Resolve;

/// What of a client's request goes on. Its cookies and its credentials are for the gateway's own host.
const PASSED_ON: [HeaderName; 11] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CACHE_CONTROL,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    PRAGMA,
    RANGE,
];

/// What an origin must not say to the clients of all other origins behind the same host, to caches and servers in front of
/// it, or to make clients leave it.
const KEPT_BACK: [&str; 36] = [
    "accept-ch",
    "activate-storage-access",
    "alt-svc",
    "cache-group-invalidation",
    "clear-site-data",
    "content-location",
    "critical-ch",
    "expect-ct",
    "link",
    "location",
    "nel",
    // By it a cache in front takes all URLs of the gateway for one.
    "no-vary-search",
    "observe-browsing-topics",
    "origin-agent-cluster",
    "origin-trial",
    "permissions-policy",
    "proxy-authenticate",
    "public-key-pins",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "secure-session-registration",
    "service-worker-allowed",
    "service-worker-navigation-preload",
    "set-cookie",
    "set-cookie2",
    "set-login",
    "sourcemap",
    "speculation-rules",
    "strict-transport-security",
    "supports-loading-mode",
    "use-as-dictionary",
    "www-authenticate",
    "x-reproxy-url",
    "x-sendfile",
    "x-lighttpd-send-file",
];

/// The same for all that begins so.
const KEPT_BACK_ALL: [&str; 3] = ["access-control-", "x-accel-", "cross-origin-"];

/// Room for the longest name in a key.
const LONGEST_KEY: usize = 16 * 1024;

/// What a gateway is made of.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) allow: AllowList,
    pub(crate) addresses: AddressRules,
    pub(crate) resolver: Arc<dyn Resolve>,
    /// Whose signature on an origin's certificate counts, if not that of the public authorities.
    pub(crate) roots: Option<RootCertStore>,
    pub(crate) limits: Limits,
    /// With a namespace that no other cache has.
    pub(crate) cache: CacheConfig,
    /// Where answers are kept if not in Redis.
    pub(crate) memory: Option<MemoryStore>,
}

/// A cache in front of all origins that are allowed. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    cache: RedisCache<Fetch>,
    handle: CacheHandle,
    allow: Arc<AllowList>,
}

pub(crate) type GatewayBody = CacheBody<FetchBody>;

// ===== impl Gateway =====

impl Gateway {
    pub(crate) fn new(settings: Settings) -> Self {
        let Settings { allow, addresses, resolver, roots, limits, cache, memory } = settings;
        let config = cache.key(Wanted::cache_key).max_key_size(LONGEST_KEY).max_body_size(limits.max_body);
        let layer = match memory {
            Some(store) => RedisCacheLayer::with_store(store, config),
            None => RedisCacheLayer::new(config),
        };
        let allow = Arc::new(allow);
        let connector = connector(resolver, addresses, roots, limits.connect_timeout);
        let fetch = Fetch::new(connector, Arc::clone(&allow), limits, Bindings::new(&layer));
        Self { handle: layer.handle(), cache: layer.layer(fetch), allow }
    }

    /// Statistics, readiness, purging and draining, as of any cache of this library.
    pub(crate) fn handle(&self) -> &CacheHandle {
        &self.handle
    }

    /// The answer for `url` with `params`, kept under `key`, or under the URL if there is none.
    ///
    /// # Errors
    ///
    /// What is wrong with the question. What goes wrong at the origin is an answer: 502, 504, or 409 where the key
    /// belongs to another URL.
    #[allow(dead_code, reason = "the library call; over HTTP there are a method and fields as well")]
    pub(crate) async fn get(
        &self,
        url: &str,
        key: Option<&str>,
        params: &Params,
    ) -> Result<Response<GatewayBody>, Refusal> {
        self.ask(&Method::GET, &HeaderMap::new(), (url, key, params)).await
    }

    /// The same for a client with fields of its own, of which only those pass that an origin may see.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn ask(
        &self,
        method: &Method,
        headers: &HeaderMap,
        (url, key, params): (&str, Option<&str>, &Params),
    ) -> Result<Response<GatewayBody>, Refusal> {
        let question = Arc::new(Question::new(url, key, params, &self.allow)?);
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = question.uri.clone();
        for name in &PASSED_ON {
            for value in headers.get_all(name) {
                request.headers_mut().append(name, value.clone());
            }
        }
        request.extensions_mut().insert(EmptyBody::<Empty<Bytes>>::new(Empty::new));
        request.extensions_mut().insert(Wanted::Content(question));
        let answered: Result<_, Infallible> = self.cache.clone().oneshot(request).await;
        let Ok(mut response) = answered;
        keep_back(response.headers_mut());
        Ok(response)
    }
}

fn keep_back(headers: &mut HeaderMap) {
    for name in &KEPT_BACK {
        headers.remove(*name);
    }
    let begins = |name: &&HeaderName| KEPT_BACK_ALL.iter().any(|start| name.as_str().starts_with(start));
    let others: Vec<HeaderName> = headers.keys().filter(begins).cloned().collect();
    for name in others {
        headers.remove(name);
    }
}
