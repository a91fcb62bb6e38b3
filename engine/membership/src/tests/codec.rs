use proptest::prelude::*;

use super::{claim, node, suspect, version};
use crate::{CLAIMS_MAX, Claim, ClaimState, MEMBERSHIP_MESSAGE_BYTES_MAX, Message, MessageBody};

fn any_claim() -> impl Strategy<Value = Claim> {
    (any::<u16>(), any::<(u64, u64)>(), 0..4_u8, prop::collection::vec(any::<u16>(), 1..6))
        .prop_map(|(subject, (incarnation, refutation), state, by)| {
            let state = match state {
                0 => ClaimState::Alive,
                1 => suspect(&by),
                2 => ClaimState::Dead,
                _ => ClaimState::Left,
            };
            claim(subject, version(incarnation, refutation), state)
        })
}

fn any_message() -> impl Strategy<Value = Message> {
    let claims = prop::collection::vec(any_claim(), 0..20);
    (any::<(u64, u64)>(), any::<u32>(), any::<u32>(), any::<u16>(), 0..7_u8, claims).prop_map(
        |((incarnation, refutation), round, sequence, target, kind, claims)| {
            let body = match kind {
                0 => MessageBody::Ping { sequence },
                1 => MessageBody::Ack { sequence },
                2 => MessageBody::PingRequest { sequence, target: node(target) },
                3 => MessageBody::Nack { sequence },
                4 => MessageBody::Gossip,
                5 => MessageBody::SyncRequest,
                _ => MessageBody::Sync,
            };
            Message { sender: version(incarnation, refutation), round, body, claims }
        },
    )
}

proptest! {
    #[test]
    fn messages_come_back(message in any_message(), cut in any::<prop::sample::Index>()) {
        let bytes = message.encode();
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
        prop_assert!(Message::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(Message::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_a_message_in_its_one_form_or_none(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        message in any_message(), at in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let mut damaged = message.encode();
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << bit;
        for input in [bytes, damaged] {
            if let Ok(message) = Message::decode(&input) {
                prop_assert_eq!(message.encode(), input);
            }
        }
    }
}

#[test]
fn the_longest_message_is_as_long_as_said() {
    let longest = claim(1, version(u64::MAX, u64::MAX), suspect(&[1, 2, 3, 4]));
    assert_eq!(longest.encoded_len(), Claim::LEN_MAX);
    let body = MessageBody::PingRequest { sequence: 1, target: node(2) };
    let claims = vec![longest; CLAIMS_MAX + 3];
    let bytes = Message { sender: version(1, 0), round: 1, body, claims }.encode();
    assert_eq!(bytes.len(), MEMBERSHIP_MESSAGE_BYTES_MAX);
    assert_eq!(Message::decode(&bytes).unwrap().claims.len(), CLAIMS_MAX);
}

#[test]
fn suspecters_out_of_order_too_many_or_none_are_refused() {
    let claims = vec![claim(1, version(1, 0), suspect(&[2, 3]))];
    let message = Message { sender: version(1, 0), round: 1, body: MessageBody::Gossip, claims };
    let good = message.encode();
    let count_at = good.len() - 2 * 16 - 1;
    for count in [0, 5, 1, 3] {
        let mut bad = good.clone();
        bad[count_at] = count;
        assert!(Message::decode(&bad).is_err(), "{count}");
    }
    let mut swapped = good.clone();
    swapped[count_at + 1..].rotate_left(16);
    assert!(Message::decode(&swapped).is_err());
    let mut twice = good;
    twice.copy_within(count_at + 1..count_at + 17, count_at + 17);
    assert!(Message::decode(&twice).is_err());
}

/// A message with more claims than may be in one is refused as a whole, also if they are all there.
#[test]
fn too_many_claims_are_refused() {
    let one = Claim { subject: node(2), version: version(1, 0), state: ClaimState::Dead };
    let message =
        |claims| Message { sender: version(1, 0), round: 0, body: MessageBody::Gossip, claims };
    let empty = message(vec![]).encode();
    let (prefix, _) = empty.split_last_chunk::<2>().unwrap();
    let mut claim = Vec::new();
    one.encode(&mut claim);
    for (count, taken) in [(CLAIMS_MAX, true), (CLAIMS_MAX + 1, false)] {
        let announced = u16::try_from(count).unwrap().to_le_bytes();
        let bytes = [prefix, &announced, &claim.repeat(count)].concat();
        assert!(bytes.len() < MEMBERSHIP_MESSAGE_BYTES_MAX);
        assert_eq!(Message::decode(&bytes).is_ok(), taken, "{count}");
    }
}
