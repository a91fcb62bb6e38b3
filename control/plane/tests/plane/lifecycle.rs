use std::time::Duration;

use hawser_plane::{EventKind, MeshState, PlaneError, StatusView};
use hawser_wire::{CloseReason, LaneId, NodeId, TrafficClass};

use crate::node::{Setup, chain, event, free_port, start, try_start};

#[tokio::test]
async fn three_nodes_in_a_row_find_each_other() {
    let (a, b, c) = chain().await;
    let status = a.handle.status().await.expect("status");
    let hops = |node: NodeId| {
        status.nodes.iter().find(|view| view.node == node).map(|view| (view.reachable, view.hops))
    };
    assert_eq!(hops(a.id()), Some((true, 0)));
    assert_eq!(hops(b.id()), Some((true, 1)));
    assert_eq!(hops(c.id()), Some((true, 2)));
    let mesh = status.mesh.expect("in a mesh");
    assert_eq!((mesh.name.as_str(), mesh.authority), ("test", false));
    // Every lane of the plan comes up, dialled by A.
    a.until("three lanes up", |status| status.links.iter().any(|link| link.lanes == 3)).await;
    let lanes = a.handle.lanes().await.expect("lanes");
    let lanes: Vec<_> =
        lanes.iter().map(|lane| (lane.peer.node, lane.lane, lane.dialled)).collect();
    assert_eq!(lanes, [0, 1, 2].map(|lane| (b.id(), LaneId(lane), true)));
    // The link between B and C is known at A.
    let far = status.links.iter().any(|link| {
        let ends = [link.a.node, link.b.node];
        ends.contains(&b.id()) && ends.contains(&c.id()) && link.up
    });
    assert!(far, "{:?}", status.links);
    // Once it has settled the database is the same everywhere.
    let digest = b.handle.status().await.expect("status").lsdb_digest;
    a.until("settled", |status| status.lsdb_digest == digest).await;
    c.until("settled", |status| status.lsdb_digest == digest).await;
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn tokens_and_names_are_good_once() {
    let b = start(Setup::listens("b")).await;
    assert!(matches!(
        b.handle.issue_token(Duration::ZERO, None, None).await,
        Err(PlaneError::NoMesh)
    ));
    b.handle.seed_mesh("test", "").await.expect("seeds");
    assert!(matches!(
        b.handle.seed_mesh("other", "").await,
        Err(PlaneError::AlreadyInMesh { name }) if name == "test"
    ));
    let (token, expires) = b.handle.issue_token(Duration::ZERO, None, None).await.expect("token");
    assert!(expires > 3600);
    let a = start(Setup::dials_only("a")).await;
    a.handle.join_mesh(token.clone(), None).await.expect("joins");
    assert!(matches!(
        a.handle.join_mesh(token.clone(), None).await,
        Err(PlaneError::AlreadyInMesh { .. })
    ));
    assert!(matches!(
        a.handle.issue_token(Duration::ZERO, None, None).await,
        Err(PlaneError::NoAuthority { mesh }) if mesh == "test"
    ));

    let mut events = b.handle.events();
    let c = start(Setup::dials_only("c")).await;
    let refused = c.handle.join_mesh(token.clone(), None).await;
    assert!(
        matches!(&refused, Err(PlaneError::Refused { reason: CloseReason::TokenRefused, detail, .. })
            if detail.contains("used before")),
        "{refused:?}"
    );
    let told = event(&mut events, EventKind::Refused).await;
    assert!(told.detail.contains("used before"), "{told:?}");
    let cut = &token[..token.len() - 1];
    assert!(matches!(
        c.handle.join_mesh(cut, None).await,
        Err(PlaneError::TokenInvalid { detail }) if detail.contains("checksum")
    ));
    let (bound, _) = b.handle.issue_token(Duration::ZERO, Some(a.id()), None).await.expect("token");
    assert!(matches!(
        c.handle.join_mesh(bound, None).await,
        Err(PlaneError::TokenInvalid { detail }) if detail.contains("it is for node")
    ));
    // A second node called "a" is refused, and its token stays good for another name.
    let (token, _) = b.handle.issue_token(Duration::ZERO, None, None).await.expect("token");
    let impostor = start(Setup::dials_only("a")).await;
    assert!(matches!(
        impostor.handle.join_mesh(token.clone(), None).await,
        Err(PlaneError::Refused { reason: CloseReason::NameTaken, .. })
    ));
    c.handle.join_mesh(token, None).await.expect("joins");
    assert_eq!(c.handle.status().await.expect("status").state, MeshState::Running);
    for node in [a, b, c, impostor] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_accepts_nothing_has_no_address_to_give() {
    let a = start(Setup::dials_only("a")).await;
    a.handle.seed_mesh("test", "").await.expect("seeds");
    assert!(matches!(
        a.handle.issue_token(Duration::ZERO, None, None).await,
        Err(PlaneError::NoAddress)
    ));
    let address = Some("relay.example:7480".to_owned());
    a.handle.issue_token(Duration::ZERO, None, address).await.expect("an address of its own");
    let too_long = a.handle.issue_token(Duration::from_secs(u64::MAX), None, None).await;
    assert!(matches!(too_long, Err(PlaneError::NameInvalid { .. })));
    a.stop().await;
}

#[tokio::test]
async fn a_dead_address_is_named() {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let nowhere = free_port().to_string();
    let (token, _) =
        b.handle.issue_token(Duration::ZERO, None, Some(nowhere.clone())).await.expect("token");
    let a = start(Setup::dials_only("a")).await;
    let error = a.handle.join_mesh(token.clone(), None).await.expect_err("nobody listens");
    assert!(matches!(&error, PlaneError::Unreachable { address, .. } if *address == nowhere));
    assert_eq!(a.handle.status().await.expect("status").state, MeshState::None);
    let address = b.listening().await.to_string();
    a.handle.join_mesh(token, Some(address)).await.expect("by another address");
    a.until_reaches(1).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_in_a_mesh_and_outside() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("bound").to_string();
    let setup = Setup { listen: Some(address.clone()), ..Setup::listens("b") };
    let directory = std::sync::Arc::new(tempfile::tempdir().expect("temporary directory"));
    let in_use = |error: PlaneError| {
        let text = error.to_string();
        assert!(matches!(error, PlaneError::Listen { .. }), "{text}");
        assert!(text.contains(&address) && text.contains("in use"), "{text}");
    };
    in_use(try_start(setup.clone(), directory.clone()).await.err().expect("port in use"));
    drop(taken);
    let node = try_start(setup.clone(), directory.clone()).await.expect("free now");
    node.handle.seed_mesh("test", "").await.expect("seeds");
    node.stop().await;
    let _taken = std::net::TcpListener::bind(&address).expect("free again");
    in_use(try_start(setup, directory).await.err().expect("port in use"));
}

#[tokio::test]
async fn a_member_keeps_its_name() {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let (setup, directory) = b.stop().await;
    let error = try_start(Setup { name: "renamed", ..setup }, directory).await.err();
    assert!(matches!(
        error,
        Some(PlaneError::NameFixed { stored, configured, .. })
            if stored == "b" && configured == "renamed"
    ));
}

#[tokio::test]
async fn who_leaves_is_gone_and_may_come_back() {
    let (a, b, c) = chain().await;
    let mut events = b.handle.events();
    a.handle.leave_mesh().await.expect("leaves");
    assert!(matches!(a.handle.leave_mesh().await, Err(PlaneError::NoMesh)));
    let status = a.handle.status().await.expect("status");
    assert_eq!(status.state, MeshState::None);
    assert_eq!(status.nodes, []);
    assert!(a.handle.mesh_credentials().borrow().is_none());
    let left = event(&mut events, EventKind::NodeLeft).await;
    assert_eq!(left.node, Some(a.id()));
    assert_eq!(left.detail, "node a");
    c.until("without a", |status| !status.nodes.iter().any(|node| node.name == "a")).await;
    // The database knows it for a while yet, and answers do not.
    let view = c.handle.routes(Vec::new()).await.expect("a view");
    let names: Vec<String> = view.topology().nodes.into_iter().map(|row| row.node.name).collect();
    assert!(names.len() == 2 && !names.contains(&"a".to_owned()), "{names:?}");
    assert_eq!((view.nodes(), view.topology().links.len()), (2, 1));
    let coverage = view.coverage(TrafficClass::Bulk, None);
    assert_eq!(coverage.len(), 2, "{coverage:?}");
    assert!(coverage.iter().all(|row| row.unreachable.is_empty()), "{coverage:?}");

    let before = a.boot;
    let (setup, directory) = a.stop().await;
    let a = try_start(setup, directory).await.expect("starts");
    assert_eq!(a.boot, before + 1);
    b.admit(&a).await;
    a.until_reaches(2).await;
    c.until_reaches(2).await;
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_stub_is_reached_and_carries_nothing_for_others() {
    let listen = Some(free_port().to_string());
    let b = start(Setup { stub: true, listen, ..Setup::listens("b") }).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let (a, c) = (start(Setup::dials_only("a")).await, start(Setup::dials_only("c")).await);
    b.admit(&a).await;
    b.admit(&c).await;
    b.until_reaches(2).await;
    let reached = |status: &StatusView, name: &str| {
        status.nodes.iter().find(|node| node.name == name).is_some_and(|node| node.reachable)
    };
    let status = a.until("aware of all", |status| reached(status, "b") && status.links.len() == 2);
    let status = status.await;
    assert!(!reached(&status, "c"), "{status:?}");
    let stubs: Vec<&str> =
        status.nodes.iter().filter(|node| node.stub).map(|node| node.name.as_str()).collect();
    assert_eq!(stubs, ["b"]);
    // It is so as long as it is configured so.
    let (setup, directory) = b.stop().await;
    let b = try_start(setup, directory).await.expect("starts");
    b.until_reaches(2).await;
    a.until("aware of all again", |status| {
        reached(status, "b") && status.links.iter().all(|link| link.up)
    })
    .await;
    let view = a.handle.routes(vec!["c".into()]).await.expect("a view");
    assert!(view.routes(TrafficClass::Bulk, Some(c.id())).is_empty());
    let (setup, directory) = b.stop().await;
    let b = try_start(Setup { stub: false, ..setup }, directory).await.expect("starts");
    a.until_reaches(2).await;
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_stopped_mesh_stays_stopped_until_it_is_started() {
    let (a, b, c) = chain().await;
    a.handle.stop_mesh().await.expect("stops");
    let status = a.handle.status().await.expect("status");
    assert_eq!(status.state, MeshState::Stopped);
    b.until_reaches(1).await;
    let (setup, directory) = a.stop().await;
    let a = try_start(setup, directory).await.expect("starts");
    assert_eq!(a.handle.status().await.expect("status").state, MeshState::Stopped);
    assert_eq!(a.handle.lanes().await.expect("lanes").len(), 0);
    a.handle.start_mesh().await.expect("starts");
    a.handle.start_mesh().await.expect("again is no error");
    a.until_reaches(2).await;
    b.until_reaches(2).await;
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_mesh_that_is_started_again_and_again_is_no_other_process() {
    let b = start(Setup::listens("b")).await;
    b.handle.seed_mesh("test", "").await.expect("seeds");
    let a = start(Setup::dials_only("a")).await;
    b.admit(&a).await;
    for _ in 0..8 {
        a.handle.stop_mesh().await.expect("stops");
        b.until_reaches(0).await;
        a.handle.start_mesh().await.expect("starts");
        a.until_reaches(1).await;
        b.until_reaches(1).await;
    }
    let rejects = a.handle.status().await.expect("status").link_state_rejects;
    assert!(rejects.iter().all(|(reason, _)| *reason != "overtaken"), "{rejects:?}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn names_of_nodes_and_meshes_are_checked() {
    let directory = std::sync::Arc::new(tempfile::tempdir().expect("temporary directory"));
    let error = try_start(Setup::dials_only("../x"), directory).await.err();
    assert!(matches!(error, Some(PlaneError::Identity(_))));
    let b = start(Setup::listens("b")).await;
    for name in ["", "Upper", "a b", &"x".repeat(64)] {
        let error = b.handle.seed_mesh(name, "").await;
        assert!(matches!(error, Err(PlaneError::NameInvalid { .. })), "{name}: {error:?}");
    }
    b.stop().await;
    let handle = {
        let c = start(Setup::dials_only("c")).await;
        let handle = c.handle.clone();
        let _ = c.kill().await;
        handle
    };
    assert!(matches!(handle.status().await, Err(PlaneError::Stopping)));
}
