//! Work off the clients' path: counted, bounded, and waited for when the service shuts down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time;

/// Counts tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Background {
    office: Arc<Office>,
}

#[derive(Debug, Default)]
struct Office {
    running: AtomicU64,
    idle: Notify,
}

/// A task's place, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    office: Arc<Office>,
}

/// Tasks at one time. The octets they hold are bounded besides.
const MAX_TASKS: u64 = 8 * 1024;
/// Removals and the like, beyond those.
const MAX_SHORT_TASKS: u64 = 4 * 1024;

impl Background {
    /// A place for one more task, unless there are too many.
    pub(crate) fn enter(&self) -> Option<Place> {
        self.enter_up_to(MAX_TASKS)
    }

    /// The same for a short task that has to be done however many fetches are under way.
    pub(crate) fn enter_first(&self) -> Option<Place> {
        self.enter_up_to(MAX_TASKS + MAX_SHORT_TASKS)
    }

    fn enter_up_to(&self, most: u64) -> Option<Place> {
        let one_more = |running: u64| (running < most).then_some(running + 1);
        self.office.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Place { office: Arc::clone(&self.office) })
    }

    pub(crate) fn running(&self) -> u64 {
        self.office.running.load(Ordering::Acquire)
    }

    /// Waits until no task runs; `false` if some still do when the time is over.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        let all_ended = async {
            loop {
                let ended = self.office.idle.notified();
                if self.running() == 0 {
                    return;
                }
                ended.await;
            }
        };
        time::timeout(limit, all_ended).await.is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.office.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.office.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_task_too_many_finds_no_place() {
        let background = Background::default();
        let places: Vec<_> = (0..MAX_TASKS).map(|_| background.enter().unwrap()).collect();
        assert!(background.enter().is_none());
        let first: Vec<_> = (0..MAX_SHORT_TASKS).map(|_| background.enter_first().unwrap()).collect();
        assert!(background.enter_first().is_none());
        drop(first);
        assert!(!background.drain(Duration::from_millis(1)).await);
        drop(places);
        assert!(background.drain(Duration::ZERO).await);
    }

    #[tokio::test]
    async fn draining_wakes_when_the_last_task_ends() {
        let background = Background::default();
        let place = background.enter().unwrap();
        let waiting = background.clone();
        let drained = tokio::spawn(async move { waiting.drain(Duration::from_secs(60)).await });
        tokio::task::yield_now().await;
        drop(place);
        assert!(drained.await.unwrap());
    }
}
