//! The store as the model has it: what the scripts do, and what a server can lose.

use std::collections::BTreeMap;

use super::Broken::{self, *};
use super::{KEYS, MAX_RECORDS, PAGE};
use crate::purge::label::{Incarnation, Label, Number};
use crate::purge::reading::{Making, Page};
use crate::purge::target::Member;

#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) making: Making,
    pub(super) floor: Number,
    pub(super) records: BTreeMap<Number, Member>,
    pub(super) cells: [Option<Entry>; KEYS],
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) label: Label,
    pub(super) began: u64,
}

impl Store {
    pub(super) fn highest(&self) -> Option<Number> {
        let top = self.records.last_key_value().map(|(number, _)| *number);
        (self.making.id != 0).then(|| top.unwrap_or_default().max(self.floor))
    }

    pub(super) fn make_anew(&mut self, making: Making, floor: Number, broken: Broken) {
        self.records.clear();
        (self.making, self.floor) = (making, floor);
        match broken {
            OneMaking => self.making = Making::after([], 7),
            NoFloorWhenLost => (self.making, self.floor) = (Making::after([], 7), 1),
            _ => {}
        }
    }

    /// `purge.lua`.
    pub(super) fn purge(&mut self, call: &Call, now: Number, member: &[Member], broken: Broken) -> Recorded {
        let mut next = now.max(self.highest().unwrap_or_default() + 1).max(call.known + 1);
        let mut floor = call.floor;
        if self.making.id == 0 {
            self.make_anew(call.making.clone(), next, broken);
            next += 1;
        }
        let before = self.highest().unwrap_or_default();
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
        Recorded { making: self.making.id, first, before }
    }

    /// `clock.lua`.
    pub(super) fn page(&mut self, call: &Call, now: Number, after: Option<Number>, broken: Broken) -> Page {
        if self.making.id == 0 || call.replaced == Some(self.making.id) {
            let floor = now.max(self.highest().unwrap_or_default() + 1).max(call.known + 1);
            self.make_anew(call.making.clone(), floor, broken);
        }
        let records = self.records.range(after.map_or(0, |after| after + 1)..);
        let records: Vec<_> = records.take(PAGE).map(|(number, member)| (member.clone(), *number)).collect();
        Page {
            making: self.making.clone(),
            floor: if broken == FloorUnread { 1 } else { self.floor },
            highest: self.highest().expect("there is one"),
            next: records.last().filter(|_| records.len() == PAGE).map(|(_, number)| *number),
            records,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) known: Number,
    pub(super) making: Making,
    pub(super) floor: Number,
    pub(super) replaced: Option<Incarnation>,
}

/// What the store says of a purge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded {
    pub(super) making: Incarnation,
    pub(super) first: Number,
    /// The highest number before it.
    pub(super) before: Number,
}
