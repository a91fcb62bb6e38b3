use hawser_wire::{Incarnation, LaneId, LifeNonce, LinkEpoch, TrafficClass};

/// The driver's name for a connection, unique for the life of the process.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LaneKey(pub u64);

/// A connection as both ends can name it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionId {
    /// The lane that it serves.
    pub lane: LaneId,
    /// As its dialler counts.
    pub epoch: LinkEpoch,
    /// This node dialled it.
    pub dialled: bool,
}

/// A connection whose handshake is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneOffer {
    /// The lane that it is for.
    pub lane: LaneId,
    /// The lane's class.
    pub class: TrafficClass,
    /// As its dialler counts.
    pub epoch: LinkEpoch,
    /// This node dialled it.
    pub dialled: bool,
    /// The peer's life.
    pub peer_incarnation: Incarnation,
    /// What tells it from another one with this incarnation, if the peer says it.
    pub peer_life: Option<LifeNonce>,
    /// The peer puts striped records back in order.
    pub peer_stripes: bool,
    /// The peer takes records of priority.
    pub peer_takes_priority: bool,
}

impl LaneOffer {
    /// How both ends name it.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        ConnectionId { lane: self.lane, epoch: self.epoch, dialled: self.dialled }
    }
}

/// What becomes of a connection for a lane that has one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Crossing {
    /// The offered one serves, the present one is closed.
    Replace,
    /// The present one stays, the two had crossed.
    Keep,
    /// The same side dialled again without counting on.
    Duplicate,
}

/// Decides between two connections for one lane; both ends come to the same verdict.
///
/// Of two that crossed, the one that the smaller node id dialled lives; of two that the same side
/// dialled, the newer.
pub(crate) fn cross(
    present: ConnectionId,
    offered: ConnectionId,
    local_is_smaller: bool,
) -> Crossing {
    if present.dialled != offered.dialled {
        return if offered.dialled == local_is_smaller {
            Crossing::Replace
        } else {
            Crossing::Keep
        };
    }
    if offered.epoch > present.epoch { Crossing::Replace } else { Crossing::Duplicate }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn connection(epoch: u64, dialled: bool) -> ConnectionId {
        ConnectionId { lane: LaneId(2), epoch: LinkEpoch(epoch), dialled }
    }

    #[test]
    fn both_ends_keep_the_same_one_of_two_that_crossed_in_either_order() {
        for (first, second) in [(1, 9), (9, 1), (5, 5)] {
            // What the smaller node dialled, as each end sees it.
            let (ours, theirs) = (connection(first, true), connection(second, false));
            assert_eq!(cross(ours, theirs, true), Crossing::Keep);
            assert_eq!(cross(theirs, ours, true), Crossing::Replace);
            let (ours, theirs) = (connection(second, true), connection(first, false));
            assert_eq!(cross(ours, theirs, false), Crossing::Replace);
            assert_eq!(cross(theirs, ours, false), Crossing::Keep);
        }
    }

    #[test]
    fn the_newer_one_of_the_same_dialler_replaces_and_another_is_a_duplicate() {
        for dialled in [true, false] {
            let present = connection(5, dialled);
            assert_eq!(cross(present, connection(6, dialled), true), Crossing::Replace);
            assert_eq!(cross(present, connection(5, dialled), true), Crossing::Duplicate);
            assert_eq!(cross(present, connection(4, dialled), true), Crossing::Duplicate);
        }
    }
}
