//! The language of the stories: the origin says something, a client asks, the cache answers.
//!
//! ```text
//! let story = stage.story();
//! story.origin_says(ok("hello").cache_control("max-age=60"));
//! story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").is_stored();
//! story.time_passes(seconds(59));
//! story.client_asks(get("/a")).await.is_hit().has_age(59).has_body("hello");
//! story.origin_was_asked(1);
//! ```

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_redis_cache::{
    CacheBody, CacheConfig, CacheHandle, ManualClock, MemoryStore, Outcome, RedisCache, RedisCacheLayer,
};

use super::cache_status::{self, Member};
use super::gate::{PATIENCE, patiently};
use super::redis::RedisServer;
use super::scripted::{OriginError, Reply, ScriptBody, Scripted, ScriptedService};

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

// ===== Stage =====

/// What a story is played on: one of the two stores.
#[derive(Debug)]
pub struct Stage {
    redis: Option<RedisServer>,
}

impl Stage {
    pub fn memory() -> Self {
        Self { redis: None }
    }

    pub fn redis() -> Self {
        Self { redis: Some(RedisServer::start()) }
    }

    pub fn has_server(&self) -> bool {
        self.redis.is_some()
    }

    /// The server under the Redis store.
    ///
    /// # Panics
    /// On the stage of the memory store.
    pub fn server(&self) -> &RedisServer {
        self.redis.as_ref().expect("this story needs Redis")
    }

    /// The same server, to be killed.
    ///
    /// # Panics
    /// On the stage of the memory store.
    pub fn server_mut(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("this story needs Redis")
    }

    /// A story with the default settings.
    pub fn story(&self) -> Story {
        self.story_with(|config| config)
    }

    /// A story with other settings. On Redis all stories of one stage share the store.
    pub fn story_with(&self, settings: impl FnOnce(CacheConfig) -> CacheConfig) -> Story {
        let time = whole_second();
        match &self.redis {
            Some(server) => {
                // These stories are not about deadlines, and machines can be slow.
                let config = CacheConfig::new(server.url()).expect("the server's URL is a URL");
                let config = config.store_timeout(PATIENCE / 2).store_write_timeout(PATIENCE / 2);
                Story::told_by(RedisCacheLayer::new(settings(config.clock(time.clock()))), time)
            }
            None => {
                let config = settings(CacheConfig::default().clock(time.clock()));
                Story::told_by(RedisCacheLayer::with_store(MemoryStore::new(64 * 1024 * 1024), config), time)
            }
        }
    }
}

/// A clock that stands at the very beginning of a second, as HTTP-dates do.
pub fn whole_second() -> ManualClock {
    let time = ManualClock::new();
    let second = time.unix_seconds();
    while time.unix_seconds() == second {
        time.advance(Duration::from_millis(1));
    }
    time
}

/// Writes each story once and plays it on both stores: the tests are `memory::name` and `redis::name`.
#[macro_export]
macro_rules! on_both_stores {
    ($($(#[doc = $doc:literal])* async fn $name:ident($stage:ident) $body:block)+) => {
        $($(#[doc = $doc])* async fn $name($stage: $crate::support::story::Stage) $body)+

        mod memory {
            $(#[tokio::test] async fn $name() { super::$name($crate::support::story::Stage::memory()).await; })+
        }

        mod redis {
            $(#[tokio::test] async fn $name() { super::$name($crate::support::story::Stage::redis()).await; })+
        }
    };
}

// ===== Ask =====

/// A request in the making.
#[derive(Debug)]
pub struct Ask {
    request: Request<ScriptBody>,
}

pub fn get(target: &str) -> Ask {
    ask("GET", target)
}

pub fn head(target: &str) -> Ask {
    ask("HEAD", target)
}

/// A request to `example.com` with this method.
pub fn ask(method: &str, target: &str) -> Ask {
    let request = Request::builder().method(method).uri(target).header("host", "example.com");
    Ask { request: request.body(ScriptBody::default()).expect("a request") }
}

impl Ask {
    /// Appends a field line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a field name");
        self.request.headers_mut().append(name, HeaderValue::from_str(value).expect("a field value"));
        self
    }

    /// Replaces the Host field by this one.
    pub fn host(self, value: &str) -> Self {
        self.without("host").header("host", value)
    }

    pub fn without(mut self, name: &str) -> Self {
        self.request.headers_mut().remove(name);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = ScriptBody::of(body);
        self
    }

    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, extension: T) -> Self {
        self.request.extensions_mut().insert(extension);
        self
    }

    pub fn into_request(self) -> Request<ScriptBody> {
        self.request
    }
}

// ===== Story =====

/// One layered service, its origin and its time.
#[derive(Debug)]
pub struct Story {
    /// In a mutex because the service is not `Sync`, and the stories are told by several tasks.
    cache: Mutex<RedisCache<ScriptedService>>,
    pub handle: CacheHandle,
    pub origin: Scripted,
    pub time: ManualClock,
}

impl Story {
    /// A story over a layer of one's own.
    pub fn told_by(layer: RedisCacheLayer, time: ManualClock) -> Self {
        let origin = Scripted::new();
        Self { cache: Mutex::new(layer.layer(origin.service())), handle: layer.handle(), origin, time }
    }

    /// The service under test.
    pub fn service(&self) -> RedisCache<ScriptedService> {
        self.cache.lock().expect("nobody panics with the service in hand").clone()
    }

    pub fn origin_says(&self, reply: Reply) {
        self.origin.says(reply);
    }

    pub fn origin_says_in_turn(&self, replies: impl IntoIterator<Item = Reply>) {
        self.origin.says_in_turn(replies);
    }

    pub fn time_passes(&self, span: Duration) {
        self.time.advance(span);
    }

    /// Asks, reads the whole answer, and waits until what was to be stored is stored.
    pub async fn client_asks(&self, ask: Ask) -> Answer {
        let answer = self.client_asks_and_goes_on(ask).await;
        self.fills_are_done().await;
        answer
    }

    /// Asks and reads the whole answer.
    pub async fn client_asks_and_goes_on(&self, ask: Ask) -> Answer {
        self.client_begins(ask).await.reads_to_the_end().await
    }

    /// Asks and has the head; the body is yet to be read.
    pub async fn client_begins(&self, ask: Ask) -> Opened {
        Opened::new(self.client_tries(ask).await.expect("the origin has no error of its own"))
    }

    /// Asks, and has what the service returns.
    pub async fn client_tries(&self, ask: Ask) -> Result<Response<CacheBody<ScriptBody>>, OriginError> {
        patiently("the head of an answer", self.service().oneshot(ask.into_request())).await
    }

    /// Waits until what was to be stored is stored or given up.
    pub async fn fills_are_done(&self) {
        assert!(self.handle.drain(PATIENCE).await, "a fill did not come to its end: {:?}", self.handle.stats());
    }

    #[track_caller]
    pub fn origin_was_asked(&self, times: usize) {
        assert_eq!(self.origin.calls(), times, "how often the origin was asked");
    }

    /// The request that the origin got last.
    #[track_caller]
    pub fn last_asked(&self) -> super::scripted::Asked {
        self.origin.asked().pop().expect("the origin was asked")
    }
}

impl Clone for Story {
    fn clone(&self) -> Self {
        let (handle, origin, time) = (self.handle.clone(), self.origin.clone(), self.time.clone());
        Self { cache: Mutex::new(self.service()), handle, origin, time }
    }
}

// ===== Opened =====

/// An answer whose head is there.
pub struct Opened {
    head: Head,
    body: CacheBody<ScriptBody>,
    data: BytesMut,
    trailers: Option<HeaderMap>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Opened {
    fn new(response: Response<CacheBody<ScriptBody>>) -> Self {
        let (parts, body) = response.into_parts();
        let head = Head {
            status: parts.status,
            outcome: parts.extensions.get::<Outcome>().cloned(),
            members: cache_status::members_of(&parts.headers),
            headers: parts.headers,
        };
        Self { head, body, data: BytesMut::new(), trailers: None }
    }

    /// The length that the body states, if it knows it.
    pub fn stated_length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Waits for the next frame of data and checks it.
    pub async fn receives(&mut self, expected: &str) -> &mut Self {
        let frame = patiently("a frame", self.body.frame()).await;
        let frame = frame.expect("the body goes on").expect("the body is well");
        let data = frame.into_data().expect("a frame of data");
        assert_eq!(data, expected.as_bytes());
        self.data.extend_from_slice(&data);
        self
    }

    /// Reads the next frame, whatever it holds.
    pub async fn reads_on(&mut self) -> usize {
        let frame = patiently("a frame", self.body.frame()).await;
        let data = frame.expect("the body goes on").expect("the body is well").into_data().expect("a frame of data");
        self.data.extend_from_slice(&data);
        data.len()
    }

    /// Reads what is left.
    pub async fn reads_to_the_end(mut self) -> Answer {
        let mut error = None;
        while let Some(frame) = patiently("the end of the body", self.body.frame()).await {
            match frame.map(|frame| frame.into_data()) {
                Ok(Ok(data)) => self.data.extend_from_slice(&data),
                Ok(Err(frame)) => self.trailers = frame.into_trailers().ok(),
                Err(broken) => {
                    error = Some(broken.to_string());
                    break;
                }
            }
        }
        Answer { head: self.head, body: self.data.freeze(), trailers: self.trailers, error }
    }

    /// The client goes away.
    pub fn leaves(self) {
        drop(self);
    }
}

// ===== Answer =====

#[derive(Clone, Debug)]
struct Head {
    status: StatusCode,
    headers: HeaderMap,
    members: Vec<Member>,
    outcome: Option<Outcome>,
}

/// A whole answer, to be looked at from all sides.
#[derive(Clone, Debug)]
pub struct Answer {
    head: Head,
    body: Bytes,
    trailers: Option<HeaderMap>,
    error: Option<String>,
}

impl Answer {
    /// This cache's member of `Cache-Status`: the last one, and there is always one.
    #[track_caller]
    pub fn cache_status(&self) -> &Member {
        self.head.members.last().expect("every answer has Cache-Status")
    }

    /// All members, the one nearest to the origin first.
    pub fn cache_status_members(&self) -> &[Member] {
        &self.head.members
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub fn body(&self) -> &Bytes {
        &self.body
    }

    #[track_caller]
    pub fn outcome(&self) -> &Outcome {
        self.head.outcome.as_ref().expect("every answer has an Outcome")
    }

    #[track_caller]
    pub fn is_hit(&self) -> &Self {
        let member = self.cache_status();
        assert!(member.has("hit"), "not a hit: {member:?}");
        assert_eq!(member.get("fwd"), None, "hit and fwd exclude each other");
        assert!(self.outcome().is_hit(), "the extension agrees");
        self
    }

    #[track_caller]
    pub fn is_forwarded_for(&self, reason: &str) -> &Self {
        let member = self.cache_status();
        assert_eq!(member.word("fwd"), Some(reason), "{member:?}");
        assert_eq!(member.get("hit"), None, "hit and fwd exclude each other");
        assert_eq!(self.outcome().forward_reason().map(|reason| reason.as_str()), Some(reason), "the extension agrees");
        self
    }

    #[track_caller]
    pub fn is_stored(&self) -> &Self {
        assert!(self.cache_status().has("stored"), "not stored: {:?}", self.cache_status());
        assert!(self.outcome().is_stored(), "the extension agrees");
        self
    }

    #[track_caller]
    pub fn is_not_stored(&self) -> &Self {
        assert_eq!(self.cache_status().get("stored"), None, "stored: {:?}", self.cache_status());
        assert!(!self.outcome().is_stored(), "the extension agrees");
        self
    }

    #[track_caller]
    pub fn has_detail(&self, detail: &str) -> &Self {
        assert_eq!(self.cache_status().word("detail"), Some(detail), "{:?}", self.cache_status());
        self
    }

    #[track_caller]
    pub fn has_ttl(&self, seconds: i64) -> &Self {
        assert_eq!(self.cache_status().integer("ttl"), Some(seconds), "{:?}", self.cache_status());
        self
    }

    #[track_caller]
    pub fn has_forward_status(&self, status: i64) -> &Self {
        assert_eq!(self.cache_status().integer("fwd-status"), Some(status), "{:?}", self.cache_status());
        self
    }

    #[track_caller]
    pub fn has_status(&self, status: u16) -> &Self {
        assert_eq!(self.head.status, status);
        self
    }

    #[track_caller]
    pub fn has_age(&self, seconds: u64) -> &Self {
        self.has_header("age", &seconds.to_string())
    }

    /// Exactly one line of this field, with this value.
    #[track_caller]
    pub fn has_header(&self, name: &str, value: &str) -> &Self {
        self.has_lines(name, &[value])
    }

    /// Exactly these lines of a field, in this order; one byte for each `char` below 256.
    #[track_caller]
    pub fn has_lines(&self, name: &str, values: &[&str]) -> &Self {
        let found = self.head.headers.get_all(name).iter();
        let found: Vec<String> =
            found.map(|value| value.as_bytes().iter().map(|&byte| char::from(byte)).collect()).collect();
        assert_eq!(found, values, "the lines of {name}");
        self
    }

    #[track_caller]
    pub fn has_no(&self, name: &str) -> &Self {
        assert!(!self.head.headers.contains_key(name), "{name}: {:?}", self.head.headers.get(name));
        self
    }

    /// The whole body, well ended.
    #[track_caller]
    pub fn has_body(&self, expected: impl AsRef<[u8]>) -> &Self {
        let expected = expected.as_ref();
        assert_eq!(self.error, None, "the body ends well");
        if expected.len() < 1024 {
            assert_eq!(self.body, expected);
        } else {
            assert!(
                self.body == expected,
                "the body has {} bytes and not the expected {}",
                self.body.len(),
                expected.len()
            );
        }
        self
    }

    /// What the error said with which the body broke off.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The body broke off, with an error.
    #[track_caller]
    pub fn breaks_off(&self) -> &Self {
        assert!(self.error.is_some(), "the body ended as if nothing had happened");
        self
    }

    #[track_caller]
    pub fn has_trailer(&self, name: &str, value: &str) -> &Self {
        let trailers = self.trailers.as_ref().expect("there are trailers");
        assert_eq!(trailers.get(name).map(HeaderValue::as_bytes), Some(value.as_bytes()));
        self
    }
}
