//! `hawser sim link`.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hawser_sim::{Failure as Finding, Simulation, Summary, World, worlds};
use serde::Serialize;

use super::show;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{self, Output};
use crate::cli::table::{Align, Table};

#[derive(Args, Debug)]
pub(crate) struct LinkArgs {
    /// Names the history: the same seed gives the same one.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Simulated time under load, in minutes, of each seed.
    #[arg(
        long,
        value_name = "M",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=100_000)
    )]
    minutes: u64,
    /// Runs this many seeds, from the given one on.
    #[arg(
        long,
        value_name = "K",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000)
    )]
    seeds: u64,
    /// Begins no seed later than so many seconds after the first: runs as many of them as fit.
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    /// Runs every seed in this world, in place of each in its own; `list` shows them.
    #[arg(long, value_name = "NAME")]
    world: Option<String>,
    /// Seeds that run at the same time [default: as many as there are processors]
    #[arg(long, value_name = "J")]
    jobs: Option<NonZeroUsize>,
}

/// The last line of `--json`. Of several seeds: the first one, sums, and one hash over all hashes.
#[derive(Debug, Serialize)]
struct Report {
    seed: u64,
    /// Those that were run.
    seeds: u64,
    minutes: u64,
    messages: u64,
    faults: u64,
    disturbances: u64,
    resent_bytes: u64,
    marked_records: u64,
    violations: u64,
    /// Sixteen hexadecimal digits.
    trace_hash: String,
    /// Simulated time by elapsed time.
    speedup: f64,
    events: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct WorldRow {
    world: &'static str,
    about: &'static str,
}

/// What came of one seed.
struct Outcome {
    seed: u64,
    result: Result<Summary, Box<Finding>>,
}

/// # Errors
/// A name that no world has; [`Exit::Loss`] if a property did not hold.
pub(super) fn run(args: &LinkArgs, out: Output) -> Result<(), Failure> {
    let named = worlds();
    let chosen = match args.world.as_deref() {
        None => named,
        Some("list") => return list(&named, out),
        Some(name) => vec![find(&named, name)?],
    };
    let started = Instant::now();
    let bar = out.progress(args.within.is_none().then_some(args.seeds), "seeds");
    let outcomes = run_seeds(args, &chosen, &|| bar.inc(1));
    bar.finish_and_clear();
    let report = report(args, &outcomes, started.elapsed());
    out.value(&report, || text(&report))?;
    match outcomes.iter().find_map(|outcome| outcome.result.as_ref().err()) {
        None => Ok(()),
        Some(first) => Err(show_first(args, first, &outcomes)),
    }
}

fn find(named: &[World], name: &str) -> Result<World, Failure> {
    named.iter().find(|world| world.name == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = named.iter().map(|world| world.name).collect();
        let text = format!("no world {name}; there are {}", names.join(", "));
        Failure::new(Exit::NotFound, text)
    })
}

fn list(known: &[World], out: Output) -> Result<(), Failure> {
    let rows: Vec<WorldRow> =
        known.iter().map(|world| WorldRow { world: world.name, about: world.about }).collect();
    out.rows(&rows, || {
        let mut table = Table::new(&[("WORLD", Align::Left), ("ABOUT", Align::Left)], "no worlds");
        for row in &rows {
            table.row([row.world, row.about]);
        }
        table
    })
}

/// Every seed in its world, in the order of the seeds; says so of each that is done.
fn run_seeds(args: &LinkArgs, chosen: &[World], done: &(dyn Fn() + Sync)) -> Vec<Outcome> {
    let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = args.jobs.map_or_else(processors, NonZeroUsize::get);
    let jobs = jobs.min(usize::try_from(args.seeds).unwrap_or(usize::MAX));
    let next = AtomicU64::new(0);
    let started = Instant::now();
    let is_over = || args.within.is_some_and(|most| started.elapsed().as_secs() >= most);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            // The first one is run whatever it takes.
            if next.load(Ordering::Relaxed) > 0 && is_over() {
                return outcomes;
            }
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= args.seeds {
                return outcomes;
            }
            let seed = args.seed.wrapping_add(index);
            let Some(world) = world_of(seed, chosen) else { return outcomes };
            let result = Simulation::new(world.clone(), seed).run(args.minutes);
            outcomes.push(Outcome { seed, result });
            done();
        }
    };
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..jobs).map(|_| scope.spawn(work)).collect();
        let mut outcomes = work();
        for other in others {
            match other.join() {
                Ok(more) => outcomes.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcomes
    });
    outcomes.sort_unstable_by_key(|outcome| outcome.seed.wrapping_sub(args.seed));
    outcomes
}

/// Seeds take the worlds in turn.
fn world_of(seed: u64, chosen: &[World]) -> Option<&World> {
    let count = u64::try_from(chosen.len()).ok()?;
    chosen.get(usize::try_from(seed.checked_rem(count)?).ok()?)
}

fn report(args: &LinkArgs, outcomes: &[Outcome], took: Duration) -> Report {
    let done = || outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
    let sum = |of: fn(&Summary) -> u64| done().map(of).sum();
    let violations = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    let hash_of = |outcome: &Outcome| match &outcome.result {
        Ok(summary) => summary.trace_hash,
        Err(finding) => finding.trace_hash,
    };
    let trace_hash = match outcomes {
        [one] => hash_of(one),
        _ => outcomes
            .iter()
            .map(hash_of)
            .fold(0, |all: u64, hash| (all ^ hash).wrapping_mul(0x9fb2_1c65_1e98_df25)),
    };
    let seeds = u64::try_from(outcomes.len()).unwrap_or(u64::MAX);
    let simulated_s = args.minutes.saturating_mul(60).saturating_mul(seeds) as f64;
    Report {
        seed: args.seed,
        seeds,
        minutes: args.minutes,
        messages: sum(|summary| summary.messages),
        faults: sum(|summary| summary.faults),
        disturbances: sum(|summary| summary.disturbances),
        resent_bytes: sum(|summary| summary.resent_bytes),
        marked_records: sum(|summary| summary.marked),
        violations: u64::try_from(violations).unwrap_or(u64::MAX),
        trace_hash: format!("{trace_hash:016x}"),
        speedup: (simulated_s / took.as_secs_f64().max(1e-6)).round(),
        events: sum(|summary| summary.events),
        seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
    }
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&[("", Align::Left), ("", Align::Right)], "");
    let last = report.seed.wrapping_add(report.seeds).wrapping_sub(1);
    let seeds = if report.seeds == 1 {
        report.seed.to_string()
    } else {
        format!("{} to {last}", report.seed)
    };
    table.row(["seed", &seeds]);
    table.row(["simulated, each", &format!("{} min", report.minutes)]);
    table.row(["messages delivered", &report.messages.to_string()]);
    table.row(["faults", &report.faults.to_string()]);
    table.row(["disturbances", &report.disturbances.to_string()]);
    table.row(["bytes sent again", &report.resent_bytes.to_string()]);
    table.row(["records marked", &report.marked_records.to_string()]);
    table.row(["events", &report.events.to_string()]);
    table.row(["violations", &report.violations.to_string()]);
    table.row(["trace hash", &report.trace_hash]);
    table.row(["faster than time", &format!("{} ×", report.speedup)]);
    table.row(["all in all", &format!("{:.3} s", report.seconds)]);
    table.to_string().trim_start_matches('\n').to_owned()
}

/// Says what did not hold: all of it for the first seed, a line for each other.
fn show_first(args: &LinkArgs, first: &Finding, outcomes: &[Outcome]) -> Failure {
    for finding in outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err()).skip(1) {
        output::say(&format!("also {finding}"));
    }
    let (seed, world, minutes) = (first.seed, first.world, args.minutes);
    show(first, &format!("hawser sim link --seed {seed} --minutes {minutes} --world {world}"))
}

#[cfg(test)]
mod tests {
    use hawser_sim::{Property, Violation};

    use super::*;

    #[test]
    fn every_world_has_its_seeds() {
        let chosen = worlds();
        let names: Vec<&str> =
            (0..chosen.len()).filter_map(|n| world_of(n as u64, &chosen)).map(|w| w.name).collect();
        let all: Vec<&str> = chosen.iter().map(|world| world.name).collect();
        assert_eq!(names, all);
    }

    fn args(seeds: u64, jobs: usize) -> LinkArgs {
        let jobs = NonZeroUsize::new(jobs);
        LinkArgs { seed: 3, minutes: 1, seeds, within: None, world: None, jobs }
    }

    #[test]
    fn a_seed_that_ends_with_a_violation_has_its_hash() {
        let at = hawser_wire::MonoTime::ZERO;
        let violation = Violation { property: Property::Load, at, detail: String::new() };
        let finding =
            Finding { seed: 3, world: "pair", violation, recent: Vec::new(), trace_hash: 0xabc };
        let outcomes = [Outcome { seed: 3, result: Err(Box::new(finding)) }];
        let report = report(&args(1, 1), &outcomes, Duration::from_secs(1));
        assert_eq!((report.violations, report.trace_hash.as_str()), (1, "0000000000000abc"));
    }

    #[test]
    fn several_jobs_come_to_the_same() {
        let hash = |jobs| {
            let args = args(4, jobs);
            report(&args, &run_seeds(&args, &worlds(), &|| ()), Duration::from_secs(1)).trace_hash
        };
        assert_eq!(hash(1), hash(3));
    }

    #[test]
    fn seeds_that_fit_are_the_first_ones() {
        let all = LinkArgs { within: Some(0), ..args(1000, 2) };
        let outcomes = run_seeds(&all, &worlds(), &|| ());
        let fitted = report(&all, &outcomes, Duration::from_secs(1));
        assert!((1..=2).contains(&fitted.seeds), "{}", fitted.seeds);
        let same = args(fitted.seeds, 1);
        let again = run_seeds(&same, &worlds(), &|| ());
        assert_eq!(report(&same, &again, Duration::from_secs(1)).trace_hash, fitted.trace_hash);
    }
}
