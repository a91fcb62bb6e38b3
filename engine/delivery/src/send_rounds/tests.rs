#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]

use std::collections::BTreeMap;

use hawser_wire::TenantId;

use super::*;

const MIB: u64 = 1 << 20;

/// A stream that always has records of one size for the egresses that are listed.
#[derive(Clone, Copy)]
struct Shape {
    tenant: u8,
    bytes: u64,
    over: &'static [u8],
}

const fn shape(tenant: u8, bytes: u64, over: &'static [u8]) -> Shape {
    Shape { tenant, bytes, over }
}

/// Streams, and egresses that take some bytes in each turn.
struct Driver {
    rounds: SendRounds<u8>,
    shapes: Vec<Shape>,
    /// What streams have left to send; others always have more.
    left: BTreeMap<usize, u64>,
    room: u64,
    stuck: Vec<u8>,
    queued: BTreeMap<u8, u64>,
    /// By stream and egress.
    sent: BTreeMap<(usize, u8), u64>,
    visits: usize,
}

impl Driver {
    fn new(shapes: &[Shape], room: u64, stuck: &[u8]) -> Self {
        Self {
            rounds: SendRounds::default(),
            shapes: shapes.to_vec(),
            left: BTreeMap::new(),
            room,
            stuck: stuck.to_vec(),
            queued: BTreeMap::new(),
            sent: BTreeMap::new(),
            visits: 0,
        }
    }

    fn key(&self, at: usize) -> StreamKey {
        let tenant = TenantId::from_bytes([self.shapes[at].tenant; 16]);
        StreamKey { tenant, stream: StreamId::from_bytes([at as u8; 16]) }
    }

    /// One turn: `touched` are visited first, then whoever has its turn.
    fn turn(&mut self, touched: impl IntoIterator<Item = usize>) {
        self.queued = self.stuck.iter().map(|&egress| (egress, self.room)).collect();
        self.rounds.begin_turn();
        for at in touched {
            self.visit(at, None);
        }
        loop {
            let Self { rounds, queued, room, .. } = self;
            let next = rounds.next(|egress, _| queued.get(&egress).is_none_or(|had| had < room));
            let Some((egress, who)) = next else { return };
            self.visit(usize::from(who.stream.as_bytes()[0]), Some(egress));
        }
    }

    fn visit(&mut self, at: usize, granted: Option<u8>) {
        self.visits += 1;
        let (who, Shape { bytes, over, .. }) = (self.key(at), self.shapes[at]);
        self.rounds.begin_visit(granted);
        loop {
            let has_more = self.left.get(&at).is_none_or(|&left| left > 0);
            let wanted = if has_more { over } else { &[][..] };
            // As a source does: the first destination that can take one.
            let go = wanted.iter().find(|&&egress| {
                let has_room = self.queued.get(&egress).is_none_or(|&had| had < self.room);
                self.rounds.may_send(who, egress, has_room)
            });
            let Some(&egress) = go else { break };
            *self.queued.entry(egress).or_default() += bytes;
            *self.sent.entry((at, egress)).or_default() += bytes;
            if let Some(left) = self.left.get_mut(&at) {
                *left -= bytes;
            }
            self.rounds.note_sent(who, egress, bytes);
        }
        self.rounds.end_visit(who);
    }

    /// Everybody is touched once, then turns follow.
    fn run(&mut self, turns: usize) {
        self.turn(0..self.shapes.len());
        for _ in 1..turns {
            self.turn([]);
        }
    }

    fn over(&self, egress: u8) -> Vec<u64> {
        let of = |at| self.sent.get(&(at, egress)).copied().unwrap_or(0);
        (0..self.shapes.len()).map(of).collect()
    }
}

fn assert_alike(shares: &[u64]) {
    let mean = shares.iter().sum::<u64>() / shares.len() as u64;
    let is_alike = shares.iter().all(|share| share.abs_diff(mean) * 100 <= mean * 5);
    assert!(is_alike && mean > 0, "{shares:?}, mean {mean}");
}

#[test]
fn streams_share_a_full_link_whatever_the_sizes_of_their_records() {
    let shapes = [1 << 20, 10_000, 66_000, 300, 65_536].map(|bytes| shape(1, bytes, &[1]));
    for room in [64 << 10, 100_000, 256 << 10, 700_000] {
        let mut driver = Driver::new(&shapes, room, &[]);
        driver.run(4000);
        assert_alike(&driver.over(1));
    }
}

#[test]
fn tenants_share_a_full_link_first() {
    let mut shapes = vec![shape(1, 20_000, &[1]); 10];
    shapes.push(shape(2, 30_000, &[1]));
    for room in [20_000, 256 << 10, 10 * MIB] {
        let mut driver = Driver::new(&shapes, room, &[]);
        driver.run(2000);
        let sent = driver.over(1);
        assert_alike(&[sent[..10].iter().sum(), sent[10]]);
        assert_alike(&sent[..10]);
    }
}

#[test]
fn a_tenant_that_has_nothing_to_send_leaves_all_to_others_at_once() {
    let mut shapes = vec![shape(1, 20_000, &[1]); 3];
    shapes.push(shape(2, 20_000, &[1]));
    let room = 256 << 10;
    let mut driver = Driver::new(&shapes, room, &[]);
    driver.run(100);
    driver.left.insert(3, 0);
    let (before, visits) = (driver.over(1), driver.visits);
    for _ in 0..100 {
        driver.turn([]);
    }
    let gained: Vec<u64> = driver.over(1).iter().zip(before).map(|(now, was)| now - was).collect();
    assert_eq!(gained[3], 0);
    assert!(gained.iter().sum::<u64>() >= 100 * room, "the link is filled: {gained:?}");
    // It was asked once, in vain.
    let quanta = gained.iter().sum::<u64>() / QUANTUM_BYTES;
    assert!((driver.visits - visits) as u64 <= 3 * quanta, "{} visits", driver.visits - visits);
}

#[test]
fn a_link_that_is_stuck_changes_nothing_for_another() {
    let mut shapes = vec![shape(1, 50_000, &[1])];
    shapes.extend([shape(1, 20_000, &[2]); 9]);
    shapes[4].over = &[1, 2];
    let mut driver = Driver::new(&shapes, 256 << 10, &[1]);
    driver.run(1000);
    assert!(driver.sent.keys().all(|&(_, egress)| egress == 2));
    assert_alike(&driver.over(2)[1..]);
}

#[test]
fn a_stream_with_two_links_has_its_share_of_each() {
    let shapes = [
        shape(1, 20_000, &[1]),
        shape(1, 20_000, &[1, 2]),
        shape(1, 20_000, &[2]),
        shape(1, 20_000, &[1]),
    ];
    let mut driver = Driver::new(&shapes, 256 << 10, &[]);
    driver.run(1000);
    let (one, two) = (driver.over(1), driver.over(2));
    assert_alike(&[one[0], one[1], one[3]]);
    assert_alike(&two[1..3]);
}

#[test]
fn who_comes_where_nobody_waits_sends_at_once_and_no_more_than_a_quantum_before_others() {
    let shapes = [shape(1, 1000, &[1]), shape(2, 1000, &[1])];
    let mut driver = Driver::new(&shapes, 70_000, &[]);
    driver.turn([0, 1]);
    assert_eq!(driver.over(1), [66_000, 4000], "the second has what is left");
    driver.turn([]);
    assert_eq!(driver.over(1).iter().sum::<u64>(), 140_000);
    assert!(driver.over(1)[1] >= 64_000, "and its turn before the first: {:?}", driver.over(1));
}

#[test]
fn a_turn_of_the_driver_is_over_after_some_quanta_and_the_next_goes_on() {
    let shapes = vec![shape(1, 65_536, &[1]); 100];
    let mut driver = Driver::new(&shapes, u64::MAX, &[]);
    for turn in 1..=50 {
        driver.turn(if turn == 1 { 0..100 } else { 0..0 });
        let sent: u64 = driver.over(1).iter().sum();
        assert_eq!(sent, turn * TURN_BYTES_MAX);
    }
    assert_alike(&driver.over(1));
}

#[test]
fn many_that_have_a_little_each_do_not_keep_the_driver_from_its_sockets() {
    let mut driver = Driver::new(&vec![shape(1, 8192, &[1]); 250], u64::MAX, &[]);
    driver.left = (0..250).map(|at| (at, 8192)).collect();
    driver.turn(0..250);
    assert_eq!(driver.over(1).iter().sum::<u64>(), TURN_BYTES_MAX, "then it looks again");
    driver.turn([]);
    assert_eq!(driver.over(1), [8192; 250], "and none is forgotten");
}

#[test]
fn who_has_sent_all_that_it_had_makes_nobody_wait() {
    let shapes = [shape(1, 20_000, &[1]), shape(2, 1000, &[1])];
    let mut driver = Driver::new(&shapes, 20_000, &[1]);
    driver.left = BTreeMap::from([(0, 40_000)]);
    driver.turn([0]);
    driver.stuck.clear();
    // It is touched each time, as a stream is whose records are acknowledged.
    driver.turn([0]);
    driver.turn([0]);
    assert_eq!((driver.over(1)[0], driver.left[&0]), (40_000, 0));
    let before = driver.visits;
    driver.left.insert(1, 1000);
    driver.turn([1]);
    assert_eq!((driver.over(1)[1], driver.visits - before), (1000, 1), "it sends at once");
}

#[test]
fn who_sends_its_last_elsewhere_makes_nobody_wait() {
    let shapes = [shape(1, 20_000, &[1]), shape(2, 1000, &[1])];
    let mut driver = Driver::new(&shapes, 1_000_000, &[1]);
    driver.left = BTreeMap::from([(0, 100_000), (1, 1000)]);
    driver.turn([0]);
    driver.stuck.clear();
    driver.shapes[0].over = &[1, 2];
    // Its turn over the first link ends before it has sent all; what is left goes over the other one.
    driver.turn([]);
    assert_eq!((driver.over(1)[0], driver.over(2)[0], driver.left[&0]), (80_000, 20_000, 0));
    let before = driver.visits;
    driver.turn([1]);
    assert_eq!(driver.visits - before, 1, "nobody waits there");
}

#[test]
fn a_turn_costs_nothing_for_those_that_wait_for_a_link_that_is_full() {
    let mut driver = Driver::new(&vec![shape(1, 20_000, &[1]); 250], 100_000, &[1]);
    driver.turn(0..250);
    driver.rounds.begin_turn();
    let next = driver.rounds.next(|egress, stream| {
        assert_eq!((egress, stream), (1, None), "it is asked of the link, not for each stream");
        false
    });
    assert_eq!(next, None);
}

#[test]
fn who_leaves_and_who_is_cleared_is_not_visited_any_more() {
    let shapes = [shape(1, 20_000, &[1, 2]), shape(1, 20_000, &[1])];
    let mut driver = Driver::new(&shapes, 100_000, &[1, 2]);
    driver.turn(0..2);
    driver.rounds.leave(driver.key(0));
    driver.stuck.clear();
    driver.turn([]);
    assert_eq!((driver.over(1)[0], driver.over(2)[0]), (0, 0));
    assert!(driver.over(1)[1] >= 100_000);
    driver.rounds.clear();
    let before = driver.visits;
    driver.turn([]);
    assert_eq!(driver.visits, before);
}
