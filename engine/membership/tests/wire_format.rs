//! The membership messages of `docs/wire-format.md`, byte for byte in both directions, cut short,
//! and with each bit turned over.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails panics")]

use hawser_membership::{Claim, ClaimState, Message, MessageBody, Suspecters, Version};
use hawser_wire::{Incarnation, NodeId};

#[expect(dead_code, reason = "other tests ask for the labels")]
#[path = "../../wire/tests/wire/vectors.rs"]
mod vectors;

use vectors::vector;

const LABELS: [&str; 3] = ["membership-ping", "membership-ping-request", "membership-gossip"];

fn node(first: u8) -> NodeId {
    NodeId::from_bytes(std::array::from_fn(|at| first + u8::try_from(at).unwrap()))
}

fn version(incarnation: u64, refutation: u64) -> Version {
    Version { incarnation: Incarnation(incarnation), refutation }
}

fn check(label: &str, body: MessageBody, claims: Vec<Claim>) {
    let message = Message { sender: version(3, 1), round: 9, body, claims };
    assert_eq!(Message::decode(vector(label)), Ok(message.clone()), "{label}");
    assert_eq!(message.encode(), vector(label), "{label}");
}

#[test]
fn the_documented_messages() {
    let mut by = Suspecters::default();
    assert!(by.add(node(0xc0)) && by.add(node(0xa0)));
    let claim = |first, version, state| Claim { subject: node(first), version, state };
    check(
        "membership-ping",
        MessageBody::Ping { sequence: 7 },
        vec![claim(0xb0, version(2, 0), ClaimState::Suspect(by))],
    );
    let target = node(0xb0);
    check("membership-ping-request", MessageBody::PingRequest { sequence: 7, target }, vec![]);
    check(
        "membership-gossip",
        MessageBody::Gossip,
        vec![
            claim(0xb0, version(2, 5), ClaimState::Dead),
            claim(0xc0, version(4, 0), ClaimState::Alive),
        ],
    );
}

#[test]
fn every_truncation_is_an_error() {
    for label in LABELS {
        let bytes = vector(label);
        for len in 0..bytes.len() {
            assert!(Message::decode(&bytes[..len]).is_err(), "{label} cut to {len}");
        }
        assert!(Message::decode(&[bytes, &[0]].concat()).is_err(), "{label}");
    }
}

#[test]
fn every_turned_bit_gives_an_error_or_another_message() {
    for label in LABELS {
        let mut bytes = vector(label).to_vec();
        for at in 0..bytes.len() * 8 {
            bytes[at / 8] ^= 1 << (at % 8);
            if let Ok(message) = Message::decode(&bytes) {
                assert_eq!(message.encode(), bytes, "{label} bit {at}");
            }
            bytes[at / 8] ^= 1 << (at % 8);
        }
    }
}
