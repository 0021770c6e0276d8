//! The way to one Redis server, as well as it can be reached.
//!
//! redis-rs reconnects in some of the cases that matter and not in others: it keeps a connection whose peer has gone
//! without a word, one to a server that has become a replica, and one whose password was wrong. So connections are made
//! here ([`super::repair`]). Whoever meets a failure reports it; when it is one too many the link is *down*: requests
//! pass at once, and one background task builds new connections until both have answered a read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Cmd, ConnectionAddr, Pipeline, Value};
use tokio::sync::{SemaphorePermit, watch};
use tokio::time;

use super::address::RedisAddress;
use super::lanes::{Lane, LaneName, Linked};
use super::pace::Pace;
use super::pause::Pause;
use super::provision::Provision;
use super::repair::RepairState;
use super::replies::{Failure, Verdict, cure};
use crate::clock::Stopwatch;
use crate::error::{StoreError, StoreErrorKind};

/// What all links of one store have in common.
#[derive(Clone, Debug)]
pub(crate) struct LinkSettings {
    /// What is to be set on each server.
    pub(super) provision: Provision,
    /// A key to read when asking whether a server answers.
    pub(super) probe: Vec<u8>,
    /// A server that does not answer a read within this time is of no use.
    pub(super) patience: Duration,
    /// A server that has other keys is well.
    pub(super) is_of_cluster: bool,
    /// Where it is waited for less than that: how quick it is.
    pub(super) pace: Option<Arc<Pace>>,
    /// Look-ups go to replicas.
    pub(super) reads_replicas: bool,
}

impl LinkSettings {
    /// What a look-up may take, where that is not fixed.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.pace.as_ref().map(|pace| pace.deadline())
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    /// What is shown of it in the log holds no secret.
    pub(super) address: RedisAddress,
    pub(super) settings: LinkSettings,
    /// It is only read from, and never taken for its primary.
    pub(super) is_replica: bool,
    /// What came of setting what is to be set.
    pub(super) provided: Mutex<Option<Result<(), String>>>,
    /// Where the present connection leads.
    pub(super) present: Mutex<Option<ConnectionAddr>>,
    pub(super) heads: Lane,
    pub(super) bodies: Lane,
    pub(super) down: AtomicBool,
    /// Of the present connection; no other has the same number.
    pub(super) generation: AtomicU64,
    pub(super) generations: Arc<AtomicU64>,
    pub(super) state: watch::Sender<LinkState>,
    pub(super) repair: Mutex<RepairState>,
    pub(super) writes: Mutex<Pause>,
    /// Why it is down, or was last.
    trouble: Mutex<Option<StoreError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nobody has asked yet.
    Idle,
    Up,
    Down,
}

/// What a command does: a write that fails says nothing about reads, and a removal nothing about writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Remove,
    /// A script: a server that refuses it may be well in all else.
    Script {
        writes: bool,
    },
    /// A write that goes beside a read: it takes no place of that, and that it was not answered in time is not counted
    /// besides.
    Bid,
    /// One that ends something, or tells what has ended: it is not refused because much else is asked.
    Ending {
        writes: bool,
    },
}

impl Access {
    /// As what it counts.
    fn kind(self) -> Self {
        match self {
            Self::Ending { writes } => Self::Script { writes },
            Self::Bid => Self::Script { writes: true },
            other => other,
        }
    }
}

/// A command whose answer is awaited. Dropped before it came, after as long as the server may take, it counts as one that
/// was not answered; a client that leaves earlier says nothing of the server.
struct Waiting<'a> {
    link: &'a Arc<Link>,
    lane: LaneName,
    generation: u64,
    since: Stopwatch,
    /// For how long it is waited for, as far as that is known at its beginning.
    patience: Duration,
    open: bool,
}

impl Waiting<'_> {
    fn answered(mut self) {
        self.open = false;
        if let Some(pace) = self.link.settings.pace.as_ref().filter(|_| self.lane == LaneName::Heads) {
            pace.answered(self.since.elapsed());
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A look-up's deadline is for all its commands together: the last of them has less.
        if self.open && self.since.elapsed() >= self.patience / 2 {
            if let Some(pace) = self.link.settings.pace.as_ref().filter(|_| self.lane == LaneName::Heads) {
                pace.missed();
            }
            self.link.count_failure(self.lane, self.generation, &StoreError::new(StoreErrorKind::Timeout));
        }
    }
}

// ===== impl Link =====

impl Link {
    /// Makes no connection: the first command does. Links that stand for one another have their `generations` in common.
    pub(super) fn new(address: RedisAddress, settings: &LinkSettings, generations: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self::of(address, settings, generations, false))
    }

    /// To a server that follows a primary.
    pub(super) fn to_replica(address: RedisAddress, settings: &LinkSettings) -> Arc<Self> {
        // Its pace is its own affair.
        let settings = LinkSettings { pace: None, ..settings.clone() };
        Arc::new(Self::of(address, &settings, Arc::default(), true))
    }

    fn of(address: RedisAddress, settings: &LinkSettings, generations: Arc<AtomicU64>, is_replica: bool) -> Self {
        Self {
            address,
            settings: settings.clone(),
            is_replica,
            provided: Mutex::new(None),
            present: Mutex::new(None),
            heads: Lane::new(),
            bodies: Lane::new(),
            down: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            generations,
            state: watch::Sender::new(LinkState::Idle),
            repair: Mutex::new(RepairState::new()),
            writes: Mutex::new(Pause::new()),
            trouble: Mutex::new(None),
        }
    }

    /// Whether it is worth asking. Somebody who asks sees to it that a link that is down is being repaired.
    pub(super) fn is_available(self: &Arc<Self>) -> bool {
        let down = self.down.load(Ordering::Acquire);
        if down {
            self.start_repair();
        }
        !down
    }

    pub(super) fn takes_writes(self: &Arc<Self>) -> bool {
        self.is_available() && self.writes.lock().is_ok_and(|writes| !writes.is_on())
    }

    /// Resolves when the server has answered a read.
    pub(super) async fn answers(self: &Arc<Self>) -> Result<(), StoreError> {
        match self.call(LaneName::Heads, Access::Read, redis::cmd("GET").arg(&self.settings.probe)).await {
            Err(failure) if !failure.is_of_well_node(&self.settings) => Err(failure.error),
            _ => Ok(()),
        }
    }

    /// One command and its answer.
    pub(super) async fn call(
        self: &Arc<Self>,
        lane: LaneName,
        access: Access,
        command: &Cmd,
    ) -> Result<Value, Failure> {
        let in_flight = self.enter(lane, access).await?;
        self.answer(lane, access, command, &in_flight).await
    }

    /// The same, waiting for its turn where as many commands are in flight as may be, and from then on for no longer than
    /// `limit`.
    pub(super) async fn call_in_turn(
        self: &Arc<Self>,
        lane: LaneName,
        access: Access,
        command: &Cmd,
        limit: Duration,
    ) -> Result<Value, Failure> {
        let turn = self.lane(lane).queue().await.map_err(Failure::ignored)?;
        let answer = time::timeout(limit, self.answer(lane, access, command, &turn.in_flight)).await;
        answer.unwrap_or_else(|_| Err(Failure::ignored(StoreError::new(StoreErrorKind::Timeout))))
    }

    async fn answer(
        self: &Arc<Self>,
        lane: LaneName,
        access: Access,
        command: &Cmd,
        _in_flight: &SemaphorePermit<'_>,
    ) -> Result<Value, Failure> {
        let (mut linked, waiting) = self.begin(lane, access).await?;
        let answer = linked.connection.send_packed_command(command).await.and_then(Value::extract_error);
        waiting.answered();
        answer.inspect(|_| self.succeeded(lane, access)).map_err(|error| {
            let failure = Failure::from(&error);
            self.judge(lane, access, linked.generation, &failure);
            failure
        })
    }

    /// Several commands in one go, and what each of them came to. Of errors the first counts for all.
    pub(super) async fn call_each(
        self: &Arc<Self>,
        lane: LaneName,
        access: Access,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let _in_flight = self.enter(lane, access).await?;
        let (mut linked, waiting) = self.begin(lane, access).await?;
        let answers = linked.connection.send_packed_commands(commands, 0, commands.len()).await;
        waiting.answered();
        let answers = answers.map_err(|error| Failure::from(&error)).inspect_err(|failure| {
            self.judge(lane, access, linked.generation, failure);
        })?;
        let own = |answer: Value| answer.extract_error().map_err(|error| Failure::from(&error));
        let answers: Vec<_> = answers.into_iter().map(own).collect();
        match answers.iter().find_map(|answer| answer.as_ref().err()) {
            Some(failure) => self.judge(lane, access, linked.generation, failure),
            None => self.succeeded(lane, access),
        }
        Ok(answers)
    }

    /// What ends something waits for a place, and all else does without.
    async fn enter(&self, lane: LaneName, access: Access) -> Result<SemaphorePermit<'_>, Failure> {
        let lane = self.lane(lane);
        let place = match access {
            Access::Remove | Access::Ending { .. } => lane.enter_first().await,
            Access::Read | Access::Write | Access::Script { .. } => lane.enter(),
            Access::Bid => lane.enter_beside(),
        };
        place.map_err(Failure::ignored)
    }

    pub(super) fn lane(&self, name: LaneName) -> &Lane {
        match name {
            LaneName::Heads => &self.heads,
            LaneName::Bodies => &self.bodies,
        }
    }

    async fn begin(self: &Arc<Self>, lane: LaneName, access: Access) -> Result<(Linked, Waiting<'_>), Failure> {
        let linked = self.current(lane).await.map_err(Failure::ignored)?;
        // A body is given all the time there is.
        let patience = match (self.is_replica || access == Access::Bid, lane) {
            // Who asks it says when that was too long, or asks something else besides.
            (true, _) => Duration::MAX,
            (false, LaneName::Heads) => self.settings.deadline().unwrap_or(self.settings.patience),
            (false, LaneName::Bodies) => self.settings.patience,
        };
        let (generation, since) = (linked.generation, Stopwatch::start());
        Ok((linked, Waiting { link: self, lane, generation, since, patience, open: true }))
    }

    /// The connection of a lane. Only before the first connection was tried does this wait, and the caller's deadline
    /// bounds that.
    async fn current(self: &Arc<Self>, lane: LaneName) -> Result<Linked, StoreError> {
        if let Some(linked) = self.lane(lane).link() {
            return Ok(linked);
        }
        let mut state = self.state.subscribe();
        self.start_repair();
        if !self.down.load(Ordering::Acquire) {
            // The sender lives in `self`, so waiting cannot fail.
            let _ = state.wait_for(|state| *state != LinkState::Idle).await;
        }
        self.lane(lane).link().ok_or_else(|| StoreError::new(StoreErrorKind::Unavailable))
    }

    fn succeeded(&self, lane: LaneName, access: Access) {
        self.lane(lane).breaker.succeeded();
        if matches!(access.kind(), Access::Write | Access::Script { writes: true })
            && let Ok(mut writes) = self.writes.lock()
            && writes.end()
        {
            tracing::warn!(redis = %self.address, "Redis takes writes again");
        }
    }

    fn judge(self: &Arc<Self>, lane: LaneName, access: Access, generation: u64, failure: &Failure) {
        match (failure.verdict, access.kind()) {
            (Verdict::Count, _) if access == Access::Bid => {}
            (Verdict::Replace, _) => self.go_down(generation, &failure.error),
            (Verdict::NoScript | Verdict::Elsewhere, _) => self.lane(lane).breaker.succeeded(),
            // A server that does not know scripts at all.
            (Verdict::Count, Access::Script { .. }) if failure.error.kind() == StoreErrorKind::Protocol => {
                self.lane(lane).breaker.succeeded();
            }
            (Verdict::PauseWrites, Access::Script { writes: true })
            | (Verdict::PauseWrites | Verdict::NotGranted, Access::Write) => self.pause_writes(&failure.error),
            (Verdict::PauseWritesAndReplace, Access::Write | Access::Script { writes: true }) => {
                self.pause_writes(&failure.error);
                self.start_repair();
            }
            (
                Verdict::PauseWrites | Verdict::PauseWritesAndReplace | Verdict::NotGranted | Verdict::ForeignType,
                Access::Remove | Access::Script { .. },
            )
            | (Verdict::ForeignType, _) => self.lane(lane).breaker.succeeded(),
            (Verdict::Count, _) | (_, Access::Read | Access::Ending { .. } | Access::Bid) => {
                self.count_failure(lane, generation, &failure.error)
            }
        }
    }

    /// A lane for bodies that is too slow is of no use for bodies, and no reason to do without heads: it gets another
    /// connection. Heads that do not come are the end of the link.
    fn count_failure(self: &Arc<Self>, lane: LaneName, generation: u64, error: &StoreError) {
        if !self.is_current(generation) || !self.lane(lane).breaker.failed() {
            return;
        }
        match lane {
            LaneName::Heads => self.go_down(generation, error),
            LaneName::Bodies => {
                self.bodies.breaker.forgive();
                self.start_repair();
            }
        }
    }

    /// It was waited for as long as it may take.
    pub(super) fn was_late(self: &Arc<Self>, lane: LaneName, asked: Option<u64>) {
        if let Some(generation) = asked {
            self.count_failure(lane, generation, &StoreError::new(StoreErrorKind::Timeout));
        }
    }

    /// Which connection would be asked.
    pub(super) fn generation(&self, lane: LaneName) -> Option<u64> {
        self.lane(lane).generation()
    }

    fn is_current(&self, generation: u64) -> bool {
        generation == self.generation.load(Ordering::Acquire)
    }

    /// Late failures of a connection that has been replaced already change nothing.
    fn go_down(self: &Arc<Self>, generation: u64, error: &StoreError) {
        if self.is_current(generation) {
            self.mark_down(error);
            self.start_repair();
        }
    }

    pub(super) fn mark_down(&self, error: &StoreError) {
        if let Ok(mut trouble) = self.trouble.lock() {
            *trouble = Some(error.clone());
        }
        if !self.down.swap(true, Ordering::AcqRel) && self.may_warn() {
            let what = match self.is_replica {
                true => "a replica is unavailable: its primary is asked, and the connection is being repaired",
                false => "Redis is unavailable: requests go on without the cache, and the connection is being repaired",
            };
            tracing::warn!(redis = %self.address, store.error = %error, cure = cure(error), "{what}");
        }
        self.heads.replace(None);
        self.bodies.replace(None);
        self.state.send_replace(LinkState::Down);
    }

    /// Why it is down, if it is.
    pub(super) fn trouble(&self) -> Option<StoreError> {
        let trouble = self.trouble.lock().ok()?.clone();
        trouble.filter(|_| self.down.load(Ordering::Acquire))
    }

    fn pause_writes(&self, error: &StoreError) {
        let Ok(mut writes) = self.writes.lock() else { return };
        if writes.begin() {
            tracing::warn!(
                redis = %self.address, store.error = %error, cure = cure(error),
                "Redis takes no writes: nothing new is stored for now, reads go on"
            );
        }
    }
}
