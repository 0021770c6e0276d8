//! Who follows a request that is under way, who does not, and what they get.

use std::time::Duration;

use bytes::Bytes;
use tower_redis_cache::QueryContent;

use super::together::{all_ask, answers, asks, has_collapsed, is_pending, nothing_is_left, page, page_behind, whole};
use crate::on_both_stores;
use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{ok, status};
use crate::support::story::{Ask, ask, get, head, seconds};

on_both_stores! {
    async fn a_follower_gets_each_frame_before_the_next_is_there(stage) {
        let story = stage.story();
        let [at_first, second, third] = [(); 3].map(|()| Gate::closed());
        let reply = ok("").waits_for(&at_first).chunks(["one "]).waits_for(&second).chunks(["two "]).waits_for(&third);
        story.origin_says(reply.chunks(["three"]).cache_control("max-age=60"));
        // All have their heads before there is any body.
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(story.client_begins(get("/a")).await);
        }
        at_first.open();
        for client in &mut clients {
            client.receives("one ").await;
        }
        second.open();
        // One that comes late has what came before at once.
        clients.push(story.client_begins(get("/a")).await);
        clients[3].receives("one ").await;
        for client in &mut clients {
            client.receives("two ").await;
        }
        third.open();
        for client in clients {
            client.reads_to_the_end().await.has_body("one two three");
        }
        story.origin_was_asked(1);
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body("one two three");
    }

    async fn trailers_reach_the_followers(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page("").chunks(["x"]).waits_for(&gate).trailer("x-checksum", "7"));
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = story.client_begins(get("/a")).await;
            client.receives("x").await;
            clients.push(client);
        }
        gate.open();
        for client in clients {
            client.reads_to_the_end().await.has_body("x").has_trailer("x-checksum", "7");
        }
        story.origin_was_asked(1);
    }

    async fn a_follower_that_has_the_response_gets_a_304(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "hello").header("etag", "\"1\""));
        let mut clients = all_ask(&story, 1, || get("/a")).await;
        clients.extend(all_ask(&story, 1, || get("/a").header("if-none-match", "\"1\"")).await);
        clients.extend(all_ask(&story, 1, || get("/a").header("if-none-match", "\"2\"")).await);
        gate.open();
        let answers = answers(clients).await;
        answers[0].has_status(200).has_body("hello");
        answers[1].has_status(304).has_body("").has_header("etag", "\"1\"");
        answers[2].has_status(200).has_body("hello");
        assert!(has_collapsed(&answers[1]) && has_collapsed(&answers[2]));
        story.origin_was_asked(1);
    }

    async fn a_lead_that_has_the_response_fetches_it_whole_for_the_others(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "hello").header("etag", "\"1\""));
        let mut clients = all_ask(&story, 1, || get("/a").header("if-none-match", "\"1\"")).await;
        clients.extend(all_ask(&story, 2, || get("/a")).await);
        gate.open();
        let answers = answers(clients).await;
        answers[0].has_status(304).has_body("");
        answers[1..].iter().for_each(|answer| { answer.has_status(200).has_body("hello"); });
        story.origin_was_asked(1);
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body("hello");
    }

    async fn a_request_that_asks_for_more_than_a_fresh_response_does_not_follow(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "hello"));
        let mut clients = all_ask(&story, 1, || get("/a")).await;
        let with = |directive: &'static str| move || get("/a").header("cache-control", directive);
        let different: [&dyn Fn() -> Ask; 7] = [
            &|| get("/a").header("range", "bytes=0-1"),
            &|| head("/a"),
            &with("no-cache"),
            &with("no-store"),
            &with("max-age=0"),
            &with("min-fresh=5"),
            &|| get("/a").header("pragma", "no-cache"),
        ];
        for (number, ask) in different.iter().enumerate() {
            clients.push(asks(&story, ask()));
            eventually("it is forwarded", || story.origin.calls() == number + 2).await;
        }
        gate.open();
        assert!(answers(clients).await.iter().all(|answer| !has_collapsed(answer)));
        nothing_is_left(&story).await;
    }

    async fn a_request_that_is_to_be_answered_from_the_cache_does_not_wait(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "hello"));
        let clients = all_ask(&story, 1, || get("/a")).await;
        story.client_asks_and_goes_on(get("/a").header("cache-control", "only-if-cached")).await.has_status(504);
        gate.open();
        answers(clients).await[0].has_body("hello");
    }

    async fn each_variant_is_fetched_once_and_given_to_nobody_else(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin.answers({
            let gate = gate.clone();
            move |asked| {
                let accept = asked.headers["accept"].to_str().expect("text").to_owned();
                page_behind(&gate, &accept).header("vary", "accept")
            }
        });
        let mut clients = Vec::new();
        for round in 0..20 {
            let accept = ["a", "b", "c"][round % 3];
            clients.extend(all_ask(&story, 1, || get("/a").header("accept", accept)).await);
        }
        gate.open();
        for (round, answer) in answers(clients).await.iter().enumerate() {
            answer.has_body(["a", "b", "c"][round % 3]);
        }
        story.origin_was_asked(3);
        nothing_is_left(&story).await;
        let again = async || {
            for accept in ["a", "b", "c"] {
                story.client_asks(get("/a").header("accept", accept)).await.has_body(accept);
            }
        };
        // Writes that meet may lose a line of the index, which costs one more fetch and no more.
        again().await;
        let calls = story.origin.calls();
        assert!(calls < 6);
        again().await;
        story.origin_was_asked(calls);
    }

    async fn whoever_has_waited_long_enough_goes_alone_and_the_next_leads_anew(stage) {
        let story = stage.story_with(|config| config.collapse_timeout(Duration::from_millis(20)));
        let [first, alone, third] = [(); 3].map(|()| Gate::closed());
        story.origin_says_in_turn([page_behind(&first, "first"), page_behind(&alone, "alone"), page_behind(&third, "third")]);
        let lead = all_ask(&story, 1, || get("/a")).await;
        let impatient = asks(&story, get("/a"));
        eventually("the follower goes alone", || story.origin.calls() == 2).await;
        assert_eq!(story.handle.stats().collapse_timeouts, 1);
        // It does not wait in vain for one that others have waited for in vain.
        let third_client = asks(&story, get("/a"));
        eventually("the next leads at once", || story.origin.calls() == 3).await;
        assert_eq!(story.handle.stats().collapse_timeouts, 1);
        [first, alone, third].iter().for_each(Gate::open);
        let all = answers(lead.into_iter().chain([impatient, third_client]).collect()).await;
        assert_eq!(all.iter().map(|answer| answer.body().clone()).collect::<Vec<_>>(), ["first", "alone", "third"]);
        nothing_is_left(&story).await;
    }

    /// The body may take long, and whoever comes later is not to wait for a response that is stale by then.
    async fn a_flight_whose_response_is_stale_by_now_leaves_the_lead_to_the_next(stage) {
        let story = stage.story();
        let (old, new) = (Gate::closed(), Gate::closed());
        story.origin_says(page("").chunks(["one "]).waits_for(&old).chunks(["two"]));
        let mut first = story.client_begins(get("/a")).await;
        first.receives("one ").await;
        story.time_passes(Duration::from_secs(61));
        story.origin_says(page_behind(&new, "new"));
        let later = all_ask(&story, 3, || get("/a")).await;
        eventually("one of those who come later is forwarded", || story.origin.calls() == 2).await;
        new.open();
        answers(later).await.iter().for_each(|answer| { answer.has_body("new"); });
        story.origin_was_asked(2);
        old.open();
        first.reads_to_the_end().await.has_body("one two");
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body("new");
        story.origin_was_asked(2);
    }

    /// Its head has come and its body has not: a stale hit meanwhile begins no other.
    async fn a_refresh_that_has_landed_is_left_alone_by_the_next_stale_hit(stage) {
        let story = stage.story_with(|config| config.stale_while_revalidate(Duration::from_secs(600)));
        story.origin_says(page("old"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(Duration::from_secs(61));
        let gate = Gate::closed();
        story.origin_says(page("").chunks(["new "]).waits_for(&gate).chunks(["page"]));
        for _ in 0..5 {
            story.client_asks_and_goes_on(get("/a")).await.is_hit().has_body("old");
            eventually("the refresh has its first frame", || story.handle.stats().bytes_in_flight == 4).await;
        }
        gate.open();
        nothing_is_left(&story).await;
        story.origin_was_asked(2);
        story.client_asks(get("/a")).await.is_hit().has_body("new page");
    }

    async fn nobody_waits_where_waiting_is_turned_off(stage) {
        let story = stage.story_with(|config| config.collapse_timeout(Duration::ZERO));
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "hello"));
        let clients = all_ask(&story, 9, || get("/a")).await;
        eventually("each goes alone", || story.origin.calls() == 9).await;
        gate.open();
        answers(clients).await;
        nothing_is_left(&story).await;
    }

    async fn whoever_comes_after_an_invalidation_does_not_get_what_was_asked_for_before(stage) {
        let story = stage.story();
        let (old, new) = (Gate::closed(), Gate::closed());
        story.origin_says(page_behind(&old, "old"));
        let before = all_ask(&story, 3, || get("/a")).await;
        story.origin_says(status(204));
        story.client_asks_and_goes_on(ask("POST", "/a")).await.has_status(204);
        story.origin_says(page_behind(&new, "new"));
        let after = all_ask(&story, 3, || get("/a")).await;
        eventually("one of those who come later is forwarded", || story.origin.calls() == 3).await;
        new.open();
        answers(after).await.iter().for_each(|answer| { answer.has_body("new"); });
        old.open();
        let before = answers(before).await;
        let old = before.iter().filter(|answer| answer.has_status(200).body() == &b"old"[..]).count();
        assert_eq!(old, 1, "who asked has what was answered, and who only waited what is right by now");
        story.origin_was_asked(3);
        nothing_is_left(&story).await;
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }

    async fn what_an_invalidation_overtook_is_not_stored(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        story.origin_says(page("").chunks(["old "]).waits_for(&gate).chunks(["end"]));
        let mut lead = story.client_begins(get("/a")).await;
        lead.receives("old ").await;
        story.origin_says(status(204));
        story.client_asks_and_goes_on(ask("DELETE", "/a")).await;
        gate.open();
        lead.reads_to_the_end().await.has_body("old end");
        nothing_is_left(&story).await;
        story.origin_says(page("new"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").has_body("new");
    }

    async fn a_query_after_an_invalidation_does_not_get_what_was_asked_for_before(stage) {
        let story = stage.story();
        let old = Gate::closed();
        story.origin_says(page_behind(&old, "old"));
        let before = all_ask(&story, 2, query).await;
        story.origin_was_asked(1);
        story.origin_says(status(204));
        story.client_asks_and_goes_on(ask("POST", "/a")).await;
        story.origin_says(page("new"));
        story.client_asks_and_goes_on(query()).await.has_body("new");
        old.open();
        answers(before).await.iter().for_each(|answer| { answer.has_body("old"); });
        story.origin_was_asked(3);
    }

    async fn a_hit_does_not_wait_for_a_refresh(stage) {
        let story = stage.story();
        story.origin_says(ok("old").cache_control("max-age=60, stale-while-revalidate=600"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(61));
        let gate = Gate::closed();
        story.origin_says(page_behind(&gate, "new"));
        for _ in 0..5 {
            story.client_asks_and_goes_on(get("/a")).await.is_hit().has_body("old");
        }
        eventually("it is refreshed", || story.origin.calls() == 2).await;
        gate.open();
        nothing_is_left(&story).await;
        story.origin_was_asked(2);
        story.client_asks(get("/a")).await.is_hit().has_body("new");
    }

    async fn a_follower_that_is_not_polled_for_a_while_still_finds_the_beginning(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        let body: Vec<Bytes> = (0..9).map(|number| Bytes::from(vec![number; 300_000])).collect();
        story.origin_says(page("").chunks(body.clone()).head_after(&gate));
        let lead = asks(&story, get("/a"));
        eventually("the first is forwarded", || story.origin.calls() == 1).await;
        let mut follower = Box::pin(story.client_tries(get("/a")));
        while story.handle.stats().misses < 2 {
            assert!(is_pending(&mut follower).await);
            tokio::task::yield_now().await;
        }
        gate.open();
        lead.await.expect("the lead is answered").has_body(body.concat());
        assert!(whole(follower.await).await == body.concat());
        story.origin_was_asked(1);
    }
}

fn query() -> Ask {
    ask("QUERY", "/a").header("content-type", "text/sql").body("q").extension(QueryContent::new("q"))
}
