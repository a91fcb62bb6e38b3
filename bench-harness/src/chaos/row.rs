//! What a chaos run came to.

use serde::Serialize;

use super::isolation::Round;
use super::probe::{ControlLatency, quantile};
use super::scenario::Recovery;
use super::watcher::Account;
use crate::report::{Report, Rows, decimals};
use crate::run::median;

/// The row that is printed; docs/cli.md says what each field means.
#[derive(Debug, Serialize)]
pub(crate) struct ChaosRow {
    scenario: &'static str,
    messages: u64,
    faults: usize,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    resume_ms_p50: Option<f64>,
    resume_ms_p99: Option<f64>,
    control_p99_us_idle: Option<f64>,
    control_p99_us_loaded: Option<f64>,
    // Beyond what every such row has.
    control_p50_us_idle: Option<f64>,
    control_p50_us_loaded: Option<f64>,
    control_exchanges: Option<[usize; 2]>,
    delivery_ms_p50: Option<f64>,
    delivery_ms_p99: Option<f64>,
    whole_ms_p50: Option<f64>,
    whole_ms_p99: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_resume_ms_p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_resume_ms_p99: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throughput: Option<Throughput>,
    seed: u64,
    profile: String,
    collapsed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bulk_lanes: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_mbit: Option<u32>,
}

/// What was run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) scenario: &'static str,
    pub(crate) seed: u64,
    pub(crate) profile: Option<&'a str>,
    pub(crate) collapsed: bool,
    /// Of a striped stream, when the control class was measured beside it: at first, and at last.
    pub(crate) bulk_lanes: Option<[usize; 2]>,
    pub(crate) rate_mbit: Option<u32>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) enum Measured {
    /// `control`: idle, loaded.
    Recoveries { recoveries: Vec<Recovery>, control: [ControlLatency; 2] },
    /// Of one stream while another one is obstructed.
    Rounds(Vec<Round>),
}

/// Of the stream that nothing obstructs, medians of all rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Throughput {
    /// While nothing obstructs the other stream either.
    before_msgs_per_s: f64,
    during_msgs_per_s: f64,
    /// The latter by the former of each round.
    ratio: f64,
    ratio_min: f64,
}

impl Throughput {
    fn of(rounds: &[Round]) -> Option<Self> {
        let median =
            |part: fn(&Round) -> f64| median(&rounds.iter().map(part).collect::<Vec<f64>>()).ok();
        let least = rounds.iter().map(Round::ratio).min_by(f64::total_cmp)?;
        Some(Self {
            before_msgs_per_s: decimals(median(|round| round.before_per_s)?, 1),
            during_msgs_per_s: decimals(median(|round| round.during_per_s)?, 1),
            ratio: decimals(median(Round::ratio)?, 3),
            ratio_min: decimals(least, 3),
        })
    }
}

impl ChaosRow {
    pub(crate) fn new(subject: Subject<'_>, account: Account, measured: &Measured) -> Self {
        let (recoveries, control, rounds) = match measured {
            Measured::Recoveries { recoveries, control } => {
                (recoveries.as_slice(), Some(control), [].as_slice())
            }
            Measured::Rounds(rounds) => ([].as_slice(), None, rounds.as_slice()),
        };
        let of = |part: fn(&Recovery) -> Option<f64>, share| {
            let mut sorted: Vec<f64> = recoveries.iter().filter_map(part).collect();
            sorted.sort_by(f64::total_cmp);
            quantile(&sorted, share).map(|value| decimals(value, 2))
        };
        let control_us = |n: usize, share| {
            let latency = control?.get(n)?;
            Some(decimals(latency.quantile_us(share), 0))
        };
        Self {
            scenario: subject.scenario,
            messages: account.published,
            faults: recoveries.len() + rounds.len(),
            lost: account.lost,
            duplicated: account.duplicated,
            reordered: account.reordered,
            resume_ms_p50: of(|recovery| Some(recovery.resume_ms), 0.5),
            resume_ms_p99: of(|recovery| Some(recovery.resume_ms), 0.99),
            control_p99_us_idle: control_us(0, 0.99),
            control_p99_us_loaded: control_us(1, 0.99),
            control_p50_us_idle: control_us(0, 0.5),
            control_p50_us_loaded: control_us(1, 0.5),
            control_exchanges: control.map(|both| both.each_ref().map(ControlLatency::exchanges)),
            delivery_ms_p50: of(|recovery| Some(recovery.delivery_ms), 0.5),
            delivery_ms_p99: of(|recovery| Some(recovery.delivery_ms), 0.99),
            whole_ms_p50: of(|recovery| Some(recovery.whole_ms), 0.5),
            whole_ms_p99: of(|recovery| Some(recovery.whole_ms), 0.99),
            control_resume_ms_p50: of(|recovery| recovery.control_ms, 0.5),
            control_resume_ms_p99: of(|recovery| recovery.control_ms, 0.99),
            throughput: Throughput::of(rounds),
            seed: subject.seed,
            profile: subject.profile.unwrap_or("balanced").to_owned(),
            collapsed: subject.collapsed,
            bulk_lanes: subject.bulk_lanes,
            rate_mbit: subject.rate_mbit,
        }
    }
}

impl Report for ChaosRow {
    fn has_loss(&self) -> bool {
        self.lost + self.duplicated + self.reordered > 0
    }

    fn rows(&self) -> Rows {
        let quantiles = |p50: Option<f64>, p99: Option<f64>, unit| match (p50, p99) {
            (Some(p50), Some(p99)) => format!("p50 {p50:.1} {unit}, p99 {p99:.1} {unit}"),
            _ => "-".to_owned(),
        };
        let millis = |p50, p99| quantiles(p50, p99, "ms");
        let control = |p50, p99| quantiles(p50, p99, "µs");
        let throughput = self.throughput.map_or_else(
            || "-".to_owned(),
            |throughput| {
                let Throughput { before_msgs_per_s, during_msgs_per_s, ratio, .. } = throughput;
                format!("{during_msgs_per_s:.0} /s, of {before_msgs_per_s:.0} before: {ratio:.2}")
            },
        );
        let wrong = format!("{}, {}, {}", self.lost, self.duplicated, self.reordered);
        vec![
            ("scenario, seed", format!("{}, {}", self.scenario, self.seed)),
            ("messages, faults", format!("{}, {}", self.messages, self.faults)),
            ("lost, duplicated, reordered", wrong),
            ("traffic resumed", millis(self.resume_ms_p50, self.resume_ms_p99)),
            ("delivered again", millis(self.delivery_ms_p50, self.delivery_ms_p99)),
            ("link whole", millis(self.whole_ms_p50, self.whole_ms_p99)),
            ("control resumed", millis(self.control_resume_ms_p50, self.control_resume_ms_p99)),
            ("control, idle", control(self.control_p50_us_idle, self.control_p99_us_idle)),
            ("control, loaded", control(self.control_p50_us_loaded, self.control_p99_us_loaded)),
            ("beside the obstructed", throughput),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_is_compared_round_by_round() {
        let rounds = [(100.0, 90.0), (200.0, 100.0), (50.0, 50.0)];
        let rounds =
            rounds.map(|(before_per_s, during_per_s)| Round { before_per_s, during_per_s });
        let Throughput { before_msgs_per_s, during_msgs_per_s, ratio, ratio_min } =
            Throughput::of(&rounds).unwrap();
        let found = [before_msgs_per_s, during_msgs_per_s, ratio, ratio_min];
        assert_eq!(found.map(|value| format!("{value:.1}")), ["100.0", "90.0", "0.9", "0.5"]);
        assert!(Throughput::of(&[]).is_none());
    }
}
