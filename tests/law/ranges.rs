//! Parts of a stored response (RFC 9110 §14, RFC 9111 §3.3).

use crate::support::scripted::{Reply, ok, status};
use crate::support::story::{Answer, Ask, Story, get, head, seconds};
use crate::{date, octets, on_both_stores};

/// A mebibyte, which Redis keeps in four chunks and the memory store in pieces.
const LENGTH: u32 = 1024 * 1024;
const CHUNK: usize = 256 * 1024;

fn range(value: &str) -> Ask {
    get("/a").header("range", value)
}

/// The digits, stored and fresh.
async fn has_digits(story: &Story, reply: Reply) {
    story.origin_says(
        reply
            .body("0123456789")
            .header("content-type", "text/plain")
            .header("content-length", "10")
            .cache_control("max-age=60"),
    );
    story.client_asks(get("/a")).await.is_stored();
}

/// The parts of multipart/byteranges (RFC 9110 §14.6): Content-Type, Content-Range and content of each.
#[track_caller]
fn parts_of(answer: &Answer) -> Vec<(Option<String>, String, Vec<u8>)> {
    let content_type = answer.headers()["content-type"].to_str().expect("ASCII");
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("a boundary").trim_matches('"');
    assert!((1..=70).contains(&boundary.len()), "{boundary}");
    let mut rest = &answer.body()[..];
    let mut parts = Vec::new();
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    rest = &rest[find(rest, &delimiter[2..]) + delimiter.len() - 2..];
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n").expect("a delimiter ends its line");
        let head = find(rest, b"\r\n\r\n");
        let fields: Vec<(String, String)> = std::str::from_utf8(&rest[..head])
            .expect("ASCII")
            .split("\r\n")
            .map(|line| line.split_once(':').expect("a field"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        rest = &rest[head + 4..];
        let end = find(rest, &delimiter);
        parts.push((field("content-type"), field("content-range").expect("Content-Range"), rest[..end].to_vec()));
        rest = &rest[end + delimiter.len()..];
    }
    parts
}

#[track_caller]
fn find(octets: &[u8], wanted: &[u8]) -> usize {
    octets.windows(wanted.len()).position(|window| window == wanted).expect("it is there")
}

on_both_stores! {
    async fn a_single_range_is_cut_from_what_is_stored(stage) {
        let story = stage.story();
        has_digits(&story, status(200).header("etag", "\"v1\"").header("x-kept", "1")).await;
        story.time_passes(seconds(10));
        let expected = [
            ("bytes=0-0", "0", "bytes 0-0/10"),
            ("bytes=2-4", "234", "bytes 2-4/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=8-99", "89", "bytes 8-9/10"),
            ("bytes=-3", "789", "bytes 7-9/10"),
            ("bytes=-99", "0123456789", "bytes 0-9/10"),
            ("bytes=0-9", "0123456789", "bytes 0-9/10"),
            ("Bytes=2-4", "234", "bytes 2-4/10"),
            ("bytes=0-18446744073709551616", "0123456789", "bytes 0-9/10"),
            ("bytes=20-30,1-1", "1", "bytes 1-1/10"),
        ];
        for (value, body, content_range) in expected {
            let answer = story.client_asks(range(value)).await;
            answer.is_hit().has_status(206).has_age(10).has_body(body).has_header("content-range", content_range);
            answer.has_header("content-length", &body.len().to_string()).has_header("content-type", "text/plain");
            answer.has_header("etag", "\"v1\"").has_header("x-kept", "1").has_header("cache-control", "max-age=60");
        }
        story.origin_was_asked(1);
    }

    async fn several_ranges_come_as_parts_in_the_order_asked_for(stage) {
        let story = stage.story();
        has_digits(&story, status(200)).await;
        let part = |content_range: &str, body: &str| {
            (Some("text/plain".to_owned()), content_range.to_owned(), body.as_bytes().to_vec())
        };
        let answer = story.client_asks(range("bytes=7-8, 0-1,-1")).await;
        answer.is_hit().has_status(206).has_no("content-range");
        assert_eq!(
            parts_of(&answer),
            [part("bytes 7-8/10", "78"), part("bytes 0-1/10", "01"), part("bytes 9-9/10", "9")]
        );
        answer.has_header("content-length", &answer.body().len().to_string());
        let some_outside = story.client_asks(range("bytes=0-0,50-60,2-2")).await;
        assert_eq!(parts_of(&some_outside), [part("bytes 0-0/10", "0"), part("bytes 2-2/10", "2")]);
    }

    async fn ranges_cross_the_borders_of_chunks(stage) {
        let story = stage.story();
        let body = octets(LENGTH);
        story.origin_says(ok(body.clone()).cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        for (first, last) in [
            (0, 0),
            (CHUNK - 1, CHUNK),
            (CHUNK, CHUNK),
            (CHUNK - 1, CHUNK - 1),
            (CHUNK - 10, 3 * CHUNK + 10),
            (2 * CHUNK, 4 * CHUNK - 1),
            (0, 4 * CHUNK - 1),
        ] {
            let answer = story.client_asks(range(&format!("bytes={first}-{last}"))).await;
            answer.is_hit().has_status(206).has_body(&body[first..=last]);
            answer.has_header("content-range", &format!("bytes {first}-{last}/{LENGTH}"));
            answer.has_header("content-length", &(last - first + 1).to_string());
        }
        story.client_asks(range("bytes=-300000")).await.is_hit().has_status(206).has_body(&body[4 * CHUNK - 300_000..]);
        let answer = story.client_asks(range(&format!("bytes={}-{},0-{}", 2 * CHUNK - 5, 2 * CHUNK + 5, CHUNK))).await;
        let parts = parts_of(&answer.has_status(206).clone());
        assert_eq!(parts[0].2, body[2 * CHUNK - 5..=2 * CHUNK + 5]);
        assert_eq!(parts[1].2, body[..=CHUNK]);
        story.origin_was_asked(1);
    }

    async fn a_range_outside_is_416_with_the_length(stage) {
        let story = stage.story();
        has_digits(&story, status(200).header("etag", "\"v1\"")).await;
        for value in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-", "bytes=10-10,20-30"] {
            let answer = story.client_asks(range(value)).await;
            answer.is_hit().has_status(416).has_header("content-range", "bytes */10").has_body("");
        }
        story.client_asks(get("/a")).await.is_hit().has_status(200).has_body("0123456789");
    }

    async fn a_range_of_nothing_is_416(stage) {
        let story = stage.story();
        story.origin_says(ok("").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        for value in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            story.client_asks(range(value)).await.is_hit().has_status(416).has_header("content-range", "bytes */0");
        }
    }

    async fn a_range_that_is_malformed_or_in_another_unit_is_ignored(stage) {
        let story = stage.story();
        has_digits(&story, status(200)).await;
        for value in [
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=4-2",
            "bytes=a-b",
            "bytes=1",
            "bytes:0-1",
            "lines=0-1",
            "=0-1",
            "bytes=0-1x",
            "bytes=0-1, x",
        ] {
            story
                .client_asks(range(value))
                .await
                .is_hit()
                .has_status(200)
                .has_no("content-range")
                .has_body("0123456789");
        }
        story.client_asks(range("bytes=0-1").header("range", "bytes=2-3")).await.is_hit().has_status(200);
    }

    /// RFC 9110 §14.2, §17.15.
    async fn an_abusive_range_costs_no_more_than_the_whole(stage) {
        let story = stage.story();
        has_digits(&story, status(200)).await;
        let overlapping = "0-,".repeat(200);
        let tiny = (0..1000).map(|at| format!("{}-{}", at % 10, at % 10)).collect::<Vec<_>>().join(",");
        for value in [format!("bytes={overlapping}0-"), format!("bytes={tiny}"), "bytes=0-9,0-9".to_owned()] {
            story.client_asks(range(&value)).await.is_hit().has_status(200).has_body("0123456789");
        }
    }

    /// RFC 9110 §13.1.5.
    async fn if_range_needs_a_strong_match(stage) {
        let story = stage.story();
        let modified = date(&story, -5);
        has_digits(
            &story,
            status(200).header("etag", "\"v1\"").header("last-modified", &modified).header("date", &date(&story, 0)),
        )
        .await;
        let with = |condition: &str| range("bytes=0-1").header("if-range", condition);
        for condition in ["\"v1\"", &modified] {
            story.client_asks(with(condition)).await.is_hit().has_status(206).has_body("01");
        }
        for condition in ["\"v2\"", "W/\"v1\"", "v1", &date(&story, -4), &date(&story, -6), "soon", ""] {
            story
                .client_asks(with(condition))
                .await
                .is_hit()
                .has_status(200)
                .has_no("content-range")
                .has_body("0123456789");
        }
        story.client_asks(get("/a").header("if-range", "\"v2\"")).await.is_hit().has_status(200);
    }

    async fn a_weak_validator_never_permits_a_range(stage) {
        let story = stage.story();
        let now = date(&story, 0);
        has_digits(&story, status(200).header("etag", "W/\"v1\"").header("last-modified", &now).header("date", &now))
            .await;
        for condition in ["W/\"v1\"", "\"v1\"", &now] {
            story
                .client_asks(range("bytes=0-1").header("if-range", condition))
                .await
                .is_hit()
                .has_status(200)
                .has_body("0123456789");
        }
        story.client_asks(range("bytes=0-1")).await.is_hit().has_status(206);
    }

    /// RFC 9110 §14.2: a range is for GET.
    async fn head_ignores_a_range(stage) {
        let story = stage.story();
        has_digits(&story, status(200)).await;
        for value in ["bytes=0-1", "bytes=50-"] {
            let answer = story.client_asks(head("/a").header("range", value)).await;
            answer.is_hit().has_status(200).has_no("content-range").has_header("content-length", "10").has_body("");
        }
    }

    /// RFC 9110 §13.2.2.
    async fn a_precondition_is_judged_before_the_range(stage) {
        let story = stage.story();
        has_digits(&story, status(200).header("etag", "\"v1\"").header("last-modified", &date(&story, -60))).await;
        story
            .client_asks(range("bytes=0-1").header("if-none-match", "\"v1\""))
            .await
            .is_hit()
            .has_status(304)
            .has_no("content-range")
            .has_body("");
        story.client_asks(range("bytes=50-").header("if-none-match", "\"v1\"")).await.is_hit().has_status(304);
        story
            .client_asks(range("bytes=0-1").header("if-modified-since", &date(&story, -60)))
            .await
            .is_hit()
            .has_status(304);
        story
            .client_asks(range("bytes=0-1").header("if-none-match", "\"v2\""))
            .await
            .is_hit()
            .has_status(206)
            .has_body("01");
        story.client_asks(range("bytes=50-").header("if-none-match", "\"v2\"")).await.is_hit().has_status(416);
    }

    async fn only_a_stored_200_has_ranges_and_conditions(stage) {
        let story = stage.story();
        has_digits(&story, status(404).header("etag", "\"v1\"")).await;
        story.client_asks(get("/a").header("if-none-match", "\"v1\"")).await.is_hit().has_status(404);
        story
            .client_asks(range("bytes=0-1"))
            .await
            .is_hit()
            .has_status(404)
            .has_no("content-range")
            .has_body("0123456789");
    }

    async fn a_range_of_what_is_not_stored_passes_and_stores_nothing(stage) {
        let story = stage.story();
        let part = status(206)
            .body("12")
            .header("content-range", "bytes 1-2/10")
            .header("etag", "\"v1\"")
            .cache_control("max-age=60");
        story.origin_says(part);
        for _ in 0..2 {
            let answer = story.client_asks(range("bytes=1-2").header("if-range", "\"v1\"")).await;
            answer
                .is_forwarded_for("uri-miss")
                .is_not_stored()
                .has_status(206)
                .has_header("content-range", "bytes 1-2/10")
                .has_body("12");
            assert_eq!(story.last_asked().headers["range"], "bytes=1-2");
            assert_eq!(story.last_asked().headers["if-range"], "\"v1\"");
        }
        story.origin_says(ok("0123456789").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_forwarded_for("uri-miss").is_stored();
        story.client_asks(range("bytes=1-2")).await.is_hit().has_status(206).has_body("12");
    }

    async fn an_origin_that_ignores_the_range_fills_the_cache(stage) {
        let story = stage.story();
        story.origin_says(ok("0123456789").cache_control("max-age=60"));
        story.client_asks(range("bytes=1-2")).await.has_status(200).has_body("0123456789");
        story.client_asks(range("bytes=1-2")).await.is_hit().has_status(206).has_body("12");
    }

    async fn a_stale_response_is_validated_whole_and_then_cut(stage) {
        let story = stage.story();
        has_digits(&story, status(200).header("etag", "\"v1\"")).await;
        story.time_passes(seconds(60));
        story.origin_says(status(304).header("etag", "\"v1\""));
        let answer = story.client_asks(range("bytes=1-2")).await;
        answer.has_forward_status(304).has_status(206).has_header("content-range", "bytes 1-2/10").has_body("12");
        assert!(!story.last_asked().headers.contains_key("range"));
        story.client_asks(get("/a")).await.is_hit().has_status(200).has_body("0123456789");
    }

    async fn a_stale_response_without_a_validator_lends_nothing_to_a_part(stage) {
        let story = stage.story();
        has_digits(&story, status(200)).await;
        story.time_passes(seconds(60));
        story.origin_says(status(206).body("BC").header("content-range", "bytes 1-2/10"));
        story
            .client_asks(range("bytes=1-2"))
            .await
            .is_forwarded_for("stale")
            .is_not_stored()
            .has_status(206)
            .has_body("BC");
    }

    async fn each_variant_has_its_own_ranges(stage) {
        let story = stage.story();
        story.origin.answers(|parts| {
            let language = parts.headers["accept-language"].to_str().expect("a language").to_owned();
            ok(format!("{language}-0123456789")).header("vary", "accept-language").cache_control("max-age=60")
        });
        for language in ["de", "en"] {
            story.client_asks(get("/a").header("accept-language", language)).await.is_stored();
        }
        for language in ["de", "en"] {
            story
                .client_asks(range("bytes=0-2").header("accept-language", language))
                .await
                .is_hit()
                .has_body(format!("{language}-"));
        }
    }

    async fn a_part_carries_no_trailers(stage) {
        let story = stage.story();
        story.origin_says(ok("").chunks(["01234", "56789"]).trailer("x-checksum", "7").cache_control("max-age=60"));
        story.client_asks(get("/a")).await.is_stored();
        story.client_asks(range("bytes=4-5")).await.is_hit().has_status(206).has_no("x-checksum").has_body("45");
        story.client_asks(get("/a")).await.is_hit().has_trailer("x-checksum", "7").has_body("0123456789");
    }
}
