//! The purge clock as one instance has it: the copy that everybody here reads, and how old it is.
//!
//! Who keeps it is the store's affair; whoever needs it newer than it is says so and waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::clock::{Clock, Verdict};
use super::label::{Incarnation, Label, Number, Stamp};
use super::reading::{Next, Whole};
use super::target::Member;
use crate::clock::Stopwatch;
use crate::error::{StoreError, StoreErrorKind};
use crate::key::CacheKey;
use crate::semantics::vary::VariantKey;
use crate::store::entry::Chunks;

/// How the plane is kept, and how far it can be trusted.
#[derive(Debug)]
pub(crate) struct Plane {
    clock: RwLock<Clock>,
    /// What is stamped so is good, and it is known without the lock; the number is 0 where there is no such stamp.
    newest: (AtomicU64, AtomicU64),
    /// Readings that have begun.
    begun: AtomicU64,
    reading: watch::Sender<Reading>,
    wanted: Notify,
    dead: Mutex<Vec<Dead>>,
    is_denied: AtomicBool,
    /// A copy that was read longer ago is not trusted; `None` where there is no other than this.
    max_unsynced: Option<Duration>,
}

/// A cell that was found purged, and has yet to be removed.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) key: CacheKey,
    pub(crate) variant: Option<VariantKey>,
    pub(crate) chunks: Option<Chunks>,
}

/// Dead cells that wait to be removed; one more ends by itself.
const MAX_DEAD: usize = 1024;

/// What is known of the last reading.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    /// Its place among all.
    number: u64,
    /// When it began: what was purged by then is known.
    since: Option<Stopwatch>,
    /// Over which connection.
    generation: Option<u64>,
    /// The place of the last one that came to nothing.
    failed: u64,
    /// That was the last one of all: the next is not to be waited for.
    is_failing: bool,
}

impl Plane {
    /// A copy of a clock that others write to as well. Before it is first read, nothing is good.
    pub(crate) fn shared(max_records: usize, max_unsynced: Duration) -> Self {
        Self::new(Clock::new(max_records), Some(max_unsynced))
    }

    /// The clock itself.
    pub(crate) fn own(max_records: usize) -> Self {
        Self::new(Clock::own(max_records), None)
    }

    fn new(clock: Clock, max_unsynced: Option<Duration>) -> Self {
        let Stamp { incarnation, number } = clock.stamp();
        Self {
            newest: (AtomicU64::new(incarnation), AtomicU64::new(number)),
            clock: RwLock::new(clock),
            begun: AtomicU64::new(0),
            reading: watch::Sender::new(Reading::default()),
            wanted: Notify::new(),
            dead: Mutex::default(),
            is_denied: AtomicBool::new(false),
            max_unsynced,
        }
    }

    /// What a fetch that sets out now is stamped with.
    pub(crate) fn stamp(&self) -> Stamp {
        self.read().stamp()
    }

    /// See [`Clock::top`].
    pub(crate) fn top(&self) -> Number {
        self.read().top()
    }

    pub(crate) fn records(&self) -> usize {
        self.read().len()
    }

    /// Whether the copy is young enough to be trusted.
    pub(crate) fn is_in_sync(&self) -> bool {
        let Some(most) = self.max_unsynced else { return true };
        let reading = *self.reading.borrow();
        reading.since.is_some_and(|since| since.elapsed() <= most)
    }

    /// Whether there is no clock to be had: nothing can have been purged through it.
    pub(crate) fn is_denied(&self) -> bool {
        self.is_denied.load(Ordering::Acquire)
    }

    /// Whether nothing is known yet.
    pub(crate) fn is_unread(&self) -> bool {
        self.newest.0.load(Ordering::Acquire) == 0
    }

    /// The connection over which it was last read.
    pub(crate) fn read_over(&self) -> Option<u64> {
        self.reading.borrow().generation.filter(|_| !self.is_denied())
    }

    /// Whether it was last read over this connection.
    pub(crate) fn is_read_over(&self, generation: Option<u64>) -> bool {
        self.max_unsynced.is_none() || self.is_denied() || self.reading.borrow().generation == generation
    }

    /// Whether nothing can have been purged since, as far as is known. The order tells: an incarnation is never had twice.
    fn is_newest(&self, stamp: Stamp) -> bool {
        stamp.number > 0
            && self.newest.1.load(Ordering::Acquire) == stamp.number
            && self.newest.0.load(Ordering::Acquire) == stamp.incarnation
    }

    pub(crate) fn judge(&self, key: &CacheKey, label: &Label) -> Verdict {
        if self.is_denied() {
            return Verdict::Good;
        }
        match self.is_newest(label.stamp) {
            true => Verdict::Good,
            false => self.read().judge(key, label),
        }
    }

    /// Whether it is known to have been purged since.
    pub(crate) fn is_outdated(&self, key: &CacheKey, label: &Label) -> bool {
        !self.is_unread() && matches!(self.judge(key, label), Verdict::Purged | Verdict::Stale(_))
    }

    /// Whether it is known that nothing may be made of it any more.
    pub(crate) fn is_purged(&self, key: &CacheKey, label: &Label) -> bool {
        !self.is_unread() && self.judge(key, label) == Verdict::Purged
    }

    /// Waits until the copy is young enough.
    pub(crate) async fn synced(&self) -> Result<(), StoreError> {
        match self.is_in_sync() || self.is_denied() {
            true => Ok(()),
            false => self.synced_anew().await,
        }
    }

    /// Waits until the copy has been read anew, from now on.
    pub(crate) async fn synced_anew(&self) -> Result<(), StoreError> {
        if self.max_unsynced.is_none() {
            return Ok(());
        }
        let next = self.begun.load(Ordering::Acquire) + 1;
        self.wanted.notify_one();
        let mut reading = self.reading.subscribe();
        if reading.borrow().is_failing {
            return Err(unreadable());
        }
        match reading.wait_for(|reading| reading.number.max(reading.failed) >= next).await {
            Ok(reading) if reading.number >= next => Ok(()),
            _ => Err(unreadable()),
        }
    }

    /// Whoever keeps the copy waits for this between two readings.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Somebody has heard that there is something new.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// A reading begins.
    pub(crate) fn begin(&self) -> Begun {
        Begun { number: self.begun.fetch_add(1, Ordering::AcqRel) + 1, since: Stopwatch::start() }
    }

    /// All that was there when the reading began, over this connection, is known.
    pub(crate) fn has_read(&self, begun: Begun, generation: u64) {
        self.is_denied.store(false, Ordering::Release);
        self.reading.send_modify(|reading| {
            (reading.number, reading.since) = (begun.number, Some(begun.since));
            (reading.generation, reading.is_failing) = (Some(generation), false);
        });
    }

    /// It came to nothing: whoever waits for it waits in vain.
    pub(crate) fn has_failed(&self, begun: Begun) {
        self.reading.send_modify(|reading| (reading.failed, reading.is_failing) = (begun.number, true));
    }

    /// The store has no clock for this user.
    pub(crate) fn deny(&self, begun: Begun) {
        self.is_denied.store(true, Ordering::Release);
        self.reading.send_modify(|reading| {
            (reading.number, reading.since, reading.is_failing) = (begun.number, None, false);
        });
    }

    /// See [`Clock::begin_reading`].
    pub(crate) fn begin_reading(&self, way: Option<u64>) {
        self.write(|clock| clock.begin_reading(way));
    }

    /// See [`Clock::take`].
    pub(crate) fn take(&self, whole: &Whole) -> Next {
        self.write(|clock| clock.take(whole))
    }

    /// See [`Clock::learn`].
    pub(crate) fn learn(
        &self,
        members: &[Member],
        from: (Incarnation, Option<u64>),
        first: Number,
        before: Number,
    ) -> bool {
        self.write(|clock| clock.learn(members, from, first, before))
    }

    /// The same for a clock that is nobody else's, under numbers no smaller than `now`, in microseconds since 1970.
    pub(crate) fn record_own(&self, members: &[Member], now: Number) -> Number {
        self.write(|clock| {
            let Stamp { incarnation, number: before } = clock.stamp();
            let first = now.max(before + 1);
            clock.learn(members, (incarnation, None), first, before);
            clock.stamp().number
        })
    }

    /// Nothing that set out before this number is good any more.
    pub(crate) fn raise_floor(&self, floor: Number) {
        self.write(|clock| clock.raise_floor(floor));
    }

    /// Whoever comes next removes it.
    pub(crate) fn bury(&self, dead: Dead) {
        if let Ok(mut waiting) = self.dead.lock()
            && waiting.len() < MAX_DEAD
        {
            waiting.push(dead);
        }
    }

    /// What is to be removed now.
    pub(crate) fn take_dead(&self) -> Vec<Dead> {
        self.dead.lock().map_or_else(|_| Vec::new(), |mut dead| std::mem::take(&mut *dead))
    }

    /// No panic can leave the clock half changed.
    fn read(&self) -> RwLockReadGuard<'_, Clock> {
        self.clock.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, change: impl FnOnce(&mut Clock) -> T) -> T {
        let mut clock = self.clock.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut clock);
        let Stamp { incarnation, number } = clock.stamp();
        let number = if clock.is_plain() { number } else { 0 };
        // In this order: see `is_newest`.
        self.newest.0.store(incarnation, Ordering::Release);
        self.newest.1.store(number, Ordering::Release);
        changed
    }
}

fn unreadable() -> StoreError {
    StoreError::with_detail(StoreErrorKind::Unavailable, "the purge clock cannot be read")
}

/// A reading that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    number: u64,
    since: Stopwatch,
}
