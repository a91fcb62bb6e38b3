//! `hawser-bench stripe`: what one stream gets of lanes that are limited one by one, over one of them
//! and striped over all.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use self::lane_shaper::LaneShaper;
use crate::chaos::ControlLatency;
use crate::chaos::flow::{Flow, FlowSpec};
use crate::chaos::namespaces::Namespaces;
use crate::chaos::pair::{Opener, Pair, PairSpec};
use crate::chaos::watcher::Account;
use crate::cores::Placement;
use crate::report::{Report, Rows, decimals, progress};

mod lane_shaper;

/// Bulk lanes that a link has at most.
const LANES: usize = 4;

/// How long the nodes may take to open them.
const LANES_PATIENCE: Duration = Duration::from_secs(120);

/// How often the harness looks for new lanes.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Payload that is sent, by what passes, headers included.
const OVERLOAD: f64 = 1.1;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StripeSpec<'a> {
    pub(crate) hawser: &'a Path,
    pub(crate) profile: Option<&'a str>,
    pub(crate) placement: Option<&'a Placement>,
    /// Of each bulk lane, in one direction.
    pub(crate) lane_mbit: u32,
    pub(crate) payload_bytes: usize,
    /// Windows of each kind, in turns.
    pub(crate) runs: usize,
    pub(crate) window_s: f64,
    /// How long the control class is measured, idle and beside the striped stream each.
    pub(crate) control_s: f64,
    pub(crate) warmup_s: f64,
}

/// The row that is printed; docs/benchmarks.md says what each field means.
#[derive(Debug, Serialize)]
pub(crate) struct StripeRow {
    lanes: usize,
    lane_mbps: u32,
    one_lane_mbps: f64,
    striped_mbps: f64,
    ratio: f64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    control_p99_us_idle: f64,
    control_p99_us_loaded: f64,
    // Beyond what is asked for.
    control_p50_us_idle: f64,
    control_p50_us_loaded: f64,
    messages: u64,
    payload: usize,
    lanes_open_s: f64,
    one_lane_runs_mbps: Vec<f64>,
    striped_runs_mbps: Vec<f64>,
}

/// Runs it from start to end.
pub(crate) async fn measure(spec: &StripeSpec<'_>) -> Result<StripeRow> {
    let placement = Placement::choose(1, spec.placement)?;
    let [a, b] = placement.nodes.as_slice() else { bail!("two nodes have to be placed") };
    let namespaces = Namespaces::start_wide().await?;
    let prefixes = namespaces.prefixes();
    let mut pair = Pair::start(&PairSpec {
        hawser: spec.hawser,
        profile: spec.profile,
        collapsed: false,
        cores: [a, b],
        listen: Namespaces::address(),
        advertise: Namespaces::address(),
        prefixes: prefixes.each_ref().map(Vec::as_slice),
    })
    .await?;
    let outcome = run(spec, &pair, &namespaces, &placement.near_client).await;
    let row = pair.explain(outcome)?;
    pair.stop().await?;
    Ok(row)
}

async fn run(
    spec: &StripeSpec<'_>,
    pair: &Pair,
    namespaces: &Namespaces,
    cores: &[usize],
) -> Result<StripeRow> {
    let mut shaper = LaneShaper::start(namespaces, spec.lane_mbit).await?;
    progress("bulk lanes");
    let began = Instant::now();
    let mut flow = begin(spec, pair, "first", true, cores).await?;
    while shaper.shape(pair).await? < LANES {
        flow.watcher.ensure_running()?;
        if began.elapsed() > LANES_PATIENCE {
            bail!("no {LANES} bulk lanes within {} s", LANES_PATIENCE.as_secs());
        }
        sleep(LOOK_INTERVAL).await;
    }
    let lanes_open_s = began.elapsed().as_secs_f64();
    let mut account = flow.finish().await?;
    let mut mbps = [Vec::new(), Vec::new()];
    for number in 1..=spec.runs {
        for (striped, runs) in [false, true].into_iter().zip(&mut mbps) {
            let kind = if striped { "striped" } else { "one-lane" };
            progress(&format!("{kind}, run {number}"));
            let name = format!("{kind}-{number}");
            let (carried, came) = window(spec, pair, &mut shaper, &name, striped, cores).await?;
            runs.push(carried);
            account = account.and(came);
        }
    }
    let control_window = Duration::from_secs_f64(spec.control_s);
    progress("control class, idle");
    let idle = ControlLatency::measure(pair.opener(), "idle", control_window).await?;
    progress("control class, beside the striped stream");
    let flow = begin(spec, pair, "beside", true, cores).await?;
    sleep(Duration::from_secs_f64(spec.warmup_s)).await;
    let loaded = ControlLatency::measure(pair.opener(), "loaded", control_window).await?;
    account = account.and(flow.finish().await?);
    let us = |latency: &ControlLatency, share| decimals(latency.quantile_us(share), 0);
    let [one, striped] = mbps;
    let (one_lane_mbps, striped_mbps) = (median(&one), median(&striped));
    let rounded = |runs: &[f64]| runs.iter().map(|&rate| decimals(rate, 2)).collect();
    Ok(StripeRow {
        lanes: LANES,
        lane_mbps: spec.lane_mbit,
        one_lane_mbps: decimals(one_lane_mbps, 2),
        striped_mbps: decimals(striped_mbps, 2),
        ratio: decimals(striped_mbps / one_lane_mbps, 3),
        lost: account.lost,
        duplicated: account.duplicated,
        reordered: account.reordered,
        control_p99_us_idle: us(&idle, 0.99),
        control_p99_us_loaded: us(&loaded, 0.99),
        control_p50_us_idle: us(&idle, 0.5),
        control_p50_us_loaded: us(&loaded, 0.5),
        messages: account.published,
        payload: spec.payload_bytes,
        lanes_open_s: decimals(lanes_open_s, 1),
        one_lane_runs_mbps: rounded(&one),
        striped_runs_mbps: rounded(&striped),
    })
}

/// A new stream, its subscriber at B, and its publisher, who sends a little more than passes.
async fn begin(
    spec: &StripeSpec<'_>,
    pair: &Pair,
    name: &str,
    striped: bool,
    cores: &[usize],
) -> Result<Flow> {
    let lanes = if striped { LANES } else { 1 };
    let bits_per_s = f64::from(spec.lane_mbit) * 1e6 * lanes as f64;
    let rate_per_s = OVERLOAD * bits_per_s / 8.0 / spec.payload_bytes as f64;
    let stream = Opener { stripe: striped, ..pair.opener() }.open_stream(name).await?;
    if !stream.pending_dst_nodes.is_empty() {
        bail!("{} did not confirm stream {name}", pair.b.name);
    }
    Flow::start(FlowSpec {
        from: &pair.a.socket,
        to: &pair.b.socket,
        stream_id: stream.stream_id,
        payload_bytes: spec.payload_bytes,
        rate_per_s: Some(rate_per_s),
        cores,
    })
    .await
}

/// Payload that came within a window, in megabits a second, and what came of the stream.
async fn window(
    spec: &StripeSpec<'_>,
    pair: &Pair,
    shaper: &mut LaneShaper<'_>,
    name: &str,
    striped: bool,
    cores: &[usize],
) -> Result<(f64, Account)> {
    let flow = begin(spec, pair, name, striped, cores).await?;
    sleep(Duration::from_secs_f64(spec.warmup_s)).await;
    let (began, before) = (Instant::now(), flow.watcher.received());
    sleep(Duration::from_secs_f64(spec.window_s)).await;
    let (seconds, after) = (began.elapsed().as_secs_f64(), flow.watcher.received());
    let lanes = shaper.shape(pair).await?;
    if lanes != LANES {
        bail!("{lanes} bulk lanes are left");
    }
    let account = flow.finish().await?;
    let bits = (after - before) as f64 * spec.payload_bytes as f64 * 8.0;
    Ok((bits / seconds / 1e6, account))
}

/// The one in the middle; the upper one of two.
fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

impl Report for StripeRow {
    fn has_loss(&self) -> bool {
        self.lost + self.duplicated + self.reordered > 0
    }

    fn rows(&self) -> Rows {
        let control = |p50: f64, p99: f64| format!("p50 {p50:.1} µs, p99 {p99:.1} µs");
        let wrong = format!("{}, {}, {}", self.lost, self.duplicated, self.reordered);
        vec![
            ("lanes", format!("{} of {} Mbit/s each", self.lanes, self.lane_mbps)),
            ("one lane", format!("{:.1} Mbit/s", self.one_lane_mbps)),
            ("striped", format!("{:.1} Mbit/s", self.striped_mbps)),
            ("ratio", format!("{:.2}", self.ratio)),
            ("lost, duplicated, reordered", wrong),
            ("control, idle", control(self.control_p50_us_idle, self.control_p99_us_idle)),
            ("control, loaded", control(self.control_p50_us_loaded, self.control_p99_us_loaded)),
            ("lanes were open after", format!("{:.1} s", self.lanes_open_s)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_one_that_was_measured() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 3.0);
        assert_eq!(median(&[]), 0.0);
    }
}
