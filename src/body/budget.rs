//! Room for octets in memory, shared by all requests: whoever finds none goes without.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A bound on octets.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    used: AtomicU64,
    max: u64,
    holders: AtomicU64,
}

/// Octets taken from a budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    ledger: Arc<Ledger>,
    octets: u64,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Self {
        Self { ledger: Arc::new(Ledger { used: AtomicU64::new(0), max, holders: AtomicU64::new(0) }) }
    }

    pub(crate) fn reserve(&self, octets: u64) -> Option<Reservation> {
        let mut reservation = self.nothing_yet();
        reservation.grow(octets).then_some(reservation)
    }

    /// The same for what can be done without: none of the last half.
    pub(crate) fn reserve_spare(&self, octets: u64) -> Option<Reservation> {
        let is_spare = self.used().checked_add(octets).is_some_and(|sum| sum <= self.ledger.max / 2);
        is_spare.then(|| self.reserve(octets)).flatten()
    }

    /// Takes octets whether there is room for them or not.
    pub(crate) fn take(&self, octets: u64) -> Reservation {
        let mut reservation = self.nothing_yet();
        self.ledger.used.fetch_add(octets, Ordering::Relaxed);
        reservation.octets = octets;
        reservation
    }

    /// A reservation of nothing yet, if there is room for so many octets now.
    pub(crate) fn open(&self, octets: u64) -> Option<Reservation> {
        let fits = self.used().checked_add(octets).is_some_and(|sum| sum <= self.ledger.max);
        fits.then(|| self.nothing_yet())
    }

    /// The same for one who can do with so much as his fair share, and wait for it.
    pub(crate) fn open_share(&self, octets: u64) -> Option<Reservation> {
        let holders = self.ledger.holders.load(Ordering::Relaxed);
        (!self.ledger.is_scarce() || self.ledger.max / holders.saturating_add(1) >= octets).then(|| self.nothing_yet())
    }

    fn nothing_yet(&self) -> Reservation {
        self.ledger.holders.fetch_add(1, Ordering::Relaxed);
        Reservation { ledger: Arc::clone(&self.ledger), octets: 0 }
    }

    pub(crate) fn used(&self) -> u64 {
        self.ledger.used.load(Ordering::Relaxed)
    }
}

/// Room for what several hold together, for as long as one of them does.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedRoom(Arc<Mutex<Weak<Reservation>>>);

impl SharedRoom {
    /// The room for so many octets, if somebody has it or there is some.
    pub(crate) fn reserve(&self, budget: &Budget, octets: u64) -> Option<Arc<Reservation>> {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = room.upgrade().or_else(|| budget.reserve(octets).map(Arc::new))?;
        *room = Arc::downgrade(&held);
        Some(held)
    }
}

impl Ledger {
    fn is_scarce(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.max / 2
    }
}

impl Reservation {
    /// Takes more; `false`, and nothing taken, where there is no room.
    pub(crate) fn grow(&mut self, octets: u64) -> bool {
        let max = self.ledger.max;
        let fits = |used: u64| used.checked_add(octets).filter(|sum| *sum <= max);
        let taken = self.ledger.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.octets += if taken { octets } else { 0 };
        taken
    }

    /// What each would have if all who hold something had the same; as long as half is free nobody need mind.
    pub(crate) fn share(&self) -> u64 {
        match self.ledger.is_scarce() {
            true => self.ledger.max / self.ledger.holders.load(Ordering::Relaxed).max(1),
            false => self.ledger.max,
        }
    }

    /// Takes what is missing to this many; `false`, and nothing taken, where there is no room.
    pub(crate) fn cover(&mut self, octets: u64) -> bool {
        octets <= self.octets || self.grow(octets - self.octets)
    }

    /// Gives back what is more than this many.
    pub(crate) fn shrink_to(&mut self, octets: u64) {
        let surplus = self.octets.saturating_sub(octets);
        self.ledger.used.fetch_sub(surplus, Ordering::Relaxed);
        self.octets -= surplus;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.used.fetch_sub(self.octets, Ordering::Relaxed);
        self.ledger.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_and_comes_back() {
        let budget = Budget::new(10);
        let mut one = budget.reserve(6).unwrap();
        assert!(budget.reserve(5).is_none() && budget.open(5).is_none() && budget.open(4).is_some());
        assert!(one.grow(4) && !one.grow(1) && !one.grow(u64::MAX));
        assert_eq!(budget.used(), 10);
        let beyond = budget.take(5);
        assert_eq!(budget.used(), 15);
        drop(one);
        assert!(budget.reserve(6).is_none() && budget.reserve(5).is_some());
        drop(beyond);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn several_have_one_room_as_long_as_one_of_them_has_it() {
        let (budget, room) = (Budget::new(10), SharedRoom::default());
        let (one, other) = (room.reserve(&budget, 6).unwrap(), room.reserve(&budget, 6).unwrap());
        assert_eq!(budget.used(), 6);
        drop(one);
        assert_eq!(budget.used(), 6);
        drop(other);
        assert_eq!(budget.used(), 0);
        let all = budget.reserve(5).unwrap();
        assert!(room.reserve(&budget, 6).is_none());
        drop(all);
        assert!(room.reserve(&budget, 6).is_some());
    }

    #[test]
    fn what_can_be_done_without_takes_none_of_the_last_half() {
        let budget = Budget::new(10);
        assert!(budget.reserve_spare(6).is_none());
        let half = budget.reserve_spare(5).unwrap();
        assert!(budget.reserve_spare(1).is_none() && budget.reserve_spare(u64::MAX).is_none());
        assert_eq!((budget.used(), half.share()), (5, 10));
    }

    #[test]
    fn a_share_is_what_all_holders_can_have_alike() {
        let budget = Budget::new(12);
        let one = budget.reserve(12).unwrap();
        assert_eq!(one.share(), 12);
        let others: Vec<_> = (0..3).map(|_| budget.open(0).unwrap()).collect();
        assert_eq!(one.share(), 3);
        assert!(budget.open_share(3).is_none() && budget.open_share(2).is_some());
        drop(one);
        assert_eq!(others[0].share(), 12, "nothing is used");
        assert!(budget.open_share(12).is_some());
        drop((others, budget.take(5)));
        assert_eq!(budget.reserve(7).unwrap().share(), 12, "one holder");
    }
}
