//! The purge clock under random schedules: instances that fetch, purge and read as they please, a store that loses what it
//! likes, and one rule: what an instance serves was not asked for before a purge that it has to know of.
//!
//! The law is the real one; the store is a model of the scripts. Each rule is broken once, and must be missed.

use std::collections::BTreeMap;

use super::clock::{Clock, Verdict};
use super::label::{Incarnation, Label, Number, Stamp};
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
const STEPS: usize = 250;
const SCHEDULES: u64 = 8_000;
/// Schedules in which a broken rule has to show.
const CHANCES: u64 = 5_000;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
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
}

use Broken::*;

// ===== The store =====

#[derive(Clone, Debug, Default)]
struct Store {
    making: Making,
    floor: Number,
    records: BTreeMap<Number, Member>,
    cells: [Option<Entry>; KEYS],
}

#[derive(Clone, Debug)]
struct Entry {
    label: Label,
    began: u64,
}

impl Store {
    fn highest(&self) -> Option<Number> {
        let top = self.records.last_key_value().map(|(number, _)| *number);
        (self.making.id != 0).then(|| top.unwrap_or_default().max(self.floor))
    }

    fn make_anew(&mut self, making: Making, floor: Number, broken: Broken) {
        self.records.clear();
        (self.making, self.floor) = (making, floor);
        match broken {
            OneMaking => self.making = Making::after([], 7),
            NoFloorWhenLost => (self.making, self.floor) = (Making::after([], 7), 1),
            _ => {}
        }
    }

    /// `purge.lua`.
    fn purge(&mut self, call: &Call, now: Number, member: &[Member], broken: Broken) -> (Incarnation, Number) {
        let mut next = now.max(self.highest().unwrap_or_default() + 1).max(call.known + 1);
        let mut floor = call.floor;
        if self.making.id == 0 {
            self.make_anew(call.making.clone(), next, broken);
            next += 1;
        }
        let first = next;
        for member in member {
            self.records.retain(|_, known| known != member);
            self.records.insert(next, member.clone());
            next += 1;
        }
        if let Some(surplus) = self.records.len().checked_sub(MAX_RECORDS + 1) {
            let oldest = *self.records.keys().nth(surplus).expect("more than the cap");
            match broken {
                NoFloorAtTheCap => self.records.retain(|number, _| *number > oldest),
                _ => floor = floor.max(oldest),
            }
        }
        self.floor = self.floor.max(floor);
        self.records.retain(|number, _| *number > self.floor);
        (self.making.id, first)
    }

    /// `clock.lua`.
    fn page(&mut self, call: &Call, now: Number, after: Option<Number>, broken: Broken) -> Page {
        if self.making.id == 0 || call.replaced == Some(self.making.id) {
            let floor = now.max(self.highest().unwrap_or_default() + 1).max(call.known + 1);
            self.make_anew(call.making.clone(), floor, broken);
        }
        let records = self.records.range(after.map_or(0, |after| after + 1)..).take(PAGE);
        Page {
            making: self.making.clone(),
            floor: if broken == FloorUnread { 1 } else { self.floor },
            highest: self.highest().expect("there is one"),
            records: records.map(|(number, member)| (member.clone(), *number)).collect(),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Call {
    known: Number,
    making: Making,
    floor: Number,
    replaced: Option<Incarnation>,
}

// ===== The instances =====

#[derive(Debug)]
struct Instance {
    clock: Clock,
    cursor: Option<Cursor>,
    generation: u64,
    /// What is being read, since when, over which connection.
    reading: Option<(Reading, u64, u64)>,
    /// When the last reading began that came to something, and over which connection.
    synced: Option<(u64, u64)>,
    /// With the connection over which it is stamped.
    fetches: Vec<(usize, u64, Entry)>,
    near: [Option<(u64, Entry)>; KEYS],
}

impl Instance {
    fn new(generation: u64) -> Self {
        let (clock, near) = (Clock::new(MAX_RECORDS), std::array::from_fn(|_| None));
        Self { clock, cursor: None, generation, reading: None, synced: None, fetches: Vec::new(), near }
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
                72..84 => self.purges(who),
                84..88 => self.replica = (self.store.clone(), self.step),
                88..90 => self.fails_over(),
                90..92 => {
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
        (0..INSTANCES).for_each(|who| self.syncs(who));
        for who in 0..INSTANCES {
            (0..4).for_each(|_| self.syncs(who));
            (0..KEYS).try_for_each(|key| self.looks_up(who, key))?;
        }
        Ok(())
    }

    fn call(&mut self, who: usize) -> Call {
        let Stamp { incarnation, number } = self.instances[who].clock.stamp();
        Call { known: number, making: Making::after([incarnation], self.random.u64(1..)), ..Call::default() }
    }

    /// A server that has not heard of the last writes takes over.
    fn fails_over(&mut self) {
        self.store = self.replica.0.clone();
        for purge in &mut self.purges {
            purge.holds = purge.holds.filter(|since| *since <= self.replica.1);
        }
        self.instances.iter_mut().for_each(|instance| instance.generation += 1);
    }

    /// A step of reading: a page, and what follows from the last.
    fn reads(&mut self, who: usize) {
        let call = self.call(who);
        let broken = self.broken;
        let instance = &mut self.instances[who];
        let over = if broken == DeltasForEver { 1 } else { instance.generation };
        let (mut reading, since, generation) = instance.reading.take().unwrap_or_else(|| {
            (Reading::begin(instance.cursor.take(), Some(over), PAGE), self.step, instance.generation)
        });
        let mut page = self.store.page(&call, self.now, reading.after(), broken);
        if broken == NoRenewal {
            page.making.replaces.push(instance.clock.stamp().incarnation);
        }
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
                self.is_in_step(who, since);
            }
            (next, _) => self.mends(who, next),
        }
    }

    fn is_in_step(&mut self, who: usize, since: u64) {
        let instance = &mut self.instances[who];
        instance.synced = Some((since, instance.generation));
        for purge in &mut self.purges {
            // Whoever knew it has seen to it by now; whoever did not learns what was there.
            if purge.known_to[who] && purge.holds.is_none() {
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

    fn learns(&mut self, who: usize, members: &[Member], (making, first): (Incarnation, Number)) {
        let clock = &mut self.instances[who].clock;
        if clock.stamp().incarnation == making {
            members.iter().zip(first..).for_each(|(member, number)| clock.record(member.clone(), number));
        }
    }

    /// Reads until the copy and the store are in step.
    fn syncs(&mut self, who: usize) {
        let before = self.instances[who].synced;
        self.instances[who].reading = None;
        for _ in 0..40 {
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
        self.learns(who, &member, recorded);
        let mut known_to = [false; INSTANCES];
        known_to[who] = true;
        self.purges.push(Purge { tag, recorded: self.step, holds: Some(self.step), known_to });
        if recorded.0 != self.instances[who].clock.stamp().incarnation {
            self.syncs(who);
        }
    }

    fn begins_to_fetch(&mut self, who: usize, key: usize) {
        let instance = &mut self.instances[who];
        if instance.fetches.len() < 4 {
            let tags = TAGS.iter().filter(|_| self.random.bool()).map(|tag| Box::from(*tag)).collect();
            let stamp = if instance.is_current() { instance.clock.stamp() } else { Stamp::default() };
            let label = Label { stamp, tags, ..Label::default() };
            instance.fetches.push((key, instance.generation, Entry { label, began: self.step }));
        }
    }

    fn is_done_with_a_fetch(&mut self, who: usize) {
        let instance = &self.instances[who];
        if instance.fetches.is_empty() {
            return;
        }
        let one = self.random.usize(0..instance.fetches.len());
        let instance = &mut self.instances[who];
        let (key, generation, mut entry) = instance.fetches.swap_remove(one);
        if self.broken == StampedLate {
            entry.label.stamp = instance.clock.stamp();
        }
        let is_purged = instance.clock.judge(&CacheKey::from("k"), &entry.label) == Verdict::Purged;
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
            self.serves(who, &entry)?;
        }
        let Some(entry) = self.store.cells[key].clone() else { return Ok(()) };
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
                self.serves(who, &entry)?;
            }
            Verdict::Ahead if entry.label.stamp.incarnation == clock.stamp().incarnation => {
                clock.raise_floor(entry.label.stamp.number + 1);
            }
            Verdict::Ahead | Verdict::Purged | Verdict::Stale(_) => {}
        }
        Ok(())
    }

    /// The rule.
    fn serves(&mut self, who: usize, entry: &Entry) -> Result<(), String> {
        self.served += 1;
        let synced = self.instances[who].synced.map_or(0, |(since, _)| since);
        for purge in &self.purges {
            let covers = entry.label.tags.iter().any(|tag| **tag == *TAGS[purge.tag]);
            let Some(held) = purge.holds.filter(|_| covers && entry.began < purge.recorded) else { continue };
            if synced >= held || self.step > held + UNSYNCED {
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
    let all = [
        StampedLate,
        NoFloorWhenLost,
        OneMaking,
        NoRenewal,
        DeltasForEver,
        NoRestoring,
        NoFloorAtTheCap,
        FloorUnread,
        AheadIsGood,
        UnsyncedForEver,
        WritingBlindly,
    ];
    let shown = all.map(|broken| (0..CHANCES).find(|seed| World::new(*seed, broken).run().is_err()));
    let seeds: Vec<_> = all.into_iter().zip(shown).collect();
    assert!(shown.iter().all(Option::is_some), "{seeds:?}");
}
