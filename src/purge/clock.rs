//! One instance's copy of the purge clock: it judges entries, and never waits.
//!
//! An entry is good if it was stamped under this making of the clock, its number is no less than the floor, and nothing that
//! covers it was purged under a greater one. The floor stands for all records that are not kept: below it everything is
//! taken for purged. So whatever is lost, forgotten or too much errs towards a fetch.
//!
//! One thing is taken for granted: that a server which has lost purges in a failover, and whose clock is behind as well,
//! does not record so many others that its floor passes the lost ones before those who know them have read it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::label::{Incarnation, Label, Number, Stamp};
use super::reading::{Making, Next, Page, Whole};
use super::target::{ALL, GROUP, KEY, Member, PREFIX, SOFT, TAG};
use crate::key::CacheKey;

/// What the clock says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    /// It was purged softly under this number: it is stale.
    Stale(Number),
    Purged,
    /// It was stamped with what is not known here.
    Ahead,
}

/// A copy of the clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    incarnation: Incarnation,
    /// Those before it, the newest last: what was stamped under them is purged.
    past: VecDeque<Incarnation>,
    /// It may be higher than any number that the store has given.
    floor: Number,
    /// All purges up to this number are known. Of later ones some may be: those that were made here.
    highest: Number,
    reading: Under,
    records: HashMap<Member, Number>,
    by_number: BTreeSet<(Number, Member)>,
    /// What the store has lost, and has to be given new numbers: till then it covers whatever it names, since the store
    /// may have given the old numbers to others. With the highest number at the time that was seen.
    lost: HashMap<Member, Number>,
    kinds: Kinds,
    max_records: usize,
}

/// The reading of the store that is under way, or was the last.
#[derive(Clone, Copy, Debug)]
struct Under {
    /// The connection.
    way: Option<u64>,
    /// The highest number that was known when it began.
    top_before: Number,
    /// The highest of those that were learnt since: it may not have seen them.
    unread: Number,
}

impl Under {
    /// It is not known what the store knew.
    const NOTHING: Self = Self { way: None, top_before: Number::MAX, unread: 0 };
}

/// Which kinds of records there may be, so that the others are not looked for.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    is_soft: bool,
    /// The most segments of a path that was purged as a prefix.
    depth: Option<usize>,
    groups: bool,
}

/// Makings that are remembered, so that what is found of them needs no question.
const MAX_PAST: usize = 16;

impl Clock {
    /// Before anything is known, nothing is good.
    pub(crate) fn new(max_records: usize) -> Self {
        Self {
            incarnation: 0,
            past: VecDeque::new(),
            floor: 1,
            highest: 0,
            reading: Under::NOTHING,
            records: HashMap::new(),
            by_number: BTreeSet::new(),
            lost: HashMap::new(),
            kinds: Kinds::default(),
            max_records: max_records.max(1),
        }
    }

    /// A clock that is nobody else's copy.
    pub(crate) fn own(max_records: usize) -> Self {
        Self { incarnation: 1, highest: 1, ..Self::new(max_records) }
    }

    /// To break a rule.
    #[cfg(test)]
    pub(super) fn unread(&mut self) -> &mut Number {
        &mut self.reading.unread
    }

    #[cfg(test)]
    fn floor(&self) -> Number {
        self.floor
    }

    /// What a fetch that sets out now is stamped with.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { incarnation: self.incarnation, number: self.highest }
    }

    /// Whether nothing that is known covers what is stamped with the highest number.
    pub(crate) fn is_plain(&self) -> bool {
        self.highest >= self.floor && self.highest >= self.top() && self.lost.is_empty()
    }

    /// The highest number that is known, of the store's and of records.
    pub(crate) fn top(&self) -> Number {
        self.by_number.last().map_or(self.highest, |(last, _)| self.highest.max(*last))
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn judge(&self, key: &CacheKey, label: &Label) -> Verdict {
        let Stamp { incarnation, number } = label.stamp;
        if incarnation != self.incarnation {
            let is_past = incarnation == 0 || self.past.contains(&incarnation);
            return if is_past { Verdict::Purged } else { Verdict::Ahead };
        }
        if number < self.floor {
            return Verdict::Purged;
        }
        if number > self.highest {
            return Verdict::Ahead;
        }
        if number == self.highest && self.is_plain() {
            return Verdict::Good;
        }
        let is_lost = |is_soft| self.covering(&self.lost, key, label, is_soft).is_some();
        if !self.lost.is_empty() && (is_lost(false) || is_lost(true)) {
            return Verdict::Purged;
        }
        if self.covering(&self.records, key, label, false).is_some_and(|hard| hard > number) {
            return Verdict::Purged;
        }
        match self.kinds.is_soft.then(|| self.covering(&self.records, key, label, true)).flatten() {
            Some(soft) if soft > number => Verdict::Stale(soft),
            _ => Verdict::Good,
        }
    }

    /// The highest number of those of the records that cover the entry.
    fn covering(
        &self,
        records: &HashMap<Member, Number>,
        key: &CacheKey,
        label: &Label,
        is_soft: bool,
    ) -> Option<Number> {
        let mut names = Names { records, name: Vec::with_capacity(128), start: usize::from(is_soft), highest: None };
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

    /// The store is about to be read, over this connection.
    pub(crate) fn begin_reading(&mut self, way: Option<u64>) {
        self.reading = Under { way, top_before: self.top(), unread: 0 };
    }

    /// Takes over what the store has, and says what the store has lost of what is known here.
    pub(crate) fn take(&mut self, whole: &Whole) -> Next {
        let Whole { page, is_all } = whole;
        if self.incarnation != page.making.id {
            // It may be an older one that has come back, without what was purged since.
            if self.incarnation != 0 && !page.making.replaces.contains(&self.incarnation) {
                return Next::Renew(page.making.id);
            }
            self.begin_anew(&page.making);
        }
        // Numbers of its own that the store does not know any more are given again, and are no stamp for anything. Those
        // that it gave while it was read are none of these, where it knew all that was known before.
        let knew_all = self.reading.top_before <= page.highest;
        self.highest = if knew_all { page.highest.max(self.reading.unread) } else { page.highest };
        if *is_all {
            self.note_lost(page, knew_all);
        } else {
            let is_there =
                |member: &Member, since| page.records.iter().any(|(there, at)| there == member && *at > since);
            self.lost.retain(|member, since| !is_there(member, *since));
        }
        page.records.iter().for_each(|(member, number)| self.record(member.clone(), *number));
        self.raise_floor(page.floor);
        if self.lost.is_empty() && page.floor >= self.floor {
            return Next::InStep;
        }
        let mut lost: Vec<_> = self.lost.keys().cloned().collect();
        lost.sort_unstable();
        Next::Restore { lost, floor: self.floor }
    }

    /// Whatever was stamped before is purged.
    fn begin_anew(&mut self, making: &Making) {
        for past in making.replaces.iter().chain([&self.incarnation]).filter(|past| **past != 0) {
            if !self.past.contains(past) {
                self.past.push_back(*past);
            }
        }
        let surplus = self.past.len().saturating_sub(MAX_PAST);
        self.past.drain(..surplus);
        let (past, reading) = (std::mem::take(&mut self.past), Under { way: self.reading.way, ..Under::NOTHING });
        *self = Self { incarnation: making.id, past, reading, ..Self::new(self.max_records) };
    }

    /// Purges under the numbers that the store has given them over this connection, from this one on, when it had given
    /// none above `before`. Where that is not all that was known here, or the store is not the one that is read, or has
    /// another making of the clock, it is `false`: then there are purges that have to be read first.
    pub(crate) fn learn(
        &mut self,
        members: &[Member],
        (making, way): (Incarnation, Option<u64>),
        first: Number,
        before: Number,
    ) -> bool {
        if way != self.reading.way {
            // Who knows what that store has of it.
            self.reading.top_before = Under::NOTHING.top_before;
        }
        if self.incarnation != making {
            return false;
        }
        let is_next = way == self.reading.way && before <= self.highest;
        for (member, number) in members.iter().zip(first..) {
            self.lost.remove(member);
            self.record(member.clone(), number);
        }
        if is_next {
            self.highest = self.highest.max((first + members.len() as u64).saturating_sub(1));
            self.reading.unread = self.highest;
        }
        is_next
    }

    /// A purge under a number that the store has given.
    fn record(&mut self, member: Member, number: Number) {
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
        while let Some((number, _)) = self.by_number.first()
            && *number <= self.floor
        {
            if let Some((_, member)) = self.by_number.pop_first() {
                self.records.remove(&member);
            }
        }
        if self.records.is_empty() && self.lost.is_empty() {
            self.kinds = Kinds::default();
        }
    }

    /// What is known here and not there, where all that is there is on this page, but for what came while it was read.
    fn note_lost(&mut self, page: &Page, knew_all: bool) {
        let there: HashMap<&Member, Number> = page.records.iter().map(|(member, number)| (member, *number)).collect();
        let is_lost = |member: &Member, number| there.get(member).is_none_or(|known| *known < number);
        let is_newer = |number| knew_all && number > page.highest;
        let records = self.by_number.iter().filter(|(number, _)| *number > page.floor && !is_newer(*number));
        let lost: Vec<_> = records.filter(|(number, member)| is_lost(member, *number)).cloned().collect();
        self.lost.values_mut().for_each(|since| *since = page.highest);
        for (number, member) in lost {
            self.records.remove(&member);
            self.by_number.remove(&(number, member.clone()));
            self.lost.insert(member, page.highest);
        }
        if self.lost.len() > self.max_records {
            self.lost.clear();
            self.raise_floor(page.highest + 1);
        }
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
    records: &'a HashMap<Member, Number>,
    name: Vec<u8>,
    start: usize,
    highest: Option<Number>,
}

impl Names<'_> {
    fn look(&mut self, parts: &[&[u8]]) {
        self.name.truncate(self.start);
        parts.iter().for_each(|part| self.name.extend_from_slice(part));
        self.highest = self.highest.max(self.records.get(&self.name[..]).copied());
    }
}

#[cfg(test)]
mod tests {
    use super::super::label::Site;
    use super::super::target::PurgeMode;
    use super::*;

    fn label(number: Number, path: &str, tags: &[&str]) -> Label {
        let site = Site { authority: "a.example".into(), path: path.into() };
        Label { stamp: Stamp { incarnation: 7, number }, site, tags: tags.iter().map(|tag| Box::from(*tag)).collect() }
    }

    fn clock() -> Clock {
        let mut clock = Clock::new(1000);
        assert_eq!(clock.take(&all(page(100, &[]))), Next::InStep);
        clock
    }

    fn page(floor: Number, records: &[(&str, Number)]) -> Page {
        let records: Vec<_> = records.iter().map(|(tag, number)| (Member::tag(tag).unwrap(), *number)).collect();
        let highest = records.last().map_or(floor, |(_, number)| *number);
        Page { making: Making::after([6], 7), floor, highest, records, next: None }
    }

    /// Over the connection that is read.
    fn learn(clock: &mut Clock, members: &[Member], making: Incarnation, first: Number, before: Number) -> bool {
        let way = clock.reading.way;
        clock.learn(members, (making, way), first, before)
    }

    fn all(page: Page) -> Whole {
        Whole { page, is_all: true }
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
            assert!(learn(&mut hard, std::slice::from_ref(&purged), 7, 101, 100));
            assert_eq!(hard.judge(&key, &entry), expected(Verdict::Purged), "{purged:?} {entry:?}");
            assert_eq!(
                hard.judge(&key, &Label { stamp: Stamp { incarnation: 7, number: 101 }, ..entry.clone() }),
                Verdict::Good
            );
            let mut soft = clock();
            assert!(learn(&mut soft, &[purged.clone().in_mode(PurgeMode::Soft)], 7, 101, 100));
            assert_eq!(soft.judge(&key, &entry), expected(Verdict::Stale(101)), "{purged:?} {entry:?}");
            assert!(learn(&mut soft, &[purged], 7, 102, 101));
            assert_eq!(soft.judge(&key, &entry), expected(Verdict::Purged));
        }
    }

    #[test]
    fn below_the_floor_nothing_is_good_and_from_the_future_nothing_is_known() {
        let key = CacheKey::from("k");
        assert_eq!(Clock::new(9).judge(&key, &label(100, "/", &[])), Verdict::Ahead);
        assert_eq!(Clock::new(9).judge(&key, &Label::default()), Verdict::Purged);
        assert_eq!(clock().judge(&key, &label(99, "/", &[])), Verdict::Purged);
        assert_eq!(clock().judge(&key, &label(100, "/", &[])), Verdict::Good);
        assert_eq!(clock().judge(&key, &label(101, "/", &[])), Verdict::Ahead);
        let of = |incarnation| Label { stamp: Stamp { incarnation, number: 100 }, ..label(0, "/", &[]) };
        assert_eq!(
            [6, 0, 8].map(|id| clock().judge(&key, &of(id))),
            [Verdict::Purged, Verdict::Purged, Verdict::Ahead]
        );
        // A floor that is higher than any number there is.
        let mut clock = clock();
        clock.raise_floor(101);
        assert_eq!(clock.judge(&key, &label(100, "/", &[])), Verdict::Purged);
    }

    /// Somebody else's may have come between.
    #[test]
    fn an_own_purge_says_nothing_of_those_before_it() {
        let (key, mut clock) = (CacheKey::from("k"), clock());
        assert!(!learn(&mut clock, &[Member::tag("a").unwrap()], 8, 101, 100), "another making");
        assert_eq!((clock.len(), clock.stamp().number, clock.top()), (0, 100, 100));
        assert!(!learn(&mut clock, &[Member::tag("a").unwrap()], 7, 102, 101));
        assert_eq!((clock.stamp().number, clock.top()), (100, 102));
        let judge = |clock: &Clock, number, tag| {
            clock.judge(&key, &Label { stamp: Stamp { incarnation: 7, number }, ..label(0, "/", &[tag]) })
        };
        assert_eq!(judge(&clock, 100, "a"), Verdict::Purged);
        assert_eq!(judge(&clock, 100, "b"), Verdict::Good);
        assert_eq!(judge(&clock, 102, "b"), Verdict::Ahead, "whoever stamped it may know of 101");
        clock.take(&Whole { page: Page { floor: 100, ..page(100, &[("b", 101), ("a", 102)]) }, is_all: false });
        assert_eq!((judge(&clock, 100, "b"), judge(&clock, 102, "b")), (Verdict::Purged, Verdict::Good));
    }

    /// A reading that began before an own purge comes after it.
    #[test]
    fn a_reading_that_comes_late_does_not_hide_a_purge() {
        let (key, mut clock) = (CacheKey::from("k"), clock());
        clock.begin_reading(None);
        assert!(learn(&mut clock, &[Member::tag("a").unwrap()], 7, 101, 100));
        clock.take(&Whole { page: page(100, &[]), is_all: false });
        assert_eq!(clock.judge(&key, &label(100, "/", &["a"])), Verdict::Purged);
        assert_eq!(clock.judge(&key, &label(100, "/", &["b"])), Verdict::Good);
        assert_eq!(clock.stamp().number, 101, "what sets out now is not taken for purged by it");
        clock.begin_reading(Some(1));
        clock.take(&Whole { page: page(100, &[]), is_all: false });
        assert_eq!(clock.stamp().number, 100, "it is not in the store any more");
    }

    #[test]
    fn what_is_purged_while_all_is_read_is_not_lost() {
        let tags = |tags: &[&str]| tags.iter().map(|tag| Member::tag(tag).unwrap()).collect::<Vec<_>>();
        let restore = |names: &[&str]| Next::Restore { lost: tags(names), floor: 100 };
        for (way, known, next, stamp) in [
            (Some(1), &[][..], Next::InStep, 101),
            // Over another connection: the store that is read may have nothing of it.
            (Some(2), &[], restore(&["a"]), 100),
            // The store has lost what was known before: who knows what numbers it gives anew.
            (Some(1), &["b"], restore(&["a", "b"]), 100),
        ] {
            let mut clock = clock();
            assert!(learn(&mut clock, &tags(known), 7, 101, 100));
            let next_number = 101 + known.len() as u64;
            clock.begin_reading(Some(1));
            let is_known = clock.learn(&tags(&["a"]), (7, way), next_number, next_number - 1);
            assert_eq!(is_known, way == Some(1));
            assert_eq!((clock.take(&all(page(100, &[]))), clock.stamp().number), (next, stamp), "{way:?} {known:?}");
        }
    }

    #[test]
    fn records_are_bounded_and_the_floor_rises_to_those_that_go() {
        let mut clock = Clock { max_records: 2, ..clock() };
        for (tag, number) in [("a", 101), ("b", 102), ("a", 103), ("c", 104)] {
            assert!(learn(&mut clock, &[Member::tag(tag).unwrap()], 7, number, number - 1));
        }
        assert_eq!((clock.len(), clock.floor(), clock.stamp().number), (2, 102, 104));
        clock.raise_floor(104);
        assert_eq!((clock.len(), clock.floor(), clock.stamp().number), (0, 104, 104));
    }

    #[test]
    fn what_is_known_here_and_not_there_was_lost() {
        let tags = |tags: &[&str]| tags.iter().map(|tag| Member::tag(tag).unwrap()).collect::<Vec<_>>();
        let known = || {
            let mut clock = clock();
            clock.take(&all(page(100, &[("a", 101), ("b", 102), ("c", 103)])));
            clock
        };
        let restore = |names: &[&str], floor| Next::Restore { lost: tags(names), floor };
        for (there, next) in [
            (page(100, &[("a", 101), ("b", 102), ("c", 103)]), Next::InStep),
            (page(100, &[("a", 101), ("b", 102), ("c", 103), ("d", 104)]), Next::InStep),
            (page(103, &[]), Next::InStep),
            (page(102, &[]), restore(&["c"], 102)),
            (page(100, &[("a", 101), ("c", 102)]), restore(&["b", "c"], 100)),
            (page(100, &[("a", 101)]), restore(&["b", "c"], 100)),
            (page(100, &[("a", 101), ("d", 104)]), restore(&["b", "c"], 100)),
            (page(99, &[("a", 101), ("b", 102), ("c", 103)]), restore(&[], 100)),
        ] {
            let mut clock = known();
            assert_eq!(clock.take(&all(there.clone())), next, "{there:?}");
            assert_eq!(clock.stamp().number, there.highest, "no number but the store's own");
        }
    }

    #[test]
    fn a_making_that_knows_nothing_of_this_one_is_replaced() {
        let mut clock = clock();
        let of = |making| all(Page { making, ..page(200, &[]) });
        assert_eq!(clock.take(&of(Making::after([6], 9))), Next::Renew(9));
        assert_eq!(clock.stamp(), Stamp { incarnation: 7, number: 100 }, "nothing of it was taken over");
        assert_eq!(clock.take(&of(Making::after([9, 7], 10))), Next::InStep);
        assert_eq!(clock.stamp(), Stamp { incarnation: 10, number: 200 });
        let label = |incarnation| Label { stamp: Stamp { incarnation, number: 300 }, ..label(0, "/", &[]) };
        let key = CacheKey::from("k");
        assert!([6, 7, 9].iter().all(|past| clock.judge(&key, &label(*past)) == Verdict::Purged));
    }
}
