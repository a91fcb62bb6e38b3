//! What the targets check: no panic, and whatever decodes would be encoded to the same bytes.

#[allow(dead_code, reason = "the golden vectors' labels are for the tests")]
#[path = "../../engine/wire/tests/wire/layouts.rs"]
mod layouts;

use std::time::Duration;

use hawser_membership::{Config, Membership, Message};
use hawser_routing::{Flooding, Judgement, Lsa};
use hawser_session::{Inbox, Role};
use hawser_wire::{FrameHeader, FrameIter, Incarnation, MonoTime, NodeId, StreamHeader, crc32c};

/// The layout of this name.
///
/// # Panics
/// If the decoder is wrong.
pub fn layout(name: &str, input: &[u8]) {
    let layout = layouts::LAYOUTS.iter().find(|layout| layout.name == name);
    let _ = layout.expect("a layout of that name").check(input);
}

/// A record, as it came and with its checksum made to match, so that what stands behind it is
/// reached.
///
/// # Panics
/// If the decoder is wrong.
pub fn record(input: &[u8]) {
    layout("record", input);
    if let Ok((header, body)) = StreamHeader::decode(input) {
        let checksum = header.checksum_over(&[body]);
        let header = StreamHeader { checksum, ..header };
        layout("record", &[&header.encode(), body].concat());
    }
}

/// A batch of frames, as it came and with the checksums of its headers made to match.
///
/// # Panics
/// If the decoder is wrong.
pub fn batch(input: &[u8]) {
    check_batch(input);
    let mut matching = input.to_vec();
    let mut rest = matching.as_mut_slice();
    while let Some((header, behind)) = rest.split_first_chunk_mut::<{ FrameHeader::LEN }>() {
        let checksum = crc32c(&header[..16]);
        header[16..].copy_from_slice(&checksum.to_le_bytes());
        let [_, _, _, _, l0, l1, l2, l3, ..] = *header;
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        rest = behind.get_mut(len..).unwrap_or_default();
    }
    check_batch(&matching);
}

fn check_batch(input: &[u8]) {
    let mut again = Vec::new();
    let mut errors = 0;
    for frame in FrameIter::new(input) {
        assert_eq!(errors, 0, "a frame behind an error");
        match frame {
            Ok(frame) => {
                assert_eq!(
                    FrameHeader::decode(&frame.header.encode()),
                    Ok((frame.header, &[][..]))
                );
                again.extend_from_slice(&frame.header.encode());
                again.extend_from_slice(&frame.body);
            }
            Err(_) => errors += 1,
        }
    }
    assert!(input.starts_with(&again) && (errors == 1 || again == input));
}

/// A link-state advertisement.
///
/// # Panics
/// If the decoder is wrong.
pub fn lsa(input: &[u8]) {
    if let Ok(lsa) = Lsa::decode(input) {
        let mut again = Vec::new();
        lsa.encode(&mut again);
        assert_eq!(again, input);
    }
}

/// A conversation with the flooding of a node: messages of a neighbour, each behind two bytes of
/// length. Every signature and every certificate is taken for good.
pub fn flooding(mut input: &[u8]) {
    let neighbour = NodeId::from_bytes([1; 16]);
    let mut now = MonoTime::ZERO;
    let mut flooding = Flooding::new(NodeId::from_bytes([0; 16]));
    flooding.handle_neighbour_up(now, neighbour, true);
    while let Some((len, rest)) = input.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let (message, rest) = rest.split_at(len);
        input = rest;
        let _ = flooding.handle_message(now, neighbour, message);
        while let Some((by, hash)) = flooding.poll_certificate_request() {
            flooding.send_certificate(by, hash, b"certificate"[..].into());
        }
        while let Some(came) = flooding.poll_certificate() {
            let _ = flooding.handle_certificate(now, came.from, came.hash, Ok(()));
        }
        while let Some(lsa) = flooding.poll_check() {
            let judgement = match lsa.signature[0] {
                0 => Judgement::NeedsCertificate,
                _ => Judgement::Accept,
            };
            let _ = flooding.handle_judgement(now, judgement);
        }
        now = now.saturating_add(Duration::from_millis(700));
        flooding.handle_timeout(now);
        while flooding.poll_withheld().is_some() {}
        while flooding.poll_transmit().is_some() {}
    }
}

/// A membership message by itself; then a conversation with the membership of a node, messages of
/// one member, each behind two bytes of length.
///
/// # Panics
/// If the decoder or the machine is wrong.
pub fn membership(mut input: &[u8]) {
    if let Ok(message) = Message::decode(input) {
        assert_eq!(message.encode(), input);
    }
    let mut now = MonoTime::ZERO;
    let node = |byte| NodeId::from_bytes([byte; 16]);
    let mut machine = Membership::new(now, node(0), Incarnation(1), Config::default(), 1);
    for member in [1, 2, 0xb0] {
        machine.admit(now, node(member), Incarnation(1)).expect("room");
    }
    while let Some((len, rest)) = input.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let (message, rest) = rest.split_at(len);
        input = rest;
        let _ = machine.handle_message(now, node(1), message);
        now = now.saturating_add(Duration::from_millis(70));
        if machine.poll_timeout().is_some_and(|due| due <= now) {
            machine.handle_timeout(now);
        }
        while machine.poll_transmit().is_some() {}
        while machine.poll_event().is_some() {}
        assert_eq!(machine.len(), 4);
    }
}

/// WebSocket frames, as either side would get them.
pub fn web_socket(input: &[u8]) {
    for role in [Role::Client, Role::Server] {
        let mut inbox = Inbox::from(input.to_vec());
        while let Ok(Some(message)) = inbox.next_message(role) {
            for frame in FrameIter::new(&message) {
                let _ = frame;
            }
        }
    }
}
