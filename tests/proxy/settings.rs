//! Where settings come from, and what becomes of them when they change.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::management::{TOKEN, manage_with};
use crate::running::{Proxy, Refused, command, outcome, refused};
use crate::support::gate::eventually;
use crate::support::origin::{Origin, Script};
use crate::wire::{get, get_hit};

/// A directory with files of these names.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("a file");
    }
    directory
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// What the proxy prints as its settings, started in `place` with this environment and these arguments.
async fn printed(place: &TempDir, environment: &[(&str, &str)], arguments: &[&str]) -> Refused {
    let mut command = command();
    command.current_dir(place.path()).envs(environment.iter().copied()).args(arguments).arg("--print-config");
    outcome(command).await
}

#[tokio::test]
async fn all_places_count_and_the_nearest_counts_most() {
    let file = "origin = \"http://127.0.0.1:1\"\nttl = \"1s\"\nmin-ttl = \"1s\"\nmax-ttl = \"1m\"\nmax-connections = 9\n\
                key-header = [\"a\", \"b\"]\nupgrades = true\n";
    let variables = "CACHE_PROXY_MIN_TTL=2s\nCACHE_PROXY_MAX_TTL=2m\nREDIS_URL=redis://user:secret@127.0.0.1:1/2\n";
    let place = directory(&[("proxy.toml", file), (".env", variables)]);
    let environment = [("CACHE_PROXY_MAX_TTL", "3m"), ("CACHE_PROXY_CONFIG", "proxy.toml")];
    let shown = printed(&place, &environment, &["--ttl", "4s", "--strict-purges"]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for line in [
        "origin = \"http://127.0.0.1:1\"",
        "ttl = \"4s\"",
        "min-ttl = \"2s\"",
        "max-ttl = \"3m\"",
        "max-connections = \"9\"",
        "key-header = [\"a\", \"b\"]",
        "upgrades = true",
        "strict-purges = true",
        "redis = \"redis://***@127.0.0.1:1/2\"",
        "listen = \"127.0.0.1:8080\"  # default",
    ] {
        assert!(shown.stdout.lines().any(|shown| shown == line), "{line} in\n{}", shown.stdout);
    }
    assert!(!shown.stdout.contains("secret"));
    // It can be read again, and says the same then, but for where it comes from.
    let lines: Vec<&str> = shown.stdout.lines().filter(|line| !line.starts_with("redis =")).collect();
    fs::write(place.path().join("again.toml"), lines.join("\n")).expect("a file");
    fs::remove_file(place.path().join(".env")).expect("a file");
    let again = printed(&place, &[], &["--config", "again.toml"]).await;
    let without_notes = |text: &str| text.replace("  # default", "").trim().to_owned();
    assert_eq!(without_notes(&again.stdout), without_notes(&lines.join("\n")), "{}", again.stderr);
}

#[tokio::test]
async fn a_mistake_is_told_with_its_place() {
    let place = directory(&[
        ("typo.toml", "orgin = \"http://127.0.0.1:1\""),
        ("value.toml", "origin = \"http://127.0.0.1:1\"\nttl = \"soon\""),
        ("broken.toml", "origin = "),
    ]);
    let file = |name: &str| text(&place.path().join(name)).to_owned();
    for (name, expected) in [
        ("typo.toml", "did you mean origin?"),
        ("value.toml", "value.toml: ttl: invalid value 'soon'"),
        ("broken.toml", "broken.toml: "),
        ("missing.toml", "missing.toml: "),
    ] {
        let refused = refused(&["--config", &file(name)]).await;
        assert_eq!(refused.code, Some(2), "{name}");
        assert!(refused.stderr.contains(expected) && refused.stderr.lines().count() == 1, "{}", refused.stderr);
    }
    let shown = printed(&place, &[("CACHE_PROXY_TTL", "soon")], &["--origin", "http://127.0.0.1:1"]).await;
    assert!(shown.stderr.contains("CACHE_PROXY_TTL: invalid value"), "{}", shown.stderr);
    let shown = printed(&place, &[("CACHE_PROXY_TLL", "1s")], &["--origin", "http://127.0.0.1:1"]).await;
    assert!(shown.code == Some(2) && shown.stderr.contains("did you mean CACHE_PROXY_TTL?"), "{}", shown.stderr);
}

/// Whatever is wrong elsewhere.
#[tokio::test]
async fn help_is_always_to_be_had() {
    let place = directory(&[(".env", "SECRET=pa55 word\n")]);
    for arguments in [&["--help"][..], &["--version"], &["--config", "/nowhere/at/all", "--help"]] {
        let mut command = command();
        command.current_dir(place.path()).args(arguments);
        let shown = outcome(command).await;
        assert!(shown.code == Some(0) && !shown.stdout.is_empty(), "{arguments:?}: {}", shown.stderr);
    }
    let shown = printed(&place, &[], &["--origin", "http://127.0.0.1:1"]).await;
    assert!(
        shown.code == Some(2) && shown.stderr.contains(".env") && !shown.stderr.contains("pa55"),
        "{}",
        shown.stderr
    );
}

#[tokio::test]
async fn a_proxy_runs_by_its_file_alone() {
    let origin = Origin::start().await;
    // Without a word on its lifetime.
    origin.says("/a", Script::ok("hello"));
    let file = format!("origin = \"{}\"\nlisten = \"127.0.0.1:0\"\ndefault-ttl = \"60s\"\n", origin.url());
    let place = directory(&[("proxy.toml", &file)]);
    let mut command = command();
    command.current_dir(place.path()).args(["--config", "proxy.toml"]);
    let proxy = Proxy::start(command).await;
    assert_eq!(get_hit(&proxy, "/a").await.body, b"hello");
}

/// At SIGHUP the log goes on in a new file, its filter and the operators' token are read again, and a mistake changes
/// nothing.
#[tokio::test]
async fn what_can_change_does_at_sighup() {
    let origin = Origin::start().await;
    origin.says("/a", Script::ok("hello").header("cache-control", "max-age=60"));
    let other = "another token of enough characters";
    let place = directory(&[("token", TOKEN)]);
    let at = |name: &str| place.path().join(name);
    let settings = |more: &str| {
        let (origin, log, token) = (origin.url(), at("log"), at("token"));
        let text = format!("origin = \"{origin}\"\nlog-file = {log:?}\nadmin-token-file = {token:?}\n{more}\n");
        fs::write(at("proxy.toml"), text).expect("a file");
    };
    settings("log = \"warn,access=info,proxy=info\"");
    let mut command = command();
    command.args(["--config", text(&at("proxy.toml")), "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]);
    let proxy = Proxy::start(command).await;
    let logged = |name: &str, wanted: &str| fs::read_to_string(at(name)).is_ok_and(|log| log.contains(wanted));
    let status = async |token: &str| {
        manage_with(&proxy, "GET", "/stats", &format!("Authorization: Bearer {token}\r\n")).await.status
    };
    get(&proxy, "/a").await;
    eventually("the log is in the file", || logged("log", "path=/a")).await;
    assert_eq!((status(TOKEN).await, status(other).await), (200, 401));

    fs::rename(at("log"), at("log.1")).expect("it can be moved");
    fs::write(at("token"), other).expect("a file");
    settings(&format!("log = \"warn,access=off,proxy=info\"\nttl = \"5s\"\nclient-token-file = {:?}", at("token")));
    proxy.signal(Signal::HUP);
    eventually("the settings were read", || logged("log", "settings were read again")).await;
    assert_eq!((status(TOKEN).await, status(other).await), (401, 200));
    // What was off is not on by now, and that is told.
    assert!(logged("log", "client-token-file, ttl") && get(&proxy, "/a").await.status == 200);
    assert!(logged("log", "ttl") && !logged("log.1", "settings were read again"));
    get(&proxy, "/quiet").await;

    // A listener that is open stays where it is, whatever the file says by now, and so does its need of a token.
    let without = format!("origin = \"{}\"\nlog-file = {:?}\n", origin.url(), at("log"));
    fs::write(at("proxy.toml"), without).expect("a file");
    proxy.signal(Signal::HUP);
    eventually("the settings are told to be wrong", || logged("log", "can be reached from elsewhere")).await;
    assert_eq!(status(other).await, 200);
    assert_eq!(manage_with(&proxy, "GET", "/stats", "").await.status, 401);

    settings("ttl = \"soon\"");
    fs::write(at("token"), TOKEN).expect("a file");
    proxy.signal(Signal::HUP);
    eventually("the mistake is told", || logged("log", "invalid value 'soon'")).await;
    assert!(logged("log", "settings stay as they were") && !logged("log", "/quiet"));
    assert_eq!((status(TOKEN).await, status(other).await), (401, 200));
    assert_eq!(get(&proxy, "/a").await.body, b"hello");
    assert_eq!(proxy.log(), "", "nothing is left for standard error");
}
