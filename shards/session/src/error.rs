use thiserror::Error;

/// Why a lane cannot go on. Its connection is to be closed; other lanes are not touched.
#[derive(Debug, Error)]
pub enum SessionError {
    /// TLS failed: the peer's bytes, its certificate, or its alert.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The peer broke RFC 6455 or the bounds set on it.
    #[error("WebSocket: {0}")]
    WebSocket(#[from] WebSocketViolation),
    /// Something was to be sent before the handshake was done, or after an error. A bug of the
    /// caller.
    #[error("TLS: not ready to send application data")]
    NotReady,
    /// The peer sent a part of a handshake message where only whole ones are taken.
    #[error("TLS: a handshake message in pieces, after the handshake")]
    HandshakeInPieces,
    /// No randomness for a mask.
    #[error("no randomness")]
    NoRandomness,
}

/// What a peer did that RFC 6455, or this side's bounds, forbid.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum WebSocketViolation {
    /// §5.2: reserved bits without an extension.
    #[error("reserved bits are set")]
    ReservedBits,
    /// §5.2: an opcode without a meaning.
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// §5.1: a client must mask.
    #[error("a client's frame is not masked")]
    Unmasked,
    /// §5.1: a server must not.
    #[error("a server's frame is masked")]
    Masked,
    /// The subprotocol has binary messages only.
    #[error("a text frame, where only binary ones are spoken")]
    Text,
    /// §5.2: a length in more bytes than it needs, or with the highest bit set.
    #[error("a length is not minimally encoded")]
    LengthEncoding,
    /// More than this side takes.
    #[error("a message of {bytes} bytes, more than {max_bytes}")]
    TooLarge {
        /// As announced, with earlier fragments.
        bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// A message in more pieces than this side takes.
    #[error("a message in more than {max} fragments")]
    TooManyFragments {
        /// The bound.
        max: u32,
    },
    /// §5.4: a continuation of nothing.
    #[error("a continuation frame without a message")]
    UnexpectedContinuation,
    /// §5.4: a new message within another.
    #[error("a new message before the last one ended")]
    ExpectedContinuation,
    /// §5.5: control frames are short and whole.
    #[error("a fragmented or oversized control frame")]
    ControlFrame,
    /// More pings than this side answers in one go.
    #[error("more than {max} pings at once")]
    PingFlood {
        /// The bound.
        max: u32,
    },
}
