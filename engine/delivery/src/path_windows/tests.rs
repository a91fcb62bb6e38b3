//! Real sources and destinations with a bottleneck between them in memory: a queue that marks above
//! a threshold and drops above a bound. A stream is asked for records only if something happened to
//! it or its path's window has woken it, as on a shard. A failure prints the seed.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]

mod egress;
mod tenants;

use bytes::Bytes;
use hawser_wire::{
    BootEpoch, FrameFlags, ProducerId, Record, RecordView, StreamAck, TenantId, TrafficClass,
    put_varint,
};

use super::*;
use crate::seeded::Seeded;
use crate::{
    ConsumerStart, DeliveryLimits, RecordOutcome, StreamReceiver, TransmitBody, WindowBudget,
};

const DESTINATION: NodeId = NodeId::from_bytes([2; 16]);
const KEY: PathKey =
    PathKey { destination: DESTINATION, path: PathId(7), class: TrafficClass::Bulk };
const TENANT: TenantId = TenantId::from_bytes([9; 16]);
const NONE: FrameFlags = FrameFlags(0);
const PRODUCER: ProducerId = ProducerId(1);
const CONSUMER: &str = "app";
const TICK: Duration = Duration::from_micros(100);
const KIB: u64 = 1 << 10;

/// Memory for all.
fn plenty() -> WindowBudget {
    WindowBudget::new(1 << 40)
}

fn stream_key(source: usize, stream: usize, tenant: TenantId) -> StreamKey {
    let mut id = [0; 16];
    (id[0], id[1]) = (source as u8, stream as u8);
    StreamKey { tenant, stream: StreamId::from_bytes(id) }
}

enum Answer {
    Ack(StreamAck),
    Dropped,
}

/// One stream with both its ends.
struct Stream {
    sender: StreamSender,
    receiver: StreamReceiver,
    message_bytes: usize,
    next_seq: u64,
    got_bytes: u64,
    answers: VecDeque<(MonoTime, Answer)>,
    publishing: bool,
    consuming: bool,
}

impl Stream {
    fn new(key: StreamKey, message_bytes: usize, limits: DeliveryLimits) -> Self {
        let StreamKey { tenant, stream } = key;
        let (epoch, nodes) = (BootEpoch(1), [DESTINATION]);
        let mut sender = StreamSender::new(tenant, stream, epoch, &nodes, true, limits);
        sender.handle_path(DESTINATION, true);
        let mut receiver = StreamReceiver::new(tenant, stream, epoch, false, [], limits);
        receiver.attach(CONSUMER, ConsumerStart::Resume).unwrap();
        let answers = VecDeque::new();
        let (publishing, consuming) = (true, true);
        let (next_seq, got_bytes) = (1, 0);
        Self {
            sender,
            receiver,
            message_bytes,
            next_seq,
            got_bytes,
            answers,
            publishing,
            consuming,
        }
    }

    fn publish(&mut self) {
        let mut lengths = Vec::new();
        put_varint(&mut lengths, self.message_bytes as u32);
        let payload = Bytes::from(vec![0; self.message_bytes]);
        let seq = self.next_seq;
        self.sender.handle_publish(PRODUCER, seq, 1, lengths.into(), payload).unwrap();
        self.next_seq += 1;
    }

    fn take(&mut self, now: MonoTime, record: &Record, marked: bool) {
        let bytes = record.to_bytes();
        let view = RecordView::decode(&bytes).unwrap();
        let flags = if marked { FrameFlags::CONGESTION_EXPERIENCED } else { NONE };
        let outcome = self.receiver.handle_record(now, &view, flags);
        assert_ne!(outcome, RecordOutcome::Refused);
        while self.consuming
            && let Some(record) = self.receiver.poll_deliver(CONSUMER)
        {
            self.got_bytes += record.payload.len() as u64;
            let next = record.header.stream_end();
            self.receiver.handle_commit(now, CONSUMER, next).unwrap();
        }
    }
}

/// A node with streams that share one path and its window.
struct Source {
    windows: PathWindows,
    streams: Vec<Stream>,
    touched: BTreeSet<usize>,
    publishing: bool,
}

impl Source {
    fn new(number: usize, message_bytes: &[usize], limits: DeliveryLimits) -> Self {
        let mut windows = PathWindows::new(limits.path_window());
        let stream = |(index, &bytes)| {
            windows.join(KEY);
            Stream::new(stream_key(number, index, TENANT), bytes, limits)
        };
        let streams: Vec<Stream> = message_bytes.iter().enumerate().map(stream).collect();
        let touched = (0..streams.len()).collect();
        Self { windows, streams, touched, publishing: true }
    }

    fn window(&self) -> &PathWindow {
        self.windows.get(KEY).unwrap()
    }

    /// One turn of the shard; what it sends, by stream.
    fn run(&mut self, now: MonoTime, publish: bool) -> Vec<(usize, Record)> {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            while let Some((_, answer)) = stream.answers.pop_front_if(|(at, _)| *at <= now) {
                match answer {
                    Answer::Ack(ack) => stream.sender.handle_ack(now, DESTINATION, &ack),
                    Answer::Dropped => {
                        stream.sender.handle_dropped(now, DESTINATION);
                        self.windows.handle_loss(now, KEY);
                    }
                }
                self.windows.settle(now, KEY, &mut stream.sender);
                self.touched.insert(index);
            }
        }
        while let Some(lost) = self.windows.handle_timeout(now) {
            assert_eq!(lost, KEY);
            for (index, stream) in self.streams.iter_mut().enumerate() {
                stream.sender.handle_path_timeout(now, DESTINATION);
                self.windows.settle(now, KEY, &mut stream.sender);
                self.touched.insert(index);
            }
        }
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if stream.sender.poll_timeout().is_some_and(|at| at <= now) {
                stream.sender.handle_timeout(now);
                self.windows.settle(now, KEY, &mut stream.sender);
                self.touched.insert(index);
            }
            while self.publishing
                && publish
                && stream.publishing
                && stream.sender.is_ready()
                && stream.sender.room_bytes() >= stream.message_bytes as u64
            {
                stream.publish();
                self.touched.insert(index);
            }
        }
        let mut sent = Vec::new();
        loop {
            self.wake();
            let visited = std::mem::take(&mut self.touched);
            if visited.is_empty() {
                return sent;
            }
            for index in visited {
                self.visit(now, index, &mut sent);
            }
        }
    }

    fn wake(&mut self) {
        while let Some(id) = self.windows.poll_woken() {
            let index = self.streams.iter().position(|stream| stream.sender.stream() == id);
            self.touched.insert(index.unwrap());
        }
    }

    fn visit(&mut self, now: MonoTime, index: usize, sent: &mut Vec<(usize, Record)>) {
        let Self { windows, streams, .. } = self;
        let Stream { sender, receiver, .. } = &mut streams[index];
        let who = sender.key();
        while let Some(transmit) =
            sender.poll_transmit(now, |offer| windows.may_send(now, KEY, who, offer.len_bytes))
        {
            match transmit.body {
                TransmitBody::Sync(sync) => receiver.handle_sync(&sync, NONE),
                TransmitBody::Record(record) => {
                    windows.settle(now, KEY, sender);
                    sent.push((index, record));
                }
            }
        }
        windows.end_visit(KEY, who);
    }
}

struct Queued {
    source: usize,
    stream: usize,
    record: Record,
    marked: bool,
}

/// Sources behind one relay.
struct World {
    random: Seeded,
    sources: Vec<Source>,
    now: MonoTime,
    /// Bytes a second.
    rate: u64,
    rtt: Duration,
    mark_above: u64,
    drop_above: u64,
    loss_percent: u64,
    queue: VecDeque<Queued>,
    queue_bytes: u64,
    queue_max: u64,
    budget: u64,
    turns: usize,
    drops: u64,
}

impl World {
    /// Sources, each with streams of such messages.
    fn new(seed: u64, sources: &[&[usize]]) -> Self {
        // What a queue drops it tells; the rest of what is lost here nobody does.
        let gap_after = Duration::from_millis(20);
        let limits = DeliveryLimits { gap_after, ..DeliveryLimits::default() };
        let source = |(number, bytes): (usize, &&[usize])| Source::new(number, bytes, limits);
        Self {
            random: Seeded(seed),
            sources: sources.iter().enumerate().map(source).collect(),
            now: MonoTime::from_nanos(1_000_000),
            rate: 100_000_000,
            rtt: Duration::from_millis(10),
            mark_above: u64::MAX,
            drop_above: u64::MAX,
            loss_percent: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            queue_max: 0,
            budget: 0,
            turns: 0,
            drops: 0,
        }
    }

    /// Runs for so long; what each stream of each source got in that time, in bytes.
    fn run(&mut self, time: Duration) -> Vec<Vec<u64>> {
        let before = self.got();
        (self.queue_max, self.drops) = (0, 0);
        let end = self.now.saturating_add(time);
        while self.now < end {
            self.tick(true);
        }
        let streams = self.got().into_iter().zip(before);
        let gained = |(now, before): (Vec<u64>, Vec<u64>)| -> Vec<u64> {
            now.iter().zip(before).map(|(now, before)| now - before).collect()
        };
        streams.map(gained).collect()
    }

    fn got(&self) -> Vec<Vec<u64>> {
        let of = |source: &Source| source.streams.iter().map(|stream| stream.got_bytes).collect();
        self.sources.iter().map(of).collect()
    }

    fn tick(&mut self, publish: bool) {
        self.now = self.now.saturating_add(TICK);
        let now = self.now;
        // Another one begins each tick, so that none is always the first at the queue.
        self.turns += 1;
        for step in 0..self.sources.len() {
            let source = (step + self.turns) % self.sources.len();
            for (stream, record) in self.sources[source].run(now, publish) {
                self.enqueue(source, stream, record);
            }
        }
        self.budget = (self.budget + self.rate / 10_000).min(self.queue_bytes);
        while let Some(len) = self.queue.front().map(|queued| queued.record.charge_bytes())
            && len <= self.budget
            && let Some(queued) = self.queue.pop_front()
        {
            self.budget -= len;
            self.queue_bytes -= len;
            if self.random.below(100) < self.loss_percent {
                continue;
            }
            let stream = &mut self.sources[queued.source].streams[queued.stream];
            stream.take(now, &queued.record, queued.marked);
        }
        let back = now.saturating_add(self.rtt);
        for stream in self.sources.iter_mut().flat_map(|source| &mut source.streams) {
            if let Some(ack) = stream.receiver.poll_ack(now, &mut plenty()) {
                stream.answers.push_back((back, Answer::Ack(ack)));
            }
        }
        self.queue_max = self.queue_max.max(self.queue_bytes);
    }

    fn enqueue(&mut self, source: usize, stream: usize, record: Record) {
        let len = record.charge_bytes();
        if self.queue_bytes + len > self.drop_above {
            self.drops += 1;
            let back = self.now.saturating_add(self.rtt / 2);
            let answers = &mut self.sources[source].streams[stream].answers;
            let at = answers.partition_point(|(at, _)| *at <= back);
            answers.insert(at, (back, Answer::Dropped));
            return;
        }
        let marked = self.queue_bytes > self.mark_above;
        self.queue_bytes += len;
        self.queue.push_back(Queued { source, stream, record, marked });
    }

    /// Lets everything arrive that was published.
    fn drain(&mut self, seed: u64) {
        let end = self.now.saturating_add(Duration::from_secs(300));
        let is_over = |stream: &Stream| stream.sender.acked() == stream.sender.end();
        while !self.sources.iter().all(|source| source.streams.iter().all(is_over)) {
            assert!(
                self.now < end,
                "a stream stands still, seed {seed}: {:?}",
                self.sources[0].windows
            );
            self.tick(false);
        }
        for source in &self.sources {
            let sum: u64 = source.streams.iter().map(|s| s.got_bytes).sum();
            let all = source.streams.iter().map(|s| (s.next_seq - 1) * s.message_bytes as u64);
            assert_eq!(sum, all.sum::<u64>(), "each byte once, seed {seed}");
            assert_eq!(source.window().in_flight_bytes(), 0, "seed {seed}");
        }
    }
}

fn assert_fair(bytes: &[u64], what: &str) {
    let mean = bytes.iter().sum::<u64>() / bytes.len() as u64;
    let is_fair = bytes.iter().all(|got| got.abs_diff(mean) * 5 <= mean);
    assert!(is_fair, "{what}: mean {mean}, {bytes:?}");
}

#[test]
fn without_marks_credit_is_the_limit_after_a_few_round_trips() {
    let mut world = World::new(0, &[&[60_000]]);
    world.rate = 100_000_000_000;
    let mut round_trips = 0;
    let credit = DeliveryLimits::default().window_bytes;
    let mut started_at = None;
    while world.sources[0].window().in_flight_bytes() < credit - 60_000 {
        world.tick(true);
        let source = &world.sources[0];
        if source.window().in_flight_bytes() > 0 {
            let started_at = *started_at.get_or_insert(world.now);
            round_trips = world.now.saturating_since(started_at).as_millis() / 10;
        }
        assert!(round_trips < 6, "{} bytes", source.window().in_flight_bytes());
    }
    // From then on each round trip carries the credit: the destination takes all at once.
    let got: u64 = world.run(Duration::from_secs(1)).concat().iter().sum();
    assert!(got >= credit * 95, "{got} bytes in a hundred round trips");
}

#[test]
fn marks_at_a_relay_hold_the_window_at_what_the_path_takes() {
    let mut unmarked = World::new(0, &[&[16_000]]);
    unmarked.run(Duration::from_secs(1));
    assert!(unmarked.sources[0].window().window_bytes() > 4_000_000, "the credit fits in");
    let standing = unmarked.queue_max;

    let mut world = World::new(0, &[&[16_000]]);
    world.mark_above = 256 * KIB;
    world.run(Duration::from_secs(2));
    let got: u64 = world.run(Duration::from_secs(3)).concat().iter().sum();
    assert!(got >= world.rate * 3 * 93 / 100, "{got}");
    let window = world.sources[0].window();
    assert!((1..300).contains(&window.marked_permille()), "{}", window.marked_permille());
    // A bandwidth-delay product of 1 MB, and the threshold.
    assert!(window.window_bytes() < 2_000_000, "{}", window.window_bytes());
    assert!(world.queue_max < 1_000_000 && standing > 2_000_000, "{} {standing}", world.queue_max);
    assert_eq!(world.drops, 0);
    world.drain(0);
}

#[test]
fn sources_behind_a_relay_that_marks_are_served_alike_however_many_streams_they_have() {
    for seed in 0..3 {
        let message = 8000 + Seeded(seed).below(30_000) as usize;
        let streams = [message; 3];
        let mut world = World::new(seed, &[&streams[..1], &streams[..2], &streams]);
        world.rate = 40_000_000;
        world.mark_above = 256 * KIB;
        world.run(Duration::from_secs(6));
        let got = world.run(Duration::from_secs(6));
        let by_source: Vec<u64> = got.iter().map(|streams| streams.iter().sum()).collect();
        assert_fair(&by_source, &format!("sources, seed {seed}"));
        for streams in &got {
            assert_fair(streams, &format!("streams, seed {seed}"));
        }
        let total: u64 = by_source.iter().sum();
        assert!(total >= world.rate * 6 * 90 / 100, "seed {seed}: {total}");
        assert_eq!(world.drops, 0, "seed {seed}");
        world.drain(seed);
    }
}

#[test]
fn streams_that_share_a_window_share_it_by_bytes() {
    let messages = [300_000, 20_000, 65_000, 5_000];
    let mut world = World::new(1, &[&messages]);
    world.mark_above = 1 << 20;
    world.rate = 30_000_000;
    world.run(Duration::from_secs(2));
    let got = world.run(Duration::from_secs(6)).concat();
    assert_fair(&got, "streams of messages from 5 to 300 kB");
    world.drain(1);
}

#[test]
fn a_relay_that_only_drops_is_not_flooded_and_nothing_is_lost() {
    let mut world = World::new(3, &[&[16_000], &[16_000, 16_000]]);
    world.rate = 40_000_000;
    world.drop_above = 1 << 20;
    world.run(Duration::from_secs(5));
    let got = world.run(Duration::from_secs(10));
    let by_source: Vec<u64> = got.iter().map(|streams| streams.iter().sum()).collect();
    let total: u64 = by_source.iter().sum();
    assert!(by_source.iter().all(|&bytes| bytes > total / 5), "{by_source:?}");
    let records = total / 16_000;
    assert!(world.drops < records / 20, "{} drops for {records} records", world.drops);
    world.drain(3);
}

#[test]
fn nobody_who_waits_is_forgotten_whatever_is_lost() {
    for seed in 0..6 {
        let mut random = Seeded(seed);
        let mut streams = || -> Vec<usize> {
            let count = 1 + random.below(6);
            (0..count).map(|_| 4096 + random.below(90_000) as usize).collect()
        };
        let (one, other) = (streams(), streams());
        let mut world = World::new(seed, &[&one, &other]);
        world.loss_percent = [0, 1, 5, 20][seed as usize % 4];
        world.rate = 5_000_000 + world.random.below(30_000_000);
        world.mark_above = 64 * KIB;
        world.drop_above = 512 * KIB;
        for _ in 0..4 {
            world.run(Duration::from_millis(200));
            // A silence that is longer than the path's patience.
            let rate = std::mem::replace(&mut world.rate, 0);
            let silence = Duration::from_millis(world.random.below(3000));
            world.run(silence);
            world.rate = rate;
        }
        world.drain(seed);
    }
}

#[test]
fn publishers_get_no_further_ahead_than_they_may_when_the_window_is_the_limit() {
    let mut world = World::new(0, &[&[16_000]]);
    world.mark_above = 32 * KIB;
    world.rate = 10_000_000;
    world.run(Duration::from_secs(3));
    let limits = DeliveryLimits::default();
    for _ in 0..1000 {
        world.tick(true);
        let source = &world.sources[0];
        let (held, window) = (source.streams[0].sender.buffered_bytes(), source.window());
        assert!(held > limits.unsent_bytes - 20_000, "{held} bytes held");
        let sent = window.in_flight_bytes().max(window.window_bytes());
        assert!(held <= limits.unsent_bytes + sent + 200_000, "{held} bytes held");
    }
}

#[test]
fn a_stream_that_leaves_makes_room_and_hands_on_its_turn() {
    let mut source = Source::new(0, &[60_000, 60_000, 60_000], DeliveryLimits::default());
    let now = MonoTime::from_nanos(1_000_000);
    for index in 0..3 {
        source.visit(now, index, &mut Vec::new());
        let stream = &mut source.streams[index];
        let ack = stream.receiver.poll_ack(now, &mut plenty()).unwrap();
        stream.sender.handle_ack(now, DESTINATION, &ack);
    }
    let sent = source.run(now, true);
    let of = |sent: &[(usize, Record)], index| sent.iter().filter(|(i, _)| *i == index).count();
    assert!(of(&sent, 0) > 0 && sent.len() < 10, "the window is full");
    // Nothing is acknowledged; two of them end, one after the other.
    let mut known = sent;
    for gone in [0, 1] {
        source.publishing = false;
        source.windows.leave(KEY, &mut source.streams[gone].sender);
        assert!(source.window().has_room() || of(&known, gone) == 0);
        let mut freed = Vec::new();
        source.wake();
        source.touched.remove(&gone);
        for index in std::mem::take(&mut source.touched) {
            source.visit(now, index, &mut freed);
            source.wake();
        }
        known.extend(freed);
    }
    while source.touched.pop_first().is_some() {
        source.visit(now, 2, &mut known);
        source.wake();
    }
    assert!(of(&known, 2) >= 8, "{} records of the one that stays", of(&known, 2));
    source.windows.leave(KEY, &mut source.streams[2].sender);
    assert_eq!(source.window().in_flight_bytes(), 0);
}

#[test]
fn a_path_that_nobody_uses_is_kept_for_a_minute() {
    let mut windows = PathWindows::new(PathWindowLimits::default());
    let mut stream = Stream::new(stream_key(0, 0, TENANT), 10_000, DeliveryLimits::default());
    let at = |seconds: u64| MonoTime::from_nanos(seconds * 1_000_000_000);
    windows.join(KEY);
    windows.leave(KEY, &mut stream.sender);
    assert_eq!(windows.handle_timeout(at(10)), None);
    windows.join(KEY);
    assert_eq!(windows.handle_timeout(at(100)), None);
    assert!(windows.get(KEY).is_some(), "it is used again");
    windows.leave(KEY, &mut stream.sender);
    assert_eq!(windows.handle_timeout(at(101)), None);
    assert_eq!(windows.handle_timeout(at(160)), None);
    assert!(windows.get(KEY).is_some());
    assert_eq!(windows.handle_timeout(at(161)), None);
    assert!(windows.get(KEY).is_none());
    // However many paths come and go within the minute.
    for path in 0..2000 {
        let key = PathKey { path: PathId(path), ..KEY };
        windows.join(key);
        windows.leave(key, &mut stream.sender);
        assert_eq!(windows.handle_timeout(at(170)), None);
    }
    assert_eq!(windows.paths.len(), UNUSED_MAX);
}
