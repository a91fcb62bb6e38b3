mod evacuation;
mod lanes;
mod moves;
mod numbers;
mod priority;
mod push;
mod receive;
mod recovery;
mod status;
mod stripes;
#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
mod tests;
mod transmit;
mod turns;

use std::collections::VecDeque;
use std::time::Duration;

use hawser_wire::{
    ClassSet, CloseReason, Incarnation, LaneAck, LaneAckEntry, LaneId, LifeNonce, LinkMode,
    LinkSequence, MonoTime, NodeId, STRIPE_WINDOW_BYTES, STRIPE_WINDOW_FRAMES, TrafficClass,
};

use crate::ack_interval::AckInterval;
use crate::allowance::Allowance;
use crate::batch::Batch;
use crate::buffer_pool::BufferPool;
use crate::config::LinkConfig;
use crate::connection::LaneKey;
use crate::data_queue::DataQueue;
use crate::delivery_rate::DeliveryRate;
use crate::departed::Departed;
use crate::duplicates::DuplicateWindow;
use crate::event::{LinkEvent, WakeReason};
use crate::flow_table::FlowTable;
use crate::forgotten::ForgottenConnections;
use crate::lane::Lane;
use crate::mode::ModeAgreement;
use crate::peer_sequences::PeerSequences;
use crate::reassembly::{Reassembly, ReorderLimits};
use crate::striping::Striping;
use crate::turn_delay::TurnDelay;

pub use receive::Handled;
pub use status::{HeartbeatCount, LaneStatus, LinkStatus};
pub use transmit::Transmit;

/// Lanes that a link has at most.
const LANES_MAX: usize = 16;
/// Connections that are gone without both sides knowing both counts, at most.
const DEPARTED_MAX: usize = 64;

/// A peer may change the mode of a link that often, and so many times at once.
const MODE_CHANGE_EVERY: Duration = Duration::from_secs(1);
const MODE_CHANGES_BURST: Duration = Duration::from_secs(16);

const _: () = assert!(LANES_MAX + DEPARTED_MAX < hawser_wire::LANE_ACK_ENTRIES_MAX);

/// The link to one neighbour over any number of lanes.
///
/// Frames are encoded once, into batches, and kept until the peer has acknowledged them; what was in
/// flight over a lane that is lost goes over another. Acknowledgements count the frames of each lane;
/// the link sequence of a frame serves to take one that came twice once, and nothing waits for a lower
/// one. Striped streams alone keep their order over several lanes, by a sequence of their own.
///
/// **Invariants:** a counted frame that was taken is waiting, in flight over a lane, in flight over one
/// that is gone, acknowledged, or handed to [`Self::poll_rerouted`], and in one place only, copies of a
/// hedge aside. Each of these places is bounded by bytes. No frame that is not counted needs credit.
#[derive(Debug)]
pub struct VirtualLink {
    config: LinkConfig,
    local_is_smaller: bool,
    peer_incarnation: Option<Incarnation>,
    peer_life: Option<LifeNonce>,
    lanes: Vec<Lane>,
    /// One of them carries a class.
    carries: bool,
    departed: Vec<Departed>,
    /// Lane ids of this session and their classes.
    known_lanes: Vec<(LaneId, TrafficClass)>,
    /// Where each class was placed last.
    placed: [Option<LaneId>; 3],
    /// As in [`LinkStatus`].
    lanes_let_go: u64,
    control: DataQueue,
    priority: DataQueue,
    /// It takes records of priority.
    peer_takes_priority: bool,
    /// Batches that wait for a lane, and the one that they were on.
    orphans: VecDeque<(LaneId, Batch)>,
    next_sequence: u64,
    /// No counted frame that waits or is in flight has a lower link sequence.
    lowest_sequence: u64,
    /// It is that of one, or the next one: none has gone since it was looked for.
    is_lowest_exact: bool,
    /// Frames that were acknowledged since the lowest was looked for.
    acked_unseen: u64,
    peer_sequences: PeerSequences,
    pool: BufferPool,
    rate: DeliveryRate,
    turn_delay: TurnDelay,
    ack_interval: AckInterval,
    heartbeats: HeartbeatCount,
    /// Bytes of priority and bulk that may be in flight, by `rate`.
    in_flight_bound: u64,
    /// As [`DeliveryRate::is_near`].
    is_near: bool,
    /// What a lane that shares it with others has got of it when its turn has come.
    bulk_turn: u64,
    mode: ModeAgreement,
    /// Changes of it that the peer may still make, over sessions.
    mode_changes: Allowance,
    duplicates: DuplicateWindow,
    /// The lanes of plain streams.
    flows: FlowTable,
    striping: Striping,
    /// By the peer, which has ended the session in which they began.
    channels_forgotten: bool,
    /// Lanes came or went: what waits or is in flight with a lower link sequence may be elsewhere than
    /// its stream's lane is now.
    moved_before: Option<u64>,
    reassembly: Reassembly,
    ack_sequence: u64,
    /// The newest of the peer's acknowledgements.
    ack_seen: u64,
    ack_due: Option<MonoTime>,
    /// Its lane was named to the driver.
    ack_flagged: bool,
    /// The next acknowledgement says everything.
    ack_whole: bool,
    /// To finals about connections that are not known here.
    answers: Vec<LaneAckEntry>,
    ack_out: LaneAck,
    ack_in: LaneAck,
    scratch: Vec<u8>,
    next_tick: MonoTime,
    /// Of this life of the peer.
    forgotten: ForgottenConnections,
    /// Until then the peer may still send what it began before it knew that.
    forgives_until: MonoTime,
    /// The last lane was lost then, and the session goes on.
    alone_since: Option<MonoTime>,
    events: VecDeque<LinkEvent>,
    rerouted: VecDeque<Batch>,
}

impl VirtualLink {
    /// A link without a lane.
    #[must_use]
    pub fn new(config: LinkConfig, local: NodeId, peer: NodeId) -> Self {
        Self {
            config,
            local_is_smaller: local < peer,
            peer_incarnation: None,
            peer_life: None,
            lanes: Vec::new(),
            carries: false,
            departed: Vec::new(),
            known_lanes: Vec::new(),
            placed: [None; 3],
            lanes_let_go: 0,
            control: DataQueue::default(),
            priority: DataQueue::default(),
            peer_takes_priority: false,
            orphans: VecDeque::new(),
            next_sequence: 1,
            lowest_sequence: 1,
            is_lowest_exact: false,
            acked_unseen: 0,
            peer_sequences: PeerSequences::default(),
            pool: BufferPool::new(config.batch_bytes.saturating_mul(2)),
            rate: DeliveryRate::new(),
            turn_delay: TurnDelay::default(),
            ack_interval: AckInterval::default(),
            heartbeats: HeartbeatCount::default(),
            in_flight_bound: config.in_flight_floor_bytes,
            is_near: true,
            bulk_turn: 0,
            mode: ModeAgreement::default(),
            mode_changes: Allowance::new(MonoTime::ZERO, MODE_CHANGES_BURST),
            duplicates: DuplicateWindow::default(),
            flows: FlowTable::new(),
            striping: Striping::new(config.stripe_bytes, config.stripe_frames),
            channels_forgotten: false,
            moved_before: None,
            reassembly: Reassembly::new(ReorderLimits {
                bytes: STRIPE_WINDOW_BYTES,
                frames: STRIPE_WINDOW_FRAMES,
                gap_max: config.stripe_gap_max,
            }),
            ack_sequence: 0,
            ack_seen: 0,
            ack_due: None,
            ack_flagged: false,
            ack_whole: false,
            answers: Vec::new(),
            ack_out: LaneAck::default(),
            ack_in: LaneAck::default(),
            scratch: Vec::new(),
            next_tick: MonoTime::ZERO,
            forgotten: ForgottenConnections::default(),
            forgives_until: MonoTime::ZERO,
            alone_since: None,
            events: VecDeque::new(),
            rerouted: VecDeque::new(),
        }
    }

    fn position(&self, key: LaneKey) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.key == key)
    }

    /// The lane that carries `class`; the first of them for bulk.
    fn carrier(&mut self, class: TrafficClass) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.carries.contains(class))
    }

    /// What the driver has to do and the operator may want to know, oldest first.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// What left the link with [`Self::evacuate`], or was in flight or waited when the session ended: to
    /// be sent over another path or dropped and its source told; some of it may have arrived. Frames
    /// without a link sequence among it are worth nothing any more.
    pub fn poll_rerouted(&mut self) -> Option<Batch> {
        self.rerouted.pop_front()
    }

    /// A lane may have something to write. Each is named once, and again when it may have more.
    pub fn poll_wanted(&mut self) -> Option<LaneKey> {
        let lane = self.lanes.iter_mut().find(|lane| lane.wanted)?;
        lane.wanted = false;
        Some(lane.key)
    }

    /// When [`Self::handle_timeout`] is due, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(MonoTime, WakeReason)> {
        let mut next = None;
        // Asked for at each turn of a shard: without an iterator, whose many layers cost more than
        // what they look at.
        let mut consider = |at: MonoTime, reason: WakeReason| {
            if next.is_none_or(|(sooner, _)| at < sooner) {
                next = Some((at, reason));
            }
        };
        if !self.lanes.is_empty() {
            consider(self.next_tick, WakeReason::Tick);
        }
        if self.carries {
            if let Some(due) = self.ack_due.filter(|_| !self.ack_flagged) {
                consider(due, WakeReason::Ack);
            }
            if let Some(at) = self.rate.poll_probe() {
                consider(at, WakeReason::Tick);
            }
        }
        if let Some(since) = self.alone_since {
            consider(since.saturating_add(self.config.session_timeout), WakeReason::SessionEnd);
        }
        next
    }

    /// Time has passed. `drained`: this shard ran since the last tick and has read what its sockets
    /// had, so that silence is the peer's.
    pub fn handle_timeout(&mut self, now: MonoTime, drained: bool) {
        if self.ack_due.is_some_and(|due| due <= now) {
            self.want_ack_now(now);
        }
        if !self.lanes.is_empty() && now >= self.next_tick {
            let late = now.saturating_since(self.next_tick);
            self.next_tick = now.saturating_add(self.config.tick);
            self.note_turn_delay(late);
            self.handle_tick(now, drained);
        }
        if self.rate.handle_probe(now) {
            self.measure(now);
        }
        self.update_bound();
        self.handle_alone(now);
    }

    /// Proposes a mode to the peer; it holds once the peer has accepted. The mode in force takes back a
    /// proposal that the peer may not have heard.
    pub fn propose_mode(&mut self, mode: LinkMode) {
        if let Some(offer) = self.mode.propose(mode)
            && let Some(lane) = self.carrier(TrafficClass::Control)
        {
            lane.push_own(hawser_wire::FrameKind::LinkMode, &offer.encode());
        }
    }

    /// The mode in force.
    #[must_use]
    pub const fn mode(&self) -> LinkMode {
        self.mode.mode()
    }

    /// Neither side has asked for a mode in this session, as far as is known here: separate lanes are
    /// nobody's choice.
    #[must_use]
    pub const fn is_mode_untouched(&self) -> bool {
        self.mode.is_untouched()
    }

    /// The link sequence of the next counted frame. Between two that are taken there are others if the
    /// link has begun stripe channels anew.
    #[must_use]
    pub const fn next_sequence(&self) -> LinkSequence {
        LinkSequence(self.next_sequence)
    }

    /// Acknowledgements are wanted on the wire now.
    fn want_ack_now(&mut self, now: MonoTime) {
        self.ack_due = Some(self.ack_due.map_or(now, |due| due.min(now)));
        if let Some(lane) = self.carrier(TrafficClass::Control) {
            lane.wanted = true;
            self.ack_flagged = true;
        }
    }

    /// Bytes of `class` in flight over lanes that are heard or, as none is, used all the same.
    fn in_flight_of(&self, class: TrafficClass) -> u64 {
        let used = self.lanes.iter().filter(|lane| !lane.quiet || !lane.carries.is_empty());
        used.fold(0, |sum, lane| sum.saturating_add(lane.unacked.bytes_of(class)))
    }

    /// Likewise of the classes that what may be in flight holds back.
    fn in_flight(&self) -> u64 {
        let used = self.lanes.iter().filter(|lane| !lane.quiet || !lane.carries.is_empty());
        used.fold(0, |sum, lane| sum.saturating_add(lane.data_in_flight()))
    }

    /// With so much in flight over lanes in use: nothing is over silent ones, either. If something is, it
    /// may be acknowledged at any time, and took longer than since now.
    fn has_none_in_flight(&self, in_flight: u64) -> bool {
        in_flight == 0 && self.lanes.iter().all(|lane| lane.data_in_flight() == 0)
    }

    fn update_bound(&mut self) {
        let floor = self.config.in_flight_floor_bytes;
        let bound = self.rate.in_flight_bound(floor, self.turn_delay.both());
        self.is_near = self.rate.is_near();
        if std::mem::replace(&mut self.in_flight_bound, bound) < bound {
            // What it held back may go, though no acknowledgement says so.
            for lane in &mut self.lanes {
                lane.wanted |= lane.has_queued();
            }
            self.want_unbound();
            self.want_striped();
        }
    }

    fn close_event(&mut self, key: LaneKey, reason: CloseReason, detail: &str) {
        let detail = detail.to_owned();
        self.events.push_back(LinkEvent::CloseLane { key, reason, detail });
    }
}

/// The classes of a lane that carries all.
const EVERY_CLASS: ClassSet = ClassSet::ALL;
