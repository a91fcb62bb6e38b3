//! tungstenite at the other end, in both roles.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use hawser_session::{LaneSession, Role, SessionError, WebSocketViolation};
use hawser_wire::BATCH_BYTES_MAX;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role as WsRole, WebSocket};
use tungstenite::{Error as WsError, Message};

use crate::far::Far;
use crate::pair::messages;

/// Plaintext under way to and from tungstenite.
#[derive(Default)]
struct Pipe {
    inward: VecDeque<u8>,
    outward: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.inward.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.inward.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outward.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Oracle {
    near: LaneSession,
    far: Far,
    socket: WebSocket<Pipe>,
}

impl Oracle {
    fn new(near: Role) -> Self {
        let far = match near {
            Role::Client => WsRole::Server,
            Role::Server => WsRole::Client,
        };
        let socket = WebSocket::from_raw_socket(Pipe::default(), far, None);
        let (near, far) = Far::connected(near);
        Self { near, far, socket }
    }

    /// Carries bytes both ways until nothing moves.
    fn settle(&mut self) {
        for _ in 0..64 {
            self.far.read_from(&mut self.near);
            self.socket.get_mut().inward.extend(self.far.plaintext());
            let outward = std::mem::take(&mut self.socket.get_mut().outward);
            for part in outward.chunks(10_000) {
                self.far.send(part);
                self.far.write_to(&mut self.near);
                self.near.process().unwrap();
            }
            if outward.is_empty() {
                return;
            }
        }
    }

    fn read(&mut self) -> Option<Message> {
        match self.socket.read() {
            Ok(message) => Some(message),
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const LENGTHS: [usize; 9] = [0, 1, 125, 126, 127, 65_535, 65_536, 300_000, BATCH_BYTES_MAX];

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 13) as u8).collect()
}

#[test]
fn what_we_send_tungstenite_reads() {
    for role in ROLES {
        let mut oracle = Oracle::new(role);
        for len in LENGTHS {
            oracle.near.send_message(&payload(len)).unwrap();
            oracle.settle();
            assert_eq!(oracle.read(), Some(Message::binary(payload(len))), "{role:?} {len}");
            // As a batch whose last frame's end lies elsewhere, and one with many frames before that.
            for first in [1, 150, 16_368, 16_384, 50_001].into_iter().filter(|&first| first < len) {
                let message = payload(len);
                let (first, second) = message.split_at(first);
                oracle.near.send_joined([first, second]).unwrap();
                oracle.settle();
                let read = oracle.read();
                assert!(read == Some(Message::binary(payload(len))), "{role:?} {len}");
            }
        }
        assert_eq!(oracle.read(), None);
    }
}

#[test]
fn what_tungstenite_sends_we_read() {
    for role in ROLES {
        let mut oracle = Oracle::new(role);
        for len in LENGTHS {
            oracle.socket.send(Message::binary(payload(len))).unwrap();
        }
        oracle.settle();
        assert_eq!(messages(&mut oracle.near), LENGTHS.map(payload));
    }
}

#[test]
fn fragments_of_tungstenite_are_put_together() {
    for role in ROLES {
        let mut oracle = Oracle::new(role);
        for (opcode, fin) in
            [(Data::Binary, false), (Data::Continue, false), (Data::Continue, true)]
        {
            let frame = Frame::message(payload(70_000), OpCode::Data(opcode), fin);
            oracle.socket.send(Message::Frame(frame)).unwrap();
            oracle.socket.send(Message::Ping(b"between".to_vec().into())).unwrap();
        }
        oracle.settle();
        let whole = [payload(70_000), payload(70_000), payload(70_000)].concat();
        assert_eq!(messages(&mut oracle.near), [whole]);
    }
}

#[test]
fn pings_are_answered_with_what_they_carried() {
    for role in ROLES {
        let mut oracle = Oracle::new(role);
        for len in [0, 1, 125] {
            oracle.socket.send(Message::Ping(payload(len).into())).unwrap();
            oracle.settle();
            assert_eq!(messages(&mut oracle.near), Vec::<Vec<u8>>::new());
            oracle.settle();
            assert_eq!(oracle.read(), Some(Message::Pong(payload(len).into())), "{role:?} {len}");
        }
    }
}

#[test]
fn who_pings_and_does_not_read_gets_no_more_answers() {
    let mut oracle = Oracle::new(Role::Server);
    for _ in 0..5_000 {
        oracle.socket.send(Message::Ping(payload(125).into())).unwrap();
        let outward = std::mem::take(&mut oracle.socket.get_mut().outward);
        oracle.far.send(&outward);
        oracle.far.write_to(&mut oracle.near);
        oracle.near.process().unwrap();
        assert_eq!(oracle.near.next_message().unwrap(), None);
    }
    let unsent = oracle.near.unsent_len();
    assert!((64 << 10..128 << 10).contains(&unsent), "{unsent} bytes wait");
    // Once they are taken there are answers again.
    oracle.far.read_from(&mut oracle.near);
    oracle.far.plaintext();
    oracle.socket.send(Message::Ping(payload(3).into())).unwrap();
    oracle.settle();
    assert_eq!(messages(&mut oracle.near), Vec::<Vec<u8>>::new());
    oracle.settle();
    assert_eq!(oracle.read(), Some(Message::Pong(payload(3).into())));
}

#[test]
fn a_close_is_understood_both_ways() {
    for role in ROLES {
        let mut oracle = Oracle::new(role);
        oracle.near.send_close();
        oracle.settle();
        let Some(Message::Close(Some(close))) = oracle.read() else { panic!("no close") };
        assert_eq!(u16::from(close.code), 1000);

        let mut oracle = Oracle::new(role);
        oracle.socket.close(None).unwrap();
        oracle.settle();
        assert_eq!(messages(&mut oracle.near), Vec::<Vec<u8>>::new());
        assert!(oracle.near.inbox().is_closed());
    }
}

#[test]
fn text_of_tungstenite_is_refused() {
    for role in ROLES {
        let mut oracle = Oracle::new(role);
        oracle.socket.send(Message::text("no")).unwrap();
        oracle.settle();
        let refused = oracle.near.next_message();
        assert!(
            matches!(refused, Err(SessionError::WebSocket(WebSocketViolation::Text))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_client_masks_with_a_new_key_each_time_and_a_server_never() {
    let text = b"a text that is long enough to be found again, were it not masked";
    let (mut client, mut far) = Far::connected(Role::Client);
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        client.send_message(text).unwrap();
        far.read_from(&mut client);
        let bytes = far.plaintext();
        let (header, masked) = bytes.split_at(6);
        assert_eq!(header[..2], [0x82, 0x80 | text.len() as u8]);
        let key = &header[2..];
        let plain: Vec<u8> = masked.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k).collect();
        assert_eq!(plain, text);
        assert_ne!(masked, text);
        keys.insert(key.to_vec());
    }
    // Of 1,000 random ones two are alike once in 9,000 runs; ten never are.
    assert!(keys.len() > 990, "{} keys", keys.len());

    let (mut server, mut far) = Far::connected(Role::Server);
    server.send_message(text).unwrap();
    far.read_from(&mut server);
    assert_eq!(far.plaintext(), [&[0x82, text.len() as u8], &text[..]].concat());
}
