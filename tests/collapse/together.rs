//! What these stories have in common: several clients at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tower_redis_cache::{CacheBody, Stats};

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{OriginError, Reply, ScriptBody, ok};
use crate::support::story::{Answer, Ask, Story, get};

pub(crate) type Client = tokio::task::JoinHandle<Answer>;

pub(crate) type Tried = Result<Response<CacheBody<ScriptBody>>, OriginError>;

/// A client that asks, in a task of its own, and reads the whole answer.
pub(crate) fn asks(story: &Story, ask: Ask) -> Client {
    let story = story.clone();
    tokio::spawn(async move { story.client_asks_and_goes_on(ask).await })
}

/// A client that asks, in a task of its own, and has what the service returns.
pub(crate) fn tries(story: &Story) -> tokio::task::JoinHandle<Tried> {
    let story = story.clone();
    tokio::spawn(async move { story.client_tries(get("/a")).await })
}

/// So many of them, when all of them wait for a response that is being fetched, or have gone to the origin.
pub(crate) async fn all_ask(story: &Story, count: usize, ask: impl Fn() -> Ask) -> Vec<Client> {
    let before = met(story);
    let clients = (0..count).map(|_| asks(story, ask())).collect();
    eventually("all have looked in vain", || met(story) == before + count as u64).await;
    // The first of them may have to ask the store whether it may go.
    eventually("somebody is at the origin", || story.origin.calls() > 0).await;
    settled().await;
    clients
}

/// Requests that were not answered by the store.
fn met(story: &Story) -> u64 {
    story.handle.stats().misses
}

/// Lets all tasks that can go on do so. No test passes by it: what is to be shown is shown by what comes later.
pub(crate) async fn settled() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn answers(clients: Vec<Client>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for client in clients {
        answers.push(client.await.expect("every client is answered"));
    }
    answers
}

/// Whether an answer was fetched for another request.
pub(crate) fn has_collapsed(answer: &Answer) -> bool {
    answer.cache_status().has("collapsed")
}

/// Nothing is under way any more, and nothing held.
pub(crate) async fn nothing_is_left(story: &Story) {
    story.fills_are_done().await;
    let story = story.clone();
    let gauges = move || {
        let Stats { fills_in_flight, flights, bytes_in_flight, bytes_read_ahead, .. } = story.handle.stats();
        [fills_in_flight, flights, bytes_in_flight, bytes_read_ahead]
    };
    eventually("nothing is left", move || gauges() == [0; 4]).await;
}

/// A response for everybody.
pub(crate) fn page(body: impl Into<Bytes>) -> Reply {
    ok(body).cache_control("max-age=60")
}

/// A response whose head waits for a gate.
pub(crate) fn page_behind(gate: &Gate, body: &str) -> Reply {
    page(body.to_owned()).head_after(gate)
}

/// Octets that tell their place.
pub(crate) fn octets(length: usize) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into()
}

/// A large body in frames, with a gate after the first of them.
pub(crate) fn frames(length: usize, frame: usize) -> Vec<Bytes> {
    let all = octets(length);
    (0..length).step_by(frame).map(|at| all.slice(at..length.min(at + frame))).collect()
}

/// Polls once.
pub(crate) async fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// The whole body of an answer.
pub(crate) async fn whole(answer: Tried) -> Bytes {
    let body = answer.expect("an answer").into_body();
    body.collect().await.expect("the whole body").to_bytes()
}
