//! Operators bound the bulk lanes of a link.

use hawser_exchange::{LanePolicyMode, LaneRule};
use hawser_plane::{LaneRuleChange, PlaneError};
use hawser_wire::{LaneId, NodeId, TrafficClass};

use crate::node::Node;
use crate::shard::Told;
use crate::wanted_lanes::{miss, pair, until_lanes};

/// What the plane tells its shard of a rule next.
async fn told(node: &mut Node) -> (NodeId, Option<LaneRule>) {
    loop {
        if let Told::Rule(peer, rule) = node.told().await {
            return (peer, rule);
        }
    }
}

const fn rule(bulk_lanes_max: u8, policy: LanePolicyMode) -> LaneRule {
    LaneRule { bulk_lanes_max, policy }
}

const fn cap(lanes: u8) -> LaneRuleChange {
    LaneRuleChange { bulk_lanes_max: Some(lanes), policy: None }
}

const fn policy(policy: Option<LanePolicyMode>) -> LaneRuleChange {
    LaneRuleChange { bulk_lanes_max: None, policy: Some(policy) }
}

#[tokio::test]
async fn a_rule_is_the_links_until_it_is_taken_back() {
    use LanePolicyMode::{DryRun, Off, On};
    let (mut a, b) = pair().await;
    let dry_run = policy(Some(DryRun));
    for (change, in_force, chosen) in [
        (cap(2), rule(2, On), true),
        (dry_run, rule(2, DryRun), true),
        (cap(0), rule(4, DryRun), true),
        (policy(Some(Off)), rule(4, Off), true),
        (policy(None), rule(4, On), false),
    ] {
        let view = a.handle.set_lane_rule("b".into(), change).await.expect("there is a link");
        assert_eq!((view.peer.node, view.rule), (b.id(), in_force), "{change:?}");
        assert_eq!(told(&mut a).await, (b.id(), chosen.then_some(in_force)), "{change:?}");
    }
    let events = a.handle.lane_events(None).await.expect("events").kept;
    assert_eq!(events.iter().filter(|event| event.name == "lanes-asked").count(), 5);
    let refused = a.handle.set_lane_rule("b".into(), cap(5)).await;
    assert!(matches!(refused, Err(PlaneError::NameInvalid { .. })), "{refused:?}");
    let refused = a.handle.set_lane_rule("a".into(), cap(1)).await;
    assert!(matches!(refused, Err(PlaneError::NoLink { .. })), "{refused:?}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn no_lane_beyond_the_cap_is_dialled() {
    let (a, b) = pair().await;
    a.handle.set_lane_rule("b".into(), cap(2)).await.expect("there is a link");
    miss(&a, b.id(), LaneId(4), TrafficClass::Bulk);
    miss(&a, b.id(), LaneId(3), TrafficClass::Bulk);
    until_lanes(&a, b.id(), &[0, 1, 2, 3]).await;
    a.handle.set_lane_rule("b".into(), cap(0)).await.expect("there is a link");
    miss(&a, b.id(), LaneId(5), TrafficClass::Bulk);
    until_lanes(&a, b.id(), &[0, 1, 2, 3, 5]).await;
    a.stop().await;
    b.stop().await;
}
