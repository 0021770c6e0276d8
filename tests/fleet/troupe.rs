//! What the stories of the fleet have in common.

use std::time::Duration;

use tokio::task::JoinHandle;
use tower_redis_cache::CacheConfig;

use crate::support::gate::{PATIENCE, eventually};
use crate::support::redis::RedisServer;
use crate::support::story::{Answer, Ask, Stage, Story};

/// A process that waits for others longer than any story takes. Nor does its lease end by itself meanwhile, unless it has
/// only [bid](crate::bids) for it.
pub(crate) fn process(stage: &Stage) -> Story {
    process_with(stage, |config| config)
}

pub(crate) fn process_with(stage: &Stage, settings: impl FnOnce(CacheConfig) -> CacheConfig) -> Story {
    stage.story_with(|config| settings(config.collapse_timeout(PATIENCE * 2).lease_heartbeat(PATIENCE * 2)))
}

/// A client that asks while the story goes on.
pub(crate) fn client(story: &Story, ask: Ask) -> JoinHandle<Answer> {
    let story = story.clone();
    tokio::spawn(async move { story.client_asks_and_goes_on(ask).await })
}

/// Waits until the origin behind a process has been asked so often.
pub(crate) async fn is_asked(story: &Story, times: usize) {
    eventually("the origin is asked", || story.origin.calls() == times).await;
}

/// Waits until a process has looked in vain, and waits for another.
pub(crate) async fn waits(stage: &Stage, story: &Story) {
    eventually("a flight waits", || story.handle.stats().flights > 0).await;
    let looks = |server: &RedisServer| server.calls("evalsha") + server.calls("eval");
    let before = looks(stage.server());
    // A look that began before is over by the second, and each pause is followed by one.
    eventually("it has looked again", || looks(stage.server()) >= before + 3).await;
}

pub(crate) fn leases(server: &RedisServer) -> Vec<String> {
    server.keys("*:lease")
}

/// Nothing stays for ever, and who has done its work holds nothing.
pub(crate) async fn all_is_well_in_the_end(stage: &Stage, stories: &[&Story]) {
    for story in stories {
        story.fills_are_done().await;
        assert_eq!(story.handle.stats().flights, 0);
    }
    for key in stage.server().keys("*") {
        let left: i64 = stage.server().cli(&["PTTL", &key]).parse().expect("a number");
        assert!(left > 0 || left == -2, "{key}: {left}");
    }
    eventually("no lease is left", || leases(stage.server()).is_empty()).await;
}

/// A heartbeat for stories in which one has to be missed.
pub(crate) const QUICK: Duration = Duration::from_millis(100);
