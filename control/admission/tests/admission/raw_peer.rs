//! A peer whose every byte the test decides, of either role.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hawser_admission::LocalNode;
use hawser_identity::lane_server_name;
use hawser_session::LaneSession;
use hawser_wire::{
    BatchWriter, FrameIter, FrameKind, Hello, LaneClose, LaneId, LinkEpoch, LinkSequence,
    PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, TrafficClass, capability,
};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;

use crate::mesh::within;

pub(crate) struct RawPeer {
    socket: TcpStream,
    session: LaneSession,
}

impl RawPeer {
    /// TCP and TLS.
    pub(crate) async fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let socket = within(TcpStream::connect(address)).await.unwrap();
        Self::client(socket, config).await.unwrap()
    }

    pub(crate) async fn client(socket: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = lane_server_name().unwrap();
        let session = LaneSession::client(Arc::clone(config), name).unwrap();
        Self { socket, session }.tls().await
    }

    pub(crate) async fn accept(listener: &TcpListener, local: &LocalNode) -> io::Result<Self> {
        let (socket, _) = within(listener.accept()).await?;
        let session = LaneSession::server(Arc::clone(&local.server)).unwrap();
        Self { socket, session }.tls().await
    }

    async fn tls(mut self) -> io::Result<Self> {
        let mut handshaking = self.session.process().unwrap().handshaking;
        self.flush().await?;
        while handshaking {
            self.read().await?;
            handshaking = self.session.process().map_err(io::Error::other)?.handshaking;
            self.flush().await?;
        }
        Ok(self)
    }

    /// A whole upgrade; the answer's status.
    pub(crate) async fn upgrade(&mut self, path: &str) -> u16 {
        let answer = self.request(&request(path)).await;
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Any request; the answer's head.
    pub(crate) async fn request(&mut self, request: &str) -> String {
        self.send_plaintext(request.as_bytes()).await;
        let head = self.read_head().await.unwrap();
        String::from_utf8(head).unwrap()
    }

    /// The server's part of an upgrade.
    pub(crate) async fn answer_upgrade(&mut self) {
        let head = self.read_head().await.unwrap();
        let (_, request) = Request::try_parse(&head).unwrap().unwrap();
        let mut response = create_response(&request).unwrap();
        let headers = response.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("hawser.v1"));
        let mut bytes = Vec::new();
        write_response(&mut bytes, &response).unwrap();
        self.send_plaintext(&bytes).await;
    }

    async fn read_head(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let unread = self.session.inbox().unread();
            if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = unread[..at + 4].to_vec();
                self.session.inbox().consume(at + 4);
                return Ok(head);
            }
            self.read().await?;
            self.session.process().map_err(io::Error::other)?;
        }
    }

    /// Bytes of the test's own making, within TLS.
    pub(crate) async fn send_plaintext(&mut self, bytes: &[u8]) {
        self.session.send_plaintext(bytes).unwrap();
        // The other side may have closed already; the test asserts on what it said.
        let _closed = self.flush().await;
    }

    /// Bytes of the test's own making, outside TLS.
    pub(crate) async fn send_ciphertext(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    pub(crate) async fn send_frame(&mut self, kind: FrameKind, body: &[u8]) {
        self.send_message(&frame(kind, body)).await;
    }

    pub(crate) async fn send_message(&mut self, batch: &[u8]) {
        self.session.send_message(batch).unwrap();
        let _closed = self.flush().await;
    }

    /// Several messages in one write.
    pub(crate) async fn send_messages(&mut self, batches: &[Vec<u8>]) {
        for batch in batches {
            self.session.send_message(batch).unwrap();
        }
        self.flush().await.unwrap();
    }

    /// The next message's only frame.
    pub(crate) async fn read_frame(&mut self) -> io::Result<(FrameKind, Vec<u8>)> {
        loop {
            if let Some(message) = self.session.next_message().map_err(io::Error::other)? {
                let frame = FrameIter::new(&message).next().unwrap().unwrap();
                return Ok((frame.header.kind, frame.body.to_vec()));
            }
            self.read().await?;
            self.session.process().map_err(io::Error::other)?;
        }
    }

    pub(crate) async fn read_close(&mut self) -> LaneClose {
        let (kind, body) = self.read_frame().await.unwrap();
        assert_eq!(kind, FrameKind::Close);
        LaneClose::decode(&body).unwrap()
    }

    /// Waits until the other side has closed; the plaintext that came until then.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        while self.read().await.is_ok() {
            if self.session.process().is_err() {
                break;
            }
        }
        self.session.inbox().unread().to_vec()
    }

    async fn read(&mut self) -> io::Result<()> {
        let count = within(self.socket.read_buf(self.session.read_buffer())).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let bytes = self.session.take_unsent();
        within(self.socket.write_all(&bytes)).await
    }
}

pub(crate) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: h:1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: hawser.v1\r\n\r\n"
    )
}

pub(crate) fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let mut batch = Vec::new();
    BatchWriter::new(&mut batch)
        .frame(kind, TrafficClass::Control, LinkSequence(0), &[body])
        .unwrap();
    batch
}

pub(crate) fn hello(local: &LocalNode) -> Hello {
    Hello {
        version_max: PROTOCOL_VERSION,
        version_min: PROTOCOL_VERSION_MIN,
        capabilities: capability::STRICT_SOURCE_ROUTES | capability::LANE_ACKS,
        mesh: local.mesh,
        node: local.node,
        incarnation: local.incarnation,
        link_epoch: LinkEpoch(5),
        lane: LaneId(2),
        class: TrafficClass::Bulk,
        frame_body_max: 1 << 20,
        name: local.name.clone(),
        life: None,
    }
}

pub(crate) fn encoded(hello: &Hello) -> Vec<u8> {
    let mut body = Vec::new();
    hello.encode(&mut body);
    body
}
