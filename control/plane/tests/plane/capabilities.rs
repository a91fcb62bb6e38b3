//! A neighbour is sent what its Hello says that it takes, and nothing else.

use hawser_identity::{Credentials, lane_server_name};
use hawser_plane::EventKind;
use hawser_session::LaneSession;
use hawser_wire::{
    BatchWriter, FrameIter, FrameKind, Hello, Incarnation, LaneId, LifeNonce, LinkEpoch,
    LinkSequence, NodeId, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, TrafficClass, capability,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::link_state::Member;
use crate::node::{Node, PATIENCE, chain, event};

const UPGRADE: &[u8] = b"GET /lane HTTP/1.1\r\nHost: h:1\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: hawser.v1\r\n\r\n";

/// What is in front of a flooding message in the body of a frame.
const FLOODING: u8 = 1;
const ADVERTISEMENT: u8 = 1;
const REQUEST: u8 = 5;
const SEVERAL: u8 = 9;

/// A neighbour of any release: a lane of control, and what comes over it.
pub(crate) struct Neighbour {
    socket: TcpStream,
    session: LaneSession,
}

impl Neighbour {
    /// The member dials the node, for the `epoch`th time, and says that it has these capabilities.
    async fn dial(node: &Node, member: &Member, epoch: u64, capabilities: u64) -> Self {
        Self::dial_in(node, member, Incarnation(1), epoch, capabilities).await
    }

    /// Likewise, in a life of its own.
    pub(crate) async fn dial_in(
        node: &Node,
        member: &Member,
        incarnation: Incarnation,
        epoch: u64,
        capabilities: u64,
    ) -> Self {
        let (this, answer) = Self::knock(node, member, incarnation, epoch, capabilities).await;
        assert_eq!(answer, FrameKind::Hello);
        this
    }

    /// Likewise; the kind of the node's answer to the Hello.
    pub(crate) async fn knock(
        node: &Node,
        member: &Member,
        incarnation: Incarnation,
        epoch: u64,
        capabilities: u64,
    ) -> (Self, FrameKind) {
        let status = node.handle.status().await.expect("status");
        let credentials = Credentials::new(&member.key, &member.certificate, &member.authority);
        let config = credentials.expect("credentials").lane_client_config();
        let socket = TcpStream::connect(node.listening().await).await.expect("connects");
        let name = lane_server_name().expect("a name");
        let session = LaneSession::client(config, name).expect("a session");
        let mut this = Self { socket, session };
        while this.session.process().expect("a handshake").handshaking {
            this.flush().await;
            this.read().await;
        }
        this.session.send_plaintext(UPGRADE).expect("sent");
        this.flush().await;
        this.read_head().await;
        let hello = Hello {
            version_max: PROTOCOL_VERSION,
            version_min: PROTOCOL_VERSION_MIN,
            capabilities,
            mesh: status.mesh.expect("in a mesh").mesh,
            node: member.key.node_id(),
            incarnation,
            link_epoch: LinkEpoch(epoch),
            lane: LaneId(0),
            class: TrafficClass::Control,
            frame_body_max: 1 << 20,
            name: "d".to_owned(),
            life: Some(LifeNonce(1)),
        };
        let mut body = Vec::new();
        hello.encode(&mut body);
        this.send(FrameKind::Hello, &body).await;
        let (answer, _) = this.frame().await;
        (this, answer)
    }

    /// Asks for what the node knows of these origins, which are not the node itself; the kinds of the
    /// messages in which it comes.
    async fn ask(&mut self, origins: &[NodeId]) -> Vec<u8> {
        let count = u16::try_from(origins.len()).expect("few").to_le_bytes();
        let ids = origins.iter().flat_map(|origin| *origin.as_bytes());
        let request = [FLOODING, REQUEST].into_iter().chain(count).chain(ids).collect::<Vec<_>>();
        self.send(FrameKind::LinkControl, &request).await;
        let (mut kinds, mut missing) = (Vec::new(), origins.to_vec());
        while !missing.is_empty() {
            let (kind, body) = self.frame().await;
            let [FLOODING, said, ..] = body[..] else { continue };
            let before = missing.len();
            missing.retain(|origin| !advertised(&body[1..]).contains(origin));
            if kind == FrameKind::LinkControl && missing.len() < before {
                kinds.push(said);
            }
        }
        kinds
    }

    async fn send(&mut self, kind: FrameKind, body: &[u8]) {
        let mut batch = Vec::new();
        let mut writer = BatchWriter::new(&mut batch);
        writer.frame(kind, TrafficClass::Control, LinkSequence(0), &[body]).expect("small");
        self.session.send_message(&batch).expect("sent");
        self.flush().await;
    }

    /// The next message's only frame: the stand-in for shards sends no others.
    async fn frame(&mut self) -> (FrameKind, Vec<u8>) {
        loop {
            if let Some(message) = self.session.next_message().expect("a message") {
                let frame = FrameIter::new(&message).next().expect("one").expect("a frame");
                return (frame.header.kind, frame.body.to_vec());
            }
            self.read().await;
            self.session.process().expect("records");
        }
    }

    async fn read_head(&mut self) {
        loop {
            let unread = self.session.inbox().unread();
            if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                assert!(unread.starts_with(b"HTTP/1.1 101 "), "upgraded");
                return self.session.inbox().consume(at + 4);
            }
            self.read().await;
            self.session.process().expect("records");
        }
    }

    /// Reads until the node ends the connection.
    pub(crate) async fn until_closed(&mut self) {
        while self.read_some().await > 0 {}
    }

    async fn read(&mut self) {
        assert_ne!(self.read_some().await, 0, "the node closes");
    }

    async fn read_some(&mut self) -> usize {
        let reading = self.socket.read_buf(self.session.read_buffer());
        timeout(PATIENCE, reading).await.expect("in time").expect("bytes")
    }

    async fn flush(&mut self) {
        let bytes = self.session.take_unsent();
        self.socket.write_all(&bytes).await.expect("sent");
    }
}

/// Whose advertisements are in a flooding message.
fn advertised(message: &[u8]) -> Vec<NodeId> {
    match message {
        // Behind kind, lifetime and version of the layout.
        [ADVERTISEMENT, _, _, _, id @ ..] => {
            vec![NodeId::from_bytes(*id.first_chunk().expect("an origin"))]
        }
        [SEVERAL, rest @ ..] => {
            let (mut all, mut rest) = (Vec::new(), rest);
            while let Some((len, behind)) = rest.split_first_chunk() {
                let (one, behind) = behind.split_at(usize::from(u16::from_le_bytes(*len)));
                all.extend(advertised(one));
                rest = behind;
            }
            all
        }
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn several_advertisements_in_one_message_go_to_those_alone_that_say_they_take_them() {
    let (a, b, c) = chain().await;
    let member = Member::admit(&b, "d").await;
    let mut events = b.handle.events();
    let older = capability::STRICT_SOURCE_ROUTES | capability::LANE_ACKS;
    let newer = older | capability::SEVERAL_ADVERTISEMENTS;
    // It comes back with another release each time.
    for (epoch, capabilities, kinds) in [
        (1, older, vec![ADVERTISEMENT; 2]),
        (2, newer, vec![SEVERAL]),
        (3, older, vec![ADVERTISEMENT; 2]),
    ] {
        let mut neighbour = Neighbour::dial(&b, &member, epoch, capabilities).await;
        assert_eq!(neighbour.ask(&[a.id(), c.id()]).await, kinds, "{epoch}");
        drop(neighbour);
        loop {
            let down = event(&mut events, EventKind::LinkDown).await;
            if down.node == Some(member.key.node_id()) {
                break;
            }
        }
    }
    for node in [a, b, c] {
        node.stop().await;
    }
}
