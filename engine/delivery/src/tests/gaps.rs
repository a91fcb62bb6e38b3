//! What comes late, and what never comes.

use super::*;

/// The next thing that the sender has for its destination.
fn next(sender: &mut StreamSender, now: u64) -> Option<TransmitBody> {
    sender.handle_timeout(at(now));
    sender.poll_transmit(at(now), |_| true).map(|transmit| transmit.body)
}

fn deliver(receiver: &mut StreamReceiver, body: &TransmitBody) {
    match body {
        TransmitBody::Sync(sync) => receiver.handle_sync(sync, NONE),
        TransmitBody::Record(record) => {
            let bytes = record.to_bytes();
            receiver.handle_record(at(0), &RecordView::decode(&bytes).unwrap(), NONE);
        }
    }
}

#[test]
fn a_gap_is_a_loss_only_if_it_lasts() {
    let (mut sender, mut receiver) = (sender(1, true), attached(1, &[]));
    let answer = |sender: &mut StreamSender, receiver: &mut StreamReceiver, now| {
        let ack = receiver.poll_ack(at(now), &mut plenty()).unwrap();
        sender.handle_ack(at(now), DESTINATION, &ack);
    };
    deliver(&mut receiver, &next(&mut sender, 0).unwrap());
    answer(&mut sender, &mut receiver, 0);
    let record = |sender: &mut StreamSender, now| {
        let seq = sender.last_seq(PRODUCER) + 1;
        publish(sender, seq, seq..seq + 1);
        next(sender, now).unwrap()
    };
    // The first comes behind the second, as when a lane is lost.
    let (first, second) = (record(&mut sender, 10), record(&mut sender, 10));
    deliver(&mut receiver, &second);
    answer(&mut sender, &mut receiver, 20);
    assert!(next(&mut sender, 20).is_none() && next(&mut sender, 39).is_none());
    deliver(&mut receiver, &first);
    answer(&mut sender, &mut receiver, 39);
    assert!(next(&mut sender, 900).is_none(), "nothing was lost");
    assert_eq!(sender.acked(), StreamOffset(2));
    // The third never comes.
    let (third, fourth) = (record(&mut sender, 1000), record(&mut sender, 1000));
    deliver(&mut receiver, &fourth);
    answer(&mut sender, &mut receiver, 1010);
    let waits = sender.poll_timeout().unwrap();
    assert!(next(&mut sender, 1010).is_none() && waits >= at(1030) && waits < at(1200));
    let due = waits.as_nanos() / 1_000_000;
    let (TransmitBody::Record(lost), Some(TransmitBody::Record(again))) =
        (third, next(&mut sender, due))
    else {
        panic!("it is sent again");
    };
    assert_eq!(again.header.stream_base, lost.header.stream_base);
}

#[test]
fn a_lost_tail_is_sent_again_as_a_whole() {
    let mut world = World::new(3, 0);
    world.step(false);
    for _ in 0..10 {
        world.step(false);
    }
    // Forty records vanish without a trace, and nothing is published behind them.
    for block in 0..40 {
        let first = block * 100 + 1;
        publish(&mut world.sender, first, first..first + 100);
        world.published += 100;
        world.loss_percent = 100;
        world.step(false);
        world.loss_percent = 0;
    }
    let lost_at = world.now;
    world.drain();
    world.check(3);
    let took = world.now - lost_at;
    assert!(took < 2500, "one probe and one resend, not a probe a record: {took} ms");
}
