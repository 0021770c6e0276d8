//! Whether all servers run and answer as they would have to, without measuring.

use crate::ask;
use crate::measure::{self, Bench};
use crate::scenarios::{Load, Scenario};

pub(crate) fn all(bench: &mut Bench, scenarios: &[&Scenario]) {
    for scenario in scenarios {
        let servers = bench.started(scenario);
        for (name, server) in &servers {
            match answers(bench, scenario, &server.address) {
                Ok(()) => println!("{}: {name} is well", scenario.id),
                Err(reason) => bench.trouble(scenario, name, reason),
            }
        }
    }
}

/// Asks twice: what is kept is then not asked of the origin again, and what is not is.
fn answers(bench: &Bench, scenario: &Scenario, address: &str) -> Result<(), String> {
    let before = bench.count();
    for _ in 0..2 {
        ask::expect(address, &measure::path(scenario), scenario.size)?;
    }
    let asked = bench.count() - before;
    let is_right = match scenario.load {
        Load::Hit | Load::Rate => asked == 0,
        Load::Pass => asked == 2,
        Load::Miss | Load::Stampede => true,
    };
    if is_right { Ok(()) } else { Err(format!("of 2 requests {asked} reached the origin")) }
}
