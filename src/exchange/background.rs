//! Work off the clients' path. It begins here and nowhere else: each piece has a name, which its span carries, and a
//! place, of which there are so many; it is waited for when the service shuts down, and stopped when that takes too long.
//!
//! Three kinds of tasks are none of this, and end with what they serve: those that read chunks ahead of a client, and
//! those that repair a connection to Redis and listen to it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time;
use tracing::Instrument;

use crate::boxed::boxed;

/// Counts tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Background {
    office: Arc<Office>,
}

#[derive(Debug, Default)]
struct Office {
    running: AtomicU64,
    idle: Notify,
    /// Those who wait for all to end.
    draining: AtomicU64,
    stop: watch::Sender<()>,
}

/// A task's place, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    office: Arc<Office>,
    stopped: watch::Receiver<()>,
}

/// Somebody who waits for all to end.
#[derive(Debug)]
struct Draining<'a>(&'a Office);

/// Tasks at one time. The octets they hold are bounded besides.
const MAX_TASKS: u64 = 8 * 1024;
/// Removals and the like, beyond those.
const MAX_SHORT_TASKS: u64 = 4 * 1024;
/// What a task that is stopped may take until it is.
const LAST_MOMENT: Duration = Duration::from_millis(100);

// ===== impl Background =====

impl Background {
    /// A place for one more task, unless there are too many.
    pub(crate) fn enter(&self) -> Option<Place> {
        self.enter_up_to(MAX_TASKS)
    }

    /// The same for a short task that has to be done however many fetches are under way.
    pub(crate) fn enter_first(&self) -> Option<Place> {
        self.enter_up_to(MAX_TASKS + MAX_SHORT_TASKS)
    }

    /// The same for a task that nobody misses: none while all are to end.
    pub(crate) fn enter_last(&self) -> Option<Place> {
        match self.office.draining.load(Ordering::Acquire) {
            0 => self.enter(),
            _ => None,
        }
    }

    fn enter_up_to(&self, most: u64) -> Option<Place> {
        let one_more = |running: u64| (running < most).then_some(running + 1);
        self.office.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Place { office: Arc::clone(&self.office), stopped: self.office.stop.subscribe() })
    }

    pub(crate) fn running(&self) -> u64 {
        self.office.running.load(Ordering::Acquire)
    }

    /// Waits until no task runs; those that still do when the time is over are stopped, and it is `false`.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        self.office.draining.fetch_add(1, Ordering::AcqRel);
        let _draining = Draining(&self.office);
        if time::timeout(limit, self.all_ended()).await.is_ok() {
            return true;
        }
        tracing::debug!(tasks = self.running(), "stopping what has not ended in time");
        self.office.stop.send_replace(());
        // One that blocks its thread cannot be stopped.
        let _ = time::timeout(LAST_MOMENT, self.all_ended()).await;
        false
    }

    async fn all_ended(&self) {
        loop {
            let ended = self.office.idle.notified();
            if self.running() == 0 {
                return;
            }
            ended.await;
        }
    }
}

// ===== impl Place =====

impl Place {
    /// Begins a task in this place, under this name. It yields nothing where it is stopped.
    #[inline]
    pub(crate) fn begin<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        self,
        name: &'static str,
        task: impl FnOnce() -> F,
    ) -> JoinHandle<Option<T>> {
        self.begin_in(&Handle::current(), name, boxed(task))
    }

    pub(crate) fn begin_in<T: Send + 'static>(
        mut self,
        runtime: &Handle,
        name: &'static str,
        mut task: Pin<Box<impl Future<Output = T> + Send + 'static>>,
    ) -> JoinHandle<Option<T>> {
        let working = async move {
            let done = tokio::select! {
                biased;
                done = &mut task => Some(done),
                _ = self.stopped.changed() => None,
            };
            if done.is_none() {
                tracing::debug!("stopped");
            }
            // What it holds is let go before its place.
            drop(task);
            drop(self);
            done
        };
        runtime.spawn(working.instrument(tracing::debug_span!("background", task = name)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.office.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.office.idle.notify_waiters();
        }
    }
}

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        self.0.draining.fetch_sub(1, Ordering::AcqRel);
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

    #[tokio::test(start_paused = true)]
    async fn what_has_not_ended_in_time_is_stopped_and_lets_go() {
        let background = Background::default();
        let held = Arc::new(());
        let owned = Arc::clone(&held);
        let task = background.enter().unwrap().begin("test", || async move {
            let _owned = owned;
            std::future::pending::<()>().await;
        });
        assert!(!background.drain(Duration::from_secs(5)).await);
        assert_eq!((background.running(), Arc::strong_count(&held)), (0, 1));
        assert_eq!(task.await.unwrap(), None);
        let next = background.enter().unwrap().begin("test", || async { 7 });
        assert_eq!(next.await.unwrap(), Some(7), "only what ran then is stopped");
        assert!(background.drain(Duration::ZERO).await);
    }

    #[tokio::test]
    async fn nothing_that_can_be_left_begins_while_all_are_to_end() {
        let background = Background::default();
        let place = background.enter_last().unwrap();
        let mut draining = Box::pin(background.drain(Duration::from_secs(60)));
        assert!(draining.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
        assert!(
            background.enter_last().is_none() && background.enter().is_some() && background.enter_first().is_some()
        );
        drop(place);
        assert!(draining.await);
        assert!(background.enter_last().is_some());
    }
}
