//! Many members that several machines begin with.

use std::sync::Arc;

use hawser_wire::{Incarnation, NodeId};

use crate::MembersFull;
use crate::members::Members;

/// Members with their lives, all alive, in a form that machines of one process share: what none of
/// them has learnt about a member is there once for all of them.
#[derive(Clone, Debug)]
pub struct Roster(pub(crate) Arc<Members>);

impl Roster {
    /// These members; of one that is there twice the first counts.
    ///
    /// # Errors
    /// [`MembersFull`].
    pub fn new(
        members: impl IntoIterator<Item = (NodeId, Incarnation)>,
    ) -> Result<Self, MembersFull> {
        Members::of_roster(members).map(Arc::new).map(Self).ok_or(MembersFull)
    }
}
