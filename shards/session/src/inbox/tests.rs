use proptest::prelude::*;

use super::*;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const MASK: [u8; 4] = [0x5a, 0x0f, 0xc3, 0x81];

/// A frame as the peer of `role` sends it, with the length in as few bytes as it needs.
fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = announcement(role, first, payload.len() as u64);
    let start = out.len();
    out.extend_from_slice(payload);
    if role == Role::Server {
        for (byte, key) in out[start..].iter_mut().zip(MASK.iter().cycle()) {
            *byte ^= key;
        }
    }
    out
}

/// The header of such a frame alone.
fn announcement(role: Role, first: u8, len: u64) -> Vec<u8> {
    let masked = if role == Role::Server { 0x80 } else { 0 };
    let mut out = vec![first];
    match len {
        0..126 => out.push(masked | len as u8),
        126..0x1_0000 => {
            out.push(masked | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    if role == Role::Server {
        out.extend_from_slice(&MASK);
    }
    out
}

/// What an inbox of `role` makes of `bytes`: the messages before the end or the violation.
fn read(role: Role, bytes: &[u8]) -> (Vec<Vec<u8>>, Option<WebSocketViolation>) {
    let mut inbox = Inbox::from(bytes.to_vec());
    let mut messages = Vec::new();
    loop {
        match inbox.next_message(role) {
            Ok(Some(message)) => messages.push(message.to_vec()),
            Ok(None) => return (messages, None),
            Err(violation) => return (messages, Some(violation)),
        }
    }
}

/// One good message, then `bytes`: the message is taken, and what follows is refused so.
fn refused(role: Role, bytes: &[u8], expected: WebSocketViolation) {
    let stream = [frame(role, FIN | BINARY, b"good"), bytes.to_vec()].concat();
    assert_eq!(read(role, &stream), (vec![b"good".to_vec()], Some(expected)), "{role:?}");
}

fn is_empty(inbox: &mut Inbox, role: Role) -> bool {
    inbox.next_message(role).unwrap().is_none()
}

impl Inbox {
    /// Memory taken for what waits.
    fn held_bytes(&self) -> usize {
        self.unread.capacity() + self.message.capacity() + self.control.capacity()
    }
}

fn refused_in_both_roles(bytes: impl Fn(Role) -> Vec<u8>, expected: WebSocketViolation) {
    for role in [Role::Client, Role::Server] {
        refused(role, &bytes(role), expected);
    }
}

#[test]
fn the_mask_is_the_clients_and_never_the_servers() {
    let masked = frame(Role::Server, FIN | BINARY, b"x");
    let bare = frame(Role::Client, FIN | BINARY, b"x");
    refused(Role::Client, &masked, WebSocketViolation::Masked);
    refused(Role::Server, &bare, WebSocketViolation::Unmasked);
}

#[test]
fn bits_without_an_extension_are_refused() {
    for bit in [0x10, 0x20, 0x40] {
        refused_in_both_roles(
            |role| frame(role, FIN | BINARY | bit, b"x"),
            WebSocketViolation::ReservedBits,
        );
    }
}

#[test]
fn opcodes_without_a_meaning_are_refused() {
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        refused_in_both_roles(
            |role| frame(role, FIN | opcode, b"x"),
            WebSocketViolation::ReservedOpcode(opcode),
        );
    }
    refused_in_both_roles(|role| frame(role, FIN | 0x1, b"text"), WebSocketViolation::Text);
}

#[test]
fn lengths_take_as_few_bytes_as_they_can() {
    let check = |size: u8, len: &[u8]| {
        refused_in_both_roles(
            |role| {
                let masked = if role == Role::Server { 0x80 } else { 0 };
                [&[FIN | BINARY, masked | size], len].concat()
            },
            WebSocketViolation::LengthEncoding,
        );
    };
    check(126, &125_u16.to_be_bytes());
    check(126, &0_u16.to_be_bytes());
    check(127, &125_u64.to_be_bytes());
    check(127, &u64::from(u16::MAX).to_be_bytes());
    check(127, &(1_u64 << 63).to_be_bytes());
    check(127, &u64::MAX.to_be_bytes());
}

#[test]
fn every_length_around_a_bound_is_read() {
    for role in [Role::Client, Role::Server] {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, BATCH_BYTES_MAX] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let bytes = frame(role, FIN | BINARY, &payload);
            assert_eq!(read(role, &bytes), (vec![payload], None), "{role:?} {len}");
        }
    }
}

#[test]
fn what_is_too_large_is_refused_by_its_announcement() {
    let max_bytes = BATCH_BYTES_MAX as u64;
    for bytes in [max_bytes + 1, 1 << 40, (1 << 63) - 1] {
        refused_in_both_roles(
            |role| announcement(role, FIN | BINARY, bytes),
            WebSocketViolation::TooLarge { bytes, max_bytes },
        );
    }
}

#[test]
fn what_is_too_large_in_all_is_refused_by_its_last_fragment() {
    let half = vec![7; BATCH_BYTES_MAX / 2];
    let (bytes, max_bytes) = (BATCH_BYTES_MAX as u64 + 1, BATCH_BYTES_MAX as u64);
    let last = bytes - 2 * half.len() as u64;
    refused_in_both_roles(
        |role| {
            [
                frame(role, BINARY, &half),
                frame(role, CONTINUATION, &half),
                announcement(role, FIN | CONTINUATION, last),
            ]
            .concat()
        },
        WebSocketViolation::TooLarge { bytes, max_bytes },
    );
}

#[test]
fn fragments_are_put_together_up_to_their_bound() {
    let flood = |role, fragments: u32| {
        let mut bytes = frame(role, BINARY, b"");
        for _ in 2..fragments {
            bytes.extend(frame(role, CONTINUATION, b"a"));
        }
        bytes.extend(frame(role, FIN | CONTINUATION, b"z"));
        bytes
    };
    for role in [Role::Client, Role::Server] {
        let mut whole = vec![b'a'; FRAGMENTS_MAX as usize - 2];
        whole.push(b'z');
        let twice = [flood(role, FRAGMENTS_MAX), flood(role, FRAGMENTS_MAX)].concat();
        assert_eq!(read(role, &twice), (vec![whole.clone(), whole], None));
    }
    let max = FRAGMENTS_MAX;
    refused_in_both_roles(
        |role| flood(role, max + 1),
        WebSocketViolation::TooManyFragments { max },
    );
}

#[test]
fn a_message_of_fragments_is_neither_begun_nor_broken_by_another() {
    for first in [CONTINUATION, FIN | CONTINUATION] {
        refused_in_both_roles(
            |role| frame(role, first, b"x"),
            WebSocketViolation::UnexpectedContinuation,
        );
    }
    for second in [BINARY, FIN | BINARY] {
        refused_in_both_roles(
            |role| [frame(role, BINARY, b"a"), frame(role, second, b"b")].concat(),
            WebSocketViolation::ExpectedContinuation,
        );
    }
    // Behind a whole one in pieces stands nothing to continue.
    for role in [Role::Client, Role::Server] {
        let bytes = [
            frame(role, BINARY, b"a"),
            frame(role, FIN | CONTINUATION, b"b"),
            frame(role, FIN | CONTINUATION, b"c"),
        ]
        .concat();
        let unexpected = Some(WebSocketViolation::UnexpectedContinuation);
        assert_eq!(read(role, &bytes), (vec![b"ab".to_vec()], unexpected));
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [PING, PONG, CLOSE] {
        refused_in_both_roles(|role| frame(role, opcode, b"x"), WebSocketViolation::ControlFrame);
        refused_in_both_roles(
            |role| frame(role, FIN | opcode, &[0; 126]),
            WebSocketViolation::ControlFrame,
        );
    }
}

#[test]
fn control_frames_may_stand_between_fragments() {
    for role in [Role::Client, Role::Server] {
        let bytes = [
            frame(role, BINARY, b"a"),
            frame(role, FIN | PING, &[9; 125]),
            frame(role, CONTINUATION, b"b"),
            frame(role, FIN | PONG, b"unasked for"),
            frame(role, FIN | CONTINUATION, b"c"),
        ]
        .concat();
        let mut inbox = Inbox::from(bytes);
        assert_eq!(*inbox.next_message(role).unwrap().unwrap(), *b"abc");
        assert_eq!(inbox.take_pings(), [vec![9; 125]]);
    }
}

#[test]
fn pings_are_kept_for_their_answers_up_to_a_bound() {
    let max = PINGS_MAX;
    for role in [Role::Client, Role::Server] {
        let ping = |at: u32| frame(role, FIN | PING, &at.to_be_bytes());
        let mut inbox = Inbox::from((0..max).flat_map(ping).collect::<Vec<u8>>());
        assert!(is_empty(&mut inbox, role));
        let pings = inbox.take_pings();
        assert_eq!(pings.len(), max as usize);
        assert_eq!(pings.first(), Some(&0_u32.to_be_bytes().to_vec()));
        // Once they are answered there is room for as many again, and not for one more.
        inbox.feed(&(0..max).flat_map(ping).collect::<Vec<u8>>());
        assert!(is_empty(&mut inbox, role));
        inbox.feed(&ping(max));
        let flood = WebSocketViolation::PingFlood { max };
        assert_eq!(inbox.next_message(role).unwrap_err(), flood);
        assert_eq!(inbox.take_pings().len(), max as usize);
        assert_eq!(inbox.next_message(role).unwrap_err(), flood, "it does not go on");
    }
}

#[test]
fn nothing_is_read_behind_a_close() {
    for role in [Role::Client, Role::Server] {
        let bytes = [
            frame(role, FIN | BINARY, b"first"),
            frame(role, FIN | BINARY, b"last"),
            frame(role, FIN | CLOSE, &1000_u16.to_be_bytes()),
            frame(role, FIN | BINARY, b"behind"),
        ]
        .concat();
        let mut inbox = Inbox::from(bytes);
        assert_eq!(*inbox.next_message(role).unwrap().unwrap(), *b"first");
        assert!(!inbox.is_closed(), "what came before is still to be handed out");
        assert_eq!(*inbox.next_message(role).unwrap().unwrap(), *b"last");
        assert!(inbox.is_closed());
        assert!(is_empty(&mut inbox, role));
    }
}

#[test]
fn what_comes_behind_a_close_takes_no_memory() {
    let role = Role::Client;
    let mut inbox = Inbox::from(frame(role, FIN | CLOSE, b""));
    assert!(is_empty(&mut inbox, role));
    for _ in 0..100 {
        inbox.feed(&[0; 16 << 10]);
        assert!(is_empty(&mut inbox, role));
    }
    assert_eq!((inbox.waiting_bytes(), inbox.held_bytes()), (0, 0));
}

#[test]
fn an_announced_length_takes_no_memory() {
    for role in [Role::Client, Role::Server] {
        for first in [FIN | BINARY, BINARY] {
            let mut bytes = announcement(role, first, BATCH_BYTES_MAX as u64);
            bytes.extend_from_slice(b"little");
            let mut inbox = Inbox::from(bytes);
            assert!(is_empty(&mut inbox, role));
            assert_eq!(inbox.waiting_bytes(), b"little".len());
            assert!(inbox.held_bytes() <= AHEAD_MAX * b"little".len(), "{}", inbox.held_bytes());
        }
    }
}

#[test]
fn fragments_of_nothing_take_no_memory() {
    let role = Role::Server;
    let mut inbox = Inbox::from(frame(role, BINARY, b"x"));
    assert!(is_empty(&mut inbox, role));
    for _ in 1..FRAGMENTS_MAX {
        inbox.feed(&frame(role, CONTINUATION, b""));
        assert!(is_empty(&mut inbox, role));
    }
    assert_eq!(inbox.waiting_bytes(), 1);
    assert!(inbox.held_bytes() < 64);
}

#[test]
fn http_bytes_are_consumed_from_the_front() {
    let role = Role::Client;
    let mut inbox = Inbox::from([b"head".to_vec(), frame(role, FIN | BINARY, b"x")].concat());
    assert_eq!(inbox.unread().get(..4), Some(&b"head"[..]));
    inbox.consume(4);
    assert_eq!(*inbox.next_message(role).unwrap().unwrap(), *b"x");
    assert_eq!(inbox.unread(), b"");
}

#[test]
fn what_is_discarded_takes_no_memory_and_neither_does_what_follows() {
    for role in [Role::Client, Role::Server] {
        let mut inbox = Inbox::from(frame(role, FIN | BINARY, &[7; 70_000]));
        assert!(inbox.next_message(role).unwrap().is_some());
        inbox.feed(&frame(role, BINARY, &[7; 70_000]));
        inbox.discard();
        inbox.feed(&frame(role, FIN | BINARY, &[7; 70_000]));
        assert!(is_empty(&mut inbox, role));
        assert_eq!((inbox.waiting_bytes(), inbox.held_bytes()), (0, 0));
    }
}

#[test]
fn the_memory_of_a_message_is_used_for_the_next_one() {
    let role = Role::Server;
    let bytes = frame(role, FIN | BINARY, &[7; 70_000]);
    let mut inbox = Inbox::from(bytes.clone());
    let first = inbox.next_message(role).unwrap().unwrap();
    assert!(first.shared().is_some());
    let at = first.as_ptr();
    inbox.recycle(first);
    for piece in bytes.chunks(16 << 10) {
        inbox.feed(piece);
    }
    let second = inbox.next_message(role).unwrap().unwrap();
    assert_eq!((second.as_ptr(), second.len()), (at, 70_000));
    // What somebody keeps of it is left alone.
    let kept = second.shared().unwrap().slice(..3);
    inbox.recycle(second);
    inbox.feed(&frame(role, FIN | BINARY, &[9; 70_000]));
    let third = inbox.next_message(role).unwrap().unwrap();
    assert_ne!(third.as_ptr(), at);
    assert_eq!((&kept[..], third[0]), (&[7_u8; 3][..], 9));
}

/// A message, how often it is cut, and whether a ping stands before it.
fn message() -> impl Strategy<Value = (Vec<u8>, usize, bool)> {
    (prop::collection::vec(any::<u8>(), 0..2000), 1_usize..8, any::<bool>())
}

proptest! {
    #[test]
    fn messages_arrive_whole_however_the_bytes_are_cut(
        server in any::<bool>(),
        messages in prop::collection::vec(message(), 1..12),
        reads in prop::collection::vec(1_usize..700, 1..20),
    ) {
        let role = if server { Role::Server } else { Role::Client };
        let mut bytes = Vec::new();
        for (payload, pieces, ping) in &messages {
            if *ping {
                bytes.extend(frame(role, FIN | PING, b"?"));
            }
            let size = payload.len().div_ceil(*pieces).max(1);
            let mut chunks = payload.chunks(size).peekable();
            if chunks.peek().is_none() {
                bytes.extend(frame(role, FIN | BINARY, b""));
            }
            let mut opcode = BINARY;
            while let Some(chunk) = chunks.next() {
                let fin = if chunks.peek().is_none() { FIN } else { 0 };
                bytes.extend(frame(role, fin | opcode, chunk));
                opcode = CONTINUATION;
            }
        }
        let mut inbox = Inbox::default();
        let (mut got, mut pings) = (Vec::new(), 0);
        let (mut rest, mut sizes) = (bytes.as_slice(), reads.iter().cycle());
        while !rest.is_empty() {
            let size = sizes.next().map_or(1, |size| *size).min(rest.len());
            let (now, later) = rest.split_at(size);
            rest = later;
            inbox.feed(now);
            while let Some(message) = inbox.next_message(role).unwrap() {
                got.push(message.to_vec());
            }
            pings += inbox.take_pings().len();
        }
        prop_assert_eq!(inbox.waiting_bytes(), 0);
        prop_assert_eq!(pings, messages.iter().filter(|(_, _, ping)| *ping).count());
        let sent: Vec<Vec<u8>> = messages.into_iter().map(|(payload, ..)| payload).collect();
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn any_bytes_end_in_a_value(bytes in prop::collection::vec(any::<u8>(), 0..512), server in any::<bool>()) {
        let role = if server { Role::Server } else { Role::Client };
        let (messages, _violation) = read(role, &bytes);
        let total: usize = messages.iter().map(Vec::len).sum();
        prop_assert!(total <= bytes.len());
    }
}
