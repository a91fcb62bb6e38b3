//! What an operator adds to the cost of a link.

use std::time::Duration;

use hawser_exchange::ShardToControl;
use hawser_plane::{PeerSelector, RouteHopView, RoutesView, VerdictView};
use hawser_wire::{LaneId, NodeId, TrafficClass};
use tokio::time::timeout;

use crate::node::{Node, PATIENCE, Setup, start};

const ADMIN: u16 = 3;
/// Latencies of links in a test are below it.
const HOP_WEIGHT: f64 = 1e6;

/// A has links to the hub B and to C, which has one to B. A's to C costs more hops.
async fn triangle() -> (Node, Node, Node) {
    let setup = |setup| Setup { hop_weight: HOP_WEIGHT, ..setup };
    let b = start(setup(Setup::listens("b"))).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let admin = vec![(PeerSelector::Name("c".to_owned()), ADMIN)];
    let a = start(Setup { admin, ..setup(Setup::dials_only("a")) }).await;
    let c = start(setup(Setup::listens("c"))).await;
    b.admit(&a).await;
    b.admit(&c).await;
    a.until_reaches(2).await;
    let (peer, lane, class) = (c.id(), LaneId(0), TrafficClass::Control);
    a.say_of_link(peer, ShardToControl::WantLane { peer, lane, class });
    (a, b, c)
}

/// The mesh as a node knows it, once it knows the link from A to C.
async fn until_linked(node: &Node, ends: (NodeId, NodeId)) -> RoutesView {
    let mut events = node.handle.events();
    let waiting = async {
        loop {
            let view = node.handle.routes(Vec::new()).await.expect("routes");
            if admin(&view, ends).is_some() {
                return view;
            }
            let _lagged_or_none = timeout(Duration::from_millis(50), events.recv()).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("a link")
}

/// What is announced of the way between neighbours, if both have announced the link.
fn admin(view: &RoutesView, (from, to): (NodeId, NodeId)) -> Option<u32> {
    let topology = view.topology();
    let node = |place: usize| topology.nodes.get(place).map(|row| row.node.node);
    topology.links.iter().find_map(|&(one, other, there, back)| match (node(one)?, node(other)?) {
        ends if ends == (from, to) => Some(there.admin),
        ends if ends == (to, from) => Some(back.admin),
        _ => None,
    })
}

#[tokio::test]
async fn a_link_that_an_operator_makes_dearer_is_announced_so_and_avoided() {
    let (a, b, c) = triangle().await;
    // B knows it from A's advertisement alone.
    let there = (a.id(), c.id());
    for node in [&a, &b] {
        let view = until_linked(node, there).await;
        assert_eq!(admin(&view, there), Some(ADMIN.into()));
        assert_eq!(admin(&view, (c.id(), a.id())), Some(0), "the way back is C's to say");
        let found = view.explain(TrafficClass::Bulk, there, 2);
        let names = |hops: &[RouteHopView]| -> Vec<String> {
            hops.iter().map(|hop| hop.to.name.clone()).collect()
        };
        let [best, direct] = found.as_slice() else { panic!("two paths: {found:?}") };
        assert_eq!(
            (names(&best.hops), names(&direct.hops)),
            (vec!["b".into(), "c".into()], vec!["c".into()])
        );
        assert_eq!(direct.hops.iter().map(|hop| hop.terms.hop).sum::<u32>(), 4_000_000);
        assert!(matches!(direct.verdict, VerdictView::Dearer(_)), "{direct:?}");
    }
    for node in [a, b, c] {
        node.stop().await;
    }
}
