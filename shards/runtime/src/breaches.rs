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
    /// What was not reported yet, by reason: there are seven.
    times: Vec<(StreamRefusal, u64)>,
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
        let counted = self.times.iter().position(|&(other, _)| other.name() == reason.name());
        let index = counted.unwrap_or_else(|| {
            self.times.push((reason, 0));
            self.times.len() - 1
        });
        let times = self.times.get_mut(index).map(|(_, times)| times)?;
        *times = times.saturating_add(1);
        if self.reported_at.is_some_and(|at| now.saturating_since(at) < REPORT_EVERY) {
            return None;
        }
        self.reported_at = Some(now);
        let times = std::mem::take(times);
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

    #[test]
    fn each_reason_is_counted_by_itself() {
        let (mut breaches, stream) = (Breaches::default(), StreamId::from_bytes([1; 16]));
        let peer = NodeId::from_bytes([2; 16]);
        let mut add = |ms: u64, reason| {
            let report =
                breaches.add(MonoTime::from_nanos(ms * 1_000_000), stream, peer, reason, None)?;
            Some((report.reason, report.times))
        };
        let (ahead, jump) = (StreamRefusal::AckAhead, StreamRefusal::SequenceJump);
        assert_eq!(add(1, ahead), Some((ahead, 1)));
        assert_eq!((add(2, ahead), add(3, jump), add(4, ahead)), (None, None, None));
        assert_eq!(add(1001, jump), Some((jump, 2)));
        assert_eq!(add(2001, ahead), Some((ahead, 3)));
    }
}
