//! Rounds of reports: every shard is asked, and what they say is put together. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use hawser_exchange::ShardReport;
use hawser_wire::{MonoTime, ShardId};

use crate::handle::Answer;
use crate::{LaneView, LinkView, StatusView, StreamStatusView};

/// Shards that are silent for so long are left out.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a round is for.
#[derive(Debug)]
pub(crate) enum ReportUse {
    Status(Answer<StatusView>),
    Links(Answer<Vec<LinkView>>),
    Lanes(Answer<Vec<LaneView>>),
    Streams(Answer<Vec<StreamStatusView>>),
    /// Metrics of this node's adjacencies.
    Metrics,
}

#[derive(Debug)]
struct Round {
    silent: BTreeSet<ShardId>,
    reports: Vec<ShardReport>,
    uses: Vec<ReportUse>,
    deadline: MonoTime,
}

/// The round that runs, and who waits for the next.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    round: Option<Round>,
    next: Vec<ReportUse>,
}

impl Reports {
    /// Somebody wants reports that are no older than this call.
    pub(crate) fn ask(&mut self, wanted: ReportUse) {
        self.next.push(wanted);
    }

    /// True if a round begins: every shard must be asked now.
    pub(crate) fn poll_begin(&mut self, now: MonoTime, shards: u16) -> bool {
        if self.round.is_some() || self.next.is_empty() {
            return false;
        }
        self.round = Some(Round {
            silent: (0..shards).map(ShardId).collect(),
            reports: Vec::new(),
            uses: std::mem::take(&mut self.next),
            deadline: now.saturating_add(PATIENCE),
        });
        true
    }

    /// A shard answered.
    pub(crate) fn handle_report(&mut self, report: ShardReport) {
        if let Some(round) = &mut self.round
            && round.silent.remove(&report.shard)
        {
            round.reports.push(report);
        }
    }

    /// When the round ends at the latest.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.round.as_ref().map(|round| round.deadline)
    }

    /// The round's end: what was reported, in the order of the shards, and what for.
    pub(crate) fn poll_end(&mut self, now: MonoTime) -> Option<(Vec<ShardReport>, Vec<ReportUse>)> {
        let round = self.round.take_if(|round| round.silent.is_empty() || round.deadline <= now)?;
        let mut reports = round.reports;
        reports.sort_by_key(|report| report.shard);
        Some((reports, round.uses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(shard: u16) -> ShardReport {
        let shard = ShardId(shard);
        ShardReport { shard, links: Vec::new(), lanes: Vec::new(), streams: Vec::new() }
    }

    #[test]
    fn a_round_ends_when_all_have_answered() {
        let mut reports = Reports::default();
        assert!(!reports.poll_begin(MonoTime::ZERO, 2));
        reports.ask(ReportUse::Metrics);
        assert!(reports.poll_begin(MonoTime::ZERO, 2));
        reports.ask(ReportUse::Metrics);
        assert!(!reports.poll_begin(MonoTime::ZERO, 2), "one at a time");
        reports.handle_report(report(1));
        reports.handle_report(report(1));
        assert!(reports.poll_end(MonoTime::ZERO).is_none());
        reports.handle_report(report(0));
        let (got, uses) = reports.poll_end(MonoTime::ZERO).expect("complete");
        assert_eq!(got.iter().map(|report| report.shard.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(uses.len(), 1);
        assert!(reports.poll_begin(MonoTime::ZERO, 2), "the one that waited");
    }

    #[test]
    fn a_silent_shard_is_left_out() {
        let mut reports = Reports::default();
        reports.ask(ReportUse::Metrics);
        reports.poll_begin(MonoTime::ZERO, 2);
        reports.handle_report(report(0));
        let deadline = reports.poll_timeout().expect("a round runs");
        let (got, _) = reports.poll_end(deadline).expect("over");
        assert_eq!(got.len(), 1);
    }
}
