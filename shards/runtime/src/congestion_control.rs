use std::time::Duration;

use hawser_link::{LaneKey, VirtualLink};
use hawser_wire::MonoTime;

/// A peer this close, there and back, is near.
const NEAR: Duration = Duration::from_millis(1);
/// A lane has had some echoes by then, one of which came promptly if the peer is near.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Lanes of one link of which is not known yet whether they lead far.
///
/// Sockets begin without pacing; those that lead far are given what the system would have given
/// them. The other way round pacing would stay: Linux has no way to end it for a socket. See
/// `docs/adr/0022-congestion-control.md`.
#[derive(Debug, Default)]
pub(crate) struct UnmeasuredLanes(Vec<(LaneKey, MonoTime)>);

impl UnmeasuredLanes {
    /// A lane came.
    pub(crate) fn add(&mut self, now: MonoTime, key: LaneKey) {
        self.0.push((key, now.saturating_add(LOOK_AFTER)));
    }

    /// A lane is gone.
    pub(crate) fn remove(&mut self, key: LaneKey) {
        self.0.retain(|&(known, _)| known != key);
    }

    /// The lanes that turn out to lead far, each once. The `least` round trip of the link decides: all
    /// its lanes lead to the same peer, and one that came while both ends were busy has seen none that
    /// was prompt. While there is none they wait.
    pub(crate) fn take_far(
        &mut self,
        now: MonoTime,
        least: impl FnOnce() -> Option<Duration>,
    ) -> Vec<LaneKey> {
        let due = self.0.iter().take_while(|&&(_, due)| due <= now).count();
        if due == 0 {
            return Vec::new();
        }
        let Some(least) = least() else { return Vec::new() };
        let measured = self.0.drain(..due).map(|(key, _)| key);
        if least < NEAR { Vec::new() } else { measured.collect() }
    }
}

/// The least round trip of any lane of a link, if there was one.
pub(crate) fn least_round_trip(link: &VirtualLink) -> Option<Duration> {
    link.lanes().map(|lane| lane.min_rtt).filter(|rtt| !rtt.is_zero()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(millis * 1_000_000)
    }

    fn two() -> UnmeasuredLanes {
        let mut lanes = UnmeasuredLanes::default();
        lanes.add(at(0), LaneKey(1));
        lanes.add(at(500), LaneKey(2));
        lanes
    }

    #[test]
    fn far_lanes_are_told_once_and_a_second_after_they_came() {
        let mut lanes = two();
        let far = || Some(NEAR);
        assert_eq!(lanes.take_far(at(999), || panic!("nothing is due")), []);
        assert_eq!(lanes.take_far(at(1_000), far), [LaneKey(1)]);
        assert_eq!(lanes.take_far(at(1_499), || panic!("nothing is due")), []);
        assert_eq!(lanes.take_far(at(1_500), far), [LaneKey(2)]);
        assert_eq!(lanes.take_far(at(9_000), || panic!("nothing is left")), []);
    }

    #[test]
    fn near_lanes_are_looked_at_no_more() {
        let mut lanes = two();
        let near = || Some(NEAR - Duration::from_nanos(1));
        assert_eq!(lanes.take_far(at(1_000), near), []);
        assert_eq!(lanes.take_far(at(1_500), || Some(NEAR)), [LaneKey(2)]);
    }

    #[test]
    fn lanes_wait_for_a_round_trip_as_long_as_they_are_there() {
        let mut lanes = two();
        lanes.add(at(600), LaneKey(3));
        lanes.remove(LaneKey(3));
        assert_eq!(lanes.take_far(at(2_000), || None), []);
        assert_eq!(lanes.take_far(at(2_100), || Some(NEAR)), [LaneKey(1), LaneKey(2)]);
    }
}
