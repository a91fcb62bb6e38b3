//! Small changes travel as deltas to neighbours that have the version before.

use hawser_wire::{MonoTime, NodeId};

use super::{check_all, hear, holds, lsa, millis, node};
use crate::message::Message;
use crate::{Flooding, RejectReason};

fn links(count: u8, changed: u32) -> Vec<(u8, u32)> {
    (0..count).map(|at| (100 + at, if at == 0 { changed } else { 5 })).collect()
}

fn transmit(flooding: &mut Flooding) -> Vec<(NodeId, Vec<u8>)> {
    std::iter::from_fn(|| flooding.poll_transmit()).collect()
}

/// Nodes 1 and 2, each with the first word of 1, and nothing left to say.
fn pair(count: u8) -> (Flooding, Flooding) {
    let (mut one, mut two) = (Flooding::new(node(1)), Flooding::new(node(2)));
    one.handle_neighbour_up(MonoTime::ZERO, node(2), true);
    two.handle_neighbour_up(MonoTime::ZERO, node(1), true);
    one.originate(millis(1), lsa(1, 1, 1, &links(count, 5))).unwrap();
    exchange(&mut one, &mut two, millis(2));
    let digest = Message::encode_digest(one.lsdb().digest());
    hear(&mut one, millis(3), node(2), &digest, &mut holds).unwrap();
    hear(&mut two, millis(3), node(1), &digest, &mut holds).unwrap();
    assert_eq!((transmit(&mut one), transmit(&mut two)), (vec![], vec![]));
    (one, two)
}

/// Both say all that they have to say; answers with what the first said.
fn exchange(one: &mut Flooding, two: &mut Flooding, now: MonoTime) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    loop {
        let (from_one, from_two) = (transmit(one), transmit(two));
        if from_one.is_empty() && from_two.is_empty() {
            return said;
        }
        for (_, message) in from_one {
            let _rejected = hear(two, now, node(1), &message, &mut holds);
            said.push(message);
        }
        for (_, message) in from_two {
            hear(one, now, node(2), &message, &mut holds).unwrap();
        }
    }
}

#[test]
fn a_changed_metric_goes_as_a_delta_and_is_checked_as_a_whole() {
    let (mut one, mut two) = pair(100);
    let changed = lsa(1, 1, 2, &links(100, 900));
    one.originate(millis(10), changed.clone()).unwrap();
    let said = exchange(&mut one, &mut two, millis(11));
    assert!(matches!(Message::decode(&said[0]), Ok(Message::Delta { .. })), "{said:?}");
    assert_eq!(said.len(), 1);
    assert_eq!(two.lsdb().get(node(1)), Some(&changed));
    assert_eq!(two.lsdb().digest(), one.lsdb().digest());
    let mut whole = Vec::new();
    changed.encode(&mut whole);
    assert_eq!((said[0].len(), whole.len()), (172, 3773));
}

#[test]
fn a_change_of_most_links_and_a_new_address_go_as_a_whole() {
    let (mut one, mut two) = pair(3);
    one.originate(millis(10), lsa(1, 1, 2, &[(100, 1), (101, 2), (102, 3)])).unwrap();
    let said = exchange(&mut one, &mut two, millis(11));
    assert!(matches!(Message::decode(&said[0]), Ok(Message::Lsa { .. })));
    let (mut one, mut two) = pair(100);
    let mut moved = lsa(1, 1, 2, &links(100, 5));
    moved.address = "elsewhere:1".to_owned();
    one.originate(millis(10), super::seal(moved)).unwrap();
    let said = exchange(&mut one, &mut two, millis(11));
    assert!(matches!(Message::decode(&said[0]), Ok(Message::Lsa { .. })));
    assert_eq!(two.lsdb().digest(), one.lsdb().digest());
}

#[test]
fn who_lacks_the_version_before_gets_the_whole() {
    let (mut one, mut two) = pair(100);
    // The neighbour missed one: it begins anew, and nobody noticed.
    two = Flooding::new(two.node);
    two.handle_neighbour_up(millis(5), node(1), true);
    transmit(&mut two);
    one.originate(millis(10), lsa(1, 1, 2, &links(100, 900))).unwrap();
    let said = exchange(&mut one, &mut two, millis(11));
    let kinds: Vec<u8> = said.iter().map(|message| message[0]).collect();
    assert_eq!(kinds, [8, 1], "a delta, then the whole");
    assert_eq!(two.lsdb().digest(), one.lsdb().digest());
}

#[test]
fn two_changes_before_the_first_is_acknowledged_go_as_a_whole() {
    let (mut one, mut two) = pair(100);
    one.originate(millis(10), lsa(1, 1, 2, &links(100, 900))).unwrap();
    let _lost = transmit(&mut one);
    one.originate(millis(11), lsa(1, 1, 3, &links(100, 800))).unwrap();
    let said = exchange(&mut one, &mut two, millis(12));
    assert_eq!(said[0][0], 1);
    // And so does what was lost.
    one.originate(millis(20), lsa(1, 1, 4, &links(100, 700))).unwrap();
    let lost = transmit(&mut one);
    assert_eq!(lost[0].1[0], 8);
    one.handle_timeout(millis(1020));
    let said = exchange(&mut one, &mut two, millis(1021));
    assert_eq!(
        said.iter().map(|message| message[0]).filter(|kind| *kind != 3).collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(two.lsdb().digest(), one.lsdb().digest());
}

#[test]
fn a_delta_that_was_touched_does_not_fit_or_is_forged() {
    let (mut one, two) = pair(100);
    one.originate(millis(10), lsa(1, 1, 2, &links(100, 900))).unwrap();
    let message = transmit(&mut one).remove(0).1;
    let digest = two.lsdb().digest();
    let mut touched = message.clone();
    let latency_at = message.len() - 64 - 16;
    touched[latency_at] ^= 1;
    let mut hearer = pair(100).1;
    assert_eq!(
        hear(&mut hearer, millis(11), node(1), &touched, &mut holds),
        Err(RejectReason::DeltaMismatch { origin: node(1) })
    );
    assert!(check_all(&mut hearer, millis(11), &mut holds).is_ok());
    assert_eq!(hearer.lsdb().digest(), digest);
    assert!(transmit(&mut hearer).iter().any(|(_, message)| message[0] == 5), "it asks again");
    assert_eq!(hear(&mut hearer, millis(12), node(1), &message, &mut holds), Ok(true));
    assert_eq!(hearer.lsdb().digest(), one.lsdb().digest());
}
