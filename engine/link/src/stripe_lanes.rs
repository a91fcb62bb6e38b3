use hawser_wire::{LaneId, LinkSequence};

/// Weight of the fastest lane; the others have their share of it.
const WEIGHT_MAX: u64 = 1024;

/// Weight of a lane however slow: without frames its goodput could not be seen to rise.
const WEIGHT_MIN: u64 = WEIGHT_MAX / 16;

/// Names a run of stamped frames of one stream on one link, in one direction. Never reused within a
/// link session (but for 2³² of them).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StripeChannel(pub u32);

/// The bulk lanes of one link as its striped streams share them.
///
/// Lanes are chosen by start-time fair queueing (Goyal, Vin, Cheng 1996) over bytes, each lane's
/// weight being its measured goodput. A lane without room falls behind without saving up a burst.
///
/// Invariant: no more channels are open than the receiver holds reorder buffers for.
#[derive(Debug)]
pub struct StripeLanes {
    lanes: Vec<StripeLane>,
    /// Start tag of the last frame placed, in weighted bytes.
    virtual_time: u64,
    channels_max: usize,
    open_channels: usize,
    /// Link sequences of the last frames of channels that the receiver may not have closed yet.
    closing: Vec<LinkSequence>,
    next_channel: u32,
    acked_below: LinkSequence,
}

#[derive(Debug)]
struct StripeLane {
    lane: LaneId,
    /// Bytes per second; 0 before it was measured.
    goodput: u64,
    weight: u64,
    /// Finish tag of the last frame placed here, in weighted bytes.
    finish: u64,
}

impl StripeLanes {
    /// No lane yet; the receiver takes `channels_max` channels at a time.
    #[must_use]
    pub const fn new(channels_max: usize) -> Self {
        Self {
            lanes: Vec::new(),
            virtual_time: 0,
            channels_max,
            open_channels: 0,
            closing: Vec::new(),
            next_channel: 0,
            acked_below: LinkSequence(1),
        }
    }

    /// A bulk lane came up. Until it is measured it counts as much as the fastest.
    pub fn handle_lane_up(&mut self, lane: LaneId) {
        if self.lanes.iter().all(|known| known.lane != lane) {
            let finish = self.virtual_time;
            self.lanes.push(StripeLane { lane, goodput: 0, weight: WEIGHT_MAX, finish });
            self.weigh();
        }
    }

    /// A bulk lane went down: nothing more is placed on it.
    pub fn handle_lane_down(&mut self, lane: LaneId) {
        self.lanes.retain(|known| known.lane != lane);
        self.weigh();
    }

    /// A lane's goodput in bytes per second, as measured while it had something to send. Lanes that
    /// are not up are ignored.
    pub fn handle_goodput(&mut self, lane: LaneId, bytes_per_second: u64) {
        if let Some(known) = self.lanes.iter_mut().find(|known| known.lane == lane) {
            known.goodput = bytes_per_second;
            self.weigh();
        }
    }

    /// Every bulk frame of this link with a link sequence below `acked_below` was acknowledged; none
    /// of them waits in a queue or on a lane. Lower values than before are ignored.
    pub fn handle_acked(&mut self, acked_below: LinkSequence) {
        self.acked_below = self.acked_below.max(acked_below);
        let before = self.closing.len();
        self.closing.retain(|&last| last >= acked_below);
        let closed = before.saturating_sub(self.closing.len());
        self.open_channels = self.open_channels.saturating_sub(closed);
    }

    /// The link session ended: the receiver has forgotten every channel. Lanes come up anew.
    pub fn handle_session_end(&mut self) {
        *self = Self::new(self.channels_max);
    }

    /// Channels that count against the receiver's bound.
    #[must_use]
    pub const fn open_channels(&self) -> usize {
        self.open_channels
    }

    pub(crate) fn is_acked(&self, sequence: LinkSequence) -> bool {
        sequence < self.acked_below
    }

    /// The lane for the next `len_bytes`, of those for which `has_room` is true, and charges it.
    pub(crate) fn pick(
        &mut self,
        len_bytes: u32,
        has_room: impl Fn(LaneId) -> bool,
    ) -> Option<LaneId> {
        let now = self.virtual_time;
        let chosen = self
            .lanes
            .iter_mut()
            .filter(|known| has_room(known.lane))
            .min_by_key(|known| (known.finish.max(now), known.lane))?;
        let start = chosen.finish.max(now);
        let cost = u64::from(len_bytes).saturating_mul(WEIGHT_MAX).checked_div(chosen.weight);
        chosen.finish = start.saturating_add(cost.unwrap_or(0));
        self.virtual_time = start;
        Some(chosen.lane)
    }

    pub(crate) fn open_channel(&mut self) -> Option<StripeChannel> {
        if self.open_channels >= self.channels_max {
            return None;
        }
        self.open_channels = self.open_channels.saturating_add(1);
        let channel = StripeChannel(self.next_channel);
        self.next_channel = self.next_channel.wrapping_add(1);
        Some(channel)
    }

    /// A channel was opened and nothing sent on it.
    pub(crate) const fn release_unused(&mut self) {
        self.open_channels = self.open_channels.saturating_sub(1);
    }

    /// The last frame of a channel has the link sequence `last`.
    pub(crate) fn close_channel(&mut self, last: LinkSequence) {
        self.closing.push(last);
    }

    fn weigh(&mut self) {
        let fastest = self.lanes.iter().map(|known| known.goodput).max().unwrap_or(0);
        for known in &mut self.lanes {
            known.weight = if known.goodput == 0 {
                WEIGHT_MAX
            } else {
                // In 128 bits: a goodput may be any number.
                let share = u128::from(known.goodput)
                    .saturating_mul(u128::from(WEIGHT_MAX))
                    .checked_div(u128::from(fastest));
                share.and_then(|share| u64::try_from(share).ok()).unwrap_or(0).max(WEIGHT_MIN)
            };
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Bytes that each of three lanes gets of `frames` frames of 1,000 bytes.
    fn shares(lanes: &mut StripeLanes, frames: usize, room: [bool; 3]) -> [usize; 3] {
        let mut bytes = [0; 3];
        for _ in 0..frames {
            let lane = lanes.pick(1000, |lane| room[usize::from(lane.0) - 2]).unwrap();
            bytes[usize::from(lane.0) - 2] += 1000;
        }
        bytes
    }

    fn three(goodput: [u64; 3]) -> StripeLanes {
        let mut lanes = StripeLanes::new(4);
        for (lane, goodput) in (2..).zip(goodput) {
            lanes.handle_lane_up(LaneId(lane));
            lanes.handle_goodput(LaneId(lane), goodput);
        }
        lanes
    }

    #[test]
    fn lanes_are_loaded_by_their_goodput() {
        let check = |goodput, expected: [usize; 3]| {
            let bytes = shares(&mut three(goodput), 7000, [true; 3]);
            for (got, expected) in bytes.into_iter().zip(expected) {
                assert!(got.abs_diff(expected) <= 2000, "{goodput:?}: {bytes:?}");
            }
        };
        check([4_000_000, 2_000_000, 1_000_000], [4_000_000, 2_000_000, 1_000_000]);
        check([0, 0, 0], [2_333_000, 2_333_000, 2_333_000]);
        check([u64::MAX, u64::MAX, u64::MAX / 2], [2_800_000, 2_800_000, 1_400_000]);
        // However slow, a lane gets a sixteenth of the fastest.
        check([1 << 40, 1 << 40, 1], [3_393_939, 3_393_939, 212_121]);
    }

    #[test]
    fn frames_of_a_weighted_turn_are_interleaved() {
        let mut lanes = three([2000, 1000, 1000]);
        let order: Vec<u16> = (0..8).map(|_| lanes.pick(1000, |_| true).unwrap().0).collect();
        let runs = order.windows(3).filter(|run| run[0] == run[1] && run[1] == run[2]);
        assert_eq!(runs.count(), 0, "{order:?}");
        assert_eq!(order.iter().filter(|&&lane| lane == 2).count(), 4, "{order:?}");
    }

    #[test]
    fn a_lane_without_room_saves_nothing_up() {
        let mut lanes = three([1000, 1000, 1000]);
        assert_eq!(shares(&mut lanes, 1000, [true, true, false])[2], 0);
        let after = shares(&mut lanes, 30, [true; 3]);
        assert!(after.iter().all(|&bytes| (9_000..=11_000).contains(&bytes)), "{after:?}");
        assert_eq!(lanes.pick(1000, |_| false), None);
    }

    #[test]
    fn a_lane_that_went_down_is_not_chosen() {
        let mut lanes = three([1000, 1000, 1000]);
        lanes.handle_lane_down(LaneId(3));
        assert_eq!(shares(&mut lanes, 100, [true; 3])[1], 0);
        lanes.handle_lane_up(LaneId(3));
        lanes.handle_lane_up(LaneId(3));
        let back = shares(&mut lanes, 300, [true; 3]);
        assert!(back.iter().all(|&bytes| bytes.abs_diff(100_000) <= 1000), "{back:?}");
    }

    #[test]
    fn channels_are_bounded_until_their_last_frame_is_acknowledged() {
        let mut lanes = StripeLanes::new(2);
        assert_eq!(lanes.open_channel(), Some(StripeChannel(0)));
        assert_eq!(lanes.open_channel(), Some(StripeChannel(1)));
        assert_eq!(lanes.open_channel(), None);
        lanes.close_channel(LinkSequence(9));
        lanes.handle_acked(LinkSequence(9));
        assert_eq!(lanes.open_channel(), None);
        lanes.handle_acked(LinkSequence(10));
        assert_eq!(lanes.open_channels(), 1);
        assert_eq!(lanes.open_channel(), Some(StripeChannel(2)));
        lanes.handle_acked(LinkSequence(3));
        assert!(lanes.is_acked(LinkSequence(9)));
    }
}
