use hawser_wire::NodeId;
use thiserror::Error;

/// What is wrong with a key, certificate, request, name or token. Nothing changed.
///
/// The texts say what and where; none contains a private key or a token's secret.
#[derive(Clone, Debug, Error)]
pub enum IdentityError {
    /// The operating system gave no random bytes. Try again; if it stays, the machine is broken.
    #[error("the operating system gave no random bytes")]
    Random,
    /// A private key that this node was given (by its store) is not one.
    #[error("{what} is not an Ed25519 private key in PKCS#8")]
    PrivateKey {
        /// Which one.
        what: &'static str,
    },
    /// A private key that this node was given belongs to another certificate.
    #[error("{what} does not belong to its certificate")]
    KeyMismatch {
        /// Which one.
        what: &'static str,
    },
    /// A name that cannot stand in a certificate.
    #[error("the name {name:?} cannot be used: {why}")]
    Name {
        /// As given, cut to 64 characters.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A certificate signing request that is not to be signed.
    #[error("certificate signing request refused: {why}")]
    Request {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A certificate that does not say who its owner is.
    #[error("certificate refused: {why}")]
    Certificate {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A certificate whose names are another node's than its key.
    #[error("certificate refused: its key is node {key}'s, its names are not")]
    CertificateOfOther {
        /// The node that the key makes.
        key: NodeId,
    },
    /// A text that is no join token.
    #[error("join token not readable: {0}")]
    Token(#[from] TokenFault),
    /// A certificate could not be made.
    #[error("certificate could not be made: {0}")]
    Issue(#[from] rcgen::Error),
    /// A TLS configuration could not be made from the certificates given.
    #[error("TLS configuration could not be made: {0}")]
    Tls(#[from] rustls::Error),
}

/// What is wrong with the text of a join token.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TokenFault {
    /// Not the prefix of a token.
    #[error("it does not begin with `hawser-`")]
    Prefix,
    /// A character that no token has.
    #[error("it has characters that no token has (a-z and 2-7 only)")]
    Characters,
    /// Mistyped, cut off, or changed.
    #[error("its checksum is wrong: it was mistyped or cut off; copy the whole token again")]
    Checksum,
    /// Made by a newer version.
    #[error("it has format {0}, which this version does not know; use a newer hawser")]
    Format(u8),
    /// The checksum is right, the fields are not.
    #[error("its fields are malformed")]
    Malformed,
}
