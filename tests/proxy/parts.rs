//! The parts of the proxy that decide without doing anything, as tables.
#![allow(dead_code)]

#[path = "../../examples/proxy/authority.rs"]
mod authority;
#[path = "../../examples/proxy/framing.rs"]
mod framing;
#[path = "../../examples/proxy/redact.rs"]
mod redact;
#[path = "../../examples/proxy/trusted.rs"]
mod trusted;
#[path = "../../examples/proxy/units.rs"]
mod units;

use std::collections::VecDeque;
use std::time::Duration;

use authority::parse_authority;
use framing::Framing::{self, BothLengths, Chunked, Length, RepeatedLength};
use framing::HeadScanner;
use redact::redact;
use trusted::{Network, TrustedPeers};

fn verdicts(pieces: &[&[u8]], limit: usize) -> Vec<Framing> {
    let mut scanner = HeadScanner::new(limit);
    let mut verdicts = VecDeque::new();
    for piece in pieces {
        scanner.scan(piece, &mut verdicts);
    }
    verdicts.into()
}

#[test]
fn the_scanner_gives_one_verdict_per_request_however_the_bytes_arrive() {
    let cases: [(&str, &[Framing]); 14] = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[Length]),
        ("GET / HTTP/1.1\n\n", &[Length]),
        ("\r\n\r\n\nGET / HTTP/1.1\r\n\r\n", &[Length]),
        ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[Length, Length]),
        ("PUT / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[Length, Length]),
        ("PUT / HTTP/1.1\r\ncontent-length:0\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[Length, Length]),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[Chunked]),
        ("PUT / HTTP/1.1\r\nTransfer-Encoding: x\r\ncontent-LENGTH: 1\r\n\r\n", &[BothLengths]),
        ("PUT / HTTP/1.1\r\nContent-Length: 1\r\nTRANSFER-encoding: chunked\r\n\r\n", &[BothLengths]),
        ("PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", &[RepeatedLength]),
        ("PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[Length]),
        ("no request\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[]),
        ("PRI / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[Length, Length]),
    ];
    for (text, expected) in cases {
        let bytes = text.as_bytes();
        assert_eq!(verdicts(&[bytes], 4096), expected, "{text:?}");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(verdicts(&single, 4096), expected, "{text:?} byte by byte");
        for at in 0..bytes.len() {
            let (before, after) = bytes.split_at(at);
            assert_eq!(verdicts(&[before, after], 4096), expected, "{text:?} in two at {at}");
        }
    }
}

#[test]
fn the_scanner_keeps_no_more_of_a_head_than_it_may() {
    let mut scanner = HeadScanner::new(100);
    let mut verdicts = VecDeque::new();
    scanner.scan(b"GET / HTTP/1.1\r\nX-A: ", &mut verdicts);
    assert!(scanner.in_head());
    scanner.scan(&[b'a'; 200], &mut verdicts);
    assert!(!scanner.in_head() && scanner.mid_message());
    scanner.scan(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", &mut verdicts);
    assert!(verdicts.is_empty());
}

#[test]
fn authorities_are_valid_or_not() {
    let valid = [
        ("a", "a"),
        ("A.example", "A.example"),
        ("a:8080", "a:8080"),
        ("a:", "a"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[::1]", "[::1]"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("a_b-c.d~e", "a_b-c.d~e"),
    ];
    for (text, parsed) in valid {
        assert_eq!(parse_authority(text.as_bytes()).map(|it| it.to_string()).as_deref(), Some(parsed), "{text:?}");
    }
    let invalid: [&[u8]; 21] = [
        b"",
        b":80",
        b" a",
        b"a ",
        b"a b",
        b"a/b",
        b"a@b",
        b"a,b",
        b"a:b",
        b"a:1:2",
        b"a:65536",
        b"a:+1",
        b"[::1",
        b"[a]",
        b"::1",
        b"[::1]x",
        b"a%2f",
        b"a?b",
        b"a#b",
        b"\xc3\xa4",
        b"a\0",
    ];
    for text in invalid {
        assert_eq!(parse_authority(text), None, "{:?}", String::from_utf8_lossy(text));
    }
    assert_eq!(parse_authority("a".repeat(254).as_bytes()), None);
}

#[test]
fn durations_and_sizes_are_read_as_people_write_them() {
    let millis = |text: &str| units::duration(text).map(|it| it.as_millis());
    for (text, expected) in
        [("100ms", 100), ("5", 5000), ("5s", 5000), ("2m", 120_000), ("1 h", 3_600_000), ("1d", 86_400_000)]
    {
        assert_eq!(millis(text), Ok(expected), "{text}");
    }
    for text in ["", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d"] {
        assert!(millis(text).is_err(), "{text}");
    }
    assert_eq!(units::timeout("1ms"), Ok(Duration::from_millis(1)));
    assert!(units::timeout("0").is_err() && units::timeout("400d").is_err());
    let sizes = [("65536", 65536), ("64k", 65536), ("8MiB", 8 << 20), ("8 mb", 8 << 20), ("1G", 1 << 30), ("0", 0)];
    for (text, expected) in sizes {
        assert_eq!(units::size(text), Ok(expected), "{text}");
    }
    for text in ["", "k", "1t", "1.5M", "-1", "18446744073709551615k"] {
        assert!(units::size(text).is_err(), "{text}");
    }
    for (size, expected) in
        [(0, "0 bytes"), (1000, "1000 bytes"), (1024, "1 KiB"), (8 << 20, "8 MiB"), (3 << 30, "3 GiB")]
    {
        assert_eq!(units::size_text(size), expected);
    }
}

#[test]
fn nothing_secret_in_a_url_is_shown() {
    let cases = [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@host:6379", "redis://***@host:6379"),
        ("rediss://user:secret@host/1", "rediss://***@host/1"),
        ("redis://:se@cr/et@host", "redis://***@host"),
        ("redis+unix:///run/redis.sock?pass=secret&db=1", "redis+unix:///run/redis.sock?***"),
        ("value 'http://u:secret@h/p?q=secret' is bad", "value 'http://***@h/p?***' is bad"),
        ("no url at all", "no url at all"),
    ];
    for (text, shown) in cases {
        assert_eq!(redact(text), shown);
    }
}

#[test]
fn networks_contain_their_addresses() {
    let network = |text: &str| text.parse::<Network>().expect("a network");
    let cases = [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("10.0.0.1", "10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", false),
        ("10.0.0.1", "::ffff:10.0.0.1", true),
        ("0.0.0.0/0", "8.8.8.8", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "2001:db8::1", true),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
    ];
    for (block, address, expected) in cases {
        let peers = TrustedPeers(vec![network("192.0.2.1"), network(block)]);
        assert_eq!(peers.contains(address.parse().expect("an address")), expected, "{address} in {block}");
    }
    for text in ["", "10.0.0.0/33", "10.0.0.0/-1", "a", "10.0.0.0/", "::1/129"] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
}
