//! How long a response is fresh, and how old it is (RFC 9111 §4.2).

use std::time::Duration;

use tower_redis_cache::CachePolicy;

use crate::support::gate::{Gate, eventually};
use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Story, get, seconds};
use crate::{date, on_both_stores};

/// With how much freshness left the origin's word is stored; `None` where it is not.
async fn ttl_of(story: &Story, reply: Reply) -> Option<i64> {
    story.origin_says(reply);
    let answer = story.client_asks(get(&format!("/{}", story.origin.calls()))).await;
    let member = answer.cache_status();
    assert_eq!(member.has("stored"), member.integer("ttl").is_some(), "{member:?}");
    member.integer("ttl")
}

/// The same for the value of Cache-Control alone, one line or several.
async fn ttl_of_lines(story: &Story, lines: &[&str]) -> Option<i64> {
    ttl_of(story, lines.iter().fold(ok("x"), |reply, line| reply.cache_control(line))).await
}

on_both_stores! {
    async fn a_shared_cache_takes_s_maxage_then_max_age_then_expires(stage) {
        let story = stage.story();
        let expires = date(&story, 30);
        let with = |line: &str| ok("x").cache_control(line).header("expires", &expires);
        assert_eq!(ttl_of(&story, with("max-age=10, s-maxage=20")).await, Some(20));
        assert_eq!(ttl_of(&story, with("s-maxage=20, max-age=10")).await, Some(20));
        assert_eq!(ttl_of(&story, with("s-maxage=20")).await, Some(20));
        assert_eq!(ttl_of(&story, with("max-age=10")).await, Some(10));
        assert_eq!(ttl_of(&story, with("public")).await, Some(30));
        assert_eq!(ttl_of(&story, ok("x").header("expires", &expires)).await, Some(30));
    }

    async fn the_stronger_statement_counts_though_it_is_the_shorter_or_zero(stage) {
        let story = stage.story();
        let far = date(&story, 3600);
        assert_eq!(ttl_of(&story, ok("x").cache_control("s-maxage=0, max-age=60").header("expires", &far)).await, None);
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=0").header("expires", &far)).await, None);
        assert_eq!(ttl_of(&story, ok("x").cache_control("max-age=60").header("expires", "0")).await, Some(60));
        assert_eq!(
            ttl_of(&story, ok("x").cache_control("max-age=60").header("expires", &date(&story, -60))).await,
            Some(60)
        );
    }

    async fn names_count_in_any_case_and_arguments_with_or_without_quotes(stage) {
        let story = stage.story();
        for line in [
            "MAX-AGE=60",
            "Max-Age=60",
            "max-age=\"60\"",
            "S-MaxAge=60",
            "s-maxage=\"60\", max-age=1",
            "public,max-age=60,x",
        ] {
            assert_eq!(ttl_of_lines(&story, &[line]).await, Some(60), "{line}");
        }
        for line in
            ["ext=\"max-age=9\", max-age=60", "ext=\"a\\\", max-age=9\", max-age=60", ", ,max-age=60,,", "max-age=0060"]
        {
            assert_eq!(ttl_of_lines(&story, &[line]).await, Some(60), "{line}");
        }
    }

    async fn directives_on_several_lines_are_one_list(stage) {
        let story = stage.story();
        assert_eq!(ttl_of_lines(&story, &["public", "max-age=60"]).await, Some(60));
        assert_eq!(ttl_of_lines(&story, &["max-age=10", "s-maxage=60"]).await, Some(60));
        assert_eq!(ttl_of_lines(&story, &["max-age=60", "no-store"]).await, None);
        assert_eq!(ttl_of_lines(&story, &["max-age=60", "public", "PRIVATE"]).await, None);
    }

    /// §4.2.1: the first one, or none; never the most generous.
    async fn of_several_values_the_first_counts(stage) {
        let story = stage.story();
        assert_eq!(ttl_of_lines(&story, &["max-age=10, max-age=3600"]).await, Some(10));
        assert_eq!(ttl_of_lines(&story, &["max-age=10", "max-age=3600"]).await, Some(10));
        assert_eq!(ttl_of_lines(&story, &["s-maxage=10, s-maxage=3600, max-age=7200"]).await, Some(10));
        assert_eq!(ttl_of_lines(&story, &["max-age=0, max-age=3600"]).await, None);
        let twice = ok("x").header("expires", &date(&story, -10)).header("expires", &date(&story, 3600));
        assert_eq!(ttl_of(&story, twice).await, None);
    }

    /// §4.2.1: conflicting directives are read as the most restrictive.
    async fn what_restricts_is_stronger_than_what_allows(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        for line in [
            "max-age=60, no-store",
            "no-store, public, max-age=60",
            "public, private, max-age=60",
            "no-cache, max-age=60",
        ] {
            assert_eq!(ttl_of_lines(&story, &[line]).await, None, "{line}");
        }
    }

    /// §4.2.1: caches are encouraged to take invalid freshness for staleness.
    async fn what_cannot_be_read_is_stale_and_falls_back_to_nothing(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        for line in [
            "max-age=-1",
            "max-age=1.5",
            "max-age=60s",
            "max-age=",
            "max-age",
            "max-age='60'",
            "max-age= ",
            "max-age=6 0",
            "max-age=0x3c",
        ] {
            assert_eq!(ttl_of_lines(&story, &[line]).await, None, "{line}");
            assert_eq!(
                ttl_of(&story, ok("x").cache_control(line).header("expires", &date(&story, 3600))).await,
                None,
                "{line}"
            );
        }
        assert_eq!(ttl_of_lines(&story, &["s-maxage=x, max-age=60"]).await, None);
    }

    /// §1.2.2.
    async fn a_lifetime_too_great_to_count_is_the_greatest(stage) {
        let greatest = 1_i64 << 31;
        let story = stage.story_with(|config| config.max_ttl(Duration::MAX));
        for count in [
            "2147483648",
            "2147483649",
            "4294967296",
            "4294967356",
            "9223372036854775808",
            "99999999999999999999999999",
        ] {
            assert_eq!(ttl_of_lines(&story, &[&format!("max-age={count}")]).await, Some(greatest), "{count}");
        }
        assert_eq!(
            ttl_of(&story, ok("x").header("expires", "Fri, 31 Dec 9999 23:59:59 GMT"))
                .await
                .map(|ttl| ttl > greatest / 2),
            Some(true)
        );
    }

    /// §5.3, RFC 9110 §5.6.7.
    async fn expires_is_read_in_all_three_formats_and_counts_from_date(stage) {
        let story = stage.story();
        let now = std::time::UNIX_EPOCH + seconds(story.time.unix_seconds());
        let fixdate = httpdate::fmt_http_date(now + seconds(60));
        let (day, rest) = fixdate.split_once(", ").expect("a date");
        let [mday, month, year, clock, _] = rest.split(' ').collect::<Vec<_>>()[..] else {
            panic!("a date: {fixdate}")
        };
        let long = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
        let weekday = long.iter().find(|name| name.starts_with(day)).expect("a day");
        let rfc850 = format!("{weekday}, {mday}-{month}-{} {clock} GMT", &year[2..]);
        let asctime = format!("{day} {month} {:>2} {clock} {year}", mday.trim_start_matches('0'));
        for expires in [fixdate.clone(), rfc850, asctime] {
            assert_eq!(ttl_of(&story, ok("x").header("expires", &expires)).await, Some(60), "{expires}");
        }
        let dated = |date_at: i64, expires_at: i64| {
            ok("x").header("date", &date(&story, date_at)).header("expires", &date(&story, expires_at))
        };
        assert_eq!(ttl_of(&story, dated(0, 30)).await, Some(30));
        assert_eq!(ttl_of(&story, dated(-10, 30)).await, Some(30), "40 seconds, of which 10 are over");
        assert_eq!(ttl_of(&story, dated(0, 0)).await, None);
        assert_eq!(ttl_of(&story, dated(0, -30)).await, None);
    }

    async fn an_expires_that_is_no_date_is_in_the_past(stage) {
        let story = stage.story_with(|config| config.default_ttl(seconds(60)));
        for junk in ["0", "-1", "", "tomorrow", "2038-01-01T00:00:00Z", "Thu, 99 Feb 2038 00:00:00 GMT"] {
            assert_eq!(ttl_of(&story, ok("x").header("expires", junk)).await, None, "{junk:?}");
        }
    }

    /// §4.2.2.
    async fn freshness_is_guessed_only_where_the_policy_lets_it(stage) {
        let guessing = stage.story_with(|config| config.policy(CachePolicy::rfc9111()));
        let aged = |story: &Story, code: u16, age: i64| {
            status(code).body("x").header("date", &date(story, 0)).header("last-modified", &date(story, -age))
        };
        for code in [200, 203, 300, 301, 308, 404, 405, 410, 414, 501] {
            assert_eq!(ttl_of(&guessing, aged(&guessing, code, 1000)).await, Some(100), "{code}");
        }
        for code in [302, 303, 307, 400, 403, 500, 502, 503, 504, 299, 599] {
            assert_eq!(ttl_of(&guessing, aged(&guessing, code, 1000)).await, None, "{code}");
        }
        assert_eq!(ttl_of(&guessing, aged(&guessing, 599, 1000).cache_control("public")).await, Some(100));
        assert_eq!(
            ttl_of(&guessing, aged(&guessing, 200, 1_000_000_000)).await,
            Some(24 * 60 * 60),
            "a day at the most"
        );
        let safe = stage.story_with(|config| config.namespace("safe").expect("a namespace"));
        for code in [200, 301, 404] {
            assert_eq!(ttl_of(&safe, aged(&safe, code, 1000).cache_control("public")).await, None, "{code}");
        }
    }

    async fn a_guess_is_weaker_than_whatever_is_stated(stage) {
        let story = stage.story_with(|config| config.policy(CachePolicy::rfc9111()));
        let aged = |line: &str| ok("x").cache_control(line).header("last-modified", &date(&story, -100_000));
        assert_eq!(ttl_of(&story, aged("max-age=5")).await, Some(5));
        assert_eq!(ttl_of(&story, aged("s-maxage=6")).await, Some(6));
        assert_eq!(
            ttl_of(
                &story,
                ok("x").header("last-modified", &date(&story, -100_000)).header("expires", &date(&story, 7))
            )
            .await,
            Some(7)
        );
        // Kept for validation, and not fresh for a moment.
        assert_eq!(ttl_of(&story, aged("max-age=0")).await, Some(0));
        assert_eq!(ttl_of(&story, aged("max-age=x")).await, Some(0));
    }

    async fn a_date_in_the_future_makes_nothing_younger_or_older(stage) {
        let story = stage.story();
        let ahead = |reply: Reply| reply.header("date", &date(&story, 600));
        assert_eq!(ttl_of(&story, ahead(ok("x").cache_control("max-age=60"))).await, Some(60));
        assert_eq!(ttl_of(&story, ahead(ok("x")).header("expires", &date(&story, 660))).await, Some(60));
        assert_eq!(ttl_of(&story, ahead(ok("x").cache_control("max-age=60").header("age", "20"))).await, Some(40));
        story.origin_says(ahead(ok("x").cache_control("max-age=60")));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(seconds(59));
        story.client_asks(get("/a")).await.is_hit().has_age(59);
        story.time_passes(seconds(1));
        story.client_asks(get("/a")).await.is_forwarded_for("stale");
    }

    /// §4.2.3: the greater of what Date tells and what Age tells.
    async fn age_may_say_more_than_date_tells_and_date_more_than_age(stage) {
        let story = stage.story();
        let aged = |age: &str, date_at: i64| {
            ok("x").cache_control("max-age=100").header("age", age).header("date", &date(&story, date_at))
        };
        assert_eq!(ttl_of(&story, aged("40", 0)).await, Some(60));
        assert_eq!(ttl_of(&story, aged("40", -10)).await, Some(60));
        assert_eq!(ttl_of(&story, aged("10", -40)).await, Some(60));
        assert_eq!(ttl_of(&story, aged("0", -40)).await, Some(60));
        assert_eq!(ttl_of(&story, aged("100", 0)).await, None);
        assert_eq!(ttl_of(&story, aged("0", -100)).await, None);
        assert_eq!(
            ttl_of(&story, ok("x").cache_control("max-age=100").header("date", "yesterday").header("age", "40")).await,
            Some(60)
        );
    }

    /// §5.1: lenient, and safe.
    async fn an_age_that_makes_no_sense_is_ignored_and_one_too_great_is_the_greatest(stage) {
        let story = stage.story();
        let aged = |age: &str| ok("x").cache_control("max-age=100").header("age", age);
        for senseless in ["", "-40", "4e1", "40.0", "40s", "x"] {
            assert_eq!(ttl_of(&story, aged(senseless)).await, Some(100), "{senseless:?}");
        }
        for enormous in ["2147483648", "4294967296", "18446744073709551616", "99999999999999999999999999"] {
            assert_eq!(ttl_of(&story, aged(enormous)).await, None, "{enormous}");
        }
        assert_eq!(ttl_of(&story, aged("40, 0")).await, Some(60), "a list is read as its first member");
        assert_eq!(ttl_of(&story, aged("40").header("age", "0")).await, Some(60), "and so are several lines");
    }

    async fn the_time_on_the_way_adds_to_the_age_that_a_response_comes_with(stage) {
        let story = stage.story();
        let gate = Gate::closed();
        let reply = ok("x").cache_control("max-age=100").header("age", "20").header("date", &date(&story, 0));
        story.origin_says(reply.head_after(&gate));
        let client = tokio::spawn({
            let story = story.clone();
            async move { story.client_asks(get("/a")).await }
        });
        eventually("the origin is asked", || story.origin.calls() == 1).await;
        story.time_passes(seconds(15));
        gate.open();
        client.await.expect("the client is content").is_stored().has_ttl(65);
        story.time_passes(seconds(30));
        story.client_asks(get("/a")).await.is_hit().has_age(65).has_ttl(35);
    }

    async fn age_is_written_in_whole_seconds_and_replaces_the_one_that_came(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=60").header("age", "5").header("age", "7"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(Duration::from_millis(1_900));
        story.client_asks(get("/a")).await.is_hit().has_header("age", "6");
    }

    async fn a_response_is_fresh_to_the_last_moment_and_no_longer(stage) {
        let story = stage.story();
        story.origin_says(ok("x").cache_control("max-age=10"));
        story.client_asks(get("/a")).await.is_stored();
        story.time_passes(Duration::from_millis(9_999));
        story.client_asks(get("/a")).await.is_hit().has_age(9).has_ttl(1);
        story.time_passes(Duration::from_millis(1));
        story.client_asks(get("/a")).await.is_forwarded_for("stale");
    }

    async fn immutable_and_unknown_directives_change_nothing(stage) {
        let story = stage.story();
        for line in [
            "max-age=60, immutable",
            "max-age=60, x-new=1, y=\"no-store\"",
            "no-transform, max-age=60",
            "max-age=60, no-stores, privately",
        ] {
            assert_eq!(ttl_of_lines(&story, &[line]).await, Some(60), "{line}");
        }
    }
}
