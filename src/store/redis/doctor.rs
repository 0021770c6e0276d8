//! What the server is, what this user may do there, and what follows. Each question is asked by the very command that it is
//! about, on a key of its own; one that is not granted is an answer as well.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::{self, error::Elapsed};

use super::RedisStore;
use super::connection::Access;
use super::lanes::LaneName;
use super::link::Link;
use super::replies::{Failure, Verdict, cure};
use super::scripts::{Call, RIGHTS};
use crate::clock::Stopwatch;
use crate::doctor::{Finding, Severity};
use crate::error::{StoreError, StoreErrorKind};
use crate::observe::PurgeNews;

/// What one question may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it is waited for that purges are heard of in the best way.
const NEWS: Duration = Duration::from_secs(3);
const NEWS_POLL: Duration = Duration::from_millis(20);
const ROUNDS: usize = 5;
/// Clocks that differ by more make for responses that are stale too early or too late.
const TOLERANCE: u64 = 1_000;
/// No probe is there for longer.
const PROBE: &str = "1000";

/// What a command is good for.
const RIGHTS_WANTED: [(&str, &[&str], Severity, &str); 9] = [
    ("GET", &[], Severity::Broken, "nothing can be read"),
    ("SET", &["", "PX", PROBE], Severity::Broken, "nothing can be stored"),
    ("GETRANGE", &["0", "0"], Severity::Degraded, "what others have put under our keys is read whole, however long"),
    ("EXISTS", &[], Severity::Degraded, "that a large body is not whole is found only on the way"),
    ("PEXPIRE", &[PROBE], Severity::Degraded, "what is replaced ends later than it could"),
    (
        "UNLINK",
        &[],
        Severity::Degraded,
        "what is purged or replaced stays, and what is fetched under a lease may be lost",
    ),
    ("EVAL", &[], Severity::Degraded, "each process fetches for itself, and there is no purge clock"),
    ("EVAL_RO", &[], Severity::Fine, "a halt on writes keeps the purge clock from being read"),
    ("PUBLISH", &[""], Severity::Degraded, "those who wait for another process look a few times a second"),
];

impl RedisStore {
    /// Looks at all that matters; it ends early where no server answers.
    pub(crate) async fn diagnose(&self) -> Vec<Finding> {
        let address = self.connection.address();
        let links = match time::timeout(PATIENCE, self.connection.links()).await {
            Ok(Ok(links)) => links,
            Ok(Err(error)) => {
                let says = format!("{address} does not answer: {error}; {}", cure(&error));
                return vec![Finding::new("connection", Severity::Broken, says)];
            }
            Err(_) => {
                let says = format!("{address} does not answer in time");
                return vec![Finding::new("connection", Severity::Broken, says)];
            }
        };
        let mut findings = vec![self.worst(&links, async |link| Self::connection_found(link).await).await];
        if findings[0].severity == Severity::Broken {
            return findings;
        }
        findings.push(self.worst(&links, async |link| Self::server_found(link).await).await);
        if findings[1].severity == Severity::Broken {
            // All else would follow from it.
            return findings;
        }
        findings.extend(links.iter().filter_map(|link| link.provision_found()).max_by_key(|found| found.severity));
        findings.push(self.worst(&links, async |link| Self::memory_found(link).await).await);
        if self.connection.is_cluster() {
            findings.push(self.worst(&links, async |link| Self::coverage_found(link).await).await);
        }
        findings.extend(self.connection.replicas().map(|(well, all)| {
            let severity = if well == all && all > 0 { Severity::Fine } else { Severity::Degraded };
            Finding::new("replicas", severity, format!("{well} of {all} can be read from"))
        }));
        findings.extend(self.rights_found(&links).await);
        findings.extend(self.scripts_found().await);
        findings.push(self.purges_found().await);
        if links.iter().any(|link| link.is_available() && !link.takes_writes()) {
            let says = "Redis has refused writes: nothing new is stored for now; see the log for the cause";
            findings.push(Finding::new("writes", Severity::Degraded, says));
        }
        findings
    }

    /// The gravest of what is found on each node, and on how many of them.
    async fn worst(&self, links: &[Arc<Link>], find: impl AsyncFn(&Arc<Link>) -> Finding) -> Finding {
        let mut all = Vec::with_capacity(links.len());
        for link in links {
            all.push((find(link).await, link));
        }
        let Some(gravest) = all.iter().map(|(found, _)| found.severity).max() else {
            return Finding::new("connection", Severity::Broken, "there is no node");
        };
        let like_it = all.iter().filter(|(found, _)| found.severity == gravest).count();
        let at = all.iter().position(|(found, _)| found.severity == gravest).unwrap_or_default();
        let (mut worst, link) = all.swap_remove(at);
        if links.len() > 1 {
            worst.says = format!("{like_it} of {} nodes: {} ({})", links.len(), worst.says, link.address);
            // One node that is lost is not the loss of all.
            if like_it < links.len() {
                worst.severity = worst.severity.min(Severity::Degraded);
            }
        }
        worst
    }

    /// A refusal says nothing of the connection.
    async fn try_out(&self, command: &Cmd) -> Result<Value, Failure> {
        let asking = self.connection.call(LaneName::Heads, Access::Script { writes: false }, command);
        time::timeout(PATIENCE, asking).await.unwrap_or_else(late)
    }

    async fn connection_found(link: &Arc<Link>) -> Finding {
        let (address, patience) = (&link.address, link.settings.patience);
        let mut spans = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let since = Stopwatch::start();
            match time::timeout(PATIENCE, link.answers()).await {
                Ok(Ok(())) => spans.push(since.elapsed()),
                Ok(Err(error)) => {
                    let error = link.trouble().unwrap_or(error);
                    let says = format!("{address} does not answer: {error}; {}", cure(&error));
                    return Finding::new("connection", Severity::Broken, says);
                }
                Err(_) => {
                    let says = format!("{address} does not answer in time");
                    return Finding::new("connection", Severity::Broken, says);
                }
            }
        }
        // The first has made the connection.
        spans.sort_unstable();
        let median = spans[ROUNDS / 2];
        let says = format!("{address}, a round trip takes {median:.1?}");
        match median * 4 > patience {
            true => {
                let says = format!("{says}: too near to store_timeout, {patience:?}; raise it");
                Finding::new("connection", Severity::Degraded, says)
            }
            false => Finding::new("connection", Severity::Fine, says),
        }
    }

    async fn server_found(link: &Arc<Link>) -> Finding {
        let mut facts = facts(ask(link, &redis::cmd("HELLO")).await);
        if facts.is_empty() {
            facts = info(ask(link, redis::cmd("INFO").arg("server")).await);
        }
        let fact = |names: &[&str]| facts.iter().find(|(name, _)| names.contains(&&**name)).map(|(_, value)| &**value);
        let Some(version) = fact(&["valkey_version", "version", "redis_version"]) else {
            let says = "unknown: neither HELLO nor INFO is granted to this user, which is no harm";
            return Finding::new("server", Severity::Fine, says);
        };
        let (mode, role) = (fact(&["mode", "redis_mode"]).unwrap_or("standalone"), fact(&["role"]).unwrap_or("master"));
        let says = format!("{} {version}, {mode}", fact(&["server", "server_name"]).unwrap_or("redis"));
        let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
        let is_old = (numbers.next(), numbers.next()) < (Some(6), Some(2));
        let (severity, more) = match (mode, role) {
            ("cluster", _) if !link.settings.is_of_cluster => {
                (Severity::Broken, ": a node of a Redis Cluster; write redis+cluster://host:port")
            }
            ("sentinel", _) => (Severity::Broken, ": this is a sentinel; write redis+sentinel://host:port/name"),
            (_, "replica" | "slave") => {
                (Severity::Degraded, ", a replica: nothing is stored; point the URL at the primary")
            }
            _ if is_old => (Severity::Degraded, ": 6.2 or later is expected"),
            _ => (Severity::Fine, ""),
        };
        Finding::new("server", severity, says + more)
    }

    async fn memory_found(link: &Arc<Link>) -> Finding {
        let setting = async |name| {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg(name);
            facts(ask(link, &command).await).into_iter().next()
        };
        let mut known: Vec<_> =
            [setting("maxmemory").await, setting("maxmemory-policy").await].into_iter().flatten().collect();
        if known.len() < 2 {
            known = info(ask(link, redis::cmd("INFO").arg("memory")).await);
        }
        let value =
            |name: &str| known.iter().find(|(known, _)| known.replace('_', "-") == name).map(|(_, value)| &**value);
        let (Some(most), Some(policy)) = (value("maxmemory"), value("maxmemory-policy")) else {
            let says = "unknown: neither CONFIG GET nor INFO is granted; see to it that maxmemory is set, and \
                        maxmemory-policy to allkeys-lfu (a cache of its own) or volatile-lfu (shared)";
            return Finding::new("memory", Severity::Fine, says);
        };
        let mib = most.parse::<u64>().unwrap_or_default() / (1024 * 1024);
        let cure = "set maxmemory-policy to allkeys-lfu (a cache of its own) or volatile-lfu (shared)";
        match (most, policy) {
            ("0", _) => {
                let says = "maxmemory is not set: Redis grows until the system ends it";
                Finding::new("memory", Severity::Degraded, says)
            }
            (_, "noeviction") => {
                let says = format!("{mib} MiB, noeviction: once they are full nothing new is stored; {cure}");
                Finding::new("memory", Severity::Degraded, says)
            }
            _ => Finding::new("memory", Severity::Fine, format!("{mib} MiB, {policy}")),
        }
    }

    /// What becomes of a cluster that has lost a node.
    async fn coverage_found(link: &Arc<Link>) -> Finding {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg("cluster-require-full-coverage");
        match facts(ask(link, &command).await).first().map(|(_, value)| &**value) {
            Some("no") => Finding::new("cluster", Severity::Fine, "a node that is away costs what it has, and no more"),
            Some(_) => {
                let says =
                    "cluster-require-full-coverage is yes: while one node is away no other answers; set it to no";
                Finding::new("cluster", Severity::Degraded, says)
            }
            None => {
                let says = "CONFIG GET is not granted; see to it that cluster-require-full-coverage is no";
                Finding::new("cluster", Severity::Fine, says)
            }
        }
    }

    /// What is missing of single commands.
    async fn rights_found(&self, links: &[Arc<Link>]) -> Vec<Finding> {
        let (probe, channel) = (self.layout.doctor(), self.layout.wake());
        let mut findings = Vec::new();
        for (name, arguments, severity, loss) in RIGHTS_WANTED {
            let mut command = redis::cmd(name);
            match name {
                "EVAL" | "EVAL_RO" => command.arg("return 1").arg(1).arg(&probe),
                "PUBLISH" => command.arg(channel),
                _ => command.arg(&probe),
            };
            arguments.iter().for_each(|argument| {
                command.arg(*argument);
            });
            let Err(failure) = self.try_out(&command).await else { continue };
            if self.connection.is_cluster() && failure.error.kind() == StoreErrorKind::Unavailable {
                // The node that would have been asked is away, which has been told.
                continue;
            }
            let says = match failure.verdict {
                Verdict::NotGranted => format!("{name} is not granted: {loss}"),
                _ => format!("{name} does not work ({}): {loss}", failure.error),
            };
            findings.push(Finding::new("rights", severity, says));
        }
        if let (true, Some(link)) = (self.connection.is_cluster(), links.first())
            && let Err(Failure { verdict: Verdict::NotGranted, .. }) = ask(link, &redis::cmd("ASKING")).await
        {
            let says = "ASKING is not granted: what is in a slot that is being moved is not found";
            findings.push(Finding::new("rights", Severity::Degraded, says));
        }
        if findings.iter().all(|finding| finding.severity == Severity::Fine) {
            findings.push(Finding::new("rights", Severity::Fine, "all commands outside of scripts are granted"));
        }
        findings
    }

    /// What is missing inside of scripts, and how far the clocks are apart.
    async fn scripts_found(&self) -> Vec<Finding> {
        let mut call = Call::of(&RIGHTS, 1);
        call.key(self.layout.doctor_set());
        let asking = self.connection.run(LaneName::Heads, Access::Script { writes: false }, &call);
        // That scripts are not granted at all has been told.
        let Ok(Ok(Value::Array(parts))) = time::timeout(PATIENCE, asking).await else { return Vec::new() };
        let [Value::BulkString(now), Value::Array(missing)] = &parts[..] else { return Vec::new() };
        let mut findings = Vec::new();
        let missing: Vec<_> = missing.iter().filter_map(text).collect();
        if !missing.is_empty() {
            let says = format!("{} not granted in scripts: there is no purge clock", missing.join(", "));
            findings.push(Finding::new("rights", Severity::Degraded, says));
        }
        if let Some(there) = std::str::from_utf8(now).ok().and_then(|now| now.parse::<u64>().ok()) {
            let apart = there.abs_diff(self.clock.now().as_millis());
            let (severity, more) = match apart > TOLERANCE {
                true => (Severity::Degraded, ": responses are stale too early or too late; set the clocks by NTP"),
                false => (Severity::Fine, ""),
            };
            findings.push(Finding::new("clock", severity, format!("{apart} ms apart from the server's{more}")));
        }
        findings
    }

    async fn purges_found(&self) -> Finding {
        let since = Stopwatch::start();
        self.purges.start(since);
        let is_settled = || !matches!(self.purge_news(), PurgeNews::Heartbeat) && self.plane().is_in_sync();
        while !is_settled() && !self.plane().is_denied() && since.elapsed() < NEWS {
            time::sleep(NEWS_POLL).await;
        }
        let (severity, says) = match self.purge_news() {
            PurgeNews::Denied => (
                Severity::Degraded,
                "there is no purge clock: purges fail, and unsafe requests end what they name by removing it",
            ),
            _ if !self.plane().is_in_sync() => {
                (Severity::Broken, "the purge clock cannot be read: nothing that is stored is served")
            }
            PurgeNews::Heartbeat => (
                Severity::Degraded,
                "are heard of by looking, five times in max_unsynced: neither SUBSCRIBE nor CLIENT TRACKING works",
            ),
            PurgeNews::Messages => (Severity::Fine, "are heard of at once, by messages"),
            PurgeNews::Tracking | PurgeNews::Local => (Severity::Fine, "are heard of at once, by tracking"),
        };
        Finding::new("purges", severity, says)
    }
}

/// One server, whatever keys it has.
async fn ask(link: &Arc<Link>, command: &Cmd) -> Result<Value, Failure> {
    let asking = link.call(LaneName::Heads, Access::Script { writes: false }, command);
    time::timeout(PATIENCE, asking).await.unwrap_or_else(late)
}

fn late<T>(_: Elapsed) -> Result<T, Failure> {
    Err(Failure::ignored(StoreError::new(StoreErrorKind::Timeout)))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(octets) => Some(String::from_utf8_lossy(octets).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// Names and their values, in either protocol.
fn facts(answer: Result<Value, Failure>) -> Vec<(String, String)> {
    let known = |name: &Value, value: &Value| Some((text(name)?, text(value)?));
    match answer {
        Ok(Value::Array(flat)) => flat.chunks_exact(2).filter_map(|pair| known(&pair[0], &pair[1])).collect(),
        Ok(Value::Map(pairs)) => pairs.iter().filter_map(|(name, value)| known(name, value)).collect(),
        _ => Vec::new(),
    }
}

fn info(answer: Result<Value, Failure>) -> Vec<(String, String)> {
    let said = match answer {
        Ok(Value::VerbatimString { text, .. }) => Some(text),
        Ok(value) => text(&value),
        Err(_) => None,
    };
    let lines = said.unwrap_or_default();
    let pairs = lines.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}
