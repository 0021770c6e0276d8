//! One instance's copy of the purge clock: it judges entries, and never waits.
//!
//! An entry is good if its number is no less than the floor, and nothing that covers it was purged under a greater one.
//! The floor stands for all records that are not kept: below it everything is taken for purged. So whatever is lost,
//! forgotten or too much errs towards a fetch.

use std::collections::{BTreeSet, HashMap};

use super::label::{Label, Number};
use super::target::{ALL, GROUP, KEY, Member, PREFIX, SOFT, TAG};
use crate::key::CacheKey;

/// What the clock says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    /// It was purged softly under this number: it is stale.
    Stale(Number),
    Purged,
    /// It knows of a purge that is not known here.
    Ahead,
}

/// What the store has of the clock, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Which making of the clock it is: one that was lost is made anew.
    pub(crate) incarnation: Box<[u8]>,
    pub(crate) floor: Number,
    /// The highest number of all, on this page or not.
    pub(crate) highest: Number,
    /// By number.
    pub(crate) records: Vec<(Member, Number)>,
}

/// A copy of the clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    floor: Number,
    highest: Number,
    records: HashMap<Member, Number>,
    by_number: BTreeSet<(Number, Member)>,
    kinds: Kinds,
    max_records: usize,
}

/// Which kinds of records there may be, so that the others are not looked for.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    is_soft: bool,
    /// The most segments of a path that was purged as a prefix.
    depth: Option<usize>,
    groups: bool,
}

impl Clock {
    /// Before anything is known, nothing is good.
    pub(crate) fn new(max_records: usize) -> Self {
        Self {
            floor: 1,
            highest: 0,
            records: HashMap::new(),
            by_number: BTreeSet::new(),
            kinds: Kinds::default(),
            max_records: max_records.max(1),
        }
    }

    pub(crate) fn floor(&self) -> Number {
        self.floor
    }

    /// The highest number that is known: what a fetch that sets out now is stamped with.
    pub(crate) fn highest(&self) -> Number {
        self.highest
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn judge(&self, key: &CacheKey, label: &Label) -> Verdict {
        if label.number < self.floor {
            return Verdict::Purged;
        }
        if label.number > self.highest {
            return Verdict::Ahead;
        }
        if label.number == self.highest {
            return Verdict::Good;
        }
        let hard = self.covering(key, label, false);
        if hard > label.number {
            return Verdict::Purged;
        }
        match self.kinds.is_soft.then(|| self.covering(key, label, true)) {
            Some(soft) if soft > label.number => Verdict::Stale(soft),
            _ => Verdict::Good,
        }
    }

    /// The highest number of the records that cover the entry, 0 where there is none.
    fn covering(&self, key: &CacheKey, label: &Label, is_soft: bool) -> Number {
        let mut names = Names { clock: self, name: Vec::with_capacity(128), start: usize::from(is_soft), highest: 0 };
        if is_soft {
            names.name.push(SOFT);
        }
        names.look(&[ALL]);
        names.look(&[KEY, key.digest()]);
        for tag in &label.tags {
            names.look(&[TAG, tag.as_bytes()]);
        }
        if self.kinds.groups && !label.tags.is_empty() {
            for tag in &label.tags {
                names.look(&[GROUP, label.site.authority.as_bytes(), b" ", tag.as_bytes()]);
            }
        }
        if let Some(depth) = self.kinds.depth {
            let (authority, path) = (label.site.authority.as_bytes(), label.site.path.trim_end_matches('/'));
            let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).take(depth);
            for end in std::iter::once(0).chain(ends).chain([path.len()]) {
                names.look(&[PREFIX, authority, &path.as_bytes()[..end]]);
            }
        }
        names.highest
    }

    /// Adds what the store has recorded since the last page, which was of the same incarnation and followed this one
    /// without a gap; or all that it has.
    pub(crate) fn learn(&mut self, page: &Page) {
        self.highest = self.highest.max(page.highest);
        for (member, number) in &page.records {
            self.record(member.clone(), *number);
        }
        self.raise_floor(page.floor);
    }

    pub(crate) fn record(&mut self, member: Member, number: Number) {
        self.highest = self.highest.max(number);
        let known = self.records.get(&member).copied().unwrap_or_default();
        if number <= self.floor || number <= known {
            return;
        }
        self.kinds.note(&member);
        self.by_number.remove(&(known, member.clone()));
        self.by_number.insert((number, member.clone()));
        self.records.insert(member, number);
        while self.records.len() > self.max_records {
            let Some((oldest, _)) = self.by_number.first() else { break };
            self.raise_floor(*oldest);
        }
    }

    /// Nothing with a smaller number is good, and no record of a smaller one is needed.
    pub(crate) fn raise_floor(&mut self, floor: Number) {
        self.floor = self.floor.max(floor);
        self.highest = self.highest.max(floor);
        while let Some((number, _)) = self.by_number.first()
            && *number <= self.floor
        {
            if let Some((_, member)) = self.by_number.pop_first() {
                self.records.remove(&member);
            }
        }
        if self.records.is_empty() {
            self.kinds = Kinds::default();
        }
    }

    /// What is known here and not there, when all that is there is known: writes that were lost. By number.
    pub(crate) fn lost(&self, floor: Number, there: &[(Member, Number)]) -> Vec<Member> {
        let there: HashMap<&Member, Number> = there.iter().map(|(member, number)| (member, *number)).collect();
        let is_lost = |member: &Member, number| there.get(member).is_none_or(|known| *known < number);
        let records = self.by_number.iter().filter(|(number, _)| *number > floor);
        records.filter(|(number, member)| is_lost(member, *number)).map(|(_, member)| member.clone()).collect()
    }
}

impl Kinds {
    fn note(&mut self, member: &Member) {
        let mut name = member.as_octets();
        if let Some((&SOFT, hard)) = name.split_first() {
            (self.is_soft, name) = (true, hard);
        }
        self.groups |= name.starts_with(GROUP);
        if let Some(prefix) = name.strip_prefix(PREFIX) {
            let depth = prefix.iter().filter(|octet| **octet == b'/').count();
            self.depth = self.depth.max(Some(depth));
        }
    }
}

/// Looks for names, one after another.
struct Names<'a> {
    clock: &'a Clock,
    name: Vec<u8>,
    start: usize,
    highest: Number,
}

impl Names<'_> {
    fn look(&mut self, parts: &[&[u8]]) {
        self.name.truncate(self.start);
        parts.iter().for_each(|part| self.name.extend_from_slice(part));
        let number = self.clock.records.get(&self.name[..]).copied().unwrap_or_default();
        self.highest = self.highest.max(number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::label::Site;
    use super::super::target::PurgeMode;
    use super::*;

    fn label(number: Number, path: &str, tags: &[&str]) -> Label {
        let site = Site { authority: "a.example".into(), path: path.into() };
        Label { number, site, tags: tags.iter().map(|tag| Box::from(*tag)).collect() }
    }

    fn clock() -> Clock {
        let mut clock = Clock::new(1000);
        clock.raise_floor(100);
        clock
    }

    #[test]
    fn a_purge_ends_what_it_covers_and_set_out_before_it() {
        let key = CacheKey::from("k");
        let prefix = |path| Member::prefix("a.example", path).unwrap();
        for (purged, entry, covered) in [
            (Member::key(&key), label(100, "/", &[]), true),
            (Member::key(&CacheKey::from("other")), label(100, "/", &[]), false),
            (Member::tag("b").unwrap(), label(100, "/", &["a", "b"]), true),
            (Member::tag("c").unwrap(), label(100, "/", &["a", "b"]), false),
            (Member::everything(), label(100, "/", &[]), true),
            (Member::group(&label(0, "/", &[]).site, "a"), label(100, "/x", &["a"]), true),
            (
                Member::group(&Site { authority: "b.example".into(), ..Site::default() }, "a"),
                label(100, "/x", &["a"]),
                false,
            ),
            (prefix("/"), label(100, "/x/y", &[]), true),
            (prefix("/"), label(100, "/", &[]), true),
            (prefix("/x"), label(100, "/x", &[]), true),
            (prefix("/x"), label(100, "/x/", &[]), true),
            (prefix("/x/"), label(100, "/x/y/z", &[]), true),
            (prefix("/x"), label(100, "/xy", &[]), false),
            (prefix("/x/y"), label(100, "/x", &[]), false),
            (Member::prefix("b.example", "/").unwrap(), label(100, "/", &[]), false),
        ] {
            let expected = |verdict| if covered { verdict } else { Verdict::Good };
            let mut hard = clock();
            hard.record(purged.clone(), 101);
            assert_eq!(hard.judge(&key, &entry), expected(Verdict::Purged), "{purged:?} {entry:?}");
            assert_eq!(hard.judge(&key, &Label { number: 101, ..entry.clone() }), Verdict::Good);
            let mut soft = clock();
            soft.record(purged.clone().in_mode(PurgeMode::Soft), 101);
            assert_eq!(soft.judge(&key, &entry), expected(Verdict::Stale(101)), "{purged:?} {entry:?}");
            soft.record(purged, 102);
            assert_eq!(soft.judge(&key, &entry), expected(Verdict::Purged));
        }
    }

    #[test]
    fn below_the_floor_nothing_is_good_and_from_the_future_nothing_is_known() {
        let key = CacheKey::from("k");
        assert_eq!(Clock::new(9).judge(&key, &label(0, "/", &[])), Verdict::Purged);
        assert_eq!(clock().judge(&key, &label(99, "/", &[])), Verdict::Purged);
        assert_eq!(clock().judge(&key, &label(100, "/", &[])), Verdict::Good);
        assert_eq!(clock().judge(&key, &label(101, "/", &[])), Verdict::Ahead);
    }

    #[test]
    fn records_are_bounded_and_the_floor_rises_to_those_that_go() {
        let mut clock = Clock::new(2);
        clock.raise_floor(100);
        for (tag, number) in [("a", 101), ("b", 102), ("a", 103), ("c", 104)] {
            clock.record(Member::tag(tag).unwrap(), number);
        }
        assert_eq!((clock.len(), clock.floor(), clock.highest()), (2, 102, 104));
        clock.raise_floor(104);
        assert_eq!((clock.len(), clock.floor(), clock.highest()), (0, 104, 104));
    }

    #[test]
    fn what_is_known_here_and_not_there_was_lost() {
        let [a, b, c] = ["a", "b", "c"].map(|tag| Member::tag(tag).unwrap());
        let mut clock = clock();
        for (member, number) in [(&a, 101), (&b, 102), (&c, 103)] {
            clock.record(member.clone(), number);
        }
        let there = [(a.clone(), 101), (c.clone(), 99)];
        assert_eq!(clock.lost(100, &there), [b.clone(), c.clone()]);
        assert_eq!(clock.lost(102, &there), [c]);
        assert!(clock.lost(103, &[]).is_empty());
    }
}
