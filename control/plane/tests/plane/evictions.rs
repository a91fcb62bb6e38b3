//! Who is evicted is decided by the mesh's authority alone, and is heard no more.

use hawser_exchange::ShardToControl;
use hawser_identity::MeshAuthority;
use hawser_plane::{EventKind, EventView, MeshState, PlaneError, StatusView};
use hawser_store::Store;
use hawser_wire::{Eviction, MeshId, NodeId, StreamId};
use tokio::sync::broadcast;

use crate::link_state::Member;
use crate::node::{Node, Setup, chain, chain_around, event, start, try_start};

const STRANGER: NodeId = NodeId::from_bytes([8; 16]);
const NOT_SIGNED: &str = "an eviction that the mesh's authority has not signed";
const MALFORMED: &str = "link message: ";

fn is_out(status: &StatusView, node: NodeId) -> bool {
    status.evictions.iter().any(|eviction| eviction.node.node == node)
}

/// A chain of three whose authority's key the test has, too.
async fn chain_and_authority() -> (Node, Node, Node, MeshAuthority) {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let (setup, directory) = b.stop().await;
    let record = Store::open(directory.path()).expect("store").mesh().expect("reads");
    let record = record.expect("in a mesh");
    let key = record.authority_key.expect("the authority");
    let authority = MeshAuthority::from_parts(&record.authority, &key).expect("authority");
    let b = try_start(setup, directory).await.expect("starts");
    let (a, c) = chain_around(&b).await;
    (a, b, c, authority)
}

fn eviction(mesh: MeshId, node: NodeId) -> Eviction {
    Eviction {
        mesh,
        node,
        by: NodeId::from_bytes([1; 16]),
        evicted_unix_s: 1,
        name: "x".into(),
        reason: String::new(),
        signature: [7; 64],
    }
}

fn signed(authority: &MeshAuthority, eviction: Eviction) -> Eviction {
    Eviction { signature: authority.sign(&eviction.signed_bytes()), ..eviction }
}

/// The body of a link message.
fn told(eviction: &Eviction) -> Vec<u8> {
    let mut body = vec![3];
    eviction.encode(&mut body);
    body
}

/// What a neighbour says comes in, as from the link to it.
fn hear(node: &Node, from: NodeId, body: Vec<u8>) {
    let message = ShardToControl::LinkControl { from, body: body.into() };
    node.say(StreamId::from_bytes([0; 16]), message);
}

/// Waits until something was refused: the next that is, for this reason. A reason is told once, until
/// there is another one.
async fn refused(events: &mut broadcast::Receiver<EventView>, why: &str) {
    let told = event(events, EventKind::Refused).await;
    assert!(told.detail.contains(why), "{told:?}, not {why:?}");
}

#[tokio::test]
async fn an_eviction_is_the_authoritys_or_none() {
    let (a, b, c, authority) = chain_and_authority().await;
    let mut events = a.handle.events();
    let mesh = a.handle.status().await.expect("status").mesh.expect("in a mesh").mesh;
    let other_mesh = MeshId::from_bytes([9; 16]);
    // What one neighbour says is handled in order: once what is malformed was refused, so was or was
    // taken all that came before it.
    hear(&a, b.id(), told(&eviction(mesh, c.id())));
    refused(&mut events, NOT_SIGNED).await;
    hear(&a, b.id(), vec![3]);
    refused(&mut events, MALFORMED).await;
    hear(&a, b.id(), told(&signed(&authority, eviction(other_mesh, c.id()))));
    refused(&mut events, NOT_SIGNED).await;
    // A digest alone means nothing.
    hear(&a, b.id(), [&[4], &9_u32.to_le_bytes()[..], &[1; 8]].concat());
    hear(&a, b.id(), vec![4]);
    refused(&mut events, MALFORMED).await;
    let status = a.handle.status().await.expect("status");
    assert!(status.evictions.is_empty() && status.state == MeshState::Running);
    assert!(status.nodes.iter().any(|node| node.node == c.id() && node.reachable));

    // What the authority decides is taken, however the record comes.
    hear(&a, b.id(), told(&signed(&authority, eviction(mesh, STRANGER))));
    a.until("the stranger's", |status| is_out(status, STRANGER)).await;
    b.handle.evict("c".into(), "lost".into()).await.expect("evicts");
    let left = event(&mut events, EventKind::NodeLeft).await;
    assert_eq!((left.node, left.detail.as_str()), (Some(c.id()), "node c"));
    let status = a.until("the eviction", |status| is_out(status, c.id())).await;
    let taken = status.evictions.iter().find(|eviction| eviction.node.node == c.id());
    let taken = taken.expect("is out");
    assert_eq!((taken.reason.as_str(), taken.by.node), ("lost", b.id()));
    c.until("its own", |status| status.state == MeshState::Evicted).await;
    assert!(
        matches!(c.handle.start_mesh().await, Err(PlaneError::Evicted { mesh }) if mesh == "test")
    );
    // What is forged is not, after one that is not, either.
    hear(&a, b.id(), told(&eviction(mesh, b.id())));
    refused(&mut events, NOT_SIGNED).await;
    let status = a.handle.status().await.expect("status");
    assert!(!is_out(&status, b.id()) && status.state == MeshState::Running);
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_name_that_became_free_is_its_new_nodes() {
    let (a, b, c, authority) = chain_and_authority().await;
    let first = Member::admit(&b, "m").await.key.node_id();
    b.handle.evict("m".into(), String::new()).await.expect("evicts");
    // B has no link state of the second one, only that it was let in.
    let second = Member::admit(&b, "m").await.key.node_id();
    b.handle.evict(first.to_string(), String::new()).await.expect("is out already");
    let status = b.handle.status().await.expect("status");
    assert!(is_out(&status, first) && !is_out(&status, second));
    b.handle.evict("m".into(), String::new()).await.expect("evicts");
    let status = b.handle.status().await.expect("status");
    assert!(is_out(&status, second));
    b.handle.evict("m".into(), String::new()).await.expect("is out already");
    assert_eq!(b.handle.status().await.expect("status").evictions, status.evictions);
    assert!(matches!(
        b.handle.evict("n".into(), String::new()).await,
        Err(PlaneError::UnknownNode { .. })
    ));
    // Which of two is meant is not answered by a third that is out.
    let namesakes = [(); 2].map(|()| Member::signed_by(&authority, "m"));
    for member in &namesakes {
        for body in member.flooded("m", "") {
            hear(&b, a.id(), body);
        }
    }
    let known = |status: &StatusView, member: &Member| {
        status.nodes.iter().any(|node| node.node == member.key.node_id())
    };
    b.until("both", |status| namesakes.iter().all(|member| known(status, member))).await;
    assert!(matches!(
        b.handle.evict("m".into(), String::new()).await,
        Err(PlaneError::AmbiguousName { .. })
    ));
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn an_eviction_stays_in_its_mesh() {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let member = Member::admit(&b, "m").await.key.node_id();
    // A stopped mesh is left without a farewell. Both calls are made before the store, which runs on
    // a thread of its own, can be heard: what it has decided comes when the mesh is left.
    b.handle.stop_mesh().await.expect("stops");
    let (evicted, left) =
        tokio::join!(b.handle.evict("m".into(), String::new()), b.handle.leave_mesh());
    left.expect("leaves");
    b.handle.seed_mesh("next", "").await.expect("seeds");
    assert_eq!(b.handle.status().await.expect("status").evictions, []);
    assert!(matches!(evicted, Err(PlaneError::NoMesh)), "{evicted:?}");

    // Nor does it come back from the disk.
    let mesh = b.handle.status().await.expect("status").mesh.expect("in a mesh").mesh;
    let (setup, directory) = b.stop().await;
    let store = Store::open(directory.path()).expect("store");
    for (mesh, node) in [(MeshId::from_bytes([9; 16]), member), (mesh, STRANGER)] {
        let body = told(&eviction(mesh, node));
        store.put_eviction(node, &body[1..]).expect("kept");
    }
    drop(store);
    let b = try_start(setup, directory).await.expect("starts");
    let status = b.handle.status().await.expect("status");
    assert!(is_out(&status, STRANGER) && !is_out(&status, member), "{:?}", status.evictions);
    b.stop().await;
}

#[tokio::test]
async fn link_state_of_an_evicted_node_goes_and_does_not_come_back() {
    let (a, b, c) = chain().await;
    let member = Member::admit(&b, "m").await;
    let node = member.key.node_id();
    let say = |flooded: [Vec<u8>; 2]| {
        for body in flooded {
            hear(&a, b.id(), body);
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
