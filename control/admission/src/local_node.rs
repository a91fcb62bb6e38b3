use std::fmt;
use std::sync::Arc;

use hawser_wire::{Incarnation, LifeNonce, MeshId, NodeId};
use rustls::{ClientConfig, ServerConfig};

use crate::BarredPeers;

/// This node, as it presents itself to its peers.
#[derive(Clone)]
pub struct LocalNode {
    /// Its id.
    pub node: NodeId,
    /// Its human name.
    pub name: String,
    /// The mesh that it is a member of.
    pub mesh: MeshId,
    /// Its life.
    pub incarnation: Incarnation,
    /// What tells it from another one with this incarnation: random, the same for the whole life of
    /// the process.
    pub life: LifeNonce,
    /// TLS for dialling.
    pub client: Arc<ClientConfig>,
    /// TLS for accepting.
    pub server: Arc<ServerConfig>,
    /// Who gets no lane for a while.
    pub barred: Arc<BarredPeers>,
}

impl fmt::Debug for LocalNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalNode")
            .field("node", &self.node)
            .field("name", &self.name)
            .field("mesh", &self.mesh)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
