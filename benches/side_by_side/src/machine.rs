//! What was measured, and on what.

use std::fs;
use std::process::Command;

use serde::Serialize;

const LOCK: &str = include_str!("../Cargo.lock");
const CRATES: [&str; 11] = [
    "hyper",
    "hyper-util",
    "tokio",
    "redis",
    "tower-redis-cache",
    "tower-http-cache",
    "http-cache-tower-server",
    "hitbox-tower",
    "hitbox-redis",
    "hitbox-moka",
    "axum-response-cache",
];

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    /// By which the kernel paces what is sent, or does not: large bodies cost more where it does.
    pub(crate) congestion_control: String,
    pub(crate) commit: String,
    pub(crate) programs: Vec<String>,
    pub(crate) crates: Vec<String>,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let commit = first_line("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
        let programs =
            [("nginx", "-v"), ("varnishd", "-V"), ("redis-server", "--version"), ("wrk", "-v"), ("rustc", "--version")];
        Self {
            date: first_line("date", &["-u", "+%Y-%m-%d"]),
            processor: field("/proc/cpuinfo", "model name"),
            cores: fs::read_to_string("/proc/cpuinfo").unwrap_or_default().matches("processor\t").count(),
            memory: field("/proc/meminfo", "MemTotal"),
            kernel: whole("/proc/sys/kernel/osrelease"),
            congestion_control: whole("/proc/sys/net/ipv4/tcp_congestion_control"),
            commit,
            programs: programs.iter().map(|(program, flag)| first_line(program, &[flag])).collect(),
            crates: CRATES.iter().map(|name| format!("{name} {}", locked(name))).collect(),
        }
    }

    pub(crate) fn in_words(&self) -> String {
        format!(
            "{}, {} cores, {} of memory, Linux {}, TCP with {}; commit {}, {}.\n\n{}.\n\n{}.\n",
            self.processor,
            self.cores,
            self.memory,
            self.kernel,
            self.congestion_control,
            self.commit,
            self.date,
            self.programs.join("; "),
            self.crates.join(", "),
        )
    }
}

fn whole(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().filter_map(|line| line.split_once(':')).find(|(found, _)| found.trim() == name);
    line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// Some tell their version on one output, some on the other.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let Ok(done) = Command::new(program).args(arguments).output() else { return format!("no {program}") };
    let text = [done.stdout, done.stderr].concat();
    let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
    // The rest is about who wrote it and how it was built.
    let end = [" Copyright", " sha=", " bits="].iter().filter_map(|rest| line.find(rest)).min();
    line[..end.unwrap_or(line.len())].trim().to_owned()
}

fn locked(name: &str) -> &'static str {
    let wanted = format!("name = \"{name}\"");
    let mut lines = LOCK.lines().skip_while(|line| *line != wanted);
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \""));
    version.map(|version| version.trim_end_matches('"')).unwrap_or_default()
}
