use std::collections::VecDeque;
use std::time::Duration;

use hawser_wire::MonoTime;

use crate::event_queue::EventQueue;
use crate::random::Random;

/// A connection that was ever opened.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct ConnectionId(pub(crate) u32);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// One node's end of a connection.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct End {
    pub(crate) connection: ConnectionId,
    pub(crate) side: Side,
}

impl End {
    pub(crate) fn is_acceptor(self) -> bool {
        self.side == Side::Acceptor
    }

    pub(crate) const fn other(self) -> Self {
        Self { side: self.side.other(), ..self }
    }
}

/// Something that the network has for a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NetworkEvent {
    /// The next message, or its last, reaches this end.
    Arrive(End),
    /// This end has room again.
    Writable(End),
    /// The connection ends here.
    Down(End, Ending),
}

/// How a connection ended, as one end sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// The other end closed it; all that it had sent is here.
    Finished,
    /// What was under way is lost.
    Reset,
}

/// A bottleneck that messages pass one behind the other, in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct WireId(pub(crate) u32);

#[derive(Debug)]
struct Wire {
    bytes_per_second: u64,
    free_at: MonoTime,
}

impl Wire {
    fn time_for(&self, bytes: u64) -> Duration {
        // Eighteen gigabytes at once are none of a simulated message.
        let nanos = bytes.saturating_mul(1_000_000_000).checked_div(self.bytes_per_second);
        Duration::from_nanos(nanos.unwrap_or(0))
    }
}

/// What a connection is like, in both directions.
#[derive(Clone, Copy, Debug)]
pub struct PathShape {
    /// From the bottleneck to the other end.
    pub delay: Duration,
    /// Added to it by chance, from message to message; never reorders within a connection.
    pub jitter: Duration,
    /// A writer waits while it has more than this before or in the bottleneck.
    pub backlog_bytes: u64,
    /// A writer waits while so much is written and not read: both sockets' buffers.
    pub buffer_bytes: u64,
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    wire: WireId,
    /// What the writer may have before or in the bottleneck, as the time that it takes there.
    backlog: Duration,
    /// Written and not read, oldest first.
    messages: VecDeque<Vec<u8>>,
    /// How many of them have arrived.
    ready: usize,
    unread_bytes: u64,
    last_depart: MonoTime,
    last_arrival: MonoTime,
    /// A silent black hole: nothing comes through, nobody is told.
    held: bool,
    held_arrivals: usize,
    held_ending: bool,
    /// How it ended for the reader, once it did.
    ending: Option<Ending>,
    /// Nobody writes or nobody reads any more.
    closed: bool,
    /// The writer waits until something is read.
    waits_for_reader: bool,
    /// The writer will be told at a time that is set.
    wakes: bool,
}

impl Pipe {
    const fn new(wire: WireId, backlog: Duration, now: MonoTime) -> Self {
        Self {
            wire,
            backlog,
            messages: VecDeque::new(),
            ready: 0,
            unread_bytes: 0,
            last_depart: now,
            last_arrival: now,
            held: false,
            held_arrivals: 0,
            held_ending: false,
            ending: None,
            closed: false,
            waits_for_reader: false,
            wakes: false,
        }
    }
}

#[derive(Debug)]
struct Connection {
    shape: PathShape,
    to_acceptor: Pipe,
    to_dialler: Pipe,
}

impl Connection {
    const fn pipe_to(&mut self, side: Side) -> &mut Pipe {
        match side {
            Side::Acceptor => &mut self.to_acceptor,
            Side::Dialler => &mut self.to_dialler,
        }
    }
}

/// Every connection of the world. Whole messages travel: a half one is of no use to a reader.
#[derive(Debug)]
pub(crate) struct Network {
    wires: Vec<Wire>,
    connections: Vec<Connection>,
    random: Random,
    /// Buffers of messages that were read.
    spare: Vec<Vec<u8>>,
}

/// Buffers kept to be filled again.
const SPARE_MAX: usize = 64;

impl Network {
    pub(crate) const fn new(random: Random) -> Self {
        Self { wires: Vec::new(), connections: Vec::new(), random, spare: Vec::new() }
    }

    pub(crate) fn add_wire(&mut self, bytes_per_second: u64) -> WireId {
        let id = u32::try_from(self.wires.len()).unwrap_or(u32::MAX);
        self.wires.push(Wire { bytes_per_second, free_at: MonoTime::ZERO });
        WireId(id)
    }

    /// Opens a connection whose directions, first the dialler's, pass `wires`.
    pub(crate) fn open(
        &mut self,
        now: MonoTime,
        shape: PathShape,
        wires: [WireId; 2],
    ) -> ConnectionId {
        let id = u32::try_from(self.connections.len()).unwrap_or(u32::MAX);
        let [to_acceptor, to_dialler] = wires.map(|id| {
            let wire = self.wires.get(usize::try_from(id.0).unwrap_or(usize::MAX));
            let backlog = wire.map_or(Duration::ZERO, |wire| wire.time_for(shape.backlog_bytes));
            Pipe::new(id, backlog, now)
        });
        self.connections.push(Connection { shape, to_acceptor, to_dialler });
        ConnectionId(id)
    }

    fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(usize::try_from(id.0).ok()?)
    }

    /// May `end` write now? If not, [`NetworkEvent::Writable`] follows once it may.
    pub(crate) fn can_write<E: From<NetworkEvent>>(
        &mut self,
        queue: &mut EventQueue<E>,
        end: End,
    ) -> bool {
        let now = queue.now();
        let Some(connection) =
            self.connections.get_mut(usize::try_from(end.connection.0).unwrap_or(usize::MAX))
        else {
            return false;
        };
        let buffer_bytes = connection.shape.buffer_bytes;
        let pipe = connection.pipe_to(end.side.other());
        if pipe.closed {
            return false;
        }
        if pipe.unread_bytes >= buffer_bytes {
            pipe.waits_for_reader = true;
            return false;
        }
        if pipe.last_depart <= now.saturating_add(pipe.backlog) {
            return true;
        }
        if !std::mem::replace(&mut pipe.wakes, true) {
            let waits = pipe.last_depart.saturating_since(now);
            let at = now.saturating_add(waits.saturating_sub(pipe.backlog));
            queue.schedule(at, NetworkEvent::Writable(end).into());
        }
        false
    }

    /// Writes a message, given as the parts that it consists of.
    pub(crate) fn write<E: From<NetworkEvent>>(
        &mut self,
        queue: &mut EventQueue<E>,
        end: End,
        parts: [&[u8]; 2],
    ) {
        let jitter = self.random.next_u64();
        let len = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
        let mut message = self.buffer(len);
        parts.iter().for_each(|part| message.extend_from_slice(part));
        let index = usize::try_from(end.connection.0).unwrap_or(usize::MAX);
        let Some(connection) = self.connections.get_mut(index) else { return };
        let shape = connection.shape;
        let pipe = connection.pipe_to(end.side.other());
        let wire = self.wires.get_mut(usize::try_from(pipe.wire.0).unwrap_or(usize::MAX));
        let Some(wire) = wire.filter(|_| !pipe.closed) else { return };
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        wire.free_at = wire.free_at.max(queue.now()).saturating_add(wire.time_for(len));
        let spread = u64::try_from(shape.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = jitter.checked_rem(spread.saturating_add(1)).unwrap_or(0);
        let arrival = wire
            .free_at
            .saturating_add(shape.delay)
            .saturating_add(Duration::from_nanos(jitter))
            .max(pipe.last_arrival);
        pipe.last_depart = wire.free_at;
        pipe.last_arrival = arrival;
        pipe.unread_bytes = pipe.unread_bytes.saturating_add(len);
        pipe.messages.push_back(message);
        queue.schedule(arrival, NetworkEvent::Arrive(end.other()).into());
    }

    /// An empty buffer with room for so many bytes. One that is too short is let go of: to let it grow
    /// would copy what it held.
    fn buffer(&mut self, len: usize) -> Vec<u8> {
        let spare = self.spare.pop().filter(|spare| spare.capacity() >= len);
        let mut buffer = spare.unwrap_or_else(|| Vec::with_capacity(len));
        buffer.clear();
        buffer
    }

    /// [`NetworkEvent::Arrive`] happened; true if there is something to read.
    pub(crate) fn handle_arrive(&mut self, end: End) -> bool {
        let Some(connection) = self.get(end.connection) else { return false };
        let pipe = connection.pipe_to(end.side);
        if pipe.held {
            pipe.held_arrivals = pipe.held_arrivals.saturating_add(1);
            return false;
        }
        let more = pipe.ready < pipe.messages.len();
        pipe.ready = pipe.ready.saturating_add(usize::from(more));
        more
    }

    /// [`NetworkEvent::Writable`] happened.
    pub(crate) fn handle_writable(&mut self, end: End) {
        if let Some(connection) = self.get(end.connection) {
            connection.pipe_to(end.side.other()).wakes = false;
        }
    }

    /// [`NetworkEvent::Down`] happened.
    pub(crate) fn handle_down(&mut self, end: End, ending: Ending) {
        let Some(connection) = self.get(end.connection) else { return };
        let pipe = connection.pipe_to(end.side);
        match ending {
            Ending::Finished if pipe.held => pipe.held_ending = true,
            _ => pipe.ending = pipe.ending.or(Some(ending)),
        }
    }

    /// The next message for `end`.
    pub(crate) fn read<E: From<NetworkEvent>>(
        &mut self,
        queue: &mut EventQueue<E>,
        end: End,
    ) -> Option<Vec<u8>> {
        let connection = self.get(end.connection)?;
        let delay = connection.shape.delay;
        let pipe = connection.pipe_to(end.side);
        pipe.ready = pipe.ready.checked_sub(1)?;
        let message = pipe.messages.pop_front()?;
        let len = u64::try_from(message.len()).unwrap_or(u64::MAX);
        pipe.unread_bytes = pipe.unread_bytes.saturating_sub(len);
        if std::mem::take(&mut pipe.waits_for_reader) && !std::mem::replace(&mut pipe.wakes, true) {
            let at = queue.now().saturating_add(delay);
            queue.schedule(at, NetworkEvent::Writable(end.other()).into());
        }
        Some(message)
    }

    /// Gives a message's memory back.
    pub(crate) fn recycle(&mut self, message: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(message);
        }
    }

    /// How the connection ended, if `end` has read all that came before.
    pub(crate) fn ending(&mut self, end: End) -> Option<Ending> {
        let pipe = self.get(end.connection)?.pipe_to(end.side);
        pipe.ending.filter(|_| pipe.ready == 0)
    }

    /// `end` closes: what it wrote still arrives, what was under way to it does not.
    pub(crate) fn close<E: From<NetworkEvent>>(&mut self, queue: &mut EventQueue<E>, end: End) {
        let Some(connection) = self.get(end.connection) else { return };
        let delay = connection.shape.delay;
        discard(connection.pipe_to(end.side));
        let pipe = connection.pipe_to(end.side.other());
        if !std::mem::replace(&mut pipe.closed, true) {
            let at = queue.now().saturating_add(delay).max(pipe.last_arrival);
            let down = NetworkEvent::Down(end.other(), Ending::Finished);
            queue.schedule(at, down.into());
        }
    }

    /// Something on the way closes the connection in good order: what was written still arrives.
    pub(crate) fn finish<E: From<NetworkEvent>>(
        &mut self,
        queue: &mut EventQueue<E>,
        id: ConnectionId,
    ) {
        let Some(connection) = self.get(id) else { return };
        for side in [Side::Dialler, Side::Acceptor] {
            let pipe = connection.pipe_to(side);
            if !std::mem::replace(&mut pipe.closed, true) {
                let down = NetworkEvent::Down(End { connection: id, side }, Ending::Finished);
                queue.schedule(pipe.last_arrival, down.into());
            }
        }
    }

    /// Something on the way resets the connection: what is under way is lost, and the ends learn it,
    /// each in its time.
    pub(crate) fn reset<E: From<NetworkEvent>>(
        &mut self,
        queue: &mut EventQueue<E>,
        id: ConnectionId,
    ) {
        let early = self.random.chance(500);
        let Some(connection) = self.get(id) else { return };
        let delay = connection.shape.delay;
        for side in [Side::Dialler, Side::Acceptor] {
            let pipe = connection.pipe_to(side);
            pipe.closed = true;
            pipe.messages.truncate(pipe.ready);
            pipe.held = false;
            let first = (side == Side::Dialler) == early;
            let wait = if first { Duration::ZERO } else { delay };
            let down = NetworkEvent::Down(End { connection: id, side }, Ending::Reset);
            queue.schedule(queue.now().saturating_add(wait), down.into());
        }
    }

    /// From now on nothing reaches `end`.
    pub(crate) fn hold(&mut self, end: End) {
        if let Some(connection) = self.get(end.connection) {
            connection.pipe_to(end.side).held = true;
        }
    }

    /// What was kept from `end` reaches it now, as TCP sends again what got lost.
    pub(crate) fn release<E: From<NetworkEvent>>(&mut self, queue: &mut EventQueue<E>, end: End) {
        let Some(connection) = self.get(end.connection) else { return };
        let at = queue.now().saturating_add(connection.shape.delay);
        let pipe = connection.pipe_to(end.side);
        if !std::mem::replace(&mut pipe.held, false) {
            return;
        }
        for _ in 0..std::mem::take(&mut pipe.held_arrivals) {
            queue.schedule(at, NetworkEvent::Arrive(end).into());
        }
        if std::mem::take(&mut pipe.held_ending) {
            queue.schedule(at, NetworkEvent::Down(end, Ending::Finished).into());
        }
    }
}

/// Nobody will read what is in `pipe` or comes through it.
fn discard(pipe: &mut Pipe) {
    pipe.closed = true;
    pipe.messages = VecDeque::new();
    pipe.ready = 0;
    pipe.unread_bytes = 0;
}

#[cfg(test)]
mod tests;
