//! Who is evicted is decided by the mesh's authority alone, and is heard no more.

use hawser_exchange::ShardToControl;
use hawser_plane::{EventKind, MeshState, PlaneError, StatusView};
use hawser_wire::{Eviction, NodeId, StreamId};

use crate::link_state::Member;
use crate::node::{chain, event};

fn is_out(status: &StatusView, node: NodeId) -> bool {
    status.evictions.iter().any(|eviction| eviction.node.node == node)
}

#[tokio::test]
async fn an_eviction_is_the_authoritys_or_none() {
    let (a, b, c) = chain().await;
    let mut events = a.handle.events();
    let mesh = a.handle.status().await.expect("status").mesh.expect("in a mesh").mesh;
    let mut forged = Eviction {
        mesh,
        node: c.id(),
        by: b.id(),
        evicted_unix_s: 1,
        name: "c".into(),
        reason: String::new(),
        signature: [7; 64],
    };
    let mut body = vec![3];
    forged.encode(&mut body);
    let (stream, from) = (StreamId::from_bytes([0; 16]), b.id());
    a.say(stream, ShardToControl::LinkControl { from, body: body.into() });
    let told = event(&mut events, EventKind::Refused).await;
    assert!(told.detail.contains("authority has not signed"), "{told:?}");
    // A digest alone means nothing.
    let digest = [&[4], &9_u32.to_le_bytes()[..], &[1; 8]].concat();
    a.say(stream, ShardToControl::LinkControl { from, body: digest.into() });
    let status = a.handle.status().await.expect("status");
    assert!(status.evictions.is_empty() && status.state == MeshState::Running);

    // What the authority decides is taken, however the record comes; that of another mesh is not.
    b.handle.evict("c".into(), "lost".into()).await.expect("evicts");
    let status = a.until("the eviction", |status| is_out(status, c.id())).await;
    assert_eq!(
        (status.evictions[0].reason.as_str(), status.evictions[0].by.node),
        ("lost", b.id())
    );
    c.until("its own", |status| status.state == MeshState::Evicted).await;
    assert!(
        matches!(c.handle.start_mesh().await, Err(PlaneError::Evicted { mesh }) if mesh == "test")
    );
    forged.node = b.id();
    let mut body = vec![3];
    forged.encode(&mut body);
    a.say(stream, ShardToControl::LinkControl { from, body: body.into() });
    let status = a.until("an answer", |status| status.state == MeshState::Running).await;
    assert!(!is_out(&status, b.id()));
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn link_state_of_an_evicted_node_goes_and_does_not_come_back() {
    let (a, b, c) = chain().await;
    let member = Member::admit(&b, "m").await;
    let node = member.key.node_id();
    let say = |flooded: [Vec<u8>; 2]| {
        let (stream, from) = (StreamId::from_bytes([0; 16]), b.id());
        for body in flooded {
            a.say(stream, ShardToControl::LinkControl { from, body: body.into() });
        }
    };
    let knows = |status: &StatusView| status.nodes.iter().any(|known| known.node == node);
    say(member.flooded("m", ""));
    a.until("the member", knows).await;
    // It is down and B may have forgotten it: its name is enough.
    b.handle.evict("m".into(), String::new()).await.expect("evicts");
    a.until("no member", |status| is_out(status, node) && !knows(status)).await;
    say(member.flooded("m", ""));
    let status = a
        .until("a refusal", |status| {
            status
                .link_state_rejects
                .iter()
                .any(|&(reason, count)| reason == "evicted" && count > 0)
        })
        .await;
    assert!(!knows(&status));
    // Its name is free, its key is not.
    let again = Member::admit(&b, "m").await;
    assert_ne!(again.key.node_id(), node);
    b.handle.evict(node.to_string(), String::new()).await.expect("is out already");
    assert!(!is_out(&b.handle.status().await.expect("status"), again.key.node_id()));
    for node in [a, b, c] {
        node.stop().await;
    }
}
