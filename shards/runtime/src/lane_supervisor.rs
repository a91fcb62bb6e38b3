use std::time::Duration;

use hawser_exchange::{LanePolicyMode, LaneRule};
use hawser_link::{
    HeartbeatCount, LaneAction, LaneDecision, LaneKey, LanePolicy, LanePolicyLimits, LaneSample,
    LaneStatus, VirtualLink,
};
use hawser_wire::{CloseReason, LaneId, MonoTime, TrafficClass};

/// Samples are taken this often.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// The first lane that carries bulk and nothing else.
const FIRST_BULK_LANE: u16 = 2;

/// Watches the bulk lanes of one link and asks for more, or lets go of one, as the policy says.
#[derive(Debug)]
pub(crate) struct LaneSupervisor {
    policy: LanePolicy,
    next_sample: MonoTime,
    sampled_at: MonoTime,
    /// The bulk lanes at the last sample.
    counted: Vec<CountedLane>,
    heartbeats: HeartbeatCount,
    /// Lanes that the peer had let go of until then.
    let_go: u64,
}

/// The bytes that a lane had carried.
#[derive(Clone, Copy, Debug)]
struct CountedLane {
    key: LaneKey,
    acked_bytes: u64,
    received_bytes: u64,
}

/// One of the bulk lanes that a decision is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SampledLane {
    pub(crate) status: LaneStatus,
    /// Bytes acknowledged per second since the sample before.
    pub(crate) goodput: u64,
    /// Bytes received per second since then.
    pub(crate) received: u64,
}

/// What the supervisor wants done.
#[derive(Debug)]
pub(crate) struct Supervision {
    pub(crate) decision: LaneDecision,
    pub(crate) lanes: Vec<SampledLane>,
    /// A lane to be asked for.
    pub(crate) wanted: Option<LaneId>,
}

impl LaneSupervisor {
    /// `None` if no policy is wanted.
    pub(crate) fn new(rule: LaneRule) -> Option<Self> {
        Some(Self {
            policy: LanePolicy::new(limits(rule)?),
            next_sample: MonoTime::ZERO,
            sampled_at: MonoTime::ZERO,
            counted: Vec::new(),
            heartbeats: HeartbeatCount::default(),
            let_go: 0,
        })
    }

    /// The one that follows another rule from now on: what this one has learned stays, if a policy is
    /// wanted.
    pub(crate) fn under(this: Option<Self>, rule: LaneRule) -> Option<Self> {
        let Some(mut this) = this else { return Self::new(rule) };
        this.policy.set_limits(limits(rule)?);
        Some(this)
    }

    /// What the peer has refused in a session says nothing about the next.
    pub(crate) const fn handle_session_ended(&mut self) {
        self.policy.handle_session_ended();
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
        let lanes: Vec<SampledLane> = link
            .lanes()
            .filter(|lane| lane.class == TrafficClass::Bulk)
            .map(|status| self.sampled(status, elapsed))
            .collect();
        self.counted.clear();
        self.counted.extend(lanes.iter().map(|lane| {
            let LaneStatus { key, acked_bytes, received_bytes, .. } = lane.status;
            CountedLane { key, acked_bytes, received_bytes }
        }));
        let sample = self.sample(&lanes, link);
        let decision = self.policy.handle_sample(now, &sample)?;
        let mut wanted = None;
        match decision.action() {
            Some(LaneAction::Open) => {
                let mut ids = FIRST_BULK_LANE..;
                wanted = ids
                    .find(|&id| lanes.iter().all(|lane| lane.status.id.lane.0 != id))
                    .map(LaneId);
            }
            Some(LaneAction::Close) => {
                let open = lanes.iter().filter(|lane| !lane.status.is_closing);
                if let Some(last) = open.max_by_key(|lane| lane.status.id.lane) {
                    link.close_lane(now, last.status.key, CloseReason::NotNeeded);
                }
            }
            None => {}
        }
        Some(Supervision { decision, lanes, wanted })
    }

    /// What was acknowledged and received over a lane since the sample before.
    fn sampled(&self, status: LaneStatus, elapsed: Duration) -> SampledLane {
        let before = self.counted.iter().find(|lane| lane.key == status.key);
        let (acked, received) =
            before.map_or((0, 0), |lane| (lane.acked_bytes, lane.received_bytes));
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = |now: u64, before| now.saturating_sub(before).saturating_mul(1000) / millis;
        SampledLane {
            status,
            goodput: rate(status.acked_bytes, acked),
            received: rate(status.received_bytes, received),
        }
    }

    fn sample(&mut self, lanes: &[SampledLane], link: &VirtualLink) -> LaneSample {
        let statuses = || lanes.iter().map(|lane| lane.status);
        let queued = statuses().fold(0_usize, |sum, lane| sum.saturating_add(lane.queued_bytes));
        let full = link.send_ahead_bytes().saturating_mul(lanes.len()).max(1);
        let known = |rtt: &Duration| !rtt.is_zero();
        let status = link.status();
        let before = std::mem::replace(&mut self.heartbeats, status.heartbeats);
        let ticks = status.heartbeats.ticks.saturating_sub(before.ticks);
        let missed = status.heartbeats.missed.saturating_sub(before.missed);
        let let_go = std::mem::replace(&mut self.let_go, status.lanes_let_go);
        let sum =
            |rate: fn(&SampledLane) -> u64| lanes.iter().map(rate).fold(0, u64::saturating_add);
        let open = statuses().filter(|lane| !lane.is_closing).count();
        LaneSample {
            bulk_lanes: u8::try_from(open).unwrap_or(u8::MAX),
            occupancy_permille: u32::try_from((queued.saturating_mul(1000) / full).min(1000))
                .unwrap_or(1000),
            srtt: statuses().map(|lane| lane.srtt).filter(known).max().unwrap_or_default(),
            min_rtt: statuses().map(|lane| lane.min_rtt).filter(known).min().unwrap_or_default(),
            goodput: sum(|lane| lane.goodput),
            received: sum(|lane| lane.received),
            is_let_go: status.lanes_let_go > let_go,
            is_striped: status.striped_streams > 0,
            loss_permille: u32::try_from(missed.saturating_mul(1000) / ticks.max(1))
                .unwrap_or(1000),
            turn_delay: status.turn_delay,
        }
    }
}

/// The thresholds of a policy that follows a rule; `None` if none is wanted.
fn limits(rule: LaneRule) -> Option<LanePolicyLimits> {
    let LaneRule { bulk_lanes_max, policy } = rule;
    let dry_run = policy == LanePolicyMode::DryRun;
    let limits = LanePolicyLimits { dry_run, bulk_lanes_max, ..LanePolicyLimits::default() };
    (policy != LanePolicyMode::Off).then_some(limits)
}

#[cfg(test)]
mod tests;
