//! What the stories of the outages have in common: a layer at some address, its clients, and the patience of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tower_redis_cache::{CacheConfig, RedisCacheLayer};

use crate::support::gate::{PATIENCE, eventually, until_some};
use crate::support::scripted::ok;
use crate::support::story::{Answer, Story, get, whole_second};

/// The deadline of the stories, and the default.
pub(crate) const DEADLINE: Duration = Duration::from_millis(100);
/// How much longer than configured a wait may take on a machine that does much else.
const SLACK: u32 = 10;

/// A story over the Redis at this URL; its origin answers each target with the target, fresh for a minute.
pub(crate) fn story_at(url: &str) -> Story {
    story_with(url, |config| config)
}

/// The same where nothing hangs, and a slow machine is not to be taken for a slow Redis.
pub(crate) fn calm_story_at(url: &str) -> Story {
    story_with(url, |config| config.store_timeout(PATIENCE / 4).store_write_timeout(PATIENCE / 4))
}

pub(crate) fn story_with(url: &str, settings: impl FnOnce(CacheConfig) -> CacheConfig) -> Story {
    let time = whole_second();
    let config = CacheConfig::new(url).expect("a URL").clock(time.clock()).store_timeout(DEADLINE);
    let story = Story::told_by(RedisCacheLayer::new(settings(config)), time);
    story.origin.answers(|parts| ok(page(parts.uri.path())).cache_control("max-age=60"));
    story
}

/// So many pages are stored, below a path.
pub(crate) async fn has_stored(story: &Story, below: &str, pages: usize) {
    for number in 0..pages {
        story.client_asks(get(&format!("{below}/{number}"))).await.is_stored();
    }
}

/// What the origin has at a path.
pub(crate) fn page(path: &str) -> String {
    format!("the page at {path}")
}

/// Asks, and checks the answer: it is whole, right, and there within the deadline, whatever Redis does.
pub(crate) async fn passes(story: &Story, path: &str) -> Answer {
    let begun = Instant::now();
    let answer = story.client_asks_and_goes_on(get(path)).await;
    let took = begun.elapsed();
    assert!(took < DEADLINE * SLACK, "{path} took {took:?} under a deadline of {DEADLINE:?}");
    answer.has_status(200).has_body(page(path));
    answer
}

/// Asks until the answer is a hit.
pub(crate) async fn is_cached_again(story: &Story) {
    until_some("the cache serves hits again", || async {
        passes(story, "/again").await.outcome().is_hit().then_some(())
    })
    .await;
}

/// Asks until the breaker is open, and checks that requests then no longer wait for Redis.
pub(crate) async fn the_breaker_opens(story: &Story) {
    until_some("the breaker opens", || async {
        passes(story, "/again").await;
        (story.handle.stats().store_unavailable == 1).then_some(())
    })
    .await;
    let mut quickest = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        let answer = passes(story, "/again").await;
        quickest = quickest.min(begun.elapsed());
        if answer.outcome().is_hit() {
            return;
        }
        answer.is_forwarded_for("miss").has_detail("store-unavailable").is_not_stored();
    }
    assert!(quickest < DEADLINE / 5, "even the quickest of twenty requests took {quickest:?}");
}

pub(crate) async fn the_breaker_is_closed(story: &Story) {
    eventually("the breaker is closed", || story.handle.stats().store_unavailable == 0).await;
}

/// Clients that ask for the same few pages without a pause until they are dismissed.
#[derive(Debug)]
pub(crate) struct Crowd {
    clients: Vec<JoinHandle<()>>,
    is_dismissed: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
}

impl Crowd {
    pub(crate) fn gathers(story: &Story, size: usize) -> Self {
        let is_dismissed = Arc::<AtomicBool>::default();
        let answers = Arc::<AtomicUsize>::default();
        let clients = (0..size).map(|number| {
            let (story, is_dismissed, answers) = (story.clone(), Arc::clone(&is_dismissed), Arc::clone(&answers));
            tokio::spawn(async move {
                let mut round = number;
                while !is_dismissed.load(Ordering::SeqCst) {
                    passes(&story, &format!("/{}", round % 16)).await;
                    answers.fetch_add(1, Ordering::SeqCst);
                    round += 1;
                    tokio::task::yield_now().await;
                }
            })
        });
        Self { clients: clients.collect(), is_dismissed, answers }
    }

    /// Waits until the clients have had so many more answers.
    pub(crate) async fn has_answers(&self, more: usize) {
        let goal = self.answers.load(Ordering::SeqCst) + more;
        eventually("the crowd is served", || {
            self.answers.load(Ordering::SeqCst) >= goal || self.clients.iter().any(JoinHandle::is_finished)
        })
        .await;
    }

    /// Ends the clients; any complaint of theirs is the test's failure.
    pub(crate) async fn goes_home_content(self) {
        self.is_dismissed.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("a client had a bad answer");
        }
    }
}
