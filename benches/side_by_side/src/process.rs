//! Processes that are started, pinned to a core, accounted for and ended.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What the kernel counts CPU time in, for programs that ask it.
const MICROS_PER_TICK: f64 = 10_000.0;
const READY_WITHIN: Duration = Duration::from_secs(20);
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A server that runs, ended when dropped.
pub(crate) struct Running {
    process: Child,
    pub(crate) address: String,
    /// Where it keeps its files; removed after it.
    _directory: Option<TempDir>,
}

impl Running {
    /// A server that says on its first line of output where it listens.
    pub(crate) fn that_says_where(mut command: Command) -> Result<Self, String> {
        let mut process =
            command.stdout(Stdio::piped()).spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        let mut address = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        let read = BufReader::new(stdout).read_line(&mut address);
        let running = Self { process, address: address.trim().to_owned(), _directory: None };
        match read {
            Ok(count) if count > 0 => Ok(running),
            _ => Err("it did not say where it listens".to_owned()),
        }
    }

    /// A server that was told where to listen.
    pub(crate) fn at(mut command: Command, address: String, directory: TempDir) -> Result<Self, String> {
        let log = fs::File::create(directory.path().join("output.log")).expect("the directory can be written");
        let same = log.try_clone().expect("a file can be shared");
        let process = command.stdin(Stdio::null()).stdout(log).stderr(same).spawn();
        let process = process.map_err(|error| format!("it cannot be started: {error}"))?;
        let mut running = Self { process, address, _directory: Some(directory) };
        let begun = Instant::now();
        while TcpStream::connect(&running.address).is_err() {
            let is_gone = running.process.try_wait().expect("our own child can be waited for").is_some();
            if is_gone || begun.elapsed() > READY_WITHIN {
                return Err(format!("it did not come up: {}", running.output().trim()));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    fn output(&self) -> String {
        let path = self._directory.as_ref().map(|directory| directory.path().join("output.log"));
        path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// CPU time of the process and of all that it started and that still runs.
    pub(crate) fn cpu_micros(&self) -> f64 {
        cpu_micros(self.process.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Asked first, so that those who have children end them.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < GONE_WITHIN {
            if self.process.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a program on one core.
pub(crate) fn on_core(core: usize, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string(), program]);
    command
}

/// Puts this process, and what it starts from now on, on one core.
pub(crate) fn stay_on_core(core: usize) {
    let pid = std::process::id().to_string();
    let taskset = Command::new("taskset").args(["--cpu-list", "--pid", &core.to_string(), &pid]).output();
    assert!(taskset.is_ok_and(|done| done.status.success()), "taskset (of util-linux) cannot pin to core {core}");
}

/// User and system time so far of a process and its descendants.
pub(crate) fn cpu_micros(pid: u32) -> f64 {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut ticks: HashMap<u32, u64> = HashMap::new();
    for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The second field, the name, may hold spaces; it ends with the last parenthesis.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |at: usize| fields[at].parse::<u64>().expect("a number");
        children.entry(number(1) as u32).or_default().push(pid);
        ticks.insert(pid, number(11) + number(12));
    }
    let (mut sum, mut waiting) = (0, vec![pid]);
    while let Some(pid) = waiting.pop() {
        sum += ticks.get(&pid).copied().unwrap_or_default();
        waiting.extend(children.get(&pid).into_iter().flatten());
    }
    sum as f64 * MICROS_PER_TICK
}
