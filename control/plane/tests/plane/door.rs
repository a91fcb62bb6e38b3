//! Who gets nothing at the door is told of, members by name and strangers at a bounded rate.

use hawser_plane::EventKind;
use hawser_wire::{FrameKind, Incarnation, capability};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::capabilities::Neighbour;
use crate::link_state::Member;
use crate::node::{Node, PATIENCE, Setup, event, start};

/// As many as one address may open in a second, and some fewer.
const STRANGERS: usize = 40;

/// Connects and says what is no TLS; who does so waits for the end of the connection.
async fn intrude(node: &Node) -> TcpStream {
    let mut socket = TcpStream::connect(node.listening().await).await.expect("connects");
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    socket
}

async fn until_closed(mut socket: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ended = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("closed in time");
}

#[tokio::test]
async fn a_flood_of_strangers_is_counted() {
    let node = start(Setup::listens("a")).await;
    node.handle.seed_mesh("test", "").await.expect("seeds");
    let mut events = node.handle.events();
    let mut sockets = Vec::new();
    for _ in 0..STRANGERS {
        sockets.push(intrude(&node).await);
    }
    for socket in sockets {
        until_closed(socket).await;
    }
    let (mut said, mut refused) = (0, 0);
    while refused < STRANGERS {
        let told = event(&mut events, EventKind::Refused).await;
        let count = told.detail.split_once(" more strangers, the last of them 127.0.0.1:");
        said += 1;
        refused += count.map_or(1, |(count, _)| count.parse::<usize>().expect("a number"));
    }
    assert_eq!(refused, STRANGERS);
    assert!(said < STRANGERS, "each was told of");
    node.stop().await;
}

#[tokio::test]
async fn a_member_that_gets_no_lane_is_named_with_the_lane_and_told_of_once() {
    let node = start(Setup::listens("a")).await;
    node.handle.seed_mesh("test", "").await.expect("seeds");
    let member = Member::admit(&node, "m").await;
    node.handle.evict("m".to_owned(), "lost".to_owned()).await.expect("evicted");
    let mut events = node.handle.events();
    let capabilities = capability::STRICT_SOURCE_ROUTES | capability::LANE_ACKS;
    for epoch in 1..=2 {
        let (mut neighbour, answer) =
            Neighbour::knock(&node, &member, Incarnation(1), epoch, capabilities).await;
        assert_eq!(answer, FrameKind::Close);
        neighbour.until_closed().await;
    }
    let told = event(&mut events, EventKind::Refused).await;
    assert_eq!(told.node, Some(member.key.node_id()));
    assert!(told.detail.starts_with("from 127.0.0.1, for lane 0 (control): "), "{told:?}");
    assert!(told.detail.contains("lost"), "{told:?}");
    until_closed(intrude(&node).await).await;
    let next = event(&mut events, EventKind::Refused).await;
    assert_eq!(next.node, None, "{next:?}");
    node.stop().await;
}
