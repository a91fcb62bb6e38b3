//! Operators bound the bulk lanes of a link, and say whether the lane policy acts there: its shard is
//! told, and this node dials no lane beyond.

use std::collections::BTreeMap;

use hawser_exchange::{ControlToShard, LanePolicyMode, LaneRule};
use hawser_wire::NodeId;

use crate::config::BULK_LANES_MAX;
use crate::control::Control;
use crate::{LanePlan, NodeRef, PlaneError};

/// What an operator wants of the bulk lanes of a link; whatever is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneRuleChange {
    /// Most bulk lanes, 1 to 4; 0: as configured.
    pub bulk_lanes_max: Option<u8>,
    /// Whether they are opened and closed by need; inner `None`: as configured.
    pub policy: Option<Option<LanePolicyMode>>,
}

/// The rule in force for the bulk lanes of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneRuleView {
    /// The neighbour.
    pub peer: NodeRef,
    /// The rule.
    pub rule: LaneRule,
}

/// What operators have chosen, by neighbour: until this node starts again.
pub(crate) type LaneRules = BTreeMap<NodeId, LaneRule>;

impl Control {
    /// How many bulk lanes the link to a neighbour has.
    fn lane_rule(&self, peer: NodeId) -> LaneRule {
        self.lane_rules.get(&peer).copied().unwrap_or_else(|| self.config.lane_rule())
    }

    /// The lanes that the link to a neighbour may have.
    pub(crate) fn lane_plan(&self, peer: NodeId) -> LanePlan {
        LanePlan { bulk_lanes_max: self.lane_rule(peer).bulk_lanes_max, ..self.config.lanes }
    }

    /// Changes the rule for a link's bulk lanes; answers with the one in force.
    pub(crate) fn set_lane_rule(
        &mut self,
        name: &str,
        change: LaneRuleChange,
    ) -> Result<LaneRuleView, PlaneError> {
        let peer = self.linked_peer(name)?;
        let (configured, mut rule) = (self.config.lane_rule(), self.lane_rule(peer));
        match change.bulk_lanes_max {
            None => {}
            Some(0) => rule.bulk_lanes_max = configured.bulk_lanes_max,
            Some(max) if max <= BULK_LANES_MAX => rule.bulk_lanes_max = max,
            Some(wanted) => {
                let (what, value) = ("bulk_lanes_max", wanted.to_string());
                return Err(PlaneError::NameInvalid { what, value, rule: "1 to 4, or 0" });
            }
        }
        if let Some(policy) = change.policy {
            rule.policy = policy.unwrap_or(configured.policy);
        }
        let chosen = (rule != configured).then_some(rule);
        match chosen {
            Some(rule) => drop(self.lane_rules.insert(peer, rule)),
            None => drop(self.lane_rules.remove(&peer)),
        }
        let inputs = vec![
            ("bulk_lanes_max", rule.bulk_lanes_max.to_string()),
            ("policy", rule.policy.name().to_owned()),
            ("configured", chosen.is_none().to_string()),
        ];
        self.note_lane_event(peer, "lanes-asked", inputs);
        self.shards.send_to_link(peer, ControlToShard::SetLaneRule { peer, rule: chosen });
        Ok(LaneRuleView { peer: self.node_ref(peer), rule })
    }
}
