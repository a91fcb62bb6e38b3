//! `hawser sim mesh`.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use hawser_sim::{GraphKind, MeshFaults, MeshGraph, MeshSimulation, MeshSummary, NODES_MAX};
use serde::Serialize;

use super::mesh_keys::SeededKeys;
use super::{mesh_faults, show};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::plan;
use crate::cli::table::{Align, Table};

const NODES_DEFAULT: u64 = 100;

#[derive(Args, Debug)]
pub(crate) struct MeshArgs {
    /// Nodes of the mesh [default: 100]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(2..=NODES_MAX as u64)
    )]
    nodes: Option<u64>,
    /// How nodes are linked.
    #[arg(long, value_name = "GRAPH", default_value = "waxman")]
    graph: Graph,
    /// With `--graph file`: the mesh, as `hawser plan` reads it.
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// What goes wrong: how many links are cut, nodes killed and partitions made, one after the
    /// other, and which share of all messages is lost all the time.
    #[arg(
        long,
        value_name = "link-cut=N,node-kill=N,partition=N,loss=P",
        default_value = "link-cut=3,node-kill=2,partition=1",
        value_parser = mesh_faults::parse
    )]
    faults: MeshFaults,
    /// Names the history: the same seed gives the same one.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Graph {
    /// Random points, near ones linked rather than far ones, about 5 links a node.
    Waxman,
    /// Each new node links to 2 old ones, many-linked ones rather than others.
    Ba,
    /// A ring, and a chord to anywhere at each node.
    Ring,
    /// Core, aggregation and edge switches, and hosts.
    FatTree,
    /// The one in `--topology`.
    File,
}

impl Graph {
    const fn kind(self) -> Option<GraphKind> {
        match self {
            Self::Waxman => Some(GraphKind::Waxman),
            Self::Ba => Some(GraphKind::BarabasiAlbert),
            Self::Ring => Some(GraphKind::Ring),
            Self::FatTree => Some(GraphKind::FatTree),
            Self::File => None,
        }
    }
}

/// The last line of `--json`. Figures but `loops` are null if a property did not hold.
#[derive(Debug, Serialize)]
struct Report {
    nodes: usize,
    seed: u64,
    convergence_ms_p50: Option<f64>,
    convergence_ms_p99: Option<f64>,
    messages_per_event_per_node: Option<f64>,
    false_positives: Option<u64>,
    loops: u64,
    blackhole_ms: Option<u64>,
    violations: u64,
    graph: &'static str,
    links: usize,
    faults: String,
    events: Option<u64>,
    start: Option<&'static str>,
    start_ms: Option<u64>,
    blackhole_ms_mean: Option<f64>,
    pairs: Option<u64>,
    death_known_ms_max: Option<u64>,
    parted_known_ms_max: Option<u64>,
    late_verdicts: Option<u64>,
    membership_messages_per_node_per_s: Option<f64>,
    signatures: Option<u64>,
    simulated_s: Option<f64>,
    happenings: Option<u64>,
    /// Sixteen hexadecimal digits.
    trace_hash: Option<String>,
    seconds: f64,
}

/// # Errors
/// Arguments that make no sense, a file that cannot be read;
/// [`Exit::Loss`](crate::cli::failure::Exit::Loss) if a property did not hold.
pub(super) fn run(args: &MeshArgs, out: Output) -> Result<(), Failure> {
    let graph = graph(args)?;
    let started = Instant::now();
    let keys = Box::new(SeededKeys::new(graph.nodes(), args.seed)?);
    let bar = out.steps();
    let result = MeshSimulation::new(&graph, args.faults, args.seed, keys).run(&mut |progress| {
        bar.set_length(progress.events_in_all);
        bar.set_position(progress.events);
        bar.set_message(progress.what);
    });
    bar.finish_and_clear();
    let seconds = rounded(started.elapsed().as_secs_f64());
    // Who sees a loop stops: what held has none.
    let loops = result.as_ref().err().map_or(0, |failure| failure.loops());
    let report = report(args, &graph, result.as_ref().ok(), loops, seconds);
    out.value(&report, || text(&report))?;
    result.map(drop).map_err(|failure| show(&failure, &again(args)))
}

fn graph(args: &MeshArgs) -> Result<MeshGraph, Failure> {
    let file = match (args.graph.kind(), &args.topology) {
        (Some(kind), None) => {
            let nodes = args.nodes.unwrap_or(NODES_DEFAULT);
            let nodes = usize::try_from(nodes).unwrap_or(NODES_MAX);
            return Ok(MeshGraph::draw(kind, nodes, args.seed));
        }
        (Some(_), Some(_)) => {
            return Err(Failure::usage("--topology goes with --graph file"));
        }
        (None, None) => {
            return Err(Failure::usage("--graph file needs the file: --topology FILE"));
        }
        (None, Some(file)) => file,
    };
    let topology = plan::read_topology(file)?;
    let has = topology.nodes();
    if args.nodes.is_some_and(|nodes| usize::try_from(nodes) != Ok(has)) {
        return Err(Failure::usage(format!(
            "{} has {has} nodes: leave --nodes out, or say the same",
            file.display()
        )));
    }
    if !(2..=NODES_MAX).contains(&has) {
        return Err(Failure::usage(format!(
            "{} has {has} nodes; 2 to {NODES_MAX} can be simulated",
            file.display()
        )));
    }
    Ok(MeshGraph::of_topology(&topology))
}

fn report(
    args: &MeshArgs,
    graph: &MeshGraph,
    summary: Option<&MeshSummary>,
    loops: u64,
    seconds: f64,
) -> Report {
    let of = |figure: fn(&MeshSummary) -> u64| summary.map(figure);
    let rate = |figure: fn(&MeshSummary) -> f64| summary.map(|summary| rounded(figure(summary)));
    Report {
        nodes: graph.nodes(),
        seed: args.seed,
        convergence_ms_p50: rate(|summary| summary.convergence_ms_p50),
        convergence_ms_p99: rate(|summary| summary.convergence_ms_p99),
        messages_per_event_per_node: rate(|summary| summary.messages_per_event_per_node),
        false_positives: of(|summary| summary.false_positives),
        loops,
        blackhole_ms: of(|summary| summary.blackhole_ms),
        violations: u64::from(summary.is_none()),
        graph: args.graph.kind().map_or("file", GraphKind::name),
        links: graph.links(),
        faults: mesh_faults::text(&args.faults),
        events: of(|summary| summary.events),
        start: summary.map(|summary| if summary.start_ms.is_some() { "empty" } else { "full" }),
        start_ms: summary.and_then(|summary| summary.start_ms),
        blackhole_ms_mean: rate(|summary| summary.blackhole_ms_mean),
        pairs: of(|summary| summary.pairs),
        death_known_ms_max: summary.and_then(|summary| summary.death_known_ms_max),
        parted_known_ms_max: summary.and_then(|summary| summary.parted_known_ms_max),
        late_verdicts: of(|summary| summary.late_verdicts),
        membership_messages_per_node_per_s: rate(|summary| {
            summary.membership_messages_per_node_per_s
        }),
        signatures: of(|summary| summary.signatures),
        simulated_s: rate(|summary| summary.simulated.as_secs_f64()),
        happenings: of(|summary| summary.happenings),
        trace_hash: summary.map(|summary| format!("{:016x}", summary.trace_hash)),
        seconds,
    }
}

/// To three decimal places.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&[("", Align::Left), ("", Align::Right)], "");
    let graph = format!("{}, {} nodes, {} links", report.graph, report.nodes, report.links);
    table.row(["graph", &graph]);
    table.row(["faults", if report.faults.is_empty() { "none" } else { &report.faults }]);
    table.row(["seed", &report.seed.to_string()]);
    table.row(["violations", &report.violations.to_string()]);
    let ms = |value: Option<u64>| value.map(|ms| format!("{ms} ms"));
    let count = |value: Option<u64>| value.map(|count| count.to_string());
    let fraction = |value: Option<f64>, unit: &str| value.map(|value| format!("{value}{unit}"));
    for (name, value) in [
        ("start until all agree", ms(report.start_ms)),
        ("events", count(report.events)),
        ("convergence p50", fraction(report.convergence_ms_p50, " ms")),
        ("convergence p99", fraction(report.convergence_ms_p99, " ms")),
        ("messages, event and node", fraction(report.messages_per_event_per_node, "")),
        ("death known after at most", ms(report.death_known_ms_max)),
        ("partition known after at most", ms(report.parted_known_ms_max)),
        ("false verdicts", count(report.false_positives)),
        ("loops", Some(report.loops.to_string())),
        ("longest black hole", ms(report.blackhole_ms)),
        ("simulated", fraction(report.simulated_s, " s")),
        ("trace hash", report.trace_hash.clone()),
    ] {
        if let Some(value) = value {
            table.row([name, &value]);
        }
    }
    table.row(["all in all", &format!("{:.3} s", report.seconds)]);
    table.to_string().trim_start_matches('\n').to_owned()
}

/// The command that runs the same history.
fn again(args: &MeshArgs) -> String {
    let mesh = match (&args.topology, args.graph.kind()) {
        (Some(file), _) => format!("--graph file --topology {}", file.display()),
        (None, kind) => {
            let (name, nodes) = (kind.map_or("file", GraphKind::name), args.nodes);
            format!("--nodes {} --graph {name}", nodes.unwrap_or(NODES_DEFAULT))
        }
    };
    let (faults, seed) = (mesh_faults::text(&args.faults), args.seed);
    format!("hawser sim mesh {mesh} --faults '{faults}' --seed {seed}")
}
