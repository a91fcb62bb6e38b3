use std::time::Duration;

use hawser_admission::{AdmissionLimits, SocketOptions};
use hawser_exchange::{LanePolicyMode, LaneRule};
use hawser_routing::Weights;
use hawser_wire::{LaneId, TrafficClass};

use crate::NodeRef;
use crate::lane_rules::{LaneRuleChoice, PeerSelector};

/// The first bulk lane; others follow it without gaps.
const BULK_LANE_FIRST: u16 = 2;
/// Most bulk lanes of a link.
pub(crate) const BULK_LANES_MAX: u8 = 4;

/// Which lanes a link has: 0 for control, 1 for priority, 2 for bulk, and further ones for bulk from
/// 3 on while they are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LanePlan {
    /// A link begins with lane 0 alone, which carries every class, control first. Others come if its
    /// ends agree on separate lanes.
    pub collapsed: bool,
    /// Most bulk lanes of a link, 1 to 4; others count as the nearest of these.
    pub bulk_lanes_max: u8,
}

impl Default for LanePlan {
    /// Separate lanes, up to four of them for bulk.
    fn default() -> Self {
        Self { collapsed: false, bulk_lanes_max: BULK_LANES_MAX }
    }
}

impl LanePlan {
    /// The lane by which a peer is found.
    pub(crate) const FIRST: LaneId = LaneId(0);

    /// The lanes that a link with separate lanes always has, the first one first.
    pub(crate) const fn separate() -> &'static [(LaneId, TrafficClass)] {
        const LANES: [(LaneId, TrafficClass); 3] = [
            (LanePlan::FIRST, TrafficClass::Control),
            (LaneId(1), TrafficClass::Priority),
            (LaneId(BULK_LANE_FIRST), TrafficClass::Bulk),
        ];
        &LANES
    }

    /// The lanes that every link of this node has, the first one first.
    pub(crate) const fn standing(self) -> &'static [(LaneId, TrafficClass)] {
        let separate = Self::separate();
        if self.collapsed { separate.split_at(1).0 } else { separate }
    }

    /// The class of a lane, by its number; which lanes a link has is its ends' choice.
    pub(crate) const fn class_on_wire(lane: LaneId) -> TrafficClass {
        match lane.0 {
            0 => TrafficClass::Control,
            1 => TrafficClass::Priority,
            BULK_LANE_FIRST.. => TrafficClass::Bulk,
        }
    }

    /// The class of a lane that a link may have; `None` if it may not have such a lane.
    pub(crate) fn class_of(self, lane: LaneId) -> Option<TrafficClass> {
        let mut separate = Self::separate().iter();
        if let Some(&(_, class)) = separate.find(|(separate, _)| *separate == lane) {
            return Some(class);
        }
        let bulk_max = u16::from(self.bulk_lanes_max.clamp(1, BULK_LANES_MAX));
        let is_bulk = (BULK_LANE_FIRST..BULK_LANE_FIRST + bulk_max).contains(&lane.0);
        is_bulk.then_some(TrafficClass::Bulk)
    }
}

/// What the control plane is told at start. None of it changes while it runs.
#[derive(Clone, Debug)]
pub struct PlaneConfig {
    /// Human name of this node, see [`hawser_identity::check_node_name`].
    pub node_name: String,
    /// Where lanes are accepted, host:port; `None`: this node only dials.
    pub listen: Option<String>,
    /// What other nodes are to dial, host:port, if it differs from `listen`.
    pub advertise: Option<String>,
    /// Addresses that are dialled for as long as the node runs, beside those that the store keeps.
    pub dial: Vec<String>,
    /// HTTP CONNECT proxy for every lane that is dialled, host:port.
    pub proxy: Option<String>,
    /// Each member is probed about so often, see [`hawser_membership::Config`].
    pub probe_interval: Duration,
    /// Lanes per link.
    pub lanes: LanePlan,
    /// Whether bulk lanes are opened and closed by need.
    pub lane_policy: LanePolicyMode,
    /// What differs from both on the links to single neighbours.
    pub peer_lane_rules: Vec<(PeerSelector, LaneRuleChoice)>,
    /// What the operator adds to the cost of the links to single neighbours, in hops.
    pub link_admin: Vec<(PeerSelector, u16)>,
    /// This node is never transit.
    pub stub: bool,
    /// Paths that are computed to each node, at least one.
    pub paths: usize,
    /// What the cost of a path is made of, for each class in the order of [`TrafficClass::ALL`]. Nodes
    /// need not agree on it: who sends writes the whole way.
    pub weights: [Weights; TrafficClass::ALL.len()],
    /// Bounds of handshakes.
    pub limits: AdmissionLimits,
    /// Options of lane sockets.
    pub sockets: SocketOptions,
    /// For status: "io_uring" or "epoll".
    pub io_driver: String,
    /// For status: this program's version.
    pub version: String,
}

impl PlaneConfig {
    /// How many bulk lanes a link has, unless something else is said of it.
    pub(crate) fn lane_rule(&self) -> LaneRule {
        let bulk_lanes_max = self.lanes.bulk_lanes_max.clamp(1, BULK_LANES_MAX);
        LaneRule { bulk_lanes_max, policy: self.lane_policy }
    }

    /// What the operator adds to the cost of the link to a neighbour, in hops.
    pub(crate) fn link_admin_of(&self, peer: &NodeRef) -> u16 {
        PeerSelector::said_of(&self.link_admin, peer).last().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_knows_its_lanes_and_no_others() {
        let separate = LanePlan::default();
        let classes: Vec<_> = (0..8).map(|lane| separate.class_of(LaneId(lane))).collect();
        let bulk = Some(TrafficClass::Bulk);
        assert_eq!(classes[..2], [Some(TrafficClass::Control), Some(TrafficClass::Priority)]);
        assert_eq!(classes[2..], [bulk, bulk, bulk, bulk, None, None]);
        for (lane, class) in classes.iter().zip(0_u16..).filter_map(|(c, lane)| Some((lane, (*c)?)))
        {
            assert_eq!(LanePlan::class_on_wire(LaneId(lane)), class);
        }
        assert_eq!(LanePlan::class_on_wire(LaneId(u16::MAX)), TrafficClass::Bulk);
        let narrow = LanePlan { bulk_lanes_max: 0, ..separate };
        assert_eq!(narrow.class_of(LaneId(2)), bulk, "at least one");
        assert_eq!(narrow.class_of(LaneId(3)), None);
        let collapsed = LanePlan { collapsed: true, ..separate };
        assert_eq!(collapsed.standing(), [(LanePlan::FIRST, TrafficClass::Control)]);
        assert_eq!(collapsed.class_of(LaneId(2)), bulk, "it may agree on separate lanes");
    }
}
