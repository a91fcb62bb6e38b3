use std::io::{self, Read, Write};
use std::sync::Arc;

use hawser_identity::lane_server_name;
use hawser_session::{LaneSession, Role};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::pair::Member;

/// Of a client and of a server.
pub(crate) type Configs = (Arc<ClientConfig>, Arc<ServerConfig>);

/// The other end of a session: rustls with its own buffers, and no WebSocket, so that a test sees
/// and sends bare bytes.
pub(crate) struct Far {
    pub(crate) tls: Connection,
    arrived: Vec<u8>,
}

impl Far {
    /// Connected to a session whose role is `near`.
    pub(crate) fn connected(near: Role) -> (LaneSession, Self) {
        Self::connected_through(near, Member::new().lane_configs())
    }

    /// As [`Self::connected`], with these.
    pub(crate) fn connected_through(near: Role, configs: Configs) -> (LaneSession, Self) {
        let (mut near, mut far) = Self::between(near, configs);
        near.process().unwrap();
        for _ in 0..8 {
            far.read_from(&mut near);
            far.write_to(&mut near);
            near.process().unwrap();
        }
        assert!(!far.tls.is_handshaking());
        (near, far)
    }

    /// Before the handshake.
    pub(crate) fn unconnected(near: Role) -> (LaneSession, Self) {
        Self::between(near, Member::new().lane_configs())
    }

    fn between(near: Role, (client, server): Configs) -> (LaneSession, Self) {
        let name = lane_server_name().unwrap();
        let (near, tls) = match near {
            Role::Client => (
                LaneSession::client(client, name).unwrap(),
                Connection::from(ServerConnection::new(server).unwrap()),
            ),
            Role::Server => (
                LaneSession::server(server).unwrap(),
                Connection::from(ClientConnection::new(client, name).unwrap()),
            ),
        };
        (near, Self { tls, arrived: Vec::new() })
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
