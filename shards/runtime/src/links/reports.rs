//! What the control thread is told of links and lanes when it asks.

use hawser_exchange::{LaneReport, LinkReport};
use hawser_wire::NodeId;

use super::Links;

impl<I> Links<I> {
    pub(crate) fn link_reports(&self) -> Vec<LinkReport> {
        let lanes_of = |peer: NodeId| self.lanes.values().filter(move |lane| lane.peer == peer);
        self.links
            .iter()
            .map(|(&peer, link)| (peer, link, link.machine.status()))
            .map(|(peer, link, status)| LinkReport {
                peer,
                lanes: u32::try_from(lanes_of(peer).count()).unwrap_or(u32::MAX),
                rtt: link
                    .machine
                    .lanes()
                    .map(|lane| lane.srtt)
                    .filter(|rtt| !rtt.is_zero())
                    .min()
                    .unwrap_or_default(),
                sent_bytes: lanes_of(peer).fold(link.sent_bytes, |sum, l| sum + l.sent_bytes),
                received_bytes: lanes_of(peer)
                    .fold(link.received_bytes, |sum, l| sum + l.received_bytes),
                queued_bytes: u64::try_from(status.queued_bytes).unwrap_or(u64::MAX),
                dropped_frames: link.dropped_frames,
                control_dropped_frames: link.control.dropped_frames(),
                bandwidth: if status.is_rate_proven { status.delivery_rate } else { 0 },
                heartbeat_ticks: status.heartbeats.ticks,
                heartbeats_missed: status.heartbeats.missed,
            })
            .collect()
    }

    pub(crate) fn lane_reports(&self) -> Vec<LaneReport> {
        let lanes = self.lanes.iter().filter(|(_, lane)| !lane.finished);
        lanes
            .map(|(&key, lane)| {
                let status = self
                    .links
                    .get(&lane.peer)
                    .and_then(|link| link.machine.lanes().find(|status| status.key == key));
                lane.report(status.map(|status| status.srtt).unwrap_or_default())
            })
            .collect()
    }
}
