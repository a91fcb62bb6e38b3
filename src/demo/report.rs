//! What the demo has to say for itself.

use std::time::Duration;

use serde::Serialize;

use super::transfer::Outcome;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{bytes_text, micros_text};
use crate::cli::table::{Align, Table};

/// The last line of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    published: u64,
    delivered: u64,
    lost: u64,
    duplicated: u64,
    bytes: u64,
    files: u64,
    sha256_ok: bool,
    p50_us: u64,
    p99_us: u64,
    outage_ms: u64,
    seconds: f64,
}

impl Report {
    pub(super) fn new(outcome: &Outcome, took: Duration) -> Self {
        let counts = outcome.ledger.counts();
        let outage_ms = outcome.outage.map_or(0, |outage| outage.as_millis());
        Self {
            published: counts.published,
            delivered: counts.delivered,
            lost: counts.lost,
            duplicated: counts.duplicated,
            bytes: outcome.bytes,
            files: outcome.files,
            sha256_ok: outcome.differences.is_empty(),
            p50_us: outcome.ledger.latency_us(50.0),
            p99_us: outcome.ledger.latency_us(99.0),
            outage_ms: u64::try_from(outage_ms).unwrap_or(u64::MAX),
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut table = Table::new(&[("", Align::Left), ("", Align::Right)], "");
        table.row(["messages published", &self.published.to_string()]);
        table.row(["messages delivered", &self.delivered.to_string()]);
        table.row(["lost", &self.lost.to_string()]);
        table.row(["duplicated", &self.duplicated.to_string()]);
        table.row(["files", &self.files.to_string()]);
        table.row(["bytes", &bytes_text(self.bytes)]);
        table.row(["SHA-256 of every file", if self.sha256_ok { "equal" } else { "DIFFERENT" }]);
        table.row(["publish to delivery, p50", &micros_text(self.p50_us)]);
        table.row(["publish to delivery, p99", &micros_text(self.p99_us)]);
        table.row(["from SIGKILL to the first delivery", &format!("{} ms", self.outage_ms)]);
        table.row(["all in all", &format!("{:.1} s", self.seconds)]);
        table.to_string().trim_start_matches('\n').to_owned()
    }

    /// # Errors
    /// [`Exit::Loss`] if anything was lost, came twice, came in another order, or differs.
    pub(super) fn verdict(&self, outcome: &Outcome) -> Result<(), Failure> {
        let ledger = &outcome.ledger;
        let mut wrong = outcome.differences.clone();
        for (count, what) in [
            (self.lost, "messages lost"),
            (self.duplicated, "messages duplicated"),
            (ledger.out_of_order, "messages out of order"),
            (ledger.unknown, "messages that nobody published"),
        ] {
            if count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        if outcome.outage.is_none() {
            wrong.push("nothing went through the relay that was started again".to_owned());
        }
        if wrong.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Loss, wrong.join("\n"))) }
    }
}
