//! When this node's advertisement is made anew though nothing has changed.

use std::time::Duration;

use hawser_routing::LIFETIME_MAX;
use hawser_wire::MonoTime;

/// An advertisement is made anew after so long.
const REFRESH: Duration = Duration::from_secs(30 * 60);

// One that is lost on its way ends nothing: the next one comes in time.
const _: () = assert!(2 * REFRESH.as_secs() <= LIFETIME_MAX.as_secs());

/// The time of the next one.
#[derive(Debug, Default)]
pub(crate) struct Refresh {
    due: Option<MonoTime>,
}

impl Refresh {
    /// The advertisement was made anew, for whatever reason.
    pub(crate) fn handle_originated(&mut self, now: MonoTime) {
        self.due = Some(now.saturating_add(REFRESH));
    }

    /// There is no advertisement any more.
    pub(crate) fn clear(&mut self) {
        self.due = None;
    }

    pub(crate) fn is_due(&self, now: MonoTime) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// When it is due; none without an advertisement.
    pub(crate) const fn poll_timeout(&self) -> Option<MonoTime> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_is_made_anew_twice_in_its_life() {
        let at = |seconds| MonoTime::ZERO.saturating_add(Duration::from_secs(seconds));
        let mut refresh = Refresh::default();
        assert_eq!((refresh.poll_timeout(), refresh.is_due(at(9_999))), (None, false));
        refresh.handle_originated(at(100));
        assert_eq!(refresh.poll_timeout(), Some(at(100 + 1_800)));
        assert!(!refresh.is_due(at(100 + 1_799)) && refresh.is_due(at(100 + 1_800)));
        // A change has its own advertisement, and the time begins again.
        refresh.handle_originated(at(1_000));
        assert!(!refresh.is_due(at(100 + 1_800)) && refresh.is_due(at(1_000 + 1_800)));
        refresh.clear();
        assert!(!refresh.is_due(at(9_999)) && refresh.poll_timeout().is_none());
    }
}
