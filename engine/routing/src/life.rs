//! How long a node keeps an advertisement.

use std::time::Duration;

use hawser_wire::MonoTime;

/// An advertisement that its origin does not renew is forgotten after so long (RFC 2328 appendix B).
/// What is left of it is carried beside it: it is not signed, as it changes on the way.
pub const LIFETIME_MAX: Duration = Duration::from_secs(60 * 60);

/// By so much more time must a copy have left, to count as one that lasts longer. Copies of honest
/// neighbours differ by the seconds that they took; and each gain is told to others, so that at most
/// sixty are for one advertisement.
const GAIN_MIN: Duration = Duration::from_secs(60);

/// When an advertisement ends at this node.
///
/// The copy that comes first may say too little, by mistake or to make nodes forget its origin: the
/// one with the most time left decides.
///
/// **Invariant:** it ends [`LIFETIME_MAX`] after it was first seen at the latest, whatever copies say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Life {
    seen: MonoTime,
    /// [`MonoTime::MAX`]: never.
    ends: MonoTime,
}

impl Life {
    /// Of this node's own word, which it renews itself.
    pub(crate) const ENDLESS: Self = Self { seen: MonoTime::ZERO, ends: MonoTime::MAX };

    /// Of an advertisement that is first seen now, and has so much time left.
    pub(crate) fn new(now: MonoTime, left: Duration) -> Self {
        Self { seen: now, ends: now.saturating_add(left.min(LIFETIME_MAX)) }
    }

    /// When it ends; `None`: never.
    pub(crate) fn end(self) -> Option<MonoTime> {
        (self.ends != MonoTime::MAX).then_some(self.ends)
    }

    /// Whether no copy, whatever it says, makes it last until `now`.
    pub(crate) fn is_over(self, now: MonoTime) -> bool {
        self.seen.saturating_add(LIFETIME_MAX) <= now
    }

    /// The life of a copy that comes after it has ended, with so much time left.
    pub(crate) fn again(self, now: MonoTime, left: Duration) -> Self {
        let ends = now.saturating_add(left).min(self.seen.saturating_add(LIFETIME_MAX));
        Self { seen: self.seen, ends }
    }

    /// What is left of it, at most [`LIFETIME_MAX`].
    pub(crate) fn left(self, now: MonoTime) -> Duration {
        self.ends.saturating_since(now).min(LIFETIME_MAX)
    }

    /// A copy with so much time left came; whether it makes the life longer.
    pub(crate) fn extend(&mut self, now: MonoTime, left: Duration) -> bool {
        let ends = now.saturating_add(left).min(self.seen.saturating_add(LIFETIME_MAX));
        let gains = self.end().is_some() && ends >= self.ends.saturating_add(GAIN_MIN);
        if gains {
            self.ends = ends;
        }
        gains
    }

    /// Whether who has a copy with so much time left is to hear of this one.
    pub(crate) fn outlasts(self, now: MonoTime, left: Duration) -> bool {
        self.left(now) >= left.saturating_add(GAIN_MIN)
    }
}
