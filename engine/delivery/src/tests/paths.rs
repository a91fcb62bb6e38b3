//! A source that takes another path while it has something under way.

use hawser_wire::{Record, RecordView};

use super::{
    CONSUMER, DESTINATION, NONE, StreamReceiver, StreamSender, TransmitBody, at, attached, plenty,
    publish, sender, settle,
};

/// What the source sends now: records, and how often it asks.
fn sent(sender: &mut StreamSender, now: u64) -> (Vec<Record>, usize) {
    let (mut records, mut syncs) = (Vec::new(), 0);
    while let Some(transmit) = sender.poll_transmit(at(now), |_| true) {
        match transmit.body {
            TransmitBody::Record(record) => records.push(record),
            TransmitBody::Sync(_) => syncs += 1,
        }
    }
    (records, syncs)
}

fn arrive(now: u64, record: &Record, receiver: &mut StreamReceiver, sender: &mut StreamSender) {
    let bytes = record.to_bytes();
    receiver.handle_record(at(now), &RecordView::decode(&bytes).unwrap(), NONE);
    if let Some(ack) = receiver.poll_ack(at(now), &mut plenty()) {
        sender.handle_ack(at(now), DESTINATION, &ack);
    }
}

/// A source and a destination that have agreed, one record under way on a path that is left then, and
/// another one on the next path.
fn on_two_paths() -> (u64, StreamSender, StreamReceiver, [Record; 2]) {
    let mut now = 0;
    let mut sender = sender(1, true);
    let mut receivers = [(DESTINATION, attached(1, &[]), Vec::new())];
    settle(&mut now, &mut sender, &mut receivers);
    assert!(sender.is_settled(DESTINATION));
    publish(&mut sender, 1, 1..2);
    let (mut old, _) = sent(&mut sender, now);
    assert!(!sender.is_settled(DESTINATION));
    sender.handle_path_left(at(now), DESTINATION);
    publish(&mut sender, 2, 2..3);
    let (mut new, syncs) = sent(&mut sender, now);
    assert_eq!((old.len(), new.len(), syncs), (1, 1, 1), "nothing twice, and it is asked once");
    let [(_, receiver, _)] = receivers;
    (now, sender, receiver, [old.remove(0), new.remove(0)])
}

#[test]
fn what_is_overtaken_on_another_path_is_not_taken_for_lost() {
    let (now, mut sender, mut receiver, [old, new]) = on_two_paths();
    arrive(now + 2, &new, &mut receiver, &mut sender);
    assert_eq!(sent(&mut sender, now + 2).0, [], "it may be on its way");
    arrive(now + 4, &old, &mut receiver, &mut sender);
    assert_eq!(sent(&mut sender, now + 4).0, []);
    assert!(sender.is_settled(DESTINATION));
    for expected in [1, 2] {
        let record = receiver.poll_deliver(CONSUMER).unwrap();
        assert_eq!(record.payload[..8], u64::to_le_bytes(expected));
    }
}

#[test]
fn what_a_path_took_with_it_is_sent_again_soon() {
    for overtaken in [true, false] {
        let (mut now, mut sender, mut receiver, [_lost, new]) = on_two_paths();
        if overtaken {
            arrive(now + 2, &new, &mut receiver, &mut sender);
        }
        let due = sender.poll_timeout().unwrap();
        assert!(due <= at(now + 50), "long before the timer of a loss without a word");
        sender.handle_timeout(due);
        let mut receivers = [(DESTINATION, receiver, Vec::new())];
        settle(&mut now, &mut sender, &mut receivers);
        assert_eq!(receivers[0].2, [1, 2], "{overtaken}");
        assert!(sender.is_settled(DESTINATION));
    }
}
