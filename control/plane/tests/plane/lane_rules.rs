//! Operators bound the bulk lanes of a link.

use hawser_exchange::{LanePolicyMode, LaneRule};
use hawser_plane::{LaneRuleChange, LaneRuleChoice, PeerSelector, PlaneError};
use hawser_wire::{LaneId, NodeId, TrafficClass};

use crate::node::{Node, Setup, start, try_start};
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

/// The rules that a node has told its shards, now that its link has all that it always has.
async fn told_with_the_link(node: &mut Node, peer: NodeId) -> Vec<(NodeId, Option<LaneRule>)> {
    until_lanes(node, peer, &[0, 1, 2]).await;
    let told = std::iter::from_fn(|| node.told.try_recv().ok());
    let rule = |told| match told {
        Told::Rule(peer, rule) => Some((peer, rule)),
        _ => None,
    };
    told.filter_map(rule).collect()
}

async fn restart(node: Node) -> Node {
    let (setup, directory) = node.stop().await;
    try_start(setup, directory).await.expect("starts")
}

#[tokio::test]
async fn what_was_chosen_holds_over_restarts_until_it_is_taken_back() {
    use LanePolicyMode::{DryRun, On};
    let (mut a, b) = pair().await;
    for (change, kept) in [
        (cap(2), Some(rule(2, On))),
        (policy(Some(DryRun)), Some(rule(2, DryRun))),
        // Chosen as it is configured, which may change.
        (cap(4), Some(rule(4, DryRun))),
        (cap(0), Some(rule(4, DryRun))),
        (policy(None), None),
    ] {
        a.handle.set_lane_rule("b".into(), change).await.expect("there is a link");
        a = restart(a).await;
        let told = told_with_the_link(&mut a, b.id()).await;
        let expected: Vec<_> = kept.map(|rule| (b.id(), Some(rule))).into_iter().collect();
        assert_eq!(told, expected, "{change:?}");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn what_was_chosen_can_be_taken_back_while_the_neighbour_is_away() {
    let (mut a, b) = pair().await;
    let id = b.id();
    a.handle.set_lane_rule("b".into(), cap(2)).await.expect("there is a link");
    assert_eq!(told(&mut a).await, (id, Some(rule(2, LanePolicyMode::On))));
    b.stop().await;
    until_lanes(&a, id, &[]).await;
    let mut a = restart(a).await;
    let unnamed = a.handle.set_lane_rule(String::new(), cap(1)).await;
    assert!(matches!(unnamed, Err(PlaneError::UnknownNode { .. })), "{unnamed:?}");
    // Its name may be forgotten by now, as nobody is there to tell it.
    let view = a.handle.set_lane_rule(id.to_string(), cap(0)).await.expect("something was chosen");
    assert_eq!(view.rule, rule(4, LanePolicyMode::On));
    let refused = a.handle.set_lane_rule(id.to_string(), cap(1)).await;
    assert!(matches!(refused, Err(PlaneError::UnknownNode { .. })), "{refused:?}");
    assert!(a.told.try_recv().is_err(), "there was no link");
    a.stop().await;
}

#[tokio::test]
async fn a_configured_rule_holds_for_its_neighbour_and_a_chosen_one_goes_before() {
    use LanePolicyMode::{Off, On};
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let id = b.id();
    let choice = |bulk_lanes_max, policy| LaneRuleChoice { bulk_lanes_max, policy };
    let lane_rules = vec![
        (PeerSelector::Id(id), choice(Some(3), None)),
        (PeerSelector::Name("b".to_owned()), choice(Some(1), Some(Off))),
        (PeerSelector::Name("c".to_owned()), choice(Some(2), Some(On))),
    ];
    let mut a = start(Setup { lane_rules, ..Setup::dials_only("a") }).await;
    b.admit(&a).await;
    assert_eq!(told_with_the_link(&mut a, id).await, [(id, Some(rule(3, Off)))]);
    for (change, in_force) in [
        (cap(2), rule(2, Off)),
        (policy(Some(On)), rule(2, On)),
        (cap(0), rule(3, On)),
        (policy(None), rule(3, Off)),
    ] {
        let view = a.handle.set_lane_rule("b".into(), change).await.expect("there is a link");
        assert_eq!(view.rule, in_force, "{change:?}");
        assert_eq!(told(&mut a).await, (id, Some(in_force)), "{change:?}");
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn who_leaves_the_mesh_forgets_what_was_chosen_in_it() {
    let (mut a, b) = pair().await;
    a.handle.set_lane_rule("b".into(), cap(2)).await.expect("there is a link");
    assert_eq!(told(&mut a).await, (b.id(), Some(rule(2, LanePolicyMode::On))));
    a.handle.leave_mesh().await.expect("leaves");
    assert_eq!(told(&mut a).await, (b.id(), None));
    let mut a = restart(a).await;
    b.admit(&a).await;
    assert_eq!(told_with_the_link(&mut a, b.id()).await, []);
    a.stop().await;
    b.stop().await;
}
