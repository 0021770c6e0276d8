//! A running proxy.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::example::built;
use crate::support::gate::{eventually, patiently};

/// The proxy; killed when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Child,
    address: SocketAddr,
    banner: String,
    log: Arc<Mutex<String>>,
}

/// What a proxy that did not start left behind.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Proxy {
    /// In front of the origin at this URL, on a free port, with the defaults.
    pub(crate) async fn before(origin: &str) -> Self {
        Self::with(origin, &[]).await
    }

    /// With more arguments.
    pub(crate) async fn with(origin: &str, arguments: &[&str]) -> Self {
        let mut command = command();
        command.args(["--origin", origin, "--listen", "127.0.0.1:0"]).args(arguments);
        Self::start(command).await
    }

    /// Starts `command`, which is [`command`] with its arguments, and waits until it listens.
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut process = command.spawn().expect("the proxy can be started");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = process.stderr.take().expect("standard error is piped");
        tokio::spawn(keep_lines(stderr, Arc::clone(&log)));
        let mut stdout = BufReader::new(process.stdout.take().expect("standard output is piped"));
        let mut banner = String::new();
        let read = async {
            while !banner.contains("See that it works") {
                if stdout.read_line(&mut banner).await.expect("standard output can be read") == 0 {
                    return false;
                }
            }
            true
        };
        if !patiently("the proxy to start", read).await {
            panic!("the proxy did not start: {}", text(&log));
        }
        let url = banner.lines().next().and_then(|line| line.split("://").nth(1)).expect("an address");
        let address = url.trim().parse().expect("the first line ends with an address");
        // The rest of the banner comes too, and a full pipe must not stop the proxy.
        let mut rest = String::new();
        tokio::spawn(async move { stdout.read_to_string(&mut rest).await });
        Self { process, address, banner, log }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its operators ask.
    pub(crate) fn managed_at(&self) -> SocketAddr {
        let line = self.banner.lines().find(|line| line.starts_with("management")).expect("it has such a listener");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        address.parse().expect("an address and a port")
    }

    /// What it printed up to the hint how to see that it works.
    pub(crate) fn banner(&self) -> &str {
        &self.banner
    }

    /// Everything on standard error so far.
    pub(crate) fn log(&self) -> String {
        text(&self.log)
    }

    /// Waits until the log holds so many lines that satisfy `wanted`.
    pub(crate) async fn logs(&self, lines: usize, wanted: impl Fn(&str) -> bool) {
        eventually("the log has these lines", || self.log().lines().filter(|line| wanted(line)).count() >= lines).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
        kill_process(pid, signal).expect("it can be signalled");
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        patiently("the proxy to end", self.process.wait()).await.expect("its exit code can be had")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("its state can be had").is_none()
    }

    /// Its resident memory in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let id = self.process.id().expect("it runs");
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the system has /proc");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line about memory");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
    }
}

/// Runs the proxy with arguments with which it does not serve, to its end.
pub(crate) async fn refused(arguments: &[&str]) -> Refused {
    let mut command = command();
    command.args(arguments);
    outcome(command).await
}

/// The same for a command, whatever comes of it.
pub(crate) async fn outcome(mut command: Command) -> Refused {
    let output = command.output();
    let output = patiently("the proxy to give up", output).await.expect("the proxy can be started");
    Refused {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The program without arguments, and without what the environment of the tests would tell it.
pub(crate) fn command() -> Command {
    let mut command = Command::new(program());
    command.env_remove("REDIS_URL").env_remove("RUST_LOG");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CACHE_PROXY_") {
            command.env_remove(name);
        }
    }
    // Nor by a file there.
    command.current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("proxy", &["examples/proxy", "src"]))
}

async fn keep_lines(stderr: tokio::process::ChildStderr, log: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&line);
        log.push('\n');
    }
}

fn text(log: &Mutex<String>) -> String {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
