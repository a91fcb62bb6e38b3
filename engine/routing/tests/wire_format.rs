//! The link-state advertisement of `docs/wire-format.md`, byte for byte in both directions, cut
//! short, and with each bit turned over.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails panics")]

use hawser_routing::{Adjacency, Lsa, LsaFlags};
use hawser_wire::{AdjacencyIndex, Incarnation, NodeId};
use proptest::prelude::*;

#[expect(dead_code, reason = "other tests ask for the labels")]
#[path = "../../wire/tests/wire/vectors.rs"]
mod vectors;

use vectors::vector;

fn encoded(lsa: &Lsa) -> Vec<u8> {
    let mut out = Vec::new();
    lsa.encode(&mut out);
    out
}

fn node(first: u8) -> NodeId {
    NodeId::from_bytes(std::array::from_fn(|at| first + u8::try_from(at).unwrap()))
}

#[test]
fn the_documented_advertisement() {
    let bytes = vector("lsa");
    let adjacency = |neighbour, index, latency_us| Adjacency {
        neighbour,
        index: AdjacencyIndex(index),
        latency_us,
    };
    let lsa = Lsa {
        origin: NodeId::from_bytes(bytes[1..17].try_into().unwrap()),
        incarnation: Incarnation(3),
        sequence: 2,
        name: "athens".to_owned(),
        address: "192.0.2.1:7480".to_owned(),
        public_key: bytes[33..65].try_into().unwrap(),
        flags: LsaFlags::default(),
        adjacencies: vec![adjacency(node(0xb0), 1, 250), adjacency(node(0xc0), 300, 12_000)],
        signature: bytes[bytes.len() - 64..].try_into().unwrap(),
    };
    assert_eq!(Lsa::decode(bytes), Ok(lsa.clone()));
    assert_eq!(encoded(&lsa), bytes);
    assert_eq!(lsa.signed_bytes(), [b"hawser lsa v1\0", &bytes[..bytes.len() - 64]].concat());
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = vector("lsa");
    for len in 0..bytes.len() {
        assert!(Lsa::decode(&bytes[..len]).is_err(), "cut to {len}");
    }
    assert!(Lsa::decode(&[bytes, &[0]].concat()).is_err());
}

#[test]
fn every_turned_bit_gives_an_error_or_another_advertisement() {
    let mut bytes = vector("lsa").to_vec();
    for at in 0..bytes.len() * 8 {
        bytes[at / 8] ^= 1 << (at % 8);
        if let Ok(lsa) = Lsa::decode(&bytes) {
            assert_eq!(encoded(&lsa), bytes, "bit {at}");
        }
        bytes[at / 8] ^= 1 << (at % 8);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_advertisement_or_are_not(
        front in proptest::collection::vec(any::<u8>(), 0..120),
        cut in any::<proptest::sample::Index>(),
    ) {
        let bytes = vector("lsa");
        let spliced = [&front, &bytes[cut.index(bytes.len())..]].concat();
        for input in [front, spliced] {
            if let Ok(lsa) = Lsa::decode(&input) {
                prop_assert_eq!(encoded(&lsa), input);
            }
        }
    }
}
