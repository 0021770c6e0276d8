//! A thousand URLs that want to go where they must not, each asked for and each redirected to: nobody gets there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use url::Url;

use crate::gateway::Gateway;
use crate::refused::{REFUSED, address};
use crate::support::origin::Script;
use crate::troupe::{GOOD, Stage, ask};
use crate::victim::Victim;

/// The spellings of an IPv4 address that somebody's parser takes for one.
fn spellings(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let bits = address.to_bits();
    let dotted = address.to_string();
    let wide = |text: &str| -> String {
        let widen = |char: char| char.to_digit(10).and_then(|digit| char::from_u32(0xff10 + digit)).unwrap_or(char);
        text.chars().map(widen).collect()
    };
    let (high, low) = (bits >> 16, bits & 0xffff);
    vec![
        format!("{bits}"),
        format!("0x{bits:x}"),
        format!("0X{bits:08X}"),
        format!("0{bits:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("000{a:o}.000{b:o}.0x000{c:x}.{d}"),
        format!("{a}.{}", bits & 0xff_ffff),
        format!("{a}.{b}.{low}"),
        format!("0x{a:x}.{b}.{low}"),
        format!("{dotted}."),
        dotted.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        wide(&dotted),
        dotted.replace('.', "\u{3002}"),
        dotted.replace('.', "%E3%80%82"),
        format!("[::ffff:{dotted}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[0:0:0:0:0:FFFF:{high:X}:{low:x}]"),
        format!("[0000:0000:0000:0000:0000:ffff:{dotted}]"),
        format!("[::{dotted}]"),
        format!("[64:ff9b::{dotted}]"),
        format!("[64:ff9b:1::{high:x}:{low:x}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[2001:0:{high:x}:{low:x}::]"),
        format!("[::ffff:0:{dotted}]"),
        format!("[::ffff:{dotted}%25lo]"),
        dotted,
    ]
}

/// Hosts at refused addresses, without a name.
fn literals() -> Vec<String> {
    let mut hosts = Vec::new();
    for (text, _) in REFUSED {
        match address(text) {
            IpAddr::V4(address) => hosts.extend(spellings(address)),
            IpAddr::V6(address) => {
                hosts.push(format!("[{address}]"));
                hosts.push(format!("[{address}%25lo]"));
                hosts.push(format!("[{}]", address.segments().map(|part| format!("{part:04X}")).join(":")));
            }
        }
    }
    hosts
}

/// URLs that look like another than they are, or are no HTTP at all.
fn tricks(good: &str, port: u16) -> Vec<String> {
    let mut urls = Vec::new();
    for victim in ["127.0.0.1", "localhost", "[::1]", "2130706433", "169.254.169.254"] {
        for trick in [
            format!("http://{good}@{victim}:{port}/"),
            format!("http://{good}:80@{victim}:{port}/"),
            format!("http://user:{good}@{victim}:{port}/"),
            format!("http://{good}%40{victim}:{port}/"),
            format!("http://{good}\\@{victim}:{port}/"),
            format!("http://{victim}:{port}\\@{good}/"),
            format!("http:\\\\{victim}:{port}\\"),
            format!("http:/{victim}:{port}/"),
            format!("http:{victim}:{port}/"),
            format!("http:///{victim}:{port}/"),
            format!("http:////{victim}:{port}/"),
            format!("HTTP://{victim}:{port}/"),
            format!("h\tt\ntp://{victim}:{port}/"),
            format!(" \u{1}http://{victim}:{port}/ "),
            format!("http://{victim}:{port}#@{good}/"),
            format!("http://{victim}:{port}?@{good}/"),
            format!("http://{victim}:{port}/..//{good}/"),
            format!("http://{victim}:0{port}/"),
            format!("https://{victim}:{port}/"),
            format!("file://{victim}/etc/passwd"),
            format!("ftp://{victim}:{port}/"),
            format!("gopher://{victim}:{port}/_GET%20/"),
            format!("dict://{victim}:{port}/info"),
            format!("ws://{victim}:{port}/"),
            format!("jar:http://{victim}:{port}/!/"),
            format!("data:text/plain,{victim}"),
            format!("javascript:fetch('http://{victim}:{port}/')"),
            format!("//{victim}:{port}/"),
            format!("http://{victim}\u{ad}:{port}/"),
            format!("http://{victim}%00.{good}:{port}/"),
            format!("http://{victim}%0d%0a:{port}/"),
        ] {
            urls.push(trick);
        }
    }
    urls
}

/// A name for each way in which a resolver can lead to a refused address.
fn lies(stage: &Stage, port: u16) -> Vec<String> {
    let mut urls = Vec::new();
    for (index, (text, _)) in REFUSED.iter().enumerate() {
        let (good, bad): (IpAddr, IpAddr) = (GOOD.into(), address(text));
        for (kind, turns) in [
            ("alone", vec![vec![bad]]),
            ("first", vec![vec![bad, good]]),
            ("last", vec![vec![good, bad]]),
            ("among", vec![vec![good, bad, good]]),
        ] {
            let name = format!("{kind}-{index}.example");
            stage.liar.says(&name, turns);
            urls.push(format!("http://{name}:{port}/"));
        }
    }
    for name in ["localhost", "localhost.", "LOCALHOST", "ｌｏｃａｌｈｏｓｔ", "%6cocalhost"] {
        urls.push(format!("http://{name}:{port}/"));
    }
    for name in ["localhost", "localhost."] {
        stage.liar.says(name, [vec![address("127.0.0.1")]]);
    }
    urls
}

/// Asks for each and is redirected to each; what is heard is never the victim, and never that it was tried.
async fn all_are_refused(stage: &Stage, gateway: &Gateway, hostile: &BTreeSet<String>) -> usize {
    let (mut asked, home) = (0, Url::parse(&stage.url("/")).expect("a URL"));
    for (index, url) in hostile.iter().enumerate() {
        let path = format!("/to/{index}");
        let redirects = !url.contains(['\n', '\u{1}']);
        if redirects {
            let location: String = url.bytes().map(char::from).collect();
            stage.origin.says(&path, Script::status("302 Found").header("location", &location).body(""));
        }
        for asks in [Some(url.clone()), redirects.then(|| stage.url(&path))].into_iter().flatten() {
            asked += 1;
            let heard = ask(gateway, &[("url", &asks)]).await;
            let text = heard.text();
            // To somebody's eye it leads elsewhere, but it does lead to the origin, which knows no such page.
            let target = home.join(url);
            let leads_home = heard.status == 404 && target.is_ok_and(|target| target.origin() == home.origin());
            let is_refused = matches!(heard.status.as_u16(), 400 | 403 | 502);
            assert!(is_refused || leads_home, "{url:?} by {asks}: {heard:?}");
            for tried in ["secret", "cannot be reached", "in time", "not valid", "without an answer"] {
                assert!(!text.contains(tried), "{url:?} by {asks}: {text}");
            }
        }
    }
    asked
}

fn hostile(stage: &Stage, victim: &Victim) -> BTreeSet<String> {
    let (port, good) = (victim.port(), format!("good.example:{}", stage.origin.port()));
    let mut urls: BTreeSet<String> = literals().iter().map(|host| format!("http://{host}:{port}/")).collect();
    urls.extend(tricks(&good, port));
    urls.extend(lies(stage, port));
    urls
}

#[tokio::test]
async fn a_thousand_hostile_urls_reach_nobody_where_the_good_origin_alone_is_allowed() {
    let (stage, victim) = (Stage::new().await, Victim::start().await);
    let hostile = hostile(&stage, &victim);
    assert!(hostile.len() >= 1000, "{}", hostile.len());
    let asked = all_are_refused(&stage, &stage.gateway(), &hostile).await;
    assert!(asked >= 2000 - 50, "{asked}");
    assert_eq!(victim.connections().await, 0);
}

/// Here the list of origins is no help, and the check of addresses alone has to hold.
#[tokio::test]
async fn a_thousand_hostile_urls_reach_nobody_where_all_their_origins_are_allowed() {
    let (stage, victim) = (Stage::new().await, Victim::start().await);
    let hostile = hostile(&stage, &victim);
    let web = |url: &Url| matches!(url.scheme(), "http" | "https");
    let origins = hostile.iter().filter_map(|url| Url::parse(url).ok()).filter(web);
    let origins: Vec<String> = origins.map(|url| url.origin().ascii_serialization()).collect();
    assert!(origins.len() >= 900, "most are URLs: {}", origins.len());
    let stage = stage.allowing(origins);
    all_are_refused(&stage, &stage.gateway(), &hostile).await;
    assert_eq!(victim.connections().await, 0);
}

/// The proof that the two tests above can fail: the same URLs do reach the victim where its addresses are listed.
#[tokio::test]
async fn the_victim_is_within_reach_of_those_who_may() {
    let (stage, victim) = (Stage::new().await, Victim::start().await);
    stage.liar.says("inside.example", [vec!["127.0.0.1".parse().unwrap()]]);
    let port = victim.port();
    let urls = ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "inside.example", "１２７.0.0.1"];
    let stage = stage.allowing([format!("http://127.0.0.1:{port}"), format!("http://inside.example:{port}")]);
    let gateway = stage.gateway_that_dials(&["127.0.0.1/32", "127.0.0.9/32"]);
    for (host, path) in urls.iter().zip(1..) {
        ask(&gateway, &[("url", &format!("http://{host}:{port}/{path}"))]).await.is(200, "secret");
    }
    let redirect = Script::status("302 Found").header("location", &format!("http://127.0.0.1:{port}/")).body("");
    stage.origin.says("/to", redirect);
    ask(&gateway, &[("url", &stage.url("/to"))]).await.is(200, "secret");
    assert_eq!(victim.connections().await, urls.len() + 1);
}
