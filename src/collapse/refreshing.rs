//! One refresh per key at a time, and not too many in all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::key::CacheKey;

/// The keys that are being refreshed in the background.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refreshing {
    keys: Arc<Mutex<HashSet<[u8; CacheKey::DIGEST_LEN]>>>,
}

/// The right to refresh one key, given back on drop.
#[derive(Debug)]
pub(crate) struct RefreshTurn {
    refreshing: Refreshing,
    key: [u8; CacheKey::DIGEST_LEN],
}

const MAX_KEYS: usize = 256;

impl Refreshing {
    /// The turn, unless somebody has it, or there are too many.
    pub(crate) fn enter(&self, key: &CacheKey) -> Option<RefreshTurn> {
        let mut keys = self.keys.lock().ok()?;
        if keys.len() >= MAX_KEYS || !keys.insert(*key.digest()) {
            return None;
        }
        Some(RefreshTurn { refreshing: self.clone(), key: *key.digest() })
    }
}

impl Drop for RefreshTurn {
    fn drop(&mut self) {
        if let Ok(mut keys) = self.refreshing.keys.lock() {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_refreshed_once_at_a_time_and_keys_are_bounded() {
        let refreshing = Refreshing::default();
        let turn = refreshing.enter(&CacheKey::from("k"));
        assert!(turn.is_some() && refreshing.enter(&CacheKey::from("k")).is_none());
        drop(turn);
        let turns: Vec<_> = (0..MAX_KEYS).map(|n| refreshing.enter(&CacheKey::from(n.to_string())).unwrap()).collect();
        assert!(refreshing.enter(&CacheKey::from("k")).is_none());
        drop(turns);
        assert!(refreshing.enter(&CacheKey::from("k")).is_some());
    }
}
