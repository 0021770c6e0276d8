//! The supervisor: connections that heal, and that never keep a request waiting.
//!
//! redis-rs reconnects in some of the cases that matter and not in others: it keeps a connection whose peer has gone
//! without a word, one to a server that has become a replica, and one whose password was wrong. So connections are made
//! here. Whoever meets a failure reports it; when it is one too many the link is *down*, requests pass at once, and one
//! background task builds new connections (with a new look-up of the name) until one has answered a read. That task is
//! the only one that waits for a server in trouble.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use tokio::sync::watch;
use tokio::time;

use super::address::RedisAddress;
use super::breaker::{Backoff, Breaker};
use super::lanes::{Lane, LaneName};
use super::replies::{Failure, Verdict, cure};
use crate::clock::Stopwatch;
use crate::error::{StoreError, StoreErrorKind};

/// One Redis server, as well as it can be reached.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    link: Arc<Link>,
}

#[derive(Debug)]
struct Link {
    client: Client,
    /// Shown in the log; holds no secret.
    address: RedisAddress,
    /// A key to read when asking whether the server answers.
    probe: Vec<u8>,
    heads: Lane,
    bodies: Lane,
    state: watch::Sender<LinkState>,
    breaker: Breaker,
    repairing: AtomicBool,
    writes: Mutex<WritePause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    /// Nobody has asked yet.
    Idle,
    Up,
    Down,
}

/// A pause in writing, longer each time it is found necessary again.
#[derive(Debug)]
struct WritePause {
    since: Option<(Stopwatch, Duration)>,
    backoff: Backoff,
}

/// What kind of command failed: a write that fails says nothing about reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(1);
const FIRST_WRITE_PAUSE: Duration = Duration::from_secs(1);
const LAST_WRITE_PAUSE: Duration = Duration::from_secs(30);
const PIPELINE_DEPTH: usize = 512;

// ===== impl Connection =====

impl Connection {
    /// Makes no connection: the first command does.
    pub(crate) fn new(address: RedisAddress, probe: Vec<u8>) -> Self {
        let client = Client::open(address.info().clone()).expect("a parsed address is an address");
        let link = Link {
            client,
            address,
            probe,
            heads: Lane::new(),
            bodies: Lane::new(),
            state: watch::Sender::new(LinkState::Idle),
            breaker: Breaker::new(),
            repairing: AtomicBool::new(false),
            writes: Mutex::new(WritePause::new()),
        };
        Self { link: Arc::new(link) }
    }

    pub(crate) fn is_available(&self) -> bool {
        !self.link.breaker.is_open()
    }

    pub(crate) fn takes_writes(&self) -> bool {
        self.is_available() && self.link.writes.lock().is_ok_and(|writes| !writes.is_on())
    }

    /// A command's caller gave up waiting.
    pub(crate) fn met_deadline(&self) {
        self.link.count_failure(&StoreError::new(StoreErrorKind::Timeout));
    }

    /// Resolves when the link is up, or with an error as soon as it is known to be down.
    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        self.link.current(LaneName::Heads).await.map(|_| ())
    }

    /// One command and its answer.
    pub(crate) async fn call(&self, lane: LaneName, access: Access, command: &Cmd) -> Result<Value, Failure> {
        let _in_flight = self.link.lane(lane).enter().map_err(Failure::ignored)?;
        let mut connection = self.link.current(lane).await.map_err(Failure::ignored)?;
        let answer = connection.send_packed_command(command).await.and_then(Value::extract_error);
        answer.inspect(|_| self.link.succeeded(access)).map_err(|error| self.link.judge(access, Failure::from(&error)))
    }

    /// Several commands in one go, and their answers; the first error counts for all.
    pub(crate) async fn call_all(
        &self,
        lane: LaneName,
        access: Access,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Failure> {
        let _in_flight = self.link.lane(lane).enter().map_err(Failure::ignored)?;
        let mut connection = self.link.current(lane).await.map_err(Failure::ignored)?;
        let answers = connection.send_packed_commands(commands, 0, commands.len()).await;
        let answers = answers.and_then(|values| values.into_iter().map(Value::extract_error).collect::<Result<_, _>>());
        answers.inspect(|_| self.link.succeeded(access)).map_err(|error| self.link.judge(access, Failure::from(&error)))
    }
}

impl Failure {
    /// An error that says nothing new about the server.
    fn ignored(error: StoreError) -> Self {
        Self { error, verdict: Verdict::Count }
    }
}

// ===== impl Link =====

impl Link {
    fn lane(&self, name: LaneName) -> &Lane {
        match name {
            LaneName::Heads => &self.heads,
            LaneName::Bodies => &self.bodies,
        }
    }

    /// The connection of a lane. Only before the first connection was tried does this wait, and the caller's deadline
    /// bounds that.
    async fn current(self: &Arc<Self>, lane: LaneName) -> Result<MultiplexedConnection, StoreError> {
        if self.breaker.is_open() {
            self.start_repair();
            return Err(StoreError::new(StoreErrorKind::Unavailable));
        }
        if let Some(connection) = self.lane(lane).link() {
            return Ok(connection);
        }
        let mut state = self.state.subscribe();
        self.start_repair();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = state.wait_for(|state| *state != LinkState::Idle).await;
        self.lane(lane).link().ok_or_else(|| StoreError::new(StoreErrorKind::Unavailable))
    }

    fn succeeded(&self, access: Access) {
        self.breaker.succeeded();
        if access == Access::Write
            && let Ok(mut writes) = self.writes.lock()
            && writes.since.is_some()
        {
            *writes = WritePause::new();
            tracing::warn!(redis = %self.address, "Redis takes writes again");
        }
    }

    fn judge(self: &Arc<Self>, access: Access, failure: Failure) -> Failure {
        match (failure.verdict, access) {
            (Verdict::Replace, _) => self.go_down(&failure.error),
            (Verdict::Count, _) => self.count_failure(&failure.error),
            (Verdict::PauseWrites | Verdict::NotGranted, Access::Write) => self.pause_writes(&failure.error),
            (Verdict::PauseWritesAndReplace, _) => {
                self.pause_writes(&failure.error);
                self.start_repair();
            }
            (Verdict::PauseWrites | Verdict::NotGranted, Access::Read) => self.count_failure(&failure.error),
            (Verdict::ForeignType, _) => self.breaker.succeeded(),
        }
        failure
    }

    fn count_failure(self: &Arc<Self>, error: &StoreError) {
        if self.breaker.failed() {
            self.go_down(error);
        }
    }

    fn go_down(self: &Arc<Self>, error: &StoreError) {
        if self.breaker.open() {
            tracing::warn!(
                redis = %self.address, store.error = %error, cure = cure(error),
                "Redis is unavailable: requests go on without the cache, and the connection is being repaired"
            );
        }
        self.heads.replace(None);
        self.bodies.replace(None);
        self.state.send_replace(LinkState::Down);
        self.start_repair();
    }

    fn pause_writes(&self, error: &StoreError) {
        let Ok(mut writes) = self.writes.lock() else { return };
        if writes.is_on() {
            return;
        }
        if writes.since.is_none() {
            tracing::warn!(
                redis = %self.address, store.error = %error, cure = cure(error),
                "Redis takes no writes: nothing new is stored for now, reads go on"
            );
        }
        let pause = writes.backoff.next();
        writes.since = Some((Stopwatch::start(), pause));
    }

    /// Starts the one background task that connects, unless it runs.
    fn start_repair(self: &Arc<Self>) {
        if self.repairing.swap(true, Ordering::AcqRel) {
            return;
        }
        let running = Repairing { link: Arc::downgrade(self) };
        tokio::spawn(repair(running));
    }

    /// Connects both lanes and reads through one of them.
    async fn connect(&self) -> Result<[MultiplexedConnection; 2], Failure> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_DEPTH);
        let both = async {
            let mut heads = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let bodies = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let answer = heads.send_packed_command(redis::cmd("GET").arg(&self.probe)).await;
            answer.and_then(Value::extract_error)?;
            Ok([heads, bodies])
        };
        match time::timeout(CONNECT_TIMEOUT, both).await {
            Ok(connected) => connected.map_err(|error: redis::RedisError| Failure::from(&error)),
            Err(_) => Err(Failure::ignored(StoreError::new(StoreErrorKind::Timeout))),
        }
    }

    fn come_up(&self, [heads, bodies]: [MultiplexedConnection; 2]) {
        self.heads.replace(Some(heads));
        self.bodies.replace(Some(bodies));
        let was_down = self.breaker.close();
        self.state.send_replace(LinkState::Up);
        if was_down {
            tracing::warn!(redis = %self.address, "Redis is available again");
        }
    }
}

// ===== Repair =====

/// The right to repair; given back when the task ends, however it ends.
#[derive(Debug)]
struct Repairing {
    link: Weak<Link>,
}

impl Drop for Repairing {
    fn drop(&mut self) {
        if let Some(link) = self.link.upgrade() {
            link.repairing.store(false, Ordering::Release);
        }
    }
}

/// Tries until it has succeeded or the store is gone.
async fn repair(running: Repairing) {
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    while let Some(link) = running.link.upgrade() {
        match link.connect().await {
            Ok(lanes) => return link.come_up(lanes),
            Err(failure) => link.failed_to_connect(&failure.error),
        }
        // Nothing may be held over the pause, or a layer that was dropped would live on.
        drop(link);
        time::sleep(backoff.next()).await;
    }
}

impl Link {
    fn failed_to_connect(&self, error: &StoreError) {
        if self.breaker.open() {
            tracing::warn!(
                redis = %self.address, store.error = %error, cure = cure(error),
                "Redis is unavailable: requests go on without the cache, and the connection is being tried again"
            );
        }
        self.heads.replace(None);
        self.bodies.replace(None);
        self.state.send_replace(LinkState::Down);
    }
}

// ===== impl WritePause =====

impl WritePause {
    fn new() -> Self {
        Self { since: None, backoff: Backoff::new(FIRST_WRITE_PAUSE, LAST_WRITE_PAUSE) }
    }

    fn is_on(&self) -> bool {
        self.since.is_some_and(|(since, pause)| since.elapsed() < pause)
    }
}
