use std::io::{self, Read, Write};
use std::sync::Arc;

use hawser_identity::lane_server_name;
use hawser_session::{LaneSession, Role};
use rustls::{ClientConnection, Connection, ServerConnection};

use crate::pair::Member;

/// The other end of a session: rustls with its own buffers, and no WebSocket, so that a test sees
/// and sends bare bytes.
pub(crate) struct Far {
    pub(crate) tls: Connection,
    arrived: Vec<u8>,
}

impl Far {
    /// Connected to a session whose role is `near`.
    pub(crate) fn connected(near: Role) -> (LaneSession, Self) {
        let (client, server) = Member::new().lane_configs();
        let name = lane_server_name().unwrap();
        let (mut near, tls) = match near {
            Role::Client => (
                LaneSession::client(client, name).unwrap(),
                Connection::from(ServerConnection::new(server).unwrap()),
            ),
            Role::Server => (
                LaneSession::server(Arc::clone(&server)).unwrap(),
                Connection::from(ClientConnection::new(client, name).unwrap()),
            ),
        };
        let mut far = Self { tls, arrived: Vec::new() };
        near.process().unwrap();
        for _ in 0..8 {
            far.read_from(&mut near);
            far.write_to(&mut near);
            near.process().unwrap();
        }
        assert!(!far.tls.is_handshaking());
        (near, far)
    }

    /// Takes what the session has to send.
    pub(crate) fn read_from(&mut self, near: &mut LaneSession) {
        let sent = near.take_unsent();
        let mut sent = sent.as_slice();
        while !sent.is_empty() {
            self.tls.read_tls(&mut sent).unwrap();
            self.tls.process_new_packets().unwrap();
            match self.tls.reader().read_to_end(&mut self.arrived) {
                Ok(_closed) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Puts the ciphertext that waits into the session's read buffer.
    pub(crate) fn write_to(&mut self, near: &mut LaneSession) {
        while self.tls.wants_write() {
            self.tls.write_tls(near.read_buffer()).unwrap();
        }
    }

    /// What arrived since it was last asked for, as it was decrypted.
    pub(crate) fn plaintext(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.arrived)
    }

    pub(crate) fn send(&mut self, plaintext: &[u8]) {
        self.tls.writer().write_all(plaintext).unwrap();
    }
}
