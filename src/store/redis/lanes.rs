//! Lanes: one multiplexed connection for heads and one for bodies, so that a small answer never waits behind a large
//! one. Commands in flight are bounded on each; one more than that is refused at once, unless a body has to go on, or
//! something has to end.

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
    first: Semaphore,
    beside: Semaphore,
    turns: Semaphore,
    pub(crate) breaker: Breaker,
}

/// A connection, and the generation it belongs to: what is reported of an older one says nothing of the present one.
#[derive(Clone, Debug)]
pub(crate) struct Linked {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) generation: u64,
}

/// A place among the commands in flight, and the turn of one that could wait for it.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _turn: SemaphorePermit<'a>,
    pub(crate) in_flight: SemaphorePermit<'a>,
}

/// Commands in flight on one lane.
pub(crate) const MAX_IN_FLIGHT: usize = 1024;
/// Those of them that can wait for their turn: the server answers one command after another, so that each large answer
/// that it is at work on is in the way of all small ones, on whatever connection. A few keep it busy.
const MAX_TURNS: usize = 4;
/// Besides all those, of such as may not be refused.
const MAX_FIRST: usize = 256;
/// And of such as go beside others.
const MAX_BESIDE: usize = 256;

impl Lane {
    pub(crate) fn new() -> Self {
        let [in_flight, first, beside, turns] = [MAX_IN_FLIGHT, MAX_FIRST, MAX_BESIDE, MAX_TURNS].map(Semaphore::new);
        Self { link: Mutex::new(None), in_flight, first, beside, turns, breaker: Breaker::new() }
    }

    pub(crate) fn enter(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.in_flight.try_acquire().map_err(|_| StoreError::new(StoreErrorKind::Busy))
    }

    /// The same for what goes beside something else: it takes no place of that.
    pub(crate) fn enter_beside(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.beside.try_acquire().map_err(|_| StoreError::new(StoreErrorKind::Busy))
    }

    /// The same for what may not be left undone because much else is asked: where no place is free it waits for its like
    /// alone.
    pub(crate) async fn enter_first(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        match self.first.try_acquire().or_else(|_| self.in_flight.try_acquire()) {
            Ok(place) => Ok(place),
            Err(_) => self.first.acquire().await.map_err(|_| StoreError::new(StoreErrorKind::Busy)),
        }
    }

    /// The same, waiting for its turn: whoever came first has it first.
    pub(crate) async fn queue(&self) -> Result<Turn<'_>, StoreError> {
        let busy = |_| StoreError::new(StoreErrorKind::Busy);
        let _turn = self.turns.acquire().await.map_err(busy)?;
        Ok(Turn { _turn, in_flight: self.in_flight.acquire().await.map_err(busy)? })
    }

    /// That of the connection, if there is one.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.link.lock().ok()?.as_ref().map(|linked| linked.generation)
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
    use std::pin::pin;
    use std::task::{Context, Waker};

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

    #[test]
    fn what_goes_beside_takes_no_place_of_anything_else() {
        let lane = Lane::new();
        let beside: Vec<_> = (0..MAX_BESIDE).map(|_| lane.enter_beside().unwrap()).collect();
        assert_eq!(lane.enter_beside().unwrap_err().kind(), StoreErrorKind::Busy);
        let _entered: Vec<_> = (0..MAX_IN_FLIGHT).map(|_| lane.enter().unwrap()).collect();
        drop(beside);
        assert!(lane.enter_beside().is_ok());
    }

    #[tokio::test]
    async fn what_may_not_be_refused_waits_for_its_like_alone() {
        let lane = Lane::new();
        let mut first = Vec::new();
        let _entered: Vec<_> = (1..MAX_IN_FLIGHT).map(|_| lane.enter().unwrap()).collect();
        for _ in 0..=MAX_FIRST {
            first.push(lane.enter_first().await.unwrap());
        }
        assert_eq!(lane.enter().unwrap_err().kind(), StoreErrorKind::Busy);
        let mut next = pin!(lane.enter_first());
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(first.swap_remove(0));
        assert!(next.await.is_ok());
    }

    #[tokio::test]
    async fn a_few_take_their_turns_and_the_others_wait() {
        let lane = Lane::new();
        let mut turns = Vec::new();
        for _ in 0..MAX_TURNS {
            turns.push(lane.queue().await.unwrap());
        }
        let mut next = pin!(lane.queue());
        let mut context = Context::from_waker(Waker::noop());
        assert!(next.as_mut().poll(&mut context).is_pending() && lane.enter().is_ok(), "what cannot wait does not");
        turns.pop();
        assert!(next.await.is_ok());
    }
}
