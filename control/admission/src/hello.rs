//! What two nodes must agree on before a connection is a lane.

use hawser_identity::PeerIdentity;
use hawser_wire::{
    CloseReason, FRAME_BODY_BYTES_MAX, Hello, LaneClose, LaneId, LinkEpoch, PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN, TrafficClass, capability,
};

use crate::LocalNode;

/// A peer that takes smaller frames than this could not even be sent link state.
const FRAME_BODY_BYTES_MIN: u32 = 4 << 10;

/// Which lane the connection is to be; the dialler says, the acceptor echoes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LaneName {
    pub(crate) lane: LaneId,
    pub(crate) class: TrafficClass,
    pub(crate) epoch: LinkEpoch,
}

impl LaneName {
    pub(crate) const fn of(hello: &Hello) -> Self {
        Self { lane: hello.lane, class: hello.class, epoch: hello.link_epoch }
    }
}

/// This node's side.
pub(crate) fn own_hello(local: &LocalNode, lane: LaneName) -> Hello {
    Hello {
        version_max: PROTOCOL_VERSION,
        version_min: PROTOCOL_VERSION_MIN,
        capabilities: capability::STRICT_SOURCE_ROUTES
            | capability::LANE_ACKS
            | capability::STRIPING
            | capability::PRIORITY
            | capability::LIFE_NONCE
            | capability::SEVERAL_ADVERTISEMENTS,
        mesh: local.mesh,
        node: local.node,
        incarnation: local.incarnation,
        link_epoch: lane.epoch,
        lane: lane.lane,
        class: lane.class,
        frame_body_max: u32::try_from(FRAME_BODY_BYTES_MAX).unwrap_or(u32::MAX),
        name: local.name.clone(),
        life: Some(local.life),
    }
}

/// Checks the peer's side; the largest frame body that both take, in bytes.
///
/// The version comes first: under one that is not shared the other fields may mean anything.
pub(crate) fn check_hello(
    hello: &Hello,
    peer: &PeerIdentity,
    local: &LocalNode,
) -> Result<u32, LaneClose> {
    let close = |reason, detail| Err(LaneClose { reason, detail });
    if hello.shared_version().is_none() {
        let (min, max) = (hello.version_min, hello.version_max);
        let detail = format!(
            "the peer speaks {min} to {max}, this node {PROTOCOL_VERSION_MIN} to \
             {PROTOCOL_VERSION}: upgrade the older one"
        );
        return close(CloseReason::VersionNotShared, detail);
    }
    if hello.mesh != local.mesh {
        let detail = format!("the peer is in mesh {}, this node in {}", hello.mesh, local.mesh);
        return close(CloseReason::WrongMesh, detail);
    }
    if hello.node != peer.node {
        let detail = format!("Hello says node {}, the certificate node {}", hello.node, peer.node);
        return close(CloseReason::IdentityRefused, detail);
    }
    if peer.node == local.node {
        return close(CloseReason::SelfConnect, format!("both ends are node {}", local.node));
    }
    let required = [
        (capability::STRICT_SOURCE_ROUTES, "strict source routes"),
        (capability::LANE_ACKS, "acknowledgements of lanes"),
    ];
    for (bit, what) in required {
        if hello.capabilities & bit == 0 {
            return close(CloseReason::ProtocolViolation, format!("the peer lacks {what}"));
        }
    }
    if hello.frame_body_max < FRAME_BODY_BYTES_MIN {
        let detail = format!(
            "the peer takes frames of {} bytes, less than {FRAME_BODY_BYTES_MIN}",
            hello.frame_body_max
        );
        return close(CloseReason::ProtocolViolation, detail);
    }
    Ok(hello.frame_body_max.min(u32::try_from(FRAME_BODY_BYTES_MAX).unwrap_or(u32::MAX)))
}

/// The acceptor must answer for the lane that was dialled.
pub(crate) fn check_echo(hello: &Hello, lane: LaneName) -> Result<(), LaneClose> {
    if LaneName::of(hello) == lane {
        return Ok(());
    }
    let detail = format!("dialled {lane:?}, the answer is for {:?}", LaneName::of(hello));
    Err(LaneClose { reason: CloseReason::ProtocolViolation, detail })
}

#[cfg(test)]
mod tests;
