//! Who signs, and whose signature was found good.

use std::collections::HashMap;
use std::fmt::Debug;

use hawser_routing::{Flooding, Judgement, Lsa, StoredLsa};
use hawser_wire::NodeId;

/// The keys of the simulated nodes. The engine has no cryptography; its caller has.
pub trait MeshKeys: Debug {
    /// The public key of a node, numbered from 0; a different one for each.
    fn public_key(&self, node: usize) -> [u8; 32];
    /// The id that belongs to a public key.
    fn node_id(&self, public_key: &[u8; 32]) -> NodeId;
    /// That node's signature; the same for the same message.
    fn sign(&self, node: usize, message: &[u8]) -> [u8; 64];
    /// Whether the owner of the key has signed the message.
    fn verify(&self, public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool;
}

/// Judges advertisements as a node does whose neighbours have sent it all certificates: by id, key
/// and signature. What one node has found good is good for all, so that each signature is checked
/// once however many nodes there are.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) keys: Box<dyn MeshKeys>,
    /// By signature; the same advertisement, to the last bit.
    good: HashMap<[u8; 64], Lsa>,
    /// By signature, what databases share.
    stored: HashMap<[u8; 64], StoredLsa>,
    pub(crate) verified: u64,
}

impl Judge {
    pub(crate) fn new(keys: Box<dyn MeshKeys>) -> Self {
        Self { keys, good: HashMap::new(), stored: HashMap::new(), verified: 0 }
    }

    pub(crate) fn judge(&mut self, lsa: &Lsa) -> Judgement {
        if self.good.get(&lsa.signature).is_some_and(|good| good == lsa) {
            return Judgement::Accept;
        }
        self.verified = self.verified.saturating_add(1);
        let is_own = self.keys.node_id(&lsa.public_key) == lsa.origin;
        if is_own && self.keys.verify(&lsa.public_key, &lsa.signed_bytes(), &lsa.signature) {
            self.good.insert(lsa.signature, lsa.clone());
            return Judgement::Accept;
        }
        Judgement::Forged
    }

    /// A database has taken this origin's newest advertisement in: all that have it share it.
    pub(crate) fn share(&mut self, flooding: &mut Flooding, origin: NodeId) {
        let Some(stored) = flooding.lsdb().stored(origin) else { return };
        let Some(signature) = flooding.lsdb().get(origin).map(|lsa| lsa.signature) else { return };
        match self.stored.get(&signature) {
            Some(first) => {
                flooding.adopt(first);
            }
            None => {
                self.stored.insert(signature, stored);
            }
        }
    }
}
