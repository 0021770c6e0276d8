//! The programs among the examples, as cargo has built them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A built example, no older than these sources. Cargo builds examples for `cargo test`, not for `cargo test --test NAME`.
pub fn built(name: &str, sources: &[&str]) -> PathBuf {
    let this = std::env::current_exe().expect("the test knows where it is");
    let profile = this.parent().and_then(Path::parent).expect("tests are built into <profile>/deps");
    let program = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let built = fs::metadata(&program)
        .and_then(|file| file.modified())
        .unwrap_or_else(|error| panic!("{}: {error}: build it with `cargo build --example {name}`", program.display()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in sources {
        let is_new = newest(&root.join(directory)) <= built;
        assert!(is_new, "the {name} is stale: run `cargo build --example {name}`");
    }
    program
}

fn newest(directory: &Path) -> SystemTime {
    let entries = fs::read_dir(directory).expect("the sources are there").map(|entry| entry.expect("an entry").path());
    let times = entries.map(|path| match path.is_dir() {
        true => newest(&path),
        false => fs::metadata(&path).and_then(|file| file.modified()).expect("files have a time"),
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
