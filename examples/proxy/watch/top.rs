//! What is asked for most, in bounded memory: the algorithm "space saving" (Metwally, Agrawal, El Abbadi, 2005).

use std::collections::HashMap;

/// Targets that are counted at a time.
const MOST: usize = 256;
/// Longer ones are cut.
const LENGTH: usize = 200;

/// Counts of the most frequent targets. One that is new takes the place of the least frequent and its count, so a count
/// is never too low, and too high by no more than the least.
#[derive(Debug, Default)]
pub(crate) struct Top {
    counts: HashMap<Box<str>, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    asked: u64,
    /// How often the cache had it, since it is counted.
    saved: u64,
}

// ===== impl Top =====

impl Top {
    pub(crate) fn count(&mut self, target: &str, is_saved: bool) {
        let target = cut(target);
        let count = match self.counts.get_mut(target) {
            Some(count) => count,
            None => {
                let inherited = if self.counts.len() < MOST { 0 } else { self.give_up_least() };
                self.counts.entry(target.into()).or_insert(Count { asked: inherited, saved: 0 })
            }
        };
        count.asked += 1;
        count.saved += u64::from(is_saved);
    }

    /// The count of who had to go.
    fn give_up_least(&mut self) -> u64 {
        let least = self.counts.iter().min_by_key(|(_, count)| count.asked);
        let Some((target, asked)) = least.map(|(target, count)| (target.clone(), count.asked)) else { return 0 };
        self.counts.remove(&target);
        asked
    }

    pub(crate) fn first(&self, most: usize) -> Vec<(String, u64, u64)> {
        let mut all: Vec<_> = self.counts.iter().map(|(target, count)| (&**target, count)).collect();
        all.sort_by(|one, other| other.1.asked.cmp(&one.1.asked).then(one.0.cmp(other.0)));
        all.into_iter().take(most).map(|(target, count)| (target.to_owned(), count.asked, count.saved)).collect()
    }
}

fn cut(target: &str) -> &str {
    let end = (0..=LENGTH.min(target.len())).rev().find(|end| target.is_char_boundary(*end)).unwrap_or(0);
    &target[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_often_is_never_lost_among_what_is_asked_for_once() {
        let mut top = Top::default();
        for n in 0..20 * MOST {
            top.count(&format!("/once/{n}"), false);
            if n % 4 == 0 {
                top.count("/often", true);
            }
        }
        let first = top.first(1);
        let [(target, asked, saved)] = &first[..] else { panic!("there is one") };
        let often = 5 * MOST as u64;
        assert!(target == "/often" && *asked >= often && *saved >= often - often / 4, "{first:?}");
        assert!(top.counts.len() <= MOST);
    }

    #[test]
    fn long_targets_are_cut_between_characters() {
        let mut top = Top::default();
        top.count(&"ä".repeat(LENGTH), false);
        assert_eq!(top.first(1)[0].0, "ä".repeat(LENGTH / 2));
    }
}
