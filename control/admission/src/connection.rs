use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BufMut as _;
use hawser_session::{LaneSession, Progress, SessionError};
use hawser_wire::{
    BatchWriter, CloseReason, FrameHeader, FrameIter, FrameKind, LaneClose, LinkSequence,
    TrafficClass,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::{Fault, Stage};

/// Read at once. A handshake message fits; what a peer sends behind its Hello comes later.
const READ_BYTES_MAX: usize = 4 << 10;
/// A TLS flight of a member: certificates and a post-quantum key share take below 6 KiB.
const TLS_BYTES_MAX: usize = 32 << 10;
/// What TLS and WebSocket add to a request, and a message of a later version may.
const OVERHEAD_BYTES: usize = 1 << 10;
/// After a refusal the rest of what the peer sends is read and dropped, because closing with
/// unread bytes makes TCP reset the connection, and the reset destroys the refusal on its way.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 64 << 10;

/// A socket and its session during the handshake: every wait ends at the deadline, every stage
/// reads a bounded number of bytes.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    session: LaneSession,
    remote: SocketAddr,
    deadline: Deadline,
    stage: Stage,
    /// Bytes that may still be read in this stage.
    budget_bytes: usize,
    stage_bytes_max: usize,
    peer_closed: bool,
}

/// One for the whole handshake, however many stages it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) after: Duration,
}

impl Deadline {
    pub(crate) fn after(after: Duration) -> Self {
        // A day stands for ever; a longer one may not be representable.
        Self { at: Instant::now() + after.min(Duration::from_secs(86_400)), after }
    }

    pub(crate) const fn fault(self, stage: Stage) -> Fault {
        Fault::Timeout { stage, after: self.after }
    }

    /// The result, unless the deadline comes first.
    pub(crate) async fn limit<T>(
        self,
        stage: Stage,
        future: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        // A future that is always ready would win against any timer.
        if Instant::now() >= self.at {
            return Err(self.fault(stage));
        }
        timeout_at(self.at, future).await.map_err(|_elapsed| self.fault(stage))
    }
}

impl Connection {
    pub(crate) fn new(
        socket: TcpStream,
        session: LaneSession,
        remote: SocketAddr,
        deadline: Deadline,
    ) -> Self {
        Self {
            socket,
            session,
            remote,
            deadline,
            stage: Stage::Tls,
            budget_bytes: TLS_BYTES_MAX,
            stage_bytes_max: TLS_BYTES_MAX,
            peer_closed: false,
        }
    }

    pub(crate) const fn session(&self) -> &LaneSession {
        &self.session
    }

    pub(crate) const fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(crate) const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// From here on errors name `stage`, and it may read `max_bytes` and what wraps them.
    pub(crate) const fn enter(&mut self, stage: Stage, max_bytes: usize) {
        self.stage = stage;
        self.stage_bytes_max = max_bytes;
        self.budget_bytes = max_bytes.saturating_add(OVERHEAD_BYTES);
    }

    /// Runs the TLS handshake until application data can be sent.
    pub(crate) async fn tls_handshake(&mut self) -> Result<(), Fault> {
        let mut progress = self.process().await?;
        while progress.handshaking {
            progress = self.read().await?;
        }
        Ok(())
    }

    /// Takes bytes from the front through the first empty line.
    pub(crate) async fn read_head(&mut self) -> Result<Vec<u8>, Fault> {
        const END: &[u8] = b"\r\n\r\n";
        loop {
            let unread = self.session.inbox().unread();
            let within = unread.get(..self.stage_bytes_max).unwrap_or(unread);
            if let Some(at) = within.windows(END.len()).position(|window| window == END) {
                let head = within.get(..at + END.len()).unwrap_or_default().to_vec();
                self.session.inbox().consume(head.len());
                return Ok(head);
            }
            if unread.len() >= self.stage_bytes_max {
                return Err(self.too_large());
            }
            self.read().await?;
        }
    }

    /// What comes until the peer closes, within the stage's bounds. For a refusal's text.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        while self.read().await.is_ok() {}
        self.session.inbox().unread().to_vec()
    }

    pub(crate) async fn send_plaintext(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.session.send_plaintext(bytes).map_err(|error| self.session_fault(error))?;
        self.flush().await
    }

    /// Sends one message of one frame of the control class.
    pub(crate) async fn send_frame(&mut self, kind: FrameKind, body: &[u8]) -> Result<(), Fault> {
        self.queue_frame(kind, body)?;
        self.flush().await
    }

    fn queue_frame(&mut self, kind: FrameKind, body: &[u8]) -> Result<(), Fault> {
        // Wiped and never grown: a join request holds a token's secret.
        let mut batch = Zeroizing::new(Vec::with_capacity(FrameHeader::LEN + body.len()));
        BatchWriter::new(&mut batch)
            .frame(kind, TrafficClass::Control, LinkSequence(0), &[body])
            .map_err(|source| Fault::Decode { stage: self.stage, source })?;
        self.session.send_message(&batch).map_err(|error| self.session_fault(error))
    }

    /// Waits for a message that is one frame of this kind; its body. A close frame instead is
    /// [`Answer::Close`].
    pub(crate) async fn read_frame(&mut self, kind: FrameKind) -> Result<Answer, Fault> {
        let message = Zeroizing::new(loop {
            match self.session.next_message() {
                Ok(Some(message)) => break message,
                Ok(None) => {}
                Err(error) => return Err(self.session_fault(error)),
            }
            self.flush().await?;
            if self.session.inbox().is_closed() {
                return Err(Fault::Closed { stage: self.stage });
            }
            if self.session.inbox().waiting_bytes() > self.stage_bytes_max + OVERHEAD_BYTES {
                return Err(self.too_large());
            }
            self.read().await?;
        });
        // The answers to pings that came before.
        self.flush().await?;
        if message.len() > self.stage_bytes_max {
            return Err(self.too_large());
        }
        let decode = |source| Fault::Decode { stage: self.stage, source };
        let mut frames = FrameIter::new(&message);
        let Some(frame) = frames.next() else {
            return Err(self.protocol("an empty message".to_owned()));
        };
        let frame = frame.map_err(decode)?;
        if frames.next().is_some() {
            return Err(self.protocol("more than one frame".to_owned()));
        }
        if frame.header.kind == FrameKind::Close {
            let (close, evidence) = LaneClose::decode_with_evidence(&frame.body).map_err(decode)?;
            return Ok(Answer::Close(close.printable(), evidence.to_vec()));
        }
        if frame.header.kind != kind {
            let found = frame.header.kind;
            return Err(self.protocol(format!("a frame of kind {found:?}, expected {kind:?}")));
        }
        Ok(Answer::Body(Zeroizing::new(frame.body.to_vec())))
    }

    pub(crate) const fn protocol(&self, what: String) -> Fault {
        Fault::Protocol { stage: self.stage, what }
    }

    /// Says why, if frames are spoken already, and ends the connection.
    pub(crate) async fn refuse(self, close: &LaneClose) {
        self.refuse_with(close, &[]).await;
    }

    /// As [`Self::refuse`], with evidence.
    pub(crate) async fn refuse_with(mut self, close: &LaneClose, evidence: &[u8]) {
        let mut body = Vec::new();
        close.encode(&mut body);
        body.extend_from_slice(evidence);
        if self.speaks_frames() {
            // Whether the peer still hears it does not matter: it is refused either way.
            let _unsendable = self.queue_frame(FrameKind::Close, &body);
        }
        self.finish().await;
    }

    /// Ends the connection after a fault: a peer that still hears is told.
    pub(crate) async fn refuse_fault(self, fault: &Fault) {
        match fault {
            Fault::Timeout { .. } | Fault::Closed { .. } | Fault::Io { .. } => {}
            _ => {
                let reason = CloseReason::ProtocolViolation;
                self.refuse(&LaneClose { reason, detail: fault.to_string() }).await;
            }
        }
    }

    /// Ends the connection: with the good-bye of the layers that are up, and what is unsent.
    pub(crate) async fn finish(mut self) {
        if self.speaks_frames() {
            self.session.send_close();
        }
        self.linger().await;
    }

    /// Before the upgrade a frame would be taken for a part of HTTP.
    const fn speaks_frames(&self) -> bool {
        matches!(self.stage, Stage::Hello | Stage::Join)
    }

    /// Writes what is left, then lets the peer finish speaking, for a short while. All of it is
    /// best effort: the connection ends in any case.
    async fn linger(mut self) {
        let until = self.deadline.at.min(Instant::now() + LINGER);
        self.deadline.at = until;
        self.budget_bytes = LINGER_BYTES_MAX;
        if self.flush().await.is_err() {
            return;
        }
        let shutdown = self.deadline.limit(self.stage, self.socket.shutdown()).await;
        if !matches!(shutdown, Ok(Ok(()))) {
            return;
        }
        while self.read_socket().await.is_ok() {
            self.session.read_buffer().clear();
        }
    }

    /// The socket, blocking in nothing, and the session with all bytes under way.
    pub(crate) fn into_parts(self) -> Result<(std::net::TcpStream, LaneSession), Fault> {
        let stage = self.stage;
        let socket = self.socket.into_std().map_err(|source| Fault::Io { stage, source })?;
        Ok((socket, self.session))
    }

    async fn read(&mut self) -> Result<Progress, Fault> {
        if self.peer_closed {
            return Err(Fault::Closed { stage: self.stage });
        }
        if self.budget_bytes == 0 {
            return Err(self.too_large());
        }
        self.read_socket().await?;
        self.process().await
    }

    async fn process(&mut self) -> Result<Progress, Fault> {
        match self.session.process() {
            Ok(progress) => {
                self.peer_closed = progress.peer_closed;
                self.flush().await?;
                Ok(progress)
            }
            // What is unsent may hold an alert; the good-bye writes it.
            Err(error) => Err(self.session_fault(error)),
        }
    }

    async fn read_socket(&mut self) -> Result<(), Fault> {
        let stage = self.stage;
        let count = loop {
            let ready = self.deadline.limit(stage, self.socket.readable()).await?;
            ready.map_err(|error| Fault::of_io(stage, error))?;
            let limit = self.budget_bytes.min(READ_BYTES_MAX);
            let buffer = self.session.read_buffer();
            buffer.reserve(limit);
            let mut buffer = buffer.limit(limit);
            match self.socket.try_read_buf(&mut buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Fault::of_io(stage, error)),
            }
        };
        if count == 0 {
            return Err(Fault::Closed { stage });
        }
        self.budget_bytes = self.budget_bytes.saturating_sub(count);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        let stage = self.stage;
        let unsent = self.session.take_unsent();
        let mut rest = unsent.as_slice();
        while !rest.is_empty() {
            let ready = self.deadline.limit(stage, self.socket.writable()).await?;
            ready.map_err(|error| Fault::of_io(stage, error))?;
            match self.socket.try_write(rest) {
                Ok(0) => return Err(Fault::Closed { stage }),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Fault::of_io(stage, error)),
            }
        }
        self.session.recycle(unsent);
        Ok(())
    }

    const fn too_large(&self) -> Fault {
        Fault::TooLarge { stage: self.stage, max_bytes: self.stage_bytes_max }
    }

    const fn session_fault(&self, source: SessionError) -> Fault {
        Fault::Session { stage: self.stage, source }
    }
}

/// What the peer's message was.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Wiped when it is dropped: a join request holds a token's secret.
    Body(Zeroizing<Vec<u8>>),
    /// And what is behind it.
    Close(LaneClose, Vec<u8>),
}
