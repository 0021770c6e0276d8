//! The scenarios, one after another; in each of them the rounds, and in each round all servers in turn.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde::Serialize;

use crate::ask;
use crate::fleet::{self, Surroundings};
use crate::load::open_loop::Latency;
use crate::load::wrk::{Effort, Told, Wrk};
use crate::process::{self, Running};
use crate::redis_server::RedisServer;
use crate::scenarios::{CROWD, DELAY_MILLIS, Load, RATE, Scenario};

/// So long after the load what was begun by it may go on.
const SETTLE: Duration = Duration::from_millis(100);
/// So many misses go before those that are measured.
const WARM_UP: usize = 50;
/// How many of the responses of a run are asked for again, to see whether they were kept.
const PROBES: u64 = 25;

/// One server under one load, once.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Run {
    pub(crate) scenario: &'static str,
    pub(crate) server: &'static str,
    pub(crate) round: usize,
    pub(crate) requests: u64,
    pub(crate) origin_requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_micros_per_request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis_micros_per_request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redis_commands_per_request: Option<f64>,
    /// The share of the responses that were found to have been kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_micros: Option<Latency>,
    /// When the last of a crowd was served, in delays of the origin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_after_delays: Option<f64>,
}

/// A server that did not take part, or not in all rounds, and why.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trouble {
    pub(crate) scenario: &'static str,
    pub(crate) server: &'static str,
    pub(crate) reason: String,
    /// Whether it is something that is not installed here.
    pub(crate) is_absence: bool,
}

pub(crate) struct Bench {
    pub(crate) redis: RedisServer,
    origin: Running,
    wrk: Wrk,
    surroundings: Surroundings,
    /// New paths are new in each run.
    runs_begun: u64,
    pub(crate) runs: Vec<Run>,
    pub(crate) troubles: Vec<Trouble>,
}

impl Bench {
    pub(crate) fn new(server_core: usize) -> Self {
        let redis = RedisServer::start_with(&["--maxmemory", "3gb", "--maxmemory-policy", "allkeys-lfu"]);
        let origin = fleet::origin();
        let surroundings = Surroundings {
            core: server_core,
            origin: origin.address.clone(),
            redis_url: redis.url(),
            redis_port: redis.port(),
        };
        Self { redis, origin, wrk: Wrk::new(), surroundings, runs_begun: 0, runs: Vec::new(), troubles: Vec::new() }
    }

    pub(crate) fn scenario(&mut self, scenario: &Scenario, rounds: usize, seconds: u64) {
        eprintln!("{}", scenario.title);
        // Where they fill their caches each begins with an empty one each time, and nobody pays for making room.
        if scenario.load == Load::Miss {
            for (round, &name) in (1..=rounds).flat_map(|round| scenario.servers.iter().map(move |name| (round, name)))
            {
                let server = self.started_of(scenario, &[name]);
                self.turn(scenario, &server, round, seconds);
            }
            return;
        }
        let servers = self.started(scenario);
        for round in 1..=rounds {
            self.turn(scenario, &servers, round, seconds);
        }
    }

    fn turn(&mut self, scenario: &Scenario, servers: &[(&'static str, Running)], round: usize, seconds: u64) {
        for (name, server) in servers {
            match self.run(scenario, name, server, round, seconds) {
                Ok(run) => {
                    eprintln!("  {}", told(&run));
                    self.runs.push(run);
                }
                Err(reason) => self.trouble(scenario, name, reason),
            }
        }
    }

    /// The servers of a scenario, with what they shall have.
    pub(crate) fn started(&mut self, scenario: &Scenario) -> Vec<(&'static str, Running)> {
        self.started_of(scenario, scenario.servers)
    }

    fn started_of(&mut self, scenario: &Scenario, names: &[&'static str]) -> Vec<(&'static str, Running)> {
        self.redis.cli(&["FLUSHALL", "SYNC"]);
        let mut servers = Vec::new();
        for &name in names {
            let started = self.surroundings.start(name).and_then(|server| {
                self.prepare(scenario, &server)?;
                Ok(server)
            });
            match started {
                Ok(server) => servers.push((name, server)),
                Err(reason) => self.trouble(scenario, name, reason),
            }
        }
        servers
    }

    pub(crate) fn trouble(&mut self, scenario: &Scenario, server: &'static str, reason: String) {
        eprintln!("  {server}: {reason}");
        let is_absence = reason.ends_with("is not installed");
        self.troubles.push(Trouble { scenario: scenario.id, server, reason, is_absence });
    }

    /// Asks until the answer comes from the cache, where it shall.
    fn prepare(&self, scenario: &Scenario, server: &Running) -> Result<(), String> {
        let path = path(scenario);
        let mut hits = 0;
        for _ in 0..100 {
            let before = self.count();
            ask::expect(&server.address, &path, scenario.size)?;
            hits = if self.count() == before { hits + 1 } else { 0 };
            if hits == 2 || !matches!(scenario.load, Load::Hit | Load::Rate) {
                return Ok(());
            }
            sleep(Duration::from_millis(10));
        }
        Err("it does not answer from its cache".to_owned())
    }

    fn run(
        &mut self,
        scenario: &Scenario,
        name: &'static str,
        server: &Running,
        round: usize,
        seconds: u64,
    ) -> Result<Run, String> {
        self.runs_begun += 1;
        let run = Run { scenario: scenario.id, server: name, round, ..Run::default() };
        match scenario.load {
            Load::Hit | Load::Pass | Load::Miss => self.fast(scenario, server, seconds, run),
            Load::Rate => self.paced(scenario, server, seconds, run),
            Load::Stampede => self.crowded(server, run),
        }
    }

    fn fast(&self, scenario: &Scenario, server: &Running, seconds: u64, mut run: Run) -> Result<Run, String> {
        let beginning = format!("/miss/{}/{}-{}-", scenario.size, std::process::id(), self.runs_begun);
        if scenario.load == Load::Miss {
            // What the first ones take is not what is measured.
            for number in 1..=WARM_UP {
                ask::expect(&server.address, &format!("{beginning}before-{number}"), scenario.size)?;
            }
            sleep(SETTLE);
        }
        let effort = Effort { connections: scenario.connections(), seconds };
        let before = (server.cpu_micros(), self.redis_micros(), self.count(), self.redis_commands());
        let told = match scenario.load {
            Load::Miss => self.wrk.new_paths(&server.address, &beginning, effort)?,
            _ => self.wrk.one_path(&server.address, &path(scenario), effort)?,
        };
        sleep(SETTLE);
        let requests = told.requests as f64;
        run.requests = told.requests;
        run.requests_per_second = Some(requests / told.seconds);
        run.cpu_micros_per_request = Some((server.cpu_micros() - before.0) / requests);
        let uses_redis = scenario.in_redis && uses_redis(run.server);
        let commands = self.redis_commands() - before.3;
        run.redis_micros_per_request = uses_redis.then(|| (self.redis_micros() - before.1) / requests);
        run.redis_commands_per_request = uses_redis.then_some(commands as f64 / requests);
        run.origin_requests = self.count() - before.2;
        believe(scenario, &told, run.origin_requests)?;
        if scenario.load == Load::Hit {
            believe_of_redis(scenario, &told, commands)?;
        }
        if scenario.load == Load::Miss {
            run.kept = Some(self.kept(scenario, server, &beginning, told.asked)?);
        }
        Ok(run)
    }

    /// Of those that were asked for late, but not so late that the load did not wait for them.
    fn kept(&self, scenario: &Scenario, server: &Running, beginning: &str, asked: u64) -> Result<f64, String> {
        let before = self.count();
        let last = asked.saturating_sub(2 * scenario.connections() as u64).max(PROBES);
        for number in last - PROBES + 1..=last {
            ask::expect(&server.address, &format!("{beginning}{number}"), scenario.size)?;
        }
        Ok(1.0 - (self.count() - before) as f64 / PROBES as f64)
    }

    fn paced(&self, scenario: &Scenario, server: &Running, seconds: u64, mut run: Run) -> Result<Run, String> {
        let before = self.count();
        let told = this_program(&[
            "rate",
            &server.address,
            &path(scenario),
            &RATE.to_string(),
            &seconds.to_string(),
            &scenario.connections().to_string(),
        ])?;
        let latency: Latency = serde_json::from_str(&told).map_err(|error| format!("{told}: {error}"))?;
        run.requests = latency.requests;
        run.latency_micros = Some(latency);
        run.origin_requests = self.count() - before;
        let told = Told { requests: run.requests, octets: u64::MAX, ..Told::default() };
        believe(scenario, &told, run.origin_requests)?;
        Ok(run)
    }

    /// How the server does when all its connections are there, and what they ask for is not.
    fn crowded(&self, server: &Running, mut run: Run) -> Result<Run, String> {
        let new = format!("/miss/1024/{}-{}?delay={DELAY_MILLIS}", std::process::id(), self.runs_begun);
        let before = self.count();
        let told = this_program(&["crowd", &server.address, "/ready", &new, &CROWD.to_string()])?;
        let millis: f64 = told.trim().parse().map_err(|_| format!("not a number: {told}"))?;
        run.requests = CROWD as u64;
        run.last_after_delays = Some(millis / DELAY_MILLIS as f64);
        run.origin_requests = self.count() - before;
        Ok(run)
    }

    pub(crate) fn count(&self) -> u64 {
        ask::count(&self.origin.address)
    }

    fn redis_commands(&self) -> u64 {
        self.redis.info("total_commands_processed")
    }

    fn redis_micros(&self) -> f64 {
        process::cpu_micros(self.redis.info("process_id") as u32)
    }
}

/// Whether the run was what it is called.
fn believe(scenario: &Scenario, told: &Told, origin_requests: u64) -> Result<(), String> {
    if told.octets / told.requests < scenario.size as u64 {
        return Err(format!("{} answers had {} octets", told.requests, told.octets));
    }
    let is_right = match scenario.load {
        Load::Hit | Load::Rate => origin_requests <= (told.requests / 1000).max(2),
        _ => origin_requests >= told.requests - told.requests / 100,
    };
    match is_right {
        true => Ok(()),
        false => Err(format!("of {} requests {origin_requests} reached the origin", told.requests)),
    }
}

/// A hit in memory does not ask Redis, and one in Redis does.
fn believe_of_redis(scenario: &Scenario, told: &Told, commands: u64) -> Result<(), String> {
    let is_right = match scenario.in_redis {
        true => commands >= told.requests,
        // What is asked meanwhile is what was purged, and how much there is of this.
        false => commands <= 100 + told.requests / 1000,
    };
    match is_right {
        true => Ok(()),
        false => Err(format!("for {} requests Redis had {commands} commands", told.requests)),
    }
}

fn uses_redis(server: &str) -> bool {
    let beside = ["proxy-near", "layer-near", "nginx-lua"];
    server.contains("redis") || beside.contains(&server)
}

pub(crate) fn path(scenario: &Scenario) -> String {
    match scenario.load {
        Load::Hit | Load::Rate => format!("/hit/{}", scenario.size),
        Load::Pass => format!("/pass/{}", scenario.size),
        Load::Miss | Load::Stampede => format!("/miss/{}/first-{}", scenario.size, std::process::id()),
    }
}

/// A load of this program, as a process of its own.
fn this_program(arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(fleet::this_program()).args(arguments).output().expect("this program can be started again");
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

fn told(run: &Run) -> String {
    let mut line = format!("round {}, {}: {} requests", run.round, run.server, run.requests);
    if let Some(micros) = run.cpu_micros_per_request {
        line += &format!(", {micros:.1} us of CPU each");
    }
    if let Some(kept) = run.kept {
        line += &format!(", {:.0} % kept", kept * 100.0);
    }
    if let Some(latency) = run.latency_micros {
        line += &format!(", p50 {:.0} us, p99 {:.0} us", latency.p50, latency.p99);
    }
    if let Some(last) = run.last_after_delays {
        line += &format!(", {} at the origin, the last after {last:.2} delays", run.origin_requests);
    }
    line
}
