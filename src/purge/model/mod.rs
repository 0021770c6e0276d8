//! The purge clock under random schedules: instances that fetch, purge and read as they please, a store that loses what it
//! likes, and one rule: what an instance serves was not asked for before a purge that it has to know of.
//!
//! The law is the real one; the store is a model of the scripts. Each rule is broken once, and must be missed.

mod store;

use self::store::{Call, Entry, Recorded, Store};
use super::clock::{Clock, Verdict};
use super::label::{Label, Number, Stamp};
use super::reading::{Cursor, Heard, Making, Next, Page, Reading};
use super::target::Member;
use crate::key::CacheKey;

const INSTANCES: usize = 3;
const KEYS: usize = 3;
const TAGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const MAX_RECORDS: usize = 4;
const PAGE: usize = 2;
/// `max_unsynced`, in steps.
const UNSYNCED: u64 = 40;
const STEPS: usize = 400;
const SCHEDULES: u64 = 8_000;
/// Schedules in which a broken rule has to show.
const CHANCES: u64 = 25_000;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// A rule that is broken on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Broken {
            Nothing,
            $($(#[$doc])* $name,)+
        }

        const RULES: &[Broken] = &[$(Broken::$name,)+];
    };
}

rules! {
    /// A fetch is stamped when it is over.
    StampedLate,
    /// A clock that is gone is made anew as if nothing had been stored before.
    NoFloorWhenLost,
    /// What is made anew has the name of what was lost.
    OneMaking,
    /// An older making that comes back is taken as it is.
    NoRenewal,
    /// What follows a number is read, whatever server that is.
    DeltasForEver,
    /// Records that a server has lost stay lost.
    NoRestoring,
    /// The oldest records go, and the floor stays.
    NoFloorAtTheCap,
    /// The floor of the store is not looked at.
    FloorUnread,
    /// What was stamped with what is not known is good.
    AheadIsGood,
    /// A copy of any age is trusted.
    UnsyncedForEver,
    /// Written to a server of which nothing was read.
    WritingBlindly,
    /// What a server says of a purge counts when another has taken its place.
    LateAnswers,
    /// Who has purged takes all that was purged before for known.
    OwnPurgeClaimsAll,
    /// What was learnt while the store was read counts for all readings to come.
    UnreadForEver,
}

use Broken::*;

// ===== The instances =====

#[derive(Debug)]
struct Fetch {
    key: usize,
    /// The connection over which it is stamped.
    generation: u64,
    entry: Entry,
    /// What it validates.
    of: Option<Entry>,
}

#[derive(Debug)]
struct Instance {
    clock: Clock,
    cursor: Option<Cursor>,
    generation: u64,
    /// What is being read, since when, over which connection.
    reading: Option<(Reading, u64, u64)>,
    /// A page on its way here.
    page: Option<Page>,
    /// What the store has lost, before it is recorded anew.
    mending: Option<Next>,
    /// Own purges whose numbers are on their way here, over which connection.
    purging: Vec<(usize, Recorded, u64)>,
    /// When the last reading began that came to something, and over which connection.
    synced: Option<(u64, u64)>,
    fetches: Vec<Fetch>,
    near: [Option<(u64, Entry)>; KEYS],
}

impl Instance {
    fn new(generation: u64) -> Self {
        Self {
            clock: Clock::new(MAX_RECORDS),
            cursor: None,
            generation,
            reading: None,
            page: None,
            mending: None,
            purging: Vec::new(),
            synced: None,
            fetches: Vec::new(),
            near: std::array::from_fn(|_| None),
        }
    }

    /// Whether what is known was read over the present connection.
    fn is_current(&self) -> bool {
        self.synced.is_some_and(|(_, generation)| generation == self.generation)
    }
}

/// A purge that somebody was told is done.
#[derive(Debug)]
struct Purge {
    tag: usize,
    recorded: u64,
    /// Whoever asked for it has heard so.
    is_done: bool,
    /// Since when the store has it, if it has.
    holds: Option<u64>,
    known_to: [bool; INSTANCES],
}

// ===== The world =====

struct World {
    random: fastrand::Rng,
    broken: Broken,
    step: u64,
    /// The clock of the store.
    now: Number,
    store: Store,
    /// What another server knows, and since when.
    replica: (Store, u64),
    instances: Vec<Instance>,
    purges: Vec<Purge>,
    served: u64,
}

impl World {
    fn new(seed: u64, broken: Broken) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            broken,
            step: 1,
            now: 1000,
            store: Store::default(),
            replica: (Store::default(), 0),
            instances: (0..INSTANCES).map(|_| Instance::new(1)).collect(),
            purges: Vec::new(),
            served: 0,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step += 1;
            self.now += self.random.u64(0..8);
            let who = self.random.usize(0..INSTANCES);
            let key = self.random.usize(0..KEYS);
            match self.random.u32(0..100) {
                0..20 => self.reads(who),
                20..35 => self.begins_to_fetch(who, key),
                35..50 => self.is_done_with_a_fetch(who),
                50..72 => self.looks_up(who, key)?,
                72..79 => self.purges(who),
                79..84 => self.has_purged(who),
                84..88 => self.replica = (self.store.clone(), self.step),
                88..91 => self.fails_over(),
                91 => {
                    (self.store.making, self.store.floor) = {
                        self.store.records.clear();
                        (Making::default(), 0)
                    }
                }
                92..94 => self.now = self.now.saturating_sub(self.random.u64(1..400)).max(1),
                94 => self.now += self.random.u64(1..400),
                95..97 => self.instances[who].generation += 1,
                97 => self.store.cells[key] = None,
                98 => {
                    self.instances[who] = Instance::new(self.instances[who].generation + 1);
                    self.purges.iter_mut().for_each(|purge| purge.known_to[who] = false);
                }
                _ => self.step += UNSYNCED / 2,
            }
        }
        (0..INSTANCES).for_each(|who| {
            while !self.instances[who].purging.is_empty() {
                self.has_purged(who);
            }
        });
        (0..INSTANCES).for_each(|who| self.syncs(who));
        for who in 0..INSTANCES {
            (0..4).for_each(|_| self.syncs(who));
            (0..KEYS).try_for_each(|key| self.looks_up(who, key))?;
        }
        Ok(())
    }

    fn call(&mut self, who: usize) -> Call {
        let clock = &self.instances[who].clock;
        let Stamp { incarnation, .. } = clock.stamp();
        Call { known: clock.top(), making: Making::after([incarnation], self.random.u64(1..)), ..Call::default() }
    }

    /// A server that has not heard of the last writes takes over.
    fn fails_over(&mut self) {
        // Its clock may be behind.
        self.now = self.now.saturating_sub(self.random.u64(0..100)).max(1);
        self.store = self.replica.0.clone();
        for purge in &mut self.purges {
            purge.holds = purge.holds.filter(|since| *since <= self.replica.1);
        }
        self.instances.iter_mut().for_each(|instance| instance.generation += 1);
    }

    /// A step of reading: a page is asked for, or comes, or what is lost is recorded anew.
    fn reads(&mut self, who: usize) {
        if let Some(next) = self.instances[who].mending.take() {
            // Or it is not: the store takes no writes for now.
            if self.random.u32(0..4) > 0 {
                self.mends(who, next);
            }
            return;
        }
        let call = self.call(who);
        let broken = self.broken;
        let instance = &mut self.instances[who];
        let over = if broken == DeltasForEver { 1 } else { instance.generation };
        let (mut reading, since, generation) = instance.reading.take().unwrap_or_else(|| {
            let unread = *instance.clock.unread();
            instance.clock.begin_reading(Some(instance.generation));
            if broken == UnreadForEver {
                *instance.clock.unread() = unread;
            }
            (Reading::begin(instance.cursor.take(), Some(over)), self.step, instance.generation)
        });
        let Some(page) = instance.page.take() else {
            let mut page = self.store.page(&call, self.now, reading.after(), broken);
            if broken == NoRenewal {
                page.making.replaces.push(instance.clock.stamp().incarnation);
            }
            (instance.page, instance.reading) = (Some(page), Some((reading, since, generation)));
            return;
        };
        let whole = match reading.hear(page) {
            Heard::More => {
                instance.reading = Some((reading, since, generation));
                return;
            }
            Heard::Whole(whole) if generation == instance.generation => whole,
            Heard::Again | Heard::Whole(_) => return,
        };
        match (instance.clock.take(&whole), broken) {
            (Next::InStep, _) | (Next::Restore { .. }, NoRestoring) => {
                instance.cursor = Some(whole.cursor(over));
                self.is_in_step(who, since, true);
            }
            (next @ Next::Restore { .. }, _) => {
                instance.cursor = Some(whole.cursor(over));
                instance.mending = Some(next);
                self.is_in_step(who, since, false);
            }
            (next, _) => instance.mending = Some(next),
        }
    }

    fn is_in_step(&mut self, who: usize, since: u64, has_all: bool) {
        let instance = &mut self.instances[who];
        instance.synced = Some((since, instance.generation));
        for purge in &mut self.purges {
            // Whoever knew it has seen to it by now; whoever did not learns what was there.
            if has_all && purge.known_to[who] && purge.holds.is_none() {
                purge.holds = Some(self.step);
            }
            purge.known_to[who] |= purge.holds.is_some_and(|held| held <= since);
        }
    }

    fn mends(&mut self, who: usize, next: Next) {
        let call = self.call(who);
        let (now, broken) = (self.now, self.broken);
        match next {
            Next::InStep => {}
            Next::Renew(replaced) => {
                let past = [replaced, self.instances[who].clock.stamp().incarnation];
                let making = Making::after(past, call.making.id);
                self.store.page(&Call { making, replaced: Some(replaced), ..call }, now, None, broken);
            }
            Next::Restore { lost, floor } => {
                let recorded = self.store.purge(&Call { floor, ..call }, now, &lost, broken);
                self.learns(who, &lost, recorded);
            }
        }
    }

    fn learns(&mut self, who: usize, members: &[Member], recorded: Recorded) -> bool {
        let Recorded { making, first, before } = recorded;
        let Instance { clock, generation, .. } = &mut self.instances[who];
        let before = if self.broken == OwnPurgeClaimsAll { clock.stamp().number } else { before };
        clock.learn(members, (making, Some(*generation)), first, before)
    }

    /// Reads until the copy and the store are in step.
    fn syncs(&mut self, who: usize) {
        let before = self.instances[who].synced;
        (self.instances[who].reading, self.instances[who].page) = (None, None);
        for _ in 0..80 {
            self.step += 1;
            self.reads(who);
            if self.instances[who].synced != before {
                return;
            }
        }
    }

    fn purges(&mut self, who: usize) {
        let (call, tag) = (self.call(who), self.random.usize(0..TAGS.len()));
        let member = [Member::tag(TAGS[tag]).expect("a tag")];
        let recorded = self.store.purge(&call, self.now, &member, self.broken);
        let known_to = [false; INSTANCES];
        let generation = self.instances[who].generation;
        self.instances[who].purging.push((self.purges.len(), recorded, generation));
        self.purges.push(Purge { tag, recorded: self.step, is_done: false, holds: Some(self.step), known_to });
    }

    /// The number of an own purge comes here.
    fn has_purged(&mut self, who: usize) {
        if self.instances[who].purging.is_empty() {
            return;
        }
        let one = self.random.usize(0..self.instances[who].purging.len());
        let (purge, recorded, generation) = self.instances[who].purging.swap_remove(one);
        let member = [Member::tag(TAGS[self.purges[purge].tag]).expect("a tag")];
        let before = self.instances[who].synced;
        if generation != self.instances[who].generation && self.broken != LateAnswers {
            // The server that has it may be gone: nobody is told that it is done.
            return;
        }
        let is_of_this_making = recorded.making == self.instances[who].clock.stamp().incarnation;
        if !self.learns(who, &member, recorded) {
            self.syncs(who);
            if self.instances[who].synced == before {
                // It failed, as far as anybody can tell.
                return;
            }
        }
        self.purges[purge].is_done = true;
        self.purges[purge].known_to[who] |= is_of_this_making;
    }

    fn begins_to_fetch(&mut self, who: usize, key: usize) {
        let of = self.store.cells[key].clone().filter(|_| self.random.bool());
        let instance = &mut self.instances[who];
        let judge = |entry: &Entry| instance.clock.judge(&CacheKey::from("k"), &entry.label);
        let of = of.filter(|entry| judge(entry) == Verdict::Good);
        if instance.fetches.len() < 4 {
            let tags = TAGS.iter().filter(|_| self.random.bool()).map(|tag| Box::from(*tag)).collect();
            let tags = of.as_ref().map_or(tags, |entry| entry.label.tags.clone());
            let stamp = if instance.is_current() { instance.clock.stamp() } else { Stamp::default() };
            let entry = Entry { label: Label { stamp, tags, ..Label::default() }, began: self.step };
            instance.fetches.push(Fetch { key, generation: instance.generation, entry, of });
        }
    }

    fn is_done_with_a_fetch(&mut self, who: usize) {
        let instance = &self.instances[who];
        if instance.fetches.is_empty() {
            return;
        }
        let one = self.random.usize(0..instance.fetches.len());
        let instance = &mut self.instances[who];
        let Fetch { key, generation, mut entry, of } = instance.fetches.swap_remove(one);
        let is_purged = |entry: &Entry| instance.clock.judge(&CacheKey::from("k"), &entry.label) == Verdict::Purged;
        if let Some(validated) = of {
            if is_purged(&validated) {
                return;
            }
            // It is as old as it was.
            entry.began = validated.began;
        }
        if self.broken == StampedLate {
            entry.label.stamp = instance.clock.stamp();
        }
        let is_purged = is_purged(&entry);
        if !is_purged && (generation == instance.generation || self.broken == WritingBlindly) {
            instance.near[key] = Some((generation, entry.clone()));
            self.store.cells[key] = Some(entry);
        }
    }

    fn looks_up(&mut self, who: usize, key: usize) -> Result<(), String> {
        let is_in_sync =
            |instance: &Instance, step: u64| instance.synced.is_some_and(|(since, _)| step - since <= UNSYNCED);
        let near = self.instances[who].near[key].clone();
        if let Some((generation, entry)) = near
            && self.instances[who].synced.is_some_and(|(_, over)| over == generation)
            && (is_in_sync(&self.instances[who], self.step) || self.broken == UnsyncedForEver)
            && self.instances[who].clock.judge(&CacheKey::from("k"), &entry.label) == Verdict::Good
        {
            self.serves(who, &entry, false)?;
        }
        let Some(entry) = self.store.cells[key].clone() else { return Ok(()) };
        let is_strict = self.random.bool();
        let is_told = |world: &Self| {
            let instance = &world.instances[who];
            let newest = world.store.highest().map(|number| Stamp { incarnation: world.store.making.id, number });
            instance.is_current() && newest == Some(instance.clock.stamp())
        };
        let is_current = self.instances[who].is_current();
        if !is_current || (is_strict && !is_told(self)) {
            let before = self.instances[who].synced;
            self.syncs(who);
            if self.instances[who].synced == before {
                return Ok(());
            }
        }
        if !is_in_sync(&self.instances[who], self.step) && self.broken != UnsyncedForEver {
            self.syncs(who);
            if !is_in_sync(&self.instances[who], self.step) {
                return Ok(());
            }
        }
        let judge = |world: &Self| match world.instances[who].clock.judge(&CacheKey::from("k"), &entry.label) {
            Verdict::Ahead if world.broken == AheadIsGood => Verdict::Good,
            verdict => verdict,
        };
        let mut verdict = judge(self);
        if verdict == Verdict::Ahead {
            self.syncs(who);
            verdict = judge(self);
        }
        let clock = &mut self.instances[who].clock;
        match verdict {
            Verdict::Good => {
                let generation = self.instances[who].generation;
                self.instances[who].near[key] = Some((generation, entry.clone()));
                self.serves(who, &entry, is_strict)?;
            }
            Verdict::Ahead if entry.label.stamp.incarnation == clock.stamp().incarnation => {
                clock.raise_floor(entry.label.stamp.number + 1);
            }
            Verdict::Ahead | Verdict::Purged | Verdict::Stale(_) => {}
        }
        Ok(())
    }

    /// The rule.
    fn serves(&mut self, who: usize, entry: &Entry, is_strict: bool) -> Result<(), String> {
        self.served += 1;
        let synced = self.instances[who].synced.map_or(0, |(since, _)| since);
        for purge in &self.purges {
            let covers = entry.label.tags.iter().any(|tag| **tag == *TAGS[purge.tag]);
            if !covers || entry.began >= purge.recorded {
                continue;
            }
            let is_heard = |held| synced >= held || self.step > held + UNSYNCED || (is_strict && purge.is_done);
            if purge.known_to[who] || purge.holds.is_some_and(is_heard) {
                let Self { step, .. } = self;
                return Err(format!("{who} at {step}, synced {synced}, serves {entry:?}, purged by {purge:?}"));
            }
        }
        Ok(())
    }
}

#[test]
fn nothing_is_served_that_was_asked_for_before_a_purge() {
    let mut served = 0;
    for seed in 0..SCHEDULES {
        let mut world = World::new(seed, Nothing);
        if let Err(breach) = world.run() {
            panic!("seed {seed}: {breach}");
        }
        served += world.served;
    }
    assert!(served > 4 * SCHEDULES, "{served} served in {SCHEDULES} schedules");
}

#[test]
fn each_rule_is_missed_when_it_is_broken() {
    let missed = |broken| (0..CHANCES).all(|seed| World::new(seed, broken).run().is_ok());
    let unseen: Vec<_> = RULES.iter().filter(|broken| missed(**broken)).collect();
    assert!(unseen.is_empty(), "nobody misses {unseen:?}");
}
