use bytes::Bytes;
use hawser_delivery::{PathWindowLimits, PathWindows, SendRounds, StreamKey, WindowBudget};
use hawser_link::Handled;
use hawser_wire::{FrameIter, MonoTime, NodeId, TrafficClass};

use crate::event::Event;
use crate::mutation::Mutation;
use crate::network::{End, Ending, NetworkEvent};
use crate::simulation::Simulation;
use crate::violation::Property;
use crate::watched::Watched;

/// What a node is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NodeState {
    Running,
    /// Its thread does not run; its sockets fill up.
    Stalled,
    /// It has lost its memory and not begun its next life.
    Down,
}

/// A link end, by its number, and a class of records for it.
pub(crate) type Egress = (usize, TrafficClass);

/// The streams of a node have nothing to do before `due`, unless one of the world's changes. Most of what
/// happens at a node is between its links and their peers: its streams are not even looked at then.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Of all flows, when that was so.
    changes: u64,
    due: Option<MonoTime>,
}

/// A node: one shard, its link ends and the streams that begin or end there.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) state: NodeState,
    /// Its incarnation.
    pub(crate) life: u64,
    pub(crate) ends: Vec<usize>,
    pub(crate) sources: Vec<usize>,
    /// Theirs.
    pub(crate) keys: Vec<StreamKey>,
    pub(crate) sinks: Vec<usize>,
    /// What its sources may have under way.
    pub(crate) windows: PathWindows,
    /// What the sources of streams that end here may be granted.
    pub(crate) budget: WindowBudget,
    /// Which of its sources sends next.
    pub(crate) rounds: SendRounds<Egress>,
    /// Its streams, if none of them had anything to say when they were looked at last.
    rest: Option<Rest>,
    /// When it will be woken at the earliest.
    pub(crate) wake_at: Option<MonoTime>,
    /// All times for which a wake is scheduled: one that was put off and is wanted again is there.
    wakes: Vec<MonoTime>,
    /// Connections that it has dialled in this life.
    pub(crate) dials: u64,
    /// Lanes that were handed to it while it stood still.
    pub(crate) handed: Vec<End>,
}

impl Node {
    pub(crate) fn new(index: u16, limits: PathWindowLimits, memory_bytes: u64) -> Self {
        let mut id = [0x0d; 16];
        if let Some(tail) = id.last_chunk_mut::<2>() {
            *tail = index.to_be_bytes();
        }
        Self {
            id: NodeId::from_bytes(id),
            state: NodeState::Running,
            life: 1,
            ends: Vec::new(),
            sources: Vec::new(),
            keys: Vec::new(),
            sinks: Vec::new(),
            windows: PathWindows::new(limits),
            budget: WindowBudget::new(memory_bytes),
            rounds: SendRounds::default(),
            rest: None,
            wake_at: None,
            wakes: Vec::new(),
            dials: 0,
            handed: Vec::new(),
        }
    }
}

/// Of a message so long a record is kept as a part of it, as in a node: to find memory for the next
/// message costs less than to copy the record.
const SHARED_BYTES_MIN: usize = 8 << 10;

/// The message begins with a frame that must survive.
fn is_counted(frames: &FrameIter<'_>) -> bool {
    let mut frames = frames.clone();
    frames.next().is_some_and(|frame| frame.is_ok_and(|frame| frame.header.link_sequence.0 != 0))
}

impl Simulation {
    pub(crate) fn handle_network(&mut self, event: NetworkEvent) {
        let (NetworkEvent::Arrive(end) | NetworkEvent::Writable(end) | NetworkEvent::Down(end, _)) =
            event;
        let link_end = self.end_of(end);
        let node = self.ends[link_end].node;
        match event {
            NetworkEvent::Arrive(_) => {
                if !self.network.handle_arrive(end) {
                    return;
                }
                self.read(end);
            }
            NetworkEvent::Writable(_) => {
                self.network.handle_writable(end);
                if !self.is_running(node) || !self.is_up(end) {
                    return;
                }
                self.note(node, Event::Network(event));
                self.flush(link_end, end);
            }
            NetworkEvent::Down(_, ending) => {
                self.network.handle_down(end, ending);
                self.note(node, Event::Network(event));
                self.read(end);
            }
        }
        self.pump(node);
    }

    /// Reads what has arrived at an end, and its ending if that comes next.
    pub(crate) fn read(&mut self, end: End) {
        let link_end = self.end_of(end);
        if !self.is_running(self.ends[link_end].node) {
            return;
        }
        while self.is_up(end)
            && let Some(message) = self.network.read(&mut self.queue, end)
        {
            let len = u64::try_from(message.len()).unwrap_or(u64::MAX);
            self.note_as(self.ends[link_end].node, "message", [end.key().0, len]);
            self.messages_read = self.messages_read.saturating_add(1);
            if message.len() < SHARED_BYTES_MIN {
                self.read_message(link_end, end, &FrameIter::new(&message));
                self.network.recycle(message);
            } else {
                let message = Bytes::from(message);
                self.read_message(link_end, end, &FrameIter::shared(&message));
                if let Ok(buffer) = message.try_into_mut() {
                    self.network.recycle(buffer.into());
                }
            }
        }
        if self.is_up(end)
            && let Some(ending) = self.network.ending(end)
        {
            let why = match ending {
                Ending::Finished => "closed by the peer",
                Ending::Reset => "reset",
            };
            self.lose_lane(link_end, end, why);
        }
    }

    fn read_message(&mut self, link_end: usize, end: End, frames: &FrameIter<'_>) {
        let counted = self.mutation.is_some() && is_counted(frames);
        if !(counted && self.mutate(Mutation::LoseMessage)) {
            self.handle_message(link_end, end, frames.clone());
        }
        if counted && self.is_up(end) && self.mutate(Mutation::RepeatMessage) {
            self.handle_message(link_end, end, frames.clone());
        }
    }

    fn handle_message(&mut self, link_end: usize, end: End, frames: FrameIter<'_>) {
        let now = self.queue.now();
        self.ends[link_end].machine.handle_bytes(end.key());
        self.ends[link_end].heard_ledger = self.ledger_of(end.other());
        for frame in frames {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    return self.violate(Property::Content, format!("unreadable frame: {error}"));
                }
            };
            match self.ends[link_end].machine.handle_frame(now, end.key(), &frame) {
                Ok(Handled::Assembled) => self.handle_assembled(link_end, end),
                Ok(handled) => self.handle_handled(link_end, &frame, handled),
                Err(violation) => {
                    let text = format!("node {}: {violation}", self.ends[link_end].node);
                    return self.violate(Property::NoFalseAccusation, text);
                }
            }
            if !self.is_up(end) {
                return;
            }
        }
    }

    /// A batch that came in pieces is whole.
    fn handle_assembled(&mut self, link_end: usize, end: End) {
        let whole = self.ends[link_end].machine.take_assembled(end.key());
        for frame in FrameIter::new(&whole) {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    return self.violate(Property::Content, format!("unreadable frame: {error}"));
                }
            };
            let now = self.queue.now();
            match self.ends[link_end].machine.handle_assembled(now, end.key(), &frame) {
                Ok(handled) => self.handle_handled(link_end, &frame, handled),
                Err(violation) => {
                    let text = format!("node {}: {violation}", self.ends[link_end].node);
                    return self.violate(Property::NoFalseAccusation, text);
                }
            }
        }
        let now = self.queue.now();
        self.ends[link_end].machine.give_assembled(now, end.key(), whole);
    }

    /// Lets a node do what it has to do now, as a turn of a shard does.
    pub(crate) fn pump(&mut self, node: usize) {
        if !self.is_running(node) {
            return;
        }
        let now = self.queue.now();
        let rests = self.rest_of(node).is_some_and(|rest| rest.due.is_none_or(|at| at > now));
        if !rests {
            self.nodes[node].rest = None;
            self.pump_sources(node);
        }
        self.send_in_turn(node, rests);
        let mut index = 0;
        while !rests && let Some(&flow) = self.nodes[node].sinks.get(index) {
            self.pump_sink(flow);
            index = index.saturating_add(1);
        }
        index = 0;
        while let Some(&end) = self.nodes[node].ends.get(index) {
            self.pump_link(end);
            index = index.saturating_add(1);
        }
        if self.world.faults.reroutes && self.turn_links(node) {
            for index in 0..self.nodes[node].ends.len() {
                if let Some(&end) = self.nodes[node].ends.get(index) {
                    self.pump_link(end);
                }
            }
        }
        self.rearm(node);
    }

    /// What is known of a node's streams since they were looked at last, if they are as they were then.
    fn rest_of(&self, node: usize) -> Option<Rest> {
        self.nodes[node].rest.filter(|rest| rest.changes == self.flows.changes())
    }

    /// When a node's streams have something to do by themselves.
    fn streams_due(&mut self, node: usize) -> Option<MonoTime> {
        if let Some(rest) = self.rest_of(node) {
            return rest.due;
        }
        let state = &self.nodes[node];
        let sources = state.sources.iter().map(|&flow| &self.flows[flow].source);
        let sinks = state.sinks.iter().map(|&flow| &self.flows[flow].sink.receiver);
        let is_touched = sources.clone().any(|source| source.touched || source.sender.is_touched())
            || sinks.clone().any(Watched::is_touched);
        let sources = sources.filter_map(|source| source.sender.due());
        let due = sources.chain(sinks.filter_map(Watched::due));
        let due = due.chain(state.windows.poll_timeout()).min();
        let changes = self.flows.changes();
        self.nodes[node].rest = (!is_touched).then_some(Rest { changes, due });
        due
    }

    /// Schedules the node's next wake-up, unless it is woken before anyway.
    fn rearm(&mut self, node: usize) {
        let streams_due = self.streams_due(node);
        let state = &self.nodes[node];
        let links = state.ends.iter().filter_map(|&end| self.ends[end].machine.due());
        let next = links.chain(streams_due).min();
        let Some(at) = next.filter(|&at| state.wake_at.is_none_or(|wake_at| at < wake_at)) else {
            return;
        };
        let at = at.max(self.queue.now());
        let state = &mut self.nodes[node];
        state.wake_at = Some(at);
        if !state.wakes.contains(&at) {
            state.wakes.push(at);
            self.queue.schedule(at, Event::Wake { node, at });
        }
    }

    /// A wake that was scheduled for `at` comes; whether the node still waits for it.
    pub(crate) fn handle_wake(&mut self, node: usize, at: MonoTime) -> bool {
        let state = &mut self.nodes[node];
        state.wakes.retain(|&wake| wake != at);
        let is_wanted = state.wake_at == Some(at);
        if is_wanted {
            state.wake_at = None;
        }
        is_wanted
    }
}
