//! A gate that a test opens, and the bounded wait for a condition: what stands here instead of sleeping.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long a test waits for a condition before it fails; nothing that goes well comes near it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Closed when made; once opened it stays open, for all its clones.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the gate is open. The future owns its share of the gate.
    pub fn opened(&self) -> impl Future<Output = ()> + Send + 'static {
        let gate = self.0.clone();
        async move {
            let mut state = gate.subscribe();
            state.wait_for(|open| *open).await.expect("the gate outlives its own wait");
        }
    }
}

/// Polls `condition` until it holds.
///
/// # Panics
/// After [`PATIENCE`], with `what` in the message.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < PATIENCE, "{caller}: waited {PATIENCE:?} in vain until {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Runs `attempt` again and again until it yields a value.
///
/// # Panics
/// After [`PATIENCE`], with `what` in the message.
#[track_caller]
pub fn until_some<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let begun = Instant::now();
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            assert!(begun.elapsed() < PATIENCE, "{caller}: waited {PATIENCE:?} in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Awaits `future`, but no longer than [`PATIENCE`].
///
/// # Panics
/// When the patience is over, with `what` in the message.
#[track_caller]
pub fn patiently<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: waited {PATIENCE:?} in vain for {what}"),
        }
    }
}
