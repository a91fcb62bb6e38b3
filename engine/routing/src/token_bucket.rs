//! A token bucket: a rate with a burst, in virtual time.

use std::time::Duration;

use hawser_wire::MonoTime;

/// Full at first; gains a token every `every` up to `capacity`.
///
/// Time that goes backwards gains nothing and costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    capacity: u32,
    every: Duration,
    /// The bucket is full from this time on.
    full_at: MonoTime,
}

impl TokenBucket {
    /// A full bucket. Both arguments must be above zero.
    #[must_use]
    pub const fn new(capacity: u32, every: Duration) -> Self {
        Self { capacity, every, full_at: MonoTime::ZERO }
    }

    /// When there is, or was, a token: now or earlier if there is one.
    #[must_use]
    pub fn ready_at(&self) -> MonoTime {
        let burst = self.every.saturating_mul(self.capacity.saturating_sub(1));
        let full_at = self.full_at.saturating_since(MonoTime::ZERO);
        MonoTime::ZERO.saturating_add(full_at.saturating_sub(burst))
    }

    /// Whether there is a token.
    #[must_use]
    pub fn has_token(&self, now: MonoTime) -> bool {
        self.ready_at() <= now
    }

    /// Whether it is as at first.
    pub(crate) fn is_full(&self, now: MonoTime) -> bool {
        self.full_at <= now
    }

    /// Takes a token; false, and nothing changed, if there is none.
    pub fn take(&mut self, now: MonoTime) -> bool {
        let taken = self.has_token(now);
        if taken {
            self.full_at = self.full_at.max(now).saturating_add(self.every);
        }
        taken
    }
}
