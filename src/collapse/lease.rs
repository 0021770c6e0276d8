//! One fetch for a key at a time in the whole fleet: who fetches holds a *lease* in the store.
//!
//! A lease ends by itself unless its holder goes on renewing it, so that one who was killed frees the key. What was
//! fetched under a lease is written only as long as the lease is held: whoever was held up, or overtaken by a change,
//! writes nothing. These are the rules; the store keeps the leases, and the exchange does the waiting.

use std::fmt;
use std::time::Duration;

use super::failing::{Bearable, Failure};
use crate::hex::write_hex;

/// One process, or rather one layer in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instance(u64);

/// What tells one holder of a lease from all others: the fence between them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token([u8; TOKEN_LEN]);

/// What became of an attempt to take a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leased {
    Granted(Ground),
    /// Somebody has it, and a claim that does not look says who. Only a claim that looks is answered so, and a bid.
    NotFree,
    /// Somebody else has it, under this token.
    Taken(Token),
    /// Nobody is to have it yet, or somebody tries again at this very moment: the service has failed.
    Failing(Failure),
    /// What somebody else fetched under it a moment ago is for nobody else: each has to ask.
    Unshared,
    /// This store has none, or this user may not use them; or this very process has it, for a fetch that nobody is to
    /// wait for any more.
    Without,
}

/// An attempt to take a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) lifetime: Duration,
    /// The failures of the service that are no reason to try it again yet.
    pub(crate) bearable: Bearable,
    /// Whether the key has anything at all is seen in the same round trip.
    pub(crate) looks: bool,
}

/// What the key had when its lease was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Nothing at all: no last holder of the lease has written anything that is still there.
    Bare,
    /// That is to be looked for.
    Unseen,
}

/// How a lease is given back under which nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Nothing came: one of those who wait takes over.
    Free,
    /// The service failed.
    Failed(Failure),
    /// What came is for nobody else.
    Unshared,
    /// The same, and what comes next will be no different.
    Uncacheable,
}

/// The times of a lease, all of which follow from its heartbeat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) heartbeat: Duration,
}

/// The pauses between two looks of one who waits: longer each time, and never those of others.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

/// Hexadecimal digits of the two parts of a token.
const INSTANCE_LEN: usize = 16;
const ATTEMPT_LEN: usize = 32;
/// With a point between them.
const TOKEN_LEN: usize = INSTANCE_LEN + 1 + ATTEMPT_LEN;

/// For how long a lease is asked for together with a look-up.
const BID: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// For how long others are told that what came is for nobody else: each that waits has looked by then.
pub(crate) const UNSHARED: Duration = Duration::from_millis(500);
/// For how long a key is known to be uncacheable by all.
pub(crate) const UNCACHEABLE: Duration = Duration::from_secs(30);

impl Instance {
    pub(crate) fn new() -> Self {
        Self(fastrand::u64(..))
    }

    /// A token that no other attempt has.
    pub(crate) fn token(self) -> Token {
        let mut token = [b'.'; TOKEN_LEN];
        write_hex(&mut token[..INSTANCE_LEN], &self.0.to_be_bytes());
        write_hex(&mut token[INSTANCE_LEN + 1..], &fastrand::u128(..).to_be_bytes());
        Token(token)
    }
}

impl Token {
    /// One that was read; `None` where it is none.
    pub(crate) fn read(octets: &[u8]) -> Option<Self> {
        let is_hex = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
        let token: [u8; TOKEN_LEN] = octets.try_into().ok()?;
        let (instance, attempt) = token.split_at(INSTANCE_LEN);
        (is_hex(instance) && is_hex(attempt.strip_prefix(b".")?)).then_some(Self(token))
    }

    /// What all tokens of one instance begin with.
    pub(crate) fn instance(&self) -> &[u8] {
        &self.0[..=INSTANCE_LEN]
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", String::from_utf8_lossy(&self.0))
    }
}

impl Pace {
    fn longest_pause(self) -> Duration {
        LONGEST_PAUSE.min(self.heartbeat / 4)
    }

    /// How long a lease lives without being renewed. Those who wait look once more after it has ended, and that is
    /// within two heartbeats.
    pub(crate) fn lifetime(self) -> Duration {
        self.heartbeat * 2 - self.longest_pause()
    }

    /// The same for one that is asked for before it is known whether there is anything to fetch. Should its holder be cut
    /// off from the store meanwhile, the others have little to wait for.
    pub(crate) fn lifetime_of_bid(self) -> Duration {
        self.lifetime().min(BID)
    }

    /// When such a one is renewed first.
    pub(crate) fn first_beat_of_bid(self) -> Duration {
        self.lifetime_of_bid() / 4
    }

    pub(crate) fn pauses(self) -> Pauses {
        Pauses { next: FIRST_PAUSE.min(self.longest_pause()), longest: self.longest_pause() }
    }
}

impl Pauses {
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause.mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tokens_are_the_same() {
        let (one, other) = (Instance::new(), Instance::new());
        let tokens = [one.token(), one.token(), other.token(), other.token()];
        for (n, token) in tokens.iter().enumerate() {
            assert!(tokens[n + 1..].iter().all(|later| later != token), "{tokens:?}");
        }
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
        let token = Instance::new().token();
        assert_eq!(Token::read(token.as_bytes()), Some(token.clone()));
        let octets = token.as_bytes();
        let yielded = [b"-", octets].concat();
        for other in [&b""[..], b"-", &yielded, &octets[1..], &octets[..octets.len() - 1], &[b'}'; 49], &[0xff; 49]] {
            assert_eq!(Token::read(other), None, "{other:?}");
        }
    }

    #[test]
    fn who_waits_has_looked_within_two_heartbeats_after_the_last_sign_of_life() {
        for heartbeat in [40, 400, 1000, 10_000].map(Duration::from_millis) {
            let pace = Pace { heartbeat };
            assert!(pace.lifetime() > heartbeat * 3 / 2, "{heartbeat:?}");
            let mut pauses = pace.pauses();
            let longest = (0..64).map(|_| pauses.next()).max().unwrap();
            assert!(longest <= LONGEST_PAUSE && pace.lifetime() + longest <= heartbeat * 2, "{heartbeat:?}");
        }
    }

    #[test]
    fn pauses_grow_and_differ() {
        let pace = Pace { heartbeat: Duration::from_secs(1) };
        let mut pauses = pace.pauses();
        assert!(pauses.next() <= FIRST_PAUSE);
        let later: Vec<_> = (0..64).map(|_| pauses.next()).skip(2).collect();
        assert!(later.iter().all(|pause| *pause >= LONGEST_PAUSE / 2));
        assert!(later.iter().any(|pause| *pause != later[0]));
    }
}
