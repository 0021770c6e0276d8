//! Requests at a fixed rate, whether the server keeps up or not. The time of each counts from when it was due, so that
//! one that had to wait because others were late is late itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::read;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::client::{Client, request_for};

/// Connections and caches get so long to warm up.
const BEFORE: Duration = Duration::from_millis(300);

/// In microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) requests: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

#[derive(Default)]
struct Queue {
    due: Mutex<VecDeque<Instant>>,
    /// When a request was due, and how long after that its answer had come.
    done: Mutex<Vec<(Instant, Duration)>>,
    more: Notify,
}

pub(crate) fn run(address: &str, path: &str, rate: u32, seconds: u64, connections: usize) -> Latency {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let queue = Arc::new(Queue::default());
    let count = ((BEFORE + Duration::from_secs(seconds)).as_secs_f64() * f64::from(rate)) as u32;
    let begun = runtime.block_on(async {
        let mut workers = Vec::new();
        for _ in 0..connections {
            let client = Client::connect(address).await;
            workers.push(tokio::spawn(work(client, request_for(path), queue.clone())));
        }
        let for_schedule = queue.clone();
        let schedule = thread::spawn(move || schedule(&for_schedule, rate, count));
        while queue.done.lock().expect("nobody panics").len() < count as usize {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(!workers.iter().any(JoinHandle::is_finished), "a connection broke");
        }
        schedule.join().expect("the schedule ends")
    });
    let done = queue.done.lock().expect("nobody panics");
    let counted = done.iter().filter(|(due, _)| *due >= begun + BEFORE);
    let mut micros: Vec<f64> = counted.map(|(_, took)| took.as_secs_f64() * 1e6).collect();
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share).round() as usize];
    Latency { requests: micros.len() as u64, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}

/// Puts each request into the queue when it is due, by a timer of the kernel that is finer than the runtime's.
fn schedule(queue: &Queue, rate: u32, count: u32) -> Instant {
    let period = Duration::from_secs(1) / rate;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty()).expect("a timer");
    let spec = Timespec { tv_sec: 0, tv_nsec: period.subsec_nanos().into() };
    let times = Itimerspec { it_interval: spec, it_value: spec };
    let begun = Instant::now();
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).expect("a timer that can be set");
    let mut sent = 0;
    while sent < count {
        read(&timer, &mut [0; 8]).expect("a timer can be waited for");
        while sent < count && begun + period * (sent + 1) <= Instant::now() {
            sent += 1;
            queue.due.lock().expect("nobody panics").push_back(begun + period * sent);
            queue.more.notify_one();
        }
    }
    begun
}

async fn work(mut client: Client, request: Vec<u8>, queue: Arc<Queue>) {
    loop {
        let next = queue.due.lock().expect("nobody panics").pop_front();
        match next {
            Some(due) => {
                client.exchange(&request).await;
                queue.done.lock().expect("nobody panics").push((due, due.elapsed()));
            }
            None => queue.more.notified().await,
        }
    }
}
