//! Whether links keep the order of streams.

use hawser_link::LinkEvent;
use hawser_wire::{FrameFlags, FrameKind, FrameRef, LaneId, LinkSequence, StreamHeader};

use crate::flow::flow_of;
use crate::lanes::number;
use crate::network::End;
use crate::simulation::Simulation;
use crate::violation::Property;

/// What one end of a link is asked about the order of what it sends and delivers.
#[derive(Debug, Default)]
pub(crate) struct RecordOrder {
    /// Link sequence of the last record of each striped flow that came out here, by its number.
    striped: Vec<Option<LinkSequence>>,
    /// The same of each plain flow, with the number of the sender's life.
    plain: Vec<Option<(usize, LinkSequence)>>,
    /// Routed frames that the machine has taken in this life: the link sequence of the last one.
    taken: LinkSequence,
    /// Plain records up to this one may come in recovery's order: a lane was lost or silent then.
    recovers_to: LinkSequence,
    /// Lanes that are silent.
    quiet: Vec<LaneId>,
}

/// Notes what is the last one of a flow now; what was before.
fn replace<T: Clone>(last: &mut Vec<Option<T>>, flow: usize, now: T) -> Option<T> {
    if last.len() <= flow {
        last.resize(flow.saturating_add(1), None);
    }
    last.get_mut(flow)?.replace(now)
}

impl RecordOrder {
    /// The machine has taken a routed frame.
    pub(crate) const fn note_taken(&mut self) {
        self.taken = LinkSequence(self.taken.0.saturating_add(1));
    }

    /// A fault, after which what was taken may come in any order.
    fn note_fault(&mut self) {
        self.recovers_to = self.taken;
    }
}

impl Simulation {
    /// Notes events after which the order of plain streams need not hold. Lanes that come, and lanes
    /// that were closed once nothing was in flight over them either way, are no excuse.
    pub(crate) fn note_order(&mut self, link_end: usize, event: &LinkEvent) {
        let is_fault = match *event {
            LinkEvent::LaneDown { key, ref why, .. } => {
                let end = End::of_key(key);
                let lane = &mut self.lanes[number(end.connection)];
                // Of the two ends that one says so which has closed it.
                lane.is_retired |= why == "closed";
                !lane.is_retired
            }
            LinkEvent::Quiet { .. } | LinkEvent::SessionEnded { .. } => true,
            _ => false,
        };
        let order = &mut self.ends[link_end].order;
        if is_fault || !order.quiet.is_empty() {
            order.note_fault();
        }
        match *event {
            LinkEvent::Quiet { lane, .. } => order.quiet.push(lane),
            LinkEvent::Heard { lane }
            | LinkEvent::LaneDown { id: hawser_link::ConnectionId { lane, .. }, .. } => {
                order.quiet.retain(|&other| other != lane);
            }
            _ => {}
        }
    }

    /// A link hands out the records of a stream as it took them: of a striped one in its first session
    /// and while a lane is heard, of a plain one unless a lane was lost or silent since the link took
    /// them.
    pub(crate) fn check_order(
        &mut self,
        link_end: usize,
        frame: &FrameRef<'_>,
        behind_route: &[u8],
    ) {
        if frame.header.kind != FrameKind::Record {
            return;
        }
        let stream = StreamHeader::peek(behind_route).map(|(_, stream)| stream);
        let flow = stream.and_then(flow_of).filter(|&flow| flow < self.flows.len());
        let (Some(flow), sequence) = (flow, frame.header.link_sequence) else { return };
        let sender = &self.ends[link_end ^ 1];
        let (life, recovers_to) = (sender.life(), sender.order.recovers_to);
        let end = &mut self.ends[link_end];
        let last = if frame.header.flags.contains(FrameFlags::STRIPED) {
            if end.excuses_order {
                return;
            }
            replace(&mut end.order.striped, flow, sequence)
        } else {
            if end.heard_ledger != life || sequence <= recovers_to {
                return;
            }
            let last = replace(&mut end.order.plain, flow, (life, sequence));
            last.filter(|&(of, _)| of == life).map(|(_, last)| last)
        };
        if last.is_some_and(|last| last > sequence) {
            let node = end.node;
            let text = format!("node {node}: flow {flow}: frame {sequence} came after {last:?}");
            self.violate(Property::StreamOrder, text);
        }
    }
}
