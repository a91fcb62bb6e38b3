//! Strangers, twins, replays, and members that lie.

use hawser_wire::{DecodeError, Incarnation};
use proptest::prelude::*;

use super::mesh::Mesh;
use super::{claim, node, suspect, version};
use crate::{
    Claim, ClaimState, Liveness, MEMBERS_MAX, Membership, Message, MessageBody, RejectReason,
    Version,
};

fn gossip(sender: Version, claims: Vec<Claim>) -> Vec<u8> {
    Message { sender, round: 0, body: MessageBody::Gossip, claims }.encode()
}

/// A mesh of four in which node 0 is told something by node 1.
fn told(claims: Vec<Claim>) -> Mesh {
    let mut mesh = Mesh::new(1, 4, 0);
    mesh.run_for(500);
    mesh.deliver(1, 0, &gossip(version(1, 0), claims));
    mesh
}

#[test]
fn strangers_are_not_heard() {
    let mut mesh = told(vec![]);
    let death = vec![claim(2, version(1, 0), ClaimState::Dead)];
    mesh.deliver(77, 0, &gossip(version(1, 0), death.clone()));
    mesh.deliver(0, 0, &gossip(version(1, 0), death));
    let rejected = mesh.machines[&0].rejected();
    assert_eq!((rejected.not_member, rejected.from_self), (1, 1));
    assert_eq!(rejected.messages(), 2);
    assert_eq!(rejected.iter().collect::<Vec<_>>(), [("from-self", 1), ("not-member", 1)]);
    assert_eq!(mesh.liveness(0, 2), Liveness::Alive);
}

#[test]
fn strangers_are_not_talked_about() {
    let mesh = told(vec![
        claim(77, version(1, 0), ClaimState::Alive),
        claim(78, version(1, 0), suspect(&[1])),
    ]);
    assert_eq!(mesh.machines[&0].rejected().claims_of_strangers, 2);
    assert_eq!(mesh.machines[&0].len(), 4);
}

#[test]
fn an_evicted_node_is_heard_no_more() {
    let mut mesh = Mesh::new(1, 6, 0);
    mesh.run_for(500);
    let now = mesh.now;
    for at in 0..5 {
        mesh.machines.get_mut(&at).unwrap().dismiss(now, node(5));
    }
    mesh.rejections.clear();
    mesh.run_for(2_000);
    assert!(!mesh.rejections.is_empty());
    for (at, reason) in &mesh.rejections {
        let expected = RejectReason::NotMember { node: node(5) };
        let unasked = RejectReason::Unasked { from: node(5) };
        assert!(*at == 5 || *reason == expected || *reason == unasked, "{at}: {reason}");
    }
    // Its suspicions count neither when it utters them nor when others pass them on.
    mesh.deliver(1, 0, &gossip(version(1, 0), vec![claim(2, version(1, 0), suspect(&[5]))]));
    assert_eq!(mesh.machines[&0].rejected().claims_by_strangers, 1);
    mesh.deliver(1, 0, &gossip(version(1, 0), vec![claim(2, version(1, 0), suspect(&[2]))]));
    assert_eq!(mesh.machines[&0].rejected().claims_by_strangers, 2);
    assert_eq!(mesh.liveness(0, 2), Liveness::Alive);
    mesh.deliver(1, 0, &gossip(version(1, 0), vec![claim(2, version(1, 0), suspect(&[3, 5]))]));
    assert_eq!(mesh.liveness(0, 2), Liveness::Suspect);
    assert!(mesh.machines.values().take(5).all(|machine| machine.member(node(5)).is_none()));
}

#[test]
fn the_far_future_is_not_believed() {
    let far = Version::AHEAD_MAX + 2;
    let mesh = told(vec![
        claim(2, version(far, 0), ClaimState::Dead),
        claim(2, version(1, far), ClaimState::Alive),
        claim(0, version(u64::MAX, u64::MAX), ClaimState::Dead),
    ]);
    assert_eq!(mesh.machines[&0].rejected().claims_far_ahead, 3);
    assert_eq!(mesh.machines[&0].member(node(0)).unwrap().1, version(1, 0));
    assert_eq!(mesh.machines[&0].member(node(2)).unwrap().1, version(1, 0));
    let mut mesh = mesh;
    mesh.deliver(1, 0, &gossip(version(far, 0), vec![]));
    assert_eq!(mesh.machines[&0].rejected().far_ahead, 1);
    assert_eq!(mesh.machines[&0].member(node(1)).unwrap().1, version(1, 0));
}

#[test]
fn a_lie_about_the_living_is_contradicted() {
    let states = [suspect(&[1]), ClaimState::Dead, ClaimState::Left];
    for (seed, state) in (0..12).flat_map(|seed| states.map(|state| (seed, state))) {
        let mut mesh = Mesh::new(seed, 12, 5);
        mesh.run_for(1_000);
        mesh.deliver(1, 3, &gossip(version(1, 0), vec![claim(2, version(1, 0), state)]));
        mesh.run_for(1_500);
        assert!(mesh.all_alive(), "seed {seed}: {state:?}");
        let own = mesh.machines[&2].member(node(2)).unwrap().1;
        assert_eq!(own.incarnation, Incarnation(1), "seed {seed}: {state:?}");
        assert!((1..4).contains(&own.refutation), "seed {seed}: {own:?}");
    }
}

#[test]
fn an_earlier_life_is_not_heard() {
    let mut mesh = Mesh::new(4, 8, 0);
    mesh.tape = Some(Vec::new());
    mesh.run_for(1_500);
    let tape = mesh.tape.take().unwrap();
    mesh.kill(6);
    mesh.start(6, 2);
    mesh.run_for(1_500);
    mesh.events.clear();
    let before = mesh.machines[&0].rejected().earlier_life;
    let mut of_6 = 0;
    for (from, to, bytes) in tape.iter().filter(|(from, to, _)| (*from, *to) == (6, 0)) {
        mesh.deliver(*from, *to, bytes);
        of_6 += 1;
    }
    assert!(of_6 > 3);
    assert_eq!(mesh.machines[&0].rejected().earlier_life, before + of_6);
    mesh.run_for(1_000);
    assert_eq!(mesh.events, []);
}

#[test]
fn what_is_said_again_changes_nothing() {
    for seed in 0..10 {
        let mut mesh = Mesh::new(seed, 12, 10);
        mesh.repeat_percent = 30;
        mesh.tape = Some(Vec::new());
        mesh.run_for(3_000);
        mesh.kill(11);
        mesh.run_for(2_000);
        mesh.loss_percent = 0;
        let tape = mesh.tape.take().unwrap();
        mesh.run_for(1_000);
        let says = |mesh: &Mesh| -> Vec<_> {
            let machine = &mesh.machines[&0];
            (0..12).map(|of| machine.member(node(of))).collect()
        };
        let before = says(&mesh);
        mesh.events.clear();
        for _ in 0..2_000 {
            let at =
                usize::try_from(mesh.random_below(u64::try_from(tape.len()).unwrap())).unwrap();
            let (from, to, bytes) = tape[at].clone();
            if from != 11 {
                mesh.fly(from, to, bytes);
            }
            mesh.run_for(1);
        }
        assert_eq!(says(&mesh), before, "seed {seed}");
        assert_eq!(mesh.events, [], "seed {seed}");
    }
}

#[test]
fn twins_do_not_drive_each_other() {
    for seed in 0..5 {
        let mut mesh = Mesh::new(seed, 8, 0);
        mesh.run_for(1_000);
        // A second process with node 3's key. What is for node 3 reaches either.
        let mut twin = Membership::new(mesh.now, node(3), Incarnation(1), mesh.config, seed ^ 99);
        for other in (0..8).filter(|other| *other != 3) {
            twin.admit(mesh.now, node(other), Incarnation(1)).unwrap();
        }
        let mut original = mesh.machines.remove(&3).unwrap();
        for _ in 0..6_000 {
            mesh.machines.insert(3, original);
            mesh.run_for(1);
            original = mesh.machines.remove(&3).unwrap();
            std::mem::swap(&mut original, &mut twin);
        }
        mesh.machines.insert(3, original);
        mesh.run_for(1_000);
        let own = mesh.machines[&3].member(node(3)).unwrap().1;
        assert!(own.refutation < 60, "seed {seed}: {own:?} after 6 s");
        for at in [0, 1, 2, 4, 5, 6, 7] {
            for of in [0, 1, 2, 4, 5, 6, 7] {
                assert_eq!(mesh.liveness(at, of), Liveness::Alive, "seed {seed}: {at} of {of}");
            }
        }
    }
}

#[test]
fn requests_are_bounded() {
    let mut mesh = told(vec![]);
    let ask = |sequence| {
        let body = MessageBody::PingRequest { sequence, target: node(2) };
        Message { sender: version(1, 0), round: 0, body, claims: Vec::new() }.encode()
    };
    for sequence in 1..3_000 {
        mesh.deliver(1, 0, &ask(sequence));
    }
    let refused = mesh.machines[&0].rejected().too_much;
    assert_eq!(refused, 2_999 - 8);
    let sync = Message {
        sender: version(1, 0),
        round: 0,
        body: MessageBody::SyncRequest,
        claims: Vec::new(),
    };
    for _ in 0..40 {
        mesh.deliver(1, 0, &sync.encode());
    }
    let refused = refused + 40 - 4;
    assert_eq!(mesh.machines[&0].rejected().too_much, refused);
    // Another member is served nevertheless.
    mesh.deliver(3, 0, &ask(1));
    mesh.deliver(3, 0, &sync.encode());
    assert_eq!(mesh.machines[&0].rejected().too_much, refused);
    mesh.run_for(1_000);
    mesh.deliver(1, 0, &ask(1));
    mesh.deliver(1, 0, &sync.encode());
    assert_eq!(mesh.machines[&0].rejected().too_much, refused);
}

/// All together have a bound, too, so that memory has one.
#[test]
fn requests_of_many_are_bounded() {
    let mut mesh = Mesh::new(1, 1, 0);
    let now = mesh.now;
    let machine = mesh.machines.get_mut(&0).unwrap();
    for number in 1..400 {
        machine.admit(now, node(number), Incarnation(1)).unwrap();
    }
    let message = |body| Message { sender: version(1, 0), round: 0, body, claims: vec![] }.encode();
    let ask = message(MessageBody::PingRequest { sequence: 1, target: node(2) });
    for number in (1..400).cycle().take(8 * 399) {
        let _too_much = machine.handle_message(now, node(number), &ask);
    }
    assert_eq!(machine.rejected().too_much, 8 * 399 - 1_024);
    for number in 1..400 {
        let _too_much =
            machine.handle_message(now, node(number), &message(MessageBody::SyncRequest));
    }
    assert_eq!(machine.rejected().too_much, 8 * 399 - 1_024 + 399 - 17);
}

/// What it has relayed comes back at once if the target answers: a member has a rate at which it can
/// have a target pinged all the same.
#[test]
fn pings_on_behalf_of_one_member_have_a_rate() {
    let mut mesh = told(vec![]);
    mesh.pings.clear();
    for sequence in 1..=500 {
        let body = MessageBody::PingRequest { sequence, target: node(2) };
        let ask = Message { sender: version(1, 0), round: 0, body, claims: Vec::new() };
        mesh.deliver(1, 0, &ask.encode());
        mesh.run_for(2);
    }
    let relayed = mesh.pings.iter().filter(|(_, from, to)| (*from, *to) == (0, 2)).count();
    // Its own probes, one in three of those, are among them.
    assert!((10..=8 + 10 + 5).contains(&relayed), "{relayed} in ten intervals");
    // Nobody's awareness suffers: another member has its probe relayed, and an answer.
    let body = MessageBody::PingRequest { sequence: 7, target: node(2) };
    let ask = Message { sender: version(1, 0), round: 0, body, claims: Vec::new() };
    mesh.tape = Some(Vec::new());
    mesh.deliver(3, 0, &ask.encode());
    mesh.run_for(50);
    let tape = mesh.tape.take().unwrap();
    let answered = tape.iter().any(|(from, to, bytes)| {
        let body = Message::decode(bytes).unwrap().body;
        (*from, *to, body) == (0, 3, MessageBody::Ack { sequence: 7 })
    });
    assert!(answered);
}

#[test]
fn there_is_an_end_to_members() {
    let mut mesh = Mesh::new(1, 1, 0);
    let now = mesh.now;
    let machine = mesh.machines.get_mut(&0).unwrap();
    for number in 1..u16::try_from(MEMBERS_MAX).unwrap() {
        machine.admit(now, node(number), Incarnation(1)).unwrap();
    }
    assert!(machine.admit(now, node(u16::MAX), Incarnation(1)).is_err());
    machine.dismiss(now, node(9));
    assert!(machine.admit(now, node(u16::MAX), Incarnation(1)).is_ok());
    assert_eq!(machine.len(), MEMBERS_MAX);
}

#[test]
fn answers_to_nothing_are_counted() {
    let mut mesh = told(vec![]);
    for body in [MessageBody::Ack { sequence: 4_000_000 }, MessageBody::Nack { sequence: 7 }] {
        let bytes = Message { sender: version(1, 0), round: 0, body, claims: vec![] }.encode();
        mesh.deliver(1, 0, &bytes);
    }
    assert_eq!(mesh.machines[&0].rejected().unasked, 2);
    mesh.deliver(1, 0, &[1, 2, 3]);
    let expected = RejectReason::Malformed(DecodeError::Truncated {
        what: "membership message",
        have_bytes: 2,
    });
    assert_eq!(mesh.rejections.last(), Some(&(0, expected)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A member may say what it likes: nobody panics, memory stays, and once it is gone all that
    /// are there are alive again.
    #[test]
    fn a_member_that_lies_breaks_nothing(
        seed in any::<u64>(),
        lies in prop::collection::vec(
            (0..6_u16, 0..6_u16, 0..3_u64, 0..3_u64, 0..4_u8, any::<u32>(), 0..7_u8), 1..120,
        ),
    ) {
        let mut mesh = Mesh::new(seed, 5, 0);
        mesh.run_for(300);
        for (to, subject, incarnation, refutation, state, round, kind) in lies {
            let state = match state {
                0 => ClaimState::Alive,
                1 => suspect(&[1, 3]),
                2 => ClaimState::Dead,
                _ => ClaimState::Left,
            };
            let sequence = round % 16;
            let body = match kind {
                0 => MessageBody::Ping { sequence },
                1 => MessageBody::Ack { sequence },
                2 => MessageBody::PingRequest { sequence, target: node(subject) },
                3 => MessageBody::Nack { sequence },
                4 => MessageBody::Gossip,
                5 => MessageBody::SyncRequest,
                _ => MessageBody::Sync,
            };
            let claims = vec![claim(subject, version(incarnation, refutation), state)];
            let bytes = Message { sender: version(1, 0), round, body, claims }.encode();
            mesh.deliver(1, to, &bytes);
            mesh.run_for(u64::from(round % 40));
        }
        mesh.run_for(3_000);
        prop_assert!(mesh.all_alive());
        prop_assert!(mesh.machines.values().all(|machine| machine.len() == 5));
    }
}
