//! What there is to report of a link.

use std::time::Duration;

use hawser_wire::{ClassSet, TrafficClass};

use super::VirtualLink;
use crate::connection::{ConnectionId, LaneKey};
use crate::lane::Lane;

/// A lane as it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneStatus {
    /// The driver's name for the connection.
    pub key: LaneKey,
    /// As both ends name it.
    pub id: ConnectionId,
    /// What the lane was made for.
    pub class: TrafficClass,
    /// What this side puts on it.
    pub carries: ClassSet,
    /// Own ticks since the last byte.
    pub silent_ticks: u32,
    /// Smoothed round trip; zero before the first echo.
    pub srtt: Duration,
    /// Least round trip; zero before the first echo.
    pub min_rtt: Duration,
    /// Bytes acknowledged, of batches that are so whole: goodput is what it grows by.
    pub acked_bytes: u64,
    /// Counted frames in flight.
    pub unacked_frames: u64,
    /// Memory of what is in flight.
    pub unacked_bytes: usize,
    /// Counted frames sent.
    pub sent_frames: u64,
    /// Counted frames received.
    pub received_frames: u64,
    /// Their bytes, headers included.
    pub received_bytes: u64,
    /// Either end wants to close it.
    pub is_closing: bool,
    /// Lane credit left, in bytes.
    pub credit_bytes: u64,
    /// What waits for this very lane, and its part of what waits for any bulk lane.
    pub queued_bytes: usize,
}

/// How heartbeats fare, over all lanes that a link has had.
///
/// Ticks of this side in which it ran count, from a lane's first echo on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeartbeatCount {
    /// Ticks, of each lane.
    pub ticks: u64,
    /// Those at which the lane was silent, or an answer was overdue.
    pub missed: u64,
}

impl HeartbeatCount {
    pub(crate) const fn count(&mut self, missed: bool) {
        self.ticks = self.ticks.saturating_add(1);
        if missed {
            self.missed = self.missed.saturating_add(1);
        }
    }
}

/// A link as it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkStatus {
    /// Bytes of priority and bulk in flight over lanes that are heard.
    pub in_flight_bytes: u64,
    /// As many as may be.
    pub in_flight_bound_bytes: u64,
    /// Bytes per second, the windowed maximum; 0 while unknown.
    pub delivery_rate: u64,
    /// The link has been filled since its session began: the delivery rate shows what it can carry,
    /// and not only what was sent.
    pub is_rate_proven: bool,
    /// Heartbeats of all its lanes.
    pub heartbeats: HeartbeatCount,
    /// How long both ends wait for their cores, on average.
    pub turn_delay: Duration,
    /// Least round trip, if one was measured.
    pub min_rtt: Option<Duration>,
    /// What waits in all.
    pub queued_bytes: usize,
    /// Counted frames of connections that are gone, whose fate is not known yet.
    pub unsettled_frames: u64,
    /// Streams that are being striped.
    pub striped_streams: usize,
    /// Bytes that came before their turn and wait for it.
    pub reorder_bytes: u64,
    /// Bulk lanes, of all that the link has had, that the peer has let go of and this side had not.
    pub lanes_let_go: u64,
}

impl VirtualLink {
    /// The lanes, in the order in which they came.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStatus> {
        let share = self.striped_share();
        let striped = move |lane: &Lane| {
            if lane.carries.contains(TrafficClass::Bulk) { share } else { 0 }
        };
        self.lanes.iter().map(move |lane| LaneStatus {
            key: lane.key,
            id: lane.id,
            class: lane.class,
            carries: lane.carries,
            silent_ticks: lane.watch.silent_ticks(),
            srtt: lane.watch.srtt(),
            min_rtt: lane.watch.min_rtt(),
            acked_bytes: lane.unacked.acked_bytes(),
            unacked_frames: lane.unacked.sent().saturating_sub(lane.unacked.acked()),
            unacked_bytes: lane.unacked.backing_bytes(),
            sent_frames: lane.unacked.sent(),
            received_frames: lane.receipt.count(),
            received_bytes: lane.receipt.bytes(),
            is_closing: !lane.is_open() || lane.leaves_since.is_some(),
            credit_bytes: lane.credit.left_bytes(),
            queued_bytes: lane
                .bulk
                .bytes()
                .saturating_add(lane.resend_bytes())
                .saturating_add(striped(lane)),
        })
    }

    /// Lanes over which no byte has come for a tick of this side or more.
    pub fn silent_lanes(&self) -> impl Iterator<Item = LaneKey> {
        self.lanes.iter().filter(|lane| lane.watch.silent_ticks() > 0).map(|lane| lane.key)
    }

    /// The link.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        let orphans =
            self.orphans.iter().fold(0, |sum: u64, (_, batch)| sum.saturating_add(batch.counted()));
        LinkStatus {
            in_flight_bytes: self.in_flight(),
            in_flight_bound_bytes: self.in_flight_bound,
            delivery_rate: self.rate.rate(),
            is_rate_proven: self.rate.is_proven(),
            heartbeats: self.heartbeats,
            turn_delay: self.turn_delay.both(),
            min_rtt: self.rate.min_rtt(),
            queued_bytes: self.queued_bytes_total(),
            striped_streams: self.striping.channels(),
            reorder_bytes: self.reassembly.held_bytes(),
            lanes_let_go: self.lanes_let_go,
            unsettled_frames: self.departed.iter().fold(orphans, |sum, departed| {
                let unacked = departed.unacked();
                sum.saturating_add(unacked.sent().saturating_sub(unacked.acked()))
            }),
        }
    }
}
