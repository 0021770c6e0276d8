//! What Redis does in one step. A script is sent whole only to a server that does not know it yet.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Cmd;
use smallvec::SmallVec;

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

/// A script with its keys and arguments.
#[derive(Debug)]
pub(super) struct Call<'a> {
    script: &'a Script,
    /// All keys and then all arguments, in one buffer, and where each of them ends.
    octets: Vec<u8>,
    ends: SmallVec<[usize; FEW]>,
    keys: usize,
    /// It writes nothing, and the server is told so.
    only_reads: bool,
}

/// Most calls have no more keys and arguments, nor so many octets of them, but for values.
const FEW: usize = 16;
const OCTETS: usize = 512;

impl<'a> Call<'a> {
    pub(super) fn of(script: &'a Script) -> Self {
        Self { script, octets: Vec::with_capacity(OCTETS), ends: SmallVec::new(), keys: 0, only_reads: false }
    }

    /// One more key; before the first argument.
    pub(super) fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        debug_assert_eq!(self.keys, self.ends.len());
        self.keys += 1;
        self.argument(key)
    }

    pub(super) fn argument(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.octets.extend_from_slice(argument.as_ref());
        self.ends.push(self.octets.len());
        self
    }

    pub(super) fn number(self, number: impl itoa::Integer) -> Self {
        self.argument(itoa::Buffer::new().format(number))
    }

    /// A span of time that is not over at once, in ms.
    pub(super) fn millis(self, span: Duration) -> Self {
        self.number(millis(span).max(1))
    }

    /// As a command that a server with a halt on writes answers as well: Redis 7.
    pub(super) fn only_reading(self) -> Self {
        Self { only_reads: true, ..self }
    }

    /// For a server that knows the script.
    pub(super) fn by_name(&self) -> Cmd {
        self.command(if self.only_reads { "EVALSHA_RO" } else { "EVALSHA" }, self.script.hashed.get_hash())
    }

    /// For one that does not.
    pub(super) fn in_full(&self) -> Cmd {
        self.command(if self.only_reads { "EVAL_RO" } else { "EVAL" }, self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        const NUMBER: usize = 20;
        let octets = name.len() + script.len() + NUMBER + self.octets.len();
        let mut command = Cmd::with_capacity(3 + self.ends.len(), octets);
        command.arg(name).arg(script).arg(self.keys);
        let mut start = 0;
        for end in &self.ends {
            command.arg(&self.octets[start..*end]);
            start = *end;
        }
        command
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.hashed.get_hash()).finish()
    }
}
