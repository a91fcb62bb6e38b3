use hawser_session::{LaneSession, Role};
use hawser_wire::BATCH_BYTES_MAX;
use proptest::prelude::*;

use crate::pair::{Cuts, Member, Pair, carry, deliver, messages};

/// Lengths around every bound of WebSocket and TLS, and any other.
fn length() -> impl Strategy<Value = usize> {
    let bounds = [0, 1, 125, 126, 127, 16_370, 16_384, 16_385, 65_535, 65_536, BATCH_BYTES_MAX];
    prop_oneof![
        4 => 0..2000_usize,
        2 => prop::sample::select(bounds.to_vec()),
        1 => 0..=BATCH_BYTES_MAX,
    ]
}

/// A message that differs from its neighbours at every length.
fn payload(tag: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + tag * 7) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn messages_cross_in_order_however_the_ciphertext_is_cut(
        lengths in prop::collection::vec(
            (length(), 0..=100_usize, any::<bool>(), any::<bool>()),
            1..8,
        ),
        cuts in prop::collection::vec(prop_oneof![1..100_usize, 1..200_000_usize], 1..12),
    ) {
        let mut pair = Pair::new(Member::new().lane_configs());
        let mut cuts = Cuts::new(cuts);
        pair.handshake(&mut cuts);
        let (mut sent, mut got) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for (tag, (len, percent, to_server, flush)) in lengths.into_iter().enumerate() {
            let message = payload(tag, len);
            let session = if to_server { &mut pair.client } else { &mut pair.server };
            let (first, second) = message.split_at(len * percent / 100);
            session.send_joined([first, second]).unwrap();
            sent[usize::from(to_server)].push(message);
            if flush {
                let Pair { client, server } = &mut pair;
                carry(client, server, &mut cuts, |session| got[1].extend(messages(session)));
                carry(server, client, &mut cuts, |session| got[0].extend(messages(session)));
            }
        }
        let Pair { client, server } = &mut pair;
        carry(client, server, &mut cuts, |session| got[1].extend(messages(session)));
        carry(server, client, &mut cuts, |session| got[0].extend(messages(session)));
        prop_assert!(got == sent, "messages differ");
        prop_assert!(client.read_buffer().is_empty() && server.read_buffer().is_empty());
        prop_assert!(client.unsent_is_empty() && server.unsent_is_empty());
    }
}

#[test]
fn both_ends_know_their_role_and_their_peer() {
    let pair = Pair::connected();
    assert_eq!((pair.client.role(), pair.server.role()), (Role::Client, Role::Server));
    for session in [&pair.client, &pair.server] {
        // The leaf, and the authority behind it.
        assert_eq!(session.peer_certificates().map(<[_]>::len), Some(2));
    }
}

#[test]
fn a_written_buffer_is_filled_again() {
    let mut pair = Pair::connected();
    pair.client.send_message(&[1; 50_000]).unwrap();
    let written = pair.client.take_unsent();
    let (place, room) = (written.as_ptr(), written.capacity());
    assert!(pair.client.unsent_is_empty());
    deliver(&written, &mut pair.server, &mut Cuts::whole(), |_| {}).unwrap();
    pair.client.recycle(written);
    assert!(pair.client.unsent_is_empty(), "what was written is not sent again");
    pair.client.send_message(&[2; 10_000]).unwrap();
    let again = pair.client.take_unsent();
    assert_eq!((again.as_ptr(), again.capacity()), (place, room));
    deliver(&again, &mut pair.server, &mut Cuts::whole(), |_| {}).unwrap();
    assert_eq!(messages(&mut pair.server), [vec![1; 50_000], vec![2; 10_000]]);
}

#[test]
fn a_buffer_that_comes_back_late_does_not_hide_what_waits() {
    let mut pair = Pair::connected();
    pair.server.send_message(b"first").unwrap();
    let written = pair.server.take_unsent();
    pair.server.send_message(b"second").unwrap();
    let waiting = pair.server.unsent_len();
    deliver(&written, &mut pair.client, &mut Cuts::whole(), |_| {}).unwrap();
    pair.server.recycle(written);
    assert_eq!(pair.server.unsent_len(), waiting);
    carry(&mut pair.server, &mut pair.client, &mut Cuts::whole(), |_| {});
    assert_eq!(messages(&mut pair.client), [b"first".to_vec(), b"second".to_vec()]);
}

#[test]
fn a_read_in_flight_takes_the_buffer_with_the_half_record_in_it() {
    let mut pair = Pair::connected();
    pair.client.send_message(b"in two reads").unwrap();
    let sent = pair.client.take_unsent();
    let (first, second) = sent.split_at(9);
    deliver(first, &mut pair.server, &mut Cuts::whole(), |_| {}).unwrap();
    let mut lent = pair.server.take_read_buffer();
    assert_eq!(lent, first);
    lent.extend_from_slice(second);
    pair.server.put_read_buffer(lent);
    pair.server.process().unwrap();
    assert_eq!(messages(&mut pair.server), [b"in two reads".to_vec()]);
}

#[test]
fn http_bytes_and_the_first_message_may_come_in_one_read() {
    let mut pair = Pair::connected();
    pair.client.send_plaintext(b"GET /lane\r\n\r\n").unwrap();
    pair.client.send_message(b"hello").unwrap();
    carry(&mut pair.client, &mut pair.server, &mut Cuts::whole(), |_| {});
    let inbox = pair.server.inbox();
    assert!(inbox.unread().starts_with(b"GET /lane\r\n\r\n"));
    inbox.consume(13);
    assert_eq!(messages(&mut pair.server), [b"hello".to_vec()]);
}

#[test]
fn an_end_says_good_bye_on_both_layers_and_the_other_hears_it() {
    let close = |from: &mut LaneSession, to: &mut LaneSession| {
        from.send_message(b"last").unwrap();
        from.send_close();
        let progress = carry(from, to, &mut Cuts::new(vec![3, 50]), |_| {}).unwrap();
        assert!(progress.peer_closed && !progress.handshaking, "{progress:?}");
        assert_eq!(messages(to), [b"last".to_vec()]);
        assert!(to.inbox().is_closed());
        // The other may still answer.
        to.send_message(b"answer").unwrap();
        to.send_close();
        let progress = carry(to, from, &mut Cuts::whole(), |_| {}).unwrap();
        assert!(progress.peer_closed);
        assert_eq!(messages(from), [b"answer".to_vec()]);
        assert!(from.inbox().is_closed());
    };
    let mut pair = Pair::connected();
    close(&mut pair.client, &mut pair.server);
    let mut pair = Pair::connected();
    close(&mut pair.server, &mut pair.client);
}

#[test]
fn nothing_can_be_sent_before_the_handshake() {
    let mut pair = Pair::new(Member::new().lane_configs());
    for session in [&mut pair.client, &mut pair.server] {
        let progress = session.process().unwrap();
        assert!(progress.handshaking && !progress.peer_closed);
        session.send_message(b"early").unwrap_err();
    }
    pair.handshake(&mut Cuts::whole());
    pair.client.send_message(b"in time").unwrap();
    carry(&mut pair.client, &mut pair.server, &mut Cuts::whole(), |_| {});
    assert_eq!(messages(&mut pair.server), [b"in time".to_vec()]);
}
