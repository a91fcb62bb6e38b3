//! What a chaos run came to.

use serde::Serialize;

use super::probe::{ControlLatency, quantile};
use super::scenario::Recovery;
use super::watcher::Account;
use crate::report::{Report, Rows, decimals};

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
    control_p99_us_idle: f64,
    control_p99_us_loaded: f64,
    // Beyond what every such row has.
    control_p50_us_idle: f64,
    control_p50_us_loaded: f64,
    control_exchanges: [usize; 2],
    delivery_ms_p50: Option<f64>,
    delivery_ms_p99: Option<f64>,
    whole_ms_p50: Option<f64>,
    whole_ms_p99: Option<f64>,
    seed: u64,
    profile: String,
    collapsed: bool,
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
    pub(crate) rate_mbit: Option<u32>,
}

impl ChaosRow {
    /// `control`: idle, loaded.
    pub(crate) fn new(
        subject: Subject<'_>,
        account: Account,
        recoveries: &[Recovery],
        control: &[ControlLatency; 2],
    ) -> Self {
        let of = |part: fn(&Recovery) -> f64, share| {
            let mut sorted: Vec<f64> = recoveries.iter().map(part).collect();
            sorted.sort_by(f64::total_cmp);
            quantile(&sorted, share).map(|value| decimals(value, 2))
        };
        let [idle, loaded] = control;
        Self {
            scenario: subject.scenario,
            messages: account.published,
            faults: recoveries.len(),
            lost: account.lost,
            duplicated: account.duplicated,
            reordered: account.reordered,
            resume_ms_p50: of(|recovery| recovery.resume_ms, 0.5),
            resume_ms_p99: of(|recovery| recovery.resume_ms, 0.99),
            control_p99_us_idle: decimals(idle.quantile_us(0.99), 0),
            control_p99_us_loaded: decimals(loaded.quantile_us(0.99), 0),
            control_p50_us_idle: decimals(idle.quantile_us(0.5), 0),
            control_p50_us_loaded: decimals(loaded.quantile_us(0.5), 0),
            control_exchanges: [idle.exchanges(), loaded.exchanges()],
            delivery_ms_p50: of(|recovery| recovery.delivery_ms, 0.5),
            delivery_ms_p99: of(|recovery| recovery.delivery_ms, 0.99),
            whole_ms_p50: of(|recovery| recovery.whole_ms, 0.5),
            whole_ms_p99: of(|recovery| recovery.whole_ms, 0.99),
            seed: subject.seed,
            profile: subject.profile.unwrap_or("balanced").to_owned(),
            collapsed: subject.collapsed,
            rate_mbit: subject.rate_mbit,
        }
    }
}

impl Report for ChaosRow {
    fn has_loss(&self) -> bool {
        self.lost + self.duplicated + self.reordered > 0
    }

    fn rows(&self) -> Rows {
        let millis = |p50: Option<f64>, p99: Option<f64>| match (p50, p99) {
            (Some(p50), Some(p99)) => format!("p50 {p50:.1} ms, p99 {p99:.1} ms"),
            _ => "-".to_owned(),
        };
        let control = |p50: f64, p99: f64| format!("p50 {p50:.0} µs, p99 {p99:.0} µs");
        let wrong = format!("{}, {}, {}", self.lost, self.duplicated, self.reordered);
        vec![
            ("scenario, seed", format!("{}, {}", self.scenario, self.seed)),
            ("messages, faults", format!("{}, {}", self.messages, self.faults)),
            ("lost, duplicated, reordered", wrong),
            ("traffic resumed", millis(self.resume_ms_p50, self.resume_ms_p99)),
            ("delivered again", millis(self.delivery_ms_p50, self.delivery_ms_p99)),
            ("link whole", millis(self.whole_ms_p50, self.whole_ms_p99)),
            ("control, idle", control(self.control_p50_us_idle, self.control_p99_us_idle)),
            ("control, loaded", control(self.control_p50_us_loaded, self.control_p99_us_loaded)),
        ]
    }
}
