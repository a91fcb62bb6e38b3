use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hawser_exchange::{ControlToShard, LaneHandover};
use hawser_identity::{Credentials, MeshAuthority, NodeKey, lane_server_name};
use hawser_session::{LaneSession, Role};
use hawser_wire::{
    BatchWriter, FRAME_BODY_BYTES_MAX, FrameHeader, FrameIter, FrameKind, Incarnation, LaneClose,
    LaneId, LinkEpoch, LinkSequence, MeshId, NodeId, TrafficClass,
};

use crate::node::Node;
use crate::wait::PATIENCE;

fn credentials() -> &'static Credentials {
    static CREDENTIALS: OnceLock<Credentials> = OnceLock::new();
    CREDENTIALS.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let authority = MeshAuthority::generate(MeshId::from_bytes([7; 16]), "test", now).unwrap();
        let key = NodeKey::generate().unwrap();
        let day = Duration::from_secs(86_400);
        let (_, certificate) = authority.sign_csr(&key.csr("a").unwrap(), "a", now, day).unwrap();
        Credentials::new(&key, &certificate, authority.certificate_der()).unwrap()
    })
}

/// Both ends of a TLS session, their handshake done.
fn sessions() -> (LaneSession, LaneSession) {
    let credentials = credentials();
    let name = lane_server_name().unwrap();
    let mut client = LaneSession::client(credentials.lane_client_config(), name).unwrap();
    let mut server = LaneSession::server(credentials.lane_server_config()).unwrap();
    client.process().unwrap();
    for _ in 0..4 {
        server.read_buffer().extend(client.take_unsent());
        server.process().unwrap();
        client.read_buffer().extend(server.take_unsent());
        client.process().unwrap();
    }
    (client, server)
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for socket in [&near, &far] {
        socket.set_nodelay(true).unwrap();
    }
    (near, far)
}

/// Which lane a test opens.
#[derive(Clone, Copy)]
pub(crate) struct LaneSpec {
    pub(crate) lane: LaneId,
    pub(crate) class: TrafficClass,
    pub(crate) epoch: LinkEpoch,
    /// The role of the shard's end.
    pub(crate) near: Role,
}

/// One lane that carries every class.
pub(crate) const COLLAPSED: LaneSpec = LaneSpec {
    lane: LaneId(0),
    class: TrafficClass::Control,
    epoch: LinkEpoch(1),
    near: Role::Server,
};

fn handover(
    spec: LaneSpec,
    peer: NodeId,
    socket: TcpStream,
    session: LaneSession,
) -> Box<LaneHandover<LaneSession>> {
    socket.set_nonblocking(true).unwrap();
    Box::new(LaneHandover {
        peer,
        peer_name: "peer".to_owned(),
        peer_incarnation: Incarnation(1),
        lane: spec.lane,
        class: spec.class,
        epoch: spec.epoch,
        dialled: session.role() == Role::Client,
        frame_body_max: FRAME_BODY_BYTES_MAX as u32,
        remote: socket.peer_addr().unwrap(),
        socket,
        session,
    })
}

/// Connects two nodes by a lane and waits until both ends are up.
pub(crate) fn connect(a: &mut Node, b: &mut Node, spec: LaneSpec) {
    let (client, server) = sessions();
    let (to_b, to_a) = sockets();
    let (id_a, id_b) = (a.local, b.local);
    a.tell_link(id_b, ControlToShard::LaneArrived(handover(spec, id_b, to_b, client)));
    b.tell_link(id_a, ControlToShard::LaneArrived(handover(spec, id_a, to_a, server)));
    a.hear_up(id_b, spec.lane);
    b.hear_up(id_a, spec.lane);
}

/// A frame as it arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    pub(crate) body: Vec<u8>,
}

/// The far end of a lane, in the hands of a test.
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) socket: TcpStream,
    pub(crate) session: LaneSession,
    frames: VecDeque<Frame>,
    /// Heartbeats are answered while something is waited for.
    answers: bool,
    over: bool,
}

impl Peer {
    /// Opens a lane to `node` as the neighbour `id`, and waits until it is up.
    pub(crate) fn open(node: &mut Node, id: NodeId, spec: LaneSpec) -> Self {
        Self::open_after(node, id, spec, |_near, _far| {})
    }

    /// Likewise, with something done to both ends (the shard's first) before the hand-over.
    pub(crate) fn open_after(
        node: &mut Node,
        id: NodeId,
        spec: LaneSpec,
        before: impl FnOnce(&mut LaneSession, &mut LaneSession),
    ) -> Self {
        let (peer, handover) = Self::make(id, spec, before);
        node.tell_link(id, ControlToShard::LaneArrived(handover));
        assert_eq!(node.hear_up(id, spec.lane), spec.epoch);
        peer
    }

    /// Likewise, handed over in the same breath behind `first`.
    pub(crate) fn open_behind(
        node: &mut Node,
        first: ControlToShard<LaneSession>,
        id: NodeId,
        spec: LaneSpec,
    ) -> Self {
        let (peer, handover) = Self::make(id, spec, |_near, _far| {});
        node.tell_link(id, first);
        node.tell_link(id, ControlToShard::LaneArrived(handover));
        assert_eq!(node.hear_up(id, spec.lane), spec.epoch);
        peer
    }

    fn make(
        id: NodeId,
        spec: LaneSpec,
        before: impl FnOnce(&mut LaneSession, &mut LaneSession),
    ) -> (Self, Box<LaneHandover<LaneSession>>) {
        let (client, server) = sessions();
        let (mut near, mut far) =
            if spec.near == Role::Client { (client, server) } else { (server, client) };
        before(&mut near, &mut far);
        let (near_socket, socket) = sockets();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let handover = handover(spec, id, near_socket, near);
        let frames = VecDeque::new();
        (Self { id, socket, session: far, frames, answers: true, over: false }, handover)
    }

    /// Writes what the session has to send. An end of the connection is seen by who reads.
    pub(crate) fn flush(&mut self) {
        let unsent = self.session.take_unsent();
        let _broken = self.socket.write_all(&unsent);
    }

    /// Sends one message with these bytes in it, whatever they are.
    pub(crate) fn send_batch(&mut self, batch: &[u8]) {
        self.session.send_message(batch).unwrap();
        self.flush();
    }

    /// Sends these bytes inside TLS, without a WebSocket frame around them.
    pub(crate) fn send_plaintext(&mut self, bytes: &[u8]) {
        self.session.send_plaintext(bytes).unwrap();
        self.flush();
    }

    pub(crate) fn send(&mut self, kind: FrameKind, class: TrafficClass, parts: &[&[u8]]) {
        self.send_batch(&frame(kind, class, parts));
    }

    /// The next frame; `None` behind the last one.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            while let Some(message) = self.session.next_message().unwrap() {
                self.frames.extend(FrameIter::new(&message).map(|frame| {
                    let frame = frame.unwrap();
                    Frame { header: frame.header, body: frame.body.to_vec() }
                }));
            }
            if !self.frames.is_empty() {
                continue;
            }
            if self.over {
                return None;
            }
            let mut chunk = [0; 16 << 10];
            match self.socket.read(&mut chunk) {
                Ok(0) => self.over = true,
                Ok(read) => {
                    self.session.read_buffer().extend_from_slice(&chunk[..read]);
                    self.over |= self.session.process().unwrap().peer_closed;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.over = true,
                Err(error) => panic!("nothing to read: {error}"),
            }
        }
    }

    /// The next frame of this kind; heartbeats before it are answered, others are passed over.
    pub(crate) fn expect(&mut self, kind: FrameKind) -> Frame {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(frame) = self.next() else { panic!("no {kind:?} before the end") };
            assert!(Instant::now() < until, "never came: {kind:?}");
            if frame.header.kind == FrameKind::Ping && self.answers {
                self.send(FrameKind::Pong, TrafficClass::Control, &[&frame.body]);
            }
            if frame.header.kind == kind {
                return frame;
            }
        }
    }

    /// What the shard said when it closed the lane, which it has to do properly.
    pub(crate) fn expect_close(&mut self) -> LaneClose {
        let frame = self.expect(FrameKind::Close);
        assert_eq!(self.next(), None, "nothing stands behind a close");
        assert!(self.session.inbox().is_closed(), "WebSocket was closed, too");
        LaneClose::decode(&frame.body).unwrap()
    }

    /// Everything up to the end, which may come without a word.
    pub(crate) fn until_over(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// A heartbeat there and back: whatever was sent before it has been handled.
    pub(crate) fn round_trip(&mut self) {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1 << 60);
        let beat = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_le_bytes();
        self.send(FrameKind::Ping, TrafficClass::Control, &[&beat]);
        while self.expect(FrameKind::Pong).body != beat {}
    }
}

/// One frame, encoded.
pub(crate) fn frame(kind: FrameKind, class: TrafficClass, parts: &[&[u8]]) -> Vec<u8> {
    let mut batch = Vec::new();
    BatchWriter::new(&mut batch).frame(kind, class, LinkSequence(0), parts).unwrap();
    batch
}
