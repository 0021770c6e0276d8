//! The servers under load, as processes: this program, started again.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server process, killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(kind: &str, redis_url: &str, size: usize) -> Self {
        let program = env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .args(["serve", kind, redis_url, &size.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let mut address = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut address).expect("the server says where it listens");
        Self { process, address: address.trim().to_owned() }
    }

    /// User and system time of the process so far, in ticks of the kernel's clock (a hundredth of a second).
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("the process runs");
        // The second field, the name, may hold spaces; it ends with the last parenthesis.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
