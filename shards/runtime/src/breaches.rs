use std::time::Duration;

use hawser_exchange::StreamRefusedReport;
use hawser_wire::{MonoTime, NodeId, StreamId, StreamRefusal};

/// A report about the same stream follows no sooner than this.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What ends of one stream have done that they may not, as reports. An end that begins a new life for
/// each of them fills no log with it.
#[derive(Debug, Default)]
pub(crate) struct Breaches {
    reported_at: Option<MonoTime>,
    times: u64,
}

impl Breaches {
    /// `peer` was refused, or has refused this node if there is no `detail`. What is to be reported.
    pub(crate) fn add(
        &mut self,
        now: MonoTime,
        stream: StreamId,
        peer: NodeId,
        reason: StreamRefusal,
        detail: Option<String>,
    ) -> Option<Box<StreamRefusedReport>> {
        self.times = self.times.saturating_add(1);
        if self.reported_at.is_some_and(|at| now.saturating_since(at) < REPORT_EVERY) {
            return None;
        }
        self.reported_at = Some(now);
        let times = std::mem::take(&mut self.times);
        Some(Box::new(StreamRefusedReport { stream, peer, reason, detail, times }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_with_how_many_there_were() {
        let (mut breaches, stream) = (Breaches::default(), StreamId::from_bytes([1; 16]));
        let peer = NodeId::from_bytes([2; 16]);
        let times: Vec<u64> = (0..=2000)
            .filter_map(|ms| {
                let now = MonoTime::from_nanos((ms + 1) * 1_000_000);
                breaches.add(now, stream, peer, StreamRefusal::AckAhead, None)
            })
            .map(|report| report.times)
            .collect();
        assert_eq!(times, [1, 1000, 1000]);
    }
}
