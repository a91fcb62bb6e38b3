//! Two nodes that know each other's address, in virtual time: what both decide about connections
//! that cross must agree, whatever the order in which they hear of them.

use std::collections::{BTreeMap, BTreeSet};

use hawser_exchange::LaneSerial;
use hawser_wire::Incarnation;

use super::*;
use crate::links::{Connection, LinkChange, Verdict};

const NODES: [NodeId; 2] = [NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16])];
const ADDRESSES: [&str; 2] = ["small:7480", "large:7480"];

/// SplitMix64.
struct Seeded(u64);

impl Seeded {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

fn at(millis: u64) -> MonoTime {
    MonoTime::ZERO.saturating_add(Duration::from_millis(millis))
}

/// A connection by its lane and its epoch, which no other has.
type Id = (LaneId, LinkEpoch);

const fn serial_of(epoch: LinkEpoch) -> LaneSerial {
    LaneSerial(epoch.0)
}

#[derive(Debug)]
enum Event {
    /// The node that dialled is told that its attempt succeeded.
    Dialled(DialRequest),
    /// The other one is told of the connection.
    Accepted(Id),
    /// The node's shard says that it carries frames.
    Up(Id),
    /// The node's shard sees its end, and misses its lane.
    Down(Id),
    /// The connection breaks.
    Fault,
}

struct Node {
    dialler: Dialler,
    links: Links,
}

struct World {
    seed: u64,
    random: Seeded,
    now: MonoTime,
    nodes: [Node; 2],
    events: BTreeMap<(MonoTime, u64), (usize, Event)>,
    count: u64,
    /// Connections that exist.
    open: BTreeSet<Id>,
    dials: Vec<MonoTime>,
}

impl World {
    fn new(seed: u64) -> Self {
        let nodes = [0, 1].map(|node| {
            let mut dialler = Dialler::new(NODES[node], LanePlan::default());
            dialler.add(at(0), ADDRESSES[1 - node]);
            Node { dialler, links: Links::new(NODES[node]) }
        });
        let random = Seeded(seed);
        let (events, open) = (BTreeMap::new(), BTreeSet::new());
        let now = at(0);
        Self { seed, random, now, nodes, events, count: 0, open, dials: Vec::new() }
    }

    fn after(&mut self, millis: u64, node: usize, event: Event) {
        self.count += 1;
        let due = self.now.saturating_add(Duration::from_millis(millis));
        self.events.insert((due, self.count), (node, event));
    }

    fn after_a_while(&mut self, node: usize, event: Event) {
        let millis = self.random.below(40);
        self.after(millis, node, event);
    }

    fn run_until(&mut self, end: MonoTime) {
        loop {
            for node in 0..2 {
                self.dial(node);
            }
            let due = [0, 1].map(|node: usize| {
                let Node { dialler, links } = &self.nodes[node];
                dialler.poll_timeout(links)
            });
            let wake = due.into_iter().flatten().min();
            let next = self.events.first_key_value().map(|(&(due, _), _)| due);
            let Some(time) = next.into_iter().chain(wake).min().filter(|&time| time <= end) else {
                break;
            };
            assert!(wake.is_none_or(|wake| wake > self.now), "seed {}: a busy loop", self.seed);
            self.now = time;
            while let Some(entry) = self.events.first_entry().filter(|e| e.key().0 <= time) {
                let (node, event) = entry.remove();
                self.handle(node, event);
            }
        }
        self.now = end;
    }

    fn dial(&mut self, node: usize) {
        while let Some(request) = {
            let Node { dialler, links } = &mut self.nodes[node];
            dialler.poll_dial(self.now, links)
        } {
            self.dials.push(self.now);
            let id = (request.lane, request.epoch);
            assert!(self.open.insert(id), "seed {}: {id:?} twice", self.seed);
            self.after_a_while(1 - node, Event::Accepted(id));
            self.after_a_while(node, Event::Dialled(request));
        }
    }

    /// As the loop does with what admission hands it; true if it serves now.
    fn offer(&mut self, node: usize, id: Id, dialled: bool) -> bool {
        let (lane, epoch) = id;
        let peer = NODES[1 - node];
        let (incarnation, class) = (Incarnation(1), LanePlan::class_on_wire(lane));
        let (life, serial) = (None, serial_of(epoch));
        let offered = Connection { peer, incarnation, life, lane, class, epoch, dialled, serial };
        match self.nodes[node].links.offer(&offered) {
            Verdict::Serve { superseded, link_ended } => {
                assert!(!link_ended);
                for old in superseded {
                    self.close(node, (old.lane, LinkEpoch(old.serial.0)));
                }
                let gone = !self.open.contains(&id);
                self.after_a_while(node, if gone { Event::Down(id) } else { Event::Up(id) });
                true
            }
            Verdict::Refuse(_) => {
                self.close(node, id);
                false
            }
        }
    }

    /// One end closes a connection; the other hears of it.
    fn close(&mut self, node: usize, id: Id) {
        if self.open.remove(&id) {
            self.after_a_while(1 - node, Event::Down(id));
        }
    }

    fn handle(&mut self, node: usize, event: Event) {
        let (now, peer) = (self.now, NODES[1 - node]);
        match event {
            Event::Dialled(request) => {
                let served = self.offer(node, (request.lane, request.epoch), true)
                    || self.nodes[node].links.is_served(peer, request.lane);
                assert!(served, "seed {}: nobody began a newer life", self.seed);
                let dialler = &mut self.nodes[node].dialler;
                dialler.handle_dialled(now, &request.address, request.lane, peer);
            }
            Event::Accepted(id) => {
                self.offer(node, id, false);
            }
            Event::Up((lane, epoch)) => {
                let Node { dialler, links } = &mut self.nodes[node];
                if links.handle_lane_up(peer, lane, serial_of(epoch)) != LinkChange::Stale {
                    dialler.handle_lane_up(now, peer, lane);
                }
            }
            Event::Down((lane, epoch)) => {
                let entropy = self.random.draw();
                let Node { dialler, links } = &mut self.nodes[node];
                if links.handle_lane_down(peer, lane, serial_of(epoch)) != LinkChange::Stale {
                    dialler.handle_lane_down(now, peer, lane, LaneEnd::Lost, entropy);
                }
                if let Some(class) = LanePlan::default().class_of(lane) {
                    let until = now.saturating_add(Duration::from_secs(10));
                    dialler.want(now, &WantedLane { peer, lane, class, until });
                }
            }
            Event::Fault => {
                let open: Vec<Id> = self.open.iter().copied().collect();
                for id in open {
                    if self.random.below(3) > 0 {
                        self.open.remove(&id);
                        self.after_a_while(0, Event::Down(id));
                        self.after_a_while(1, Event::Down(id));
                    }
                }
            }
        }
    }

    /// Both ends have the same three connections, and no other exists.
    fn check_settled(&self) {
        let seed = self.seed;
        let served = [0, 1].map(|node: usize| {
            LanePlan::default()
                .standing()
                .iter()
                .filter_map(|&(lane, _)| {
                    let links = &self.nodes[node].links;
                    assert!(links.is_lane_up(NODES[1 - node], lane), "seed {seed}: {lane} is down");
                    Some((lane, links.epoch(NODES[1 - node], lane)?))
                })
                .collect::<BTreeSet<Id>>()
        });
        assert_eq!(served[0], served[1], "seed {seed}: the ends differ");
        assert_eq!(served[0], self.open, "seed {seed}: connections that nobody uses");
    }
}

#[test]
fn two_that_dial_each_other_at_once_end_with_one_connection_per_lane() {
    for seed in 0..500 {
        let mut world = World::new(seed);
        world.run_until(at(5_000));
        world.check_settled();
        let dials = world.dials.len();
        world.run_until(at(15_000));
        assert_eq!(world.dials.len(), dials, "seed {seed}: a loop");
        assert!(dials <= 12, "seed {seed}: {dials} dials for three lanes");
    }
}

#[test]
fn two_that_lose_their_lanes_again_and_again_settle_once_they_keep_them() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..30 {
            let millis = world.random.below(20_000);
            world.after(millis, 0, Event::Fault);
        }
        // Backed off to half a minute at most by what they went through.
        world.run_until(at(80_000));
        world.check_settled();
        let dials = world.dials.len();
        world.run_until(at(90_000));
        assert_eq!(world.dials.len(), dials, "seed {seed}: a loop");
        assert!(dials < 400, "seed {seed}: {dials} dials after 30 faults");
    }
}
