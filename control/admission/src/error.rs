use std::io;

use hawser_identity::IdentityError;
use hawser_session::SessionError;
use hawser_wire::CloseReason;
use thiserror::Error;

use crate::Fault;

/// Why there is no lane, no admission, or no listener. Nothing is kept of the attempt.
#[derive(Debug, Error)]
pub enum AdmissionError {
    /// The caller's address is none.
    #[error("{address:?} is no address: {why}")]
    Address {
        /// As given.
        address: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Nothing can be accepted there.
    #[error("cannot listen on {address}: {source}; {}", advice(source))]
    Bind {
        /// As given.
        address: String,
        /// The system's words.
        source: io::Error,
    },
    /// Nothing answers there.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// As given.
        address: String,
        /// The system's words about the last address tried.
        source: io::Error,
    },
    /// The HTTP CONNECT proxy does not let the connection through.
    #[error("proxy {proxy} does not connect to {address}: {why}")]
    Proxy {
        /// The proxy.
        proxy: String,
        /// The address asked for.
        address: String,
        /// What it said.
        why: String,
    },
    /// The connection ended before the handshake did.
    #[error("{address}: {fault}")]
    Handshake {
        /// As given.
        address: String,
        /// What happened.
        fault: Fault,
    },
    /// The other side closed with a reason.
    #[error("refused by the other side: {}: {detail}", reason.text())]
    Refused {
        /// Why.
        reason: CloseReason,
        /// What and where.
        detail: String,
        /// For [`CloseReason::Evicted`] the record of the eviction, as the peer has sent it.
        evidence: Vec<u8>,
    },
    /// This side cannot take the other.
    #[error("{address}: {}: {detail}", reason.text())]
    Unacceptable {
        /// As given.
        address: String,
        /// Why, as it was said to the other side.
        reason: CloseReason,
        /// What and where.
        detail: String,
    },
    /// This node's own identity or request is unusable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// This node's own TLS configuration is unusable.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl AdmissionError {
    /// True if the other side, or the way to it, did not answer: trying again later may help.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Proxy { .. } => true,
            Self::Handshake { fault, .. } => fault.is_unreachable(),
            _ => false,
        }
    }

    /// Nobody listens there, as its host said at once: no handshake was begun.
    #[must_use]
    pub fn is_refused_connect(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. }
            if source.kind() == io::ErrorKind::ConnectionRefused)
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there: stop it, or choose another address or port 0"
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this host has that address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose another",
        _ => "choose another address",
    }
}
