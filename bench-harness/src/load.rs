//! `hawser-bench load`: how much a mesh of ours carries, and how long a message takes.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::chain;
use crate::cores::Placement;
use crate::machine::is_contended;
use crate::report::{Report, Rows, decimals};
use crate::run::{self, Load, LoadRun, Side};

/// Longest window of the chain, before and after the load each.
const CHAIN_WINDOW_MAX_S: f64 = 2.0;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadSpec<'a> {
    pub(crate) hawser: &'a Path,
    pub(crate) profile: Option<&'a str>,
    pub(crate) load: Load,
    pub(crate) placement: Option<&'a Placement>,
}

/// The row that is printed; the README of this package says what each field means.
#[derive(Debug, Serialize)]
pub(crate) struct LoadRow {
    hops: usize,
    payload: usize,
    msgs_per_s: f64,
    bytes_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    lost: u64,
    duplicated: u64,
    cpu_s_per_million: f64,
    rss_peak_mib: f64,
    chain_bytes_per_s: f64,
    ratio_to_chain: f64,
    // Beyond what every row of every tool has.
    reordered: u64,
    max_us: f64,
    published: u64,
    delivered: u64,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    profile: String,
    /// CPU seconds per million messages of each process: nodes in order, publisher, subscriber.
    cpu_s_per_million_by_process: Vec<f64>,
    /// Before and after the load.
    chain_runs_bytes_per_s: [f64; 2],
    steal: f64,
    foreign_cpu: f64,
    /// Another guest of the host took more than a tenth of the machine: do not quote this row.
    noisy: bool,
    /// Processes of others took more than a tenth of the machine: do not quote this row either.
    contended: bool,
}

/// Runs the load with the chain before and after it.
pub(crate) async fn measure(spec: LoadSpec<'_>) -> Result<LoadRow> {
    let load = spec.load;
    let placement = Placement::choose(load.hops, spec.placement)?;
    let side = Side::Ours { hawser: spec.hawser, profile: spec.profile };
    let chain_s = load.window_s.min(CHAIN_WINDOW_MAX_S);
    let before = chain::measure_aside(placement.chain.clone(), chain_s).await?;
    let run = run::load(side, &load, &placement).await?;
    let after = chain::measure_aside(placement.chain.clone(), chain_s).await?;
    Ok(LoadRow::new(&load, spec.profile, &run, [before, after]))
}

impl LoadRow {
    fn new(load: &Load, profile: Option<&str>, run: &LoadRun, chain: [f64; 2]) -> Self {
        let received = &run.received;
        let msgs_per_s = received.messages_per_s();
        let bytes_per_s = msgs_per_s * load.payload_bytes as f64;
        let chain_bytes_per_s = f64::midpoint(chain[0], chain[1]);
        let per_million = 1e6 / received.window_messages.max(1) as f64;
        let by_process = run.consumption.processes_s.iter();
        Self {
            hops: load.hops,
            payload: load.payload_bytes,
            msgs_per_s: decimals(msgs_per_s, 1),
            bytes_per_s: decimals(bytes_per_s, 0),
            p50_us: decimals(received.latency.p50_us, 1),
            p99_us: decimals(received.latency.p99_us, 1),
            p999_us: decimals(received.latency.p999_us, 1),
            lost: received.lost,
            duplicated: received.duplicated,
            cpu_s_per_million: decimals(run.cpu_s_per_million(), 3),
            rss_peak_mib: decimals(run.rss_peak_bytes as f64 / f64::from(1 << 20), 1),
            chain_bytes_per_s: decimals(chain_bytes_per_s, 0),
            ratio_to_chain: decimals(bytes_per_s / chain_bytes_per_s, 4),
            reordered: received.reordered,
            max_us: decimals(received.latency.max_us, 1),
            published: run.published,
            delivered: received.delivered,
            seconds: decimals(received.window_s, 3),
            rate: load.rate_per_s,
            profile: profile.unwrap_or("balanced").to_owned(),
            cpu_s_per_million_by_process: by_process
                .map(|cpu_s| decimals(cpu_s * per_million, 3))
                .collect(),
            chain_runs_bytes_per_s: chain.map(|rate| decimals(rate, 0)),
            steal: decimals(run.consumption.steal, 4),
            foreign_cpu: decimals(run.consumption.foreign_cpu, 4),
            noisy: run.consumption.steal > crate::peers::STEAL_MAX,
            contended: is_contended(run.consumption.foreign_cpu),
        }
    }
}

impl Report for LoadRow {
    fn has_loss(&self) -> bool {
        self.lost + self.duplicated > 0
    }

    fn rows(&self) -> Rows {
        let chain = format!(
            "{:.0} MB/s, of which this is {:.2}",
            self.chain_bytes_per_s / 1e6,
            self.ratio_to_chain
        );
        let latency = format!(
            "p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs",
            self.p50_us, self.p99_us, self.p999_us
        );
        let noise = format!(
            "steal {:.1} %, other processes {:.1} %{}",
            self.steal * 1e2,
            self.foreign_cpu * 1e2,
            if self.noisy || self.contended { ": too noisy to quote" } else { "" }
        );
        vec![
            ("links, payload", format!("{}, {} B", self.hops, self.payload)),
            ("messages", format!("{:.0} /s", self.msgs_per_s)),
            ("bytes", format!("{:.1} MB/s", self.bytes_per_s / 1e6)),
            ("latency", latency),
            ("lost, duplicated", format!("{}, {}", self.lost, self.duplicated)),
            ("CPU", format!("{:.3} µs/message", self.cpu_s_per_million)),
            ("memory of a node", format!("{:.1} MiB", self.rss_peak_mib)),
            ("chain of sockets", chain),
            ("machine", noise),
        ]
    }
}
