use hawser_wire::{AdjacencyIndex, DecodeError, Incarnation, NodeId};
use proptest::prelude::*;

use std::time::Duration;

use super::{lsa, node, seal};
use crate::delta::LsaDelta;
use crate::message::Message;
use crate::{
    ADJACENCIES_MAX, Adjacency, AdjacencyMetrics, CertificateHash, LSA_BYTES_MAX, Lsa, LsaFlags,
    LsaVersion, OPERATOR_ROUTES_MAX, OperatorRoute, VIA_MAX,
};

fn encoded(lsa: &Lsa) -> Vec<u8> {
    let mut out = Vec::new();
    lsa.encode(&mut out);
    out
}

fn any_node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 16]>().prop_map(NodeId::from_bytes)
}

prop_compose! {
    fn any_adjacency()(
        neighbour in any_node(),
        index in any::<u32>(),
        (latency_us, bandwidth_kbps) in any::<(u32, u32)>(),
        loss_ppm in 0..1_100_000_u32,
        utilization_permille in 0..1100_u16,
        admin in any::<u16>(),
    ) -> Adjacency {
        let metrics =
            AdjacencyMetrics { latency_us, bandwidth_kbps, loss_ppm, utilization_permille, admin };
        Adjacency { neighbour, index: AdjacencyIndex(index), metrics }
    }
}

prop_compose! {
    fn any_route()(
        from in any_node(), to in any_node(), via in prop::collection::vec(any_node(), 0..70),
    ) -> OperatorRoute {
        OperatorRoute { from, to, via }
    }
}

prop_compose! {
    fn any_lsa()(
        origin in any_node(),
        incarnation in any::<u64>(),
        sequence in any::<u64>(),
        name in ".{0,80}",
        address in ".{0,300}",
        public_key in any::<[u8; 32]>(),
        flags in any::<u8>().prop_map(LsaFlags),
        adjacencies in prop::collection::vec(any_adjacency(), 0..40),
        routes in prop::collection::vec(any_route(), 0..5),
        certificate in any::<[u8; 32]>().prop_map(CertificateHash),
        half in any::<[u8; 32]>(),
    ) -> Lsa {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&half);
        signature[32..].copy_from_slice(&half);
        let incarnation = Incarnation(incarnation);
        Lsa {
            origin, incarnation, sequence, public_key, certificate, flags, name, address, adjacencies,
            routes, signature,
        }
    }
}

fn any_versions() -> impl Strategy<Value = Vec<(NodeId, LsaVersion)>> {
    prop::collection::btree_map(any::<[u8; 16]>(), any::<(u64, u64, u64)>(), 0..40).prop_map(
        |map| {
            map.into_iter()
                .map(|(origin, (incarnation, sequence, hash))| {
                    let incarnation = Incarnation(incarnation);
                    (NodeId::from_bytes(origin), LsaVersion { incarnation, sequence, hash })
                })
                .collect()
        },
    )
}

proptest! {
    #[test]
    fn an_advertisement_comes_back_in_its_one_form(lsa in any_lsa()) {
        let bytes = encoded(&lsa);
        prop_assert!(bytes.len() <= LSA_BYTES_MAX);
        let back = Lsa::decode(&bytes).unwrap();
        prop_assert_eq!(&encoded(&back), &bytes);
        prop_assert_eq!(back.signed_bytes(), lsa.signed_bytes());
        prop_assert_eq!(&back.adjacencies, &lsa.ordered_adjacencies());
        prop_assert!(lsa.name.starts_with(&back.name) && lsa.address.starts_with(&back.address));
        prop_assert_eq!((back.origin, back.incarnation), (lsa.origin, lsa.incarnation));
        prop_assert_eq!((back.sequence, back.flags), (lsa.sequence, lsa.flags));
        prop_assert_eq!((back.public_key, back.signature), (lsa.public_key, lsa.signature));
        prop_assert_eq!((back.certificate, back.routes), (lsa.certificate, OperatorRoute::ordered(&lsa.routes)));
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(lsa) = Lsa::decode(&bytes) {
            prop_assert_eq!(encoded(&lsa), bytes.clone());
        }
        let _any = Message::decode(&bytes);
        for kind in 0..10 {
            let mut message = vec![kind];
            message.extend_from_slice(&bytes);
            let _any = Message::decode(&message);
        }
    }

    #[test]
    fn a_damaged_advertisement_is_refused_or_another_one(
        lsa in any_lsa(), at in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let mut bytes = encoded(&lsa);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = Lsa::decode(&bytes) {
            prop_assert_eq!(encoded(&other), bytes);
        }
    }

    #[test]
    fn a_cut_advertisement_is_refused(lsa in any_lsa(), at in any::<prop::sample::Index>()) {
        let bytes = encoded(&lsa);
        prop_assert!(Lsa::decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn messages_come_back(
        lsa in any_lsa(), entries in any_versions(), digest in any::<u64>(),
        origins in prop::collection::vec(any_node(), 0..40),
        hashes in prop::collection::vec(any::<[u8; 32]>().prop_map(CertificateHash), 0..40),
        seconds in 0..3601_u64, der in prop::collection::vec(any::<u8>(), 0..100),
        after in any_lsa(),
    ) {
        let lsa = Lsa::decode(&encoded(&lsa)).unwrap();
        let encoding = encoded(&lsa);
        let version = lsa.version_of(&encoding);
        let lifetime = Duration::from_secs(seconds);
        let after = Lsa { origin: lsa.origin, public_key: lsa.public_key, certificate: lsa.certificate,
            name: lsa.name.clone(), address: lsa.address.clone(), routes: lsa.routes.clone(), ..after };
        let after = Lsa::decode(&encoded(&after)).unwrap();
        let to = after.version_of(&encoded(&after));
        let delta = LsaDelta::between((&lsa, version), (&after, to)).unwrap();
        prop_assert_eq!(&delta.apply(&lsa), &after);
        let mut delta_encoding = Vec::new();
        delta.encode(&mut delta_encoding);
        let (first, last) = (NodeId::from_bytes([0; 16]), NodeId::from_bytes([0xff; 16]));
        for (bytes, message) in [
            (Message::encode_ack(&entries), Message::Ack(entries.clone())),
            (Message::encode_digest(digest), Message::Digest(digest)),
            (Message::encode_request(&origins), Message::Request(origins)),
            (
                Message::encode_summary(first, last, &entries),
                Message::Summary { first, last, entries },
            ),
            (
                Message::encode_lsa(lifetime, &encoding),
                Message::Lsa { lifetime, lsa: Box::new(lsa), version, encoding: encoding.into() },
            ),
            (
                Message::encode_delta(lifetime, &delta_encoding),
                Message::Delta { lifetime, delta: Box::new(delta) },
            ),
            (
                Message::encode_certificate_request(&hashes),
                Message::CertificateRequest(hashes),
            ),
        ] {
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
            for cut in (0..bytes.len()).step_by(1 + bytes.len() / 100) {
                prop_assert!(Message::decode(&bytes[..cut]).is_err());
            }
        }
        let hash = CertificateHash([5; 32]);
        let bytes = Message::encode_certificate(hash, &der);
        prop_assert_eq!(Message::decode(&bytes), Ok(Message::Certificate { hash, der: der.into() }));
    }
}

#[test]
fn what_does_not_fit_is_left_out() {
    let mut full = lsa(1, 1, 1, &[(1, 5), (2, 6), (2, 7)]);
    assert_eq!(full.ordered_adjacencies().len(), 1, "not itself, and each neighbour once");
    for number in 0..2000_u32 {
        let mut neighbour = [0xff; 16];
        neighbour[..4].copy_from_slice(&number.to_be_bytes());
        let neighbour = NodeId::from_bytes(neighbour);
        let metrics = AdjacencyMetrics { loss_ppm: u32::MAX, ..AdjacencyMetrics::default() };
        full.adjacencies.push(Adjacency { neighbour, index: AdjacencyIndex(1), metrics });
        let via = vec![neighbour; if number == 7 { VIA_MAX + 1 } else { VIA_MAX }];
        full.routes.push(OperatorRoute { from: node(1), to: neighbour, via });
    }
    full.name = "é".repeat(200);
    full.address = "a".repeat(400);
    let bytes = encoded(&seal(full));
    assert!(bytes.len() <= LSA_BYTES_MAX);
    let back = Lsa::decode(&bytes).unwrap();
    assert_eq!(back.adjacencies.len(), ADJACENCIES_MAX);
    assert_eq!(back.adjacencies[9].metrics.loss_ppm, 999_999);
    assert_eq!(back.routes.len(), OPERATOR_ROUTES_MAX);
    assert!(back.routes.iter().all(|route| route.via.len() == VIA_MAX), "not the one too long");
    assert!(bytes.len() > LSA_BYTES_MAX - 10, "the bound is not larger than it must be");
    assert_eq!((back.name.len(), back.address.len()), (254, 255));
}

#[test]
fn adjacencies_out_of_order_twice_or_too_many_are_refused() {
    let good = encoded(&lsa(1, 1, 1, &[(3, 5), (4, 6)]));
    let count_at = good.len() - 64 - 1 - 2 * 36 - 2;
    let neighbour_at = |position: usize| count_at + 2 + position * 36 + 15;
    let cases = [(neighbour_at(0), 4), (neighbour_at(0), 9), (neighbour_at(1), 1)];
    for (at, value) in cases {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(matches!(Lsa::decode(&bad), Err(DecodeError::Invalid { .. })), "{at} {value}");
    }
    let mut bad = good.clone();
    bad[count_at..count_at + 2].copy_from_slice(&1025_u16.to_le_bytes());
    assert!(matches!(Lsa::decode(&bad), Err(DecodeError::TooLarge { value: 1025, .. })));
    let mut bad = good.clone();
    bad[count_at + 2 + 28..count_at + 2 + 32].copy_from_slice(&1_000_000_u32.to_le_bytes());
    assert!(matches!(Lsa::decode(&bad), Err(DecodeError::Invalid { value: 1_000_000, .. })));
    let mut bad = good.clone();
    let routes_at = good.len() - 64 - 1;
    bad[routes_at] = 33;
    assert!(matches!(Lsa::decode(&bad), Err(DecodeError::TooLarge { value: 33, .. })));
    let mut bad = good;
    bad[0] = 1;
    assert!(matches!(Lsa::decode(&bad), Err(DecodeError::Invalid { value: 1, .. })));
}

#[test]
fn a_summary_that_lists_outside_of_its_range_is_refused() {
    let version = LsaVersion { incarnation: Incarnation(1), sequence: 1, hash: 1 };
    let entries = [(node(3), version), (node(5), version)];
    assert!(Message::decode(&Message::encode_summary(node(3), node(5), &entries)).is_ok());
    assert!(Message::decode(&Message::encode_summary(node(4), node(5), &entries)).is_err());
    assert!(Message::decode(&Message::encode_summary(node(3), node(4), &entries)).is_err());
    assert!(Message::decode(&Message::encode_summary(node(5), node(3), &[])).is_err());
    let swapped = [(node(5), version), (node(3), version)];
    assert!(Message::decode(&Message::encode_ack(&swapped)).is_err());
}
