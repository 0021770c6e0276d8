//! wrk, with one thread.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

const ONE_PATH: &str = include_str!("../../assets/one-path.lua");
const NEW_PATHS: &str = include_str!("../../assets/new-paths.lua");

/// Its scripts, where it finds them.
pub(crate) struct Wrk {
    directory: TempDir,
}

/// How hard it shall try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
}

/// What it told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) octets: u64,
    /// How many paths were asked for, if they were new ones.
    pub(crate) asked: u64,
}

impl Wrk {
    pub(crate) fn new() -> Self {
        let directory = crate::fleet::directory();
        for (name, script) in [("one-path.lua", ONE_PATH), ("new-paths.lua", NEW_PATHS)] {
            fs::write(directory.path().join(name), script).expect("the directory can be written");
        }
        Self { directory }
    }

    pub(crate) fn one_path(&self, address: &str, path: &str, effort: Effort) -> Result<Told, String> {
        self.run("one-path.lua", effort, &[&format!("http://{address}{path}")])
    }

    /// Asks for paths that begin like this and end with 1, 2, 3…
    pub(crate) fn new_paths(&self, address: &str, beginning: &str, effort: Effort) -> Result<Told, String> {
        self.run("new-paths.lua", effort, &[&format!("http://{address}/"), "--", beginning])
    }

    fn run(&self, script: &str, effort: Effort, arguments: &[&str]) -> Result<Told, String> {
        let mut command = Command::new("wrk");
        command.args(["--threads", "1", "--connections", &effort.connections.to_string(), "--timeout", "10s"]);
        // All ask for the same host: it is part of what they ask for.
        command
            .args(["--header", "Host: bench", "--duration", &format!("{}s", effort.seconds), "--script"])
            .arg(self.directory.path().join(script));
        let done = command.args(arguments).output().map_err(|error| format!("wrk: {error}"))?;
        let output = String::from_utf8_lossy(&done.stdout);
        let line = output.lines().find_map(|line| line.strip_prefix("RESULT "));
        let line = line.ok_or_else(|| format!("wrk: {output}{}", String::from_utf8_lossy(&done.stderr)))?;
        let number = |name: &str| {
            let mut pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(found, _)| *found == name);
            found.map_or(0, |(_, value)| value.parse::<u64>().expect("wrk tells numbers"))
        };
        let errors = ["connect", "read", "write", "status", "timeout"];
        if errors.iter().any(|name| number(name) > 0) {
            return Err(format!("wrk had errors: {line}"));
        }
        if number("requests") == 0 {
            return Err("wrk had no answer".to_owned());
        }
        let told = Told {
            requests: number("requests"),
            seconds: number("micros") as f64 / 1e6,
            octets: number("octets"),
            asked: number("asked"),
        };
        Ok(told)
    }
}
