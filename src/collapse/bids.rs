//! Leases that are asked for together with the look-up: while nothing is found, one round trip does for both.
//!
//! Whoever bids for a key does so for all who want it in this process: who gets to fetch it takes the bid over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lease::Token;
use crate::key::CacheKey;
use crate::key::digests::Seed;

/// The bids of one process, and whether they are worth it.
#[derive(Debug, Default)]
pub(crate) struct Bids {
    /// Look-ups that found nothing since one found something.
    in_vain: AtomicU32,
    by_key: Mutex<HashMap<[u8; CacheKey::DIGEST_LEN], Token, Seed>>,
    /// That spares most leads the lock. Whoever has entered looks for a lead in the table of flights, and whoever is a lead
    /// by then has been there before: one of the two sees the other.
    count: AtomicUsize,
}

/// So many in a row are no accident: with one hit among ten requests this is reached once in five times, with one among
/// two hardly ever.
const ENOUGH: u32 = 16;
/// Bids at one time; whoever comes then looks first.
const MOST: usize = 1024;

impl Bids {
    /// What a look-up came to.
    pub(crate) fn looked(&self, has_found_nothing: bool) {
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        match has_found_nothing {
            // One that is lost between two is one more to come; an end that is lost comes with the next that is found.
            true if in_vain < ENOUGH => self.in_vain.store(in_vain + 1, Ordering::Relaxed),
            false if in_vain > 0 => self.in_vain.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    pub(crate) fn are_worth_it(&self) -> bool {
        self.in_vain.load(Ordering::Relaxed) >= ENOUGH
    }

    /// Whether this is the first for its key, and has a place.
    pub(crate) fn enter(&self, key: &CacheKey, token: &Token) -> bool {
        let mut bids = self.lock();
        let is_entered = bids.len() < MOST && !bids.contains_key(key.digest());
        if is_entered {
            bids.insert(*key.digest(), token.clone());
            self.count.store(bids.len(), Ordering::Release);
        }
        is_entered
    }

    /// Takes over what was bid for a key, whether it is granted or not.
    pub(crate) fn take_over(&self, key: &CacheKey) -> Option<Token> {
        match self.count.load(Ordering::Acquire) {
            0 => None,
            _ => self.remove(key, |_| true),
        }
    }

    /// Whether nobody has taken it over.
    pub(crate) fn leave(&self, key: &CacheKey, token: &Token) -> bool {
        self.remove(key, |present| present == token).is_some()
    }

    fn remove(&self, key: &CacheKey, is_meant: impl FnOnce(&Token) -> bool) -> Option<Token> {
        let mut bids = self.lock();
        bids.get(key.digest()).filter(|token| is_meant(token))?;
        let token = bids.remove(key.digest());
        self.count.store(bids.len(), Ordering::Release);
        token
    }

    /// No panic can leave the map half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; CacheKey::DIGEST_LEN], Token, Seed>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collapse::lease::Instance;

    #[test]
    fn they_are_worth_it_when_nothing_is_found_for_long() {
        let bids = Bids::default();
        for _ in 0..ENOUGH {
            assert!(!bids.are_worth_it());
            bids.looked(true);
        }
        assert!(bids.are_worth_it());
        bids.looked(true);
        assert!(bids.are_worth_it());
        bids.looked(false);
        assert!(!bids.are_worth_it());
    }

    #[test]
    fn there_is_one_for_a_key_and_one_who_has_it() {
        let (bids, key, instance) = (Bids::default(), CacheKey::from("k"), Instance::new());
        let (first, second) = (instance.token(), instance.token());
        assert_eq!(bids.take_over(&key), None);
        assert!(bids.enter(&key, &first) && !bids.enter(&key, &second));
        assert!(!bids.leave(&key, &second));
        assert_eq!(bids.take_over(&key), Some(first.clone()));
        assert!(!bids.leave(&key, &first));
        assert!(bids.enter(&key, &second) && !bids.leave(&key, &first) && bids.leave(&key, &second));
        assert_eq!(bids.take_over(&key), None);
    }

    #[test]
    fn there_are_no_more_than_there_may_be() {
        let (bids, token) = (Bids::default(), Instance::new().token());
        let keys: Vec<_> = (0..=MOST).map(|n| CacheKey::from(n.to_string())).collect();
        assert!(keys[..MOST].iter().all(|key| bids.enter(key, &token)));
        assert!(!bids.enter(&keys[MOST], &token));
        assert!(bids.leave(&keys[0], &token) && bids.enter(&keys[MOST], &token));
    }
}
