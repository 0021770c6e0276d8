//! The runs as tables, as JSON and as a picture.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Options;
use crate::machine::Machine;
use crate::measure::{Bench, Run, Trouble};
use crate::plot;
use crate::scenarios::{Load, Scenario};

#[derive(Serialize)]
struct Everything<'a> {
    machine: &'a Machine,
    command: &'a str,
    rounds: u32,
    seconds: u64,
    troubles: &'a [Trouble],
    runs: &'a [Run],
}

/// What the rounds of one figure come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// The rounds of one server in a scenario, and of the one that it is compared with.
pub(crate) struct Rounds<'a> {
    pub(crate) server: &'static str,
    runs: Vec<&'a Run>,
    base: Vec<&'a Run>,
}

impl Rounds<'_> {
    pub(crate) fn figure(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<Figure> {
        Figure::of(self.runs.iter().filter_map(|run| of(run)).collect())
    }

    /// Each round is compared with the same round of the other: what disturbs one mostly disturbs both.
    pub(crate) fn ratio(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<Figure> {
        let pairs = self.runs.iter().filter_map(|run| {
            let base = self.base.iter().find(|base| base.round == run.round)?;
            Some(of(run)? / of(base)?)
        });
        Figure::of(pairs.collect())
    }
}

impl Figure {
    fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        let half = figures.len() / 2;
        let median = if figures.len() % 2 == 1 { figures[half] } else { (figures[half - 1] + figures[half]) / 2.0 };
        Some(Self { median, least, most })
    }
}

pub(crate) fn rounds<'a>(runs: &'a [Run], scenario: &Scenario) -> Vec<Rounds<'a>> {
    let of = |server| runs.iter().filter(|run| run.scenario == scenario.id && run.server == server).collect();
    let all = scenario.servers.iter().map(|&server| Rounds { server, runs: of(server), base: of(scenario.servers[0]) });
    all.filter(|rounds: &Rounds| !rounds.runs.is_empty()).collect()
}

pub(crate) fn write(bench: &Bench, scenarios: &[&Scenario], options: &Options) {
    let (machine, command) = (Machine::here(), command());
    let mut text = format!(
        "# Side by side\n\n{}\n`{command}`: {} rounds of {} s.\n",
        machine.in_words(),
        options.rounds,
        options.seconds
    );
    text += "\nMedians of the rounds. CPU is the time of the server's processes for each request; its ratio is of a round to \
             the same round of the first server, the median of those and in brackets the least and the most.\n";
    for scenario in scenarios {
        let rounds = rounds(&bench.runs, scenario);
        let _ = write!(text, "\n## {}\n\n{}", scenario.title, table(scenario, &rounds));
    }
    text += &without(&bench.troubles);
    println!("{text}");
    let Some(folder) = folder(options) else { return };
    let everything = Everything {
        machine: &machine,
        command: &command,
        rounds: options.rounds,
        seconds: options.seconds,
        troubles: &bench.troubles,
        runs: &bench.runs,
    };
    let json = serde_json::to_string_pretty(&everything).expect("figures can be written");
    let picture = plot::picture(scenarios, &bench.runs);
    fs::create_dir_all(&folder).expect("the folder can be made");
    for (name, content) in [("results.md", &text), ("results.json", &(json + "\n")), ("results.svg", &picture)] {
        fs::write(folder.join(name), content).expect("the folder can be written");
    }
    eprintln!("written to {}", folder.display());
}

/// As it would be typed, without where this program is.
fn command() -> String {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    // Where the results go is nothing that they depend on.
    if let Some(at) = arguments.iter().position(|argument| argument == "--out") {
        arguments.drain(at..arguments.len().min(at + 2));
    }
    let arguments = arguments.join(" ");
    match arguments.is_empty() {
        true => "make bench-side-by-side".to_owned(),
        false => format!("make bench-side-by-side ARGS='{arguments}'"),
    }
}

fn folder(options: &Options) -> Option<PathBuf> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bench");
    options.out.clone().or_else(|| options.only.is_empty().then(usual))
}

fn table(scenario: &Scenario, rounds: &[Rounds]) -> String {
    let columns = match scenario.load {
        Load::Rate => paced_columns(),
        Load::Stampede => crowded_columns(),
        _ => fast_columns(scenario),
    };
    let heads: Vec<&str> = columns.iter().map(|column| column.head.as_str()).collect();
    let mut table = format!("| server | {} |\n|---|{}\n", heads.join(" | "), "---:|".repeat(columns.len()));
    for row in rounds {
        let cells: Vec<String> = columns.iter().map(|column| (column.cell)(row).unwrap_or("–".to_owned())).collect();
        let _ = writeln!(table, "| {} | {} |", row.server, cells.join(" | "));
    }
    table
}

/// What stands in the row of a server, if it has such a figure.
type Cell = Box<dyn Fn(&Rounds) -> Option<String>>;

struct Column {
    head: String,
    cell: Cell,
}

fn column(head: impl Into<String>, cell: impl Fn(&Rounds) -> Option<String> + 'static) -> Column {
    Column { head: head.into(), cell: Box::new(cell) }
}

fn fast_columns(scenario: &Scenario) -> Vec<Column> {
    let base = scenario.servers[0];
    let mut columns = vec![
        column("requests/s", |row| row.figure(|run| run.requests_per_second).map(whole)),
        column("CPU, µs", |row| row.figure(|run| run.cpu_micros_per_request).map(tenth)),
        column(format!("CPU, times {base}"), |row| row.ratio(|run| run.cpu_micros_per_request).map(spread)),
    ];
    if scenario.in_redis {
        columns.push(column("CPU of Redis, µs", |row| row.figure(|run| run.redis_micros_per_request).map(tenth)));
        columns.push(column("its commands", |row| row.figure(|run| run.redis_commands_per_request).map(tenth)));
    }
    if scenario.load == Load::Miss {
        columns.push(column("kept", |row| {
            row.figure(|run| run.kept).map(|figure| format!("{:.0} %", figure.median * 100.0))
        }));
    }
    columns
}

fn paced_columns() -> Vec<Column> {
    vec![
        column("p50, µs", |row| row.figure(|run| Some(run.latency_micros?.p50)).map(whole)),
        column("p99, µs", |row| row.figure(|run| Some(run.latency_micros?.p99)).map(whole)),
        column("p99.9, µs", |row| row.figure(|run| Some(run.latency_micros?.p999)).map(whole)),
        column("p50 ratio", |row| row.ratio(|run| Some(run.latency_micros?.p50)).map(spread)),
        column("p99 ratio", |row| row.ratio(|run| Some(run.latency_micros?.p99)).map(spread)),
    ]
}

fn crowded_columns() -> Vec<Column> {
    vec![
        column("requests to the origin", |row| row.figure(|run| Some(run.origin_requests as f64)).map(range)),
        column("last served after, in delays of the origin", |row| row.figure(|run| run.last_after_delays).map(spread)),
    ]
}

fn whole(figure: Figure) -> String {
    format!("{:.0}", figure.median)
}

fn range(figure: Figure) -> String {
    format!("{:.0} ({:.0}–{:.0})", figure.median, figure.least, figure.most)
}

fn tenth(figure: Figure) -> String {
    format!("{:.1}", figure.median)
}

fn spread(figure: Figure) -> String {
    format!("{:.2} ({:.2}–{:.2})", figure.median, figure.least, figure.most)
}

fn without(troubles: &[Trouble]) -> String {
    if troubles.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = troubles
        .iter()
        .map(|trouble| format!("- {}, {}: {}\n", trouble.scenario, trouble.server, trouble.reason.trim()))
        .collect();
    format!("\n## What is not in the figures\n\n{}", lines.concat())
}
