//! Ed25519 keys of simulated nodes. Each follows from the seed and the node's number: they guard
//! nothing.

use std::fmt;

use hawser_identity::{NodeKey, node_id, verify_zip215};
use hawser_sim::MeshKeys;
use hawser_wire::NodeId;

use crate::cli::failure::Failure;

/// What comes before the private key in PKCS#8, version 1 (RFC 8410 §7).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

pub(super) struct SeededKeys(Vec<NodeKey>);

impl SeededKeys {
    /// # Errors
    /// If such a key is refused, which is a bug.
    pub(super) fn new(nodes: usize, seed: u64) -> Result<Self, Failure> {
        let key = |number: usize| {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            let secret = [seed.to_le_bytes(), number.to_le_bytes(), [0; 8], [0; 8]].concat();
            NodeKey::from_pkcs8(&[&PKCS8[..], &secret].concat())
        };
        let keys: Result<_, _> = (0..nodes).map(key).collect();
        keys.map(Self).map_err(|error| Failure::plain(format!("a simulated node's key: {error}")))
    }

    fn key(&self, node: usize) -> &NodeKey {
        &self.0[node]
    }
}

impl fmt::Debug for SeededKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeededKeys").field("nodes", &self.0.len()).finish()
    }
}

impl MeshKeys for SeededKeys {
    fn public_key(&self, node: usize) -> [u8; 32] {
        self.key(node).public_key()
    }

    fn node_id(&self, public_key: &[u8; 32]) -> NodeId {
        node_id(public_key)
    }

    fn sign(&self, node: usize, message: &[u8]) -> [u8; 64] {
        self.key(node).sign(message)
    }

    fn verify(&self, public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        verify_zip215(public_key, message, signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_from_seed_and_number_and_sign() {
        let keys = |seed| SeededKeys::new(3, seed).expect("keys");
        let public = |keys: &SeededKeys| [0, 1, 2].map(|node| keys.public_key(node));
        assert_eq!(public(&keys(1)), public(&keys(1)));
        assert_ne!(public(&keys(1)), public(&keys(2)));
        let keys = keys(1);
        let signature = keys.sign(1, b"message");
        assert!(keys.verify(&keys.public_key(1), b"message", &signature));
        assert!(!keys.verify(&keys.public_key(2), b"message", &signature));
    }
}
