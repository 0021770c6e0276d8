//! Single commands, and what they answer.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, RedisWrite, Value};

use crate::error::{StoreError, StoreErrorKind};
use crate::semantics::time::millis;

pub(super) fn get(name: &[u8]) -> Cmd {
    let mut command = Cmd::with_capacity(2, "GET".len() + name.len());
    command.arg("GET").arg(name);
    command
}

/// The value up to and with octet `limit`, counted from zero: one more than is allowed.
pub(super) fn get_range(name: &[u8], limit: usize) -> Cmd {
    const NUMBER: usize = 20;
    let mut command = Cmd::with_capacity(4, "GETRANGE".len() + name.len() + 2 * NUMBER);
    command.arg("GETRANGE").arg(name).arg(0).arg(limit);
    command
}

/// With room for so many arguments, and so many octets besides words and numbers: without it a value would be moved as
/// what follows it is added.
fn command_of(arguments: usize, octets: usize) -> Cmd {
    const WORDS: usize = 64;
    Cmd::with_capacity(arguments, octets + WORDS)
}

pub(super) fn set_px(name: &[u8], value: &[u8], ttl: Duration) -> Cmd {
    let mut command = command_of(5, name.len() + value.len());
    command.arg("SET").arg(name).arg(value).arg("PX").arg(millis(ttl).max(1));
    command
}

/// The same for a value that is not put together before.
pub(super) fn set_pieces_px(name: &[u8], head: &[u8], octets: &[Bytes], ttl: Duration) -> Cmd {
    let length: usize = octets.iter().map(Bytes::len).sum();
    let mut command = command_of(5, name.len() + head.len() + length);
    command.arg("SET").arg(name);
    {
        let mut value = command.writer_for_next_arg();
        for piece in std::iter::once(head).chain(octets.iter().map(|piece| &piece[..])) {
            value.write_all(piece).expect("a command takes all");
        }
    }
    command.arg("PX").arg(millis(ttl).max(1));
    command
}

/// A value where there is none.
pub(super) fn set_nx_px(name: &[u8], value: &[u8], ttl: Duration) -> Cmd {
    let mut command = command_of(6, name.len() + value.len());
    command.arg("SET").arg(name).arg(value).arg("NX").arg("PX").arg(millis(ttl).max(1));
    command
}

pub(super) fn exists(name: &[u8]) -> Cmd {
    let mut command = command_of(2, name.len());
    command.arg("EXISTS").arg(name);
    command
}

pub(super) fn pexpire(name: &[u8], ttl: Duration) -> Cmd {
    let mut command = redis::cmd("PEXPIRE");
    command.arg(name).arg(millis(ttl));
    command
}

pub(super) fn octets(value: Value) -> Result<Option<Bytes>, StoreError> {
    match value {
        Value::BulkString(octets) => Ok(Some(octets.into())),
        Value::Nil => Ok(None),
        _ => Err(StoreError::new(StoreErrorKind::Protocol)),
    }
}
