//! One fetch for a key at a time in this process: whoever comes while it is under way follows it.
//!
//! The map knows who leads, and nothing else; what a lead found is told to all who follow it at once. A lead that is
//! dropped in whatever state has come to nothing: those who wait are woken, join anew, and exactly one of them leads.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::collapse::order::Departure;
use crate::key::CacheKey;
use crate::key::digests::Seed;
use crate::semantics::staleness::Trouble;
use crate::semantics::vary::VariantKey;

/// What is fetched: a key, or one variant of it as soon as it is known to have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlightKey {
    digest: [u8; CacheKey::DIGEST_LEN],
    variant: Option<VariantKey>,
}

/// The fetches that are under way. `T` is what lands: a response that may be shared.
#[derive(Debug)]
pub(crate) struct Flights<T> {
    map: Arc<Mutex<Map<T>>>,
}

#[derive(Debug)]
struct Map<T> {
    flights: HashMap<FlightKey, (Departure, Channel<T>), Seed>,
}

/// By which a lead tells its news; each of its receivers is a follower's.
type Channel<T> = Arc<watch::Sender<News<T>>>;

/// What a flight has come to.
#[derive(Debug)]
pub(crate) enum News<T> {
    Underway,
    /// A response that others may have as well.
    Landed(Arc<T>),
    /// A response for nobody but the one who asked: each of the others has to ask.
    Unshared,
    /// Nothing: one of those who wait takes over.
    Failed(Option<Trouble>),
}

/// Who fetches.
#[derive(Debug)]
pub(crate) enum Turn<T> {
    Lead(LeadGuard<T>),
    Follow(Follower<T>),
    /// As many flights as there may be are under way.
    Alone,
}

/// The right to fetch for all. Dropped, it gives the key free, and wakes all who wait.
#[derive(Debug)]
pub(crate) struct LeadGuard<T> {
    map: Arc<Mutex<Map<T>>>,
    key: FlightKey,
    departure: Departure,
    news: Channel<T>,
}

/// Somebody who waits for a flight.
#[derive(Debug)]
pub(crate) struct Follower<T> {
    /// When the flight began.
    pub(crate) departure: Departure,
    news: watch::Receiver<News<T>>,
}

/// Flights at one time: each is a request that has gone to the service.
const MAX_FLIGHTS: usize = 16 * 1024;

impl FlightKey {
    pub(crate) fn new(key: &CacheKey, variant: Option<VariantKey>) -> Self {
        Self { digest: *key.digest(), variant }
    }
}

// ===== impl Flights =====

impl<T> Flights<T> {
    /// Leads, if nobody does. `now` tells the flight from others for the same key.
    pub(crate) fn join(&self, key: FlightKey, now: Departure) -> Turn<T> {
        pause();
        let mut map = lock(&self.map);
        let full = map.flights.len() >= MAX_FLIGHTS;
        match map.flights.entry(key) {
            Entry::Occupied(flight) => {
                let (departure, news) = flight.get();
                Turn::Follow(Follower { departure: *departure, news: news.subscribe() })
            }
            Entry::Vacant(_) if full => Turn::Alone,
            Entry::Vacant(place) => {
                let news = Arc::new(watch::Sender::new(News::Underway));
                place.insert((now, Arc::clone(&news)));
                Turn::Lead(LeadGuard { map: Arc::clone(&self.map), key, departure: now, news })
            }
        }
    }

    /// Nobody is to join this flight any more: whoever comes next leads anew.
    pub(crate) fn retire(&self, key: FlightKey, departure: Departure) {
        retire(&self.map, key, departure);
    }

    /// Whether somebody leads.
    pub(crate) fn has(&self, key: FlightKey) -> bool {
        lock(&self.map).flights.contains_key(&key)
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.map).flights.len()
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { map: Arc::new(Mutex::new(Map { flights: HashMap::default() })) }
    }
}

// ===== impl LeadGuard =====

impl<T> LeadGuard<T> {
    /// Others may have this. They go on joining for as long as the guard lives.
    pub(crate) fn land(&self, landing: T) {
        pause();
        tell(&self.news, |news| {
            *news = News::Landed(Arc::new(landing));
            true
        });
    }

    /// Nobody else may have what came.
    pub(crate) fn decline(&self) {
        self.end(News::Unshared);
    }

    /// Nothing came.
    pub(crate) fn fail(&self, trouble: Trouble) {
        self.end(News::Failed(Some(trouble)));
    }

    /// What has landed is not to be had any more by anybody who comes from now on.
    pub(crate) fn close(&self) {
        retire(&self.map, self.key, self.departure);
    }

    /// Those who wait, or have what has landed and have yet to begin with it.
    pub(crate) fn followers(&self) -> usize {
        self.news.receiver_count()
    }

    /// Whoever is woken by the news must find the key free: first out of the map, then the news.
    fn end(&self, news: News<T>) {
        self.close();
        pause();
        tell(&self.news, |present| {
            let first = matches!(present, News::Underway);
            if first {
                *present = news;
            }
            first
        });
    }
}

impl<T> Drop for LeadGuard<T> {
    fn drop(&mut self) {
        self.end(News::Failed(None));
    }
}

// ===== impl Follower =====

impl<T> Follower<T> {
    /// What has landed already.
    pub(crate) fn landed(&self) -> Option<Arc<T>> {
        match &*self.news.borrow() {
            News::Landed(landing) => Some(Arc::clone(landing)),
            _ => None,
        }
    }

    /// Waits until there is news.
    pub(crate) async fn news(&mut self) -> News<T> {
        pause();
        match self.news.wait_for(|news| !matches!(news, News::Underway)).await {
            Ok(news) => news.clone(),
            // A lead leaves news behind whatever becomes of it.
            Err(_) => News::Failed(None),
        }
    }
}

impl<T> Clone for News<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Underway => Self::Underway,
            Self::Landed(landing) => Self::Landed(Arc::clone(landing)),
            Self::Unshared => Self::Unshared,
            Self::Failed(trouble) => Self::Failed(*trouble),
        }
    }
}

/// Whoever comes to follow later sees it; those who follow by now are woken, where there are any: mostly there are none,
/// and to look for them takes longer than all else.
fn tell<T>(news: &watch::Sender<News<T>>, change: impl FnOnce(&mut News<T>) -> bool) {
    news.send_if_modified(|present| change(present) && news.receiver_count() > 0);
}

fn retire<T>(map: &Mutex<Map<T>>, key: FlightKey, departure: Departure) {
    pause();
    let mut map = lock(map);
    // The key may have another lead by now.
    if map.flights.get(&key).is_some_and(|(present, _)| *present == departure) {
        map.flights.remove(&key);
    }
}

/// No panic can leave the map half changed.
fn lock<T>(map: &Mutex<Map<T>>) -> MutexGuard<'_, Map<T>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between two steps that others see: here a test lets others go first.
fn pause() {
    #[cfg(test)]
    tests::pause();
}

#[cfg(test)]
mod tests;
