//! The link-state advertisement of `docs/wire-format.md`, byte for byte in both directions, cut
//! short, and with each bit turned over.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails panics")]

use hawser_routing::{
    Adjacency, AdjacencyMetrics, CertificateHash, Flooding, Judgement, Lsa, LsaFlags, OperatorRoute,
};
use hawser_wire::{AdjacencyIndex, Incarnation, MonoTime, NodeId};
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
    let athens = AdjacencyMetrics {
        latency_us: 250,
        bandwidth_kbps: 1_000_000,
        loss_ppm: 0,
        utilization_permille: 125,
        admin: 0,
    };
    let other = AdjacencyMetrics {
        latency_us: 12_000,
        bandwidth_kbps: 0,
        loss_ppm: 2500,
        utilization_permille: 0,
        admin: 5,
    };
    let adjacency =
        |neighbour, index, metrics| Adjacency { neighbour, index: AdjacencyIndex(index), metrics };
    let origin = NodeId::from_bytes(bytes[1..17].try_into().unwrap());
    let route = OperatorRoute { from: origin, to: node(0xc0), via: vec![node(0xd0)] };
    let lsa = Lsa {
        origin,
        incarnation: Incarnation(3),
        sequence: 2,
        name: "athens".to_owned(),
        address: "192.0.2.1:7480".to_owned(),
        public_key: bytes[33..65].try_into().unwrap(),
        certificate: CertificateHash(bytes[65..97].try_into().unwrap()),
        flags: LsaFlags::OVERLOADED.with(LsaFlags(0x80)),
        adjacencies: vec![adjacency(node(0xb0), 1, athens), adjacency(node(0xc0), 300, other)],
        routes: vec![route],
        signature: bytes[bytes.len() - 64..].try_into().unwrap(),
    };
    assert_eq!(Lsa::decode(bytes), Ok(lsa.clone()));
    assert_eq!(encoded(&lsa), bytes);
    assert!(lsa.steers_soundly());
    assert_eq!(lsa.signed_bytes(), [b"hawser lsa v2\0", &bytes[..bytes.len() - 64]].concat());
}

/// A machine that hears the advertisement, and then the delta, has what the delta gives.
#[test]
fn the_documented_delta_and_certificate_request() {
    let origin = NodeId::from_bytes(vector("lsa")[1..17].try_into().unwrap());
    let (neighbour, now) = (node(0xd0), MonoTime::ZERO);
    let mut flooding = Flooding::new(node(0));
    flooding.handle_neighbour_up(now, neighbour, true);
    let whole = [&[1, 0x10, 0x0e], vector("lsa")].concat();
    let mut certificate = None;
    for message in [&whole[..], vector("lsa-delta")] {
        flooding.handle_message(now, neighbour, message).unwrap();
        certificate = flooding.poll_check().map(|lsa| lsa.certificate);
        assert_eq!(flooding.handle_judgement(now, Judgement::Accept), Ok(true));
    }
    let mut expected = Lsa::decode(vector("lsa")).unwrap();
    expected.sequence = 3;
    expected.adjacencies[0].metrics.latency_us = 900;
    expected.signature = *vector("lsa-delta").last_chunk().unwrap();
    assert_eq!(flooding.lsdb().get(origin), Some(&expected));

    flooding.handle_message(now, neighbour, vector("certificate-request")).unwrap();
    let hash = certificate.unwrap();
    assert_eq!(flooding.poll_certificate_request(), Some((neighbour, hash)));
}

/// Takes a message in; all that it says is its origins' own word.
fn hear(flooding: &mut Flooding, from: NodeId, message: &[u8]) {
    flooding.handle_message(MonoTime::ZERO, from, message).unwrap();
    while flooding.poll_check().is_some() {
        assert_eq!(flooding.handle_judgement(MonoTime::ZERO, Judgement::Accept), Ok(true));
    }
}

/// A machine that hears several has them, and says the same to its other neighbour.
#[test]
fn the_documented_several_advertisements() {
    let several = vector("lsa-several");
    let [relay, teller, listener] = [0, 0x10, 0x20].map(node);
    let mut between = Flooding::new(relay);
    for neighbour in [teller, listener] {
        between.handle_neighbour_up(MonoTime::ZERO, neighbour, true);
    }
    while between.poll_transmit().is_some() {}
    hear(&mut between, teller, several);
    let mut said = std::iter::from_fn(|| between.poll_transmit());
    let told = said.find(|(to, _)| *to == listener).map(|(_, message)| message);
    assert_eq!(told.as_deref(), Some(several));

    let names: Vec<&str> = between.lsdb().iter().map(|lsa| lsa.name.as_str()).collect();
    assert_eq!(names, ["naxos", "delos"]);

    // A delta stands in one just so.
    hear(&mut between, teller, &[&[1, 0x10, 0x0e], vector("lsa")].concat());
    let delta = vector("lsa-delta");
    let len = u16::try_from(delta.len()).unwrap().to_le_bytes();
    hear(&mut between, teller, &[&[9], &len[..], delta].concat());
    assert_eq!(between.lsdb().iter().find(|lsa| lsa.name == "athens").unwrap().sequence, 3);
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
