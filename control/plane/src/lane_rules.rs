//! How many bulk lanes the link to a neighbour may have, and whether the lane policy acts there: what
//! an operator has chosen for this link, durably; else what the configuration says of this link; else
//! what it says of all. Its shard is told before the first lane comes, and this node dials none beyond.

use std::collections::BTreeMap;

use hawser_exchange::{ControlToShard, LanePolicyMode, LaneRule};
use hawser_store::LaneRuleRecord;
use hawser_wire::NodeId;

use crate::config::BULK_LANES_MAX;
use crate::control::Control;
use crate::directory::resolve_node;
use crate::handle::Answer;
use crate::{LanePlan, NodeRef, PlaneConfig, PlaneError};

/// What an operator wants of the bulk lanes of a link; whatever is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneRuleChange {
    /// Most bulk lanes, 1 to 4; 0: as configured.
    pub bulk_lanes_max: Option<u8>,
    /// Whether they are opened and closed by need; inner `None`: as configured.
    pub policy: Option<Option<LanePolicyMode>>,
}

/// What is chosen for the bulk lanes of one link; whatever is `None` is as for all links.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LaneRuleChoice {
    /// Most bulk lanes, 1 to 4.
    pub bulk_lanes_max: Option<u8>,
    /// Whether they are opened and closed by need.
    pub policy: Option<LanePolicyMode>,
}

/// Which neighbour an entry of the configuration is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerSelector {
    /// The one of this name, as its certificate says.
    Name(String),
    /// The one with this id. What is said of an id goes before what is said of a name.
    Id(NodeId),
}

/// The rule in force for the bulk lanes of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneRuleView {
    /// The neighbour.
    pub peer: NodeRef,
    /// The rule.
    pub rule: LaneRule,
}

impl PeerSelector {
    /// What entries say of a neighbour: of its name first, so that what is said of its id goes over it.
    pub(crate) fn said_of<T: Copy>(
        entries: &[(Self, T)],
        peer: &NodeRef,
    ) -> impl Iterator<Item = T> {
        let of_name = entries.iter().filter(|(wanted, _)| match wanted {
            Self::Name(name) => *name == peer.name,
            Self::Id(_) => false,
        });
        let of_id = entries.iter().filter(|(wanted, _)| *wanted == Self::Id(peer.node));
        of_name.chain(of_id).map(|(_, said)| *said)
    }
}

impl LaneRuleChoice {
    const fn is_none(self) -> bool {
        self.bulk_lanes_max.is_none() && self.policy.is_none()
    }

    fn over(self, rule: LaneRule) -> LaneRule {
        LaneRule {
            bulk_lanes_max: self.bulk_lanes_max.unwrap_or(rule.bulk_lanes_max),
            policy: self.policy.unwrap_or(rule.policy),
        }
    }

    fn record(self) -> LaneRuleRecord {
        LaneRuleRecord {
            bulk_lanes_max: self.bulk_lanes_max,
            policy: self.policy.map(|policy| policy.name().to_owned()),
        }
    }

    /// What a later release may have kept and this one does not know is as configured.
    fn of_record(record: &LaneRuleRecord) -> Self {
        Self {
            bulk_lanes_max: record.bulk_lanes_max.filter(|max| (1..=BULK_LANES_MAX).contains(max)),
            policy: record.policy.as_deref().and_then(LanePolicyMode::of),
        }
    }
}

/// What is chosen for single links, and what their shards know of it.
#[derive(Debug, Default)]
pub(crate) struct LaneRules {
    /// By operators, while the node runs. In the store, or on the way there.
    chosen: BTreeMap<NodeId, LaneRuleChoice>,
    /// What of it is in the store.
    stored: BTreeMap<NodeId, LaneRuleChoice>,
    /// Rules that shards were told; of other links they go by the configuration of all.
    told: BTreeMap<NodeId, LaneRule>,
}

impl LaneRules {
    /// Those that the store has.
    pub(crate) fn new(kept: &[(NodeId, LaneRuleRecord)]) -> Self {
        let chosen = kept.iter().map(|(peer, record)| (*peer, LaneRuleChoice::of_record(record)));
        let chosen: BTreeMap<_, _> = chosen.filter(|(_, choice)| !choice.is_none()).collect();
        Self { stored: chosen.clone(), chosen, told: BTreeMap::new() }
    }

    fn choice(&self, peer: NodeId) -> LaneRuleChoice {
        self.chosen.get(&peer).copied().unwrap_or_default()
    }

    fn set(&mut self, peer: NodeId, choice: LaneRuleChoice) {
        if choice.is_none() {
            self.chosen.remove(&peer);
        } else {
            self.chosen.insert(peer, choice);
        }
    }

    /// What is in force from now on is what the store has.
    fn restore(&mut self, peer: NodeId) {
        self.set(peer, self.stored.get(&peer).copied().unwrap_or_default());
    }
}

impl PlaneConfig {
    /// What the configuration says of the link to a neighbour.
    fn lane_rule_of(&self, peer: &NodeRef) -> LaneRule {
        let said = PeerSelector::said_of(&self.peer_lane_rules, peer);
        said.fold(self.lane_rule(), |rule, choice| choice.over(rule))
    }
}

impl Control {
    /// How many bulk lanes the link to a neighbour has.
    fn lane_rule(&self, peer: NodeId) -> LaneRule {
        self.lane_rules.choice(peer).over(self.config.lane_rule_of(&self.node_ref(peer)))
    }

    /// The lanes that the link to a neighbour may have.
    pub(crate) fn lane_plan(&self, peer: NodeId) -> LanePlan {
        LanePlan { bulk_lanes_max: self.lane_rule(peer).bulk_lanes_max, ..self.config.lanes }
    }

    /// Tells the shard of a link its rule, if it knows another one.
    pub(crate) fn tell_lane_rule(&mut self, peer: NodeId) {
        let rule = Some(self.lane_rule(peer)).filter(|rule| *rule != self.config.lane_rule());
        let told = match rule {
            Some(rule) => self.lane_rules.told.insert(peer, rule),
            None => self.lane_rules.told.remove(&peer),
        };
        if told != rule {
            self.shards.send_to_link(peer, ControlToShard::SetLaneRule { peer, rule });
        }
    }

    /// Forgets what operators have chosen: this node leaves the mesh.
    pub(crate) fn clear_lane_rules(&mut self) {
        self.lane_rules.stored.clear();
        for peer in std::mem::take(&mut self.lane_rules.chosen).into_keys() {
            self.tell_lane_rule(peer);
        }
    }

    /// Changes the rule for a link's bulk lanes, at once; answered with the one in force when that is
    /// durable.
    pub(crate) fn set_lane_rule(
        &mut self,
        name: &str,
        change: LaneRuleChange,
        answer: Answer<LaneRuleView>,
    ) {
        let (peer, choice) = match self.changed_lane_rule(name, change) {
            Ok(changed) => changed,
            Err(error) => return drop(answer.send(Err(error))),
        };
        self.lane_rules.set(peer, choice);
        self.act_on_lane_rule(peer);
        self.store.run(
            move |store| store.put_lane_rule(peer, &choice.record()),
            move |control, stored| {
                if stored.is_ok() {
                    control.lane_rules.stored.insert(peer, choice);
                } else if control.lane_rules.choice(peer) == choice {
                    // A later change has its own answer.
                    control.lane_rules.restore(peer);
                    control.act_on_lane_rule(peer);
                }
                let (peer, rule) = (control.node_ref(peer), control.lane_rule(peer));
                let view = stored.map(|()| LaneRuleView { peer, rule });
                let _caller_gone = answer.send(view.map_err(PlaneError::from));
            },
        );
    }

    /// The rule of a link has changed: its shard and operators hear of it.
    fn act_on_lane_rule(&mut self, peer: NodeId) {
        self.tell_lane_rule(peer);
        let rule = self.lane_rule(peer);
        let inputs = vec![
            ("bulk_lanes_max", rule.bulk_lanes_max.to_string()),
            ("policy", rule.policy.name().to_owned()),
            ("configured", self.lane_rules.choice(peer).is_none().to_string()),
        ];
        self.note_lane_event(peer, "lanes-asked", inputs);
    }

    /// The neighbour of this name, and what is chosen for it after a change.
    fn changed_lane_rule(
        &self,
        name: &str,
        change: LaneRuleChange,
    ) -> Result<(NodeId, LaneRuleChoice), PlaneError> {
        let peer = match self.linked_peer(name) {
            // What was chosen can be changed while the neighbour is away, and when it has left.
            Err(error @ (PlaneError::NoLink { .. } | PlaneError::UnknownNode { .. })) => {
                self.chosen_peer(name)?.ok_or(error)?
            }
            found => found?,
        };
        let mut choice = self.lane_rules.choice(peer);
        match change.bulk_lanes_max {
            None => {}
            Some(0) => choice.bulk_lanes_max = None,
            Some(max) if max <= BULK_LANES_MAX => choice.bulk_lanes_max = Some(max),
            Some(wanted) => {
                let (what, value) = ("bulk_lanes_max", wanted.to_string());
                return Err(PlaneError::NameInvalid { what, value, rule: "1 to 4, or 0" });
            }
        }
        if let Some(policy) = change.policy {
            choice.policy = policy;
        }
        Ok((peer, choice))
    }

    /// The node of this name or id, if something was chosen for the link to it. Of a node that the mesh
    /// does not know any more this one may have kept the name; it may be another's by now.
    ///
    /// # Errors
    /// [`PlaneError::AmbiguousName`].
    fn chosen_peer(&self, name: &str) -> Result<Option<NodeId>, PlaneError> {
        let chosen = &self.lane_rules.chosen;
        let lsdb = self.flooding.lsdb();
        match resolve_node(lsdb, self.node, &self.config.node_name, name) {
            Err(PlaneError::UnknownNode { .. }) => {}
            known => return known.map(|peer| Some(peer).filter(|peer| chosen.contains_key(peer))),
        }
        let id = name.parse().ok();
        let is_called =
            |peer: NodeId| !name.is_empty() && self.node_ref(peer).name == name || Some(peer) == id;
        let candidates: Vec<_> = chosen.keys().copied().filter(|&peer| is_called(peer)).collect();
        match candidates.as_slice() {
            [] => Ok(None),
            &[peer] => Ok(Some(peer)),
            _ => Err(PlaneError::AmbiguousName { name: name.to_owned(), candidates }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_chosen_and_nothing_unknown() {
        for bulk_lanes_max in [None, Some(1), Some(4)] {
            for policy in [None, Some(LanePolicyMode::DryRun), Some(LanePolicyMode::Off)] {
                let choice = LaneRuleChoice { bulk_lanes_max, policy };
                assert_eq!(LaneRuleChoice::of_record(&choice.record()), choice);
            }
        }
        let later = LaneRuleRecord { bulk_lanes_max: Some(5), policy: Some("nights".to_owned()) };
        assert!(LaneRuleChoice::of_record(&later).is_none());
    }
}
