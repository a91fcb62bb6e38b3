use hawser_wire::{CloseReason, Incarnation, LinkEpoch, TrafficClass};

use crate::links::Connection;

/// Why a connection gets no lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// The mesh has evicted the neighbour.
    Evicted,
    /// An operator has cut the link for a while.
    Cut,
    /// A newer life of the neighbour has been seen.
    OlderLife {
        /// Which.
        newer: Incarnation,
    },
    /// A connection of another life with the same incarnation is registered.
    OtherLife,
    /// The lane is for another class.
    Class {
        /// For which.
        made_for: TrafficClass,
    },
    /// The same side has dialled the lane already, and did not count on.
    Duplicate {
        /// The connection that is registered.
        epoch: LinkEpoch,
    },
    /// It has crossed the one that serves the lane.
    Crossed,
}

impl Refusal {
    /// What the neighbour is told.
    pub(crate) const fn close_reason(self) -> CloseReason {
        match self {
            Self::Evicted => CloseReason::Evicted,
            Self::Cut => CloseReason::Barred,
            Self::OlderLife { .. } | Self::OtherLife => CloseReason::DuplicateNode,
            Self::Class { .. } => CloseReason::ClassChange,
            Self::Duplicate { .. } => CloseReason::DuplicateLane,
            Self::Crossed => CloseReason::Superseded,
        }
    }

    /// The name that it is counted under, if a neighbour that keeps the rules does not get it.
    pub(crate) const fn counted_as(self) -> Option<&'static str> {
        match self {
            Self::OlderLife { .. } | Self::OtherLife => Some("duplicate-node"),
            Self::Class { .. } => Some("lane-class"),
            Self::Duplicate { .. } => Some("duplicate-lane"),
            Self::Evicted | Self::Cut | Self::Crossed => None,
        }
    }

    /// What is wrong with the connection, for people.
    pub(crate) fn detail(self, offered: &Connection) -> String {
        let Connection { incarnation, lane, class, epoch, .. } = offered;
        match self {
            Self::Evicted => "the mesh has evicted the neighbour".to_owned(),
            Self::Cut => "the link is cut by an operator".to_owned(),
            Self::OlderLife { newer } => {
                format!("incarnation {incarnation}, and {newer} has been seen")
            }
            Self::OtherLife => {
                format!("another process with incarnation {incarnation} has lanes here")
            }
            Self::Class { made_for } => {
                format!("lane {lane} is for {}, not for {}", made_for.name(), class.name())
            }
            Self::Duplicate { epoch: present } => {
                format!("lane {lane} has a connection of epoch {present}, this one has {epoch}")
            }
            Self::Crossed => "another connection serves this lane".to_owned(),
        }
    }
}
