//! The most fetches that the service is at work on at one time, and a bounded queue before it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;

/// Hands out permits to fetch.
#[derive(Debug)]
pub(crate) struct Permits {
    /// `None` where there is no cap.
    room: Option<Room>,
}

#[derive(Debug)]
struct Room {
    most: usize,
    free: Arc<Semaphore>,
    most_queued: usize,
    queue: Semaphore,
}

/// The right to have the service at work, given back when the last clone is dropped. Without a cap it is nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Permit {
    held: Option<Arc<OwnedSemaphorePermit>>,
}

/// Whether the service is asked.
#[derive(Debug)]
pub(crate) enum Admission {
    Granted(Permit),
    /// The service has as many as it may, and so has the queue, or the time in it is over.
    Busy,
}

impl Permits {
    /// A cap of zero is none.
    pub(crate) fn new(most: usize, most_queued: usize) -> Self {
        let [most, most_queued] = [most, most_queued].map(|count| count.min(Semaphore::MAX_PERMITS));
        let room =
            || Room { most, free: Arc::new(Semaphore::new(most)), most_queued, queue: Semaphore::new(most_queued) };
        Self { room: (most > 0).then(room) }
    }

    /// A permit, if one is free at once.
    pub(crate) fn try_enter(&self) -> Admission {
        let Some(room) = &self.room else { return Admission::Granted(Permit::default()) };
        Arc::clone(&room.free).try_acquire_owned().map_or(Admission::Busy, Admission::granted)
    }

    /// A permit, if at least half of them are free: for what must not take them all.
    pub(crate) fn try_enter_half(&self) -> Admission {
        match &self.room {
            Some(room) if room.free.available_permits() < room.most.div_ceil(2) => Admission::Busy,
            _ => self.try_enter(),
        }
    }

    /// A permit, if one is free in time. Those who wait have theirs in the order in which they came; who is dropped has
    /// left.
    pub(crate) async fn enter(&self, limit: Duration) -> Admission {
        let (admission, Some(room)) = (self.try_enter(), &self.room) else {
            return Admission::Granted(Permit::default());
        };
        match admission {
            Admission::Granted(permit) => Admission::Granted(permit),
            Admission::Busy => {
                let Ok(_place) = room.queue.try_acquire() else { return Admission::Busy };
                match time::timeout(limit, Arc::clone(&room.free).acquire_owned()).await {
                    Ok(Ok(held)) => Admission::granted(held),
                    Ok(Err(_)) | Err(_) => Admission::Busy,
                }
            }
        }
    }

    pub(crate) fn in_use(&self) -> usize {
        self.room.as_ref().map_or(0, |room| room.most - room.free.available_permits())
    }

    pub(crate) fn queued(&self) -> usize {
        self.room.as_ref().map_or(0, |room| room.most_queued - room.queue.available_permits())
    }
}

impl Admission {
    fn granted(held: OwnedSemaphorePermit) -> Self {
        Self::Granted(Permit { held: Some(Arc::new(held)) })
    }
}

impl Permit {
    /// Whoever has this one has no need of it any more.
    pub(crate) fn release(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn is_granted(admission: &Admission) -> bool {
        matches!(admission, Admission::Granted(_))
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_waits_in_a_queue_that_ends() {
        let permits = Permits::new(2, 1);
        let mut held: Vec<_> = [permits.enter(LONG).await, permits.enter(LONG).await].into();
        assert!(held.iter().all(is_granted));
        let mut waiting = pin!(permits.enter(LONG));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!((permits.in_use(), permits.queued()), (2, 1));
        assert!(!is_granted(&permits.enter(LONG).await), "the queue is full");
        assert!(!is_granted(&permits.try_enter()));
        assert!(!is_granted(&permits.try_enter_half()));
        held.pop();
        assert!(!is_granted(&permits.try_enter()), "who waits is the next");
        let next = waiting.await;
        assert!(is_granted(&next));
        assert_eq!((permits.in_use(), permits.queued()), (2, 0));
        assert!(!is_granted(&permits.enter(Duration::from_secs(1)).await), "the time in the queue ends");
        drop((held, next));
        assert_eq!((permits.in_use(), permits.queued()), (0, 0));
    }

    #[tokio::test]
    async fn who_leaves_the_queue_leaves_no_gap() {
        let permits = Permits::new(1, 1);
        let held = permits.try_enter();
        {
            let mut waiting = pin!(permits.enter(LONG));
            assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(permits.queued(), 0);
        drop(held);
        assert!(is_granted(&permits.try_enter()));
    }

    #[tokio::test]
    async fn a_permit_is_back_when_its_last_clone_is() {
        let permits = Permits::new(1, 0);
        let Admission::Granted(mut permit) = permits.try_enter() else { panic!("it is free") };
        let clone = permit.clone();
        permit.release();
        assert!(!is_granted(&permits.try_enter()));
        drop(clone);
        assert!(is_granted(&permits.try_enter()));
    }

    #[tokio::test]
    async fn without_a_cap_all_enter() {
        let permits = Permits::new(0, 0);
        let held: Vec<_> = (0..10_000).map(|_| permits.try_enter()).collect();
        assert!(held.iter().all(is_granted) && is_granted(&permits.enter(Duration::ZERO).await));
        assert_eq!((permits.in_use(), permits.queued()), (0, 0));
    }
}
