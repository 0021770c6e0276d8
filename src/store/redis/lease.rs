//! Leases in Redis, and what is written under them. Each step that depends on a lease that is held is a script, so that
//! nothing comes in between. A user who may not run scripts has no leases.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Pipeline, Value};

use super::commands::{exists, set_nx_px, set_px};
use super::connection::Access;
use super::lanes::LaneName;
use super::pause::Pause;
use super::replies::{Failure, Verdict};
use super::scripts::{COMMIT, Call, RELEASE, RENEW, TAKE, YIELD};
use super::wake::Hearing;
use super::writes::{Expiry, Head};
use super::{READER_MARGIN, RedisStore};
use crate::collapse::failing::{self, Bearable};
use crate::collapse::lease::{Claim, Ground, Instance, Leased, Release, Token, UNCACHEABLE, UNSHARED};
use crate::error::{StoreError, StoreErrorKind};
use crate::key::CacheKey;
use crate::semantics::time::millis;
use crate::store::entry::Chunks;
use crate::store::{CellKey, LeaseKey, Write};

/// What the scripts answer.
const DONE: i64 = 1;
const UNSHARED_BY_OTHERS: i64 = 2;
const UNTOLD: i64 = 2;
const TOLD: i64 = 3;
const OWN: i64 = 3;
const DONE_ON_BARE_GROUND: i64 = 4;
const DONE_UNSEEING: i64 = 5;
/// What a lease has left while what is written under it is written elsewhere.
const IN_BETWEEN: Duration = Duration::from_secs(2);
/// In place of a failure: there is none any more.
const ANSWERED: &str = "-";

/// Who takes leases here, and what of it is granted.
#[derive(Debug)]
pub(super) struct Leases {
    instance: Instance,
    /// Scripts are not granted: there are no leases for now.
    scripts: Mutex<Pause>,
    /// They are granted, as far as that is known: the last one has run. Set with those locked.
    proven: AtomicBool,
    /// Messages are not granted: nobody is told anything for now.
    mute: Mutex<Pause>,
}

/// What is written under a lease when all that it refers to is there.
#[derive(Clone, Copy)]
struct Commit<'a> {
    lease: LeaseKey<'a>,
    heads: &'a [Head],
    writes: &'a [Write<'a>],
    /// The last of them replaces something that has to be there still.
    last_is_there: bool,
}

impl Leases {
    pub(super) fn new() -> Self {
        let (scripts, mute) = (Mutex::new(Pause::new()), Mutex::new(Pause::new()));
        Self { instance: Instance::new(), scripts, proven: AtomicBool::new(false), mute }
    }
}

impl RedisStore {
    pub(crate) fn instance(&self) -> Instance {
        self.leases.instance
    }

    /// Unless that is not granted.
    pub(crate) fn looks_with_lease(&self) -> bool {
        !self.unchecked.load(Ordering::Relaxed)
    }

    pub(crate) fn hear(&self, key: &CacheKey) -> Hearing {
        self.purges.wake().hear(key)
    }

    pub(super) async fn take_lease(&self, lease: LeaseKey<'_>, claim: Claim) -> Result<Leased, StoreError> {
        let Claim { lifetime, bearable, looks } = claim;
        if self.leases.scripts.lock().is_ok_and(|scripts| scripts.is_on()) {
            return Ok(Leased::Without);
        }
        if looks
            && bearable == Bearable::NONE
            && self.leases.proven.load(Ordering::Relaxed)
            && let Some(leased) = self.take_free(lease, lifetime).await?
        {
            return Ok(leased);
        }
        let mut call = Call::of(&TAKE, if looks { 3 } else { 2 });
        call.key(self.layout.lease(lease.cell)).key(self.layout.failing(lease.cell));
        if looks {
            call.key(self.layout.cell(CellKey::base(lease.cell.primary)));
        }
        call.argument(lease.token.as_bytes()).millis(lifetime).argument(lease.token.instance());
        call.argument(bearable.words()).number(self.clock.now().as_millis());
        match self.run_for_value(call, Access::Script { writes: true }).await? {
            Some(Value::Int(DONE)) => Ok(Leased::Granted(Ground::Unseen)),
            Some(Value::Int(DONE_ON_BARE_GROUND)) => Ok(Leased::Granted(Ground::Bare)),
            Some(Value::Int(DONE_UNSEEING)) => {
                self.unchecked.store(true, Ordering::Relaxed);
                Ok(Leased::Granted(Ground::Unseen))
            }
            Some(Value::Int(UNSHARED_BY_OTHERS)) => Ok(Leased::Unshared),
            Some(Value::Int(OWN)) | None => Ok(Leased::Without),
            // What nobody can have written is not waited for.
            Some(Value::BulkString(holder)) => Ok(Token::read(&holder).map_or(Leased::Without, Leased::Taken)),
            Some(Value::Array(told)) => match &told[..] {
                [Value::BulkString(failure)] => {
                    Ok(failing::Failure::decoded(failure).map_or(Leased::Without, Leased::Failing))
                }
                _ => Err(StoreError::new(StoreErrorKind::Protocol)),
            },
            Some(_) => Err(StoreError::new(StoreErrorKind::Protocol)),
        }
    }

    /// The same by plain commands, which cost the server half as much. Something may come between them, but nothing that is
    /// written under this lease. `None` where one of them is not granted.
    async fn take_free(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<Option<Leased>, StoreError> {
        let mut commands = Pipeline::with_capacity(2);
        commands.add_command(set_nx_px(&self.layout.lease(lease.cell), lease.token.as_bytes(), lifetime));
        commands.add_command(exists(&self.layout.cell(CellKey::base(lease.cell.primary))));
        let taking = self.connection.call_all(LaneName::Heads, Access::Script { writes: true }, &commands);
        match taking.await {
            Ok(answers) => Ok(Some(match answers[..] {
                [Value::Okay, Value::Int(0)] => Leased::Granted(Ground::Bare),
                [Value::Okay, _] => Leased::Granted(Ground::Unseen),
                _ => Leased::NotFree,
            })),
            Err(failure) if is_refusal(&failure) => Ok(None),
            Err(failure) => Err(failure.error),
        }
    }

    /// Whether a lease can be taken by a plain command, and what is asked next is answered by the same server.
    pub(crate) fn takes_bids(&self) -> bool {
        self.leases.proven.load(Ordering::Relaxed) && !self.reads_replicas()
    }

    /// Takes a lease that is free.
    pub(crate) async fn bid(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<Leased, StoreError> {
        let command = set_nx_px(&self.layout.lease(lease.cell), lease.token.as_bytes(), lifetime);
        match self.connection.call(LaneName::Heads, Access::Bid, &command).await {
            Ok(Value::Okay) => Ok(Leased::Granted(Ground::Unseen)),
            Ok(_) => Ok(Leased::NotFree),
            Err(failure) if is_refusal(&failure) => Ok(Leased::Without),
            Err(failure) => Err(failure.error),
        }
    }

    pub(super) async fn prolong_lease(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<bool, StoreError> {
        let mut call = Call::of(&RENEW, 2);
        call.key(self.layout.lease(lease.cell)).key(self.layout.live(lease));
        call.argument(lease.token.as_bytes()).millis(lifetime);
        let renewed = self.run(call, Access::Script { writes: false }).await?;
        Ok(renewed == Some(DONE))
    }

    pub(super) async fn yield_held(&self, lease: LeaseKey<'_>, lifetime: Duration) -> Result<(), StoreError> {
        let mut call = Call::of(&YIELD, 2);
        call.key(self.layout.lease(lease.cell)).key(self.layout.awaited(lease));
        self.tell(call.argument(lease.token.as_bytes()).millis(lifetime), lease);
        self.run_and_tell(call).await
    }

    pub(super) async fn release_lease(
        &self,
        lease: LeaseKey<'_>,
        release: Release,
        is_told: bool,
    ) -> Result<(), StoreError> {
        let base = CellKey::base(lease.cell.primary);
        let unshared = match release {
            Release::Free | Release::Failed(_) => Duration::ZERO,
            Release::Unshared | Release::Uncacheable => UNSHARED,
        };
        let marker = match release {
            Release::Uncacheable => self.uncacheable(lease.cell.primary),
            Release::Free | Release::Failed(_) | Release::Unshared => Vec::new(),
        };
        let failing = match release {
            Release::Failed(failure) => failure.encoded().unwrap_or_default(),
            Release::Free => String::new(),
            Release::Unshared | Release::Uncacheable => ANSWERED.to_owned(),
        };
        let mut call = Call::of(&RELEASE, if is_told { 5 } else { 4 });
        call.key(self.layout.lease(lease.cell)).key(self.layout.cell(base));
        call.key(self.layout.failing(base)).key(self.layout.awaited(lease));
        if is_told {
            call.key(self.layout.live(lease));
        }
        self.tell(call.argument(lease.token.as_bytes()), lease);
        call.number(millis(unshared)).argument(marker).millis(UNCACHEABLE);
        call.argument(failing).millis(self.failure_memory);
        self.run_and_tell(call).await
    }

    pub(super) async fn write_under_lease(
        &self,
        lease: LeaseKey<'_>,
        writes: &[Write<'_>],
        last_is_there: bool,
    ) -> Result<bool, StoreError> {
        let mut heads = Vec::with_capacity(writes.len());
        for write in writes {
            match self.write_up_to_head(*write).await? {
                Some(head) => heads.push(head),
                None => return Err(StoreError::with_detail(StoreErrorKind::Protocol, "the body is gone")),
            }
        }
        let bodies: Vec<_> =
            heads.iter().zip(writes).filter_map(|(head, write)| Some((write.key, head.written?))).collect();
        let is_elsewhere = |write: &Write<'_>| write.key.primary.digest() != lease.cell.primary.digest();
        // Without an answer it may have been written.
        let is_elsewhere = self.connection.is_cluster() && writes.iter().any(is_elsewhere);
        let commit = Commit { lease, heads: &heads, writes, last_is_there };
        let is_written = match is_elsewhere {
            true => Some(Box::pin(self.commit_elsewhere(commit)).await?),
            false => self.commit_at_once(commit).await?,
        };
        if is_written == Some(true) {
            writes.iter().for_each(|write| self.has_written(write.key, write.cell));
        } else {
            Box::pin(self.end_soon(&bodies)).await;
        }
        is_written.ok_or_else(|| StoreError::new(StoreErrorKind::Denied))
    }

    /// `None` where scripts are not granted.
    async fn commit_at_once(&self, commit: Commit<'_>) -> Result<Option<bool>, StoreError> {
        let Commit { lease, heads, writes, last_is_there } = commit;
        let octets = heads.iter().map(|head| head.value.len()).sum();
        let mut call = Call::with_room(&COMMIT, 3 + writes.len(), octets);
        call.key(self.layout.lease(lease.cell)).key(self.layout.failing(lease.cell)).key(self.layout.awaited(lease));
        for write in writes {
            call.key(self.layout.cell(write.key));
        }
        let must_be_there = if last_is_there { "1" } else { "0" };
        self.tell(call.argument(lease.token.as_bytes()), lease);
        call.millis(UNSHARED).argument(must_be_there);
        for head in heads {
            call.argument(&head.value[..]).millis(head.ttl);
        }
        let answer = self.run(call, Access::Script { writes: true }).await?;
        Ok(answer.map(|answer| self.is_done(answer)))
    }

    /// The same where what is written is stored under another key than the lease, and so maybe in another slot of a
    /// cluster, which no script reaches. A lease that is lost in between is not noticed, nor an index that is.
    async fn commit_elsewhere(&self, commit: Commit<'_>) -> Result<bool, StoreError> {
        let Commit { lease, heads, writes, last_is_there } = commit;
        let may_write = async {
            let last = writes.last().filter(|_| last_is_there);
            Ok(self.prolong_lease(lease, IN_BETWEEN).await?
                && match last {
                    Some(last) => self.read(&self.layout.cell(last.key), 0).await?.is_some(),
                    None => true,
                })
        };
        // Who does not know does not write.
        let may_write: Result<bool, StoreError> = may_write.await;
        if !may_write.unwrap_or(false) {
            return Ok(false);
        }
        let mut commands = Pipeline::with_capacity(heads.len());
        for (head, write) in heads.iter().zip(writes) {
            commands.add_command(set_px(&self.layout.cell(write.key), &head.value, head.ttl));
        }
        let written = self.connection.call_all(LaneName::Heads, Access::Write, &commands).await;
        written.map_err(|failure| failure.error)?;
        // A lease that cannot be given back ends by itself.
        let _ = self.commit_at_once(Commit { heads: &[], writes: &[], last_is_there: false, ..commit }).await;
        Ok(true)
    }

    /// Nobody will ever refer to these bodies. What cannot be reached ends by itself.
    async fn end_soon(&self, bodies: &[(CellKey<'_>, Chunks)]) {
        for (key, chunks) in bodies {
            let _: Result<Expiry, StoreError> = self.expire_chunks(*key, *chunks, READER_MARGIN).await;
        }
    }

    /// Those who wait elsewhere are told of it, unless that is not granted.
    pub(super) fn tell(&self, call: &mut Call, lease: LeaseKey<'_>) {
        match self.leases.mute.lock().is_ok_and(|mute| mute.is_on()) {
            true => call.argument(""),
            false => call.argument(self.layout.wake()),
        };
        call.argument(lease.cell.primary.digest());
    }

    async fn run_and_tell(&self, call: Call) -> Result<(), StoreError> {
        if let Some(answer) = self.run(call, Access::Ending { writes: false }).await? {
            self.is_done(answer);
        }
        Ok(())
    }

    /// Whether it was done, and where somebody was to be told, whether that is granted.
    fn is_done(&self, answer: i64) -> bool {
        if let Ok(mut mute) = self.leases.mute.lock() {
            match answer {
                TOLD => drop(mute.end()),
                UNTOLD => drop(mute.begin()),
                _ => {}
            }
        }
        matches!(answer, DONE | UNTOLD | TOLD)
    }

    /// The number that a script answers; `None` where scripts are not granted.
    pub(super) async fn run(&self, call: Call, access: Access) -> Result<Option<i64>, StoreError> {
        match self.run_for_value(call, access).await? {
            Some(Value::Int(number)) => Ok(Some(number)),
            Some(_) => Err(StoreError::new(StoreErrorKind::Protocol)),
            None => Ok(None),
        }
    }

    /// What a script answers; `None` where scripts are not granted.
    pub(super) async fn run_for_value(&self, call: Call, access: Access) -> Result<Option<Value>, StoreError> {
        match self.connection.run(LaneName::Heads, access, &call).await {
            Ok(value) => {
                if !self.leases.proven.load(Ordering::Relaxed)
                    && let Ok(mut scripts) = self.leases.scripts.lock()
                {
                    self.leases.proven.store(true, Ordering::Relaxed);
                    scripts.end();
                }
                Ok(Some(value))
            }
            Err(failure) if is_refusal(&failure) => {
                if let Ok(mut scripts) = self.leases.scripts.lock() {
                    self.leases.proven.store(false, Ordering::Relaxed);
                    if scripts.begin() {
                        let error = failure.error;
                        tracing::debug!(store.error = %error, "no scripts, and so no leases: each process fetches");
                    }
                }
                Ok(None)
            }
            Err(failure) => Err(failure.error),
        }
    }
}

/// This user may not run the script, or the server knows none.
pub(super) fn is_refusal(failure: &Failure) -> bool {
    match failure.verdict {
        Verdict::NotGranted | Verdict::NoScript => true,
        Verdict::Count => failure.error.kind() == StoreErrorKind::Protocol,
        _ => false,
    }
}

pub(super) fn in_millis(span: Duration) -> String {
    millis(span).max(1).to_string()
}
