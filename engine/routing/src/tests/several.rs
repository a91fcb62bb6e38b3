//! Advertisements that go in one message.

use std::time::Duration;

use hawser_wire::{DecodeError, MonoTime, NodeId};

use super::{check_all, drain, hear, holds, lsa, millis, node};
use crate::message::{Message, SEVERAL_BYTES_MAX};
use crate::{Flooding, Lsa, RejectReason};

fn as_message(lsa: &Lsa) -> Vec<u8> {
    let mut encoding = Vec::new();
    lsa.encode(&mut encoding);
    Message::encode_lsa(Duration::from_secs(3600), &encoding)
}

/// Node 1 with neighbours 2 and 3 up at time zero, and nothing left to send.
fn between_two() -> Flooding {
    let mut flooding = Flooding::new(node(1));
    for neighbour in [2, 3] {
        flooding.handle_neighbour_up(MonoTime::ZERO, node(neighbour), true);
    }
    drain(&mut flooding);
    flooding
}

/// How many advertisements are in each message with any that goes to neighbour 3 now, and the bytes of
/// the longest.
fn sent(flooding: &mut Flooding) -> (Vec<usize>, usize) {
    let (mut counts, mut longest) = (Vec::new(), 0);
    while let Some((to, bytes)) = flooding.poll_transmit() {
        let count = Message::several(&bytes).map(|several| several.unwrap().count());
        let alone = || matches!(Message::decode(&bytes), Ok(Message::Lsa { .. }));
        if to == node(3) && (count.is_some() || alone()) {
            counts.push(count.unwrap_or(1));
            longest = longest.max(bytes.len());
        }
    }
    (counts, longest)
}

/// Neighbour 2 says something new of each of these, one after the other.
fn tell(flooding: &mut Flooding, ms: u64, origins: impl Iterator<Item = u8>) {
    for origin in origins {
        let message = as_message(&lsa(origin, 1, 1, &[]));
        assert_eq!(hear(flooding, millis(ms), node(2), &message, &mut holds), Ok(true));
    }
}

#[test]
fn a_few_go_at_once_and_what_comes_then_goes_together() {
    let mut flooding = between_two();
    for origin in 10..50 {
        tell(&mut flooding, 1, origin..=origin);
        let alone = usize::from(origin < 26);
        assert_eq!(sent(&mut flooding).0, vec![1; alone], "origin {origin}");
    }
    // In two milliseconds, and no sooner.
    assert_eq!(flooding.poll_timeout(), Some(millis(3)));
    flooding.handle_timeout(millis(3));
    assert_eq!(sent(&mut flooding).0, [24]);
    assert_ne!(flooding.poll_timeout(), Some(millis(5)), "nothing waits any more");
    // After a while some go at once again.
    tell(&mut flooding, 100, 60..61);
    assert_eq!(sent(&mut flooding).0, [1]);
}

#[test]
fn enough_of_them_wait_for_nothing() {
    let mut flooding = between_two();
    for origin in 10..26 {
        tell(&mut flooding, 1, origin..=origin);
        assert_eq!(sent(&mut flooding).0, [1]);
    }
    tell(&mut flooding, 1, 30..93);
    assert_eq!(sent(&mut flooding).0, []);
    tell(&mut flooding, 1, 93..94);
    assert_eq!(sent(&mut flooding).0, [64]);
}

#[test]
fn together_they_are_no_longer_than_a_message_may_be() {
    let mut flooding = between_two();
    let links: Vec<(u8, u32)> = (100..250).map(|neighbour| (neighbour, 1)).collect();
    let large = as_message(&lsa(9, 1, 1, &links)).len();
    for origin in 10..20 {
        let message = as_message(&lsa(origin, 1, 1, &links));
        hear(&mut flooding, millis(1), node(2), &message, &mut holds).unwrap();
    }
    let (counts, longest) = sent(&mut flooding);
    assert_eq!(counts.iter().sum::<usize>(), 10);
    assert!(counts.len() > 1 && counts[0] == SEVERAL_BYTES_MAX / (large + 2), "{counts:?}");
    assert!(longest <= 1 + SEVERAL_BYTES_MAX, "{longest}");
    // Also if they are many and the lengths count.
    let mut flooding = between_two();
    tell(&mut flooding, 1, 10..210);
    let (counts, longest) = sent(&mut flooding);
    assert_eq!(counts.iter().sum::<usize>(), 200);
    assert!(longest > SEVERAL_BYTES_MAX - 256 && longest <= 1 + SEVERAL_BYTES_MAX, "{longest}");
}

fn several(messages: &[&[u8]]) -> Vec<u8> {
    let part =
        |message: &&[u8]| [&u16::try_from(message.len()).unwrap().to_le_bytes(), *message].concat();
    [vec![9], messages.iter().flat_map(part).collect()].concat()
}

fn knows(flooding: &Flooding) -> Vec<NodeId> {
    flooding.lsdb().iter().map(|lsa| lsa.origin).collect()
}

#[test]
fn each_of_several_is_taken_or_not() {
    let [a, b, c] = [10, 11, 12].map(|origin| as_message(&lsa(origin, 1, 1, &[])));
    let expired = Message::encode_lsa(Duration::ZERO, &b[3..]);
    let mut flooding = between_two();
    let mixed = several(&[&a, &expired, &c]);
    let taken = flooding.handle_message(millis(1), node(2), &mixed);
    assert_eq!(taken, Err(RejectReason::Expired { origin: node(11) }));
    check_all(&mut flooding, millis(1), &mut holds).unwrap();
    assert_eq!(knows(&flooding), [node(10), node(12)]);
    assert_eq!(flooding.rejects().collect::<Vec<_>>(), [("expired", 1)]);
}

#[test]
fn what_is_not_several_advertisements_ends_there() {
    let [a, b] = [10, 11].map(|origin| as_message(&lsa(origin, 1, 1, &[])));
    let digest = Message::encode_digest(7);
    let nested = several(&[&b]);
    for wrong in [&digest[..], &nested, &[]] {
        let mut flooding = between_two();
        let taken = flooding.handle_message(millis(1), node(2), &several(&[&a, wrong, &b]));
        assert!(matches!(taken, Err(RejectReason::Malformed(_))), "{taken:?}");
        check_all(&mut flooding, millis(1), &mut holds).unwrap();
        assert_eq!(knows(&flooding), [node(10)], "{wrong:?}");
        assert_eq!(flooding.digest_agrees(node(2)), None);
    }
    // Cut off anywhere.
    let whole = several(&[&a, &b]);
    for len in 2..whole.len() {
        let mut flooding = between_two();
        let taken = flooding.handle_message(millis(1), node(2), &whole[..len]);
        assert_eq!(taken.is_err(), len != 3 + a.len(), "{len}");
    }
}

#[test]
fn a_neighbour_that_does_not_take_several_gets_each_alone_and_settles() {
    let mut flooding = Flooding::new(node(1));
    flooding.handle_neighbour_up(MonoTime::ZERO, node(2), true);
    flooding.handle_neighbour_up(MonoTime::ZERO, node(3), false);
    drain(&mut flooding);
    let mut older = Flooding::new(node(3));
    older.handle_neighbour_up(MonoTime::ZERO, node(1), false);
    tell(&mut flooding, 1, 10..110);
    let mut alone = 0;
    loop {
        let to_older = std::iter::from_fn(|| flooding.poll_transmit());
        let to_older: Vec<_> = to_older.filter(|(to, _)| *to == node(3)).collect();
        let from_older: Vec<_> = std::iter::from_fn(|| older.poll_transmit()).collect();
        if to_older.is_empty() && from_older.is_empty() {
            break;
        }
        for (_, message) in to_older {
            // As the release before would: it knows the kinds up to 8.
            assert_ne!(message[0], 9);
            alone += usize::from(message[0] == 1);
            hear(&mut older, millis(2), node(1), &message, &mut holds).unwrap();
        }
        for (_, message) in from_older {
            hear(&mut flooding, millis(2), node(3), &message, &mut holds).unwrap();
        }
        older.handle_timeout(millis(10));
    }
    // All in this moment: nothing waits for others that it could not join.
    assert_eq!(alone, 100);
    assert_eq!(older.lsdb().digest(), flooding.lsdb().digest());
    // Acknowledged: nothing is sent again.
    flooding.handle_timeout(millis(5_000));
    assert_eq!(sent(&mut flooding).0, []);
}

#[test]
fn a_message_that_is_longer_than_nodes_make_it_is_refused() {
    let part = as_message(&lsa(10, 1, 1, &[]));
    let size = part.len() + 2;
    let count = SEVERAL_BYTES_MAX / size;
    for (spare, is_taken) in [(0, true), (1, false)] {
        // The last one is as long as it takes, and no advertisement.
        let last = vec![1; SEVERAL_BYTES_MAX - count * size + size - 2 + spare];
        let parts: Vec<&[u8]> = vec![&part; count - 1];
        let message = several(&[&parts[..], &[&last[..]]].concat());
        assert_eq!(message.len(), 1 + SEVERAL_BYTES_MAX + spare);
        let mut flooding = between_two();
        let taken = flooding.handle_message(millis(1), node(2), &message);
        let is_too_large = matches!(
            taken,
            Err(RejectReason::Malformed(DecodeError::TooLarge { max: 16_384, .. }))
        );
        assert_eq!(is_too_large, !is_taken, "{taken:?}");
        assert_eq!(flooding.rejects().collect::<Vec<_>>(), [("malformed", 1)]);
        check_all(&mut flooding, millis(1), &mut holds).unwrap();
        assert_eq!(knows(&flooding), if is_taken { vec![node(10)] } else { vec![] });
    }
}

#[test]
fn behind_what_nobody_honest_sends_nothing_is_looked_at() {
    let links: Vec<(u8, u32)> = (100..200).map(|neighbour| (neighbour, 5)).collect();
    let changed: Vec<(u8, u32)> =
        (100..200).map(|to| (to, if to == 100 { 9 } else { 5 })).collect();
    let before = lsa(10, 1, 1, &links);
    // What a node with the version before is told.
    let mut teller = between_two();
    hear(&mut teller, millis(1), node(2), &as_message(&before), &mut holds).unwrap();
    let digest = Message::encode_digest(teller.lsdb().digest());
    drain(&mut teller);
    hear(&mut teller, millis(2), node(3), &as_message(&before), &mut holds).unwrap();
    hear(&mut teller, millis(2), node(3), &digest, &mut holds).unwrap();
    let after = as_message(&lsa(10, 1, 2, &changed));
    hear(&mut teller, millis(3), node(2), &after, &mut holds).unwrap();
    let delta = std::iter::from_fn(|| teller.poll_transmit()).find(|(_, said)| said[0] == 8);
    let mut touched = delta.expect("a delta").1;
    let latency_at = touched.len() - 64 - 16;
    touched[latency_at] ^= 1;

    let [first, last] = [20, 21].map(|origin| as_message(&lsa(origin, 1, 1, &[])));
    let cut = &last[..last.len() - 1];
    for (wrong, reason) in [(&touched[..], "delta-mismatch"), (cut, "malformed")] {
        let mut flooding = between_two();
        hear(&mut flooding, millis(1), node(2), &as_message(&before), &mut holds).unwrap();
        let message = several(&[&first, wrong, wrong, wrong, &last]);
        let taken = flooding.handle_message(millis(4), node(2), &message);
        assert_eq!(taken.map_err(|taken| taken.name()), Err(reason));
        check_all(&mut flooding, millis(4), &mut holds).unwrap();
        assert_eq!(knows(&flooding), [node(10), node(20)]);
        assert_eq!(flooding.rejects().collect::<Vec<_>>(), [(reason, 1)]);
        // The rest comes again.
        assert_eq!(hear(&mut flooding, millis(5), node(2), &last, &mut holds), Ok(true));
    }
}
