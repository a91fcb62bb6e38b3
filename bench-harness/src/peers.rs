//! `hawser-bench peers`: the same load through a mesh of ours and through nats-servers, in turns.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cores::Placement;
use crate::machine::is_contended;
use crate::nats::install::NatsServer;
use crate::report::{Report, Rows, decimals, progress};
use crate::run::{self, Load, LoadRun, LoneRun, Side, median};

/// A run during which the hypervisor took more than this share of the machine says nothing.
pub(crate) const STEAL_MAX: f64 = 0.1;

/// After so many discarded runs, what comes is taken as it is, and the row says so.
const DISCARDED_MAX: usize = 10;

/// So many runs of the peer are repeated when they fail: by default it cuts off a subscriber that is
/// 64 MiB behind. After that they are left out, and the row says that it is noisy.
const PEER_FAILURES_MAX: usize = 10;

/// Bytes of a lone message.
const LONE_BYTES: usize = 64;

/// What is to be compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeersSpec<'a> {
    pub(crate) hawser: &'a Path,
    pub(crate) profile: Option<&'a str>,
    pub(crate) nats: &'a NatsServer,
    pub(crate) seconds: f64,
    pub(crate) warmup_s: f64,
    /// Runs of each side.
    pub(crate) runs: usize,
    pub(crate) placement: Option<&'a Placement>,
}

/// The row that is printed; the README of this package says what each field means.
#[derive(Debug, Serialize)]
pub(crate) struct PeersRow {
    peer: String,
    hops: usize,
    payload: usize,
    ours_msgs_per_s: f64,
    peer_msgs_per_s: f64,
    ratio: f64,
    ours_p50_us: f64,
    peer_p50_us: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    noisy: bool,
    // Beyond what every row of every tool has.
    /// Processes of others took more than a tenth of the machine during a run that counts.
    contended: bool,
    /// CPU per message of the peer over ours: steadier than the ratio of rates.
    cpu_ratio: f64,
    p50_ratio: f64,
    profile: String,
    ours_cpu_s_per_million: f64,
    peer_cpu_s_per_million: f64,
    ours_lost: u64,
    ours_duplicated: u64,
    peer_lost: u64,
    /// Runs that the peer ended, by cutting off its subscriber.
    peer_failed: usize,
    discarded: usize,
    ours_runs: Vec<RunRow>,
    peer_runs: Vec<RunRow>,
    ours_lone_runs: Vec<LoneRow>,
    peer_lone_runs: Vec<LoneRow>,
}

/// One run as it was.
#[derive(Clone, Debug, Serialize)]
struct RunRow {
    msgs_per_s: f64,
    cpu_s_per_million: f64,
    rss_peak_mib: f64,
    steal: f64,
    foreign_cpu: f64,
}

/// One run of lone messages as it was.
#[derive(Clone, Debug, Serialize)]
struct LoneRow {
    rounds: u64,
    p50_us: f64,
    p99_us: f64,
    steal: f64,
    foreign_cpu: f64,
}

/// Round trips over so many links, ours and theirs; the same for every payload.
#[derive(Debug)]
pub(crate) struct LonePair {
    ours: Vec<LoneRun>,
    peer: Vec<LoneRun>,
    patience: Patience,
}

/// Counts discarded runs.
#[derive(Clone, Copy, Debug, Default)]
struct Patience {
    discarded: usize,
    noisy: bool,
    peer_failed: usize,
}

impl Patience {
    /// Whether a run with this much steal is to be repeated.
    fn discards(&mut self, steal: f64) -> bool {
        if steal <= STEAL_MAX {
            return false;
        }
        if self.discarded == DISCARDED_MAX {
            self.noisy = true;
            return false;
        }
        self.discarded += 1;
        true
    }
}

impl Patience {
    /// Repeats `run` until one counts. None: the peer failed too often, and this run is left out.
    ///
    /// # Errors
    /// If a run of ours failed.
    async fn repeat<T, F>(
        &mut self,
        side: Side<'_>,
        steal: fn(&T) -> f64,
        mut run: impl FnMut() -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            match (run().await, side) {
                (Ok(run), _) if self.discards(steal(&run)) => {}
                (Ok(run), _) => return Ok(Some(run)),
                (Err(error), Side::Ours { .. }) => return Err(error),
                (Err(error), Side::Peer { .. }) => {
                    progress(&format!("{}: {}", side.name(), error.root_cause()));
                    self.peer_failed += 1;
                    if self.peer_failed > PEER_FAILURES_MAX {
                        self.noisy = true;
                        return Ok(None);
                    }
                }
            }
        }
    }
}

impl PeersSpec<'_> {
    const fn ours(&self) -> Side<'_> {
        Side::Ours { hawser: self.hawser, profile: self.profile }
    }

    const fn peer(&self) -> Side<'_> {
        Side::Peer { nats: self.nats }
    }

    const fn load(&self, hops: usize, payload_bytes: usize) -> Load {
        Load {
            hops,
            payload_bytes,
            warmup_s: self.warmup_s,
            window_s: self.seconds,
            rate_per_s: None,
        }
    }

    /// Measures the round trips of lone messages over `hops` links.
    pub(crate) async fn measure_lone(&self, hops: usize) -> Result<LonePair> {
        let placement = Placement::choose(hops, self.placement)?;
        let load = self.load(hops, LONE_BYTES);
        let mut pair =
            LonePair { ours: Vec::new(), peer: Vec::new(), patience: Patience::default() };
        for n in 1..=self.runs {
            for (side, runs) in [(self.ours(), &mut pair.ours), (self.peer(), &mut pair.peer)] {
                let run = || run::lone(side, &load, &placement);
                let Some(run) = pair.patience.repeat(side, |run| run.steal, run).await? else {
                    continue;
                };
                let (name, p50_us) = (side.name(), run.round_trip.p50_us);
                progress(&format!("{hops} links, lone, {name} {n}: p50 {p50_us:.0} µs"));
                runs.push(run);
            }
        }
        Ok(pair)
    }

    /// Measures the load of one payload over `hops` links.
    pub(crate) async fn measure(
        &self,
        hops: usize,
        payload_bytes: usize,
        lone: &LonePair,
    ) -> Result<PeersRow> {
        let placement = Placement::choose(hops, self.placement)?;
        let load = self.load(hops, payload_bytes);
        let mut patience = Patience::default();
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for n in 1..=self.runs {
            for (side, runs) in [(self.ours(), &mut ours), (self.peer(), &mut peer)] {
                let run = || run::load(side, &load, &placement);
                let steal = |run: &LoadRun| run.consumption.steal;
                let Some(run) = patience.repeat(side, steal, run).await? else {
                    continue;
                };
                let (name, rate) = (side.name(), run.received.messages_per_s());
                progress(&format!("{hops} links, {payload_bytes} B, {name} {n}: {rate:.0} msg/s"));
                runs.push(run);
            }
        }
        self.row(&load, &ours, &peer, lone, patience)
    }

    fn row(
        &self,
        load: &Load,
        ours: &[LoadRun],
        peer: &[LoadRun],
        lone: &LonePair,
        patience: Patience,
    ) -> Result<PeersRow> {
        let (ours_rate, peer_rate) = (median_of(ours, rate)?, median_of(peer, rate)?);
        let (ours_p50, peer_p50) = (median_of(&lone.ours, p50)?, median_of(&lone.peer, p50)?);
        let (ours_cpu, peer_cpu) = (median_of(ours, cpu)?, median_of(peer, cpu)?);
        let loads = ours.iter().chain(peer).map(|run| run.consumption.foreign_cpu);
        let lones = lone.ours.iter().chain(&lone.peer).map(|run| run.foreign_cpu);
        let sum = |runs: &[LoadRun], value: fn(&LoadRun) -> u64| runs.iter().map(value).sum();
        Ok(PeersRow {
            peer: format!("nats-server {}", self.nats.version),
            hops: load.hops,
            payload: load.payload_bytes,
            ours_msgs_per_s: decimals(ours_rate, 1),
            peer_msgs_per_s: decimals(peer_rate, 1),
            ratio: decimals(ours_rate / peer_rate, 3),
            ours_p50_us: decimals(ours_p50, 1),
            peer_p50_us: decimals(peer_p50, 1),
            noisy: patience.noisy || lone.patience.noisy,
            contended: loads.chain(lones).any(is_contended),
            // Of a short run, the ticks can be none.
            cpu_ratio: if ours_cpu > 0.0 { decimals(peer_cpu / ours_cpu, 3) } else { 0.0 },
            p50_ratio: decimals(ours_p50 / peer_p50, 3),
            profile: self.profile.unwrap_or("balanced").to_owned(),
            ours_cpu_s_per_million: decimals(ours_cpu, 3),
            peer_cpu_s_per_million: decimals(peer_cpu, 3),
            ours_lost: sum(ours, |run| run.received.lost),
            ours_duplicated: sum(ours, |run| run.received.duplicated),
            peer_lost: sum(peer, |run| run.received.lost),
            peer_failed: patience.peer_failed + lone.patience.peer_failed,
            discarded: patience.discarded + lone.patience.discarded,
            ours_runs: ours.iter().map(RunRow::from).collect(),
            peer_runs: peer.iter().map(RunRow::from).collect(),
            ours_lone_runs: lone.ours.iter().map(LoneRow::from).collect(),
            peer_lone_runs: lone.peer.iter().map(LoneRow::from).collect(),
        })
    }
}

fn rate(run: &LoadRun) -> f64 {
    run.received.messages_per_s()
}

fn cpu(run: &LoadRun) -> f64 {
    run.cpu_s_per_million()
}

fn p50(run: &LoneRun) -> f64 {
    run.round_trip.p50_us
}

fn median_of<T>(runs: &[T], value: fn(&T) -> f64) -> Result<f64> {
    median(&runs.iter().map(value).collect::<Vec<_>>()).context("not one run came to its end")
}

impl From<&LoadRun> for RunRow {
    fn from(run: &LoadRun) -> Self {
        Self {
            msgs_per_s: decimals(rate(run), 1),
            cpu_s_per_million: decimals(run.cpu_s_per_million(), 3),
            rss_peak_mib: decimals(run.rss_peak_bytes as f64 / f64::from(1 << 20), 1),
            steal: decimals(run.consumption.steal, 4),
            foreign_cpu: decimals(run.consumption.foreign_cpu, 4),
        }
    }
}

impl From<&LoneRun> for LoneRow {
    fn from(run: &LoneRun) -> Self {
        Self {
            rounds: run.rounds,
            p50_us: decimals(run.round_trip.p50_us, 1),
            p99_us: decimals(run.round_trip.p99_us, 1),
            steal: decimals(run.steal, 4),
            foreign_cpu: decimals(run.foreign_cpu, 4),
        }
    }
}

impl Report for PeersRow {
    fn has_loss(&self) -> bool {
        self.ours_lost + self.ours_duplicated > 0
    }

    fn rows(&self) -> Rows {
        let noise = if self.noisy || self.contended { " (too noisy to quote)" } else { "" };
        vec![
            ("links, payload", format!("{}, {} B{noise}", self.hops, self.payload)),
            ("hawser", format!("{:.0} msg/s", self.ours_msgs_per_s)),
            ("peer", format!("{:.0} msg/s, {}", self.peer_msgs_per_s, self.peer)),
            ("ratio", format!("{:.2}", self.ratio)),
            (
                "CPU",
                format!(
                    "{:.3} against {:.3} µs/message",
                    self.ours_cpu_s_per_million, self.peer_cpu_s_per_million
                ),
            ),
            (
                "lone round trip",
                format!("p50 {:.0} against {:.0} µs", self.ours_p50_us, self.peer_p50_us),
            ),
            (
                "lost, duplicated",
                format!(
                    "{}, {}; by the peer {}",
                    self.ours_lost, self.ours_duplicated, self.peer_lost
                ),
            ),
            (
                "repeated runs",
                format!("{} for steal, {} that the peer ended", self.discarded, self.peer_failed),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noisy_runs_are_repeated_ten_times_and_then_taken() {
        let mut patience = Patience::default();
        assert!(!patience.discards(STEAL_MAX));
        for _ in 0..DISCARDED_MAX {
            assert!(patience.discards(0.2));
        }
        assert!(!patience.noisy, "nothing noisy was taken yet");
        assert!(!patience.discards(0.05));
        assert!(!patience.noisy);
        assert!(!patience.discards(0.2));
        assert!(patience.noisy);
    }
}
