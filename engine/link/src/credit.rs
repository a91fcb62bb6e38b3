use std::time::Duration;

use hawser_wire::{LANE_CREDIT_BYTES_INITIAL, LANE_CREDIT_FRAMES_INITIAL, LaneId};

use crate::violation::LinkViolation;

/// Send-side credit of one connection, in counted frames and their bytes.
///
/// Absolute and only growing (as MAX_DATA, RFC 9000 §4.1), so that a repeated grant is harmless.
///
/// **Invariant:** what was sent is at most what was granted.
#[derive(Debug)]
pub(crate) struct LaneCredit {
    granted_frames: u64,
    granted_bytes: u64,
    sent_bytes: u64,
}

impl LaneCredit {
    pub(crate) const fn new() -> Self {
        Self {
            granted_frames: LANE_CREDIT_FRAMES_INITIAL,
            granted_bytes: LANE_CREDIT_BYTES_INITIAL,
            sent_bytes: 0,
        }
    }

    /// Bytes that may be sent.
    pub(crate) const fn left_bytes(&self) -> u64 {
        self.granted_bytes.saturating_sub(self.sent_bytes)
    }

    /// A batch may be sent behind `sent_frames` others.
    pub(crate) const fn allows(&self, sent_frames: u64, frames: u64, bytes: u64) -> bool {
        sent_frames.saturating_add(frames) <= self.granted_frames && bytes <= self.left_bytes()
    }

    pub(crate) const fn spend(&mut self, bytes: u64) {
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
    }

    /// A grant is not below the present one.
    pub(crate) const fn would_grow(&self, frames: u64, bytes: u64) -> bool {
        frames >= self.granted_frames && bytes >= self.granted_bytes
    }

    /// A grant came.
    ///
    /// # Errors
    /// [`LinkViolation::CreditReturned`] if it is lower than before; then nothing changed.
    pub(crate) const fn grant(
        &mut self,
        lane: LaneId,
        frames: u64,
        bytes: u64,
    ) -> Result<(), LinkViolation> {
        let (unit, from, to) = if frames < self.granted_frames {
            ("frames", self.granted_frames, frames)
        } else if bytes < self.granted_bytes {
            ("bytes", self.granted_bytes, bytes)
        } else {
            self.granted_frames = frames;
            self.granted_bytes = bytes;
            return Ok(());
        };
        Err(LinkViolation::CreditReturned { lane, unit, from, to })
    }
}

/// What one connection has received, and what it grants.
///
/// The grant covers the parse buffer: what was received was parsed at once, so that nothing else
/// than the peer's sending moves it, and no egress that is blocked can hold it back.
#[derive(Debug)]
pub(crate) struct LaneReceipt {
    count: u64,
    bytes: u64,
    granted_frames: u64,
    granted_bytes: u64,
    /// Bytes granted ahead.
    window_bytes: u64,
    /// As last acknowledged.
    acked_count: u64,
    acked_bytes: u64,
    /// As at the last tick.
    tick_bytes: u64,
}

impl LaneReceipt {
    pub(crate) const fn new() -> Self {
        Self {
            count: 0,
            bytes: 0,
            granted_frames: LANE_CREDIT_FRAMES_INITIAL,
            granted_bytes: LANE_CREDIT_BYTES_INITIAL,
            window_bytes: LANE_CREDIT_BYTES_INITIAL,
            acked_count: 0,
            acked_bytes: 0,
            tick_bytes: 0,
        }
    }

    /// Counted frames received.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Their bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn unacked_frames(&self) -> u64 {
        self.count.saturating_sub(self.acked_count)
    }

    pub(crate) const fn unacked_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.acked_bytes)
    }

    /// What is acknowledged at once while the connection is young: an eighth of all that came, so that
    /// a sender which has little in flight yet does not wait for a timer here in each round trip.
    pub(crate) const fn early_bytes(&self) -> u64 {
        self.bytes >> 3
    }

    /// A counted frame of `bytes` may arrive.
    ///
    /// # Errors
    /// [`LinkViolation::CreditOverrun`] if it was not granted.
    pub(crate) const fn check(&self, lane: LaneId, bytes: u64) -> Result<(), LinkViolation> {
        let (count, total) = (self.count.saturating_add(1), self.bytes.saturating_add(bytes));
        let (unit, sent, granted) = if count > self.granted_frames {
            ("frames", count, self.granted_frames)
        } else if total > self.granted_bytes {
            ("bytes", total, self.granted_bytes)
        } else {
            return Ok(());
        };
        Err(LinkViolation::CreditOverrun { lane, unit, sent, granted })
    }

    /// A counted frame of `bytes`, headers included, arrived.
    pub(crate) const fn receive(&mut self, bytes: u64) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Fits the window to what arrived since the last tick and to the round trip: twice what comes
    /// within one (as receive buffers of TCP are tuned), never below the initial credit.
    pub(crate) fn handle_tick(&mut self, tick: Duration, round_trip: Duration, max_bytes: u64) {
        let arrived = self.bytes.saturating_sub(self.tick_bytes);
        self.tick_bytes = self.bytes;
        let trip = round_trip.saturating_add(Duration::from_millis(20)).as_micros();
        let within = u128::from(arrived)
            .saturating_mul(trip)
            .saturating_mul(2)
            .checked_div(tick.as_micros())
            .unwrap_or(0);
        let within = u64::try_from(within).unwrap_or(u64::MAX);
        let max = max_bytes.max(LANE_CREDIT_BYTES_INITIAL);
        self.window_bytes = within.clamp(LANE_CREDIT_BYTES_INITIAL, max);
    }

    /// Count and grants, to be sent.
    pub(crate) fn acknowledge(&mut self) -> (u64, u64, u64) {
        self.acked_count = self.count;
        self.acked_bytes = self.bytes;
        let frames = self.count.saturating_add(LANE_CREDIT_FRAMES_INITIAL);
        self.granted_frames = self.granted_frames.max(frames);
        self.granted_bytes = self.granted_bytes.max(self.bytes.saturating_add(self.window_bytes));
        (self.count, self.granted_frames, self.granted_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId(2);

    #[test]
    fn what_is_granted_may_be_sent_and_no_byte_more() {
        let (mut credit, mut receipt) = (LaneCredit::new(), LaneReceipt::new());
        assert!(credit.allows(0, 1, LANE_CREDIT_BYTES_INITIAL));
        assert!(!credit.allows(0, 1, LANE_CREDIT_BYTES_INITIAL + 1));
        assert!(!credit.allows(LANE_CREDIT_FRAMES_INITIAL, 1, 1));
        credit.spend(LANE_CREDIT_BYTES_INITIAL);
        assert_eq!(receipt.check(LANE, LANE_CREDIT_BYTES_INITIAL), Ok(()));
        receipt.receive(LANE_CREDIT_BYTES_INITIAL);
        let overrun = receipt.check(LANE, 1);
        assert!(matches!(overrun, Err(LinkViolation::CreditOverrun { unit: "bytes", .. })));
        let (count, frames, bytes) = receipt.acknowledge();
        assert_eq!((count, bytes), (1, 2 * LANE_CREDIT_BYTES_INITIAL));
        assert_eq!(credit.grant(LANE, frames, bytes), Ok(()));
        assert!(credit.allows(1, 1, LANE_CREDIT_BYTES_INITIAL));
        assert_eq!(receipt.check(LANE, 1), Ok(()));
    }

    #[test]
    fn a_lowered_grant_is_a_violation_and_a_repeated_one_is_none() {
        let mut credit = LaneCredit::new();
        let (frames, bytes) = (LANE_CREDIT_FRAMES_INITIAL, LANE_CREDIT_BYTES_INITIAL);
        assert_eq!(credit.grant(LANE, frames, bytes), Ok(()));
        let lowered = credit.grant(LANE, frames - 1, bytes);
        assert!(matches!(lowered, Err(LinkViolation::CreditReturned { unit: "frames", .. })));
        let lowered = credit.grant(LANE, frames, bytes - 1);
        assert!(matches!(lowered, Err(LinkViolation::CreditReturned { unit: "bytes", .. })));
        assert_eq!(credit.left_bytes(), bytes);
    }

    #[test]
    fn the_window_follows_the_rate_and_grants_never_shrink() {
        let mut receipt = LaneReceipt::new();
        let tick = Duration::from_millis(100);
        for _ in 0..4 {
            receipt.receive(2 << 20);
        }
        // 80 MiB/s over 180 ms and some: twice 16 MiB.
        receipt.handle_tick(tick, Duration::from_millis(180), 64 << 20);
        let (_, _, granted) = receipt.acknowledge();
        assert_eq!(granted, (8 << 20) + (32 << 20));
        receipt.handle_tick(tick, Duration::from_millis(180), 64 << 20);
        assert_eq!(receipt.acknowledge().2, granted);
    }
}
