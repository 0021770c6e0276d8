//! Lanes: one multiplexed connection for heads and one for bodies, so that a small answer never waits behind a large
//! one. Commands in flight are bounded on each; one more than that is refused at once, unless a body has to go on.

use std::sync::Mutex;

use redis::aio::MultiplexedConnection;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::breaker::Breaker;
use crate::error::{StoreError, StoreErrorKind};

/// Which lane a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneName {
    Heads,
    Bodies,
}

/// The place of one connection, which may be empty, and the record of how its commands fare.
#[derive(Debug)]
pub(crate) struct Lane {
    link: Mutex<Option<Linked>>,
    in_flight: Semaphore,
    pub(crate) breaker: Breaker,
}

/// A connection, and the generation it belongs to: what is reported of an older one says nothing of the present one.
#[derive(Clone, Debug)]
pub(crate) struct Linked {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) generation: u64,
}

/// Commands in flight on one lane.
pub(crate) const MAX_IN_FLIGHT: usize = 1024;

impl Lane {
    pub(crate) fn new() -> Self {
        Self { link: Mutex::new(None), in_flight: Semaphore::new(MAX_IN_FLIGHT), breaker: Breaker::new() }
    }

    pub(crate) fn enter(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.in_flight.try_acquire().map_err(|_| StoreError::new(StoreErrorKind::Busy))
    }

    /// The same, waiting for its turn.
    pub(crate) async fn queue(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.in_flight.acquire().await.map_err(|_| StoreError::new(StoreErrorKind::Busy))
    }

    pub(crate) fn link(&self) -> Option<Linked> {
        self.link.lock().ok()?.clone()
    }

    /// Puts a new connection in place of the old, or none.
    pub(crate) fn replace(&self, link: Option<Linked>) {
        if let Ok(mut place) = self.link.lock() {
            *place = link;
        }
        self.breaker.forgive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_command_too_many_is_refused_unless_it_waits_for_its_turn() {
        let lane = Lane::new();
        let entered: Vec<_> = (0..MAX_IN_FLIGHT).map(|_| lane.enter().unwrap()).collect();
        assert_eq!(lane.enter().unwrap_err().kind(), StoreErrorKind::Busy);
        let queued = lane.queue();
        let (permit, ()) = tokio::join!(queued, async { drop(entered) });
        assert!(permit.is_ok() && lane.enter().is_ok());
    }
}
