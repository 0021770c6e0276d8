//! A real `redis-server` for one test: on a free loopback port, in a directory of its own, gone with the test.
//!
//! The test speaks to it as an administrator over a Unix socket in that directory, so neither a password on the
//! default user nor a stranger on the same port can be mistaken for it.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const PROGRAM: &str = "redis-server";
const READY_WITHIN: Duration = Duration::from_secs(20);
const REPLY_WITHIN: Duration = Duration::from_secs(10);
/// Below the range from which systems hand out ports for outgoing connections: a port of ours that is free for a
/// moment, while the server restarts, is not taken by one of those.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
const PORT_ATTEMPTS: usize = 50;

/// A running `redis-server`, killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    port: u16,
    directory: TempDir,
    arguments: Vec<String>,
    kept: Mutex<Option<Connection>>,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not come up.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments, for instance `["--requirepass", "secret"]`.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not come up.
    pub fn start_with(arguments: &[&str]) -> Self {
        let directory =
            tempfile::Builder::new().prefix("trc-redis-").tempdir().expect("a directory for the server can be made");
        let more = if is_cluster() { &["--cluster-enabled", "yes"][..] } else { &[] };
        let arguments: Vec<String> = arguments.iter().chain(more).map(|&argument| argument.to_owned()).collect();
        for _ in 0..PORT_ATTEMPTS {
            let Some(port) = free_port() else { continue };
            if let Some(process) = spawn_ready(port, directory.path(), &arguments) {
                return Self { process, port, directory, arguments, kept: Mutex::new(None) };
            }
        }
        panic!("{PROGRAM} did not start; its log says:\n{}", log_of(directory.path()));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("{}127.0.0.1:{}", scheme(), self.port)
    }

    /// `redis://:<password>@127.0.0.1:<port>`
    pub fn url_with_password(&self, password: &str) -> String {
        format!("{}:{password}@127.0.0.1:{}", scheme(), self.port)
    }

    /// `redis://<user>:<password>@127.0.0.1:<port>`
    pub fn url_of_user(&self, user: &str, password: &str) -> String {
        format!("{}{user}:{password}@127.0.0.1:{}", scheme(), self.port)
    }

    /// Stops the process with SIGSTOP: connections stay open, nothing answers.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a stopped process continue.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills the process with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        end(&mut self.process);
    }

    /// Starts an empty server on the same port, after [`kill`](Self::kill) or instead of it.
    ///
    /// # Panics
    /// When the server does not come up again.
    pub fn restart(&mut self) {
        self.kill();
        *self.kept.lock().expect("nobody panics") = None;
        let begun = Instant::now();
        self.process = loop {
            if let Some(process) = spawn_ready(self.port, self.directory.path(), &self.arguments) {
                break process;
            }
            assert!(
                begun.elapsed() < READY_WITHIN,
                "{PROGRAM} did not restart on port {}; its log says:\n{}",
                self.port,
                log_of(self.directory.path())
            );
            std::thread::sleep(Duration::from_millis(20));
        };
    }

    /// Runs one command as an administrator and renders the reply as `redis-cli` would, without the decoration.
    ///
    /// # Panics
    /// When the server does not answer. An error reply is rendered, not a panic.
    pub fn cli(&self, command: &[&str]) -> String {
        self.command(command).to_string()
    }

    /// [`cli`](Self::cli) with arguments of any bytes.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn cli_bytes(&self, command: &[&[u8]]) -> String {
        self.command(command).to_string()
    }

    /// Runs one command as an administrator; arguments and reply may hold any bytes.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn command(&self, command: &[impl AsRef<[u8]>]) -> Reply {
        let mut connection = Connection::open(self.directory.path()).expect("the server accepts its administrator");
        connection
            .command(command)
            .unwrap_or_else(|error| panic!("no reply from {PROGRAM} on port {}: {error}", self.port))
    }

    /// Runs commands one after another over one connection, which is kept for the next time: however few the server takes,
    /// it is among them.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn cli_kept(&self, commands: &[&[&str]]) {
        let mut kept = self.kept.lock().expect("nobody panics");
        // Another may have killed it.
        if kept.as_mut().is_none_or(|connection| connection.command(&["PING"]).is_err()) {
            *kept = Some(Connection::open(self.directory.path()).expect("the server accepts its administrator"));
        }
        let connection = kept.as_mut().expect("there is one");
        for command in commands {
            connection.command(command).expect("an answer");
        }
    }

    /// Sends a command whose answer nobody waits for.
    ///
    /// # Panics
    /// When the server is not there.
    pub fn begins(&self, command: &[&str]) {
        let mut connection = Connection::open(self.directory.path()).expect("the server accepts its administrator");
        connection.sends(command).expect("it can be sent");
    }

    /// Repeats a command until the answer begins like this.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn insists(&self, command: &[&str], answer: &str) {
        let begun = Instant::now();
        let ask = || Connection::open(self.directory.path()).and_then(|mut connection| connection.command(command));
        while !ask().is_ok_and(|reply| reply.to_string().starts_with(answer)) {
            assert!(begun.elapsed() < READY_WITHIN, "{command:?} is not answered with {answer}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The keys that match a pattern, sorted, without those of the purge clock, of which each namespace has one.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys = self.all_keys(pattern);
        keys.retain(|key| !key.contains(":{purge}"));
        keys
    }

    /// All keys that match a pattern, sorted.
    pub fn all_keys(&self, pattern: &str) -> Vec<String> {
        let Reply::Array(items) = self.command(&["KEYS", pattern]) else {
            panic!("KEYS answers with an array");
        };
        let mut keys: Vec<String> = items.iter().map(ToString::to_string).collect();
        keys.sort();
        keys
    }

    /// The bytes under a key, if there are any.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        match self.command(&["GET", key]) {
            Reply::Bulk(bytes) => Some(bytes),
            Reply::Nil => None,
            other => panic!("GET {key} answered {other}"),
        }
    }

    /// A number from `INFO`, for instance `connected_clients`.
    ///
    /// # Panics
    /// When there is no such field or it is no number.
    pub fn info(&self, field: &str) -> u64 {
        self.cli(&["INFO", "everything"])
            .lines()
            .find_map(|line| line.trim_end().strip_prefix(field)?.strip_prefix(':')?.parse().ok())
            .unwrap_or_else(|| panic!("INFO has no number called {field}"))
    }

    /// How many times the server ran a command since it started or since `CONFIG RESETSTAT`.
    pub fn calls(&self, command: &str) -> u64 {
        let prefix = format!("cmdstat_{}:calls=", command.to_lowercase());
        self.cli(&["INFO", "commandstats"])
            .lines()
            .find_map(|line| line.strip_prefix(&prefix)?.split(',').next()?.parse().ok())
            .unwrap_or(0)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).expect("our own child can be signalled");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

// ===== starting and ending =====

/// With `TEST_STORE=cluster` in the environment each server is a cluster of one node, which refuses what a cluster does.
fn is_cluster() -> bool {
    std::env::var_os("TEST_STORE").is_some_and(|store| store == "cluster")
}

fn scheme() -> &'static str {
    if is_cluster() { "redis+cluster://" } else { "redis://" }
}

/// SIGKILL ends a stopped process too. One that is gone already is as good.
fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}

/// A port that was free a moment ago. The server that binds it may still lose a race; it then exits, and the
/// caller tries the next.
/// A port that is free at present, for a server that is about to be started.
pub fn free_port() -> Option<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    let start = std::process::id() as u16;
    let offset = start.wrapping_mul(131).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let port = PORTS.start + offset % span;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
}

/// Spawns a server and waits until it answers on its own socket; `None` when it exits first, as it does when the
/// port is taken. It opens that socket only after the port.
fn spawn_ready(port: u16, directory: &Path, arguments: &[String]) -> Option<Child> {
    let _ = fs::remove_file(socket_in(directory));
    let mut process = spawn(port, directory, arguments);
    let begun = Instant::now();
    loop {
        if process.try_wait().expect("our own child can be waited for").is_some() {
            return None;
        }
        if answers(directory) && (!is_cluster() || has_slots(directory)) {
            return Some(process);
        }
        if begun.elapsed() > READY_WITHIN {
            end(&mut process);
            panic!("{PROGRAM} did not answer within {READY_WITHIN:?}; its log says:\n{}", log_of(directory));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Takes all slots, and waits until that is so.
fn has_slots(directory: &Path) -> bool {
    let Ok(mut connection) = Connection::open(directory) else { return false };
    let _ = connection.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    connection.command(&["CLUSTER", "INFO"]).is_ok_and(|info| info.to_string().contains("cluster_state:ok"))
}

fn spawn(port: u16, directory: &Path, arguments: &[String]) -> Child {
    let configuration = directory.join("redis.conf");
    let text = format!(
        "bind 127.0.0.1\nport {port}\ndir \"{dir}\"\nunixsocket \"{socket}\"\nlogfile \"{log}\"\n\
         save \"\"\nappendonly no\ndaemonize no\nuser tester on nopass ~* &* +@all\n",
        dir = directory.display(),
        socket = socket_in(directory).display(),
        log = directory.join("redis.log").display(),
    );
    fs::write(&configuration, text).expect("the server's directory can be written");
    Command::new(PROGRAM)
        .arg(&configuration)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => panic!("{PROGRAM} is not installed: run `{}`", install_command()),
            _ => panic!("{PROGRAM} cannot be started: {error}"),
        })
}

fn answers(directory: &Path) -> bool {
    Connection::open(directory)
        .and_then(|mut connection| connection.command(&["PING"]))
        .is_ok_and(|reply| matches!(reply, Reply::Simple(pong) if pong == "PONG"))
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join("redis.sock")
}

fn log_of(directory: &Path) -> String {
    fs::read_to_string(directory.join("redis.log")).unwrap_or_default()
}

/// How this system installs the server: the first package manager that is there.
fn install_command() -> &'static str {
    const COMMANDS: [(&str, &str); 6] = [
        ("apt-get", "apt-get install redis-server"),
        ("dnf", "dnf install redis"),
        ("yum", "yum install redis"),
        ("apk", "apk add redis"),
        ("pacman", "pacman -S redis"),
        ("brew", "brew install redis"),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_here = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    COMMANDS.iter().find(|(program, _)| is_here(program)).map_or("make test", |(_, command)| command)
}

// ===== the administrator's connection =====

/// What Redis answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Self>),
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) | Self::Error(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Bulk(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Nil => f.write_str("(nil)"),
            Self::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(f, "{separator}{item}")?;
                }
                Ok(())
            }
        }
    }
}

#[derive(Debug)]
struct Connection(BufReader<UnixStream>);

impl Connection {
    fn open(directory: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket_in(directory))?;
        stream.set_read_timeout(Some(REPLY_WITHIN))?;
        stream.set_write_timeout(Some(REPLY_WITHIN))?;
        let mut connection = Self(BufReader::new(stream));
        match connection.command(&["AUTH", "tester", "any"])? {
            Reply::Simple(_) => Ok(connection),
            other => Err(io::Error::other(other.to_string())),
        }
    }

    fn command(&mut self, command: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.sends(command)?;
        self.reply()
    }

    fn sends(&mut self, command: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for argument in command {
            let argument = argument.as_ref();
            request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            request.extend_from_slice(argument);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request)
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let (kind, rest) =
            line.trim_end().split_at_checked(1).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        match kind {
            "+" => Ok(Reply::Simple(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => Ok(Reply::Integer(number(rest)?)),
            "$" => self.bulk(number(rest)?),
            "*" => self.array(number(rest)?),
            _ => Err(io::Error::other(format!("a reply that is none: {line:?}"))),
        }
    }

    fn bulk(&mut self, length: i64) -> io::Result<Reply> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(Reply::Nil);
        };
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Reply::Bulk(bytes))
    }

    fn array(&mut self, length: i64) -> io::Result<Reply> {
        if length < 0 {
            return Ok(Reply::Nil);
        }
        (0..length).map(|_| self.reply()).collect::<io::Result<_>>().map(Reply::Array)
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(io::Error::other)
}
