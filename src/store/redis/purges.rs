//! The purge clock in Redis: one sorted set, which every instance copies.
//!
//! One task keeps the copy. It reads what is new when it hears of it, when somebody needs it, and at every heartbeat; over
//! a new connection, which may lead to another server, it reads everything, and records anew what that server has lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time;
use tracing::Instrument;

use super::connection::{Access, Connection};
use super::lanes::LaneName;
use super::layout::Layout;
use super::lease::is_refusal;
use super::replies::Failure;
use super::scripts::{CLOCK, Call, PURGE, Script};
use super::wake::{Channels, Wake};
use crate::clock::Stopwatch;
use crate::config::CacheConfig;
use crate::error::{StoreError, StoreErrorKind};
use crate::observe::PurgeNews;
use crate::purge::label::{Incarnation, Number, Stamp};
use crate::purge::plane::{Begun, Plane};
use crate::purge::reading::{Cursor, Heard, Making, Next, Page, Reading, Whole};
use crate::purge::target::{MAX_TARGETS, Member};

/// The purge clock of one namespace, as this instance has it.
#[derive(Debug)]
pub(super) struct Purges {
    keeper: Arc<Keeper>,
    /// Dropped with the store: then nobody keeps the copy any more.
    alive: watch::Sender<()>,
}

#[derive(Debug)]
struct Keeper {
    connection: Connection,
    layout: Layout,
    plane: Arc<Plane>,
    wake: Wake,
    max_records: usize,
    heartbeat: Duration,
    /// When the task that keeps the copy last gave a sign of life.
    running: Mutex<Option<Stopwatch>>,
    /// How far the clock has been read, over which connection.
    cursor: Mutex<Option<Cursor>>,
    has_warned: Warned,
    /// The server does not know, or grant, scripts that only read.
    only_writing: AtomicBool,
}

/// What was told, and need not be told again.
#[derive(Debug, Default)]
struct Warned {
    /// It cannot be read.
    failed: AtomicBool,
    /// Some of it is lost.
    restored: AtomicBool,
}

/// The right to keep the copy, given back when the task ends, however it ends.
struct Keeping(Arc<Keeper>);

/// Longer than anything is stored.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Records in one answer of the server.
const PAGE: usize = 4096;
/// A clock that changes its making while it is read is read again, so often.
const ATTEMPTS: usize = 3;
/// A task that gave no sign for so long sits in a runtime that nobody drives.
const LOST: Duration = Duration::from_secs(5);
/// No server is asked more often than this.
const LEAST_PAUSE: Duration = Duration::from_millis(1);
/// How often it is asked where the primaries are, while nothing is amiss.
const FOLLOWING: Duration = Duration::from_secs(5);
/// What was purged is known within a heartbeat, if nothing else tells of it.
const HEARTBEATS: u32 = 5;

impl Purges {
    pub(super) fn new(config: &CacheConfig, connection: Connection, layout: &Layout, plane: Arc<Plane>) -> Self {
        let channels = Channels { wake: layout.wake().to_vec(), purges: layout.purges(), probe: layout.purges_probe() };
        let keeper = Keeper {
            wake: Wake::new(connection.clone(), channels, Arc::clone(&plane)),
            connection,
            layout: layout.clone(),
            plane,
            max_records: config.purges.max_records,
            heartbeat: config.purges.max_unsynced / HEARTBEATS,
            running: Mutex::new(None),
            cursor: Mutex::new(None),
            has_warned: Warned::default(),
            only_writing: AtomicBool::new(false),
        };
        Self { keeper: Arc::new(keeper), alive: watch::Sender::new(()) }
    }

    pub(super) fn plane(&self) -> &Plane {
        &self.keeper.plane
    }

    pub(super) fn wake(&self) -> &Wake {
        &self.keeper.wake
    }

    /// How purges are heard of at present.
    pub(super) fn news(&self) -> PurgeNews {
        match self.plane().is_denied() {
            true => PurgeNews::Denied,
            false => self.wake().purge_news(),
        }
    }

    /// Sees to it that the copy is kept; `now` was started a moment ago.
    pub(super) fn start(&self, now: Stopwatch) {
        let Ok(mut running) = self.keeper.running.lock() else { return };
        if running.is_some_and(|sign| sign.elapsed_at(now) < LOST + self.keeper.heartbeat) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        *running = Some(Stopwatch::start());
        drop(running);
        let keeping = keep(Keeping(Arc::clone(&self.keeper)), self.alive.subscribe());
        runtime.spawn(keeping.instrument(tracing::debug_span!(parent: None, "purges")));
    }

    /// Records purges; the number of the last. They are known here by then, and so is what was purged before.
    pub(super) async fn record(&self, members: &[Member]) -> Result<Number, StoreError> {
        self.start(Stopwatch::start());
        for _ in 0..ATTEMPTS {
            let generation = self.keeper.connection.generation();
            let Recorded { making, first, before } = self.keeper.record(members, 0).await?;
            if generation.is_none() || generation != self.keeper.connection.generation() {
                // The server that has it may be gone, and it with the server.
                continue;
            }
            if !self.keeper.plane.learn(members, (making, generation), first, before) {
                self.keeper.plane.synced_anew().await?;
                if generation != self.keeper.connection.generation() {
                    continue;
                }
            }
            return Ok((first + members.len() as u64).saturating_sub(1));
        }
        Err(StoreError::with_detail(StoreErrorKind::Unavailable, "the connection changes while a purge is recorded"))
    }

    /// What a fetch that sets out now is stamped with, and the present connection, if that was read over it, and so from
    /// the server that it leads to.
    pub(super) fn stamp(&self) -> (Stamp, Option<u64>) {
        let generation = self.keeper.connection.generation();
        (self.plane().stamp(), generation.filter(|_| self.plane().is_read_over(generation)))
    }

    /// The clock's making, and the highest number there is; `None` if the clock is gone.
    pub(super) async fn newest(&self) -> Result<Option<Stamp>, StoreError> {
        let mut commands = Pipeline::with_capacity(2);
        for end in ["ZRANGE", "ZREVRANGE"] {
            commands.cmd(end).arg(self.keeper.layout.purges()).arg(0).arg(0).arg("WITHSCORES");
        }
        let answers = self.keeper.connection.call_all(LaneName::Heads, Access::Read, &commands).await;
        let answers = answers.map_err(|failure| failure.error)?;
        let mut ends = answers.iter().map(|answer| match answer {
            Value::Array(found) => match &found[..] {
                [] => Ok(None),
                // RESP3 has pairs.
                [Value::Array(pair)] if pair.len() == 2 => Ok(Some((&pair[0], &pair[1]))),
                [member, score] => Ok(Some((member, score))),
                _ => Err(unexpected()),
            },
            _ => Err(unexpected()),
        });
        let (Some(bottom), Some(top)) = (ends.next(), ends.next()) else { return Err(unexpected()) };
        let (Some((Value::BulkString(name), _)), Some((_, highest))) = (bottom?, top?) else { return Ok(None) };
        let Some(making) = Making::parse(name) else { return Ok(None) };
        Ok(Some(Stamp { incarnation: making.id, number: number(Some(highest))? }))
    }
}

/// Until the store is gone.
async fn keep(right: Keeping, mut alive: watch::Receiver<()>) {
    let keeper = &right.0;
    let (mut least_pause, mut followed, mut generation) = (LEAST_PAUSE, None::<Stopwatch>, None);
    loop {
        let connection = &keeper.connection;
        let following = async {
            if connection.is_watched() && followed.is_none_or(|followed| followed.elapsed() > FOLLOWING) {
                followed = Some(Stopwatch::start());
                connection.follow().await;
            }
        };
        let reading = async {
            if let Some(present) = connection.generation() {
                if generation.is_some_and(|before| before != present) {
                    // The one that is listened to may be another by now.
                    keeper.wake.leave();
                }
                generation = Some(present);
            }
            // After one that came to nothing, nobody's wish brings the next about at once.
            least_pause = match keeper.read_in_time().await {
                true => LEAST_PAUSE,
                false => (least_pause * 2).min(keeper.heartbeat),
            };
            let pause = async {
                time::sleep(least_pause).await;
                keeper.plane.wanted().await;
            };
            let _ = time::timeout(keeper.heartbeat, pause).await;
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(following, reading) } => {}
            // Never sent to: it is dropped.
            _ = alive.changed() => return,
        }
    }
}

// ===== impl Keeper =====

impl Keeper {
    fn sign(&self) {
        if let Ok(mut running) = self.running.lock() {
            *running = Some(Stopwatch::start());
        }
    }

    /// Whether anything came of it.
    async fn read_in_time(&self) -> bool {
        self.wake.start();
        self.sign();
        let begun = self.plane.begin();
        match time::timeout(self.connection.patience().max(self.heartbeat), self.read()).await {
            Ok(Ok(Some(generation))) => {
                if self.has_warned.failed.swap(false, Ordering::Relaxed) {
                    tracing::warn!("the purge clock is read again");
                }
                self.plane.has_read(begun, generation);
                true
            }
            Ok(Ok(None)) => {
                self.is_denied(begun);
                true
            }
            failed => {
                self.plane.has_failed(begun);
                self.report(failed.ok().and_then(Result::err).as_ref());
                false
            }
        }
    }

    fn is_denied(&self, begun: Begun) {
        self.plane.deny(begun);
        if !self.has_warned.failed.swap(true, Ordering::Relaxed) {
            tracing::warn!("there is no purge clock: scripts or sorted sets are not granted, so nothing can be purged");
        }
    }

    fn report(&self, error: Option<&StoreError>) {
        // That the server is away is told elsewhere.
        if self.connection.is_available() && !self.has_warned.failed.swap(true, Ordering::Relaxed) {
            let error = error.map_or_else(|| "no answer in time".to_owned(), ToString::to_string);
            tracing::warn!(
                store.error = error,
                "the purge clock cannot be read: what is stored is not served until it can"
            );
        }
    }

    /// Reads what is new, and sees to it that the store has what is known here: the connection over which that was. `None`
    /// where this user may not.
    async fn read(&self) -> Result<Option<u64>, StoreError> {
        for _ in 0..ATTEMPTS {
            let generation = self.connection.generation();
            let cursor = self.cursor.lock().ok().and_then(|mut cursor| cursor.take());
            if cursor.is_none() {
                self.only_writing.store(false, Ordering::Relaxed);
            }
            self.plane.begin_reading(generation);
            let reading = Reading::begin(cursor, generation);
            let Some(whole) = self.read_pages(reading).await? else { return Ok(None) };
            let Some(generation) = generation.filter(|generation| Some(*generation) == self.connection.generation())
            else {
                // It may be another server's.
                continue;
            };
            let Some(whole) = whole else { continue };
            let next = self.plane.take(&whole);
            if !matches!(next, Next::Renew(_))
                && let Ok(mut cursor) = self.cursor.lock()
            {
                *cursor = Some(whole.cursor(generation));
            }
            match next {
                Next::InStep => return Ok(Some(generation)),
                Next::Renew(replaced) => self.renew(replaced).await?,
                Next::Restore { lost, floor } => match self.restore(lost, floor, generation).await {
                    Ok(()) => self.has_warned.restored.store(false, Ordering::Relaxed),
                    // Till it can be written, it is known here.
                    Err(error) if error.kind() == StoreErrorKind::Full => return Ok(Some(generation)),
                    Err(error) => return Err(error),
                },
            }
        }
        Err(StoreError::with_detail(StoreErrorKind::NotReady, "the purge clock changes while it is read"))
    }

    /// All pages. Where nothing comes of them, because the clock was made anew meanwhile, that is `Some(None)`.
    async fn read_pages(&self, mut reading: Reading) -> Result<Option<Option<Whole>>, StoreError> {
        // Twice as many as there can be, since more are recorded meanwhile.
        for _ in 0..2 * self.max_records / PAGE + 2 {
            let after = reading.after().map_or_else(|| "-inf".to_owned(), |number| number.to_string());
            let Some(page) = self.page(&after, None).await? else { return Ok(None) };
            match reading.hear(page) {
                Heard::More => {}
                Heard::Again => return Ok(Some(None)),
                Heard::Whole(whole) => return Ok(Some(Some(whole))),
            }
        }
        Ok(Some(None))
    }

    /// As long as nothing has to be written, it is read by a command that does not wait where writes have to.
    async fn page(&self, after: &str, replaced: Option<Incarnation>) -> Result<Option<Page>, StoreError> {
        let past = replaced.into_iter().chain([self.plane.stamp().incarnation]);
        let begins = replaced.map(|replaced| Making::after([], replaced).name()).unwrap_or_default();
        let call = |writes: &str| {
            let mut call = self.call(&CLOCK, past.clone());
            call.argument(after).argument(PAGE.to_string()).argument(&begins).argument(writes);
            call
        };
        if replaced.is_none() && !self.only_writing.load(Ordering::Relaxed) {
            let reading = call("").only_reading();
            match self.run(reading, Access::Ending { writes: false }).await? {
                Some(Value::Nil) => {}
                Some(answer) => return decode(answer).map(Some),
                None => self.only_writing.store(true, Ordering::Relaxed),
            }
        }
        match self.run(call("w"), Access::Ending { writes: replaced.is_some() }).await? {
            Some(answer) => decode(answer).map(Some),
            None => Ok(None),
        }
    }

    /// Replaces a making that knows nothing of the one that is known here. What comes of it is read again.
    async fn renew(&self, replaced: Incarnation) -> Result<(), StoreError> {
        tracing::warn!("the store has an older purge clock: all that is stored is taken for purged");
        self.page("-inf", Some(replaced)).await.map(|_| ())
    }

    /// Sees to it that the store has what it has lost. What comes of it is read again.
    async fn restore(&self, lost: Vec<Member>, floor: Number, generation: u64) -> Result<(), StoreError> {
        if !self.has_warned.restored.swap(true, Ordering::Relaxed) {
            tracing::warn!(records = lost.len(), "the store has lost purges, which are recorded anew");
        }
        for some in lost.chunks(MAX_TARGETS).chain(lost.is_empty().then_some(&lost[..])) {
            let Recorded { making, first, before } = self.record(some, floor).await?;
            // What is known of it by then is read again in any case.
            self.plane.learn(some, (making, Some(generation)), first, before);
        }
        Ok(())
    }

    async fn record(&self, members: &[Member], floor: Number) -> Result<Recorded, StoreError> {
        let mut call = self.call(&PURGE, [self.plane.stamp().incarnation]);
        call.number(self.max_records).number(floor).argument(self.layout.purges());
        for member in members {
            call.argument(member.as_octets());
        }
        match self.run(call, Access::Ending { writes: true }).await? {
            Some(answer) => Recorded::decode(answer),
            None => Err(StoreError::with_detail(StoreErrorKind::Denied, "scripts or sorted sets are not granted")),
        }
    }

    /// The arguments that both scripts begin with.
    fn call(&self, script: &'static Script, past: impl IntoIterator<Item = Incarnation>) -> Call {
        let mut call = Call::of(script, 1);
        call.key(self.layout.purges()).number(self.plane.top());
        call.argument(Making::after(past, fastrand::u64(1..)).name()).millis(LIFETIME);
        call
    }

    /// `None` where scripts, or what they do, are not granted.
    async fn run(&self, call: Call, access: Access) -> Result<Option<Value>, StoreError> {
        match self.connection.run(LaneName::Heads, access, &call).await {
            Ok(value) => Ok(Some(value)),
            Err(failure) if is_refusal(&failure) => Ok(None),
            Err(Failure { error, .. }) => Err(error),
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Ok(mut running) = self.0.running.lock() {
            *running = None;
        }
    }
}

// ===== Answers =====

/// Purges that have been recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recorded {
    making: Incarnation,
    /// The number of the first.
    first: Number,
    /// The highest number before it.
    before: Number,
}

impl Recorded {
    fn decode(answer: Value) -> Result<Self, StoreError> {
        let Value::Array(parts) = answer else { return Err(unexpected()) };
        let [first, Value::BulkString(name), before] = &parts[..] else { return Err(unexpected()) };
        let making = Making::parse(name).ok_or_else(unexpected)?.id;
        Ok(Self { making, first: number(Some(first))?, before: number(Some(before))? })
    }
}

fn decode(answer: Value) -> Result<Page, StoreError> {
    let Value::Array(parts) = answer else { return Err(unexpected()) };
    let [Value::BulkString(name), floor, highest, Value::Array(listed)] = &parts[..] else {
        return Err(unexpected());
    };
    let record = |pair: &[Value]| match pair {
        [Value::BulkString(member), score] => Ok((Member::from_octets(member), number(Some(score))?)),
        _ => Err(unexpected()),
    };
    let mut records = listed.chunks(2).map(record).collect::<Result<Vec<_>, _>>()?;
    let next = records.last().filter(|_| records.len() >= PAGE).map(|(_, number)| *number);
    // The floor is one of those that are listed.
    records.retain(|(member, _)| member.as_octets() != &name[..]);
    Ok(Page {
        making: Making::parse(name).ok_or_else(unexpected)?,
        floor: number(Some(floor))?,
        highest: number(Some(highest))?,
        records,
        next,
    })
}

/// A score, as text or as what RESP3 makes of it.
fn number(value: Option<&Value>) -> Result<Number, StoreError> {
    /// The integers that a double holds.
    const GREATEST: f64 = 9_007_199_254_740_992.0;
    let score = match value {
        Some(Value::BulkString(text)) => std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()),
        Some(Value::Double(score)) => Some(*score),
        _ => None,
    };
    let score = score.filter(|score| (0.0..GREATEST).contains(score)).ok_or_else(unexpected)?;
    Ok(score as Number)
}

fn unexpected() -> StoreError {
    StoreError::with_detail(StoreErrorKind::Protocol, "no purge clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn an_answer_is_read_as_it_is_meant_or_not_at_all() {
        let records = Value::Array(vec![text("f:1"), text("5"), text("t:a"), text("1764194637123456")]);
        let answer = Value::Array(vec![text("f:1"), text("5"), text("1764194637123456"), records]);
        let page = decode(answer).unwrap();
        assert_eq!((page.floor, page.highest), (5, 1_764_194_637_123_456));
        assert_eq!(page.records, [(Member::tag("a").unwrap(), 1_764_194_637_123_456)]);
        for score in ["-1", "nan", "inf", "1e17", "x", ""] {
            assert!(number(Some(&text(score))).is_err(), "{score}");
        }
        assert!(decode(Value::Nil).is_err() && decode(Value::Array(vec![text("f:1")])).is_err());
    }
}
