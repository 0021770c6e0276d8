//! The service behind the cache: fetches a checked URL, and follows its redirects to where they may lead.
//!
//! It never fails; what goes wrong is an answer that says so. Every redirect is read, checked and dialled as the first
//! URL is. The validator of one resource says nothing about another: what was asked of the first URL under a condition
//! is asked of the next without one, and what comes from there has an entity tag that the first URL cannot have given.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{
    CACHE_CONTROL, ETAG, EXPIRES, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION, PRAGMA, RANGE, SET_COOKIE, TRANSFER_ENCODING, USER_AGENT, VARY,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service;
use url::Url;

use crate::allow::AllowList;
use crate::binding::{Binding, Bindings};
use crate::body::BoundedBody;
use crate::connector::Connector;
use crate::failure::Failure;
use crate::fields::strip_hop_by_hop;
use crate::question::{Question, Wanted, check, to_uri};

/// How long a connection is kept for the next request: many origins close theirs after five seconds.
const IDLE_TIME: Duration = Duration::from_secs(4);
/// The largest response head.
const RESPONSE_HEAD: usize = 256 * 1024;
/// Some origins answer nobody who does not say who they are.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("tower-redis-cache-gateway/", env!("CARGO_PKG_VERSION")));
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// A redirect that lives shorter than so many seconds is followed anew each time.
const SHORT: u64 = 60;
const CONDITIONS: [HeaderName; 4] = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

/// How long and how far a fetch may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) connect_timeout: Duration,
    /// Until the head of the last answer, redirects included; and how long a body may stand still.
    pub(crate) timeout: Duration,
    pub(crate) max_redirects: usize,
    pub(crate) max_body: u64,
}

/// What an origin sends, or what is said in its place.
pub(crate) type FetchBody = Either<BoundedBody, Full<Bytes>>;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pool: Pool<Connector, Empty<Bytes>>,
    allow: Arc<AllowList>,
    limits: Limits,
    bindings: Bindings,
}

// ===== impl Fetch =====

impl Fetch {
    pub(crate) fn new(connector: Connector, allow: Arc<AllowList>, limits: Limits, bindings: Bindings) -> Self {
        let pool = Pool::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .http1_max_buf_size(RESPONSE_HEAD)
            .build(connector);
        Self { shared: Arc::new(Shared { pool, allow, limits, bindings }) }
    }
}

impl Service<Request<Empty<Bytes>>> for Fetch {
    type Response = Response<FetchBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let Some(Wanted::Content(question)) = request.extensions().get().cloned() else {
                return Ok(Failure::Nonsense.answer().map(Either::Right));
            };
            let (parts, _) = request.into_parts();
            let answer = shared.answer(&question, &parts.method, parts.headers).await;
            Ok(answer.unwrap_or_else(|failure| failure.answer().map(Either::Right)))
        })
    }
}

// ===== impl Shared =====

impl Shared {
    /// Asks only for a URL that has its name or may have it, and takes the name when there is something to keep there.
    async fn answer(
        &self,
        question: &Arc<Question>,
        method: &Method,
        headers: HeaderMap,
    ) -> Result<Response<FetchBody>, Failure> {
        let binding = self.bindings.look(question).await;
        if binding == Binding::Others {
            return Err(Failure::Conflict);
        }
        let fetching = self.follow(&question.url, method, headers);
        let fetched = tokio::time::timeout(self.limits.timeout, fetching).await;
        let mut response = fetched.map_err(|_| Failure::NoAnswer)??;
        settle(&mut response);
        if response.body().size_hint().lower() > self.limits.max_body {
            return Err(Failure::TooLarge(self.limits.max_body));
        }
        let is_filled = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
        if binding == Binding::Free && is_filled && self.bindings.take(question).await == Binding::Others {
            return Err(Failure::Conflict);
        }
        let Limits { max_body, timeout, .. } = self.limits;
        Ok(response.map(|body| Either::Left(BoundedBody::new(body, max_body, timeout))))
    }

    async fn follow(&self, url: &Url, method: &Method, headers: HeaderMap) -> Result<Response<Incoming>, Failure> {
        let (mut url, mut headers) = (url.clone(), headers);
        headers.insert(USER_AGENT, AGENT);
        let (mut is_redirected, mut may_be_stored) = (false, true);
        for _ in 0..=self.limits.max_redirects {
            let mut response = self.ask(&url, method, &headers).await?;
            // Nobody asked for another protocol.
            if response.status().is_informational() {
                return Err(Failure::Nonsense);
            }
            let Some(target) = redirect(&response) else {
                if !may_be_stored {
                    forbid_storing(response.headers_mut());
                }
                if is_redirected {
                    own_validator(response.headers_mut(), &url);
                }
                return Ok(response);
            };
            url = self.next(&url, target)?;
            may_be_stored &= !forbids_storing(response.headers());
            is_redirected = true;
            drop_conditions(&mut headers);
        }
        Err(Failure::TooManyRedirects(self.limits.max_redirects))
    }

    /// The checked target of a redirect.
    fn next(&self, url: &Url, target: &HeaderValue) -> Result<Url, Failure> {
        let refuse = |reason: &str| Failure::Redirect(reason.to_owned());
        let target = std::str::from_utf8(target.as_bytes()).map_err(|_| refuse("cannot be read"))?;
        let mut next = url.join(target).map_err(|_| refuse("cannot be read"))?;
        check(&next).map_err(refuse)?;
        if !self.allow.has(&next) {
            let origin = next.origin().ascii_serialization();
            return Err(Failure::Redirect(format!("is not on the list of allowed origins: {origin}")));
        }
        next.set_fragment(None);
        Ok(next)
    }

    /// Asks one URL; again where the connection broke, because a kept one can be closed in the moment it is used.
    async fn ask(&self, url: &Url, method: &Method, headers: &HeaderMap) -> Result<Response<Incoming>, Failure> {
        match self.send(url, method, headers).await {
            Err(Failure::Broken) => self.send(url, method, headers).await,
            outcome => outcome,
        }
    }

    async fn send(&self, url: &Url, method: &Method, headers: &HeaderMap) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() =
            to_uri(url).ok_or_else(|| Failure::Redirect("cannot be asked for over HTTP".to_owned()))?;
        request.headers_mut().clone_from(headers);
        self.pool.request(request).await.map_err(|error| Failure::of(&error))
    }
}

/// Where the answer leads, if it is a redirect that is followed.
fn redirect(response: &Response<Incoming>) -> Option<&HeaderValue> {
    use StatusCode as S;
    let followed = [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT];
    followed.contains(&response.status()).then(|| response.headers().get(LOCATION)).flatten()
}

/// A range under a condition is whole again without it.
fn drop_conditions(headers: &mut HeaderMap) {
    for name in &CONDITIONS {
        headers.remove(name);
    }
    if headers.remove(IF_RANGE).is_some() {
        headers.remove(RANGE);
    }
}

/// Whether a redirect says that it is not for everybody, not for long, or not without asking again: what it leads to would
/// be kept in its place.
fn forbids_storing(headers: &HeaderMap) -> bool {
    let is_for_some = [VARY, SET_COOKIE, PRAGMA].iter().any(|name| headers.contains_key(name));
    let lines = || headers.get_all(CACHE_CONTROL).into_iter().chain(headers.get_all(CDN_CACHE_CONTROL));
    let words: Vec<String> = lines()
        .flat_map(|line| {
            String::from_utf8_lossy(line.as_bytes())
                .to_ascii_lowercase()
                .split(',')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let is_forbidden = words.iter().any(|word| ["no-store", "no-cache", "private"].iter().any(|no| word.contains(no)));
    // As far as it can be read.
    let lives = |word: &String| {
        word.split_once("max-age=")
            .or_else(|| word.split_once("s-maxage="))
            .map(|(_, seconds)| seconds.trim().trim_matches('"').parse::<u64>().unwrap_or(0))
    };
    let is_short = words.iter().filter_map(lives).any(|seconds| seconds < SHORT);
    is_for_some || is_forbidden || is_short || (words.is_empty() && headers.contains_key(EXPIRES))
}

/// What a redirect that must not be kept leads to must not be kept in its place.
fn forbid_storing(headers: &mut HeaderMap) {
    for name in [CDN_CACHE_CONTROL, EXPIRES, PRAGMA] {
        headers.remove(name);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Makes the entity tag of an answer one of this URL's alone. There is no such thing for a date.
fn own_validator(headers: &mut HeaderMap, url: &Url) {
    headers.remove(LAST_MODIFIED);
    let Some(tag) = headers.remove(ETAG) else { return };
    let Some(opened) = tag.as_bytes().strip_suffix(b"\"") else { return };
    let digest = blake3::hash(url.as_str().as_bytes()).to_hex();
    let own = [opened, b"-at-", digest[..16].as_bytes(), b"\""].concat();
    headers.extend(HeaderValue::from_bytes(&own).ok().map(|own| (ETAG, own)));
}

/// Removes what belongs to the origin's connection.
fn settle(response: &mut Response<Incoming>) {
    *response.version_mut() = Version::HTTP_11;
    strip_hop_by_hop(response.headers_mut());
    response.headers_mut().remove(TRANSFER_ENCODING);
}
