//! Tables of what is told by digests of keys.
//!
//! The octets of a digest are as good as random, but whoever chooses a URL can try until some of them are what he wants:
//! where in a table they lead depends on a number that nobody outside this process knows.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::thread::available_parallelism;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter, Weighter};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A bounded table; the least useful go first (S3-FIFO).
pub(crate) type Recall<K, V, W = UnitWeighter> = Cache<K, V, W, Seed>;

/// What hashes in one table begin with.
#[derive(Clone, Debug)]
pub(crate) struct Seed(u64);

/// For digests. All else that a key has besides may be known beforehand.
#[derive(Clone, Debug)]
pub(crate) struct DigestHasher(u64);

/// 2^64 divided by the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A table of so many.
pub(crate) fn recall<K: Eq + Hash, V: Clone>(most: usize) -> Recall<K, V> {
    recall_weighed(most, most as u64, UnitWeighter, u64::MAX)
}

/// A table of so many octets, or whatever is weighed, in parts of their own, as many as there may be: each has its share.
pub(crate) fn recall_weighed<K, V, W>(estimate: usize, most: u64, weighter: W, most_parts: u64) -> Recall<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let cores = available_parallelism().map_or(1, usize::from);
    let parts = usize::try_from(most_parts).unwrap_or(usize::MAX).clamp(1, 4 * cores);
    let mut options = OptionsBuilder::new();
    options.estimated_items_capacity(estimate).weight_capacity(most);
    // What is no power of two is rounded up.
    options.shards(1 << parts.ilog2());
    let options = options.build().expect("all that is needed is given");
    Cache::with_options(options, weighter, Seed::default(), DefaultLifecycle::default())
}

impl Default for Seed {
    fn default() -> Self {
        // Of the operating system's making: what other random numbers tell of themselves tells nothing of it.
        Self(RandomState::new().hash_one(0_u8))
    }
}

impl BuildHasher for Seed {
    type Hasher = DigestHasher;

    fn build_hasher(&self) -> DigestHasher {
        DigestHasher(self.0)
    }
}

impl Hasher for DigestHasher {
    fn write(&mut self, octets: &[u8]) {
        self.0 = xxh3_64_with_seed(octets, self.0);
    }

    /// A length, or which of several kinds it is.
    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0 ^ number as u64).wrapping_mul(ODD);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_usize(number.cast_unsigned());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::key::CacheKey;
    use crate::semantics::vary::VariantKey;

    #[test]
    fn what_differs_in_anything_has_another_hash_and_each_table_its_own() {
        let (one, other) = (Seed::default(), Seed::default());
        let variants = [None, Some(0), Some(1)].map(|n| n.map(|n| VariantKey::from_bytes([n; VariantKey::LEN])));
        let names: Vec<_> = (0..1000_u32)
            .map(|n| *CacheKey::from(n.to_string()).digest())
            .flat_map(|digest| variants.map(|variant| (digest, variant)))
            .collect();
        let hashes: HashSet<u64> = names.iter().flat_map(|name| [one.hash_one(name), other.hash_one(name)]).collect();
        assert_eq!(hashes.len(), 2 * names.len());
        assert!(names.iter().all(|name| one.hash_one(name) == one.hash_one(name)));
    }

    #[test]
    fn digests_are_spread_over_a_table_evenly() {
        let seed = Seed::default();
        let mut counts = [[0_u32; 256]; 2];
        for n in 0..64 * 256_u32 {
            let hash = seed.hash_one((*CacheKey::from(n.to_string()).digest(), None::<VariantKey>));
            counts[0][usize::from(hash.to_le_bytes()[0])] += 1;
            counts[1][usize::from(hash.to_le_bytes()[7])] += 1;
        }
        // Eight standard deviations.
        assert!(counts.iter().flatten().all(|count| count.abs_diff(64) < 64), "{counts:?}");
    }
}
