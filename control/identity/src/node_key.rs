use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use hawser_wire::NodeId;
use rcgen::{CertificateParams, DistinguishedName, DnType};

use crate::key_pair::KeyPair;
use crate::name::check_node_name;
use crate::{IdentityError, node_id};

/// A node's key: whoever holds it is the node.
///
/// The same key speaks in TLS, in certificate signing requests and under link-state
/// advertisements; each kind of message begins with bytes that no other kind begins with, and so
/// must every new kind that is given to [`sign`](Self::sign).
pub struct NodeKey {
    pair: KeyPair,
    node: NodeId,
}

impl NodeKey {
    /// A new node's key.
    ///
    /// # Errors
    /// [`IdentityError::Random`] if the operating system gave no random bytes.
    pub fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate().map(Self::new)
    }

    /// The key that [`pkcs8`](Self::pkcs8) gave.
    ///
    /// # Errors
    /// [`IdentityError::PrivateKey`] if these bytes are no such key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, IdentityError> {
        KeyPair::from_pkcs8(pkcs8, "the node's key").map(Self::new)
    }

    fn new(pair: KeyPair) -> Self {
        let node = node_id(pair.public_key());
        Self { pair, node }
    }

    /// The private key in PKCS#8 (RFC 8410), to be kept where nobody else reads it.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        self.pair.pkcs8()
    }

    /// The node that this key makes.
    #[must_use]
    pub const fn node_id(&self) -> NodeId {
        self.node
    }

    /// The public key, as RFC 8032 encodes it.
    #[must_use]
    pub const fn public_key(&self) -> [u8; 32] {
        *self.pair.public_key()
    }

    /// Signs `message` (Ed25519, RFC 8032).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(message)
    }

    /// A certificate signing request (RFC 2986, DER) for this key, with `name` as its common name.
    ///
    /// # Errors
    /// [`IdentityError::Name`] if the name cannot be a node's.
    pub fn csr(&self, name: &str) -> Result<Vec<u8>, IdentityError> {
        check_node_name(name)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(params.serialize_request(&self.pair)?.der().to_vec())
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("node", &self.node).finish_non_exhaustive()
    }
}

/// True if `signature` over `message` is the one of the key's owner (Ed25519, RFC 8032).
#[must_use]
pub fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_survives_storage() {
        let key = NodeKey::generate().unwrap();
        let again = NodeKey::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(again.node_id(), key.node_id());
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.sign(b"x"), key.sign(b"x"));
        assert_eq!(key.node_id(), node_id(&key.public_key()));
    }

    #[test]
    fn two_keys_are_two_nodes() {
        let (a, b) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        assert_ne!(a.node_id(), b.node_id());
    }

    #[test]
    fn signature_holds_for_its_message_and_key_only() {
        let (key, other) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let signature = key.sign(b"message");
        assert!(verify(&key.public_key(), b"message", &signature));
        assert!(!verify(&key.public_key(), b"massage", &signature));
        assert!(!verify(&other.public_key(), b"message", &signature));
        let mut broken = signature;
        broken[63] ^= 1;
        assert!(!verify(&key.public_key(), b"message", &broken));
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        let key = NodeKey::generate().unwrap();
        for bytes in [&b""[..], b"key", &key.pkcs8()[..20]] {
            let error = NodeKey::from_pkcs8(bytes).unwrap_err();
            assert!(matches!(error, IdentityError::PrivateKey { .. }), "{error}");
        }
    }

    #[test]
    fn debug_output_keeps_the_secret() {
        let key = NodeKey::generate().unwrap();
        let shown = format!("{key:?} {:?}", key.pair);
        assert!(shown.contains(&key.node_id().to_string()));
        let seed = key.pkcs8();
        // The bytes as a list of numbers and as hexadecimal, from any place of the document.
        for window in seed.windows(4) {
            assert!(!shown.contains(&format!("{window:?}")[1..]));
            assert!(!shown.contains(&data_encoding::HEXLOWER.encode(window)));
        }
    }
}
