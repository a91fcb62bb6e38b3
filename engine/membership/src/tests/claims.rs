//! What is believed does not depend on the order in which it is heard.

use hawser_wire::{Incarnation, MonoTime};
use proptest::prelude::*;

use super::{claim, millis, node, suspect, version};
use crate::{Claim, ClaimState, Config, Liveness, Membership, Message, MessageBody, Version};

fn hear(claims: &[Claim]) -> Vec<Option<(Liveness, Version)>> {
    let now = MonoTime::ZERO;
    let mut machine = Membership::new(now, node(0), Incarnation(1), Config::default(), 1);
    for number in 1..6 {
        machine.admit(now, node(number), Incarnation(1)).unwrap();
    }
    for &claim in claims {
        let (sender, body) = (version(1, 0), MessageBody::Gossip);
        let bytes = Message { sender, round: 0, body, claims: vec![claim] }.encode();
        machine.handle_message(now, node(5), &bytes).unwrap();
    }
    (1..5).map(|number| machine.member(node(number))).collect()
}

fn any_claim() -> impl Strategy<Value = Claim> {
    (1..5_u16, 1..3_u64, 0..3_u64, 0..4_u8, prop::collection::vec(1..6_u16, 1..4)).prop_map(
        |(subject, incarnation, refutation, state, mut by)| {
            by.retain(|by| *by != subject);
            by.push(5);
            let state = match state {
                0 => ClaimState::Alive,
                1 => suspect(&by),
                2 => ClaimState::Dead,
                _ => ClaimState::Left,
            };
            claim(subject, version(incarnation, refutation), state)
        },
    )
}

proptest! {
    #[test]
    fn order_and_repetition_change_nothing(
        (claims, shuffled) in prop::collection::vec(any_claim(), 1..30)
            .prop_flat_map(|claims| (Just(claims.clone()), Just(claims).prop_shuffle())),
    ) {
        let heard = hear(&claims);
        prop_assert_eq!(&hear(&shuffled), &heard);
        prop_assert_eq!(&hear(&[claims, shuffled].concat()), &heard);
    }
}

/// What node 0 thinks of node 1 after these.
fn check(claims: &[(u64, u64, ClaimState)], liveness: Liveness, expected: Version) {
    let claims: Vec<_> =
        claims.iter().map(|&(i, r, state)| claim(1, version(i, r), state)).collect();
    assert_eq!(hear(&claims)[0], Some((liveness, expected)), "{claims:?}");
}

#[test]
fn the_newer_claim_counts_and_then_the_worse() {
    use ClaimState::{Alive, Dead, Left};
    let suspected = suspect(&[2]);
    check(&[], Liveness::Alive, version(1, 0));
    check(&[(1, 0, suspected), (1, 0, Alive)], Liveness::Suspect, version(1, 0));
    check(&[(1, 0, suspected), (1, 1, Alive)], Liveness::Alive, version(1, 1));
    check(&[(1, 1, Alive), (1, 0, suspected)], Liveness::Alive, version(1, 1));
    check(&[(1, 3, suspected)], Liveness::Suspect, version(1, 3));
    check(&[(1, 0, Dead), (1, 0, suspected), (1, 0, Alive)], Liveness::Dead, version(1, 0));
    check(&[(1, 0, Dead), (1, 1, Alive)], Liveness::Alive, version(1, 1));
    check(&[(1, 7, Dead), (2, 0, Alive)], Liveness::Alive, version(2, 0));
    check(&[(2, 0, Alive), (1, 7, Dead)], Liveness::Alive, version(2, 0));
    check(&[(1, 0, Left), (1, 0, Dead)], Liveness::Left, version(1, 0));
}

/// When node 0 declares node 1 dead, in milliseconds, if these have suspected it by then.
fn dies_after(by: &[u16]) -> u64 {
    let config = Config::default();
    let mut machine = Membership::new(MonoTime::ZERO, node(0), Incarnation(1), config, 1);
    for number in 1..6 {
        machine.admit(MonoTime::ZERO, node(number), Incarnation(1)).unwrap();
    }
    let claims = vec![claim(1, version(1, 0), suspect(by))];
    let message = Message { sender: version(1, 0), round: 0, body: MessageBody::Gossip, claims };
    machine.handle_message(MonoTime::ZERO, node(2), &message.encode()).unwrap();
    // Nobody answers, so that it would accuse the others too.
    for ms in 1..20_000 {
        let now = millis(ms);
        if machine.poll_timeout().is_some_and(|due| due <= now) {
            machine.handle_timeout(now);
        }
        if machine.member(node(1)).unwrap().0 == Liveness::Dead {
            return ms;
        }
    }
    panic!("never");
}

#[test]
fn a_suspicion_that_others_confirm_is_short() {
    let alone = dies_after(&[2]);
    let confirmed = dies_after(&[2, 3, 4, 5]);
    assert!((999..=1_001).contains(&confirmed), "{confirmed} ms");
    assert!(alone > 2_000, "{alone} ms");
}

/// Node 0 among `count` others, that has heard of everything and tells nothing any more.
fn at_rest(count: u16) -> (Membership, MonoTime) {
    let mut machine =
        Membership::new(MonoTime::ZERO, node(0), Incarnation(1), Config::default(), 1);
    for number in 1..=count {
        machine.admit(MonoTime::ZERO, node(number), Incarnation(1)).unwrap();
    }
    (machine, MonoTime::ZERO)
}

fn tell(machine: &mut Membership, now: MonoTime, from: u16, body: MessageBody, claims: Vec<Claim>) {
    let message = Message { sender: version(1, 0), round: 0, body, claims };
    machine.handle_message(now, node(from), &message.encode()).unwrap();
}

/// When everything is compared with another member's first, until `end`.
fn first_sync(machine: &mut Membership, end: MonoTime) -> Option<MonoTime> {
    let mut now = MonoTime::ZERO;
    loop {
        while let Some((_, bytes)) = machine.poll_transmit() {
            if Message::decode(&bytes).unwrap().body == MessageBody::SyncRequest {
                return Some(now);
            }
        }
        now = machine.poll_timeout().filter(|due| *due <= end)?;
        machine.handle_timeout(now);
    }
}

#[test]
fn who_suspects_the_dead_hears_that_they_are_dead() {
    let (mut machine, now) = at_rest(3);
    let dead = claim(1, version(1, 0), ClaimState::Dead);
    // As old news: it is known, and is not being spread.
    tell(&mut machine, now, 2, MessageBody::Sync, vec![dead]);
    while machine.poll_transmit().is_some() {}
    let suspicion = vec![claim(1, version(1, 0), suspect(&[3]))];
    tell(&mut machine, now, 3, MessageBody::Gossip, suspicion);
    let (to, bytes) = machine.poll_transmit().expect("an answer");
    assert_eq!((to, Message::decode(&bytes).unwrap().claims), (node(3), vec![dead]));
    assert_eq!(machine.poll_transmit(), None);
    // Who says the same needs no answer.
    tell(&mut machine, now, 3, MessageBody::Gossip, vec![dead]);
    assert_eq!(machine.poll_transmit(), None);
}

#[test]
fn much_news_is_followed_by_a_comparison_of_everything() {
    let sync_after = |deaths: u16| {
        let (mut machine, now) = at_rest(200);
        assert!(first_sync(&mut machine, millis(200)).is_some(), "one at the start");
        tell(&mut machine, millis(200), 200, MessageBody::Sync, Vec::new());
        while first_sync(&mut machine, millis(2_000)).is_some() {}
        let dead = |number| claim(number, version(1, 0), ClaimState::Dead);
        let news = (1..=deaths).map(dead).collect();
        tell(&mut machine, now.max(millis(2_000)), 200, MessageBody::Gossip, news);
        first_sync(&mut machine, millis(17_000))
    };
    assert_eq!(sync_after(5), None, "a few deaths reach everybody");
    assert!(sync_after(60).is_some());
}

/// Suspicions of one version add up, whoever brings them; those of an earlier one do not, and the same
/// once more does not.
#[test]
fn who_else_suspects_the_same_life_confirms() {
    let dies_after = |more: &[(u64, u16)]| {
        let (mut machine, now) = at_rest(6);
        let current = version(1, 1);
        let first = vec![claim(1, current, suspect(&[2]))];
        tell(&mut machine, now, 2, MessageBody::Sync, first);
        for &(refutation, by) in more {
            let claims = vec![claim(1, version(1, refutation), suspect(&[by]))];
            tell(&mut machine, now, by, MessageBody::Gossip, claims);
        }
        let began = machine.member(node(1)).unwrap();
        assert_eq!(began, (Liveness::Suspect, current));
        loop {
            let due = machine.poll_timeout().unwrap();
            machine.handle_timeout(due);
            if machine.member(node(1)).unwrap().0 == Liveness::Dead {
                return due.saturating_since(now).as_millis();
            }
        }
    };
    let (alone, confirmed) = (dies_after(&[]), dies_after(&[(1, 3), (1, 4), (1, 5)]));
    assert_eq!((alone, confirmed), (6_000, 1_000));
    assert_eq!(dies_after(&[(1, 2), (1, 2)]), alone, "the same one again");
    assert_eq!(dies_after(&[(0, 3), (0, 4), (0, 5)]), alone, "of a life that was contradicted");
}

/// A suspicion of this node's version or a newer one is contradicted, an earlier one is not.
#[test]
fn a_node_contradicts_what_is_as_new_as_itself() {
    let (mut machine, now) = at_rest(3);
    let mut said = |refutation| {
        let claims = vec![claim(0, version(1, refutation), suspect(&[2]))];
        tell(&mut machine, now, 2, MessageBody::Gossip, claims);
        machine.member(node(0)).unwrap().1
    };
    assert_eq!(said(0), version(1, 1));
    assert_eq!(said(0), version(1, 1), "that is answered already");
    assert_eq!(said(1), version(1, 2));
    assert_eq!(said(5), version(1, 6));
    assert_eq!(machine.rejected().claims_old, 1);
}
