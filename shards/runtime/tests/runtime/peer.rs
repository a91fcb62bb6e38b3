use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hawser_exchange::{ControlToShard, LaneHandover};
use hawser_identity::{Credentials, MeshAuthority, NodeKey, lane_server_name};
use hawser_session::{LaneSession, Role};
use hawser_wire::{
    BatchWriter, ClassSet, FRAME_BODY_BYTES_MAX, FrameHeader, FrameIter, FrameKind, FrameRef,
    Incarnation, LaneAck, LaneAckEntry, LaneClasses, LaneClose, LaneFragment, LaneId, LinkEpoch,
    LinkSequence, MeshId, NodeId, TrafficClass,
};

use crate::node::{Node, serial_of};
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

pub(crate) fn sockets() -> (TcpStream, TcpStream) {
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
    /// What a test's end says that it puts on the lane.
    pub(crate) carries: ClassSet,
}

/// One lane that carries every class.
pub(crate) const COLLAPSED: LaneSpec = LaneSpec {
    lane: LaneId(0),
    class: TrafficClass::Control,
    epoch: LinkEpoch(1),
    near: Role::Server,
    carries: ClassSet::ALL,
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
        peer_life: None,
        peer_stripes: true,
        peer_takes_priority: true,
        peer_takes_several: true,
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

/// What hands it over.
pub(crate) fn handed_over(handover: Box<LaneHandover<LaneSession>>) -> ControlToShard<LaneSession> {
    ControlToShard::LaneArrived { serial: serial_of(handover.epoch), handover }
}

/// Both ends of a connection that `a` has dialled, to be handed to it and to `b`.
pub(crate) fn dial(
    a: &Node,
    b: &Node,
    spec: LaneSpec,
    (at_a, at_b): (TcpStream, TcpStream),
) -> (ControlToShard<LaneSession>, ControlToShard<LaneSession>) {
    let (client, server) = sessions();
    let to_a = handed_over(handover(spec, b.local, at_a, client));
    let to_b = handed_over(handover(spec, a.local, at_b, server));
    (to_a, to_b)
}

/// Connects two nodes by a lane and waits until both ends are up.
pub(crate) fn connect(a: &mut Node, b: &mut Node, spec: LaneSpec) {
    connect_over(a, b, spec, sockets());
}

/// Likewise, over these sockets.
pub(crate) fn connect_over(
    a: &mut Node,
    b: &mut Node,
    spec: LaneSpec,
    sockets: (TcpStream, TcpStream),
) {
    let (to_a, to_b) = dial(a, b, spec, sockets);
    let (id_a, id_b) = (a.local, b.local);
    a.tell_link(id_b, to_a);
    b.tell_link(id_a, to_b);
    assert_eq!(a.hear_up(id_b, spec.lane), serial_of(spec.epoch));
    assert_eq!(b.hear_up(id_a, spec.lane), serial_of(spec.epoch));
}

/// A frame as it arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    pub(crate) body: Vec<u8>,
    /// What acknowledges it and all before it.
    pub(crate) count: u64,
}

/// More credit than any test spends.
const PLENTY: u64 = 1 << 40;

/// The far end of a lane, in the hands of a test.
///
/// Keeps to the lane protocol by itself as far as a neighbour has to: numbers what it sends, counts
/// what it receives, and acknowledges that while it reads. It looks at no credit, and sends nothing
/// again.
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) socket: TcpStream,
    pub(crate) session: LaneSession,
    spec: LaneSpec,
    frames: VecDeque<Frame>,
    /// Of a batch in pieces.
    assembly: Vec<u8>,
    /// Counted frames that came over the lane.
    pub(crate) received: u64,
    /// What is read is acknowledged.
    pub(crate) acks: bool,
    /// Of the last counted frame that was sent, over any lane of the link.
    pub(crate) sequence: u64,
    /// Acknowledgements that were sent, over any lane of the link.
    pub(crate) acks_sent: u64,
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
        let (mut peer, handover) = Self::make(id, spec, before);
        node.tell_link(id, handed_over(handover));
        assert_eq!(node.hear_up(id, spec.lane), serial_of(spec.epoch));
        peer.greet();
        peer
    }

    /// Likewise, handed over in the same breath behind `first`.
    pub(crate) fn open_behind(
        node: &mut Node,
        first: ControlToShard<LaneSession>,
        id: NodeId,
        spec: LaneSpec,
    ) -> Self {
        let (mut peer, handover) = Self::make(id, spec, |_near, _far| {});
        node.tell_link(id, first);
        node.tell_link(id, handed_over(handover));
        assert_eq!(node.hear_up(id, spec.lane), serial_of(spec.epoch));
        peer.greet();
        peer
    }

    /// Its end of a lane, and what hands the other one to a shard; `before` as above.
    pub(crate) fn make(
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
        let peer = Self {
            id,
            socket,
            session: far,
            spec,
            frames: VecDeque::new(),
            assembly: Vec::new(),
            received: 0,
            acks: true,
            sequence: 0,
            acks_sent: 0,
            over: false,
        };
        (peer, handover)
    }

    /// What it puts on the lane, and what it takes.
    pub(crate) fn greet(&mut self) {
        if self.spec.carries != ClassSet::of(self.spec.class) {
            let body = LaneClasses { classes: self.spec.carries }.encode();
            self.send(FrameKind::LaneClasses, TrafficClass::Control, &[&body]);
        }
        self.acknowledge();
    }

    /// What it has to say about the lane, if it keeps to the protocol.
    pub(crate) const fn ack_entry(&self) -> LaneAckEntry {
        LaneAckEntry {
            lane: self.spec.lane,
            epoch: self.spec.epoch,
            dialled: matches!(self.spec.near, Role::Server),
            is_final: false,
            settled: false,
            count: self.received,
            credit_frames: PLENTY,
            credit_bytes: PLENTY,
        }
    }

    pub(crate) fn send_ack(&mut self, entry: LaneAckEntry) {
        self.acks_sent += 1;
        let mut body = Vec::new();
        LaneAck { sequence: self.acks_sent, entries: vec![entry] }.encode(&mut body);
        self.send(FrameKind::LaneAck, TrafficClass::Control, &[&body]);
    }

    /// Acknowledges what was read.
    pub(crate) fn acknowledge(&mut self) {
        self.send_ack(self.ack_entry());
    }

    /// One frame, encoded; the next of the link if it is counted.
    pub(crate) fn frame(
        &mut self,
        kind: FrameKind,
        class: TrafficClass,
        parts: &[&[u8]],
    ) -> Vec<u8> {
        if !kind.is_counted() {
            return frame(kind, class, parts);
        }
        self.sequence += 1;
        counted_frame(kind, class, self.sequence, parts)
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
        let frame = self.frame(kind, class, parts);
        self.send_batch(&frame);
    }

    /// The next frame; `None` behind the last one.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            let received = self.received;
            while let Some(message) = self.session.next_message().unwrap() {
                self.take_message(&message);
            }
            if self.acks && self.received > received {
                self.acknowledge();
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

    /// Counts the frames of a message, and puts the pieces of a batch together.
    fn take_message(&mut self, message: &[u8]) {
        for frame in FrameIter::new(message).map(Result::unwrap) {
            let is_counted = frame.header.link_sequence != LinkSequence(0);
            assert_eq!(is_counted, frame.header.kind.is_routed(), "{:?}", frame.header);
            let is_piece = frame.header.kind == FrameKind::LaneFragment;
            self.received += u64::from(is_counted || is_piece);
            let count = self.received;
            let take = |frame: FrameRef<'_>| {
                let (header, body) = (frame.header, frame.body.to_vec());
                Frame { header, body, count }
            };
            if !is_piece {
                self.frames.push_back(take(frame));
                continue;
            }
            let LaneFragment { first, last, piece } = LaneFragment::decode(&frame.body).unwrap();
            assert_eq!(first, self.assembly.is_empty(), "a batch begins");
            self.assembly.extend_from_slice(piece);
            if last {
                let batch = std::mem::take(&mut self.assembly);
                self.frames.extend(FrameIter::new(&batch).map(|frame| take(frame.unwrap())));
            }
        }
    }

    /// The next frame of this kind; heartbeats before it are answered, others are passed over.
    pub(crate) fn expect(&mut self, kind: FrameKind) -> Frame {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(frame) = self.next() else { panic!("no {kind:?} before the end") };
            assert!(Instant::now() < until, "never came: {kind:?}");
            if frame.header.kind == FrameKind::Ping {
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

    /// Closes the connection, as one does who has heard why it is over.
    pub(crate) fn hang_up(&mut self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
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

/// One frame that is not counted, encoded.
pub(crate) fn frame(kind: FrameKind, class: TrafficClass, parts: &[&[u8]]) -> Vec<u8> {
    counted_frame(kind, class, 0, parts)
}

/// One frame with this link sequence.
pub(crate) fn counted_frame(
    kind: FrameKind,
    class: TrafficClass,
    sequence: u64,
    parts: &[&[u8]],
) -> Vec<u8> {
    let mut batch = Vec::new();
    BatchWriter::new(&mut batch).frame(kind, class, LinkSequence(sequence), parts).unwrap();
    batch
}
