//! The map of flights, with all that may happen between any two of its steps: a scheduler chooses who goes on at each
//! of them, and the ways it can choose are gone through.

use std::cell::Cell;
use std::sync::Mutex;

use shuttle::future::{block_on, spawn, yield_now};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};

use super::*;
use crate::collapse::order::Order;

thread_local! {
    /// Whether a scheduler runs on this thread, and has somebody else to let go first.
    static IS_SCHEDULED: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn pause() {
    if IS_SCHEDULED.get() {
        shuttle::thread::yield_now();
    }
}

/// Turns off the scheduling when it ends, even in a panic.
struct Scheduled;

impl Scheduled {
    fn on() -> Self {
        IS_SCHEDULED.set(true);
        Self
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        IS_SCHEDULED.set(false);
    }
}

const SCHEDULES: usize = 1_500;

fn run(scheduler: impl Scheduler + 'static, story: fn()) {
    let config = shuttle::Config::new();
    shuttle::Runner::new(scheduler, config).run(move || {
        let _scheduled = Scheduled::on();
        story();
    });
}

/// Many schedules at random, and many that are unfair.
fn explore(story: fn()) {
    run(RandomScheduler::new(SCHEDULES), story);
    run(PctScheduler::new(3, SCHEDULES), story);
}

fn key() -> FlightKey {
    FlightKey::new(&CacheKey::from("k"), None)
}

/// What all tasks of one story see.
struct World {
    flights: Flights<u64>,
    order: Order,
}

impl Default for World {
    fn default() -> Self {
        Self { flights: Flights::default(), order: Order::new() }
    }
}

impl World {
    fn join(&self) -> Turn<u64> {
        self.flights.join(key(), self.order.depart(Default::default(), None))
    }

    fn leads(&self) -> LeadGuard<u64> {
        let Turn::Lead(guard) = self.join() else { panic!("the key is free") };
        guard
    }
}

/// Asks until there is an answer, as a request does; whoever leads ends the flight in this way.
async fn ask(world: Arc<World>, ending: &'static str) -> &'static str {
    let mut followed = None;
    loop {
        match world.join() {
            Turn::Alone => return "alone",
            Turn::Lead(guard) => {
                yield_now().await;
                match ending {
                    "lands" => {
                        guard.land(7);
                        yield_now().await;
                        guard.close();
                        yield_now().await;
                    }
                    "declines" => guard.decline(),
                    "fails" => guard.fail(Trouble::Disconnected),
                    _ => {}
                }
                drop(guard);
                return "led";
            }
            Turn::Follow(mut follower) => match follower.news().await {
                _ if followed.replace(follower.departure) == Some(follower.departure) => {
                    panic!("woken before the key was free")
                }
                News::Underway => panic!("that is no news"),
                News::Landed(landing) => {
                    assert_eq!(*landing, 7);
                    return "answered";
                }
                News::Unshared => return "alone",
                News::Failed(_) => {}
            },
        }
    }
}

/// Plays three or four requests whose leads end like this. A wake-up that was lost would leave a task that waits for
/// ever, which the scheduler takes for a deadlock.
fn requests(endings: &'static [&'static str]) -> Vec<&'static str> {
    let world = Arc::new(World::default());
    let tasks: Vec<_> = endings.iter().map(|ending| spawn(ask(Arc::clone(&world), ending))).collect();
    let came_to: Vec<_> = tasks.into_iter().map(|task| block_on(task).expect("no panic")).collect();
    assert_eq!(world.flights.count(), 0, "nothing stays in the map");
    came_to
}

#[test]
fn whatever_becomes_of_the_leads_every_follower_gets_news() {
    explore(|| {
        requests(&["fails", "vanishes", "lands"]);
    });
    explore(|| {
        requests(&["lands", "declines", "vanishes", "fails"]);
    });
}

#[test]
fn each_failed_lead_is_followed_by_exactly_one() {
    explore(|| {
        // All fail, so all lead in the end, one after another.
        assert_eq!(requests(&["fails", "vanishes", "fails"]), ["led", "led", "led"]);
    });
}

#[test]
fn a_response_that_lands_answers_whoever_has_joined() {
    explore(|| {
        let came_to = requests(&["lands", "lands", "lands"]);
        assert!(came_to.iter().all(|how| ["led", "answered"].contains(how)), "{came_to:?}");
        assert!(came_to.contains(&"led"));
    });
}

#[test]
fn there_is_at_most_one_lead_at_any_time() {
    fn story() {
        let world = Arc::new(World::default());
        let leading = Arc::new(Mutex::new(0));
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let (world, leading) = (Arc::clone(&world), Arc::clone(&leading));
                shuttle::thread::spawn(move || {
                    for _ in 0..2 {
                        if let Turn::Lead(guard) = world.join() {
                            *leading.lock().unwrap() += 1;
                            assert_eq!(*leading.lock().unwrap(), 1, "two lead");
                            pause();
                            // No longer before others can.
                            *leading.lock().unwrap() -= 1;
                            drop(guard);
                        }
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().expect("no panic"));
        assert_eq!(world.flights.count(), 0);
    }
    explore(story);
}

#[test]
fn a_guard_that_is_dropped_late_leaves_its_successor_alone() {
    fn story() {
        let world = Arc::new(World::default());
        let guard = world.leads();
        let departure = guard.departure;
        let late = shuttle::thread::spawn(move || drop(guard));
        // It is retired, as one that is out of date is, while it ends by itself.
        world.flights.retire(key(), departure);
        let successor = world.leads();
        late.join().expect("no panic");
        assert!(matches!(world.join(), Turn::Follow(_)), "the successor was thrown out");
        drop(successor);
        assert_eq!(world.flights.count(), 0);
    }
    explore(story);
}

#[test]
fn a_lead_that_gives_up_overlooks_nobody() {
    fn story() {
        let world = Arc::new(World::default());
        let guard = world.leads();
        guard.land(7);
        let latecomer = spawn({
            let world = Arc::clone(&world);
            async move {
                match world.join() {
                    // It holds on to the flight until it has what landed.
                    Turn::Follow(mut follower) => {
                        let news = follower.news().await;
                        (matches!(news, News::Landed(_)), Some(follower))
                    }
                    Turn::Lead(_) | Turn::Alone => (false, None),
                }
            }
        });
        // As the desk does before it lets a body go that nobody reads.
        guard.close();
        let is_awaited = guard.followers() > 0;
        let (has_landed, follower) = block_on(latecomer).expect("no panic");
        assert_eq!(is_awaited, has_landed, "somebody was overlooked, or imagined");
        drop((guard, follower));
        assert_eq!(world.flights.count(), 0);
    }
    explore(story);
}
