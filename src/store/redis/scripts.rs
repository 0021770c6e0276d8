//! What Redis does in one step. A script is sent whole only to a server that does not know it yet.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Arg, Cmd, RedisWrite};

use crate::semantics::time::millis;

/// One script. The server knows it by the hash of its text.
pub(super) struct Script {
    text: &'static str,
    hashed: LazyLock<redis::Script>,
}

macro_rules! script {
    ($($path:literal),+) => {
        Script {
            text: concat!($(include_str!($path)),+),
            hashed: LazyLock::new(|| redis::Script::new(concat!($(include_str!($path)),+))),
        }
    };
}
/// Takes a lease.
pub(super) static TAKE: Script = script!("lua/take.lua");
/// Renews a lease.
pub(super) static RENEW: Script = script!("lua/renew.lua");
/// Keeps a lease for which nobody need wait.
pub(super) static YIELD: Script = script!("lua/yield.lua");
/// Gives a lease back.
pub(super) static RELEASE: Script = script!("lua/release.lua");
/// Tells of a fetch.
pub(super) static ANNOUNCE: Script = script!("lua/announce.lua");
/// Hears of a fetch.
pub(super) static ATTEND: Script = script!("lua/attend.lua");
/// Ceases to tell of a fetch.
pub(super) static WITHDRAW: Script = script!("lua/withdraw.lua");
/// Writes cells under a lease.
pub(super) static COMMIT: Script = script!("lua/commit.lua");
/// Records purges.
pub(super) static PURGE: Script = script!("lua/found.lua", "lua/purge.lua");
/// Counts responses.
pub(super) static ENTRIES: Script = script!("lua/entries.lua");
/// Tries out what the others use.
pub(super) static RIGHTS: Script = script!("lua/rights.lua");
/// Reads the purge clock.
pub(super) static CLOCK: Script = script!("lua/found.lua", "lua/clock.lua");

/// A script with its keys and arguments, as the command by which a server runs it that knows it.
pub(super) struct Call {
    script: &'static Script,
    command: Cmd,
    /// Keys that are to come before the first argument.
    missing: usize,
    /// It writes nothing, and the server is told so.
    only_reads: bool,
}

/// Most calls have no more parts, nor so many octets of them, but for values.
const PARTS: usize = 16;
const OCTETS: usize = 768;

impl Call {
    /// With so many keys.
    pub(super) fn of(script: &'static Script, keys: usize) -> Self {
        Self::with_room(script, keys, 0)
    }

    /// The same for so many octets of values: without room they would be moved as what follows them is added.
    pub(super) fn with_room(script: &'static Script, keys: usize, octets: usize) -> Self {
        let mut command = Cmd::with_capacity(PARTS, OCTETS + octets);
        command.arg("EVALSHA").arg(script.hashed.get_hash()).arg(keys);
        Self { script, command, missing: keys, only_reads: false }
    }

    /// One more key.
    pub(super) fn key(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        debug_assert_ne!(self.missing, 0, "there are more keys than there were to be");
        self.missing -= 1;
        self.command.write_arg(key.as_ref());
        self
    }

    pub(super) fn argument(&mut self, argument: impl AsRef<[u8]>) -> &mut Self {
        debug_assert_eq!(self.missing, 0, "keys come before arguments");
        self.command.write_arg(argument.as_ref());
        self
    }

    pub(super) fn number(&mut self, number: impl itoa::Integer) -> &mut Self {
        self.argument(itoa::Buffer::new().format(number))
    }

    /// A span of time that is not over at once, in ms.
    pub(super) fn millis(&mut self, span: Duration) -> &mut Self {
        self.number(millis(span).max(1))
    }

    /// As a command that a server with a halt on writes answers as well: Redis 7.
    pub(super) fn only_reading(self) -> Self {
        Self { command: self.command_by("EVALSHA_RO", self.script.hashed.get_hash()), only_reads: true, ..self }
    }

    /// For a server that knows the script.
    pub(super) fn by_name(&self) -> &Cmd {
        &self.command
    }

    /// For one that does not.
    pub(super) fn in_full(&self) -> Cmd {
        self.command_by(if self.only_reads { "EVAL_RO" } else { "EVAL" }, self.script.text)
    }

    /// The same, but for its name and for what tells of the script.
    fn command_by(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script);
        for part in self.command.args_iter().skip(2) {
            if let Arg::Simple(part) = part {
                command.write_arg(part);
            }
        }
        command
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.hashed.get_hash()).finish()
    }
}
