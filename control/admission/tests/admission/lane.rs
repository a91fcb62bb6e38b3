use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use hawser_admission::{DialOptions, Handover, SocketOptions, dial};
use hawser_wire::{CloseReason, FrameKind, LaneId, LinkEpoch, NodeId, TrafficClass};
use tokio::net::TcpListener;

use crate::mesh::{Mesh, Running, assert_unacceptable, options, within};
use crate::raw_peer::{RawPeer, encoded, frame, hello};

fn send(lane: &mut Handover, message: &[u8]) {
    lane.session.send_message(message).unwrap();
    let bytes = lane.session.take_unsent();
    lane.socket.write_all(&bytes).unwrap();
}

fn receive(lane: &mut Handover) -> Vec<u8> {
    lane.socket.set_nonblocking(false).unwrap();
    loop {
        if let Some(message) = lane.session.next_message().unwrap() {
            return message;
        }
        let mut bytes = [0; 1024];
        let count = lane.socket.read(&mut bytes).unwrap();
        assert!(count > 0, "closed");
        lane.session.read_buffer().extend_from_slice(&bytes[..count]);
        lane.session.process().unwrap();
    }
}

fn assert_ready_for_a_shard(socket: &TcpStream) {
    assert!(socket.nodelay().unwrap());
    assert_eq!(socket2::SockRef::from(socket).tcp_notsent_lowat().unwrap(), 64 << 10);
    let error = (&mut &*socket).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "the socket must not block");
}

#[tokio::test]
async fn both_sides_get_the_lane() {
    let mesh = Mesh::new();
    let (a, b) = (mesh.member("a"), mesh.member("b"));
    let mut running = Running::start(&b);
    let mut ours = running.dial(&a).await.unwrap();
    let mut theirs = running.next_lane().await;

    assert_eq!((ours.peer, ours.peer_name.as_str()), (b.node, "b"));
    assert_eq!((theirs.peer, theirs.peer_name.as_str()), (a.node, "a"));
    assert!(ours.dialled && !theirs.dialled);
    for lane in [&ours, &theirs] {
        assert_eq!(lane.lane, LaneId(2));
        assert_eq!(lane.class, TrafficClass::Bulk);
        assert_eq!(lane.epoch, LinkEpoch(5));
        assert_eq!(lane.peer_incarnation, a.incarnation);
        assert!(lane.peer_takes_several, "nodes announce it");
        assert!(lane.session.unsent_is_empty());
        assert_ready_for_a_shard(&lane.socket);
    }
    assert_eq!(ours.remote, running.address);
    assert_eq!(theirs.remote, ours.socket.local_addr().unwrap());

    send(&mut ours, b"from the dialler");
    assert_eq!(receive(&mut theirs), b"from the dialler");
    send(&mut theirs, b"from the acceptor");
    assert_eq!(receive(&mut ours), b"from the acceptor");
}

#[tokio::test]
async fn what_comes_right_behind_hello_is_kept() {
    let mesh = Mesh::new();
    let (a, b) = (mesh.member("a"), mesh.member("b"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = async {
        let mut peer = RawPeer::accept(&listener, &b).await.unwrap();
        peer.answer_upgrade().await;
        let (kind, _) = peer.read_frame().await.unwrap();
        assert_eq!(kind, FrameKind::Hello);
        let first = frame(FrameKind::Hello, &encoded(&hello(&b)));
        peer.send_messages(&[first, b"second".to_vec(), vec![3; 3000]]).await;
        peer
    };
    let options = options();
    let (peer, lane) = within(async { tokio::join!(acceptor, dial(&a, &address, &options)) }).await;
    let mut lane = lane.unwrap();
    assert!(!lane.peer_takes_several, "its Hello says nothing of it");
    assert_eq!(receive(&mut lane), b"second");
    assert_eq!(receive(&mut lane), vec![3; 3000]);
    drop(peer);
}

#[tokio::test]
async fn bytes_behind_hello_are_kept_at_the_acceptor_too() {
    let mesh = Mesh::new();
    let (a, b) = (mesh.member("a"), mesh.member("b"));
    let mut running = Running::start(&b);
    let mut peer = RawPeer::connect(running.address, &a.client).await;
    assert_eq!(peer.upgrade("/lane").await, 101);
    let first = frame(FrameKind::Hello, &encoded(&hello(&a)));
    peer.send_messages(&[first, b"second".to_vec()]).await;
    let mut lane = running.next_lane().await;
    assert!(!lane.peer_takes_several, "its Hello says nothing of it");
    assert_eq!(receive(&mut lane), b"second");
}

#[tokio::test]
async fn the_right_node_must_answer() {
    let mesh = Mesh::new();
    let (a, b) = (mesh.member("a"), mesh.member("b"));
    let mut running = Running::start(&b);
    let address = running.address.to_string();
    let expecting = |node| DialOptions { expect: Some(node), ..options() };

    let right = expecting(b.node);
    within(dial(&a, &address, &right)).await.unwrap();
    running.next_lane().await;
    let wrong = expecting(NodeId::from_bytes([1; 16]));
    let result = within(dial(&a, &address, &wrong)).await;
    assert_unacceptable(result, CloseReason::IdentityRefused, &b.node.to_string());
    running.refused("closed by the other side").await;
}

#[tokio::test]
async fn a_node_does_not_connect_to_itself() {
    let mesh = Mesh::new();
    let a = mesh.member("a");
    let mut running = Running::start(&a);
    assert_unacceptable(running.dial(&a).await, CloseReason::SelfConnect, &a.node.to_string());
    running.refused("closed by the other side").await;

    // The acceptor notices too, if the dialler does not look.
    let mut peer = RawPeer::connect(running.address, &a.client).await;
    assert_eq!(peer.upgrade("/lane").await, 101);
    peer.send_frame(FrameKind::Hello, &encoded(&hello(&a))).await;
    assert_eq!(peer.read_close().await.reason, CloseReason::SelfConnect);
    running.refused("connected to itself").await;
}

#[tokio::test]
async fn many_lanes_at_once() {
    let mesh = Mesh::new();
    let b = mesh.member("b");
    let mut running = Running::start(&b);
    let address = running.address.to_string();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..20 {
        let (local, address) = (mesh.member(&format!("n{index}")), address.clone());
        tasks.spawn(async move { (local.node, dial(&local, &address, &options()).await.unwrap()) });
    }
    let mut dialled = Vec::new();
    while let Some(result) = within(tasks.join_next()).await {
        dialled.push(result.unwrap());
    }
    let mut peers = Vec::new();
    for _ in 0..20 {
        peers.push(running.next_lane().await.peer);
    }
    let mut nodes: Vec<_> = dialled.iter().map(|(node, _)| *node).collect();
    nodes.sort();
    peers.sort();
    assert_eq!(peers, nodes);
}

#[tokio::test]
async fn socket_options_are_as_asked() {
    let mesh = Mesh::new();
    let (a, b) = (mesh.member("a"), mesh.member("b"));
    let running = Running::start(&b);
    let plain = running.dial(&a).await.unwrap();
    let sockets = SocketOptions {
        congestion_control: Some("reno"),
        send_buffer_bytes: Some(32 << 10),
        receive_buffer_bytes: Some(24 << 10),
    };
    let asked = DialOptions { sockets, ..options() };
    let lane = within(dial(&a, &running.address.to_string(), &asked)).await.unwrap();
    // The kernel doubles what it is asked for (socket(7)).
    let socket = socket2::SockRef::from(&lane.socket);
    assert_eq!(socket.send_buffer_size().unwrap(), 64 << 10);
    assert_eq!(socket.recv_buffer_size().unwrap(), 48 << 10);
    assert!(socket.tcp_congestion().unwrap().starts_with(b"reno\0"));
    let socket = socket2::SockRef::from(&plain.socket);
    assert_ne!(socket.recv_buffer_size().unwrap(), 48 << 10);
}
