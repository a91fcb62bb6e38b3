use hawser_wire::{LaneId, LinkEpoch, NodeId};

use crate::node::{Node, Setup, free_port, start, try_start};

async fn lanes(node: &Node) -> Vec<(NodeId, LaneId, LinkEpoch, bool)> {
    let lanes = node.handle.lanes().await.expect("lanes");
    lanes.iter().map(|lane| (lane.peer.node, lane.lane, lane.epoch, lane.dialled)).collect()
}

/// Two nodes that dial each other at the same time end with the same connection for each lane.
#[tokio::test]
async fn two_nodes_that_dial_each_other_agree() {
    let (at_a, at_b) = (free_port().to_string(), free_port().to_string());
    let at = |at: &str| Some(at.to_owned());
    let a = Setup { listen: at(&at_a), dial: vec![at_b.clone()], ..Setup::listens("a") };
    let a = start(a).await;
    let b = start(Setup { listen: at(&at_b), dial: vec![at_a], ..Setup::listens("b") }).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    b.admit(&a).await;
    for round in 0..3 {
        a.until_reaches(1).await;
        b.until_reaches(1).await;
        // Three lanes at both ends, the same ones: events follow each change of a lane.
        let (mut at_a, mut at_b) = (a.handle.events(), b.handle.events());
        let agreed = async {
            loop {
                let (ours, theirs) = (lanes(&a).await, lanes(&b).await);
                let mirrored: Vec<_> = ours
                    .iter()
                    .map(|&(_, lane, epoch, dialled)| (a.id(), lane, epoch, !dialled))
                    .collect();
                if ours.len() == 3 && mirrored == theirs {
                    return;
                }
                tokio::select! { _ = at_a.recv() => {}, _ = at_b.recv() => {} }
            }
        };
        tokio::time::timeout(crate::node::PATIENCE, agreed).await.expect("they agree");
        if round < 2 {
            // Both lose everything at once and dial again at once.
            a.handle.stop_mesh().await.expect("stops");
            a.handle.start_mesh().await.expect("starts");
        }
    }
    a.stop().await;
    b.stop().await;
}

/// A node that dials its own address gives up on it and goes on serving others.
#[tokio::test]
async fn a_node_that_dials_itself_says_so() {
    let address = free_port().to_string();
    let listen = Some(address.clone());
    let setup = Setup { listen, dial: vec![address], ..Setup::listens("a") };
    let directory = std::sync::Arc::new(tempfile::tempdir().expect("temporary directory"));
    let a = try_start(setup, directory).await.expect("starts");
    let mut events = a.handle.events();
    a.handle.seed_mesh("test", "").await.expect("seeds");
    // Both its sides are refused; the dialling one knows why.
    loop {
        let refused = crate::node::event(&mut events, hawser_plane::EventKind::Refused).await;
        if refused.detail.contains("itself") {
            break;
        }
    }
    assert_eq!(lanes(&a).await, []);
    a.stop().await;
}
