use hawser_wire::NodeId;

use crate::{Liveness, Version};

/// A member's liveness changed, or it began another life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Event {
    /// Who.
    pub node: NodeId,
    /// As it is now.
    pub liveness: Liveness,
    /// As it was before.
    pub before: Liveness,
    /// The version at which it is so.
    pub version: Version,
}
