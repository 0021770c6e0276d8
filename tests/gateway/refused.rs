//! Each class of address is refused, however a name comes to it, and listed ones are not.

use std::net::IpAddr;

use crate::address::{AddressRules, block};
use crate::support::origin::Script;
use crate::troupe::{GOOD, Stage, ask};
use crate::victim::Victim;

/// One or more of each class, and a word for the class.
pub(crate) const REFUSED: [(&str, &str); 62] = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("10.0.0.1", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.1", "carrier"),
    ("100.127.255.255", "carrier"),
    ("127.0.0.1", "loopback"),
    ("127.0.0.2", "loopback"),
    ("127.255.255.254", "loopback"),
    ("168.63.129.16", "Azure"),
    ("169.254.0.1", "link-local"),
    ("169.254.169.254", "link-local"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.8", "IETF"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4"),
    ("192.168.0.1", "private"),
    ("192.168.255.255", "private"),
    ("198.18.0.1", "benchmarks"),
    ("198.19.255.255", "benchmarks"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::7f00:1", "IPv4-compatible"),
    ("::808:808", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "IPv4-mapped"),
    ("::ffff:8.8.8.8", "IPv4-mapped"),
    ("::ffff:0:7f00:1", "reserved"),
    ("64:ff9b::7f00:1", "NAT64"),
    ("64:ff9b::808:808", "NAT64"),
    ("64:ff9b:1::7f00:1", "NAT64"),
    ("100::1", "discard"),
    ("2001::7f00:1", "Teredo"),
    ("2001:0:7f00:1::", "Teredo"),
    ("2001:2::1", "IETF"),
    ("2001:10::1", "IETF"),
    ("2001:20::1", "IETF"),
    ("2001:1ff::1", "IETF"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::1", "6to4"),
    ("2002:808:808::1", "6to4"),
    ("3fff::1", "documentation"),
    ("3fff:fff::1", "documentation"),
    ("4000::1", "reserved"),
    ("5f00::1", "reserved"),
    ("8000::1", "reserved"),
    ("c000::1", "reserved"),
    ("fc00::1", "unique local"),
    ("fd12:3456:789a::1", "unique local"),
    ("fe00::1", "reserved"),
    ("fe80::1", "link-local"),
    ("febf::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("ff0e::1", "multicast"),
    ("200::1", "reserved"),
];

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn what_is_not_public_is_refused_by_its_class() {
    let rules = AddressRules::default();
    for (text, class) in REFUSED {
        let refusal = rules.refusal(address(text)).unwrap_or_else(|| panic!("{text} is not refused"));
        assert!(refusal.contains(class), "{text}: {refusal}");
    }
}

#[test]
fn what_is_public_is_not_refused_up_to_its_edges() {
    let rules = AddressRules::default();
    let v4 = ["1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"];
    let more = ["128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0"];
    let rest = ["192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"];
    let v6 = ["2001:200::1", "2001:db7:ffff::1", "2001:db9::1", "2001:4860:4860::8888", "2003::1", "2606:4700::1111"];
    let edges = ["2000::1", "3ffe:ffff::1", "3fff:1000::1", "2a00::1"];
    for text in v4.iter().chain(&more).chain(&rest).chain(&v6).chain(&edges) {
        assert_eq!(rules.refusal(address(text)), None, "{text}");
    }
}

#[test]
fn a_listed_address_is_not_refused_and_its_neighbours_are() {
    let rules = AddressRules::listing([block("10.1.0.0/16").unwrap(), block("::1").unwrap()]);
    for (text, is_refused) in
        [("10.1.2.3", false), ("10.2.0.0", true), ("::1", false), ("::2", true), ("::ffff:10.1.2.3", true)]
    {
        assert_eq!(rules.refusal(address(text)).is_some(), is_refused, "{text}");
    }
    for text in ["10.0.0.0/33", "ten", "", "10.0.0", "0x7f.1", "010.0.0.1"] {
        assert!(block(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_name_at_a_refused_address_is_refused_also_among_good_ones() {
    let stage = Stage::new().await.allowing([String::from("http://evil.example:81")]);
    let gateway = stage.gateway();
    for (text, class) in REFUSED {
        let bad = address(text);
        for answer in [vec![bad], vec![GOOD.into(), bad], vec![bad, GOOD.into()], vec![GOOD.into(), bad, GOOD.into()]] {
            stage.liar.says("evil.example", [answer]);
            let heard = ask(&gateway, &[("url", "http://evil.example:81/")]).await;
            heard.is(502, class);
            heard.is(502, "not on the list of addresses");
            assert!(!heard.text().contains(text), "the client is told no address");
        }
    }
    assert_eq!(stage.origin.connections(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_resolved_once_for_a_connection_and_refused_at_the_next() {
    let victim = Victim::start().await;
    let stage = Stage::new().await;
    let port = stage.origin.port();
    let stage = stage.allowing([format!("http://rebind.example:{port}")]);
    let gateway = stage.gateway();
    // Good once: who asks twice for one connection gets the bad one.
    stage.liar.says("rebind.example", [vec![GOOD.into()], vec![address("127.0.0.1")]]);
    stage.origin.says("/page", Script::ok("mine").header("cache-control", "no-store").then_closes());
    let url = format!("http://rebind.example:{port}/page");
    ask(&gateway, &[("url", &url)]).await.is(200, "mine");
    assert_eq!(stage.liar.asked("rebind.example"), 1);
    ask(&gateway, &[("url", &url)]).await.is(502, "loopback");
    assert_eq!((stage.liar.asked("rebind.example"), stage.origin.connections()), (2, 1));
    assert_eq!(victim.connections().await, 0);
}

#[tokio::test]
async fn a_name_without_an_address_or_unknown_is_a_502() {
    let stage = Stage::new().await.allowing(["http://empty.example", "http://unknown.example"].map(String::from));
    let gateway = stage.gateway();
    stage.liar.says("empty.example", [Vec::new(), Vec::new()]);
    for url in ["http://empty.example/", "http://unknown.example/"] {
        ask(&gateway, &[("url", url)]).await.is(502, "cannot be reached");
    }
}
