//! Frames that leave a link which carries nothing, to go another way.

use hawser_wire::FrameRef;

use super::VirtualLink;
use crate::batch::Batch;
use crate::event::LinkEvent;
use crate::width::wide;

impl VirtualLink {
    /// Lanes are up, and all of them miss as many heartbeats as it takes to send what is in flight over
    /// another one: there is no such other one.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let (after, tick) = (self.config.hedge_after_ticks, self.config.tick);
        !self.lanes.is_empty()
            && self.lanes.iter().all(|lane| lane.watch.missed_ticks(tick) >= after)
    }

    /// Frames that the link takes now arrive, as far as can be known.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.is_up() && !self.is_stalled()
    }

    /// Hands the counted frames that `takes` wants to [`Self::poll_rerouted`], oldest first: those that
    /// wait, and copies of those in flight over lanes that are silent or gone. Some of the latter may
    /// have arrived. None of them is sent over this link again, neither when the lane they are in
    /// flight over is lost nor when the link comes back within its session.
    ///
    /// For a link that is not [usable](Self::is_usable). What is not wanted stays as it was.
    pub fn evacuate(&mut self, mut takes: impl FnMut(&FrameRef<'_>) -> bool) {
        let Self { departed, lanes, orphans, control, priority, pool, .. } = self;
        let mut taken: Vec<Batch> = Vec::new();
        for departed in departed {
            departed.unacked_mut().evacuate(&mut takes, pool, &mut taken);
        }
        for lane in &mut *lanes {
            lane.evacuate(&mut takes, pool, &mut taken);
        }
        for (_, batch) in &mut *orphans {
            taken.extend(batch.extract(&mut takes, pool));
        }
        orphans.retain(|(_, batch)| batch.len() > 0);
        control.extract(&mut takes, pool, &mut taken);
        priority.extract(&mut takes, pool, &mut taken);
        taken.retain(|batch| batch.counted() > 0);
        if taken.is_empty() {
            return;
        }
        taken.sort_by_key(Batch::lowest);
        let (frames, bytes) = taken.iter().fold((0, 0), |(frames, bytes): (u64, u64), batch| {
            (frames.saturating_add(batch.counted()), bytes.saturating_add(wide(batch.len())))
        });
        let lanes = self.lanes.len();
        self.events.push_back(LinkEvent::Rerouted { frames, bytes, lanes });
        self.rerouted.extend(taken);
    }
}
