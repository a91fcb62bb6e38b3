//! Whether links keep the order of streams.

use std::time::Duration;

use hawser_link::LinkEvent;
use hawser_wire::{FrameKind, FrameRef, LaneId, LinkSequence, MonoTime, RouteHeader, StreamHeader};

use crate::flow::flow_of;
use crate::lanes::number;
use crate::network::End;
use crate::simulation::Simulation;
use crate::violation::Property;

/// An end tells the other one of a session's end as soon as a lane carries its word; with no lane lost
/// or silent for so long that word has come.
const SETTLES_AFTER: Duration = Duration::from_secs(1);

/// What one end of a link is asked about the order of what it sends and delivers.
#[derive(Debug, Default)]
pub(crate) struct RecordOrder {
    /// What came out here last of each flow, by its number, as the sender's own and as others': the
    /// sender's life, and the link sequence. A link queues both for themselves, and a frame may come past
    /// its source again on a way around a broken link.
    last: Vec<[Option<(usize, LinkSequence)>; 2]>,
    /// Routed frames that the machine has taken in this life: the link sequence of the last one.
    taken: LinkSequence,
    /// Plain records up to this one may come in recovery's order: a lane was lost or silent then.
    recovers_to: LinkSequence,
    /// Striped records up to this one may come in any order: the far end waits no more for what is
    /// missing among them.
    released_to: LinkSequence,
    /// A session has ended at one end of the link, and the other one may not know: since then, or since
    /// a lane was lost or silent after that.
    unsettled_since: Option<MonoTime>,
    /// When a session ended last, here or there.
    ended_at: Option<MonoTime>,
    /// Lanes that the machine has.
    lanes: usize,
    /// Those that are silent.
    quiet: Vec<LaneId>,
}

impl RecordOrder {
    /// The machine has taken a routed frame.
    pub(crate) const fn note_taken(&mut self) {
        self.taken = LinkSequence(self.taken.0.saturating_add(1));
    }

    /// A fault, after which what was taken may come in any order, but for striped records.
    fn note_fault(&mut self) {
        self.recovers_to = self.taken;
    }

    /// Striped records that were taken may come in any order, too.
    fn note_released(&mut self) {
        self.released_to = self.taken;
    }

    /// Striped records may come in any order until both ends know of a session's end. Whether one that
    /// comes now may.
    fn settle(&mut self, now: MonoTime) {
        if let Some(since) = self.unsettled_since {
            self.note_released();
            self.unsettled_since = (since.saturating_add(SETTLES_AFTER) > now).then_some(since);
        }
    }

    /// What comes out here of a flow: what came before it, in the same life of the sender.
    fn note_came(
        &mut self,
        (flow, own): (usize, bool),
        life: usize,
        sequence: LinkSequence,
    ) -> Option<LinkSequence> {
        if self.last.len() <= flow {
            self.last.resize(flow.saturating_add(1), [None; 2]);
        }
        let [others, owns] = self.last.get_mut(flow)?;
        let before = if own { owns } else { others }.replace((life, sequence));
        before.filter(|&(of, _)| of == life).map(|(_, last)| last)
    }
}

impl Simulation {
    /// An end without a lane that is heard, be it for a moment, delivers what it holds of striped
    /// streams: what is missing the peer may have sent another way.
    pub(crate) fn note_usable(&mut self, link_end: usize) {
        if !self.ends[link_end].machine.is_usable() {
            self.ends[link_end ^ 1].order.note_released();
            self.restart_settling(link_end);
        }
    }

    /// Nothing is known yet to have come over the link.
    fn restart_settling(&mut self, link_end: usize) {
        let now = self.queue.now();
        for end in [link_end, link_end ^ 1] {
            let order = &mut self.ends[end].order;
            order.unsettled_since = order.unsettled_since.map(|_| now);
        }
    }

    /// Notes events after which the order of streams need not hold. Lanes that come, and lanes that were
    /// closed once nothing was in flight over them either way, are no excuse.
    pub(crate) fn note_order(&mut self, link_end: usize, event: &LinkEvent) {
        let is_fault = match *event {
            LinkEvent::LaneDown { key, ref why, .. } => {
                let end = End::of_key(key);
                let lane = &mut self.lanes[number(end.connection)];
                // Of the two ends that one says so which has closed it.
                lane.is_retired |= why == "closed";
                !lane.is_retired
            }
            LinkEvent::Quiet { .. }
            | LinkEvent::Rerouted { .. }
            | LinkEvent::SessionEnded { .. } => true,
            _ => false,
        };
        let order = &mut self.ends[link_end].order;
        if is_fault || !order.quiet.is_empty() {
            order.note_fault();
        }
        match *event {
            LinkEvent::LaneUp { .. } => order.lanes = order.lanes.saturating_add(1),
            LinkEvent::LaneDown { .. } => order.lanes = order.lanes.saturating_sub(1),
            _ => {}
        }
        match *event {
            LinkEvent::Quiet { lane, .. } => order.quiet.push(lane),
            LinkEvent::Heard { lane }
            | LinkEvent::LaneDown { id: hawser_link::ConnectionId { lane, .. }, .. } => {
                order.quiet.retain(|&other| other != lane);
            }
            _ => {}
        }
        let has_none = order.lanes == 0;
        match *event {
            // One that takes the place of the last lane comes too late for what waits here.
            LinkEvent::LaneDown { .. } if has_none => self.ends[link_end ^ 1].order.note_released(),
            LinkEvent::StripeGap { channel, sequence, .. } => {
                self.ends[link_end ^ 1].order.note_released();
                self.check_gap(link_end, channel, sequence);
            }
            // What stays goes plain, or comes behind what the far end has let go of.
            LinkEvent::Rerouted { .. } => self.ends[link_end].order.note_released(),
            LinkEvent::SessionEnded { .. } => {
                let now = self.queue.now();
                for end in [link_end, link_end ^ 1] {
                    let order = &mut self.ends[end].order;
                    (order.unsettled_since, order.ended_at) = (Some(now), Some(now));
                    order.settle(now);
                }
            }
            _ => {}
        }
        if is_fault {
            self.restart_settling(link_end);
        }
    }

    /// What is missing of a striped stream comes, if the session in which it was sent goes on.
    fn check_gap(&mut self, link_end: usize, channel: u8, sequence: u64) {
        let ended = self.ends[link_end].order.ended_at;
        let excused_for = self.world.link.stripe_gap_max.saturating_mul(2);
        let is_excused = |at: MonoTime| at.saturating_add(excused_for) > self.queue.now();
        if !ended.is_some_and(is_excused) {
            let node = self.ends[link_end].node;
            let text =
                format!("node {node}: frame {sequence} of stripe channel {channel} never came");
            self.violate(Property::NothingLost, text);
        }
    }

    /// A link hands out the records of a stream as it took them: `striped` ones unless its far end has
    /// let go of what came before its turn, others unless a lane was lost or silent since the link took
    /// them.
    pub(crate) fn check_order(
        &mut self,
        link_end: usize,
        (frame, striped): (&FrameRef<'_>, bool),
        (route, behind_route): (&RouteHeader<'_>, &[u8]),
    ) {
        if frame.header.kind != FrameKind::Record {
            return;
        }
        let stream = StreamHeader::peek(behind_route).map(|(_, stream)| stream);
        let flow = stream.and_then(flow_of).filter(|&flow| flow < self.flows.len());
        let (Some(flow), sequence) = (flow, frame.header.link_sequence) else { return };
        let now = self.queue.now();
        let sender = &mut self.ends[link_end ^ 1];
        let life = sender.life();
        sender.order.settle(now);
        let RecordOrder { recovers_to, released_to, .. } = sender.order;
        let excused_to = if striped { released_to } else { recovers_to };
        let own = route.source == self.nodes[sender.node].id && route.cursor == 1;
        let end = &mut self.ends[link_end];
        if end.heard_ledger != life || sequence <= excused_to {
            return;
        }
        let last = end.order.note_came((flow, own), life, sequence);
        if last.is_some_and(|last| last > sequence) {
            let node = end.node;
            let text = format!("node {node}: flow {flow}: frame {sequence} came after {last:?}");
            self.violate(Property::StreamOrder, text);
        }
    }
}
