use std::io;
use std::time::Duration;

use hawser_session::SessionError;
use hawser_wire::DecodeError;
use rustls::{AlertDescription, CertificateError};
use thiserror::Error;

/// What a connection was doing.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Stage {
    /// Resolving the name and connecting.
    #[error("connecting")]
    Connect,
    /// Asking the proxy.
    #[error("the proxy's CONNECT")]
    Proxy,
    /// Both identities.
    #[error("the TLS handshake")]
    Tls,
    /// From HTTP to WebSocket.
    #[error("the HTTP upgrade")]
    Upgrade,
    /// The lane's first frame in each direction.
    #[error("Hello")]
    Hello,
    /// A node that asks to be let in, and the answer.
    #[error("the join request")]
    Join,
}

/// What went wrong with one connection during its handshake. It is closed; nothing else is
/// touched.
#[derive(Debug, Error)]
pub enum Fault {
    /// The other side took too long.
    #[error("{stage} was not done after {after:?}")]
    Timeout {
        /// What it was doing.
        stage: Stage,
        /// The deadline, from the connection's beginning.
        after: Duration,
    },
    /// The other side closed the connection.
    #[error("connection closed by the other side during {stage}")]
    Closed {
        /// What it was doing.
        stage: Stage,
    },
    /// The system reports an error of the connection.
    #[error("connection failed during {stage}: {source}")]
    Io {
        /// What it was doing.
        stage: Stage,
        /// The system's words.
        source: io::Error,
    },
    /// TLS failed, or the WebSocket layer was violated.
    #[error("{stage}: {source}{}", hint(source))]
    Session {
        /// What it was doing.
        stage: Stage,
        /// What happened.
        source: SessionError,
    },
    /// The other side sent more than this stage takes.
    #[error("{stage}: more than {max_bytes} bytes")]
    TooLarge {
        /// What it was doing.
        stage: Stage,
        /// The bound.
        max_bytes: usize,
    },
    /// A frame or message could not be read.
    #[error("{stage}: {source}")]
    Decode {
        /// What it was doing.
        stage: Stage,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The HTTP server at the other end refused.
    #[error("the other side answered HTTP {status}: {text}")]
    Http {
        /// The status code.
        status: u16,
        /// The beginning of what it said.
        text: String,
    },
    /// The other side broke the protocol.
    #[error("{stage}: {what}")]
    Protocol {
        /// What it was doing.
        stage: Stage,
        /// How.
        what: String,
    },
}

impl Fault {
    /// A peer that resets the connection has closed it, like one that takes its leave.
    pub(crate) fn of_io(stage: Stage, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed { stage },
            _ => Self::Io { stage, source },
        }
    }

    /// True if the other side, or the way to it, did not answer: trying again later may help.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Closed { .. } | Self::Io { .. })
    }
}

/// What an operator can do about a TLS error, where the error alone does not say.
fn hint(source: &SessionError) -> &'static str {
    use AlertDescription as Alert;
    let SessionError::Tls(error) = source else { return "" };
    match error {
        rustls::Error::AlertReceived(alert) => match alert {
            Alert::CertificateExpired => {
                " (the other side finds this node's certificate expired: check both clocks, or \
                 join again)"
            }
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown => {
                " (the other side does not accept this node's certificate: is it in the same mesh?)"
            }
            Alert::CertificateRequired | Alert::AccessDenied => {
                " (the other side demands a certificate of its mesh)"
            }
            _ => "",
        },
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => " (the other side's certificate has expired: it must join again, or a clock is wrong)",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => " (the other side's certificate is of the future: a clock is wrong)",
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => " (the other side's certificate is not of this mesh)",
        rustls::Error::InvalidMessage(_) => " (the other side does not speak TLS)",
        _ => "",
    }
}
