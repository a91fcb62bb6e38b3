use hawser_wire::{
    FrameFlags, FrameKind, LANE_CREDIT_BYTES_INITIAL, LaneId, LinkSequence, MonoTime, NodeId,
    TrafficClass,
};

use hawser_link::{
    Flow, FrameParts, LaneKey, LinkConfig, LinkEvent, Origin, Refusal, SessionEnd, VirtualLink,
};

use crate::detours::first_that_left;
use crate::ledger::{FrameDigest, FrameLedger};
use crate::network::{ConnectionId, End, Side};
use crate::order::RecordOrder;
use crate::simulation::Simulation;
use crate::violation::Property;
use crate::watched::{Timed, Watched};

/// One node's end of a link: the machine, and what it was given.
#[derive(Debug)]
pub(crate) struct LinkEnd {
    pub(crate) link: usize,
    pub(crate) node: usize,
    /// The node at the other end.
    pub(crate) peer: usize,
    pub(crate) machine: Watched<VirtualLink>,
    /// One for each life of the node.
    pub(crate) ledgers: Vec<FrameLedger>,
    /// Lanes that it is dialling.
    pub(crate) dialling: Vec<LaneId>,
    /// Lanes that it has open.
    pub(crate) open: Vec<End>,
    /// Those that it lets go of, to dial them again.
    pub(crate) retired: Vec<LaneId>,
    /// Frames that it takes arrive, as far as its node has noticed.
    pub(crate) usable: bool,
    /// Of the peer's ledgers that of the lane which was heard last.
    pub(crate) heard_ledger: usize,
    /// How it keeps the order of streams.
    pub(crate) order: RecordOrder,
    local: NodeId,
    remote: NodeId,
    config: LinkConfig,
}

impl Timed for VirtualLink {
    fn due(&self) -> Option<MonoTime> {
        self.poll_timeout().map(|(at, _reason)| at)
    }
}

impl End {
    /// The name of the lane at its machine.
    pub(crate) fn key(self) -> LaneKey {
        let side = u64::from(self.is_acceptor());
        LaneKey(u64::from(self.connection.0).saturating_mul(2).saturating_add(side))
    }

    pub(crate) fn of_key(key: LaneKey) -> Self {
        let side = if key.0 & 1 == 1 { Side::Acceptor } else { Side::Dialler };
        Self { connection: ConnectionId(u32::try_from(key.0 >> 1).unwrap_or(u32::MAX)), side }
    }
}

impl LinkEnd {
    pub(crate) fn new(
        link: usize,
        node: usize,
        peer: usize,
        local: NodeId,
        remote: NodeId,
        config: LinkConfig,
    ) -> Self {
        Self {
            link,
            node,
            peer,
            machine: Watched::new(VirtualLink::new(config, local, remote)),
            ledgers: vec![FrameLedger::new(LinkSequence(1))],
            dialling: Vec::new(),
            open: Vec::new(),
            retired: Vec::new(),
            usable: false,
            heard_ledger: 0,
            order: RecordOrder::default(),
            local,
            remote,
            config,
        }
    }

    /// The node lost its memory.
    pub(crate) fn restart(&mut self) {
        self.machine.replace(VirtualLink::new(self.config, self.local, self.remote));
        self.ledgers.push(FrameLedger::new(LinkSequence(1)));
        self.dialling.clear();
        self.open.clear();
        self.retired.clear();
        self.usable = false;
        self.order = RecordOrder::default();
    }

    /// Gives the link a frame.
    pub(crate) fn push(
        &mut self,
        now: MonoTime,
        (kind, class): (FrameKind, TrafficClass),
        origin: Origin,
        (flow, flags): (Flow, FrameFlags),
        body: FrameParts<'_>,
    ) -> Result<(), Refusal> {
        self.note_own_frames();
        self.machine.push(kind, class, origin, flow, flags, body)?;
        if kind.is_routed()
            && let Some(ledger) = self.ledgers.last_mut()
        {
            ledger.handle_taken(now, FrameDigest::of(kind, body.iter()));
            self.order.note_taken();
        }
        Ok(())
    }

    /// A link that has begun stripe channels anew has taken a frame of its own for each.
    pub(crate) fn note_own_frames(&mut self) {
        let next = self.machine.next_sequence();
        while let Some(ledger) = self.ledgers.last_mut().filter(|ledger| ledger.next() < next) {
            ledger.handle_own();
            self.order.note_taken();
        }
    }

    /// Nothing waits, here or for what comes before it, nothing is unacknowledged, no fate of a lost
    /// lane is unknown, and every lane has its credit back.
    pub(crate) fn is_idle(&self) -> bool {
        let status = self.machine.status();
        status.queued_bytes == 0
            && status.in_flight_bytes == 0
            && status.unsettled_frames == 0
            && status.reorder_bytes == 0
            && self.machine.lanes().all(|lane| {
                lane.unacked_frames == 0 && lane.credit_bytes >= LANE_CREDIT_BYTES_INITIAL
            })
    }

    /// The machine's numbers, for people.
    pub(crate) fn state(&self) -> String {
        let lanes: Vec<_> = self.machine.lanes().collect();
        format!("{:?}, {lanes:?}", self.machine.status())
    }

    /// The number of the node's present life.
    pub(crate) const fn life(&self) -> usize {
        self.ledgers.len().saturating_sub(1)
    }
}

impl Simulation {
    /// Lets a link's machine do what is due and sends what it has.
    pub(crate) fn pump_link(&mut self, link_end: usize) {
        let now = self.queue.now();
        if !self.ends[link_end].machine.is_awake(now) {
            return;
        }
        if self.ends[link_end].machine.is_due(now) {
            self.ends[link_end].machine.handle_timeout(now, true);
            self.note_usable(link_end);
        }
        loop {
            self.take_link_events(link_end);
            let Some(key) = self.ends[link_end].machine.poll_wanted() else { break };
            self.flush(link_end, End::of_key(key));
        }
        self.ends[link_end].machine.leave();
    }

    /// Writes what the machine has for a lane, while that takes it.
    pub(crate) fn flush(&mut self, link_end: usize, end: End) {
        let now = self.queue.now();
        while self.is_up(end) && self.network.can_write(&mut self.queue, end) {
            let LinkEnd { machine, ledgers, .. } = &mut self.ends[link_end];
            let Some(transmit) = machine.poll_transmit(now, end.key()) else { return };
            let checks = self.world.faults.reroutes;
            let again = checks.then(|| first_that_left(ledgers.last(), transmit.frames)).flatten();
            self.network.write(&mut self.queue, end, transmit.frames);
            self.check_sent(link_end, again);
        }
    }

    pub(crate) fn take_link_events(&mut self, link_end: usize) {
        self.note_usable(link_end);
        while let Some(event) = self.ends[link_end].machine.poll_event() {
            self.handle_link_event(link_end, &event);
        }
        self.take_reassembled(link_end);
    }

    /// Striped frames that had to wait for others and do so no more.
    pub(crate) fn take_reassembled(&mut self, link_end: usize) {
        while let Some(frame) = self.ends[link_end].machine.poll_reassembled() {
            self.handle_frame(link_end, &frame.as_frame(), true);
            self.ends[link_end].machine.give_reassembled(frame);
        }
    }

    fn handle_link_event(&mut self, link_end: usize, event: &LinkEvent) {
        self.note_order(link_end, event);
        match *event {
            LinkEvent::CloseLane { key, reason, .. } => {
                let end = End::of_key(key);
                self.check_close(link_end, reason);
                self.lose_lane(link_end, end, "closed by this node");
            }
            LinkEvent::WantLane { lane, .. } => {
                self.handle_want_lane(link_end, lane);
            }
            LinkEvent::SessionEnded { reason, .. } => self.end_session(link_end, reason),
            _ => {}
        }
    }

    /// The machine gave up a session, or what it had in flight over a connection that the peer has
    /// forgotten. Of a whole session it must hand back all that was not delivered.
    fn end_session(&mut self, link_end: usize, reason: SessionEnd) {
        let node = self.ends[link_end].node;
        let (count, given_up) = self.take_rerouted(link_end);
        let end = &self.ends[link_end];
        let whole = !matches!(reason, SessionEnd::Forgotten { .. });
        let missing = end.ledgers.last().and_then(FrameLedger::first_open).filter(|_| whole);
        self.note_as(node, "session ended", [count, u64::from(whole)]);
        if let Some((sequence, _)) = missing {
            let text = format!("node {node}: the session's end did not hand back frame {sequence}");
            self.violate(Property::NothingLost, text);
        }
        for batch in given_up {
            self.reroute(link_end, &batch.frames());
        }
        if whole {
            self.check_session_end(link_end, reason);
            self.dial_all(self.ends[link_end].link);
        }
    }
}
