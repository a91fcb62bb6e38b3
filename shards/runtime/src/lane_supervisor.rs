use std::time::Duration;

use hawser_link::{
    LaneAction, LaneDecision, LanePolicy, LanePolicyLimits, LaneSample, LaneStatus, VirtualLink,
};
use hawser_wire::{CloseReason, LaneId, MonoTime, TrafficClass};

/// Samples are taken this often.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// The first lane that carries bulk and nothing else.
const FIRST_BULK_LANE: u16 = 2;

/// Whether bulk lanes are opened and closed by need.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LanePolicyMode {
    /// Yes.
    #[default]
    On,
    /// Decisions are made and told, and not acted on.
    DryRun,
    /// No decision is made.
    Off,
}

/// Watches the bulk lanes of one link and asks for more, or lets go of one, as the policy says.
#[derive(Debug)]
pub(crate) struct LaneSupervisor {
    policy: LanePolicy,
    next_sample: MonoTime,
    sampled_at: MonoTime,
    /// Bytes acknowledged over the bulk lanes at the last sample.
    acked_bytes: u64,
}

/// What the supervisor wants done.
#[derive(Debug)]
pub(crate) struct Supervision {
    pub(crate) decision: LaneDecision,
    /// A lane to be asked for.
    pub(crate) wanted: Option<LaneId>,
}

impl LaneSupervisor {
    /// `None` if no policy is wanted.
    pub(crate) fn new(mode: LanePolicyMode, bulk_lanes_max: u8) -> Option<Self> {
        if mode == LanePolicyMode::Off {
            return None;
        }
        let dry_run = mode == LanePolicyMode::DryRun;
        let limits = LanePolicyLimits { dry_run, bulk_lanes_max, ..LanePolicyLimits::default() };
        Some(Self {
            policy: LanePolicy::new(limits),
            next_sample: MonoTime::ZERO,
            sampled_at: MonoTime::ZERO,
            acked_bytes: 0,
        })
    }

    /// Takes a sample if one is due, and does what follows from it.
    pub(crate) fn handle_timeout(
        &mut self,
        now: MonoTime,
        link: &mut VirtualLink,
    ) -> Option<Supervision> {
        if now < self.next_sample {
            return None;
        }
        let elapsed = now.saturating_since(self.sampled_at);
        (self.next_sample, self.sampled_at) = (now.saturating_add(SAMPLE_EVERY), now);
        let lanes: Vec<LaneStatus> =
            link.lanes().filter(|lane| lane.class == TrafficClass::Bulk).collect();
        let mut sample = self.sample(&lanes, elapsed, link.send_ahead_bytes());
        sample.is_striped = link.status().striped_streams > 0;
        let decision = self.policy.handle_sample(now, &sample)?;
        let mut wanted = None;
        match decision.action() {
            Some(LaneAction::Open) => {
                let mut ids = FIRST_BULK_LANE..;
                wanted = ids.find(|&id| lanes.iter().all(|lane| lane.id.lane.0 != id)).map(LaneId);
            }
            Some(LaneAction::Close) => {
                if let Some(last) = lanes.iter().max_by_key(|lane| lane.id.lane) {
                    link.close_lane(now, last.key, CloseReason::NotNeeded);
                }
            }
            None => {}
        }
        Some(Supervision { decision, wanted })
    }

    fn sample(&mut self, lanes: &[LaneStatus], elapsed: Duration, full_bytes: usize) -> LaneSample {
        let queued = lanes.iter().fold(0_usize, |sum, lane| sum.saturating_add(lane.queued_bytes));
        let full = full_bytes.saturating_mul(lanes.len()).max(1);
        let acked = lanes.iter().fold(0_u64, |sum, lane| sum.saturating_add(lane.acked_bytes));
        // A lane that is gone took its count with it.
        let grown = acked.saturating_sub(std::mem::replace(&mut self.acked_bytes, acked));
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let known = |rtt: &Duration| !rtt.is_zero();
        LaneSample {
            bulk_lanes: u8::try_from(lanes.len()).unwrap_or(u8::MAX),
            occupancy_permille: u32::try_from((queued.saturating_mul(1000) / full).min(1000))
                .unwrap_or(1000),
            srtt: lanes.iter().map(|lane| lane.srtt).filter(known).max().unwrap_or_default(),
            min_rtt: lanes.iter().map(|lane| lane.min_rtt).filter(known).min().unwrap_or_default(),
            goodput: grown.saturating_mul(1000) / millis,
            is_striped: false,
        }
    }
}
