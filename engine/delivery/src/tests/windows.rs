//! What a destination grants: consumers that confirm seldom, streams that rest, and little memory.

use super::*;

const KIB: u64 = 1 << 10;
const MESSAGE_BYTES: usize = 30_000;

/// A stream over a path that takes 10 ms each way.
struct Wire {
    sender: StreamSender,
    receiver: StreamReceiver,
    published: u64,
    /// Confirmed are so many bytes at once.
    confirm_bytes: u64,
    unconfirmed_bytes: u64,
    got_bytes: u64,
    most_held_bytes: u64,
    /// The consumer takes what there is.
    reads: bool,
}

impl Wire {
    fn new(confirm_bytes: u64) -> Self {
        let mut wire = Self::unread(confirm_bytes);
        wire.receiver.attach(CONSUMER, ConsumerStart::Resume).unwrap();
        wire
    }

    /// Nobody has subscribed yet.
    fn unread(confirm_bytes: u64) -> Self {
        let limits = DeliveryLimits::default();
        let mut sender =
            StreamSender::new(TENANT, STREAM, BootEpoch(1), &[DESTINATION], true, limits);
        sender.handle_path(DESTINATION, true);
        let receiver =
            StreamReceiver::new(TENANT, STREAM, BootEpoch(1), false, std::iter::empty(), limits);
        Self {
            sender,
            receiver,
            published: 0,
            confirm_bytes,
            unconfirmed_bytes: 0,
            got_bytes: 0,
            most_held_bytes: 0,
            reads: true,
        }
    }

    /// One round trip. As a shard does, the destination acknowledges before it hands out.
    fn trip(&mut self, now: u64, budget: &mut WindowBudget) {
        let sent = at(now);
        while self.sender.is_ready() && self.sender.room_bytes() > 1 << 20 {
            self.published += 1;
            let mut lengths = Vec::new();
            put_varint(&mut lengths, MESSAGE_BYTES as u32);
            let payload = vec![0; MESSAGE_BYTES].into();
            self.sender
                .handle_publish(PRODUCER, self.published, 1, lengths.into(), payload)
                .unwrap();
        }
        self.sender.handle_timeout(sent);
        let came = at(now + 10);
        while let Some(transmit) = self.sender.poll_transmit(sent, |_| true) {
            match transmit.body {
                TransmitBody::Sync(sync) => self.receiver.handle_sync(&sync, transmit.flags),
                TransmitBody::Record(record) => {
                    let bytes = record.to_bytes();
                    let view = RecordView::decode(&bytes).unwrap();
                    self.receiver.handle_record(came, &view, transmit.flags);
                }
            }
        }
        let mut acks = Vec::from_iter(self.receiver.poll_ack(came, budget));
        while self.reads
            && let Some(record) = self.receiver.poll_deliver(CONSUMER)
        {
            self.got_bytes += record.charge_bytes();
            self.unconfirmed_bytes += record.charge_bytes();
            if self.unconfirmed_bytes >= self.confirm_bytes {
                self.unconfirmed_bytes = 0;
                self.receiver.handle_commit(came, CONSUMER, record.header.stream_end()).unwrap();
            }
        }
        self.most_held_bytes = self.most_held_bytes.max(self.receiver.buffered_bytes());
        if self.receiver.poll_timeout().is_some_and(|due| due <= at(now + 11)) {
            acks.extend(self.receiver.poll_ack(at(now + 11), budget));
        }
        for ack in acks {
            self.sender.handle_ack(at(now + 20), DESTINATION, &ack);
            assert_eq!(self.sender.poll_refused(), None);
        }
        while self.sender.poll_acked().is_some() {}
    }
}

#[test]
fn a_consumer_may_hold_a_whole_window_before_it_confirms_any_of_it() {
    let window = DeliveryLimits::default().window_bytes;
    let confirms = [256 * KIB, 1024 * KIB, window];
    for (confirm_bytes, memory_bytes) in
        confirms.into_iter().flat_map(|bytes| [1 << 40, 1 << 20, 0].map(|memory| (bytes, memory)))
    {
        let mut budget = WindowBudget::new(memory_bytes);
        let mut wire = Wire::new(confirm_bytes);
        // A second of waiting for a question about credit would show.
        for trip in 0..200 {
            wire.trip(trip * 20, &mut budget);
        }
        let got = wire.got_bytes;
        let what = format!("{got} bytes, confirmed by {confirm_bytes}, of {memory_bytes}");
        assert!(got >= 190 * 64 * KIB, "{what}");
        let bound = window + Record::charge_of(&[0; 1024], &[0; RECORD_BYTES_TARGET]);
        assert!(wire.most_held_bytes <= bound, "{} held, {what}", wire.most_held_bytes);
    }
}

#[test]
fn a_whole_window_waits_for_who_comes_first_if_there_is_room() {
    let window = DeliveryLimits::default().window_bytes;
    for (memory_bytes, expected) in [(1 << 40, window), (384 * KIB, 256 * KIB), (0, 64 * KIB)] {
        let mut budget = WindowBudget::new(memory_bytes);
        let mut wire = Wire::unread(0);
        for trip in 0..100 {
            wire.trip(trip * 20, &mut budget);
        }
        let held = wire.receiver.buffered_bytes();
        let record = Record::charge_of(&[0; 1024], &[0; RECORD_BYTES_TARGET]);
        assert!(held.abs_diff(expected) <= record, "{held} of {memory_bytes}");
    }
}

#[test]
fn a_whole_window_waits_for_who_has_read_before_and_is_away() {
    let window = DeliveryLimits::default().window_bytes;
    let record = Record::charge_of(&[0; 1024], &[0; RECORD_BYTES_TARGET]);
    for (memory_bytes, expected) in [(1 << 40, window), (384 * KIB, 256 * KIB), (0, 64 * KIB)] {
        let mut budget = WindowBudget::new(memory_bytes);
        let mut wire = Wire::new(0);
        wire.reads = false;
        let mut run = |wire: &mut Wire, trips: std::ops::Range<u64>| {
            for trip in trips {
                wire.trip(trip * 20, &mut budget);
            }
            wire.receiver.buffered_bytes()
        };
        // It is there and takes nothing: the source waits.
        let slow = run(&mut wire, 0..50);
        assert!(slow <= (256 * KIB).min(expected) + record, "{slow} of {memory_bytes}");
        wire.receiver.detach(CONSUMER);
        let away = run(&mut wire, 50..150);
        assert!(away.abs_diff(expected) <= record, "{away} of {memory_bytes}");
        // One of two is no better than one that is there.
        let mut two = Wire::new(0);
        two.receiver.attach("away", ConsumerStart::Resume).unwrap();
        two.receiver.detach("away");
        assert!(run(&mut two, 150..250) < 320 * KIB);
    }
}

#[test]
fn one_that_confirms_without_a_subscription_is_away() {
    let mut budget = plenty();
    let mut wire = Wire::unread(0);
    wire.receiver.handle_commit(at(0), "outside", StreamOffset(0)).unwrap();
    wire.reads = false;
    for trip in 0..100 {
        wire.trip(trip * 20, &mut budget);
    }
    assert!(wire.receiver.buffered_bytes() > 1 << 20, "{}", wire.receiver.buffered_bytes());
}

#[test]
fn one_that_was_handed_nothing_holds_little() {
    let mut budget = plenty();
    let mut wire = Wire::new(0);
    wire.receiver.attach("away", ConsumerStart::Resume).unwrap();
    for trip in 0..100 {
        wire.trip(trip * 20, &mut budget);
    }
    assert!(wire.receiver.buffered_bytes() < 320 * KIB, "{}", wire.receiver.buffered_bytes());
}

#[test]
fn what_is_handed_out_again_is_not_here_twice() {
    let mut budget = WindowBudget::new(0);
    let mut wire = Wire::new(u64::MAX);
    for trip in 0..20 {
        wire.trip(trip * 20, &mut budget);
    }
    let held = wire.receiver.buffered_bytes();
    assert!(held > 1024 * KIB, "{held}");
    // It begins anew, behind nothing: all of it is ahead of it.
    wire.receiver.attach(CONSUMER, ConsumerStart::Resume).unwrap();
    wire.receiver.handle_path();
    let before = wire.receiver.credit_left();
    wire.receiver.poll_ack(at(500), &mut budget).unwrap();
    assert!(wire.receiver.credit_left() <= before.max(64 * KIB));
    // Nothing is granted for what it takes again while so much is ahead of it.
    let mut run = |wire: &mut Wire, trips: std::ops::Range<u64>| {
        for trip in trips {
            wire.trip(trip * 20, &mut budget);
        }
        wire.receiver.buffered_bytes()
    };
    wire.reads = false;
    let spent = run(&mut wire, 30..50);
    let (mut again, mut end) = (0, StreamOffset(0));
    while again < spent / 2 {
        let record = wire.receiver.poll_deliver(CONSUMER).unwrap();
        again += record.charge_bytes();
        end = record.header.stream_end();
    }
    wire.receiver.handle_commit(at(1_000), CONSUMER, end).unwrap();
    let left = wire.receiver.buffered_bytes();
    assert_eq!(run(&mut wire, 51..71), left);
}

#[test]
fn streams_that_rest_leave_the_memory_to_those_that_do_not() {
    let window = DeliveryLimits::default().window_bytes;
    let mut budget = WindowBudget::new(4 * window);
    let mut fast: Vec<Wire> = (0..6).map(|_| Wire::new(0)).collect();
    for trip in 0..40 {
        for wire in &mut fast {
            wire.trip(trip * 20, &mut budget);
        }
    }
    assert!(budget.used_bytes() > 3 * window, "{} of it is used", budget.used_bytes());
    for wire in &mut fast {
        wire.receiver.poll_ack(at(900), &mut budget);
    }
    let asked = fast.iter().map(|wire| wire.receiver.poll_timeout().unwrap()).max().unwrap();
    assert!(asked > at(10_700) && asked < at(10_900), "{asked:?}");
    for wire in &mut fast {
        assert_eq!(wire.receiver.poll_ack(asked, &mut budget), None);
        assert_eq!(wire.receiver.poll_timeout(), None, "said once");
    }
    let resting = budget.used_bytes();
    assert_eq!(resting, 6 * 64 * KIB);

    let mut late = Wire::new(0);
    for trip in 600..640 {
        late.trip(trip * 20, &mut budget);
    }
    assert!(late.receiver.credit_left() >= window - 64 * KIB, "{}", late.receiver.credit_left());
    // A question about credit does not wake one, a record does.
    fast[0].receiver.handle_path();
    fast[0].receiver.poll_ack(at(16_000), &mut budget).unwrap();
    late.receiver.leave_budget(&mut budget);
    assert_eq!(budget.used_bytes(), resting);
    fast[0].trip(16_000, &mut budget);
    assert!(budget.used_bytes() > resting, "it is back");
}

#[test]
fn what_is_held_and_what_may_be_sent_count_though_there_is_no_more_to_be_had() {
    const OTHER: TenantId = TenantId::from_bytes([5; 16]);
    for trips in [3, 100] {
        let mut budget = WindowBudget::new(16 << 20);
        let mut wire = Wire::unread(0);
        for trip in 0..trips {
            wire.trip(trip * 20, &mut budget);
        }
        let counted = wire.receiver.buffered_bytes() + wire.receiver.credit_left();
        assert!(counted > 256 * KIB, "{counted}");
        // Others take all there is.
        let mut others = 0;
        budget.allot(OTHER, &mut others, 0, 16 << 20);
        wire.receiver.handle_path();
        wire.receiver.poll_ack(at(trips * 20), &mut budget).unwrap();
        // The last record may end above what was granted.
        let used = budget.used_bytes() + RECORD_BYTES_TARGET as u64 - others;
        assert!(used >= counted, "{used} of {counted}");
    }
}

#[test]
fn one_that_never_carried_anything_counts_with_the_least_window() {
    let mut budget = plenty();
    let mut receiver = attached(1, &[]);
    let (fence_epoch, base) = (BootEpoch(1), Some(StreamOffset(0)));
    let sync = StreamSync { stream: STREAM, fence_epoch, base, end: None, producers: Vec::new() };
    receiver.handle_sync(&sync, NONE);
    let ack = receiver.poll_ack(at(0), &mut budget).unwrap();
    assert_eq!((ack.credit_bytes, budget.used_bytes()), (limits().window_bytes, 64 * KIB));
    assert_eq!(receiver.poll_timeout(), None);
}
