//! One panel of bars for each scenario, readable on a light and on a dark page.

use std::fmt::Write as _;

use crate::measure::Run;
use crate::report::{Rounds, rounds};
use crate::scenarios::{Load, Scenario};

const WIDTH: f64 = 760.0;
const NAMES: f64 = 190.0;
const BARS: f64 = 480.0;
const ROW: f64 = 20.0;
const HEAD: f64 = 34.0;
const GAP: f64 = 22.0;
/// A bar that would be longer is cut off here, for the sake of the others.
const LONGEST: f64 = 8.0;

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.note { fill: #59636e }
.bar { fill: #8c959f }
.ours { fill: #0969da }
.base { fill: #afb8c1 }
line { stroke: #59636e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.note { fill: #9198a1 }
.bar { fill: #656c76 }
.ours { fill: #4493f8 }
.base { fill: #3d444d }
line { stroke: #9198a1 }
}
";

pub(crate) fn picture(scenarios: &[&Scenario], runs: &[Run]) -> String {
    let mut panels = String::new();
    let mut top = 10.0;
    for scenario in scenarios {
        let rows: Vec<(&str, f64)> =
            rounds(runs, scenario).iter().filter_map(|row| Some((row.server, value(scenario, row)?))).collect();
        if !rows.is_empty() {
            top = panel(&mut panels, top, scenario, &rows);
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" height=\"{top}\" \
         role=\"img\" aria-label=\"Caches side by side: ratios to the first of each panel\">\n<style>\n{STYLE}</style>\n\
         {panels}</svg>\n"
    )
}

/// What the bars of a scenario show.
fn value(scenario: &Scenario, row: &Rounds) -> Option<f64> {
    let figure = match scenario.load {
        Load::Rate => row.ratio(|run| Some(run.latency_micros?.p99)),
        Load::Stampede => row.figure(|run| Some(run.origin_requests as f64)),
        _ => row.ratio(|run| run.cpu_micros_per_request),
    };
    figure.map(|figure| figure.median)
}

fn note(scenario: &Scenario) -> String {
    let base = scenario.servers[0];
    match scenario.load {
        Load::Rate => format!("99th percentile, times {base}"),
        Load::Stampede => "requests to the origin".to_owned(),
        _ => format!("CPU for a request, times {base}"),
    }
}

/// Appends a panel, and tells where the next one begins.
fn panel(panels: &mut String, top: f64, scenario: &Scenario, rows: &[(&str, f64)]) -> f64 {
    let is_ratio = scenario.load != Load::Stampede;
    let most = rows.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let scale = if is_ratio { most.min(LONGEST) } else { most };
    let _ = writeln!(panels, "<text class=\"title\" x=\"0\" y=\"{}\">{}</text>", top + 12.0, scenario.title);
    let _ = writeln!(panels, "<text class=\"note\" x=\"0\" y=\"{}\">{}</text>", top + 27.0, note(scenario));
    let mut y = top + HEAD;
    for (at, (server, value)) in rows.iter().enumerate() {
        let is_ours = server.starts_with("layer") || server.starts_with("proxy");
        let class = if is_ours {
            "ours"
        } else if at == 0 {
            "base"
        } else {
            "bar"
        };
        let length = (value.min(scale) / scale * BARS).max(1.0);
        let cut = if *value > scale { "…" } else { "" };
        let told = if is_ratio { format!("{value:.2}{cut}") } else { format!("{value:.0}") };
        let _ = writeln!(
            panels,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{server}</text><rect class=\"{class}\" x=\"{NAMES}\" y=\"{}\" \
             width=\"{length:.1}\" height=\"14\" rx=\"2\"/><text x=\"{:.1}\" y=\"{}\">{told}</text>",
            NAMES - 8.0,
            y + 12.0,
            y + 1.0,
            NAMES + length + 6.0,
            y + 12.0,
        );
        y += ROW;
    }
    if is_ratio {
        let x = NAMES + BARS / scale;
        let _ = writeln!(panels, "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{y}\"/>", top + HEAD);
    }
    y + GAP
}
