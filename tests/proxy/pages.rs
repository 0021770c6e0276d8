//! What the README and the pages under `docs` say of the proxy is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::running::refused;

const PAGES: [&str; 9] = [
    "README.md",
    "docs/capacity.md",
    "docs/deployment.md",
    "docs/guide.md",
    "docs/migration.md",
    "docs/proxy.md",
    "docs/redis.md",
    "packaging/Containerfile",
    "packaging/tower-redis-cache-proxy.service",
];

/// Flags of cargo, podman, apt and systemctl.
const OTHERS: [&str; 13] = [
    "--bench",
    "--example",
    "--features",
    "--from",
    "--locked",
    "--name",
    "--no-install-recommends",
    "--now",
    "--path",
    "--read-only",
    "--release",
    "--root",
    "--stop-timeout",
];

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("the page is there")
}

/// The words that begin with two hyphens and a letter.
fn flags(text: &str) -> BTreeSet<&str> {
    let is_part = |char: char| char == '-' || char.is_ascii_alphanumeric();
    let words = text.split(|char| !is_part(char));
    let is_flag = |word: &&str| word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic));
    words.filter(is_flag).collect()
}

#[tokio::test]
async fn every_flag_that_a_page_names_is_one_of_the_proxy() {
    let help = refused(&["--help"]).await.stdout;
    let known = flags(&help);
    for name in PAGES {
        let text = page(name);
        let unknown: Vec<&str> =
            flags(&text).into_iter().filter(|flag| !known.contains(flag) && !OTHERS.contains(flag)).collect();
        assert!(unknown.is_empty(), "{name} names {unknown:?}");
    }
    assert!(known.contains("--origin") && !known.contains("--example"), "{known:?}");
}

#[test]
fn the_page_on_deployment_quotes_the_files_as_they_are() {
    let deployment = page("docs/deployment.md");
    for (language, name) in
        [("ini", "packaging/tower-redis-cache-proxy.service"), ("dockerfile", "packaging/Containerfile")]
    {
        let quoted = format!("```{language}\n{}```\n", page(name));
        assert!(deployment.contains(&quoted), "{name} is not quoted as it is");
    }
}
