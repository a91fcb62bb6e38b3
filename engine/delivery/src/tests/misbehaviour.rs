//! An end of a stream that breaks its rules: it is refused by name, what was acknowledged stays, memory
//! is bounded, and a new life of it has another chance.

use hawser_wire::StreamRefusal;

use super::*;
use crate::{RefusedBy, StreamViolation};

/// A destination that has agreed with a source of life 1, and has granted its window.
pub(super) fn agreed() -> StreamReceiver {
    let mut receiver = attached(1, &[]);
    introduce(&mut receiver, 1, 0);
    receiver
}

/// The source says that it lives as `epoch` and goes on at `base`.
fn introduce(receiver: &mut StreamReceiver, epoch: u64, base: u64) -> StreamAck {
    let (fence_epoch, base) = (BootEpoch(epoch), Some(StreamOffset(base)));
    let sync = StreamSync { stream: STREAM, fence_epoch, base, end: None, producers: Vec::new() };
    receiver.handle_sync(&sync, NONE);
    receiver.poll_ack(at(0), &mut plenty()).unwrap()
}

/// A record of one message of so many bytes.
fn record(epoch: u64, base: u64, bytes: usize) -> Record {
    let builder = RecordBuilder::new(TenantId::from_bytes([9; 16]), STREAM, BootEpoch(epoch));
    let mut lengths = Vec::new();
    put_varint(&mut lengths, bytes as u32);
    let payload = vec![0; bytes].into();
    builder.record(PRODUCER, base + 1, StreamOffset(base), 1, lengths.into(), payload)
}

fn give(receiver: &mut StreamReceiver, record: &Record) -> RecordOutcome {
    let bytes = record.to_bytes();
    receiver.handle_record(at(0), &RecordView::decode(&bytes).unwrap(), NONE)
}

/// The source is refused for `reason`, with all that it sends from now on in its life 1; what was
/// acknowledged is there, and its next life is heard.
fn assert_refused(receiver: &mut StreamReceiver, reason: StreamRefusal) -> StreamViolation {
    let violation = receiver.poll_violation().expect("it is refused");
    assert_eq!(violation.refusal(), reason);
    let ack = receiver.poll_ack(at(1), &mut plenty()).expect("the source is told");
    assert_eq!((ack.refused, ack.seen), (Some(reason), ack.received), "{ack:?}");
    let frontier = receiver.frontier();
    for base in [frontier.0, frontier.0 + 1, u64::MAX - 9] {
        assert_eq!(give(receiver, &record(1, base, 100)), RecordOutcome::Refused);
    }
    assert_eq!(receiver.poll_violation(), None, "said once");
    assert_eq!(introduce(receiver, 1, 0).refused, Some(reason), "a repeated sync changes nothing");
    assert_eq!(receiver.frontier(), frontier);
    let mut next = StreamOffset(0);
    while let Some(record) = receiver.poll_deliver(CONSUMER) {
        next = record.header.stream_end();
    }
    assert_eq!(next, frontier, "consumers get what was acknowledged");
    receiver.handle_commit(at(2), CONSUMER, next).unwrap();
    assert_eq!(receiver.buffered_bytes(), 0, "nothing else is held");
    assert_eq!(introduce(receiver, 2, frontier.0).refused, None);
    assert_eq!(give(receiver, &record(2, frontier.0, 100)), RecordOutcome::Delivered);
    violation
}

#[test]
fn a_source_that_sends_more_than_was_granted() {
    let mut receiver = agreed();
    let window = limits().window_bytes;
    let mut base = 0;
    while give(&mut receiver, &record(1, base, 30_000)) == RecordOutcome::Delivered {
        base += 1;
        assert!(receiver.buffered_bytes() < window + 31_000, "what was granted, and one record");
    }
    let begins = base * record(1, 0, 30_000).charge_bytes();
    assert!(begins >= window && begins < window + 31_000, "{begins} bytes were taken");
    let violation = assert_refused(&mut receiver, StreamRefusal::CreditOverrun);
    assert_eq!(violation, StreamViolation::CreditOverrun { begins, granted: window });
}

#[test]
fn a_source_that_leaves_out_more_than_its_credit_allows() {
    // A byte a message, and a record for 1,024 of them.
    let window = limits().window_bytes;
    let most = window * 1024 / (1024 + 256);
    for (base, is_possible) in [(1, true), (most - 1024, true), (most + 1, false), (1 << 60, false)]
    {
        let mut receiver = agreed();
        let outcome = give(&mut receiver, &record(1, base, 100));
        if is_possible {
            assert_eq!((outcome, receiver.poll_violation()), (RecordOutcome::Early, None));
        } else {
            assert_refused(&mut receiver, StreamRefusal::SequenceJump);
        }
    }
}

#[test]
fn a_source_that_floods_the_reorder_buffer() {
    let window = limits().window_bytes;
    // Each of them alone is within what was granted, and the first never comes.
    let mut receiver = agreed();
    let mut base = 1;
    while give(&mut receiver, &record(1, base, 30_000)) == RecordOutcome::Early {
        base += 1;
        assert!(receiver.buffered_bytes() < window + 31_000, "what was granted, and one record");
    }
    assert!((5..=6).contains(&base), "{base} records of 30,000 bytes");
    assert_refused(&mut receiver, StreamRefusal::ReorderOverrun);
    // From behind, so that each comes before those that are here.
    let mut receiver = agreed();
    let mut base = 100;
    while give(&mut receiver, &record(1, base, 30_000)) == RecordOutcome::Early {
        base -= 1;
        assert!(receiver.buffered_bytes() < window + 31_000, "what was granted, and one record");
    }
    assert_refused(&mut receiver, StreamRefusal::ReorderOverrun);
}

#[test]
fn a_source_that_goes_on_behind_its_end() {
    let mut receiver = agreed();
    let (fence_epoch, base) = (BootEpoch(1), Some(StreamOffset(0)));
    let end = Some(StreamOffset(2));
    let sync = StreamSync { stream: STREAM, fence_epoch, base, end, producers: Vec::new() };
    receiver.handle_sync(&sync, NONE);
    assert_eq!(give(&mut receiver, &record(1, 1, 100)), RecordOutcome::Early);
    assert_eq!(give(&mut receiver, &record(1, 2, 100)), RecordOutcome::Refused);
    let violation = receiver.poll_violation().unwrap();
    assert_eq!(violation.refusal(), StreamRefusal::BeyondEnd);
}

#[test]
fn what_an_earlier_life_of_a_destination_had_granted_is_no_fault_of_the_source() {
    let mut receiver = attached(2, &[]);
    introduce(&mut receiver, 1, 0);
    let window = limits().window_bytes;
    for base in 1..20 {
        give(&mut receiver, &record(1, base, 30_000));
        assert_eq!(receiver.poll_violation(), None);
        assert!(receiver.buffered_bytes() < window + 31_000, "what was granted, and one record");
    }
    // The source's next life knows this one of the destination alone.
    introduce(&mut receiver, 2, 0);
    for base in 1..20 {
        give(&mut receiver, &record(2, base, 30_000));
    }
    assert_refused_in_life_2(&mut receiver);
}

fn assert_refused_in_life_2(receiver: &mut StreamReceiver) {
    let violation = receiver.poll_violation().unwrap();
    assert_eq!(violation.refusal(), StreamRefusal::ReorderOverrun);
    assert_eq!(receiver.buffered_bytes(), 0);
}

#[test]
fn credit_stays_where_it_is_while_something_waits_before_its_turn() {
    let mut receiver = agreed();
    let granted = |receiver: &mut StreamReceiver| {
        receiver.poll_ack(at(1), &mut plenty()).unwrap().credit_bytes
    };
    give(&mut receiver, &record(1, 1, 30_000));
    assert_eq!(granted(&mut receiver), limits().window_bytes, "it has its place already");
    give(&mut receiver, &record(1, 0, 30_000));
    assert_eq!(granted(&mut receiver), limits().window_bytes, "nothing is consumed");
    assert!(receiver.poll_deliver(CONSUMER).is_some());
    receiver.handle_commit(at(1), CONSUMER, StreamOffset(1)).unwrap();
    let one = record(1, 0, 30_000).charge_bytes();
    assert_eq!(
        receiver.poll_ack(at(100), &mut plenty()).unwrap().credit_bytes,
        limits().window_bytes + one
    );
}

/// A source that has sent two of four records, and what its destination has said until then.
fn sent() -> (StreamSender, StreamReceiver, StreamAck) {
    let mut sender = sender(1, true);
    let mut receiver = attached(1, &[]);
    let Some(TransmitBody::Sync(sync)) = sender.poll_transmit(at(0), |_| true).map(|t| t.body)
    else {
        panic!("it begins with a sync");
    };
    receiver.handle_sync(&sync, NONE);
    let ack = receiver.poll_ack(at(0), &mut plenty()).unwrap();
    sender.handle_ack(at(0), DESTINATION, &ack);
    for seq in 1..5 {
        publish(&mut sender, seq, seq..seq + 1);
        if seq < 3 {
            assert!(sender.poll_transmit(at(1), |_| true).is_some());
        }
    }
    (sender, receiver, ack)
}

/// The destination is refused in its life 1 for `reason`: nothing but a question goes there, now and
/// then. Nothing is lost: in its next life it gets all of it.
fn assert_refused_at(mut sender: StreamSender, reason: StreamRefusal) {
    let (node, by) = sender.poll_refused().expect("it is refused");
    assert_eq!((node, by.refusal()), (DESTINATION, reason));
    assert_eq!(sender.refused(), Some((node, by)));
    let mut questions = 0;
    for now in (0..10_000).step_by(10) {
        sender.handle_timeout(at(now));
        while let Some(transmit) = sender.poll_transmit(at(now), |_| true) {
            assert!(matches!(transmit.body, TransmitBody::Sync(_)), "{:?}", transmit.body);
            questions += 1;
        }
    }
    assert!((4..=5).contains(&questions), "{questions} in ten seconds");
    assert_eq!(sender.poll_refused(), None, "said once");
    let mut receivers = [(DESTINATION, attached(2, &[]), Vec::new())];
    let mut now = 10_000;
    for _ in 0..4 {
        settle(&mut now, &mut sender, &mut receivers);
        now += 2000;
    }
    assert_eq!(sender.refused(), None);
    assert_eq!(receivers[0].2, [1, 2, 3, 4]);
}

#[test]
fn a_destination_that_acknowledges_what_was_not_sent() {
    for (received, seen) in [(3, 3), (2, 3), (u64::MAX, u64::MAX)] {
        let (mut sender, _, ack) = sent();
        let (received, seen) = (StreamOffset(received), StreamOffset(seen));
        let lie = StreamAck { received, seen, consumed: received, ..ack };
        sender.handle_ack(at(2), DESTINATION, &lie);
        assert_eq!(sender.acked(), StreamOffset(0), "it says nothing about what it has");
        assert_refused_at(sender, StreamRefusal::AckAhead);
    }
}

#[test]
fn a_destination_that_takes_a_grant_back() {
    let (mut sender, _, ack) = sent();
    let first = StreamOffset(1);
    let fewer = StreamAck { credit_bytes: ack.credit_bytes - 1, ..ack.clone() };
    // Late or early, but older: it means nothing.
    sender.handle_ack(at(2), DESTINATION, &fewer);
    // Of what came early it may be that a destination of an earlier release takes it out.
    let gap = StreamAck { received: first, seen: StreamOffset(2), ..fewer.clone() };
    sender.handle_ack(at(3), DESTINATION, &gap);
    assert_eq!((sender.refused(), sender.acked()), (None, first));
    // Nor did it lower what may be sent.
    assert!(sender.poll_transmit(at(3), |_| true).is_some());
    let news = StreamAck { received: StreamOffset(2), seen: StreamOffset(2), ..fewer };
    sender.handle_ack(at(4), DESTINATION, &news);
    let (from, to) = (ack.credit_bytes, ack.credit_bytes - 1);
    let by = RefusedBy::Source(StreamViolation::CreditReturned { from, to });
    assert_eq!(sender.refused(), Some((DESTINATION, by)));
    assert_refused_at(sender, StreamRefusal::CreditReturned);
}

#[test]
fn a_source_that_is_refused_stops_and_keeps_what_it_has() {
    let (mut sender, _, ack) = sent();
    let refused = Some(StreamRefusal::CreditOverrun);
    let first = StreamOffset(1);
    sender.handle_ack(
        at(2),
        DESTINATION,
        &StreamAck { received: first, seen: first, refused, ..ack.clone() },
    );
    assert_eq!(sender.acked(), first, "what it has, it has");
    // One from before the refusal that comes behind it.
    let late = StreamAck { received: StreamOffset(2), seen: StreamOffset(2), ..ack };
    sender.handle_ack(at(3), DESTINATION, &late);
    assert_eq!(sender.acked(), StreamOffset(2));
    let by = RefusedBy::Destination(StreamRefusal::CreditOverrun);
    assert_eq!(sender.refused(), Some((DESTINATION, by)));
    assert_refused_at(sender, StreamRefusal::CreditOverrun);
}

#[test]
fn a_refusal_ends_with_what_the_destination_knew_of_the_stream() {
    let (mut sender, _, ack) = sent();
    let refused = Some(StreamRefusal::CreditOverrun);
    sender.handle_ack(at(2), DESTINATION, &StreamAck { refused, ..ack.clone() });
    sender.handle_ack(at(3), DESTINATION, &StreamAck { unknown: true, ..ack });
    assert!(sender.refused().is_some(), "it has not agreed to anything yet");
    let mut receivers = [(DESTINATION, attached(1, &[]), Vec::new())];
    let mut now = 4;
    for _ in 0..4 {
        settle(&mut now, &mut sender, &mut receivers);
        now += 2000;
    }
    assert_eq!(sender.refused(), None);
    assert_eq!(receivers[0].2, [1, 2, 3, 4]);
}

#[test]
fn one_destination_that_is_refused_holds_up_no_other() {
    let other = NodeId::from_bytes([4; 16]);
    let tenant = TenantId::from_bytes([9; 16]);
    let nodes = [DESTINATION, other];
    let mut sender = StreamSender::new(tenant, STREAM, BootEpoch(1), &nodes, true, limits());
    for node in nodes {
        sender.handle_path(node, true);
    }
    let attached = || attached(1, &[]);
    let mut receivers = nodes.map(|node| (node, attached(), Vec::new()));
    let mut now = 0;
    settle(&mut now, &mut sender, &mut receivers);
    let ack = introduce(&mut receivers[0].1, 1, 0);
    let far = StreamOffset(9);
    sender.handle_ack(at(now), DESTINATION, &StreamAck { received: far, seen: far, ..ack });
    publish(&mut sender, 1, 1..4);
    settle(&mut now, &mut sender, &mut receivers);
    assert_eq!(receivers[1].2, [1, 2, 3]);
    assert_eq!(receivers[0].2, Vec::<u64>::new());
}

/// A source in its second life asks where the stream goes on. One whose answer leaves no room behind it is
/// refused, and the stream goes on where the others have it, once that one says something else.
#[test]
fn a_destination_that_answers_with_the_end_of_numbers() {
    let (mut first, mut receiver, ack) = sent();
    let mut now = 5;
    while let Some(transmit) = first.poll_transmit(at(now), |_| true) {
        if let TransmitBody::Record(record) = transmit.body {
            give(&mut receiver, &record);
        }
    }
    let fence_epoch = BootEpoch(2);
    let mut second = sender(2, false);
    for end in [u64::MAX, u64::MAX - 1, (u64::MAX >> 1) + 1] {
        let end = StreamOffset(end);
        for (received, seen) in [(end, end), (StreamOffset(2), end)] {
            let lie = StreamAck { fence_epoch, received, seen, consumed: received, ..ack.clone() };
            second.handle_ack(at(now), DESTINATION, &lie);
        }
    }
    let (node, by) = second.poll_refused().expect("it is refused");
    assert_eq!((node, by.refusal()), (DESTINATION, StreamRefusal::AckAhead));
    assert!(!second.is_ready(), "it knows where the stream goes on from a lie");
    let mut receivers = [(DESTINATION, attached(3, &[("app", 2)]), Vec::new())];
    for _ in 0..4 {
        settle(&mut now, &mut second, &mut receivers);
        now += 2000;
    }
    assert_eq!(second.refused(), None);
    publish(&mut second, 1, 1..3);
    settle(&mut now, &mut second, &mut receivers);
    assert_eq!((second.acked(), receivers[0].2.len()), (StreamOffset(4), 2));
}
