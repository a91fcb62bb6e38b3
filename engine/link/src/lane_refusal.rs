use std::time::Duration;

use hawser_wire::MonoTime;

/// What is known of a cap that the peer has: it let go of a lane that this side was filling.
///
/// A cap is not told. So it is tried again after a pause, which doubles with each refusal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct LaneRefusal {
    last: Option<Refused>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Refused {
    /// Bulk lanes that the peer has left.
    lanes: u8,
    pause: Duration,
    until: MonoTime,
}

impl LaneRefusal {
    pub(crate) const NONE: Self = Self { last: None };

    /// The peer has left no more than so many bulk lanes; until when no more are asked for.
    pub(crate) fn refuse(
        &mut self,
        now: MonoTime,
        lanes: u8,
        pause_min: Duration,
        pause_max: Duration,
    ) -> MonoTime {
        let pause = match self.last {
            None => pause_min,
            // It lets go of one after the other: that is the same cap.
            Some(last) if now < last.until => last.pause,
            Some(last) => last.pause.saturating_mul(2).min(pause_max),
        };
        let until = now.saturating_add(pause);
        self.last = Some(Refused { lanes, pause, until });
        until
    }

    /// Until when none is to be asked for beside so many lanes, if that is so.
    pub(crate) fn bars(&self, now: MonoTime, lanes: u8) -> Option<MonoTime> {
        let last = self.last.filter(|last| now < last.until && last.lanes <= lanes)?;
        Some(last.until)
    }

    /// Bulk lanes that the peer takes, as far as is known, and for how long that is taken for true.
    pub(crate) fn cap(&self, now: MonoTime) -> Option<(u8, Duration)> {
        let last = self.last.filter(|last| now < last.until)?;
        Some((last.lanes, last.until.saturating_since(now)))
    }
}
