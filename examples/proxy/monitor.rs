//! What one client connection is doing, and since when.
//!
//! The stream, the exchanges and the bodies write here; the connection's task reads it to enforce the
//! deadlines that the server below leaves to its user:
//!
//! * a first request within the header timeout – a client that sends nothing, or only a part of the HTTP/2
//!   preface, would otherwise stay for ever;
//! * each later head within the header timeout of its first byte;
//! * the next request within the keep-alive timeout;
//! * the next piece of a response taken within the idle timeout, on HTTP/2 as well, where a closed
//!   flow-control window stalls a stream without any write being pending.
//!
//! Stalled request bodies have their own deadline, in [`crate::idle_body`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::framing::{Framing, HeadScanner};

/// How long a connection that was asked to close may take to flush its last bytes.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// How long idle connections stay while others wait for a free place.
const CROWDED_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The deadlines of client connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) header: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) idle: Duration,
}

impl Timeouts {
    /// How often a connection looks at its deadlines.
    pub(crate) fn tick(&self) -> Duration {
        let shortest = self.header.min(self.keep_alive).min(self.idle);
        (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}

/// What the listener wants of all its connections.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// At the connection limit: idle connections make room. Looked at with every tick; nobody is woken for it.
    crowded: AtomicBool,
    /// Shutting down: what is in flight ends, nothing new begins.
    draining: watch::Sender<bool>,
}

/// What must happen to a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Carry,
    /// Ask it to close after what is in flight.
    Close,
    /// Drop it.
    Drop(&'static str),
}

/// One client connection's account.
#[derive(Debug)]
pub(crate) struct Monitor {
    state: Mutex<State>,
    timeouts: Timeouts,
    wishes: Arc<Wishes>,
    /// The connection's place under the limit; freed when the last holder of the monitor is gone.
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct State {
    accepted: Instant,
    served_any: bool,
    head_since: Option<Instant>,
    idle_since: Instant,
    closing_since: Option<Instant>,
    /// Requests whose response has not been handed over completely.
    live: usize,
    verdicts: VecDeque<Framing>,
    /// Per exchange: since when a piece of its response waits to be taken by the client.
    offered: BTreeMap<u64, Instant>,
    exchanges: u64,
    mid_message: bool,
    reset: bool,
}

// ===== impl Wishes =====

impl Wishes {
    pub(crate) fn make_room(&self, crowded: bool) {
        self.crowded.store(crowded, Ordering::Relaxed);
    }

    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }
}

// ===== impl Monitor =====

impl Monitor {
    pub(crate) fn new(timeouts: Timeouts, wishes: Arc<Wishes>, place: OwnedSemaphorePermit) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            accepted: now,
            served_any: false,
            head_since: None,
            idle_since: now,
            closing_since: None,
            live: 0,
            verdicts: VecDeque::new(),
            offered: BTreeMap::new(),
            exchanges: 0,
            mid_message: false,
            reset: false,
        };
        Arc::new(Self { state: Mutex::new(state), timeouts, wishes, _place: place })
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Completes when the listener shuts down.
    pub(crate) async fn draining(&self) {
        let mut draining = self.wishes.draining.subscribe();
        // The sender is a part of what we hold, so this ends with the wish itself.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// Lets `scanner` read along with what the client sent.
    pub(crate) fn received(&self, scanner: &mut HeadScanner, bytes: &[u8]) {
        let mut state = self.lock();
        scanner.scan(bytes, &mut state.verdicts);
        state.mid_message = scanner.mid_message();
        state.head_since = match (scanner.in_head(), state.head_since) {
            (false, _) => None,
            (true, Some(since)) => Some(since),
            (true, None) => Some(Instant::now()),
        };
    }

    /// The verdict on the next HTTP/1 request; `None` when the scanner could not judge it.
    pub(crate) fn next_framing(&self) -> Option<Framing> {
        self.lock().verdicts.pop_front()
    }

    /// Whether the client may have sent something that was never read.
    pub(crate) fn mid_message(&self) -> bool {
        self.lock().mid_message
    }

    /// Whether closing must look like a failure to the client.
    pub(crate) fn must_reset(&self) -> bool {
        self.lock().reset
    }

    /// Begins an exchange; it lasts until the returned value is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Exchange {
        let mut state = self.lock();
        state.live += 1;
        state.served_any = true;
        state.exchanges += 1;
        Exchange { number: state.exchanges, monitor: Arc::clone(self) }
    }

    /// Notes that the connection was asked to close.
    pub(crate) fn closing(&self) {
        self.lock().closing_since.get_or_insert_with(Instant::now);
    }

    /// What is due at `now`.
    pub(crate) fn due(&self, now: Instant) -> Verdict {
        let timeouts = self.timeouts;
        let state = self.lock();
        let over = |since: Instant, limit: Duration| now.duration_since(since) >= limit;
        if let Some(since) = state.offered.values().min()
            && over(*since, timeouts.idle)
        {
            return Verdict::Drop("the client does not take the response");
        }
        if state.live > 0 {
            return Verdict::Carry;
        }
        if let Some(closing) = state.closing_since {
            return match !state.served_any || over(closing.max(state.idle_since), CLOSE_GRACE) {
                true => Verdict::Drop("the client does not let the connection close"),
                false => Verdict::Carry,
            };
        }
        let head = match state.served_any {
            true => state.head_since,
            false => Some(state.accepted),
        };
        if let Some(since) = head {
            return match over(since, timeouts.header) {
                true => Verdict::Drop("no complete request head in time"),
                false => Verdict::Carry,
            };
        }
        let keep_alive = match self.wishes.crowded.load(Ordering::Relaxed) {
            true => timeouts.keep_alive.min(CROWDED_KEEP_ALIVE),
            false => timeouts.keep_alive,
        };
        match over(state.idle_since, keep_alive) {
            true => Verdict::Close,
            false => Verdict::Carry,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the monitor is locked")
    }
}

/// One request and its response, from the head of the one to the end of the other.
#[derive(Debug)]
pub(crate) struct Exchange {
    number: u64,
    monitor: Arc<Monitor>,
}

// ===== impl Exchange =====

impl Exchange {
    /// A piece of the response was handed over; the client must take it before it gets the next.
    pub(crate) fn offered(&self) {
        let mut state = self.monitor.lock();
        state.offered.insert(self.number, Instant::now());
    }

    /// The client has taken everything so far and waits for the proxy.
    pub(crate) fn taken(&self) {
        self.monitor.lock().offered.remove(&self.number);
    }

    /// The response broke off where only a reset can say so.
    pub(crate) fn reset_connection(&self) {
        self.monitor.lock().reset = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.monitor.lock();
        state.offered.remove(&self.number);
        state.live -= 1;
        state.idle_since = Instant::now();
    }
}
