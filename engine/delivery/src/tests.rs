//! A source and a destination in memory, with a path between them that loses, repeats and delays
//! by a seed. A failure prints the seed.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]

mod agreement;
mod credit;
mod gaps;
mod misbehaviour;
mod paths;
mod windows;

use std::time::Duration;

use bytes::Bytes;
use hawser_wire::{
    BootEpoch, FrameFlags, MonoTime, NodeId, ProducerId, RECORD_BYTES_TARGET, Record,
    RecordBuilder, RecordView, StreamAck, StreamId, StreamOffset, StreamSync, TenantId, put_varint,
};

use crate::seeded::Seeded;
use crate::{
    ConsumerStart, DeliveryLimits, PublishError, RecordOutcome, StreamReceiver, StreamSender,
    TransmitBody, WindowBudget,
};

const SOURCE: NodeId = NodeId::from_bytes([1; 16]);
const DESTINATION: NodeId = NodeId::from_bytes([2; 16]);
const STREAM: StreamId = StreamId::from_bytes([3; 16]);
const PRODUCER: ProducerId = ProducerId(7);
const TENANT: TenantId = TenantId::from_bytes([9; 16]);
/// The flags of a frame of an earlier release, which says nothing of what limits it.
const NONE: FrameFlags = FrameFlags(0);
const CONSUMER: &str = "app";

/// Memory for all.
fn plenty() -> WindowBudget {
    WindowBudget::new(1 << 40)
}

fn limits() -> DeliveryLimits {
    DeliveryLimits {
        window_bytes: 128 << 10,
        window_initial_bytes: 32 << 10,
        outbox_bytes: 256 << 10,
        // This path loses by itself, and tells nobody.
        gap_after: Duration::from_millis(20),
        ..DeliveryLimits::default()
    }
}

fn at(millis: u64) -> MonoTime {
    MonoTime::from_nanos((millis + 1) * 1_000_000)
}

/// Messages `first..first + count`, each its own number in eight bytes and some padding.
fn messages(first: u64, count: u64) -> (Bytes, Bytes) {
    let (mut lengths, mut payload) = (Vec::new(), Vec::new());
    for seq in first..first + count {
        let padding = (seq % 500) as usize;
        put_varint(&mut lengths, 8 + padding as u32);
        payload.extend_from_slice(&seq.to_le_bytes());
        payload.resize(payload.len() + padding, 0);
    }
    (lengths.into(), payload.into())
}

fn sender(epoch: u64, fresh: bool) -> StreamSender {
    let tenant = TenantId::from_bytes([9; 16]);
    let mut sender =
        StreamSender::new(tenant, STREAM, BootEpoch(epoch), &[DESTINATION], fresh, limits());
    sender.handle_path(DESTINATION, true);
    sender
}

fn receiver(epoch: u64, consumers: &[(&str, u64)]) -> StreamReceiver {
    let consumers = consumers.iter().map(|&(name, next)| (name, StreamOffset(next)));
    StreamReceiver::new(TENANT, STREAM, BootEpoch(epoch), epoch > 1, consumers, limits())
}

enum Packet {
    Sync(StreamSync, FrameFlags),
    Record(Vec<u8>, FrameFlags),
    Ack(StreamAck),
}

/// Both hosts, the path between them, and the two applications.
struct World {
    random: Seeded,
    now: u64,
    sender: StreamSender,
    receiver: StreamReceiver,
    /// At the destination; less than the window of a stream, for some seeds.
    budget: WindowBudget,
    /// When each packet arrives.
    path: Vec<(u64, Packet)>,
    loss_percent: u64,
    published: u64,
    acked: u64,
    got: Vec<u64>,
    epochs: u64,
}

impl World {
    fn new(seed: u64, loss_percent: u64) -> Self {
        let mut receiver = receiver(1, &[]);
        receiver.attach(CONSUMER, ConsumerStart::Resume).unwrap();
        Self {
            random: Seeded(seed),
            now: 0,
            sender: sender(1, true),
            receiver,
            budget: WindowBudget::new(seed % 5 * (80 << 10)),
            path: Vec::new(),
            loss_percent,
            published: 0,
            acked: 0,
            got: Vec::new(),
            epochs: 1,
        }
    }

    fn send(&mut self, packet: Packet) {
        if self.random.below(100) >= self.loss_percent {
            let delay = 1 + self.random.below(5);
            self.path.push((self.now + delay, packet));
        }
    }

    fn arrive(&mut self) {
        let (due, later) =
            std::mem::take(&mut self.path).into_iter().partition(|&(when, _)| when <= self.now);
        self.path = later;
        let due: Vec<(u64, Packet)> = due;
        for (_, packet) in due {
            match packet {
                Packet::Sync(sync, flags) => self.receiver.handle_sync(&sync, flags),
                Packet::Record(bytes, flags) => {
                    let view = RecordView::decode(&bytes).unwrap();
                    self.receiver.handle_record(at(self.now), &view, flags);
                    assert_eq!(self.receiver.poll_violation(), None, "nobody breaks the rules");
                }
                Packet::Ack(ack) => {
                    self.sender.handle_ack(at(self.now), DESTINATION, &ack);
                    assert_eq!(self.sender.poll_refused(), None, "nobody breaks the rules");
                }
            }
        }
    }

    /// One millisecond.
    fn step(&mut self, publish: bool) {
        self.now += 1;
        self.arrive();
        let now = at(self.now);
        if publish && self.sender.is_ready() && self.sender.room_bytes() > 32 << 10 {
            // Producers repeat what is not acknowledged, and more besides.
            let again = self.random.below(20).min(self.published);
            let count = 1 + self.random.below(30);
            let (lengths, payload) = messages(self.published - again + 1, count + again);
            let first = self.published - again + 1;
            let total = (count + again) as u32;
            let (next, _) = self.sender.open_producer(PRODUCER).unwrap();
            if first <= next {
                self.sender.handle_publish(PRODUCER, first, total, lengths, payload).unwrap();
                self.published += count;
            } else {
                self.published = next - 1;
            }
        }
        if self.sender.poll_timeout().is_some_and(|due| due <= now) {
            self.sender.handle_timeout(now);
        }
        while let Some(transmit) = self.sender.poll_transmit(now, |_| true) {
            match transmit.body {
                TransmitBody::Sync(sync) => self.send(Packet::Sync(sync, transmit.flags)),
                TransmitBody::Record(record) => {
                    let bytes = record.to_bytes();
                    self.send(Packet::Record(bytes, transmit.flags));
                }
            }
        }
        while let Some((_, acked)) = self.sender.poll_acked() {
            assert!(acked >= self.acked, "acknowledgements only grow");
            self.acked = acked;
        }
        self.consume(now);
        if let Some(ack) = self.receiver.poll_ack(now, &mut self.budget) {
            self.send(Packet::Ack(ack));
        }
        // The last record may begin below the credit and end above it.
        let bound =
            limits().window_bytes + Record::charge_of(&[0; 1024], &[0; RECORD_BYTES_TARGET]);
        let held = self.receiver.buffered_bytes();
        assert!(held <= bound, "memory is bounded: {held} of {bound}");
    }

    fn consume(&mut self, now: MonoTime) {
        if self.random.below(3) == 0 {
            return; // A consumer that is slow now and then.
        }
        while let Some(record) = self.receiver.poll_deliver(CONSUMER) {
            let mut at_byte = 0;
            for len in record.message_lengths() {
                let message = &record.payload[at_byte..at_byte + len as usize];
                self.got.push(u64::from_le_bytes(message[..8].try_into().unwrap()));
                at_byte += len as usize;
            }
            let next = record.header.stream_end();
            self.receiver.handle_commit(now, CONSUMER, next).unwrap();
        }
    }

    /// The source loses its memory; its publisher goes on from what was acknowledged.
    fn restart_source(&mut self) {
        self.epochs += 1;
        self.sender = sender(self.epochs, false);
        self.published = self.acked;
    }

    /// The destination loses its memory, but for what consumers confirmed.
    fn restart_destination(&mut self) {
        self.epochs += 1;
        let confirmed = self.receiver.confirmed(CONSUMER).unwrap();
        self.receiver.leave_budget(&mut self.budget);
        self.receiver = receiver(self.epochs, &[(CONSUMER, confirmed.0)]);
        self.receiver.attach(CONSUMER, ConsumerStart::Resume).unwrap();
        self.sender.handle_path(DESTINATION, false);
        self.sender.handle_path(DESTINATION, true);
    }

    fn drain(&mut self) {
        let until = self.now + 120_000;
        while self.now < until && (self.got.len() as u64) < self.published {
            self.step(false);
        }
    }

    fn check(&self, seed: u64) {
        let wrong = self.got.iter().zip(1..).position(|(&got, expected)| got != expected);
        assert_eq!(wrong, None, "in order, seed {seed}: {:?}", wrong.map(|at| self.got[at]));
        assert_eq!(self.got.len() as u64, self.published, "every message once, seed {seed}");
    }
}

#[test]
fn a_path_that_loses_and_reorders_loses_nothing_in_the_end() {
    for seed in 0..40 {
        let mut world = World::new(seed, seed % 4 * 10);
        for _ in 0..400 {
            world.step(true);
        }
        world.drain();
        world.check(seed);
        assert!(world.published > 500, "the world published, seed {seed}");
    }
}

#[test]
fn either_host_may_lose_its_memory() {
    for seed in 100..140 {
        let mut world = World::new(seed, 10);
        // Far enough apart that one has recovered before the other is lost.
        for step in 0..12_000 {
            world.step(step % 3000 < 500);
            match (step, seed % 2) {
                (300, 0) | (6300, 1) => world.restart_source(),
                (300, 1) | (6300, 0) => world.restart_destination(),
                _ => {}
            }
        }
        world.drain();
        world.check(seed);
    }
}

#[test]
fn a_slow_consumer_stops_the_publisher_and_nothing_else() {
    let mut world = World::new(1, 0);
    let mut refused_room = false;
    for _ in 0..300 {
        world.now += 1;
        world.arrive();
        let now = at(world.now);
        if world.sender.room_bytes() > 32 << 10 {
            let (lengths, payload) = messages(world.published + 1, 20);
            world
                .sender
                .handle_publish(PRODUCER, world.published + 1, 20, lengths, payload)
                .unwrap();
            world.published += 20;
        } else {
            refused_room = true;
        }
        while let Some(transmit) = world.sender.poll_transmit(now, |_| true) {
            match transmit.body {
                TransmitBody::Sync(sync) => world.send(Packet::Sync(sync, transmit.flags)),
                TransmitBody::Record(record) => {
                    world.send(Packet::Record(record.to_bytes(), transmit.flags));
                }
            }
        }
        if let Some(ack) = world.receiver.poll_ack(now, &mut world.budget) {
            world.send(Packet::Ack(ack));
        }
    }
    assert!(refused_room, "the outbox filled up");
    let held = world.receiver.buffered_bytes();
    assert!(held >= limits().window_initial_bytes / 2 && held < limits().window_bytes, "{held}");
    world.drain();
    world.check(1);
}

#[test]
fn a_closed_stream_ends_where_it_was_closed() {
    let mut world = World::new(5, 20);
    for _ in 0..50 {
        world.step(true);
    }
    world.sender.handle_close();
    let (lengths, payload) = messages(1, 1);
    assert_eq!(
        world.sender.handle_publish(PRODUCER, world.published + 1, 1, lengths, payload),
        Err(PublishError::Closed)
    );
    for _ in 0..60_000 {
        world.step(false);
        if world.sender.is_finished() && world.receiver.is_finished() {
            break;
        }
    }
    assert!(world.sender.is_finished() && world.receiver.is_finished());
    assert!(world.receiver.is_exhausted(CONSUMER));
    world.check(5);
}

#[test]
fn ranges_are_trimmed_and_gaps_refused() {
    let mut sender = sender(1, true);
    let publish = |sender: &mut StreamSender, first: u64, count: u64| {
        let (lengths, payload) = messages(first, count);
        sender
            .handle_publish(PRODUCER, first, count as u32, lengths, payload)
            .map(|outcome| outcome.duplicates)
    };
    assert_eq!(publish(&mut sender, 1, 10), Ok(0));
    assert_eq!(publish(&mut sender, 5, 10), Ok(6));
    assert_eq!(publish(&mut sender, 1, 14), Ok(14));
    assert_eq!(sender.end(), StreamOffset(14));
    let gap = PublishError::SequenceGap { expected_seq: 15, got_seq: 16 };
    assert_eq!(publish(&mut sender, 16, 1), Err(gap));
    assert_eq!(sender.end(), StreamOffset(14));
}

#[test]
fn small_publishes_share_a_record() {
    let mut world = World::new(9, 0);
    for seq in 1..=100 {
        let (lengths, payload) = messages(seq, 1);
        world.sender.handle_publish(PRODUCER, seq, 1, lengths, payload).unwrap();
    }
    world.published = 100;
    let mut records = 0;
    for _ in 0..10 {
        world.now += 1;
        world.arrive();
        let now = at(world.now);
        while let Some(transmit) = world.sender.poll_transmit(now, |_| true) {
            match transmit.body {
                TransmitBody::Sync(sync) => world.send(Packet::Sync(sync, transmit.flags)),
                TransmitBody::Record(record) => {
                    records += 1;
                    world.send(Packet::Record(record.to_bytes(), transmit.flags));
                }
            }
        }
        if let Some(ack) = world.receiver.poll_ack(now, &mut world.budget) {
            world.send(Packet::Ack(ack));
        }
    }
    assert_eq!(records, 1);
    world.drain();
    world.check(9);
}

#[test]
fn nobody_else_is_believed() {
    let mut world = World::new(2, 0);
    for _ in 0..20 {
        world.step(true);
    }
    let before = world.sender.acked();
    let lie = StreamAck {
        stream: STREAM,
        fence_epoch: BootEpoch(1),
        receiver_epoch: BootEpoch(1),
        received: StreamOffset(u64::MAX),
        seen: StreamOffset(u64::MAX),
        consumed: StreamOffset(u64::MAX),
        origin: StreamOffset(0),
        credit_bytes: u64::MAX,
        marked_bytes: u64::MAX,
        unknown: false,
        ended: false,
        forgot: false,
        producers: Vec::new(),
        refused: None,
    };
    world.sender.handle_ack(at(world.now), SOURCE, &lie);
    world.sender.handle_ack(at(world.now), DESTINATION, &lie);
    assert_eq!(world.sender.acked(), before);
}

/// Runs a sender and its receivers over a perfect path until nothing is left to say. Every receiver
/// has the consumer [`CONSUMER`], and what it got is appended to `got`.
fn settle(
    now: &mut u64,
    sender: &mut StreamSender,
    receivers: &mut [(NodeId, StreamReceiver, Vec<u64>)],
) {
    for _ in 0..200 {
        *now += 10;
        let time = at(*now);
        sender.handle_timeout(time);
        while let Some(transmit) = sender.poll_transmit(time, |_| true) {
            let to = receivers.iter_mut().find(|(node, ..)| *node == transmit.destination);
            let (_, receiver, _) = to.unwrap();
            match transmit.body {
                TransmitBody::Sync(sync) => receiver.handle_sync(&sync, transmit.flags),
                TransmitBody::Record(record) => {
                    let bytes = record.to_bytes();
                    receiver.handle_record(
                        time,
                        &RecordView::decode(&bytes).unwrap(),
                        transmit.flags,
                    );
                }
            }
        }
        for (node, receiver, got) in receivers.iter_mut() {
            while let Some(record) = receiver.poll_deliver(CONSUMER) {
                let mut start = 0;
                for len in record.message_lengths() {
                    let message = &record.payload[start..start + 8];
                    got.push(u64::from_le_bytes(message.try_into().unwrap()));
                    start += len as usize;
                }
                receiver.handle_commit(time, CONSUMER, record.header.stream_end()).unwrap();
            }
            if let Some(ack) = receiver.poll_ack(time, &mut plenty()) {
                sender.handle_ack(time, *node, &ack);
            }
        }
        while sender.poll_acked().is_some() {}
    }
}

fn publish(sender: &mut StreamSender, first_seq: u64, names: std::ops::Range<u64>) {
    let count = names.end - names.start;
    let (lengths, payload) = messages(names.start, count);
    sender.handle_publish(PRODUCER, first_seq, count as u32, lengths, payload).unwrap();
}

fn attached(epoch: u64, consumers: &[(&str, u64)]) -> StreamReceiver {
    let mut receiver = receiver(epoch, consumers);
    receiver.attach(CONSUMER, ConsumerStart::Resume).unwrap();
    receiver
}

#[test]
fn both_hosts_may_forget_what_is_consumed_already() {
    let mut now = 0;
    let mut first = sender(1, true);
    let mut receivers = [(DESTINATION, attached(1, &[]), Vec::new())];
    settle(&mut now, &mut first, &mut receivers);
    publish(&mut first, 1, 1..501);
    settle(&mut now, &mut first, &mut receivers);
    assert_eq!(receivers[0].2.len(), 500);

    let mut second = sender(2, false);
    let mut receivers = [(DESTINATION, attached(2, &[(CONSUMER, 500)]), Vec::new())];
    settle(&mut now, &mut second, &mut receivers);
    assert!(second.is_ready());
    let (next_seq, _) = second.open_producer(PRODUCER).unwrap();
    publish(&mut second, next_seq, 501..601);
    settle(&mut now, &mut second, &mut receivers);
    assert_eq!(receivers[0].2, (501..601).collect::<Vec<_>>());
    assert_eq!(second.buffered_bytes(), 0);
}

#[test]
fn a_destination_that_forgot_does_not_make_another_drop_what_is_new() {
    const OTHER: NodeId = NodeId::from_bytes([4; 16]);
    let both = |epoch, fresh| {
        let tenant = TenantId::from_bytes([9; 16]);
        let nodes = [DESTINATION, OTHER];
        let mut sender =
            StreamSender::new(tenant, STREAM, BootEpoch(epoch), &nodes, fresh, limits());
        for node in nodes {
            sender.handle_path(node, true);
        }
        sender
    };
    let mut now = 0;
    let mut first = both(1, true);
    let mut receivers =
        [(DESTINATION, attached(1, &[]), Vec::new()), (OTHER, attached(1, &[]), Vec::new())];
    settle(&mut now, &mut first, &mut receivers);
    publish(&mut first, 1, 1..101);
    settle(&mut now, &mut first, &mut receivers);

    // The source and one destination begin a new life, the other goes on.
    let mut second = both(2, false);
    receivers[0] = (DESTINATION, attached(2, &[(CONSUMER, 100)]), Vec::new());
    receivers[1].2.clear();
    settle(&mut now, &mut second, &mut receivers);
    let (next_seq, _) = second.open_producer(PRODUCER).unwrap();
    assert_eq!(next_seq, 101, "the one that remembers is believed");
    publish(&mut second, next_seq, 101..151);
    settle(&mut now, &mut second, &mut receivers);
    for (_, _, got) in &receivers {
        assert_eq!(got, &(101..151).collect::<Vec<_>>());
    }
    second.handle_close();
    settle(&mut now, &mut second, &mut receivers);
    assert!(second.is_finished());
    assert!(receivers.iter().all(|(_, receiver, _)| receiver.is_finished()));
}

#[test]
fn a_source_cannot_fill_a_destination_with_producers() {
    let mut receiver = misbehaviour::agreed();
    let builder = RecordBuilder::new(TenantId::from_bytes([9; 16]), STREAM, BootEpoch(1));
    let mut outcomes = Vec::new();
    for producer in 0..limits().producers_max as u64 + 1 {
        let (lengths, payload) = messages(1, 1);
        let base = StreamOffset(producer);
        let record = builder.record(ProducerId(producer), 1, base, 1, lengths, payload);
        let bytes = record.to_bytes();
        let view = RecordView::decode(&bytes).unwrap();
        outcomes.push(receiver.handle_record(at(0), &view, NONE));
    }
    let last = outcomes.pop();
    assert!(outcomes.iter().all(|&outcome| outcome == RecordOutcome::Delivered));
    assert_eq!(last, Some(RecordOutcome::Refused));
}

#[test]
fn the_last_notice_of_a_loss_is_not_lost_for_having_come_too_early() {
    let mut now = 0;
    let mut sender = sender(1, true);
    let mut receivers = [(DESTINATION, attached(1, &[]), Vec::new())];
    settle(&mut now, &mut sender, &mut receivers);
    publish(&mut sender, 1, 1..2);
    // A relay drops the record, what is sent for it at once, and says so both times.
    for _ in 0..2 {
        assert!(sender.poll_transmit(at(now), |_| true).is_some());
        assert!(sender.poll_transmit(at(now), |_| true).is_none());
        sender.handle_dropped(at(now), DESTINATION);
    }
    assert!(sender.poll_transmit(at(now), |_| true).is_none(), "not in a circle");
    let due = sender.poll_timeout().unwrap();
    assert!(due <= at(now + 50), "long before the timer of a loss without a word");
    sender.handle_timeout(due);
    settle(&mut now, &mut sender, &mut receivers);
    assert_eq!(receivers[0].2, [1]);
}
