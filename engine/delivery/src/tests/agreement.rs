//! Where a stream goes on: told before records flow, and told again.

use super::{CONSUMER, DESTINATION, NONE, STREAM, at, attached, plenty, publish, sender, settle};
use crate::{StreamSender, Transmit, TransmitBody};
use hawser_wire::{BootEpoch, StreamAck};

fn is_told(sender: &mut StreamSender, millis: u64) -> bool {
    let sent = sender.poll_transmit(at(millis), |_| true);
    sent.is_some_and(|transmit| matches!(transmit.body, TransmitBody::Sync(_)))
}

#[test]
fn a_destination_that_hosts_the_stream_now_is_told_at_once() {
    let mut sender = sender(1, true);
    publish(&mut sender, 1, 1..2);
    // The first word comes before the stream was announced there.
    assert!(is_told(&mut sender, 0));
    let unknown = StreamAck::unknown(STREAM, BootEpoch(1), BootEpoch(1));
    sender.handle_ack(at(1), DESTINATION, &unknown);
    assert!(!is_told(&mut sender, 2), "it does not know the stream for being told often");
    sender.handle_hosted(DESTINATION);
    let now = at(2);
    assert!(sender.poll_timeout().is_some_and(|due| due <= now));
    let mut receiver = attached(1, &[]);
    let Some(Transmit { body: TransmitBody::Sync(sync), .. }) = sender.poll_transmit(now, |_| true)
    else {
        panic!("not told again");
    };
    receiver.handle_sync(&sync, NONE);
    sender.handle_ack(now, DESTINATION, &receiver.poll_ack(now, &mut plenty()).unwrap());
    let next = sender.poll_transmit(now, |_| true);
    assert!(next.is_some_and(|transmit| matches!(transmit.body, TransmitBody::Record(_))));
}

#[test]
fn where_records_flow_being_hosted_is_no_news() {
    let mut sender = sender(1, true);
    let mut receivers = [(DESTINATION, attached(1, &[]), Vec::new())];
    let mut now = 0;
    settle(&mut now, &mut sender, &mut receivers);
    sender.handle_hosted(DESTINATION);
    assert!(!is_told(&mut sender, now));
}

#[test]
fn a_lost_commit_does_not_keep_a_closed_stream_open() {
    let mut now = 0;
    let mut sender = sender(1, true);
    let mut receivers = [(DESTINATION, attached(1, &[]), Vec::new())];
    publish(&mut sender, 1, 1..101);
    settle(&mut now, &mut sender, &mut receivers);
    // The destination dies before its store has the last commits.
    receivers[0].1 = attached(2, &[(CONSUMER, 50)]);
    sender.handle_path(DESTINATION, true);
    sender.handle_close();
    settle(&mut now, &mut sender, &mut receivers);
    assert!(sender.is_finished());
    assert!(receivers[0].1.is_finished());
    assert!(receivers[0].1.is_exhausted(CONSUMER));
}
