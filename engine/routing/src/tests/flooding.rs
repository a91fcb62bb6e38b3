use hawser_wire::{Incarnation, MonoTime, NodeId};

use std::time::Duration;

use super::{drain, hear, holds, lsa, millis, node};
use crate::message::Message;
use crate::{
    FLOODING_MESSAGE_BYTES_MAX, Flooding, Judgement, Lsa, Lsdb, ORIGINS_MAX, OriginateError,
    RejectReason,
};

fn as_message(lsa: &Lsa) -> Vec<u8> {
    let mut encoding = Vec::new();
    lsa.encode(&mut encoding);
    Message::encode_lsa(Duration::from_secs(3600), &encoding)
}

fn advertised(messages: &[(NodeId, Message)]) -> Vec<(NodeId, NodeId)> {
    let lsa = |(to, message): &(NodeId, Message)| match message {
        Message::Lsa { lsa, .. } => Some((*to, lsa.origin)),
        _ => None,
    };
    messages.iter().filter_map(lsa).collect()
}

/// Node 1 with these neighbours up at time zero, and nothing left to send.
fn with_neighbours(neighbours: &[u8]) -> Flooding {
    let mut flooding = Flooding::new(node(1));
    for neighbour in neighbours {
        flooding.handle_neighbour_up(MonoTime::ZERO, node(*neighbour), true);
    }
    drain(&mut flooding);
    flooding
}

#[test]
fn an_advertisement_goes_to_all_but_its_sender_and_is_acknowledged() {
    let mut flooding = with_neighbours(&[2, 3, 4]);
    let message = as_message(&lsa(9, 1, 1, &[]));
    assert_eq!(hear(&mut flooding, millis(1), node(3), &message, &mut holds), Ok(true));
    let sent = drain(&mut flooding);
    assert_eq!(advertised(&sent), [(node(2), node(9)), (node(4), node(9))]);
    let version = flooding.lsdb().version(node(9)).unwrap();
    assert!(sent.contains(&(node(3), Message::Ack(vec![(node(9), version)]))));
}

#[test]
fn copies_that_cross_on_a_link_acknowledge_each_other() {
    let mut flooding = with_neighbours(&[2, 3]);
    let message = as_message(&lsa(9, 1, 1, &[]));
    assert_eq!(hear(&mut flooding, millis(1), node(3), &message, &mut holds), Ok(true));
    assert_eq!(advertised(&drain(&mut flooding)), [(node(2), node(9))]);
    // Neighbour 2 had it from elsewhere, and has sent it before ours came.
    assert_eq!(hear(&mut flooding, millis(2), node(2), &message, &mut holds), Ok(false));
    flooding.handle_timeout(millis(1500));
    let sent = drain(&mut flooding);
    assert!(!sent.iter().any(|(_, message)| matches!(message, Message::Ack(_))), "{sent:?}");
    assert_eq!(advertised(&sent), [], "nor is it repeated");
    // If ours was lost, neighbour 2 repeats its own: that is acknowledged.
    assert_eq!(hear(&mut flooding, millis(1600), node(2), &message, &mut holds), Ok(false));
    let version = flooding.lsdb().version(node(9)).unwrap();
    let sent = drain(&mut flooding);
    assert_eq!(sent, [(node(2), Message::Ack(vec![(node(9), version)]))]);
}

#[test]
fn what_comes_in_quick_succession_is_acknowledged_together() {
    let mut flooding = with_neighbours(&[2]);
    let acks = |flooding: &mut Flooding| -> Vec<usize> {
        let count = |(_, message)| match message {
            Message::Ack(entries) => Some(entries.len()),
            _ => None,
        };
        drain(flooding).into_iter().filter_map(count).collect()
    };
    for (ms, origin, sent) in [(1, 7, &[1][..]), (2, 8, &[]), (4, 9, &[])] {
        let message = as_message(&lsa(origin, 1, 1, &[]));
        assert_eq!(hear(&mut flooding, millis(ms), node(2), &message, &mut holds), Ok(true));
        assert_eq!(acks(&mut flooding), sent, "origin {origin}");
    }
    assert_eq!(flooding.poll_timeout(), Some(millis(6)));
    flooding.handle_timeout(millis(6));
    assert_eq!(acks(&mut flooding), [2]);
    assert_ne!(flooding.poll_timeout(), Some(millis(11)), "nothing waits any more");
}

#[test]
fn a_neighbour_that_says_it_has_a_version_is_not_sent_it() {
    let version_of = |lsa: &Lsa| {
        let mut lsdb = Lsdb::new();
        let _newest = lsdb.insert(lsa.clone());
        lsdb.version(lsa.origin).unwrap()
    };
    let (old, new) = (lsa(9, 1, 1, &[]), lsa(9, 1, 2, &[]));
    for (told, sent) in [(&old, vec![(node(2), node(9))]), (&new, vec![])] {
        let mut flooding = with_neighbours(&[2, 3]);
        let summary = Message::encode_summary(node(0), node(200), &[(node(9), version_of(told))]);
        hear(&mut flooding, millis(1), node(2), &summary, &mut holds).unwrap();
        drain(&mut flooding);
        let message = as_message(&new);
        assert_eq!(hear(&mut flooding, millis(2), node(3), &message, &mut holds), Ok(true));
        assert_eq!(advertised(&drain(&mut flooding)), sent);
    }
}

#[test]
fn it_is_repeated_every_second_until_acknowledged() {
    let mut flooding = with_neighbours(&[2, 3]);
    flooding.originate(millis(5), lsa(1, 1, 1, &[])).unwrap();
    assert_eq!(advertised(&drain(&mut flooding)).len(), 2);
    assert_eq!(flooding.poll_timeout(), Some(millis(1000)), "the unanswered digest");
    flooding.handle_timeout(millis(1004));
    assert_eq!(advertised(&drain(&mut flooding)), []);
    assert_eq!(flooding.poll_timeout(), Some(millis(1005)));
    flooding.handle_timeout(millis(1005));
    assert_eq!(advertised(&drain(&mut flooding)).len(), 2);

    let version = flooding.lsdb().version(node(1)).unwrap();
    let ack = Message::encode_ack(&[(node(1), version)]);
    assert_eq!(hear(&mut flooding, millis(1010), node(2), &ack, &mut holds), Ok(false));
    flooding.handle_timeout(millis(2005));
    assert_eq!(advertised(&drain(&mut flooding)), [(node(3), node(1))]);
}

#[test]
fn an_acknowledgement_of_an_older_version_settles_nothing() {
    let mut flooding = with_neighbours(&[2]);
    flooding.originate(millis(0), lsa(1, 1, 1, &[])).unwrap();
    let old = flooding.lsdb().version(node(1)).unwrap();
    flooding.originate(millis(1), lsa(1, 1, 2, &[])).unwrap();
    drain(&mut flooding);
    let ack = Message::encode_ack(&[(node(1), old)]);
    assert_eq!(hear(&mut flooding, millis(2), node(2), &ack, &mut holds), Ok(false));
    flooding.handle_timeout(millis(1001));
    assert_eq!(advertised(&drain(&mut flooding)), [(node(2), node(1))]);
}

#[test]
fn a_silent_neighbour_makes_nothing_grow() {
    let mut flooding = with_neighbours(&[2]);
    for sequence in 1..=1000 {
        flooding.originate(millis(sequence), lsa(1, 1, sequence, &[])).unwrap();
    }
    assert_eq!(advertised(&drain(&mut flooding)).len(), 1, "the newest alone");
    flooding.handle_timeout(millis(5000));
    let sent = drain(&mut flooding);
    assert_eq!(advertised(&sent).len(), 1);
    assert!(sent.iter().any(|(_, message)| matches!(message, Message::Lsa { version, .. }
        if version.sequence == 1000)));
}

#[test]
fn a_signature_is_checked_only_if_the_advertisement_is_newer() {
    let mut flooding = with_neighbours(&[2, 3]);
    let mut checks = 0;
    let mut verify = |lsa: &Lsa| {
        checks += 1;
        holds(lsa)
    };
    let (old, new) = (as_message(&lsa(9, 1, 1, &[])), as_message(&lsa(9, 1, 2, &[])));
    assert_eq!(hear(&mut flooding, millis(1), node(2), &new, &mut verify), Ok(true));
    assert_eq!(hear(&mut flooding, millis(2), node(2), &new, &mut verify), Ok(false));
    assert_eq!(hear(&mut flooding, millis(3), node(3), &new, &mut verify), Ok(false));
    drain(&mut flooding);
    assert_eq!(hear(&mut flooding, millis(4), node(3), &old, &mut verify), Ok(false));
    assert_eq!(checks, 1);
    assert_eq!(advertised(&drain(&mut flooding)), [(node(3), node(9))], "it is told the newer");
}

#[test]
fn a_forged_advertisement_changes_nothing() {
    let mut flooding = with_neighbours(&[2, 3]);
    let mut wrong_signature = lsa(9, 1, 1, &[]);
    wrong_signature.signature[0] ^= 1;
    let mut wrong_key = lsa(9, 1, 1, &[]);
    wrong_key.public_key = [8; 32];
    for forged in [wrong_signature, super::seal(wrong_key)] {
        assert_eq!(
            hear(&mut flooding, millis(1), node(2), &as_message(&forged), &mut holds),
            Err(RejectReason::Forged { origin: node(9) })
        );
    }
    assert_eq!((flooding.lsdb().len(), flooding.lsdb().digest()), (0, 0));
    assert_eq!(drain(&mut flooding), []);
}

#[test]
fn bad_messages_are_named() {
    let mut flooding = with_neighbours(&[2]);
    let mut handle =
        |from, message: &[u8]| hear(&mut flooding, millis(1), node(from), message, &mut holds);
    assert_eq!(handle(7, &[3]), Err(RejectReason::NotNeighbour { from: node(7) }));
    assert_eq!(handle(2, &[99, 1, 2]), Err(RejectReason::UnknownKind(99)));
    assert!(matches!(handle(2, &[]), Err(RejectReason::Malformed(_))));
    let huge = vec![1; FLOODING_MESSAGE_BYTES_MAX + 1];
    assert!(matches!(handle(2, &huge), Err(RejectReason::Malformed(_))));
}

#[test]
fn an_earlier_life_is_overtaken() {
    let mut flooding = with_neighbours(&[2]);
    assert_eq!(flooding.next_version(Incarnation(3)), (Incarnation(3), 1));
    flooding.originate(millis(0), lsa(1, 3, 1, &[])).unwrap();
    assert_eq!(flooding.next_version(Incarnation(3)), (Incarnation(3), 2));
    drain(&mut flooding);

    // An old word of this life or an earlier one is answered, and that is all.
    let old = as_message(&lsa(1, 2, 50, &[]));
    assert_eq!(hear(&mut flooding, millis(1), node(2), &old, &mut holds), Ok(false));
    assert!(!flooding.must_originate());

    // A forged one must not make it count.
    let mut forged = lsa(1, 8, 77, &[]);
    forged.signature[0] ^= 1;
    let forged = as_message(&forged);
    assert!(hear(&mut flooding, millis(2), node(2), &forged, &mut holds).is_err());
    assert!(!flooding.must_originate());

    let newer = as_message(&lsa(1, 5, 9, &[(4, 4)]));
    assert_eq!(hear(&mut flooding, millis(3), node(2), &newer, &mut holds), Ok(false));
    assert!(flooding.must_originate());
    assert_eq!(flooding.lsdb().get(node(1)).unwrap().sequence, 1, "it is not believed");
    assert_eq!(flooding.next_version(Incarnation(3)), (Incarnation(5), 10));
    assert_eq!(
        flooding.originate(millis(4), lsa(1, 3, 2, &[])),
        Err(OriginateError::NotNewer { incarnation: Incarnation(3), sequence: 2 })
    );
    assert!(flooding.must_originate());
    drain(&mut flooding);
    flooding.originate(millis(4), lsa(1, 5, 10, &[])).unwrap();
    assert!(!flooding.must_originate());
    assert_eq!(advertised(&drain(&mut flooding)), [(node(2), node(1))]);
    // The next life is above it of its own accord.
    assert_eq!(flooding.next_version(Incarnation(6)), (Incarnation(6), 1));
}

#[test]
fn the_same_version_with_other_content_is_decided_alike_everywhere() {
    let (one, other) = (lsa(9, 1, 1, &[(2, 5)]), lsa(9, 1, 1, &[(3, 5)]));
    let mut databases = [Lsdb::new(), Lsdb::new()];
    let order = [[&one, &other], [&other, &one]];
    for (database, order) in databases.iter_mut().zip(order) {
        for lsa in order {
            let _either = database.insert(lsa.clone());
        }
    }
    assert_eq!(databases[0].digest(), databases[1].digest());
    assert_eq!(databases[0].get(node(9)), databases[1].get(node(9)));

    // A node whose own word is out twice overtakes both.
    let mut flooding = with_neighbours(&[2]);
    flooding.originate(millis(0), lsa(1, 1, 1, &[(2, 5)])).unwrap();
    let twin = as_message(&lsa(1, 1, 1, &[(3, 5)]));
    hear(&mut flooding, millis(1), node(2), &twin, &mut holds).unwrap();
    if flooding.must_originate() {
        assert_eq!(flooding.next_version(Incarnation(1)), (Incarnation(1), 2));
    } else {
        assert_eq!(advertised(&drain(&mut flooding)), [(node(2), node(1))]);
    }
}

#[test]
fn only_own_advertisements_are_originated() {
    let mut flooding = with_neighbours(&[2]);
    assert_eq!(
        flooding.originate(millis(0), lsa(2, 1, 1, &[])),
        Err(OriginateError::OtherOrigin { origin: node(2) })
    );
    assert!(flooding.lsdb().is_empty());
}

#[test]
fn who_clears_its_database_speaks_on_behind_what_it_has_said() {
    let mut flooding = with_neighbours(&[2]);
    flooding.originate(millis(0), lsa(1, 1, 7, &[(2, 1)])).unwrap();
    let mut cleared = flooding.cleared();
    assert!(cleared.lsdb().is_empty() && !cleared.must_originate());
    assert_eq!(cleared.next_version(Incarnation(1)), (Incarnation(1), 8));
    // What its neighbours still have of it is no other process's word.
    cleared.handle_neighbour_up(millis(1), node(2), true);
    let old = as_message(&lsa(1, 1, 7, &[(2, 1)]));
    let _own = hear(&mut cleared, millis(1), node(2), &old, &mut |_| Judgement::Accept);
    assert!(!cleared.must_originate());
    cleared.originate(millis(2), lsa(1, 1, 8, &[(2, 1)])).unwrap();
    let _stale = hear(&mut cleared, millis(3), node(2), &old, &mut |_| Judgement::Accept);
    assert!(!cleared.must_originate());
    assert_eq!(cleared.overtaken(), 0);
}

#[test]
fn a_full_database_refuses_new_origins_and_renews_known_ones() {
    let numbered = |number: u32, sequence| {
        let mut lsa = lsa(9, 1, sequence, &[]);
        let mut id = [7; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        lsa.origin = NodeId::from_bytes(id);
        lsa
    };
    let mut flooding = with_neighbours(&[2]);
    let mut handle = |lsa: &Lsa| {
        hear(&mut flooding, millis(1), node(2), &as_message(lsa), &mut |_| Judgement::Accept)
    };
    for number in 0..u32::try_from(ORIGINS_MAX).unwrap() {
        assert_eq!(handle(&numbered(number, 1)), Ok(true));
    }
    let one_more = numbered(1 << 20, 1);
    assert_eq!(handle(&one_more), Err(RejectReason::Full { origin: one_more.origin }));
    assert_eq!(handle(&numbered(5, 2)), Ok(true));
    assert_eq!(flooding.lsdb().len(), ORIGINS_MAX);

    // Large summaries, acknowledgements and requests come in several messages, none of which keeps
    // others waiting for long.
    let unknown = |number: u32| {
        let mut id = [9; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        (NodeId::from_bytes(id), flooding.lsdb().version(numbered(5, 2).origin).unwrap())
    };
    let unknown: Vec<_> = (0..4000).map(unknown).collect();
    let summary = Message::encode_summary(node(0), NodeId::from_bytes([255; 16]), &unknown);
    hear(&mut flooding, millis(2), node(2), &summary, &mut holds).unwrap();
    let (mut listed, mut acknowledged, mut requested, mut messages) = (0, 0, 0, Vec::new());
    hear(&mut flooding, millis(2), node(2), &Message::encode_digest(1), &mut holds).unwrap();
    let mut next = Some(NodeId::from_bytes([0; 16]));
    for ms in [100, 110] {
        flooding.handle_timeout(millis(ms));
        while let Some((_, bytes)) = flooding.poll_transmit() {
            assert!(bytes.len() <= 16 << 10 || bytes[0] == 9, "{} bytes", bytes.len());
            messages.push(bytes);
        }
    }
    for message in messages.iter().flat_map(|bytes| super::decoded(bytes)) {
        match message {
            Message::Summary { first, last, entries } => {
                assert!(next.is_some_and(|next| next == first), "no gap between two summaries");
                let last = u128::from_be_bytes(*last.as_bytes());
                next = last.checked_add(1).map(|next| NodeId::from_bytes(next.to_be_bytes()));
                listed += entries.len();
            }
            Message::Ack(entries) => acknowledged += entries.len(),
            Message::Request(origins) => requested += origins.len(),
            _ => {}
        }
    }
    assert_eq!((listed, next), (ORIGINS_MAX, None));
    assert_eq!((acknowledged, requested), (ORIGINS_MAX, 4000));
}

#[test]
fn what_is_on_its_way_to_a_neighbour_is_bounded() {
    let mut flooding = with_neighbours(&[2, 3]);
    let links: Vec<(u8, u32)> = (10..250).map(|neighbour| (neighbour, 1)).collect();
    for origin in 10..250 {
        let message = as_message(&lsa(origin, 1, 1, &links));
        hear(&mut flooding, millis(1), node(2), &message, &mut holds).unwrap();
    }
    let sent = drain(&mut flooding);
    let first = advertised(&sent).len();
    let bytes = 9000;
    assert!((28..=32).contains(&first), "{first} of about {bytes} bytes");
    // Acknowledged ones make room for the next.
    let acks: Vec<_> = sent
        .iter()
        .filter_map(|(_, message)| match message {
            Message::Lsa { lsa, version, .. } => Some((lsa.origin, *version)),
            _ => None,
        })
        .collect();
    let ack = Message::encode_ack(&acks);
    hear(&mut flooding, millis(2), node(3), &ack, &mut holds).unwrap();
    assert_eq!(advertised(&drain(&mut flooding)).len(), first);
}

#[test]
fn digests_are_exchanged_at_link_up_and_every_ten_seconds() {
    let mut flooding = Flooding::new(node(1));
    flooding.handle_neighbour_up(millis(0), node(2), true);
    assert_eq!(drain(&mut flooding), [(node(2), Message::Digest(0))]);
    // Unanswered: it may be lost.
    assert_eq!(flooding.poll_timeout(), Some(millis(1000)));
    flooding.handle_timeout(millis(1000));
    assert_eq!(drain(&mut flooding), [(node(2), Message::Digest(0))]);
    let digest = Message::encode_digest(0);
    hear(&mut flooding, millis(1100), node(2), &digest, &mut holds).unwrap();
    flooding.handle_timeout(millis(2000));
    assert_eq!(drain(&mut flooding), [(node(2), Message::Digest(0))]);
    assert_eq!(flooding.poll_timeout(), Some(millis(12_000)));
    flooding.handle_neighbour_down(millis(3000), node(2));
    assert_eq!((flooding.poll_timeout(), drain(&mut flooding)), (None, vec![]));
}

#[test]
fn a_neighbour_that_repeats_its_digest_gets_one_summary_a_second() {
    let mut flooding = with_neighbours(&[2]);
    let summaries = |flooding: &mut Flooding| {
        let sent = drain(flooding);
        sent.iter().filter(|(_, message)| matches!(message, Message::Summary { .. })).count()
    };
    let digest = Message::encode_digest(77);
    for time in [1, 2, 3, 900] {
        hear(&mut flooding, millis(time), node(2), &digest, &mut holds).unwrap();
        assert_eq!(summaries(&mut flooding), usize::from(time == 1));
    }
    hear(&mut flooding, millis(1001), node(2), &digest, &mut holds).unwrap();
    assert_eq!(summaries(&mut flooding), 1);
}

#[test]
fn a_machine_with_a_database_goes_on_from_its_last_word() {
    let mut lsdb = Lsdb::new();
    for origin in [1, 2, 9] {
        let _newest = lsdb.insert(lsa(origin, 1, 4, &[]));
    }
    let mut flooding = Flooding::with_lsdb(node(1), lsdb.clone());
    assert_eq!(flooding.next_version(Incarnation(1)), (Incarnation(1), 5));
    assert_eq!(flooding.originate(millis(1), lsa(1, 1, 5, &[(2, 1)])), Ok(()));
    assert_eq!(flooding.lsdb().version(node(1)).unwrap().sequence, 5);
    assert_eq!(lsdb.version(node(1)).unwrap().sequence, 4, "the other's is its own");
    assert_ne!(flooding.lsdb().digest(), lsdb.digest());
}

#[test]
fn equal_advertisements_are_shared_and_others_are_not() {
    let with = |sequence| {
        let mut lsdb = Lsdb::new();
        let _newest = lsdb.insert(lsa(9, 1, sequence, &[]));
        Flooding::with_lsdb(node(1), lsdb)
    };
    let (one, mut same, mut other) = (with(1), with(1), with(2));
    let stored = one.lsdb().stored(node(9)).unwrap();
    let place = |flooding: &Flooding| std::ptr::from_ref(flooding.lsdb().get(node(9)).unwrap());
    assert_ne!(place(&one), place(&same));
    assert!(same.adopt(&stored));
    assert_eq!(place(&one), place(&same));
    assert!(!other.adopt(&stored), "an older one does not come back");
    assert_eq!(other.lsdb().version(node(9)).unwrap().sequence, 2);
    assert!(!Flooding::new(node(1)).adopt(&stored));
}
