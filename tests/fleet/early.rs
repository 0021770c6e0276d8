//! Who has looked in vain takes the lease only after another process has stored what it wants: it sees that.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use http_body_util::BodyExt;

use crate::support::gate::eventually;
use crate::support::scripted::{Reply, ok};
use crate::support::story::{Ask, Stage, Story, get};
use crate::troupe::{all_is_well_in_the_end, process};

/// A request that has looked, and has yet to learn that there is nothing: its answer's body, when it goes on.
async fn has_looked(stage: &Stage, story: &Story, ask: Ask) -> Pin<Box<dyn Future<Output = Vec<u8>>>> {
    let looks = stage.server().calls("getrange");
    let story = story.clone();
    let mut asking: Pin<Box<dyn Future<Output = Vec<u8>>>> = Box::pin(async move {
        let response = story.client_tries(ask).await.expect("an answer");
        response.into_body().collect().await.expect("a whole body").to_bytes().to_vec()
    });
    assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    eventually("it has looked", || stage.server().calls("getrange") > looks).await;
    asking
}

/// It is known what there is of purges, and that there is no `No-Vary-Search`.
async fn is_warm(story: &Story, target: &str) {
    story.origin_says(ok("warm").cache_control("max-age=600"));
    story.client_asks(get(target)).await.is_stored();
}

/// How often it had to ask its own origin, and what it had in the end.
async fn who_looked_too_early(stage: &Stage, stored: Reply, ask: impl Fn() -> Ask) -> (usize, Vec<u8>) {
    let (one, other) = (process(stage), process(stage));
    is_warm(&one, &format!("/one/{}", stage.server().keys("*").len())).await;
    is_warm(&other, &format!("/other/{}", stage.server().keys("*").len())).await;
    let (calls, early) = (other.origin.calls(), has_looked(stage, &other, ask()).await);
    one.origin_says(stored);
    one.client_asks(ask()).await.has_status(200);
    other.origin_says(ok("other").cache_control("max-age=600"));
    let body = early.await;
    all_is_well_in_the_end(stage, &[&one, &other]).await;
    (other.origin.calls() - calls, body)
}

#[tokio::test]
async fn it_is_answered_from_the_store() {
    let stage = Stage::redis();
    let large = "0123456789".repeat(60_000);
    for body in ["page", &large] {
        let target = format!("/{}", body.len());
        let stored = ok(body.to_owned()).cache_control("max-age=600");
        let (calls, answered) = who_looked_too_early(&stage, stored, || get(&target)).await;
        assert!(calls == 0 && answered == body.as_bytes(), "{target}");
    }
}

#[tokio::test]
async fn it_is_answered_with_its_variant() {
    let stage = Stage::redis();
    let stored = ok("page").cache_control("max-age=600").header("vary", "accept-language");
    let german = || get("/a").header("accept-language", "de");
    assert_eq!(who_looked_too_early(&stage, stored, german).await, (0, b"page".to_vec()));
}

/// The marker is something as well, and says that nobody waits for anybody.
#[tokio::test]
async fn it_fetches_for_itself_what_is_for_nobody_else() {
    let stage = Stage::redis();
    let stored = ok("page").cache_control("no-store");
    assert_eq!(who_looked_too_early(&stage, stored, || get("/a")).await, (1, b"other".to_vec()));
}

#[tokio::test]
async fn a_user_who_may_not_ask_whether_there_is_anything_looks_again() {
    let stage = Stage::redis();
    stage.server().cli(&["ACL", "SETUSER", "default", "-exists"]);
    for round in ["/1", "/2"] {
        let stored = ok("page").cache_control("max-age=600");
        assert_eq!(who_looked_too_early(&stage, stored, || get(round)).await, (0, b"page".to_vec()));
    }
}

/// That is what the others are spared.
#[tokio::test]
async fn who_finds_nothing_looks_once() {
    let stage = Stage::redis();
    let story = process(&stage);
    is_warm(&story, "/warm").await;
    stage.server().cli(&["CONFIG", "RESETSTAT"]);
    story.client_asks(get("/a")).await.is_stored();
    assert_eq!((stage.server().calls("getrange"), stage.server().calls("exists")), (1, 1));
}
