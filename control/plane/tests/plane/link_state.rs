use hawser_exchange::ShardToControl;
use hawser_identity::NodeKey;
use hawser_plane::EventKind;
use hawser_routing::{Lsa, LsaFlags};
use hawser_wire::{Incarnation, StreamId};

use crate::node::{chain, event};

/// What a neighbour's control plane says when it floods this advertisement.
pub(crate) fn flooded(key: &NodeKey, name: &str, address: &str) -> Vec<u8> {
    let mut lsa = Lsa {
        origin: key.node_id(),
        incarnation: Incarnation(1),
        sequence: 1,
        name: name.to_owned(),
        address: address.to_owned(),
        public_key: key.public_key(),
        flags: LsaFlags::default(),
        adjacencies: Vec::new(),
        signature: [0; 64],
    };
    lsa.signature = key.sign(&lsa.signed_bytes());
    // A link message that floods, a flooding message that advertises.
    let mut body = vec![1, 1];
    lsa.encode(&mut body);
    body
}

#[tokio::test]
async fn names_that_are_none_are_refused_once_and_printably() {
    let (a, b, c) = chain().await;
    let mut events = a.handle.events();
    let (stream, from) = (StreamId::from_bytes([0; 16]), b.id());
    let say = |body: Vec<u8>| {
        a.say(stream, ShardToControl::LinkControl { from, body: body.into() });
    };
    let strangers: Vec<_> = (0..3).map(|_| NodeKey::generate().expect("key")).collect();
    for _ in 0..3 {
        say(flooded(&strangers[0], "evil\x1b[2J\r\n", ""));
    }
    say(flooded(&strangers[1], "d", "d\x07:7480"));
    say(flooded(&strangers[2], "e", "e.example:7480"));
    // All of it is handled in this order: what has been said by then is all that is said.
    let mut refused = Vec::new();
    loop {
        let event = events.recv().await.expect("the plane runs");
        match event.kind {
            EventKind::Refused => refused.push(event.detail),
            EventKind::NodeJoined => {
                assert_eq!(event.node, Some(strangers[2].node_id()));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused[0].contains("evil\\u{1b}[2J\\r\\n") && refused[0].contains("control characters")
    );
    assert!(refused[1].contains("no host has"), "{refused:?}");
    assert!(refused.iter().all(|detail| !detail.contains(char::is_control)), "{refused:?}");
    let status = a.handle.status().await.expect("status");
    let known = |key: &NodeKey| status.nodes.iter().any(|node| node.node == key.node_id());
    assert_eq!(strangers.iter().map(known).collect::<Vec<_>>(), [false, false, true]);

    // Whoever says it, and whatever for.
    let reason = "closed by the peer: \x1b]0;x\x07".into();
    let lane = a.handle.lanes().await.expect("lanes").remove(0);
    let down = ShardToControl::LaneDown { peer: from, lane: lane.lane, epoch: lane.epoch, reason };
    a.say(stream, down);
    let told = event(&mut events, EventKind::LaneDown).await;
    assert!(told.detail.ends_with("closed by the peer: \\u{1b}]0;x\\u{7}"), "{told:?}");
    for node in [a, b, c] {
        node.stop().await;
    }
}
