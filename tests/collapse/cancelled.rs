//! A client's request dropped at its first poll, its second, and so on until it comes to its end: whenever it is
//! dropped, the next is answered right, and nothing is left.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::together::{asks, nothing_is_left, octets};
use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{ok, status};
use crate::support::story::{Ask, Stage, Story, ask, get, seconds};

const SMALL: usize = 2_000;
const LARGE: usize = 700_000;

/// When a future is dropped.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// As soon as it has been polled so often.
    After(usize),
    /// When it is about to be polled once more: what it waited for has come.
    Before(usize),
}

/// What the future comes to, unless it is dropped.
async fn until<F: Future>(moment: Moment, future: F) -> Option<F::Output> {
    let (mut future, mut polls) = (Box::pin(future), 0);
    poll_fn(move |cx| {
        if matches!(moment, Moment::Before(most) if polls == most) || matches!(moment, Moment::After(0)) {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if matches!(moment, Moment::After(most) if polls >= most) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A gate that opens while others go on.
fn soon() -> Gate {
    let gate = Gate::closed();
    let opening = gate.clone();
    tokio::spawn(async move {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        opening.open();
    });
    gate
}

/// An origin whose page changes with each unsafe request, and how often it has.
struct Origin {
    length: usize,
    version: Arc<AtomicU8>,
}

impl Origin {
    fn of(story: &Story, length: usize, cache_control: &'static str) -> Self {
        let origin = Self { length, version: Arc::default() };
        let version = Arc::clone(&origin.version);
        story.origin.answers(move |asked| {
            if asked.method == "POST" {
                version.fetch_add(1, Ordering::SeqCst);
                return status(204).head_after(&soon());
            }
            let version = version.load(Ordering::SeqCst);
            let tag = format!("\"{version}\"");
            let reply = match asked.headers.get("if-none-match") {
                Some(known) if *known == tag => status(304),
                _ => {
                    let pieces = [0..length / 3, length / 3..length / 2, length / 2..length];
                    let page = page(version, length);
                    let frames = pieces.into_iter().map(|piece| page.slice(piece));
                    frames.fold(ok(""), |reply, frame| reply.chunks([frame]).waits_for(&soon()))
                }
            };
            reply.cache_control(cache_control).header("etag", &tag).head_after(&soon())
        });
        origin
    }

    fn page(&self) -> Bytes {
        page(self.version.load(Ordering::SeqCst), self.length)
    }
}

fn page(version: u8, length: usize) -> Bytes {
    let mut page = octets(length).to_vec();
    page[0] = version;
    page.into()
}

/// Asks, and reads frame by frame, with a pause after each at which it can be dropped.
async fn reads(story: &Story, ask: Ask) -> Vec<u8> {
    let mut body = story.client_tries(ask).await.expect("the origin has no error of its own").into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.expect("the body is well").into_data() {
            read.extend_from_slice(&data);
        }
        tokio::task::yield_now().await;
    }
    read
}

/// Plays a scene with each moment at which a request in it can be dropped. The scene says whether it came to its end.
async fn at_each_moment(stage: &Stage, story: &Story, origin: &Origin, scene: impl AsyncFn(&str, Moment) -> bool) {
    for moment in [Moment::After as fn(usize) -> Moment, Moment::Before] {
        let mut most = 0;
        loop {
            let (moment, target) = (moment(most), format!("/{most}"));
            let has_ended = scene(&target, moment).await;
            is_well(stage, story, origin, &target, moment).await;
            if has_ended {
                break;
            }
            most += 1;
            assert!(most < 200, "it never ends");
        }
        assert!(most >= 1, "there was nothing to drop");
    }
}

async fn is_well(stage: &Stage, story: &Story, origin: &Origin, target: &str, moment: Moment) {
    nothing_is_left(story).await;
    for _ in 0..2 {
        let answer = story.client_asks(get(target)).await;
        assert!(answer.body() == &origin.page(), "after a drop {moment:?} polls");
    }
    nothing_is_left(story).await;
    if stage.has_server() {
        for key in stage.server().keys("*") {
            let left: i64 = stage.server().cli(&["PTTL", &key]).parse().expect("a number");
            assert!(key.starts_with("trc:{") && left > 0, "{key} has {left} ms, after a drop {moment:?} polls");
        }
        stage.server().cli(&["FLUSHALL"]);
    }
    // What the memory store has is out of use as well.
    story.time_passes(seconds(100_000));
}

on_both_stores! {
    async fn a_miss_may_be_dropped_at_any_time(stage) {
        for length in [SMALL, LARGE] {
            let story = stage.story();
            let origin = Origin::of(&story, length, "max-age=60");
            at_each_moment(&stage, &story, &origin, async |target, moment| {
                until(moment, reads(&story, get(target))).await.is_some_and(|body| body == origin.page())
            })
            .await;
        }
    }

    async fn a_hit_may_be_dropped_at_any_time(stage) {
        for length in [SMALL, LARGE] {
            let story = stage.story();
            let origin = Origin::of(&story, length, "max-age=60");
            at_each_moment(&stage, &story, &origin, async |target, moment| {
                story.client_asks(get(target)).await.is_stored();
                until(moment, reads(&story, get(target))).await.is_some_and(|body| body == origin.page())
            })
            .await;
        }
    }

    async fn a_validation_may_be_dropped_at_any_time(stage) {
        for length in [SMALL, LARGE] {
            let story = stage.story();
            let origin = Origin::of(&story, length, "max-age=60");
            at_each_moment(&stage, &story, &origin, async |target, moment| {
                story.client_asks(get(target)).await.is_stored();
                story.time_passes(seconds(61));
                until(moment, reads(&story, get(target))).await.is_some_and(|body| body == origin.page())
            })
            .await;
        }
    }

    async fn a_validation_that_finds_a_change_may_be_dropped_at_any_time(stage) {
        for length in [SMALL, LARGE] {
            let story = stage.story();
            let origin = Origin::of(&story, length, "max-age=60");
            at_each_moment(&stage, &story, &origin, async |target, moment| {
                story.client_asks(get(target)).await.is_stored();
                story.time_passes(seconds(61));
                origin.version.fetch_add(1, Ordering::SeqCst);
                until(moment, reads(&story, get(target))).await.is_some_and(|body| body == origin.page())
            })
            .await;
        }
    }

    async fn a_hit_that_is_refreshed_behind_may_be_dropped_at_any_time(stage) {
        for length in [SMALL, LARGE] {
            let story = stage.story();
            let origin = Origin::of(&story, length, "max-age=60, stale-while-revalidate=600");
            at_each_moment(&stage, &story, &origin, async |target, moment| {
                story.client_asks(get(target)).await.is_stored();
                story.time_passes(seconds(61));
                until(moment, reads(&story, get(target))).await.is_some_and(|body| body == origin.page())
            })
            .await;
        }
    }

    async fn an_unsafe_request_may_be_dropped_at_any_time(stage) {
        let story = stage.story();
        let origin = Origin::of(&story, LARGE, "max-age=60");
        at_each_moment(&stage, &story, &origin, async |target, moment| {
            story.client_asks(get(target)).await.is_stored();
            until(moment, reads(&story, ask("POST", target))).await.is_some()
        })
        .await;
    }

    async fn a_follower_may_be_dropped_at_any_time(stage) {
        for length in [SMALL, LARGE] {
            let story = stage.story();
            let origin = Origin::of(&story, length, "max-age=60");
            at_each_moment(&stage, &story, &origin, async |target, moment| {
                let calls = story.origin.calls();
                let lead = asks(&story, get(target));
                eventually("the lead is forwarded", || story.origin.calls() > calls).await;
                let followed = until(moment, reads(&story, get(target))).await;
                lead.await.expect("the lead is answered").has_body(origin.page());
                followed.is_some_and(|body| body == origin.page())
            })
            .await;
        }
    }

    async fn a_lead_may_be_dropped_at_any_time_by_those_who_follow_it(stage) {
        for length in [SMALL, LARGE] {
            let story = stage.story();
            let origin = Origin::of(&story, length, "max-age=60");
            at_each_moment(&stage, &story, &origin, async |target, moment| {
                let follower = tokio::spawn({
                    let (story, target) = (story.clone(), target.to_owned());
                    async move {
                        tokio::task::yield_now().await;
                        story.client_asks_and_goes_on(get(&target)).await
                    }
                });
                let led = until(moment, reads(&story, get(target))).await;
                follower.await.expect("the follower is answered").has_body(origin.page());
                led.is_some_and(|body| body == origin.page())
            })
            .await;
        }
    }
}
