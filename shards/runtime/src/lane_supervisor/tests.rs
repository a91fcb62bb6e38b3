//! Both ends of a link, each with its supervisor, over lanes of a certain rate, in virtual time.

use std::collections::{BTreeMap, VecDeque};

use hawser_link::{
    Flow, FrameParts, Handled, LaneOffer, LaneVerdict, LinkConfig, LinkEvent, Origin,
};
use hawser_wire::{FrameFlags, FrameIter, FrameKind, Incarnation, LinkEpoch, NodeId};

use super::*;

const STEP: Duration = Duration::from_millis(1);
/// One way.
const DELAY: Duration = Duration::from_millis(4);
const LANE_BYTES_PER_SECOND: u64 = 2_000_000;
/// What a socket takes before its writer has to wait, as time on the wire.
const SOCKET: Duration = Duration::from_millis(30);
const RULE: LaneRule = LaneRule { bulk_lanes_max: 4, policy: LanePolicyMode::On };

/// What is on its way over one lane to one end.
#[derive(Default)]
struct Pipe {
    messages: VecDeque<(MonoTime, Vec<u8>)>,
    free_at: MonoTime,
}

struct Ends {
    now: MonoTime,
    links: [VirtualLink; 2],
    supervisors: [LaneSupervisor; 2],
    /// By lane, to each end.
    pipes: BTreeMap<LaneKey, [Pipe; 2]>,
    next_key: u64,
    /// Bytes per second that each end has for the other.
    demand: [u64; 2],
    unsent: [u64; 2],
    /// The last stream that was asked for some.
    streams: u64,
    verdicts: [Vec<LaneVerdict>; 2],
}

impl Ends {
    /// With a bulk lane beside control; A's demand is over lanes that it dials.
    fn new(rules: [LaneRule; 2], demand: [u64; 2]) -> Self {
        let ids = [1, 2].map(|tag| NodeId::from_bytes([tag; 16]));
        let link = |at: usize| VirtualLink::new(LinkConfig::default(), ids[at], ids[1 - at]);
        let mut ends = Self {
            now: MonoTime::from_nanos(1),
            links: [link(0), link(1)],
            supervisors: rules.map(|rule| LaneSupervisor::new(rule).unwrap()),
            pipes: BTreeMap::new(),
            next_key: 1,
            demand,
            unsent: [0; 2],
            streams: 0,
            verdicts: [Vec::new(), Vec::new()],
        };
        ends.connect(LaneId(0), TrafficClass::Control);
        ends.connect(LaneId(FIRST_BULK_LANE), TrafficClass::Bulk);
        ends
    }

    fn connect(&mut self, lane: LaneId, class: TrafficClass) {
        let key = LaneKey(self.next_key);
        self.next_key += 1;
        self.pipes.insert(key, Default::default());
        for (end, link) in self.links.iter_mut().enumerate() {
            let offer = LaneOffer {
                lane,
                class,
                epoch: LinkEpoch(key.0),
                dialled: end == 0,
                peer_incarnation: Incarnation(1),
                peer_life: None,
                peer_stripes: true,
                peer_takes_priority: true,
            };
            link.handle_lane_up(self.now, key, offer).unwrap();
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now.saturating_add(Duration::from_secs(seconds));
        while self.now < end {
            self.now = self.now.saturating_add(STEP);
            for end in [0, 1] {
                self.arrive(end);
                self.offer(end);
                if self.links[end].poll_timeout().is_some_and(|(due, _)| due <= self.now) {
                    self.links[end].handle_timeout(self.now, true);
                    self.supervise(end);
                }
                self.transmit(end);
                self.close(end);
            }
        }
    }

    fn supervise(&mut self, end: usize) {
        let link = &mut self.links[end];
        let Some(done) = self.supervisors[end].handle_timeout(self.now, link) else { return };
        self.verdicts[end].push(done.decision.verdict);
        if let Some(lane) = done.wanted {
            self.connect(lane, TrafficClass::Bulk);
        }
    }

    /// Streams give what they have, while there is room.
    fn offer(&mut self, end: usize) {
        const BODY: [u8; 2_000] = [0; 2_000];
        self.unsent[end] = (self.unsent[end] + self.demand[end] / 1000).min(8 * 2_000);
        while self.unsent[end] >= 2_000 {
            self.unsent[end] -= 2_000;
            self.streams += 1;
            let stream = self.streams % 64;
            let flow = Flow { tenant: 1, stream: stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
            let (kind, class) = (FrameKind::Record, TrafficClass::Bulk);
            if self.links[end].has_room(class, flow) {
                let body = FrameParts::of(&[&BODY]);
                let flags = FrameFlags::default();
                self.links[end].push(kind, class, Origin::Own, flow, flags, body).unwrap();
            }
        }
    }

    fn arrive(&mut self, end: usize) {
        for (&key, pipes) in &mut self.pipes {
            let (link, messages) = (&mut self.links[end], &mut pipes[end].messages);
            while let Some((_, message)) = messages.pop_front_if(|(at, _)| *at <= self.now) {
                link.handle_bytes(key);
                for frame in FrameIter::new(&message) {
                    let handled = link.handle_frame(self.now, key, &frame.unwrap()).unwrap();
                    if handled == Handled::Assembled {
                        let whole = link.take_assembled(key);
                        for frame in FrameIter::new(&whole) {
                            link.handle_assembled(self.now, key, &frame.unwrap()).unwrap();
                        }
                        link.give_assembled(self.now, key, whole);
                    }
                }
            }
        }
    }

    fn transmit(&mut self, end: usize) {
        for (&key, pipes) in &mut self.pipes {
            let pipe = &mut pipes[1 - end];
            while pipe.free_at <= self.now.saturating_add(SOCKET)
                && let Some(sent) = self.links[end].poll_transmit(self.now, key)
            {
                let message = sent.frames.concat();
                let nanos = message.len() as u64 * 1_000_000_000 / LANE_BYTES_PER_SECOND;
                pipe.free_at =
                    pipe.free_at.max(self.now).saturating_add(Duration::from_nanos(nanos));
                pipe.messages.push_back((pipe.free_at.saturating_add(DELAY), message));
            }
        }
    }

    /// A good-bye is the last message of a lane.
    fn close(&mut self, end: usize) {
        while let Some(event) = self.links[end].poll_event() {
            if let LinkEvent::CloseLane { key, reason, .. } = event {
                assert_eq!(reason, CloseReason::NotNeeded);
                self.arrive(1 - end);
                self.links[1 - end].close_lane(self.now, key, reason);
                self.links[1 - end].handle_lane_down(self.now, key, "closed by the peer");
                self.pipes.remove(&key);
            }
        }
    }

    fn bulk_lanes(&self) -> [usize; 2] {
        let is_bulk = |lane: &LaneStatus| lane.class == TrafficClass::Bulk;
        self.links.each_ref().map(|link| link.lanes().filter(is_bulk).count())
    }

    fn count(&self, end: usize, name: &str) -> usize {
        self.verdicts[end].iter().filter(|verdict| verdict.name() == name).count()
    }
}

/// Two lanes carry what one could not, all of it one way.
#[test]
fn the_receiving_end_keeps_a_lane_that_the_other_one_fills() {
    let mut ends = Ends::new([RULE; 2], [LANE_BYTES_PER_SECOND * 2, 0]);
    ends.run(150);
    let said = format!("{:?}", ends.verdicts);
    assert!(ends.count(0, "confirmed") >= 1, "{said}");
    assert_eq!((ends.count(0, "close"), ends.count(1, "close")), (0, 0), "{said}");
    assert!(ends.bulk_lanes().iter().all(|&lanes| lanes > 1), "{said}");
}

#[test]
fn a_lane_that_nobody_uses_is_closed_after_a_minute() {
    let mut ends = Ends::new([RULE; 2], [0, 0]);
    ends.connect(LaneId(3), TrafficClass::Bulk);
    ends.run(55);
    assert_eq!((ends.bulk_lanes(), &ends.verdicts), ([2, 2], &[Vec::new(), Vec::new()]));
    ends.run(10);
    let said = format!("{:?}", ends.verdicts);
    assert!((1..=2).contains(&(ends.count(0, "close") + ends.count(1, "close"))), "{said}");
    ends.run(300);
    assert_eq!(ends.bulk_lanes(), [1, 1], "{:?}", ends.verdicts);
}

/// The end that wants lanes has no cap, the other one has.
#[test]
fn a_lane_that_the_peer_closes_for_its_cap_is_not_opened_over_and_over() {
    let capped = LaneRule { bulk_lanes_max: 1, ..RULE };
    let mut ends = Ends::new([RULE, capped], [LANE_BYTES_PER_SECOND * 2, 0]);
    ends.run(120);
    let said = format!("{:?}", ends.verdicts);
    assert_eq!((ends.count(0, "open"), ends.count(1, "close")), (1, 1), "{said}");
    assert_eq!(ends.bulk_lanes(), [1, 1], "{said}");
}
