//! tower-redis-cache beside nginx, Varnish and other caches in Rust, on one machine in one run.
//!
//! ```sh
//! make bench-side-by-side                  # at the top of the repository; README.md here says what and how
//! ```

mod ask;
mod check;
mod fleet;
mod load;
mod machine;
mod measure;
mod plot;
mod process;
mod report;
mod scenarios;
mod servers;

#[path = "../../../tests/support/redis.rs"]
#[allow(dead_code, unreachable_pub)]
mod redis_server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use measure::Bench;
use scenarios::Scenario;

/// As in the proxy: with glibc's it is luck how many page faults a server has for each large body, from none to all.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// tower-redis-cache beside other caches, on one machine in one run.
#[derive(Parser)]
#[command(name = "side-by-side", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
pub(crate) struct Options {
    /// How often each server has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each turn is
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Only those scenarios whose names begin like this; may be given several times
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// Measure nothing: start each server, and ask it in each scenario for what it would be asked
    #[arg(long)]
    check: bool,
    /// The core of the server under test
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: usize,
    /// The core of the load, of Redis and of the origin
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    load_core: usize,
    /// Where to put results.md, results.json and results.svg [default: docs/bench of the repository, and nowhere with
    /// --only]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// What else this program is, when it starts itself.
#[derive(Subcommand)]
enum Role {
    /// One of the servers
    #[command(hide = true)]
    Serve {
        kind: servers::Kind,
        #[arg(long, default_value = "")]
        origin: String,
        #[arg(long, default_value = "")]
        redis: String,
    },
    /// Requests at a fixed rate
    #[command(hide = true)]
    Rate { address: String, path: String, rate: u32, seconds: u64, connections: usize },
    /// Many clients at once
    #[command(hide = true)]
    Crowd { address: String, known: String, new: String, clients: usize },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.role {
        Some(Role::Serve { kind, origin, redis }) => servers::serve(kind, &origin, &redis),
        Some(Role::Rate { address, path, rate, seconds, connections }) => {
            let latency = load::open_loop::run(&address, &path, rate, seconds, connections);
            println!("{}", serde_json::to_string(&latency).expect("numbers can be written"));
        }
        Some(Role::Crowd { address, known, new, clients }) => {
            println!("{}", load::stampede::run(&address, &known, &new, clients));
        }
        None => return compare(&cli.options),
    }
    ExitCode::SUCCESS
}

fn compare(options: &Options) -> ExitCode {
    process::stay_on_core(options.load_core);
    fleet::clean_up();
    let wanted = |scenario: &&Scenario| {
        options.only.is_empty() || options.only.iter().any(|only| scenario.id.starts_with(only.as_str()))
    };
    let scenarios: Vec<&Scenario> = scenarios::ALL.iter().filter(wanted).collect();
    if scenarios.is_empty() {
        let names: Vec<&str> = scenarios::ALL.iter().map(|scenario| scenario.id).collect();
        eprintln!("--only: none is called so; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let mut bench = Bench::new(options.server_core);
    if options.check {
        check::all(&mut bench, &scenarios);
    } else {
        for scenario in &scenarios {
            bench.scenario(scenario, options.rounds as usize, options.seconds);
        }
        report::write(&bench, &scenarios, options);
    }
    match bench.troubles.iter().find(|trouble| !trouble.is_absence) {
        None => ExitCode::SUCCESS,
        Some(_) => {
            eprintln!("NOT ALL WENT WELL: see above");
            ExitCode::FAILURE
        }
    }
}
