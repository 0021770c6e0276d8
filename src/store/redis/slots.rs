//! The slots of a Redis Cluster: which one a key is in, and what a node says of who has which.

use std::ops::RangeInclusive;

use crc::{CRC_16_XMODEM, Crc, Table};
use redis::{Arg, Cmd, Value};

use super::layout::hash_tag;

/// One of the 16,384 parts that the keys of a cluster fall into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u16);

/// A node's host and port.
pub(super) type Node = (String, u16);

/// Slots, and the primary that has them. Of replicas each node has its own order, and may not know all: those make no
/// difference.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) slots: RangeInclusive<u16>,
    pub(super) node: Node,
    pub(super) replicas: Vec<Node>,
}

pub(super) const SLOTS: u16 = 16_384;

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.slots == other.slots && self.node == other.node
    }
}

static CRC: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_XMODEM);

impl Slot {
    pub(super) fn of_key(key: &[u8]) -> Self {
        Self(CRC.checksum(hash_tag(key)) % SLOTS)
    }

    pub(super) fn of_command(command: &Cmd) -> Self {
        Self::of_key(first_key(command))
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a command is about: its first argument, or a script's first key.
pub(super) fn first_key(command: &Cmd) -> &[u8] {
    let mut arguments = command.args_iter().map(|argument| match argument {
        Arg::Simple(octets) => octets,
        _ => &[],
    });
    let is_script = arguments.next().is_some_and(|name| name.starts_with(b"EVAL"));
    arguments.nth(if is_script { 2 } else { 0 }).unwrap_or_default()
}

/// The answer to `CLUSTER SLOTS` of a node at `host`; what cannot be understood of it is nobody's.
pub(super) fn shares(answer: &Value, host: &str) -> Vec<Share> {
    let Value::Array(items) = answer else { return Vec::new() };
    let node = |node: &Value| {
        let Value::Array(node) = node else { return None };
        let [name, Value::Int(port), ..] = &node[..] else { return None };
        let host = match name {
            Value::BulkString(name) if name == b"?" => return None,
            Value::BulkString(name) if !name.is_empty() => String::from_utf8(name.clone()).ok()?,
            Value::BulkString(_) | Value::Nil => host.to_owned(),
            _ => return None,
        };
        Some((host, u16::try_from(*port).ok()?))
    };
    let share = |item: &Value| {
        let Value::Array(parts) = item else { return None };
        let [Value::Int(first), Value::Int(last), primary, replicas @ ..] = &parts[..] else { return None };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        let slots = (first <= last && last < SLOTS).then_some(first..=last)?;
        Some(Share { slots, node: node(primary)?, replicas: replicas.iter().filter_map(node).collect() })
    };
    let mut shares: Vec<_> = items.iter().filter_map(share).collect();
    shares.sort_by_key(|share| *share.slots.start());
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_the_slot_that_its_tag_says() {
        let slot = |key: &str| Slot::of_key(key.as_bytes()).0;
        // As `CLUSTER KEYSLOT` has it.
        assert_eq!((slot("foo"), slot("123456789"), slot("")), (12_182, 12_739, 0));
        assert_eq!(slot("trc:{foo}:b:1"), slot("foo"));
        assert_eq!(slot("{}foo"), slot("{}foo"));
        assert_ne!(slot("{}foo"), slot("foo"));
        assert_ne!(slot("foo{bar"), slot("bar"));
        assert_eq!(slot("foo{{bar}}"), slot("{bar"));
    }

    #[test]
    fn a_command_goes_where_its_first_key_is() {
        let of = |name: &str, arguments: &[&str]| Slot::of_command(redis::cmd(name).arg(arguments));
        let foo = Slot::of_key(b"foo");
        assert_eq!(of("GET", &["foo"]), foo);
        assert_eq!(of("UNLINK", &["foo", "bar"]), foo);
        for name in ["EVAL", "EVALSHA", "EVALSHA_RO"] {
            assert_eq!(of(name, &["script", "2", "foo", "bar", "argument"]), foo);
        }
        assert_eq!(of("PING", &[]), Slot::of_key(b""));
    }

    #[test]
    fn what_a_node_says_of_the_slots_is_read_or_nobodys() {
        let text = |text: &str| Value::BulkString(text.into());
        let node = |name, port| Value::Array(vec![name, Value::Int(port), text("id"), Value::Array(vec![])]);
        let item = |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        let answer = Value::Array(vec![
            Value::Array(vec![
                Value::Int(5461),
                Value::Int(10_922),
                node(text("b.example"), 7001),
                node(text("r.example"), 7003),
                node(text("?"), 7004),
            ]),
            item(0, 5460, node(Value::Nil, 7000)),
            item(10_923, 10_924, node(text(""), 7002)),
            item(10_925, 10_925, node(text("?"), 7002)),
            item(10_926, 16_384, node(text("c"), 7002)),
            item(5, 4, node(text("c"), 7002)),
            item(-1, 3, node(text("c"), 7002)),
            item(4, 5, node(text("c"), 70_000)),
            item(4, 5, Value::Nil),
            Value::Nil,
        ]);
        let share = |slots, host: &str, port| Share { slots, node: (host.to_owned(), port), replicas: Vec::new() };
        assert_eq!(
            shares(&answer, "a.example"),
            [
                share(0..=5460, "a.example", 7000),
                share(5461..=10_922, "b.example", 7001),
                share(10_923..=10_924, "a.example", 7002)
            ]
        );
        let replicas: Vec<_> = shares(&answer, "a").into_iter().flat_map(|share| share.replicas).collect();
        assert_eq!(replicas, [("r.example".to_owned(), 7003)]);
        assert!(shares(&Value::Nil, "a").is_empty());
    }
}
