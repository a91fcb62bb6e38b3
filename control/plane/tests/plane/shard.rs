//! What stands in for the shards: it owns the lanes of a node and carries control frames over
//! them. Records, credit and acknowledgements are the real shards' business.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hawser_exchange::{
    ControlToShard, LaneHandover, LaneReport, LaneRule, LaneSerial, LinkReport, ShardPorts,
    ShardReport, ShardToControl, StreamSpec,
};
use hawser_session::LaneSession;
use hawser_wire::{
    BatchWriter, CloseReason, FrameIter, FrameKind, LaneId, LinkEpoch, LinkMode, LinkSequence,
    NodeId, ShardId, StreamId, StreamOffset, TrafficClass,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// Round trip that every link reports.
pub(crate) const RTT: Duration = Duration::from_micros(600);

/// What a test sees of what the plane told its shards.
#[derive(Debug)]
pub(crate) enum Told {
    Open(Box<StreamSpec>),
    Hosted(StreamId, NodeId),
    Explain(u64, StreamId, StreamOffset),
    Close(StreamId),
    Drop(StreamId),
    Mode(NodeId, LinkMode),
    Rule(NodeId, Option<LaneRule>),
}

/// What a test makes a shard say.
pub(crate) enum Say {
    Message(ShardId, ShardToControl),
    /// The lane is gone, and why; `told` as in the message.
    LaneDown {
        peer: NodeId,
        lane: LaneId,
        reason: &'static str,
        told: Option<CloseReason>,
    },
}

struct Lane {
    serial: LaneSerial,
    epoch: LinkEpoch,
    class: TrafficClass,
    dialled: bool,
    remote: SocketAddr,
    batches: mpsc::UnboundedSender<Vec<u8>>,
    task: AbortHandle,
}

type Key = (NodeId, LaneId);

enum FromLane {
    Frame(NodeId, FrameKind, Vec<u8>),
    Down(Key, LaneSerial, String),
}

/// What goes wrong at a node's shards.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Datagrams to this node are lost.
    pub(crate) deaf: AtomicBool,
    /// Lanes other than the first are closed without a word of it.
    pub(crate) lingers: AtomicBool,
}

pub(crate) struct Shards {
    local: NodeId,
    faults: Arc<Faults>,
    ports: Vec<ShardPorts<LaneSession>>,
    lanes: BTreeMap<Key, Lane>,
    tasks: JoinSet<()>,
    inward: mpsc::UnboundedSender<FromLane>,
    told: mpsc::UnboundedSender<Told>,
    stopped: usize,
}

impl Shards {
    /// Serves until the plane says that it stops, or the task is aborted.
    pub(crate) async fn run(
        local: NodeId,
        faults: Arc<Faults>,
        ports: Vec<ShardPorts<LaneSession>>,
        told: mpsc::UnboundedSender<Told>,
        mut say: mpsc::UnboundedReceiver<Say>,
    ) {
        let (inward, mut from_lanes) = mpsc::unbounded_channel();
        let mut this = Self {
            local,
            faults,
            ports,
            lanes: BTreeMap::new(),
            tasks: JoinSet::new(),
            inward,
            told,
            stopped: 0,
        };
        while this.stopped < this.ports.len() {
            tokio::select! {
                () = poll_fn(|cx| {
                    // Each bell is armed in turn; any of them wakes this task.
                    let mut ready = std::task::Poll::Pending;
                    for ports in &mut this.ports {
                        let has_work = || !ports.control.from.is_empty();
                        if ports.bell.poll_sleep(cx, has_work).is_ready() {
                            ready = std::task::Poll::Ready(());
                        }
                    }
                    ready
                }) => this.drain(),
                Some(event) = from_lanes.recv() => this.handle_lane(event),
                Some(said) = say.recv() => this.say(said),
            }
        }
    }

    fn say(&mut self, said: Say) {
        match said {
            Say::Message(shard, message) => self.answer(shard, message),
            Say::LaneDown { peer, lane, reason, told } => {
                // Its socket closes: the other end sees it by itself.
                let serial = self.lanes.remove(&(peer, lane)).expect("a lane").serial;
                let (reason, closed) = (reason.into(), None);
                let message = ShardToControl::LaneDown { peer, lane, serial, reason, told, closed };
                self.answer(self.shard_of(peer), message);
            }
        }
    }

    fn answer(&mut self, shard: ShardId, message: ShardToControl) {
        let port = &mut self.ports[usize::from(shard.0)].control.to;
        port.try_send(message).expect("the plane drains its rings");
        port.ring();
    }

    fn shard_of(&self, peer: NodeId) -> ShardId {
        ShardId::of_peer(peer, u16::try_from(self.ports.len()).expect("few shards"))
    }

    fn drain(&mut self) {
        for index in 0..self.ports.len() {
            let shard = self.ports[index].shard;
            while let Some(message) = self.ports[index].control.from.try_recv() {
                self.handle_control(shard, message);
            }
        }
    }

    fn handle_control(&mut self, shard: ShardId, message: ControlToShard<LaneSession>) {
        match message {
            ControlToShard::LaneArrived { serial, handover } => {
                self.arrive(shard, serial, *handover);
            }
            ControlToShard::CloseLane { peer, lane, serial, reason } => {
                if self.lanes.get(&(peer, lane)).is_some_and(|lane| lane.serial == serial) {
                    // Ends behind what was sent before.
                    let key = (peer, lane);
                    let closed = self.lanes.remove(&key).map(|lane| lane.batches);
                    drop(closed);
                    if lane != LaneId(0) && self.faults.lingers.load(Ordering::Relaxed) {
                        return;
                    }
                    self.say_down(key, serial, format!("closed here: {}", reason.text()));
                }
            }
            ControlToShard::LinkControl { peer, body } => {
                assert_eq!(shard, self.shard_of(peer), "told by the wrong shard");
                self.send(peer, FrameKind::LinkControl, &[&body]);
            }
            ControlToShard::ProposeMode { peer, mode } => {
                assert_eq!(shard, self.shard_of(peer), "told by the wrong shard");
                drop(self.told.send(Told::Mode(peer, mode)));
            }
            ControlToShard::SetLaneRule { peer, rule } => {
                assert_eq!(shard, self.shard_of(peer), "told by the wrong shard");
                drop(self.told.send(Told::Rule(peer, rule)));
            }
            ControlToShard::Datagram { to, body } => {
                self.forward(self.local, self.local, to, &body);
            }
            ControlToShard::OpenStream(spec) => drop(self.told.send(Told::Open(spec))),
            ControlToShard::StreamHostedAt { stream, node } => {
                drop(self.told.send(Told::Hosted(stream, node)));
            }
            ControlToShard::ExplainMessage { ticket, stream, offset } => {
                drop(self.told.send(Told::Explain(ticket, stream, offset)));
            }
            ControlToShard::CloseStream(stream) => drop(self.told.send(Told::Close(stream))),
            ControlToShard::DropStream(stream) => drop(self.told.send(Told::Drop(stream))),
            ControlToShard::Report => {
                let report = ShardToControl::Report(Box::new(self.report(shard)));
                self.answer(shard, report);
            }
            ControlToShard::Shutdown => {
                self.stopped += 1;
                self.lanes.clear();
                self.tasks.abort_all();
                self.answer(shard, ShardToControl::Stopped);
            }
        }
    }

    fn arrive(&mut self, shard: ShardId, serial: LaneSerial, handover: LaneHandover<LaneSession>) {
        assert_eq!(shard, self.shard_of(handover.peer), "given to the wrong shard");
        let key = (handover.peer, handover.lane);
        if let Some(old) = self.lanes.get(&key) {
            let serial = old.serial;
            self.down(key, serial, "replaced".to_owned());
        }
        let (batches, outward) = mpsc::unbounded_channel();
        let epoch = handover.epoch;
        let (class, dialled, remote) = (handover.class, handover.dialled, handover.remote);
        let task = self.tasks.spawn(carry(serial, handover, outward, self.inward.clone()));
        self.lanes.insert(key, Lane { serial, epoch, class, dialled, remote, batches, task });
        let (peer, lane) = key;
        self.answer(shard, ShardToControl::LaneUp { peer, lane, serial });
    }

    fn down(&mut self, key: Key, serial: LaneSerial, reason: String) {
        if let Some(lane) = self.lanes.remove(&key) {
            lane.task.abort();
            self.say_down(key, serial, reason);
        }
    }

    fn say_down(&mut self, (peer, lane): Key, serial: LaneSerial, reason: String) {
        let (reason, told, closed) = (reason.into(), None, None);
        let message = ShardToControl::LaneDown { peer, lane, serial, reason, told, closed };
        self.answer(self.shard_of(peer), message);
    }

    fn handle_lane(&mut self, event: FromLane) {
        match event {
            FromLane::Down(key, serial, reason) => {
                if self.lanes.get(&key).is_some_and(|lane| lane.serial == serial) {
                    self.down(key, serial, reason);
                }
            }
            FromLane::Frame(from, FrameKind::LinkControl, body) => {
                let message = ShardToControl::LinkControl { from, body: body.into() };
                self.answer(self.shard_of(from), message);
            }
            FromLane::Frame(via, FrameKind::Datagram, body) => {
                let (from, rest) = body.split_first_chunk().expect("source");
                let (to, body) = rest.split_first_chunk().expect("destination");
                self.forward(NodeId::from_bytes(*from), via, NodeId::from_bytes(*to), body);
            }
            FromLane::Frame(..) => {}
        }
    }

    /// Passes a datagram on by its destination: the stand-in's own way of routing.
    fn forward(&mut self, from: NodeId, via: NodeId, to: NodeId, body: &[u8]) {
        if to == self.local {
            if self.faults.deaf.load(Ordering::Relaxed) {
                return;
            }
            let message = ShardToControl::Datagram { from, via, body: body.to_vec().into() };
            self.answer(self.shard_of(via), message);
            return;
        }
        let routes = &mut self.ports[0].routes;
        routes.refresh();
        let next = routes
            .current()
            .route_to(to)
            .and_then(|route| routes.current().neighbour(*route.hops.first()?));
        if let Some(next) = next {
            self.send(next, FrameKind::Datagram, &[from.as_bytes(), to.as_bytes(), body]);
        }
    }

    fn send(&self, peer: NodeId, kind: FrameKind, parts: &[&[u8]]) {
        let mut batch = Vec::new();
        BatchWriter::new(&mut batch)
            .frame(kind, TrafficClass::Control, LinkSequence(0), parts)
            .expect("small");
        let mut lanes = self.lanes.range((peer, LaneId(0))..=(peer, LaneId(u16::MAX)));
        if let Some((_, lane)) = lanes.next() {
            let _lane_ends = lane.batches.send(batch);
        }
    }

    fn report(&self, shard: ShardId) -> ShardReport {
        let mut report =
            ShardReport { shard, links: Vec::new(), lanes: Vec::new(), streams: Vec::new() };
        for (&(peer, lane), state) in &self.lanes {
            if self.shard_of(peer) != shard {
                continue;
            }
            report.lanes.push(LaneReport {
                peer,
                lane,
                class: state.class,
                epoch: state.epoch,
                dialled: state.dialled,
                remote: state.remote,
                sent_bytes: 0,
                received_bytes: 0,
                sent_frames: 0,
                received_frames: 0,
                rtt: RTT,
            });
            match report.links.iter_mut().find(|link| link.peer == peer) {
                Some(link) => link.lanes += 1,
                None => report.links.push(LinkReport {
                    peer,
                    lanes: 1,
                    rtt: RTT,
                    sent_bytes: 0,
                    received_bytes: 0,
                    queued_bytes: 0,
                    dropped_frames: 0,
                    control_dropped_frames: 0,
                    bandwidth: 0,
                    heartbeat_ticks: 0,
                    heartbeats_missed: 0,
                }),
            }
        }
        report
    }
}

/// Moves one lane's bytes until it ends.
async fn carry(
    serial: LaneSerial,
    handover: LaneHandover<LaneSession>,
    mut outward: mpsc::UnboundedReceiver<Vec<u8>>,
    inward: mpsc::UnboundedSender<FromLane>,
) {
    let LaneHandover { peer, lane, socket, mut session, .. } = handover;
    let reason = async {
        let mut socket = TcpStream::from_std(socket).map_err(|error| error.to_string())?;
        let mut buffer = vec![0; 16 << 10];
        loop {
            session.process().map_err(|error| error.to_string())?;
            while let Some(message) = session.next_message().map_err(|error| error.to_string())? {
                for frame in FrameIter::new(&message) {
                    let frame = frame.map_err(|error| error.to_string())?;
                    if frame.header.kind == FrameKind::Close {
                        return Err::<(), _>("closed by the peer".to_owned());
                    }
                    let event = FromLane::Frame(peer, frame.header.kind, frame.body.to_vec());
                    let _stopping = inward.send(event);
                }
            }
            let unsent = session.take_unsent();
            socket.write_all(&unsent).await.map_err(|error| error.to_string())?;
            tokio::select! {
                read = socket.read(&mut buffer) => match read {
                    Ok(0) => return Err("end of connection".to_owned()),
                    Ok(len) => session.read_buffer().extend_from_slice(&buffer[..len]),
                    Err(error) => return Err(error.to_string()),
                },
                batch = outward.recv() => match batch {
                    Some(batch) => {
                        session.send_message(&batch).map_err(|error| error.to_string())?;
                    }
                    None => return Err("closed here".to_owned()),
                },
            }
        }
    };
    let reason = reason.await.err().unwrap_or_default();
    let _stopping = inward.send(FromLane::Down((peer, lane), serial, reason));
}
