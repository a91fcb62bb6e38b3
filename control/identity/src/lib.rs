//! Who a node is and whom it believes: node keys, the mesh authority, certificates, TLS
//! configurations, join tokens, and the ids that are derived from names and keys.
//!
//! Owns every private key and every TLS configuration of the process. Reads no file and no clock:
//! the caller stores what must be kept and hands in the wall-clock time (Unix seconds), which
//! decides about certificates and tokens only.
//!
//! **Invariant:** a [`NodeId`](hawser_wire::NodeId) is a hash of an Ed25519 public key, so whoever
//! proves possession of the key is the node, and no authority can make one node pass for another.
//! **Invariant:** no private key and no token secret appears in a `Debug` or `Display` output.

mod authority;
mod certificate;
mod credentials;
mod csr;
mod digest;
mod error;
mod key_pair;
mod name;
mod node_key;
mod pinned;
mod random;
mod token;
mod zip215;

pub use authority::MeshAuthority;
pub use certificate::{PeerIdentity, certified_identity, peer_identity, verify_by_authority};
pub use credentials::{Credentials, LANE_SERVER_NAME, lane_server_name};
pub use csr::csr_node;
pub use digest::{
    constant_time_eq, fingerprint, node_id, producer_id, sha256, tenant_id, token_digest,
};
pub use error::{IdentityError, TokenFault};
pub use name::check_node_name;
pub use node_key::{NodeKey, verify};
pub use pinned::join_client_config;
pub use random::{random_id, random_u64};
pub use token::JoinToken;
pub use zip215::{verify_zip215, verify_zip215_batch};
