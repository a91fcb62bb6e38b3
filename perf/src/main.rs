//! Micro-benchmarks of one component in process.
//!
//! Each row is the median, the smallest and the largest of several runs; the runs of the cases that
//! are compared alternate, so that a busy machine slows all of them and their ratio stays. Whole
//! daemons are measured by `bench-harness`.

mod aead;
mod codec;
mod cores;
mod lane;
mod membership;
mod ring;
mod routing;
mod row;
mod runtimes;
mod timing;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::row::Rows;

#[derive(Debug, Parser)]
#[command(name = "hawser-perf", about = "Micro-benchmarks of one component in process.")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// One JSON object a line instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Runs of each case; the median is the figure.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How long one run measures, in milliseconds.
    #[arg(long, global = true, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    sample_ms: u64,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum What {
    /// Frames and records: encode, relay, decode.
    Codec,
    /// Rings between two threads, busy and asleep.
    Ring,
    /// Ciphers of the payload.
    Aead,
    /// TLS and WebSocket of a lane, without sockets; masking is what the client pays more.
    Lane,
    /// Path computation beside petgraph's Dijkstra, on five families of graphs; beside pathfinding
    /// where it is built in.
    Routing {
        /// Graphs of so many nodes [default: 1000 and 10000]
        #[arg(long, value_parser = clap::value_parser!(u32).range(2..=16_384))]
        nodes: Option<u32>,
        /// Graphs of this family [default: all]
        #[arg(long)]
        family: Option<routing::Family>,
    },
    /// One of these graphs as a topology file, for programs that are measured beside this one.
    Graph {
        #[arg(long)]
        family: routing::Family,
        #[arg(long)]
        nodes: u32,
    },
    /// Membership of 1,000 simulated nodes: deaths, loss, rest; beside foca where it is built in.
    Membership,
    /// TCP over loopback: blocking sockets, tokio, monoio, and glommio where it is built in.
    Runtimes,
    /// All of the above.
    All,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let What::Graph { family, nodes } = arguments.what {
        writeln!(std::io::stdout().lock(), "{}", routing::topology_file(family, nodes))?;
        return Ok(ExitCode::SUCCESS);
    }
    let sample = Duration::from_millis(arguments.sample_ms);
    let mut rows = Rows::new(arguments.json, arguments.runs);
    let all = matches!(arguments.what, What::All);
    if all || matches!(arguments.what, What::Codec) {
        codec::measure(&mut rows, sample)?;
    }
    if all || matches!(arguments.what, What::Ring) {
        ring::measure(&mut rows, sample)?;
    }
    if all || matches!(arguments.what, What::Aead) {
        aead::measure(&mut rows, sample)?;
    }
    if all || matches!(arguments.what, What::Lane) {
        lane::measure(&mut rows, sample)?;
    }
    if let What::Routing { nodes, family } = arguments.what {
        routing::measure(&mut rows, nodes, family)?;
    } else if all {
        routing::measure(&mut rows, None, None)?;
    }
    if all || matches!(arguments.what, What::Membership) {
        membership::measure(&mut rows)?;
    }
    if all || matches!(arguments.what, What::Runtimes) {
        runtimes::measure(&mut rows, sample)?;
    }
    rows.finish()
}
