use std::time::Duration;

use hawser_delivery::DeliveryLimits;
use hawser_wire::{AdjacencyIndex, BootEpoch, MonoTime, PathId, RouteHeader};

use crate::arena::Arena;
use crate::event::Event;
use crate::event_queue::EventQueue;
use crate::flow::{Sink, Source, stream_key};
use crate::lanes::Lane;
use crate::link_end::LinkEnd;
use crate::mutation::Mutation;
use crate::network::{Network, WireId};
use crate::node::{Node, NodeState};
use crate::random::Random;
use crate::trace::{Trace, TraceEvent};
use crate::violation::{Failure, Property, Violation};
use crate::world::{FlowShape, LinkShape, Pace, World};

/// Events at one moment, above which machines keep each other busy without end.
const EVENTS_PER_MOMENT_MAX: u64 = 200_000;
/// How long a world may take, once nothing is added and nothing fails, to deliver everything: well
/// above the longest timeout of the machines.
const DRAIN_MAX: Duration = Duration::from_secs(90);
const DRAIN_STEP: Duration = Duration::from_millis(100);
/// How long machines may talk on once all has arrived, are then listened to, and until streams rest.
const REST_BEFORE: Duration = Duration::from_millis(500);
const REST: Duration = Duration::from_secs(1);
const STREAMS_REST: Duration = Duration::from_secs(11);
/// Applications begin once the links are up and the streams known.
const FIRST_PUBLISH: Duration = Duration::from_secs(1);
/// So many minutes flows are compared with themselves while none is slow.
const BASELINE_MINUTES: u64 = 3;
/// Nothing fails so shortly before the end.
pub(crate) const CALM_BEFORE_END: Duration = Duration::from_secs(1);

/// What a run came to. No property was violated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Names the history.
    pub seed: u64,
    /// Simulated time under load.
    pub minutes: u64,
    /// Messages that consumers got.
    pub messages: u64,
    /// Payload bytes of them.
    pub bytes: u64,
    /// Things that broke.
    pub faults: u64,
    /// Other things that happened to nodes and lanes: moments without a core, lanes that were let go of,
    /// changes of mode.
    pub disturbances: u64,
    /// Bytes of records that sources sent again, end to end.
    pub resent_bytes: u64,
    /// Records that came marked by a relay.
    pub marked: u64,
    /// Events that happened.
    pub events: u64,
    /// Equal for equal histories.
    pub trace_hash: u64,
}

/// One history of a world.
#[derive(Debug)]
pub struct Simulation {
    pub(crate) world: World,
    seed: u64,
    pub(crate) queue: EventQueue<Event>,
    pub(crate) network: Network,
    pub(crate) nodes: Arena<Node>,
    pub(crate) links: Arena<Link>,
    pub(crate) ends: Arena<LinkEnd>,
    /// By number of connection.
    pub(crate) lanes: Arena<Lane>,
    pub(crate) flows: Arena<Flow>,
    pub(crate) trace: Trace,
    /// For applications and dialling.
    pub(crate) random: Random,
    /// For faults alone.
    pub(crate) fault_random: Random,
    pub(crate) load_end: MonoTime,
    pub(crate) draining: bool,
    pub(crate) faults: u64,
    /// When something broke last.
    pub(crate) failed_at: MonoTime,
    pub(crate) disturbances: u64,
    /// Time that control frames took over a link, in microseconds.
    pub(crate) probes_us: Vec<u64>,
    /// Bulk in flight, in thousandths of what the design allows on that link.
    pub(crate) in_flight_permille: Vec<u64>,
    /// A record, striped or not, that is to come behind the next one of that link end.
    pub(crate) delayed: Option<(usize, bool, Vec<u8>)>,
    /// Messages that nodes have read from their connections.
    pub(crate) messages_read: u64,
    pub(crate) violation: Option<Violation>,
    /// What is still to be broken, and the events to go until then.
    pub(crate) mutation: Option<(Mutation, u64)>,
    /// Sources are told of less credit than they were granted.
    pub(crate) withholds: bool,
    /// Scratch space for bodies of frames.
    pub(crate) body: Vec<u8>,
    /// What each flow delivered while links were being filled, in bytes.
    pub(crate) delivered: Vec<u64>,
    /// What each flow delivered while none was slow.
    pub(crate) baseline: Vec<u64>,
    /// The world in which none is.
    unslowed: Option<Box<World>>,
}

/// Two neighbours.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) shape: LinkShape,
    /// Bottlenecks from `a` to `b` and back, by lane; one for all if they share it.
    pub(crate) wires: Vec<[WireId; 2]>,
    /// No lane can be opened since then.
    pub(crate) blocked: Option<MonoTime>,
    /// Lanes can be opened since then, unless it is blocked or one of its nodes does not run.
    pub(crate) open_since: MonoTime,
}

/// A stream and where it goes.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) shape: FlowShape,
    pub(crate) source: Source,
    pub(crate) sink: Sink,
    /// Link ends at the source and at the destination.
    pub(crate) first_end: usize,
    pub(crate) last_end: usize,
    /// Route headers, their first hop taken.
    pub(crate) forward: Vec<u8>,
    pub(crate) backward: Vec<u8>,
    pub(crate) consumes: bool,
    /// Payload bytes consumed while links were being filled: what stands before a source goes on for a
    /// while after that, whatever became of it before.
    pub(crate) filled_bytes: u64,
}

impl Simulation {
    /// The history of `world` that `seed` names.
    #[must_use]
    pub fn new(world: World, seed: u64) -> Self {
        let Some(slowness) = world.expect.isolate else { return Self::as_is(world, seed) };
        let mut unslowed = world.clone();
        unslowed.expect.isolate = None;
        let mut simulation = Self::as_is(world.slowed(slowness), seed);
        simulation.unslowed = Some(Box::new(unslowed));
        simulation
    }

    fn as_is(world: World, seed: u64) -> Self {
        let random = Random::new(seed);
        let mut simulation = Self {
            seed,
            queue: EventQueue::new(MonoTime::from_nanos(1_000_000)),
            network: Network::new(random.fork(1)),
            nodes: Arena::new(),
            links: Arena::new(),
            ends: Arena::new(),
            lanes: Arena::new(),
            flows: Arena::new(),
            trace: Trace::new(seed),
            random: random.fork(2),
            fault_random: random.fork(3),
            load_end: MonoTime::ZERO,
            draining: false,
            faults: 0,
            failed_at: MonoTime::ZERO,
            disturbances: 0,
            probes_us: Vec::new(),
            in_flight_permille: Vec::new(),
            delayed: None,
            messages_read: 0,
            violation: None,
            mutation: None,
            withholds: false,
            body: Vec::new(),
            delivered: Vec::new(),
            baseline: Vec::new(),
            unslowed: None,
            world,
        };
        simulation.build();
        simulation
    }

    /// The same, with something broken after `after` occasions.
    #[must_use]
    pub fn with_mutation(mut self, mutation: Mutation, after: u64) -> Self {
        self.mutation = Some((mutation, after));
        self
    }

    fn build(&mut self) {
        for index in 0..self.world.nodes {
            self.nodes.add(Node::new(index, self.world.path_window, self.world.memory_bytes));
        }
        let shapes = self.world.links.clone();
        for shape in shapes {
            let lanes = if shape.shared { 1 } else { shape.bulk_lanes.saturating_add(2) };
            let speed = shape.bytes_per_second;
            let wires =
                (0..lanes).map(|_| [self.network.add_wire(speed), self.network.add_wire(speed)]);
            let wires = wires.collect();
            let link =
                self.links.add(Link { shape, wires, blocked: None, open_since: MonoTime::ZERO });
            for (node, peer) in [(shape.a, shape.b), (shape.b, shape.a)] {
                let (node, peer) = (usize::from(node), usize::from(peer));
                let (local, remote) = (self.nodes[node].id, self.nodes[peer].id);
                let end =
                    self.ends.add(LinkEnd::new(link, node, peer, local, remote, self.world.link));
                self.nodes[node].ends.push(end);
            }
        }
        let shapes = self.world.flows.clone();
        for shape in shapes {
            self.add_flow(shape);
        }
    }

    /// The end at `node` of its link to `peer`.
    fn end_towards(&self, node: u16, peer: u16) -> Option<usize> {
        let (node, peer) = (usize::from(node), usize::from(peer));
        self.ends.iter().position(|end| end.node == node && end.peer == peer)
    }

    /// The links along `path`, as their ends are numbered.
    pub(crate) fn hops(&self, path: &[u16]) -> Vec<AdjacencyIndex> {
        path.windows(2)
            .filter_map(|pair| match pair {
                &[from, to] => self.end_towards(from, to),
                _ => None,
            })
            .map(|end| AdjacencyIndex(u32::try_from(end).unwrap_or(u32::MAX)))
            .collect()
    }

    /// The encoded route along `path`, its first hop taken.
    pub(crate) fn route(&self, path: &[u16]) -> Vec<u8> {
        let hops = self.hops(path);
        let id = |node: Option<&u16>| {
            node.map(|&node| self.nodes[usize::from(node)].id).unwrap_or_default()
        };
        let (from, to) = (id(path.first()), id(path.last()));
        let mut header = Vec::new();
        let _bounded = RouteHeader::encode(&mut header, from, to, PathId(1), &hops);
        match RouteHeader::split_advanced(&header) {
            Ok((fixed, rest)) => [&fixed[..], rest].concat(),
            Err(_) => header,
        }
    }

    fn add_flow(&mut self, shape: FlowShape) {
        let number = self.flows.len();
        let (Some(&from), Some(&to)) = (shape.path.first(), shape.path.last()) else { return };
        let ends = match (shape.path.get(1), shape.path.iter().nth_back(1)) {
            (Some(&second), Some(&last)) => {
                self.end_towards(from, second).zip(self.end_towards(to, last))
            }
            _ => None,
        };
        let Some((first_end, last_end)) = ends else { return };
        let backward: Vec<u16> = shape.path.iter().rev().copied().collect();
        let (key, limits) = (stream_key(number, shape.tenant), self.limits());
        let (from, to) = (usize::from(from), usize::from(to));
        let destination = self.nodes[to].id;
        let flow = Flow {
            source: Source::new(key, BootEpoch(1), destination, shape.class, limits),
            sink: Sink::new(key, BootEpoch(1), limits),
            first_end,
            last_end,
            forward: self.route(&shape.path),
            backward: self.route(&backward),
            consumes: false,
            filled_bytes: 0,
            shape,
        };
        self.flows.add(flow);
        self.nodes[from].windows.join(self.flows[number].source.path);
        self.nodes[from].sources.push(number);
        self.nodes[from].keys.push(key);
        self.nodes[to].sinks.push(number);
    }

    const fn limits(&self) -> DeliveryLimits {
        self.world.delivery
    }

    /// Lives `minutes` under load, then as long as it takes until everything has arrived.
    ///
    /// # Errors
    /// [`Failure`] with the first property that did not hold.
    pub fn run(mut self, minutes: u64) -> Result<Summary, Box<Failure>> {
        if let Some(unslowed) = self.unslowed.take() {
            let mut other = Self::as_is(*unslowed, self.seed);
            other.load(minutes.min(BASELINE_MINUTES));
            if let Some(violation) = other.violation.take() {
                return Err(Box::new(other.failure(violation)));
            }
            self.baseline = other.delivered;
        }
        self.load(minutes);
        self.drain();
        self.rest();
        match self.violation.take() {
            Some(violation) => Err(Box::new(self.failure(violation))),
            None => Ok(self.summary(minutes)),
        }
    }

    pub(crate) fn load(&mut self, minutes: u64) {
        let start = self.queue.now();
        let minute_end =
            |minute: u64| start.saturating_add(Duration::from_secs(minute.saturating_mul(60)));
        self.load_end = minute_end(minutes);
        self.start();
        for minute in 1..=minutes {
            let before = (self.messages(), self.faults);
            self.run_until(minute_end(minute));
            if self.violation.is_none() {
                self.check_minute(before);
            }
            if minute == minutes.min(BASELINE_MINUTES) {
                self.check_isolation();
            }
        }
        if self.violation.is_none() {
            self.check_load();
        }
    }

    /// Nothing is added and nothing fails any more: everything must arrive.
    fn drain(&mut self) {
        self.draining = true;
        for flow in 0..self.flows.len() {
            // Slow consumers take all that is there.
            self.flows[flow].sink.receiver.touch();
        }
        let drain_end = self.load_end.saturating_add(DRAIN_MAX);
        let mut step_end = self.load_end;
        while self.violation.is_none() && !self.is_settled() {
            if step_end >= drain_end {
                let (property, text) = self.unsettled();
                self.violate(property, text);
                return;
            }
            step_end = step_end.saturating_add(DRAIN_STEP);
            self.run_until(step_end);
        }
    }

    /// A world in which everything has arrived says no more than its heartbeats.
    fn rest(&mut self) {
        let calm = self.queue.now().saturating_add(REST_BEFORE);
        self.run_until(calm);
        let before = self.messages_read;
        self.run_until(calm.saturating_add(REST));
        self.check_rest(REST, self.messages_read.saturating_sub(before));
        self.check_credit();
        self.run_until(calm.saturating_add(STREAMS_REST));
        self.check_budgets();
    }

    fn start(&mut self) {
        let now = self.queue.now();
        for link in 0..self.links.len() {
            self.dial_all(link);
        }
        for flow in 0..self.flows.len() {
            let at = now.saturating_add(FIRST_PUBLISH);
            self.queue.schedule(at, Event::Publish { flow });
        }
        if !self.world.expect.control_within.is_zero() {
            for end in 0..self.ends.len() {
                self.queue.schedule(now, Event::Probe { end });
            }
        }
        if !self.world.faults.every.is_zero() {
            let at = now.saturating_add(Duration::from_secs(2));
            self.queue.schedule(at, Event::Fault);
        }
    }

    fn run_until(&mut self, end: MonoTime) {
        let (mut moment, mut events) = (self.queue.now(), 0_u64);
        while self.violation.is_none()
            && let Some(event) = self.queue.pop_before(end)
        {
            let now = self.queue.now();
            events = if now == moment { events.saturating_add(1) } else { 0 };
            moment = now;
            if events > EVENTS_PER_MOMENT_MAX {
                let text = format!("more than {EVENTS_PER_MOMENT_MAX} events at one moment");
                self.violate(Property::NoDeadlock, text);
            }
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        let node = match event {
            Event::Network(event) => return self.handle_network(event),
            Event::Wake { node, at } if !self.handle_wake(node, at) => return,
            Event::Wake { node, .. } => node,
            Event::Publish { flow } => return self.handle_publish(flow),
            Event::Consume { flow } => return self.handle_consume(flow),
            Event::Probe { end } => return self.handle_probe(end),
            Event::Dial { end, lane } => return self.handle_dial(end, lane),
            Event::Dialled { end, lane, epoch, lives } => {
                return self.handle_dialled(end, lane, epoch, lives);
            }
            Event::LaneUp { end } => return self.handle_lane_up(end),
            Event::Fault => return self.handle_fault(),
            Event::Heal(heal) => return self.handle_heal(heal),
        };
        self.note(node, event);
        self.pump(node);
    }

    /// Writes an event into the trace.
    pub(crate) fn note(&mut self, node: usize, event: Event) {
        let (what, numbers) = event.trace();
        self.note_as(node, what, numbers);
    }

    /// As [`Self::note`], for what is no event of the queue.
    pub(crate) fn note_as(&mut self, node: usize, what: &'static str, numbers: [u64; 2]) {
        let (at, node) = (self.queue.now(), u16::try_from(node).unwrap_or(u16::MAX));
        self.trace.record(TraceEvent { at, node, what, numbers });
    }

    pub(crate) fn violate(&mut self, property: Property, detail: String) {
        let at = self.queue.now();
        self.violation.get_or_insert(Violation { property, at, detail });
    }

    /// A flow publishes whenever there is room, now.
    pub(crate) fn fills(&self, flow: usize) -> bool {
        let is_full = self.world.rests.is_full(self.queue.now());
        self.flows[flow].shape.pace == Pace::Saturating && is_full && !self.draining
    }

    pub(crate) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].state == NodeState::Running
    }

    /// Messages that consumers got.
    pub(crate) fn messages(&self) -> u64 {
        self.flows.iter().fold(0, |sum: u64, flow| sum.saturating_add(flow.sink.messages()))
    }

    /// Bytes of records that sources sent again.
    pub(crate) fn resent_bytes(&self) -> u64 {
        self.flows.iter().fold(0, |sum: u64, flow| sum.saturating_add(flow.source.resent_bytes))
    }

    fn failure(&self, violation: Violation) -> Failure {
        let (recent, trace_hash) = (self.trace.recent(), self.trace.hash());
        Failure { seed: self.seed, world: self.world.name, violation, recent, trace_hash }
    }

    fn summary(&self, minutes: u64) -> Summary {
        let sum = |of: fn(&Sink) -> u64| {
            self.flows.iter().fold(0_u64, |sum, flow| sum.saturating_add(of(&flow.sink)))
        };
        Summary {
            seed: self.seed,
            minutes,
            messages: self.messages(),
            bytes: sum(Sink::bytes),
            faults: self.faults,
            disturbances: self.disturbances,
            resent_bytes: self.resent_bytes(),
            marked: sum(|sink| sink.marked),
            events: self.trace.events(),
            trace_hash: self.trace.hash(),
        }
    }
}
