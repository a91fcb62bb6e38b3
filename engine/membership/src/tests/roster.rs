use std::time::Duration;

use hawser_wire::Incarnation;

use super::{millis, node, suspect, version};
use crate::{Claim, Config, Liveness, MEMBERS_MAX, Membership, Message, MessageBody, Roster};

const LIFE: Incarnation = Incarnation(1);

fn config() -> Config {
    Config::every(Duration::from_millis(100))
}

fn roster(count: u16) -> Roster {
    Roster::new((0..count).map(|number| (node(number), LIFE))).unwrap()
}

#[test]
fn a_machine_with_a_roster_knows_and_probes_its_members() {
    let roster = roster(40);
    for own in [0, 17, 39] {
        let mut listed = Membership::with_roster(millis(0), node(own), LIFE, config(), 3, &roster);
        let mut admitted = Membership::new(millis(0), node(own), LIFE, config(), 3);
        for other in 0..40 {
            admitted.admit(millis(0), node(other), LIFE).unwrap();
        }
        assert_eq!(listed.len(), admitted.len());
        for other in 0..40 {
            assert_eq!(listed.member(node(other)), admitted.member(node(other)));
        }
        // Whom they probe follows from the ring, which is the same.
        let targets = |machine: &mut Membership| {
            let mut pinged = Vec::new();
            for ms in (0..1000).step_by(100) {
                machine.handle_timeout(millis(ms));
                while let Some((to, bytes)) = machine.poll_transmit() {
                    let body = Message::decode(&bytes).unwrap().body;
                    pinged.extend(matches!(body, MessageBody::Ping { .. }).then_some(to));
                }
            }
            pinged
        };
        let (first, second) = (targets(&mut listed), targets(&mut admitted));
        // Nobody answers, so that it soon asks more slowly, and suspects more than once.
        assert!(first.len() >= 2 && !first.contains(&node(own)), "{first:?}");
        assert_eq!(first[..2], second[..2]);
    }
}

#[test]
fn what_one_learns_of_a_member_the_others_do_not() {
    let roster = roster(40);
    let make = |own| Membership::with_roster(millis(0), node(own), LIFE, config(), 1, &roster);
    let (mut one, other) = (make(1), make(2));
    let claims = vec![Claim { subject: node(7), version: version(1, 0), state: suspect(&[3]) }];
    let body = MessageBody::Gossip;
    let message = Message { sender: version(1, 0), round: 0, body, claims };
    one.handle_message(millis(5), node(3), &message.encode()).unwrap();
    one.dismiss(millis(5), node(9));
    one.admit(millis(5), node(50), LIFE).unwrap();
    assert_eq!(one.member(node(7)).unwrap().0, Liveness::Suspect);
    assert_eq!(other.member(node(7)).unwrap().0, Liveness::Alive);
    assert_eq!((one.member(node(9)), one.len()), (None, 40));
    assert!(other.member(node(9)).is_some() && other.member(node(50)).is_none());
    assert_eq!(make(3).len(), 40);
}

#[test]
fn who_is_not_on_it_knows_nobody_and_it_is_bounded() {
    let machine = Membership::with_roster(millis(0), node(99), LIFE, config(), 1, &roster(5));
    assert_eq!((machine.len(), machine.poll_timeout()), (1, None));
    let too_many = u16::try_from(MEMBERS_MAX + 1).unwrap();
    assert!(Roster::new((0..too_many).map(|number| (node(number), LIFE))).is_err());
    let twice = Roster::new([(node(1), LIFE), (node(1), LIFE)]).unwrap();
    assert_eq!(Membership::with_roster(millis(0), node(1), LIFE, config(), 1, &twice).len(), 1);
}
