//! What a neighbour or an origin does wrong is rejected, counted by name, and makes nothing grow.

use std::time::Duration;

use hawser_wire::{DecodeError, Incarnation, MonoTime, NodeId};

use super::{check_all, drain, hear, holds, lsa, millis, node, seal};
use crate::message::Message;
use crate::{ADJACENCIES_MAX, Flooding, Judgement, Lsa, OriginateError, Refusal, RejectReason};

const HOUR: Duration = Duration::from_secs(3600);

fn as_message(lifetime: Duration, lsa: &Lsa) -> Vec<u8> {
    let mut encoding = Vec::new();
    lsa.encode(&mut encoding);
    Message::encode_lsa(lifetime, &encoding)
}

fn with_neighbours(neighbours: &[u8]) -> Flooding {
    let mut flooding = Flooding::new(node(1));
    for neighbour in neighbours {
        flooding.handle_neighbour_up(MonoTime::ZERO, node(*neighbour), true);
    }
    drain(&mut flooding);
    flooding
}

fn count(flooding: &Flooding, name: &str) -> u64 {
    flooding.rejects().find(|(reason, _)| *reason == name).map_or(0, |(_, count)| count)
}

#[test]
fn who_forges_is_looked_at_less_and_nobody_else_is() {
    let mut flooding = with_neighbours(&[2, 3]);
    let mut looked_at = 0;
    let mut judge = |lsa: &Lsa| {
        looked_at += 1;
        holds(lsa)
    };
    let forged = |sequence| {
        let mut forged = lsa(9, 1, sequence, &[]);
        forged.signature[9] ^= 1;
        as_message(HOUR, &forged)
    };
    for sequence in 1..=1000 {
        assert!(hear(&mut flooding, millis(5), node(2), &forged(sequence), &mut judge).is_err());
    }
    assert_eq!(looked_at, 16);
    assert_eq!((count(&flooding, "forged"), count(&flooding, "too-many-forged")), (16, 984));
    let good = as_message(HOUR, &lsa(9, 1, 1, &[]));
    let from_liar = hear(&mut flooding, millis(6), node(2), &good, &mut holds);
    assert_eq!(from_liar, Err(RejectReason::TooManyForged { from: node(2) }));
    assert_eq!(hear(&mut flooding, millis(6), node(3), &good, &mut holds), Ok(true));
    // Forgiven after a second.
    let next = as_message(HOUR, &lsa(9, 1, 2, &[]));
    assert_eq!(hear(&mut flooding, millis(1005), node(2), &next, &mut holds), Ok(true));
}

#[test]
fn what_is_replayed_or_stale_is_answered_with_the_newer_one() {
    let mut flooding = with_neighbours(&[2]);
    let (old, new) = (lsa(9, 3, 7, &[]), lsa(9, 4, 1, &[]));
    assert_eq!(
        hear(&mut flooding, millis(1), node(2), &as_message(HOUR, &new), &mut holds),
        Ok(true)
    );
    drain(&mut flooding);
    let digest = flooding.lsdb().digest();
    for _ in 0..100 {
        let heard = hear(&mut flooding, millis(2), node(2), &as_message(HOUR, &old), &mut |_| {
            panic!("nothing to look at")
        });
        assert_eq!(heard, Ok(false));
    }
    assert_eq!((flooding.lsdb().digest(), count(&flooding, "stale")), (digest, 100));
    let sent = drain(&mut flooding);
    assert!(matches!(&sent[..], [(_, Message::Lsa { lsa, .. })] if **lsa == new), "{sent:?}");
}

#[test]
fn a_version_from_the_far_future_is_no_last_word() {
    let mut flooding = with_neighbours(&[2]);
    for (incarnation, sequence) in [(1 << 48, 1), (1, 1 << 48), (u64::MAX, u64::MAX)] {
        for origin in [9, 1] {
            let message = as_message(HOUR, &lsa(origin, incarnation, sequence, &[]));
            assert_eq!(
                hear(&mut flooding, millis(1), node(2), &message, &mut holds),
                Err(RejectReason::FarFuture { origin: node(origin) })
            );
        }
    }
    assert_eq!(
        flooding.originate(millis(2), lsa(1, 1 << 48, 1, &[])),
        Err(OriginateError::TooFarAhead { incarnation: Incarnation(1 << 48), sequence: 1 })
    );
}

/// Whatever a node has said, if others believed it they believe what it says next.
#[test]
fn one_wrong_number_makes_no_last_word() {
    let last = (1 << 48) - 1;
    for (incarnation, sequence) in [(1, last), (last, 1), (last - 1, last), (last, last - 1)] {
        let mut flooding = with_neighbours(&[2]);
        let mut other = with_neighbours(&[2]);
        let wrong = as_message(HOUR, &lsa(8, incarnation, sequence, &[]));
        assert_eq!(hear(&mut other, millis(1), node(2), &wrong, &mut holds), Ok(true));
        let wrong = as_message(HOUR, &lsa(1, incarnation, sequence, &[]));
        assert_eq!(hear(&mut flooding, millis(1), node(2), &wrong, &mut holds), Ok(false));
        assert!(flooding.must_originate());
        let (incarnation, sequence) = flooding.next_version(Incarnation(1));
        assert_eq!(flooding.originate(millis(2), lsa(1, incarnation.0, sequence, &[])), Ok(()));
        assert!(!flooding.must_originate());
        let right = as_message(HOUR, &lsa(8, incarnation.0, sequence, &[]));
        assert_eq!(hear(&mut other, millis(2), node(2), &right, &mut holds), Ok(true));
        // Nor is that one the last.
        let (incarnation, sequence) = flooding.next_version(Incarnation(1));
        let said = flooding.originate(millis(3), lsa(1, incarnation.0, sequence, &[]));
        assert_eq!(said.is_ok(), incarnation.0 <= last, "{incarnation}, {sequence}");
    }
}

#[test]
fn ten_thousand_links_are_refused_and_a_thousand_are_not() {
    let mut flooding = with_neighbours(&[2]);
    let mut large = lsa(9, 1, 1, &[(3, 1)]);
    large.adjacencies = (0..10_000_u32)
        .map(|number| {
            let mut id = [0xaa; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            crate::Adjacency { neighbour: NodeId::from_bytes(id), ..large.adjacencies[0] }
        })
        .collect();
    let good = as_message(HOUR, &seal(large.clone()));
    // What this code would not encode, an attacker's does.
    let count_at = good.len() - 64 - 1 - ADJACENCIES_MAX * 36 - 2;
    let mut bad = good[..count_at].to_vec();
    bad.extend_from_slice(&10_000_u16.to_le_bytes());
    for link in &large.adjacencies {
        link.encode(&mut bad);
    }
    bad.push(0);
    bad.extend_from_slice(&[0; 64]);
    let heard = hear(&mut flooding, millis(1), node(2), &bad, &mut holds);
    let too_large = |error| matches!(error, DecodeError::TooLarge { value: 10_000, max: 1024, .. });
    assert!(matches!(heard, Err(RejectReason::Malformed(error)) if too_large(error)), "{heard:?}");
    assert_eq!((flooding.lsdb().len(), count(&flooding, "malformed")), (0, 1));
    assert_eq!(hear(&mut flooding, millis(1), node(2), &good, &mut holds), Ok(true));
    assert_eq!(flooding.lsdb().get(node(9)).unwrap().adjacencies.len(), ADJACENCIES_MAX);
}

/// What origins have said of late is kept, and of those that rest nothing.
#[test]
fn the_limits_of_origins_that_rest_are_forgotten_and_of_others_not() {
    let mut flooding = with_neighbours(&[2]);
    let say = |flooding: &mut Flooding, ms, origin, sequence| {
        let message = as_message(HOUR, &lsa(origin, 1, sequence, &[]));
        hear(flooding, millis(ms), node(2), &message, &mut holds)
    };
    for origin in 20..60 {
        assert_eq!(say(&mut flooding, 1, origin, 1), Ok(true));
    }
    for sequence in 1..=64 {
        assert_eq!(say(&mut flooding, 19_990, 9, sequence), Ok(true));
    }
    flooding.handle_timeout(millis(20_000));
    assert_eq!(flooding.limits.keys().collect::<Vec<_>>(), [&node(9)]);
    let limited = Err(RejectReason::RateLimited { origin: node(9) });
    assert_eq!(say(&mut flooding, 20_000, 9, 65), limited);
    flooding.handle_timeout(millis(40_000));
    assert!(flooding.limits.is_empty());
}

#[test]
fn an_origin_that_says_too_much_is_slowed_down_and_believed_in_the_end() {
    let mut flooding = with_neighbours(&[2]);
    let mut accepted = 0;
    let say = |flooding: &mut Flooding, ms, sequence| {
        let message = as_message(HOUR, &lsa(9, 1, sequence, &[]));
        hear(flooding, millis(ms), node(2), &message, &mut holds)
    };
    for ms in 1..=1000 {
        match say(&mut flooding, ms, ms) {
            Ok(changed) => accepted += u64::from(changed),
            Err(reason) => assert_eq!(reason, RejectReason::RateLimited { origin: node(9) }),
        }
    }
    assert_eq!(accepted, 73, "64 at once, then ten a second");
    assert_eq!(count(&flooding, "rate-limited"), 1000 - 73);
    // Another origin has a limit of its own, and the newest is taken as soon as there is room.
    let other = as_message(HOUR, &lsa(8, 1, 1, &[]));
    assert_eq!(hear(&mut flooding, millis(1000), node(2), &other, &mut holds), Ok(true));
    assert_eq!(say(&mut flooding, 1101, 1000), Ok(true));
    assert_eq!(flooding.lsdb().version(node(9)).unwrap().sequence, 1000);
}

/// What is let in while there is a token is not all believed: the limit counts what is.
#[test]
fn an_origin_that_says_too_much_at_once_is_slowed_down() {
    let mut flooding = with_neighbours(&[2]);
    let mut looked_at = 0;
    let mut judge = |lsa: &Lsa| {
        looked_at += 1;
        holds(lsa)
    };
    let of = |sequence| as_message(HOUR, &lsa(9, 1, sequence, &[]));
    for sequence in 1..=63 {
        let heard = hear(&mut flooding, millis(1), node(2), &of(sequence), &mut judge);
        assert_eq!(heard, Ok(true));
    }
    // One token is left. As many in one message as go in, then as many messages as are not checked
    // in between: of either one is believed, and another as soon as there is a token again.
    let several = Message::encode_several((100..140).map(of).collect());
    assert_eq!(hear(&mut flooding, millis(1), node(2), &several, &mut judge), Ok(true));
    assert_eq!(flooding.lsdb().version(node(9)).unwrap().sequence, 100);
    assert_eq!(count(&flooding, "rate-limited"), 39);
    for sequence in 200..300 {
        assert_eq!(flooding.handle_message(millis(101), node(2), &of(sequence)), Ok(()));
    }
    assert_eq!(check_all(&mut flooding, millis(101), &mut judge), Ok(true));
    assert_eq!(flooding.lsdb().version(node(9)).unwrap().sequence, 200);
    assert_eq!((looked_at, count(&flooding, "rate-limited")), (65, 39 + 99));
    // What was dropped was not acknowledged, and is taken when it comes again.
    assert_eq!(hear(&mut flooding, millis(201), node(2), &of(299), &mut holds), Ok(true));
}

#[test]
fn refused_origins_are_counted_by_reason_and_not_repeated_every_second() {
    let mut flooding = with_neighbours(&[2, 3]);
    for (ms, refusal, name) in [
        (10, Refusal::Evicted, "evicted"),
        (20, Refusal::CertificateExpired, "certificate-expired"),
        (30, Refusal::CertificateOfOther, "certificate-of-other"),
        (40, Refusal::NameOfOther, "name-of-other"),
        (50, Refusal::AddressInvalid, "address-invalid"),
    ] {
        let message = as_message(HOUR, &lsa(9, 1, 1, &[]));
        let mut refuse = |_: &Lsa| Judgement::Refuse(refusal);
        assert_eq!(
            hear(&mut flooding, millis(ms), node(2), &message, &mut refuse),
            Err(RejectReason::Refused { origin: node(9), refusal })
        );
        assert_eq!((flooding.lsdb().len(), count(&flooding, name)), (0, 1));
        let sent = drain(&mut flooding);
        assert!(matches!(&sent[..], [(to, Message::Ack(_))] if *to == node(2)), "{sent:?}");
    }
}

#[test]
fn what_nobody_renews_ends_after_its_lifetime() {
    let mut flooding = with_neighbours(&[2]);
    for (origin, seconds) in [(8, 3600), (9, 100)] {
        let message = as_message(Duration::from_secs(seconds), &lsa(origin, 1, 1, &[]));
        assert_eq!(hear(&mut flooding, millis(500), node(2), &message, &mut holds), Ok(true));
    }
    flooding.originate(millis(600), lsa(1, 1, 1, &[])).unwrap();
    drain(&mut flooding);

    // A copy that says about the same does not make it longer.
    let again = as_message(Duration::from_secs(119), &lsa(9, 1, 1, &[]));
    assert_eq!(hear(&mut flooding, millis(40_000), node(2), &again, &mut holds), Ok(false));
    flooding.handle_neighbour_up(millis(40_700), node(3), true);
    let digest = Message::encode_digest(77);
    hear(&mut flooding, millis(40_700), node(3), &digest, &mut holds).unwrap();
    let request = Message::encode_request(&[node(8), node(9)]);
    hear(&mut flooding, millis(40_700), node(3), &request, &mut holds).unwrap();
    let lifetimes: Vec<_> = drain(&mut flooding)
        .into_iter()
        .filter_map(|(_, message)| match message {
            Message::Lsa { lifetime, lsa, .. } => Some((lsa.origin, lifetime.as_secs())),
            _ => None,
        })
        .collect();
    assert_eq!(lifetimes, [(node(1), 3600), (node(8), 3559), (node(9), 59)]);

    assert!(!flooding.handle_timeout(millis(100_499)));
    assert!(flooding.handle_timeout(millis(100_500)));
    let origins =
        |flooding: &Flooding| -> Vec<_> { flooding.lsdb().iter().map(|lsa| lsa.origin).collect() };
    assert_eq!(origins(&flooding), [node(1), node(8)]);
    // The clock jumps: all the others' words have ended, this node's own has not.
    assert!(flooding.handle_timeout(millis(90_000_000)));
    assert_eq!(origins(&flooding), [node(1)]);
    // It jumps back: nothing ends or begins.
    assert!(!flooding.handle_timeout(millis(10)));
    let back = as_message(HOUR, &lsa(9, 1, 1, &[]));
    assert_eq!(hear(&mut flooding, millis(11), node(2), &back, &mut holds), Ok(true));

    let ended = as_message(Duration::ZERO, &lsa(7, 1, 1, &[]));
    assert_eq!(
        hear(&mut flooding, millis(12), node(2), &ended, &mut holds),
        Err(RejectReason::Expired { origin: node(7) })
    );
    let mut endless = as_message(HOUR, &lsa(7, 1, 1, &[]));
    endless[1..3].copy_from_slice(&3601_u16.to_le_bytes());
    let heard = hear(&mut flooding, millis(12), node(2), &endless, &mut holds);
    assert!(matches!(heard, Err(RejectReason::Malformed(_))), "{heard:?}");
}

/// Two nodes with one key, as after a disk was copied: each overtakes the other as often as it is
/// allowed to speak, and both see that it is so.
#[test]
fn two_nodes_with_one_id_notice_it() {
    let (mut one, mut two) = (with_neighbours(&[2]), with_neighbours(&[2]));
    one.originate(millis(0), lsa(1, 5, 1, &[(2, 1)])).unwrap();
    for round in 1..=10 {
        let (speaker, hearer) =
            if round % 2 == 1 { (&mut one, &mut two) } else { (&mut two, &mut one) };
        let spoken = speaker.lsdb().get(node(1)).unwrap().clone();
        let message = as_message(HOUR, &spoken);
        hear(hearer, millis(round * 1000), node(2), &message, &mut holds).unwrap();
        assert!(hearer.must_originate());
        let (incarnation, sequence) = hearer.next_version(Incarnation(5));
        let own = lsa(1, incarnation.0, sequence, &[(3, 1)]);
        hearer.originate(millis(round * 1000), own).unwrap();
    }
    assert_eq!((one.overtaken(), two.overtaken()), (5, 5));
    assert_eq!(count(&one, "overtaken"), 5);
}

/// Each makes the machine look through its whole database, and costs its sender some thirty bytes.
#[test]
fn a_neighbour_that_repeats_its_summary_is_compared_once_a_second() {
    let mut flooding = with_neighbours(&[2, 3]);
    for origin in 10..60 {
        let message = as_message(HOUR, &lsa(origin, 1, 1, &[]));
        assert_eq!(hear(&mut flooding, millis(1), node(3), &message, &mut holds), Ok(true));
    }
    let all = NodeId::from_bytes([255; 16]);
    let summary = Message::encode_summary(NodeId::from_bytes([0; 16]), all, &[]);
    let mut compared = 0;
    for ms in 1..=5000 {
        match flooding.handle_message(millis(ms), node(2), &summary) {
            Ok(()) => compared += 1,
            Err(reason) => {
                assert_eq!(reason, RejectReason::TooManySummaries { from: node(2) });
            }
        }
    }
    assert_eq!(compared, 16 + 4);
    assert_eq!(count(&flooding, "too-many-summaries"), 5000 - 20);
    // Another neighbour has a limit of its own.
    assert_eq!(flooding.handle_message(millis(5000), node(3), &summary), Ok(()));
}

#[test]
fn what_waits_to_be_checked_is_bounded_for_each_neighbour() {
    let mut flooding = with_neighbours(&[2, 3]);
    let numbered = |number: u32| {
        let mut lsa = lsa(9, 1, 1, &[]);
        let mut id = [7; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        lsa.origin = NodeId::from_bytes(id);
        as_message(HOUR, &lsa)
    };
    let mut busy = 0;
    for number in 0..3000 {
        match flooding.handle_message(millis(1), node(2), &numbered(number)) {
            Ok(()) => {}
            Err(RejectReason::Busy { .. }) => busy += 1,
            Err(reason) => panic!("{reason}"),
        }
    }
    assert_eq!((busy, count(&flooding, "busy")), (3000 - 2048, 3000 - 2048));
    assert_eq!(flooding.handle_message(millis(1), node(3), &numbered(5000)), Ok(()));
    let mut accept = |_: &Lsa| Judgement::Accept;
    assert_eq!(check_all(&mut flooding, millis(2), &mut accept), Ok(true));
    assert_eq!(flooding.lsdb().len(), 2049);
    assert_eq!(flooding.handle_message(millis(3), node(2), &numbered(2999)), Ok(()));
}
