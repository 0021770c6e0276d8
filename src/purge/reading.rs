//! Reading the clock from the store, page by page, and what is to be done about a store that has lost some of it.
//!
//! What follows a number is enough where the store cannot have changed its mind since: over one connection, and while the
//! clock is of one making. Otherwise all of it is read, and compared with what is known here.

use super::label::{Incarnation, Number};
use super::target::Member;

/// One making of the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Making {
    pub(crate) id: Incarnation,
    /// Those that are known to have come before.
    pub(crate) replaces: Vec<Incarnation>,
}

/// What the store has of the clock, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) making: Making,
    pub(crate) floor: Number,
    /// The highest number of all, on this page or not.
    pub(crate) highest: Number,
    /// By number.
    pub(crate) records: Vec<(Member, Number)>,
    /// The number after which there may be more; `None` on the last page.
    pub(crate) next: Option<Number>,
}

/// A place in the clock: what is recorded behind it is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The connection over which it was read.
    pub(crate) generation: u64,
    incarnation: Incarnation,
    last: Number,
}

/// Pages that are being read.
#[derive(Debug)]
pub(crate) struct Reading {
    cursor: Option<Cursor>,
    read: Option<Page>,
}

/// What another page makes of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// There is more.
    More,
    /// The clock was made anew meanwhile: all that was read is of no use.
    Again,
    Whole(Whole),
}

/// All that the store has, or all that is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// With the records of all pages.
    pub(crate) page: Page,
    pub(crate) is_all: bool,
}

/// What is to be done in the store, before the copy and the store are in step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    InStep,
    /// This making knows nothing of the one that is known here: it is replaced by one that comes after both.
    Renew(Incarnation),
    /// What the store has lost is recorded anew, and its floor rises to this one again.
    Restore {
        lost: Vec<Member>,
        floor: Number,
    },
}

impl Making {
    const PREFIX: &str = "f:";

    /// A new one, after those.
    pub(crate) fn after(past: impl IntoIterator<Item = Incarnation>, id: Incarnation) -> Self {
        Self { id, replaces: past.into_iter().filter(|past| *past != 0).collect() }
    }

    /// The name of its floor: `f:` and names in hexadecimal, its own and those of the ones before.
    pub(crate) fn name(&self) -> String {
        let all = std::iter::once(&self.id).chain(&self.replaces);
        Self::PREFIX.to_owned() + &all.map(|id| format!("{id:016x}")).collect::<Vec<_>>().join(":")
    }

    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        let names = std::str::from_utf8(name).ok()?.strip_prefix(Self::PREFIX)?.split(':');
        let mut ids = names.map(|name| Incarnation::from_str_radix(name, 16).ok().filter(|id| *id != 0));
        let id = ids.next()??;
        Some(Self { id, replaces: ids.collect::<Option<_>>()? })
    }
}

impl Reading {
    /// From the cursor on, if it is of this connection.
    pub(crate) fn begin(cursor: Option<Cursor>, generation: Option<u64>) -> Self {
        let cursor = cursor.filter(|cursor| Some(cursor.generation) == generation);
        Self { cursor, read: None }
    }

    /// The number after which records are wanted; `None` for all.
    pub(crate) fn after(&self) -> Option<Number> {
        let next = self.read.as_ref().and_then(|page| page.next);
        next.or(self.cursor.map(|cursor| cursor.last))
    }

    pub(crate) fn hear(&mut self, page: Page) -> Heard {
        let is_of_cursor = |cursor: &Cursor| cursor.incarnation == page.making.id && cursor.last <= page.highest;
        match &mut self.read {
            None if self.cursor.as_ref().is_some_and(|cursor| !is_of_cursor(cursor)) => return Heard::Again,
            None => self.read = Some(page),
            Some(read) if read.making != page.making => return Heard::Again,
            Some(read) => {
                (read.floor, read.highest, read.next) = (page.floor, page.highest, page.next);
                read.records.extend(page.records);
            }
        }
        match self.read.take() {
            Some(page) if page.next.is_none() => Heard::Whole(Whole { page, is_all: self.cursor.is_none() }),
            read => {
                self.read = read;
                Heard::More
            }
        }
    }
}

impl Whole {
    /// Where the next reading begins, if the copy and the store are in step by now.
    pub(crate) fn cursor(&self, generation: u64) -> Cursor {
        Cursor { generation, incarnation: self.page.making.id, last: self.page.highest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_making_is_read_as_it_was_named_or_not_at_all() {
        for making in [Making::after([], 7), Making::after([0, 1, u64::MAX], 1 << 63)] {
            assert_eq!(Making::parse(making.name().as_bytes()), Some(making));
        }
        for junk in ["", "f:", "f:x", "f:0", "f:1:", "f:1:g", "t:1", "f:11111111111111111"] {
            assert_eq!(Making::parse(junk.as_bytes()), None, "{junk}");
        }
    }

    #[test]
    fn pages_are_one_reading_while_the_clock_is_of_one_making() {
        let page = |id, floor, highest, numbers: &[Number]| Page {
            next: numbers.get(1).copied(),
            making: Making::after([], id),
            floor,
            highest,
            records: numbers.iter().map(|number| (Member::tag(&number.to_string()).unwrap(), *number)).collect(),
        };
        let mut reading = Reading::begin(None, Some(1));
        assert_eq!((reading.after(), reading.hear(page(1, 5, 9, &[6, 7]))), (None, Heard::More));
        assert_eq!(reading.after(), Some(7));
        let whole = Whole { page: Page { next: None, ..page(1, 5, 10, &[6, 7, 9]) }, is_all: true };
        assert_eq!(reading.hear(page(1, 5, 10, &[9])), Heard::Whole(whole.clone()));
        let cursor = whole.cursor(3);
        assert_eq!(Reading::begin(Some(cursor), Some(3)).after(), Some(10));
        assert_eq!(Reading::begin(Some(cursor), Some(4)).after(), None, "another connection");
        assert_eq!(Reading::begin(Some(cursor), Some(3)).hear(page(2, 5, 10, &[])), Heard::Again);
        assert_eq!(Reading::begin(Some(cursor), Some(3)).hear(page(1, 5, 8, &[])), Heard::Again, "some are lost");
        let mut reading = Reading::begin(Some(cursor), Some(3));
        assert_eq!(reading.hear(page(1, 5, 12, &[11, 12])), Heard::More);
        assert_eq!(reading.hear(page(2, 5, 12, &[])), Heard::Again);
    }
}
