//! The one task that waits for a server in trouble.
//!
//! It connects both lanes anew, with a new look-up of the name, and lets each answer a read before requests may use
//! them. It is started by whoever needs the link and finds it down; it ends when it has succeeded or the store is gone.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value};
use tokio::runtime::Handle;
use tokio::time;
use tracing::Instrument;

use super::breaker::Backoff;
use super::lanes::Linked;
use super::link::{Link, LinkState};
use super::replies::{Failure, cure};
use crate::clock::Stopwatch;
use crate::error::{StoreError, StoreErrorKind};

/// Who repairs, and how often it was needed.
#[derive(Debug)]
pub(crate) struct RepairState {
    /// The task that has the right to repair, and when it last gave a sign of life.
    running: Option<(u64, Stopwatch)>,
    next_task: u64,
    backoff: Backoff,
    /// Since when the link has been up.
    up: Option<Stopwatch>,
    warned: Option<Stopwatch>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// A link that stayed up for so long starts its next repair without a pause.
const PROVEN: Duration = Duration::from_secs(10);
/// A task that gave no sign for so long sits in a runtime that nobody drives.
const LOST: Duration = Duration::from_secs(5);
/// Changes that follow each other faster are not told apart in the log.
const WARN_INTERVAL: Duration = Duration::from_secs(5);
const PIPELINE_DEPTH: usize = 512;

impl RepairState {
    pub(crate) fn new() -> Self {
        Self { running: None, next_task: 0, backoff: Backoff::new(FIRST_RETRY, LAST_RETRY), up: None, warned: None }
    }

    /// The number of a task that may start now.
    fn begin(&mut self) -> Option<(u64, Option<Duration>)> {
        if self.running.is_some_and(|(_, sign)| sign.elapsed() < LOST) {
            return None;
        }
        self.next_task += 1;
        self.running = Some((self.next_task, Stopwatch::start()));
        // One that flaps is not reconnected at once, again and again.
        let flapping = self.up.take().is_some_and(|up| up.elapsed() < PROVEN);
        if !flapping {
            self.backoff.reset();
        }
        Some((self.next_task, flapping.then(|| self.backoff.next())))
    }

    /// A sign of life; `false` for a task that has been given up.
    fn sign(&mut self, task: u64) -> bool {
        match &mut self.running {
            Some((running, sign)) if *running == task => {
                *sign = Stopwatch::start();
                true
            }
            _ => false,
        }
    }
}

/// The right to repair; given back when the task ends, however it ends.
#[derive(Debug)]
struct Repairing {
    link: Weak<Link>,
    task: u64,
    succeeded: bool,
}

impl Drop for Repairing {
    fn drop(&mut self) {
        let Some(link) = self.link.upgrade() else { return };
        if let Ok(mut repair) = link.repair.lock()
            && repair.running.is_some_and(|(running, _)| running == self.task)
        {
            repair.running = None;
        }
        // The link may have failed again before the right was given back. A task that was cut off, though, was so by its
        // runtime, which would do the same to its successor: the next request starts one in a runtime that lives.
        if self.succeeded && link.down.load(Ordering::Acquire) {
            link.start_repair();
        }
    }
}

impl Link {
    /// Starts the repair, unless it runs.
    pub(super) fn start_repair(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Some((task, pause)) = self.repair.lock().ok().and_then(|mut repair| repair.begin()) else { return };
        let repairing = repair(Repairing { link: Arc::downgrade(self), task, succeeded: false }, pause);
        runtime.spawn(repairing.instrument(tracing::debug_span!(parent: None, "repair")));
    }

    /// Whether the log has not heard of a change just now.
    pub(super) fn may_warn(&self) -> bool {
        let Ok(mut repair) = self.repair.lock() else { return false };
        let may = repair.warned.is_none_or(|warned| warned.elapsed() >= WARN_INTERVAL);
        if may {
            repair.warned = Some(Stopwatch::start());
        }
        may
    }

    /// Goes where the primary is by now, if that is elsewhere: one that nobody watches any more may take reads and writes for ever.
    pub(super) async fn follow_primary(self: &Arc<Self>) {
        let present = self.present.lock().ok().and_then(|present| present.clone());
        let Some(present) = present else { return };
        if self.address.has_moved_from(&present).await {
            if self.may_warn() {
                tracing::warn!(redis = %self.address, "another Redis is the primary now");
            }
            self.start_repair();
        }
    }

    fn next_pause(&self) -> Duration {
        self.repair.lock().map_or(LAST_RETRY, |mut repair| repair.backoff.next())
    }

    async fn connect(&self, client: &Client) -> Result<[MultiplexedConnection; 2], StoreError> {
        match time::timeout(CONNECT_TIMEOUT, open_lanes(client)).await {
            Ok(Ok(lanes)) => {
                let mut lanes = self.read_through(lanes).await?;
                self.is_primary(&mut lanes[0]).await?;
                self.provide(&mut lanes[0]).await;
                if let Ok(mut present) = self.present.lock() {
                    *present = Some(client.get_connection_info().addr().clone());
                }
                Ok(lanes)
            }
            Ok(Err(error)) => Err(Failure::from(&error).error),
            Err(_) => Err(StoreError::new(StoreErrorKind::Timeout)),
        }
    }

    /// A server that takes longer for a read than a request may wait is of no use yet.
    async fn read_through(
        &self,
        mut lanes: [MultiplexedConnection; 2],
    ) -> Result<[MultiplexedConnection; 2], StoreError> {
        for lane in &mut lanes {
            if self.is_replica && self.settings.is_of_cluster {
                // Otherwise it sends whoever asks to its primary.
                let reading =
                    time::timeout(self.settings.patience, lane.send_packed_command(&redis::cmd("READONLY"))).await;
                let reading = reading.map_err(|_| StoreError::new(StoreErrorKind::Timeout))?;
                reading.and_then(Value::extract_error).map_err(|error| Failure::from(&error).error)?;
            }
            let mut probe = redis::cmd("GET");
            probe.arg(&self.settings.probe);
            let answer = time::timeout(self.settings.patience, lane.send_packed_command(&probe)).await;
            let answer = answer.map_err(|_| StoreError::new(StoreErrorKind::Timeout))?;
            let answer = answer.and_then(Value::extract_error).map_err(|error| Failure::from(&error));
            if let Err(failure) = answer
                && !failure.is_of_well_node(&self.settings)
            {
                return Err(failure.error);
            }
        }
        Ok(lanes)
    }

    /// Sentinel may name one that does not know yet that it is to be the primary, or a primary that does not know yet that it
    /// is one no more. Where ROLE is not granted, that shows by the first write.
    async fn is_primary(&self, connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
        if self.is_replica || !self.address.is_watched() {
            return Ok(());
        }
        let role = time::timeout(self.settings.patience, connection.send_packed_command(&redis::cmd("ROLE"))).await;
        match role.map_err(|_| StoreError::new(StoreErrorKind::Timeout))? {
            Ok(Value::Array(role)) if role.first() != Some(&Value::BulkString(b"master".to_vec())) => {
                Err(StoreError::with_detail(StoreErrorKind::NotReady, "not the primary"))
            }
            _ => Ok(()),
        }
    }

    fn come_up(&self, [heads, bodies]: [MultiplexedConnection; 2]) {
        let generation = self.generations.fetch_add(1, Ordering::AcqRel) + 1;
        self.generation.store(generation, Ordering::Release);
        self.heads.replace(Some(Linked { connection: heads, generation }));
        self.bodies.replace(Some(Linked { connection: bodies, generation }));
        if let Ok(mut repair) = self.repair.lock() {
            repair.up = Some(Stopwatch::start());
        }
        let was_down = self.down.swap(false, Ordering::AcqRel);
        self.state.send_replace(LinkState::Up);
        if was_down {
            // It may be another server, or the same in another state.
            if let Ok(mut writes) = self.writes.lock() {
                writes.lift();
            }
            tracing::warn!(redis = %self.address, "Redis is available again");
        }
    }
}

async fn open_lanes(client: &Client) -> redis::RedisResult<[MultiplexedConnection; 2]> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE_DEPTH);
    Ok([
        client.get_multiplexed_async_connection_with_config(&config).await?,
        client.get_multiplexed_async_connection_with_config(&config).await?,
    ])
}

/// Tries until it has succeeded, somebody else has taken over, or the store is gone.
async fn repair(mut right: Repairing, mut pause: Option<Duration>) {
    let mut has_told = false;
    loop {
        // Nothing may be held over a pause, or a layer that was dropped would live on.
        if let Some(pause) = pause {
            time::sleep(pause).await;
        }
        let Some(link) = right.link.upgrade() else { return };
        if !link.repair.lock().is_ok_and(|mut repair| repair.sign(right.task)) {
            return;
        }
        let connected = match link.address.client(None).await {
            Ok(client) => link.connect(&client).await,
            Err(error) => Err(error),
        };
        match connected {
            // Given up meanwhile, it does not undo what its successor did.
            Ok(_) if !link.repair.lock().is_ok_and(|mut repair| repair.sign(right.task)) => return,
            Ok(lanes) => {
                link.come_up(lanes);
                right.succeeded = true;
                return;
            }
            // A connection that is there is as good as before; if it fails, those who use it will say so.
            Err(error) if link.heads.generation().is_some() => {
                if !std::mem::replace(&mut has_told, true) {
                    tracing::warn!(
                        redis = %link.address, store.error = %error, cure = cure(&error),
                        "no better connection to Redis is to be had"
                    );
                }
            }
            Err(error) => link.mark_down(&error),
        }
        pause = Some(link.next_pause());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_repairs_at_a_time() {
        let mut state = RepairState::new();
        let (first, pause) = state.begin().unwrap();
        assert!(pause.is_none() && state.begin().is_none());
        assert!(state.sign(first) && !state.sign(first + 1));
        state.running = None;
        let (second, _) = state.begin().unwrap();
        assert!(!state.sign(first) && state.sign(second));
    }

    #[test]
    fn a_link_that_fails_soon_after_its_repair_waits_longer_each_time() {
        let mut state = RepairState::new();
        state.begin().unwrap();
        let mut last = Duration::ZERO;
        for _ in 0..3 {
            state.running = None;
            state.up = Some(Stopwatch::start());
            let (_, pause) = state.begin().unwrap();
            let pause = pause.unwrap();
            assert!(pause > last, "{pause:?}");
            last = pause;
        }
    }
}
