//! A neighbour that floods, withholds or lies about time harms nobody else's link state.

use std::time::Duration;

use hawser_wire::{AdjacencyIndex, MonoTime, NodeId};
use proptest::prelude::*;

use super::{check_all, drain, holds, lsa, millis, node, seal};
use crate::message::Message;
use crate::{
    Adjacency, AdjacencyMetrics, CertificateHash, Flooding, Judgement, Lsa, LsaVersion,
    RejectReason,
};

const HOUR: Duration = Duration::from_secs(3600);
/// Of a certificate that nobody has.
const UNKNOWN: u8 = 0xee;

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

/// Of an origin that is none, with a certificate that nobody has.
fn forged(number: u32) -> Vec<u8> {
    let mut forged = large();
    let mut id = [0x77; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    forged.origin = NodeId::from_bytes(id);
    forged.certificate = CertificateHash([UNKNOWN; 32]);
    forged.certificate.0[..4].copy_from_slice(&number.to_be_bytes());
    as_message(HOUR, &forged)
}

/// What node 9 says, 37 KB long.
fn large() -> Lsa {
    let mut large = lsa(9, 1, 1, &[]);
    let link = |number: u32| {
        let mut id = [0xaa; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let metrics = AdjacencyMetrics::default();
        Adjacency { neighbour: NodeId::from_bytes(id), index: AdjacencyIndex(number), metrics }
    };
    large.adjacencies = (0..1024).map(link).collect();
    seal(large)
}

fn judge(lsa: &Lsa) -> Judgement {
    if lsa.certificate.0[31] == UNKNOWN { Judgement::NeedsCertificate } else { holds(lsa) }
}

#[test]
fn a_neighbour_that_fills_its_share_takes_nothing_of_anothers() {
    let mut flooding = with_neighbours(&[2, 3]);
    let mut busy = 0;
    for number in 0..600 {
        match flooding.handle_message(millis(1), node(2), &forged(number)) {
            Ok(()) => {}
            Err(RejectReason::Busy { .. }) => busy += 1,
            Err(reason) => panic!("{reason}"),
        }
        assert_eq!(check_all(&mut flooding, millis(1), &mut judge), Ok(false));
    }
    assert!(busy > 0, "the flood meets a bound");
    assert_eq!(count(&flooding, "busy"), busy);
    let good = as_message(HOUR, &large());
    assert_eq!(flooding.handle_message(millis(2), node(3), &good), Ok(()));
    assert_eq!(check_all(&mut flooding, millis(2), &mut judge), Ok(true));
    assert_eq!(flooding.lsdb().len(), 1);
}

#[test]
fn what_is_seen_ahead_is_what_is_handed_out_next() {
    let mut flooding = with_neighbours(&[2, 3]);
    let (first, second) = (lsa(9, 1, 1, &[]), lsa(9, 1, 2, &[]));
    let (both, other) = (lsa(10, 1, 1, &[]), lsa(11, 1, 1, &[]));
    let said = [(2, &second), (2, &first), (2, &both), (3, &other), (3, &both)];
    for (from, said) in said {
        let message = as_message(HOUR, said);
        flooding.handle_message(millis(1), node(from), &message).unwrap();
    }
    // Neighbours take turns, a copy comes with the first, and of each origin the first alone counts.
    let ahead = |flooding: &Flooding, max| -> Vec<Lsa> {
        flooding.upcoming_checks(max).into_iter().cloned().collect()
    };
    assert_eq!(ahead(&flooding, 0), []);
    assert_eq!(ahead(&flooding, 3), [second.clone(), other.clone()]);
    assert_eq!(ahead(&flooding, 4), [second.clone(), other.clone(), both.clone()]);
    assert_eq!(flooding.poll_check(), Some(&second));
    assert_eq!(ahead(&flooding, 4), [second, other.clone(), both.clone()]);
    assert_eq!(flooding.handle_judgement(millis(1), Judgement::Accept), Ok(true));
    assert_eq!(ahead(&flooding, 2), [other, both], "the older one is wanted no more");
    assert_eq!(check_all(&mut flooding, millis(1), &mut judge), Ok(true));
    assert_eq!(ahead(&flooding, 4), []);
}

#[test]
fn what_a_forger_sends_is_not_seen_ahead() {
    let mut flooding = with_neighbours(&[2]);
    for number in 0..17 {
        let forged = Lsa { signature: [1; 64], ..lsa(100 + number, 1, 1, &[]) };
        flooding.handle_message(millis(1), node(2), &as_message(HOUR, &forged)).unwrap();
    }
    assert_eq!(flooding.upcoming_checks(32).len(), 17);
    while count(&flooding, "forged") < 16 {
        assert!(flooding.poll_check().is_some());
        flooding.handle_judgement(millis(1), Judgement::Forged).unwrap_err();
    }
    assert!(flooding.upcoming_checks(32).is_empty());
    assert_eq!(flooding.poll_check(), None);
}

#[test]
fn what_a_neighbour_sent_that_is_gone_is_checked_and_not_seen_ahead() {
    let mut flooding = with_neighbours(&[2, 3]);
    let (lone, both) = (lsa(100, 1, 1, &[]), lsa(101, 1, 1, &[]));
    for (from, said) in [(2, &lone), (2, &both), (3, &both)] {
        flooding.handle_message(millis(1), node(from), &as_message(HOUR, said)).unwrap();
    }
    flooding.handle_neighbour_down(millis(1), node(2));
    assert_eq!(flooding.upcoming_checks(4), [&both], "nobody would be found out for the other");
    let mut checked = Vec::new();
    while let Some(said) = flooding.poll_check().cloned() {
        checked.push(said);
        assert_eq!(flooding.handle_judgement(millis(1), Judgement::Accept), Ok(true));
    }
    checked.sort_by_key(|said| said.origin);
    assert_eq!(checked, [lone, both]);
}

/// Lifetimes of what is said of node 9 to `to`, in seconds.
fn lifetimes(sent: &[(NodeId, Message)], to: u8) -> Vec<u64> {
    let lifetime = |(at, message): &(NodeId, Message)| match message {
        Message::Lsa { lifetime, lsa, .. } if lsa.origin == node(9) => Some((*at, *lifetime)),
        Message::Delta { lifetime, delta } if delta.origin == node(9) => Some((*at, *lifetime)),
        _ => None,
    };
    let lifetimes = sent.iter().filter_map(lifetime).filter(|(at, _)| *at == node(to));
    lifetimes.map(|(_, lifetime)| lifetime.as_secs()).collect()
}

#[test]
fn a_short_life_is_made_longer_by_another_copy_and_passed_on() {
    let mut flooding = with_neighbours(&[2, 3, 4]);
    let said = lsa(9, 1, 1, &[(3, 1)]);
    let of = |seconds| as_message(Duration::from_secs(seconds), &said);
    flooding.handle_message(millis(10), node(2), &of(2)).unwrap();
    assert_eq!(check_all(&mut flooding, millis(10), &mut judge), Ok(true));
    let sent = drain(&mut flooding);
    assert_eq!((lifetimes(&sent, 3), lifetimes(&sent, 4)), (vec![2], vec![2]));
    flooding.handle_message(millis(20), node(3), &of(3000)).unwrap();
    let sent = drain(&mut flooding);
    assert_eq!([2, 3, 4].map(|to| lifetimes(&sent, to)), [vec![3000], vec![], vec![3000]]);
    assert!(!flooding.handle_timeout(millis(3_000_019)), "it has not ended");
    assert!(flooding.handle_timeout(millis(3_000_020)));
}

#[test]
fn who_says_too_little_is_told_the_longer_life() {
    let mut flooding = with_neighbours(&[2, 3]);
    let said = lsa(9, 1, 1, &[(3, 1)]);
    let of = |seconds| as_message(Duration::from_secs(seconds), &said);
    // Both before it is checked.
    flooding.handle_message(millis(10), node(2), &of(2)).unwrap();
    flooding.handle_message(millis(10), node(3), &of(3000)).unwrap();
    assert_eq!(check_all(&mut flooding, millis(10), &mut judge), Ok(true));
    let sent = drain(&mut flooding);
    assert_eq!((lifetimes(&sent, 2), lifetimes(&sent, 3)), (vec![3000], vec![]));
    // And whenever it says so again.
    flooding.handle_message(millis(20), node(2), &of(2)).unwrap();
    let sent = drain(&mut flooding);
    assert_eq!((lifetimes(&sent, 2), lifetimes(&sent, 3)), (vec![2999], vec![]));
}

/// What was sent to `to`, by kind.
fn kinds(sent: &[(NodeId, Message)], to: u8) -> Vec<&'static str> {
    let kind = |(_, message): &(NodeId, Message)| match message {
        Message::Ack(_) => "ack",
        Message::Request(_) => "request",
        Message::Lsa { .. } | Message::Delta { .. } => "advertisement",
        _ => "other",
    };
    sent.iter().filter(|(at, _)| *at == node(to)).map(kind).collect()
}

fn version_of(lsa: &Lsa) -> LsaVersion {
    let mut encoding = Vec::new();
    lsa.encode(&mut encoding);
    lsa.version_of(&encoding)
}

#[test]
fn what_has_aged_out_is_not_revived() {
    let mut flooding = with_neighbours(&[2, 3]);
    let (old, last) = (lsa(9, 4, 1, &[]), lsa(9, 4, 7, &[]));
    flooding.handle_message(millis(10), node(2), &as_message(HOUR, &last)).unwrap();
    assert_eq!(check_all(&mut flooding, millis(10), &mut judge), Ok(true));
    assert!(flooding.handle_timeout(millis(3_600_010)));
    drain(&mut flooding);
    // Again and again, whole, by a summary, or an older one: nobody is told, nothing is asked for.
    let end = NodeId::from_bytes([255; 16]);
    for (nth, lsa) in [&last, &old, &last].into_iter().enumerate() {
        let ms = 3_600_020 + u64::try_from(nth).unwrap() * 1_800_000;
        flooding.handle_message(millis(ms), node(2), &as_message(HOUR, lsa)).unwrap();
        assert_eq!(check_all(&mut flooding, millis(ms), &mut |_| panic!("looked at")), Ok(false));
        let sent = drain(&mut flooding);
        assert_eq!(
            kinds(&sent, 2).iter().filter(|kind| **kind != "other").collect::<Vec<_>>(),
            [&"ack"]
        );
        let listed = [(node(9), version_of(lsa))];
        let summary = Message::encode_summary(node(0), end, &listed);
        flooding.handle_message(millis(ms), node(2), &summary).unwrap();
        let sent = drain(&mut flooding);
        assert!(kinds(&sent, 2).iter().chain(&kinds(&sent, 3)).all(|kind| *kind == "other"));
        assert_eq!(count(&flooding, "stale"), u64::try_from(nth).unwrap() + 1);
    }
    assert!(flooding.lsdb().is_empty());
    assert!(flooding.settled().any(|neighbour| neighbour == node(2)), "there is no more to come");
    // It comes back, with another life; and is believed as before when it says more.
    for newer in [lsa(9, 5, 1, &[]), lsa(9, 5, 2, &[])] {
        let listed = [(node(9), version_of(&newer))];
        let summary = Message::encode_summary(node(0), end, &listed);
        flooding.handle_message(millis(9_000_000), node(3), &summary).unwrap();
        assert!(kinds(&drain(&mut flooding), 3).contains(&"request"));
        flooding.handle_message(millis(9_000_000), node(3), &as_message(HOUR, &newer)).unwrap();
        assert_eq!(check_all(&mut flooding, millis(9_000_000), &mut judge), Ok(true));
        assert_eq!(flooding.lsdb().get(node(9)), Some(&newer));
    }
}

/// A neighbour that says too little does not make others' copies look like replays.
#[test]
fn what_was_made_to_age_out_too_soon_comes_back_within_its_hour() {
    let mut flooding = with_neighbours(&[2, 3]);
    let said = lsa(9, 1, 1, &[]);
    let of = |seconds| as_message(Duration::from_secs(seconds), &said);
    flooding.handle_message(millis(0), node(2), &of(2)).unwrap();
    assert_eq!(check_all(&mut flooding, millis(0), &mut judge), Ok(true));
    assert!(flooding.handle_timeout(millis(2_000)));
    let listed = [(node(9), version_of(&said))];
    let summary = Message::encode_summary(node(0), NodeId::from_bytes([255; 16]), &listed);
    flooding.handle_message(millis(5_000), node(3), &summary).unwrap();
    assert!(kinds(&drain(&mut flooding), 3).contains(&"request"));
    flooding.handle_message(millis(5_000), node(3), &of(3600)).unwrap();
    assert_eq!(check_all(&mut flooding, millis(5_000), &mut judge), Ok(true));
    assert!(!flooding.handle_timeout(millis(3_599_999)));
    assert!(
        flooding.handle_timeout(millis(3_600_000)),
        "an hour from the first copy, and no longer"
    );
    flooding.handle_message(millis(3_600_001), node(3), &of(3600)).unwrap();
    assert_eq!(check_all(&mut flooding, millis(3_600_001), &mut judge), Ok(false));
}

proptest! {
    /// Whatever copies come and when: nothing lives longer than an hour from when it was first seen,
    /// nor than the longest of its copies; and each that adds a minute or more within the hour counts.
    #[test]
    fn copies_make_a_life_longer_up_to_an_hour_from_the_first(
        copies in proptest::collection::vec((0_u64..600, 1_u64..=3600, 2_u8..=4), 1..30),
    ) {
        let mut flooding = with_neighbours(&[2, 3, 4]);
        let said = lsa(9, 1, 1, &[]);
        let (mut now, mut first, mut expected) = (0, None, 0);
        for (pause, seconds, from) in copies {
            now += pause;
            flooding.handle_timeout(millis(now * 1000));
            let message = as_message(Duration::from_secs(seconds), &said);
            flooding.handle_message(millis(now * 1000), node(from), &message).unwrap();
            check_all(&mut flooding, millis(now * 1000), &mut judge).unwrap();
            if first.is_none() {
                (first, expected) = (Some(now), now + seconds);
            } else if expected <= now {
                // It has ended: another copy with more time brings it back within the hour.
                expected = expected.max((now + seconds).min(first.unwrap() + 3600));
            } else {
                let end = (now + seconds).min(first.unwrap() + 3600);
                expected = if end >= expected + 60 { end } else { expected };
            }
            prop_assert_eq!(flooding.lsdb().get(node(9)).is_some(), expected > now);
            let outgoing = flooding.lsdb().outgoing(millis(now * 1000), node(9));
            let left = outgoing.map_or(0, |outgoing| outgoing.lifetime.as_secs());
            prop_assert_eq!(left, expected.saturating_sub(now));
            prop_assert!(expected <= first.unwrap() + 3600);
        }
        prop_assert_eq!(flooding.handle_timeout(millis(expected.max(now) * 1000)), expected > now);
        prop_assert!(flooding.lsdb().is_empty());
    }
}
