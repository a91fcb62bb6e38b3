//! The window by itself, and several of them at a bottleneck in memory: a queue that marks above a
//! threshold and drops above a bound, sources that send all again from the first loss on, as
//! [`crate::StreamSender`] does.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]

use std::collections::{BTreeSet, VecDeque};

use super::*;
use crate::seeded::Seeded;

const RECORD: u64 = 16 << 10;
const KIB: u64 = 1 << 10;

fn limits() -> PathWindowLimits {
    PathWindowLimits {
        initial_bytes: 10 * RECORD,
        min_bytes: 2 * RECORD,
        max_bytes: 64 << 20,
        step_bytes: RECORD,
        resend_after: Duration::from_secs(1),
    }
}

fn at(millis: u64) -> MonoTime {
    MonoTime::from_nanos((millis + 1) * 1_000_000)
}

/// A window and one stream that uses it.
struct Single {
    window: PathWindow,
    share: PathShare,
    now: MonoTime,
}

impl Single {
    fn new() -> Self {
        Self { window: PathWindow::new(limits()), share: PathShare::default(), now: at(0) }
    }

    /// Sends what may be sent; how many records that were.
    fn fill(&mut self) -> u64 {
        let mut sent = 0;
        while self.window.is_open(self.now, RECORD) && sent < 10_000 {
            self.window.handle_sent(self.now, &mut self.share, RECORD);
            sent += 1;
        }
        sent
    }

    fn ack(&mut self, records: u64, marked: u64) {
        let (acked, marked) = (records * RECORD, marked * RECORD);
        self.window.handle_acked(self.now, &mut self.share, acked, marked, None);
    }

    /// A round trip in which everything under way arrives, a part of it marked.
    fn round(&mut self, marked: impl Fn(u64) -> u64) -> u64 {
        self.now = self.now.saturating_add(Duration::from_millis(10));
        let sent = self.fill();
        self.ack(sent, marked(sent));
        sent
    }
}

#[test]
fn the_window_doubles_until_the_first_mark_and_then_rises_by_steps() {
    let mut single = Single::new();
    assert_eq!(single.round(|_| 0), 10);
    assert_eq!(single.round(|_| 0), 20);
    assert_eq!(single.round(|_| 0), 40);
    // Of the fraction of one that it began with, three rounds without a mark left 0.82.
    assert_eq!(single.round(|_| 1), 80);
    let after = single.window.window_bytes();
    assert!((47 * RECORD..49 * RECORD).contains(&after), "{}", after / RECORD);
    single.round(|_| 0);
    let step = single.window.window_bytes() - after;
    assert!((RECORD * 9 / 10..=RECORD).contains(&step), "{step}");
}

#[test]
fn the_reduction_is_half_the_mean_fraction_of_marks() {
    let check = |tenths: u64, permille: u64| {
        let mut single = Single::new();
        for _ in 0..200 {
            single.window.window_bytes = 100 * RECORD;
            single.window.slow_start_below_bytes = 0;
            single.round(|sent| sent * tenths / 10);
        }
        assert!(single.window.marked_permille().abs_diff(tenths * 100) <= 10);
        single.window.window_bytes = 100 * RECORD;
        single.fill();
        single.ack(1, 1);
        let kept = single.window.window_bytes() * 1000 / (100 * RECORD);
        assert!(kept.abs_diff(permille) <= 15, "{tenths}: {kept}");
    };
    check(10, 500);
    check(5, 750);
    check(1, 950);
}

#[test]
fn the_window_is_reduced_once_per_window_and_not_below_its_floor() {
    let mut single = Single::new();
    single.round(|_| 0);
    single.fill();
    for _ in 0..20 {
        single.window.handle_loss(single.now);
    }
    assert_eq!(single.window.window_bytes(), 10 * RECORD);
    single.ack(19, 19);
    assert_eq!(single.window.window_bytes(), 10 * RECORD);
    single.ack(1, 0);
    for _ in 0..100 {
        single.round(|sent| sent);
    }
    // One step is gained and one lost again.
    assert!(single.window.window_bytes() <= 3 * RECORD);
    assert!(single.window.window_bytes() >= 2 * RECORD);
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut single = Single::new();
    for _ in 0..50 {
        single.window.handle_sent(single.now, &mut single.share, RECORD);
        single.ack(1, 0);
    }
    assert_eq!(single.window.window_bytes(), 10 * RECORD);
}

#[test]
fn an_idle_path_begins_with_its_first_window() {
    let mut single = Single::new();
    for _ in 0..5 {
        single.round(|_| 0);
    }
    assert_eq!(single.window.window_bytes(), 320 * RECORD);
    single.now = single.now.saturating_add(Duration::from_millis(900));
    assert_eq!(single.fill(), 320);
    single.ack(320, 0);
    single.now = single.now.saturating_add(Duration::from_millis(1001));
    assert_eq!(single.fill(), 10);
}

#[test]
fn a_record_larger_than_the_window_goes_alone() {
    let mut window = PathWindow::new(limits());
    let mut share = PathShare::default();
    assert!(window.is_open(at(0), 1 << 20));
    window.handle_sent(at(0), &mut share, 1 << 20);
    assert!(!window.is_open(at(0), 1));
    window.handle_acked(at(9), &mut share, 1 << 20, 0, None);
    assert!(window.is_open(at(9), 1 << 20));
}

#[test]
fn a_timeout_leaves_one_probe_until_something_moves() {
    let mut single = Single::new();
    single.fill();
    single.now = at(999);
    assert!(!single.window.handle_timeout(single.now));
    single.now = at(1000);
    assert_eq!(single.window.poll_timeout(), Some(single.now));
    assert!(single.window.handle_timeout(single.now));
    assert_eq!((single.window.in_flight_bytes(), single.window.poll_timeout()), (0, None));
    assert_eq!(single.fill(), 1);
    // The probe is lost, too; the next waits longer.
    single.now = at(2999);
    assert!(!single.window.handle_timeout(single.now));
    single.now = at(3000);
    assert!(single.window.handle_timeout(single.now));
    assert_eq!(single.fill(), 1);
    single.ack(1, 0);
    // From the floor, and quickly up to half of what it was.
    assert_eq!(single.window.window_bytes(), 2 * RECORD);
    assert_eq!(single.round(|_| 0), 2);
    assert_eq!(single.round(|_| 0), 4);
    assert_eq!(single.window.slow_start_below_bytes, 5 * RECORD);
}

#[test]
fn streams_take_away_their_own_share_only() {
    let mut window = PathWindow::new(limits());
    let (mut one, mut other) = (PathShare::default(), PathShare::default());
    for _ in 0..3 {
        window.handle_sent(at(0), &mut one, RECORD);
        window.handle_sent(at(0), &mut other, RECORD);
    }
    window.handle_forgotten(&mut one);
    window.handle_forgotten(&mut one);
    window.handle_acked(at(1), &mut one, 3 * RECORD, 0, None);
    assert_eq!(window.in_flight_bytes(), 3 * RECORD);
    // What was under way at a timeout is not taken out a second time.
    assert!(window.handle_timeout(at(2000)));
    window.handle_sent(at(2000), &mut one, RECORD);
    window.handle_forgotten(&mut other);
    window.handle_acked(at(2001), &mut other, 3 * RECORD, 0, None);
    assert_eq!(window.in_flight_bytes(), RECORD);
    window.handle_forgotten(&mut one);
    assert_eq!((window.in_flight_bytes(), window.poll_timeout()), (0, None));
}

/// A stream with always more to send.
struct Flow {
    window: PathWindow,
    share: PathShare,
    starts: MonoTime,
    ends: MonoTime,
    next: u64,
    received: u64,
    resent_at: MonoTime,
    has_lost: bool,
    /// At the destination: what came before its turn, and what was marked.
    frontier: u64,
    early: BTreeSet<u64>,
    marked: u64,
    /// Acknowledgements (frontier, marked records, when its record was sent) and drop notices on
    /// their way back.
    acks: VecDeque<(MonoTime, u64, u64, MonoTime)>,
    notices: VecDeque<MonoTime>,
    marked_known: u64,
}

struct Queued {
    flow: usize,
    number: u64,
    marked: bool,
    sent: MonoTime,
}

struct Bottleneck {
    flows: Vec<Flow>,
    queue: VecDeque<Queued>,
    now: MonoTime,
    rate: u64,
    rtt: Duration,
    mark_above: u64,
    drop_above: u64,
    budget: u64,
    /// Of the queue in bytes, over the time measured.
    queue_sum: u64,
    queue_max: u64,
    ticks: u64,
    drops: u64,
}

const TICK: Duration = Duration::from_micros(100);

impl Bottleneck {
    /// Flows that begin one after the other, `stagger` apart.
    fn new(flows: usize, stagger: Duration) -> Self {
        let flow = |index: usize| Flow {
            window: PathWindow::new(limits()),
            share: PathShare::default(),
            starts: MonoTime::ZERO.saturating_add(stagger * index as u32),
            ends: MonoTime::MAX,
            next: 0,
            received: 0,
            resent_at: MonoTime::ZERO,
            has_lost: false,
            frontier: 0,
            early: BTreeSet::new(),
            marked: 0,
            acks: VecDeque::new(),
            notices: VecDeque::new(),
            marked_known: 0,
        };
        Self {
            flows: (0..flows).map(flow).collect(),
            queue: VecDeque::new(),
            now: MonoTime::ZERO,
            rate: 100_000_000,
            rtt: Duration::from_millis(10),
            mark_above: 256 * KIB,
            drop_above: 4 * KIB * KIB,
            budget: 0,
            queue_sum: 0,
            queue_max: 0,
            ticks: 0,
            drops: 0,
        }
    }

    fn queue_bytes(&self) -> u64 {
        self.queue.len() as u64 * RECORD
    }

    /// Runs for so long; what each flow delivered in that time, in bytes.
    fn run(&mut self, time: Duration) -> Vec<u64> {
        let before: Vec<u64> = self.flows.iter().map(|flow| flow.frontier).collect();
        (self.queue_sum, self.queue_max, self.ticks, self.drops) = (0, 0, 0, 0);
        let end = self.now.saturating_add(time);
        while self.now < end {
            self.now = self.now.saturating_add(TICK);
            self.tick();
        }
        let flows = self.flows.iter().zip(before);
        flows.map(|(flow, before)| (flow.frontier - before) * RECORD).collect()
    }

    fn tick(&mut self) {
        let now = self.now;
        // Another one begins each tick, so that none is always the first at the queue.
        for step in 0..self.flows.len() {
            let index = (step + self.ticks as usize) % self.flows.len();
            self.flows[index].take_news(now);
            self.send(index);
        }
        self.budget = (self.budget + self.rate / 10_000).min(self.queue_bytes().max(RECORD));
        while self.budget >= RECORD
            && let Some(record) = self.queue.pop_front()
        {
            self.budget -= RECORD;
            let back = now.saturating_add(self.rtt);
            let flow = &mut self.flows[record.flow];
            if record.number >= flow.frontier && flow.early.insert(record.number) {
                flow.marked += u64::from(record.marked);
            }
            while flow.early.remove(&flow.frontier) {
                flow.frontier += 1;
            }
            flow.acks.push_back((back, flow.frontier, flow.marked, record.sent));
        }
        self.queue_sum += self.queue_bytes();
        self.queue_max = self.queue_max.max(self.queue_bytes());
        self.ticks += 1;
    }

    fn send(&mut self, index: usize) {
        let now = self.now;
        loop {
            let queued = self.queue.len() as u64 * RECORD;
            let flow = &mut self.flows[index];
            if now < flow.starts || now >= flow.ends || !flow.window.is_open(now, RECORD) {
                return;
            }
            flow.window.handle_sent(now, &mut flow.share, RECORD);
            let number = flow.next;
            flow.next += 1;
            if queued + RECORD > self.drop_above {
                flow.notices.push_back(now.saturating_add(self.rtt / 2));
                self.drops += 1;
            } else {
                let marked = queued > self.mark_above;
                self.queue.push_back(Queued { flow: index, number, marked, sent: now });
            }
        }
    }

    fn queue_mean(&self) -> u64 {
        self.queue_sum / self.ticks
    }
}

impl Flow {
    fn take_news(&mut self, now: MonoTime) {
        if self.window.handle_timeout(now) {
            self.next = self.received;
        }
        while self.notices.pop_front_if(|at| *at <= now).is_some() {
            self.window.handle_loss(now);
            self.has_lost = true;
        }
        // At most once in two round trips; a sign that comes too early is looked at later.
        if self.has_lost && now.saturating_since(self.resent_at) > 2 * self.window.srtt() {
            self.has_lost = false;
            self.resent_at = now;
            self.window.handle_forgotten(&mut self.share);
            self.next = self.received;
        }
        while let Some((_, frontier, marked, sent)) = self.acks.pop_front_if(|ack| ack.0 <= now) {
            let acked = frontier.saturating_sub(self.received) * RECORD;
            let marked_more = (marked - self.marked_known) * RECORD;
            if acked > 0 {
                let rtt = Some(now.saturating_since(sent));
                self.window.handle_acked(now, &mut self.share, acked, marked_more, rtt);
                self.marked_known = marked;
            }
            self.received = self.received.max(frontier);
            self.next = self.next.max(self.received);
        }
    }
}

fn assert_fair(bytes: &[u64], what: &str) {
    let mean = bytes.iter().sum::<u64>() / bytes.len() as u64;
    for &got in bytes {
        assert!(got.abs_diff(mean) * 5 <= mean, "{what}: mean {mean}, {bytes:?}");
    }
}

#[test]
fn flows_share_a_bottleneck_and_keep_its_queue_at_the_threshold() {
    for flows in [1, 2, 3, 5, 8] {
        let mut world = Bottleneck::new(flows, Duration::from_millis(700));
        world.run(Duration::from_secs(10));
        let bytes = world.run(Duration::from_secs(10));
        assert_fair(&bytes, &format!("{flows} flows"));
        let total = bytes.iter().sum::<u64>();
        assert!(total >= world.rate * 10 * 95 / 100, "{flows} flows: {total}");
        assert_eq!(world.drops, 0, "{flows} flows");
        let mean = world.queue_mean();
        let near = world.mark_above / 4..=world.mark_above * 2;
        assert!(near.contains(&mean), "{flows} flows: mean queue {mean}");
        assert!(world.queue_max <= world.mark_above * 3, "{flows} flows: {}", world.queue_max);
    }
}

/// Rates, round trips and numbers of flows by a seed.
#[test]
fn flows_are_fair_on_paths_of_many_kinds() {
    for seed in 0..16 {
        let mut random = Seeded(seed);
        let flows = 2 + random.below(7) as usize;
        let stagger = Duration::from_millis(random.below(1000));
        let mut world = Bottleneck::new(flows, stagger);
        world.rate = 20_000_000 + random.below(180_000_000);
        world.rtt = Duration::from_millis(2 + random.below(18));
        // At least a quarter of what the path holds (RFC 8257 §3.1 leaves it to the operator).
        let holds = world.rate * world.rtt.as_millis() as u64 / 1000;
        world.mark_above = (holds / 4).max(12 * RECORD);
        world.run(Duration::from_secs(20));
        let bytes = world.run(Duration::from_secs(20));
        let what = format!(
            "seed {seed}: {flows} flows, {} B/s, {:?}, marks above {}",
            world.rate, world.rtt, world.mark_above
        );
        assert_fair(&bytes, &what);
        assert!(bytes.iter().sum::<u64>() >= world.rate * 20 * 93 / 100, "{what}: {bytes:?}");
        assert_eq!(world.drops, 0, "{what}");
    }
}

#[test]
fn a_newcomer_gets_its_share_and_what_is_left_is_taken() {
    let mut world = Bottleneck::new(4, Duration::ZERO);
    world.flows[3].starts = at(5_000);
    world.flows[0].ends = at(15_000);
    world.run(Duration::from_secs(10));
    assert_fair(&world.run(Duration::from_secs(5)), "with the newcomer");
    world.run(Duration::from_secs(2));
    let bytes = world.run(Duration::from_secs(5));
    assert_eq!(bytes[0], 0);
    assert_fair(&bytes[1..], "after one left");
    assert!(bytes.iter().sum::<u64>() >= world.rate * 5 * 95 / 100, "{bytes:?}");
}

#[test]
fn many_flows_at_their_floor_do_not_collapse() {
    // Sixty-four floors are more than the path holds: the queue stands, and nothing is lost.
    let mut world = Bottleneck::new(64, Duration::from_millis(20));
    world.run(Duration::from_secs(5));
    let bytes = world.run(Duration::from_secs(10));
    assert_fair(&bytes, "64 flows");
    assert!(bytes.iter().sum::<u64>() >= world.rate * 10 * 95 / 100);
    assert_eq!(world.drops, 0);
}

#[test]
fn a_relay_that_only_drops_is_not_flooded() {
    for flows in [1, 4] {
        let mut world = Bottleneck::new(flows, Duration::from_millis(300));
        world.mark_above = u64::MAX;
        world.drop_above = 1024 * KIB;
        world.run(Duration::from_secs(10));
        let bytes = world.run(Duration::from_secs(20));
        let total = bytes.iter().sum::<u64>();
        assert!(total >= world.rate * 20 * 80 / 100, "{flows} flows: {total} {bytes:?}");
        assert!(world.drops < 20 * 1000, "{flows} flows: {} drops", world.drops);
        assert!(bytes.iter().all(|&bytes| bytes > total / flows as u64 / 2), "{bytes:?}");
    }
}

#[test]
fn a_path_that_comes_back_is_used_again() {
    let mut world = Bottleneck::new(2, Duration::ZERO);
    world.run(Duration::from_secs(5));
    let rate = std::mem::replace(&mut world.rate, 0);
    let silent = world.run(Duration::from_secs(5));
    assert_eq!(silent, [0, 0]);
    assert!(world.flows.iter().all(|flow| flow.window.window_bytes() == 2 * RECORD));
    world.rate = rate;
    world.run(Duration::from_secs(10));
    let bytes = world.run(Duration::from_secs(5));
    assert_fair(&bytes, "after the silence");
    assert!(bytes.iter().sum::<u64>() >= world.rate * 5 * 95 / 100, "{bytes:?}");
}
