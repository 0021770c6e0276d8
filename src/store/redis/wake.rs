//! What is told at once: that a lease was given back, to those who wait for it, and that something was purged. A
//! connection of its own listens. What is lost of it costs a pause between two looks, or a heartbeat, and nothing else.
//!
//! Leases are told by messages on a channel. That the purge clock has changed, in whatever way, the server tells by itself
//! where it tracks what its clients read (RESP3, `CLIENT TRACKING`); where it does not, or something between swallows
//! that, purges are told by messages as well.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, RedisError, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time;
use tracing::Instrument;

use super::breaker::Backoff;
use super::connection::Connection;
use super::lease::in_millis;
use crate::clock::Stopwatch;
use crate::key::CacheKey;
use crate::key::digests::Seed;
use crate::observe::PurgeNews;
use crate::purge::plane::Plane;

type Digest = [u8; CacheKey::DIGEST_LEN];

/// The channel, and those who listen.
#[derive(Debug)]
pub(super) struct Wake {
    office: Arc<Office>,
    /// Dropped with the store: then nobody listens any more.
    alive: watch::Sender<()>,
}

#[derive(Debug)]
struct Office {
    connection: Connection,
    channels: Channels,
    plane: Arc<Plane>,
    /// How purges are heard of, as a number.
    hears_by: AtomicU8,
    /// The server has told by itself of a change.
    probed: Notify,
    /// Counts how often another server was to be listened to.
    left: watch::Sender<u64>,
    waiting: Mutex<HashMap<Digest, watch::Sender<()>, Seed>>,
    is_listening: AtomicBool,
    /// Between attempts to connect.
    pause: Mutex<Backoff>,
}

/// Where it is told.
#[derive(Debug)]
pub(super) struct Channels {
    /// The channel for leases.
    pub(super) wake: Vec<u8>,
    /// The key of the purge clock, and the channel for purges.
    pub(super) purges: Vec<u8>,
    /// A key whose name begins with that one.
    pub(super) probe: Vec<u8>,
}

/// Somebody who waits for news of a key.
#[derive(Debug)]
pub(crate) struct Hearing {
    office: Arc<Office>,
    digest: Digest,
    /// `None` where too many wait.
    news: Option<watch::Receiver<()>>,
}

/// The right to listen, given back when the task ends, however it ends.
#[derive(Debug)]
struct Listening(Weak<Office>);

/// Keys for which somebody waits. Who waits for one more looks from time to time.
const MAX_WAITING: usize = 16 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After a connection that could not be had, or was lost.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// One that lived for so long was a good one.
const PROVEN: Duration = Duration::from_secs(10);

impl Wake {
    pub(super) fn new(connection: Connection, channels: Channels, plane: Arc<Plane>) -> Self {
        let office = Office {
            connection,
            channels,
            plane,
            hears_by: AtomicU8::new(PurgeNews::Heartbeat as u8),
            probed: Notify::new(),
            left: watch::Sender::new(0),
            waiting: Mutex::default(),
            is_listening: AtomicBool::new(false),
            pause: Mutex::new(Backoff::new(FIRST_PAUSE, LAST_PAUSE)),
        };
        Self { office: Arc::new(office), alive: watch::Sender::new(()) }
    }

    /// How purges are heard of at present.
    pub(super) fn purge_news(&self) -> PurgeNews {
        PurgeNews::from_number(self.office.hears_by.load(Ordering::Relaxed))
    }

    /// Hears of a key from now on.
    pub(super) fn hear(&self, key: &CacheKey) -> Hearing {
        self.start();
        let digest = *key.digest();
        let mut waiting = self.office.waiting();
        let has_room = waiting.len() < MAX_WAITING || waiting.contains_key(&digest);
        let news = has_room.then(|| waiting.entry(digest).or_default().subscribe());
        drop(waiting);
        Hearing { office: Arc::clone(&self.office), digest, news }
    }

    /// Listens no more to the server that it listens to: another is the right one by now.
    pub(super) fn leave(&self) {
        self.office.left.send_modify(|times| *times += 1);
    }

    /// Listens from now on.
    pub(super) fn start(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.office.is_listening.swap(true, Ordering::AcqRel) {
            let listening = listen(Listening(Arc::downgrade(&self.office)), self.alive.subscribe());
            runtime.spawn(listening.instrument(tracing::debug_span!(parent: None, "listen")));
        }
    }
}

/// Until the store is gone.
async fn listen(right: Listening, mut alive: watch::Receiver<()>) {
    loop {
        let Some(office) = right.0.upgrade() else { return };
        let mut left = office.left.subscribe();
        let pause = match office.listens().await {
            Some((connection, is_gone)) => {
                drop(office);
                let since = Stopwatch::start();
                tokio::select! {
                    () = is_gone.notified() => {}
                    // The sender lives in the office.
                    _ = left.changed() => {}
                    _ = alive.changed() => return,
                }
                drop(connection);
                let Some(office) = right.0.upgrade() else { return };
                office.hears_by(PurgeNews::Heartbeat);
                office.pause_after(Some(since.elapsed()))
            }
            None => office.pause_after(None),
        };
        tokio::select! {
            () = time::sleep(pause) => {}
            _ = alive.changed() => return,
        }
    }
}

// ===== impl Office =====

impl Office {
    /// The pause after a connection that lived for so long, or could not be had.
    fn pause_after(&self, lived: Option<Duration>) -> Duration {
        let Ok(mut pause) = self.pause.lock() else { return LAST_PAUSE };
        if lived.is_some_and(|lived| lived > PROVEN) {
            pause.reset();
        }
        pause.next()
    }

    /// A connection that listens, and what tells that it does so no more.
    async fn listens(self: &Arc<Self>) -> Option<(MultiplexedConnection, Arc<Notify>)> {
        let is_gone = Arc::new(Notify::new());
        let connecting = async {
            let address = self.connection.clock_address().await.ok()?;
            // The messages come between the replies.
            let client = address.client(Some(ProtocolVersion::RESP3)).await.ok()?;
            self.connect(&client, &is_gone).await.ok()
        };
        let mut connection = time::timeout(2 * CONNECT_TIMEOUT, connecting).await.ok().flatten()?;
        let hears_by = self.listen_for_purges(&mut connection).await;
        self.hears_by(hears_by);
        // What changed before is not told.
        self.plane.want();
        Some((connection, is_gone))
    }

    async fn connect(
        self: &Arc<Self>,
        client: &Client,
        is_gone: &Arc<Notify>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let (office, is_gone) = (Arc::downgrade(self), Arc::clone(is_gone));
        let receive = move |message: PushInfo| {
            match message.kind {
                PushKind::Message | PushKind::Invalidate => {
                    if let Some(office) = office.upgrade() {
                        office.receive(&message);
                    }
                }
                PushKind::Disconnection => is_gone.notify_one(),
                _ => {}
            }
            Ok::<_, std::convert::Infallible>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT))
            .set_push_sender(receive);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        connection.subscribe(&self.channels.wake).await?;
        Ok(connection)
    }

    /// By the best way that works: that the server tells of a change by itself is tried out.
    async fn listen_for_purges(&self, connection: &mut MultiplexedConnection) -> PurgeNews {
        let mut tracking = redis::cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&self.channels.purges);
        let mut change = redis::cmd("SET");
        change.arg(&self.channels.probe).arg("").arg("PX").arg(in_millis(CONNECT_TIMEOUT));
        // That it told of something before says nothing of now.
        pin!(self.probed.notified()).enable();
        let probing = async {
            connection.send_packed_command(&tracking).await.and_then(Value::extract_error)?;
            connection.send_packed_command(&change).await.and_then(Value::extract_error)?;
            self.probed.notified().await;
            Ok::<_, RedisError>(())
        };
        if let Ok(Ok(())) = time::timeout(CONNECT_TIMEOUT, probing).await {
            return PurgeNews::Tracking;
        }
        match time::timeout(CONNECT_TIMEOUT, connection.subscribe(&self.channels.purges)).await {
            Ok(Ok(())) => PurgeNews::Messages,
            _ => PurgeNews::Heartbeat,
        }
    }

    fn hears_by(&self, news: PurgeNews) {
        if self.hears_by.swap(news as u8, Ordering::Relaxed) != news as u8 {
            tracing::info!(by = news.as_str(), "purges are heard of");
        }
    }

    fn receive(&self, message: &PushInfo) {
        let is_of_purges = match message.data.first() {
            Some(Value::BulkString(channel)) => *channel == self.channels.purges,
            _ => false,
        };
        match message.kind {
            PushKind::Invalidate => {
                self.probed.notify_one();
                self.plane.want();
            }
            _ if is_of_purges => self.plane.want(),
            _ => self.tell(&message.data),
        }
    }

    /// A message: the channel, and the digest of a key.
    fn tell(&self, message: &[Value]) {
        let Some(Value::BulkString(digest)) = message.last() else { return };
        let Ok(digest) = Digest::try_from(&digest[..]) else { return };
        if let Some(news) = self.waiting().get(&digest) {
            news.send_replace(());
        }
    }

    /// No panic can leave the map half changed.
    fn waiting(&self) -> MutexGuard<'_, HashMap<Digest, watch::Sender<()>, Seed>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Hearing =====

impl Hearing {
    /// What has been told so far is no news.
    pub(crate) fn listens(&mut self) {
        if let Some(news) = &mut self.news {
            news.mark_unchanged();
        }
    }

    /// Waits until there is news of the key.
    pub(crate) async fn heard(&mut self) {
        let heard = match &mut self.news {
            Some(news) => news.changed().await.is_ok(),
            None => false,
        };
        if !heard {
            std::future::pending().await
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        drop(self.news.take());
        let mut waiting = self.office.waiting();
        if waiting.get(&self.digest).is_some_and(|news| news.receiver_count() == 0) {
            waiting.remove(&self.digest);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(office) = self.0.upgrade() {
            office.is_listening.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::LinkSettings;
    use super::*;
    use crate::config::CacheConfig;

    #[tokio::test]
    async fn who_waits_hears_of_its_key_alone_and_leaves_nothing_behind() {
        let [wake, purges, probe] = [b"c".to_vec(), b"p".to_vec(), b"p:probe".to_vec()];
        let plane = Arc::new(Plane::shared(1, Duration::from_secs(1)));
        let config = CacheConfig::new("redis://127.0.0.1:1").unwrap();
        let settings = LinkSettings {
            provision: config.provision,
            probe: Vec::new(),
            patience: config.store_timeout,
            is_of_cluster: false,
            pace: None,
            reads_replicas: false,
        };
        let wake = Wake::new(Connection::new(config.redis, settings, b"p"), Channels { wake, purges, probe }, plane);
        let keys = ["a", "b"].map(CacheKey::from);
        let [mut one, mut again, mut other] = [&keys[0], &keys[0], &keys[1]].map(|key| wake.hear(key));
        wake.office.tell(&[Value::BulkString(b"c".to_vec()), Value::BulkString(keys[0].digest().to_vec())]);
        one.heard().await;
        again.listens();
        for deaf in [&mut one, &mut again, &mut other] {
            assert!(time::timeout(Duration::from_millis(5), deaf.heard()).await.is_err());
        }
        drop((one, again));
        assert_eq!(wake.office.waiting().len(), 1);
        drop(other);
        assert!(wake.office.waiting().is_empty());
    }
}
