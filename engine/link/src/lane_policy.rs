use std::time::Duration;

use hawser_wire::MonoTime;

use crate::lane_decision::{
    BULK_LANES_MAX, LaneDecision, LanePolicyLimits, LaneSample, LaneVerdict,
};
use crate::lane_refusal::LaneRefusal;

/// A sample stands for no more time than this: what was not measured counts neither way.
const SAMPLE_TIME_MAX: Duration = Duration::from_secs(1);

/// A lane is one too many if the goodput is below so many thousandths of what one lane fewer
/// carried. Well below one, so that closing it does not call for it again.
const SPARE_PERMILLE: u64 = 700;

/// One for each number of lanes from 0 to [`BULK_LANES_MAX`].
const BASELINES: usize = 5;
const _: () = assert!(BULK_LANES_MAX == 4);

/// Decides how many bulk lanes a link has, from samples alone.
///
/// A lane is opened if for a while the send buffer was high, the round trip inflated and the goodput
/// below its target; it then has to prove itself against the goodput before. While a stream is
/// striped a shorter while is enough, and no cool-down is kept. A lane is closed if for
/// a while the buffer was empty, fewer lanes had carried as much, and little came: each end judges what
/// it sends, and leaves to the other what that sends. A lane that the peer lets go of though it is filled
/// is over its cap: for a while, and longer each time, it is asked for no more. The driver takes a sample
/// about four times a second, at least once.
///
/// Invariant: outside of trials and without striped streams two changes lie at least a cool-down apart; the last bulk lane is
/// never closed.
#[derive(Debug)]
pub struct LanePolicy {
    limits: LanePolicyLimits,
    phase: Phase,
    sampled_at: Option<MonoTime>,
    bulk_lanes: u8,
    /// Smoothed over about four samples.
    occupancy_permille: u32,
    goodput: u64,
    received: u64,
    is_buffer_high: bool,
    is_rtt_high: bool,
    occupied_for: Duration,
    empty_for: Duration,
    /// Goodput while occupied.
    occupied: MeanGoodput,
    /// By number of lanes: what one lane fewer carried under full load; 0 if unknown.
    baselines: [u64; BASELINES],
    cool_until: MonoTime,
    barred_until: MonoTime,
    refusal: LaneRefusal,
    /// The last reason why a wish was not followed, and when it was reported.
    held: Option<(LaneVerdict, MonoTime)>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Steady,
    /// A lane was asked for when there were so many.
    Opening {
        since: MonoTime,
        lanes_before: u8,
        baseline: u64,
    },
    /// The new lane is to prove itself.
    Trial {
        since: MonoTime,
        baseline: u64,
        goodput: MeanGoodput,
        /// While the buffer was high: only then was there more to carry.
        busy_for: Duration,
    },
}

/// Mean of a rate over time.
#[derive(Clone, Copy, Debug, Default)]
struct MeanGoodput {
    /// Bytes per second times nanoseconds.
    sum: u128,
    over: Duration,
}

impl MeanGoodput {
    fn add(&mut self, goodput: u64, time: Duration) {
        self.sum = self.sum.saturating_add(u128::from(goodput).saturating_mul(time.as_nanos()));
        self.over = self.over.saturating_add(time);
    }

    /// Forgets by halves, so that the mean is over the last `window` or two.
    fn forget_beyond(&mut self, window: Duration) {
        if self.over > window.saturating_mul(2) {
            self.sum >>= 1_u32;
            self.over = self.over.checked_div(2).unwrap_or_default();
        }
    }

    fn mean(&self) -> u64 {
        let mean = self.sum.checked_div(self.over.as_nanos()).unwrap_or(0);
        u64::try_from(mean).unwrap_or(u64::MAX)
    }
}

impl LanePolicy {
    /// A link of which nothing is known.
    #[must_use]
    pub const fn new(limits: LanePolicyLimits) -> Self {
        Self {
            limits,
            phase: Phase::Steady,
            sampled_at: None,
            bulk_lanes: 0,
            occupancy_permille: 0,
            goodput: 0,
            received: 0,
            is_buffer_high: false,
            is_rtt_high: false,
            occupied_for: Duration::ZERO,
            empty_for: Duration::ZERO,
            occupied: MeanGoodput { sum: 0, over: Duration::ZERO },
            baselines: [0; BASELINES],
            cool_until: MonoTime::ZERO,
            barred_until: MonoTime::ZERO,
            refusal: LaneRefusal::NONE,
            held: None,
        }
    }

    /// The thresholds in force.
    #[must_use]
    pub const fn limits(&self) -> &LanePolicyLimits {
        &self.limits
    }

    /// Other thresholds from now on. What was learned stays; but what a dry run has decided was not done,
    /// so that nothing has to wait for it, and the peer is asked anew for what it has refused.
    pub const fn set_limits(&mut self, limits: LanePolicyLimits) {
        if self.limits.dry_run && !limits.dry_run {
            self.cool_until = MonoTime::ZERO;
        }
        // A wish that one cap holds back may pass another.
        self.held = None;
        self.refusal = LaneRefusal::NONE;
        self.limits = limits;
    }

    /// The peer may have begun another life, with another cap.
    pub const fn handle_session_ended(&mut self) {
        self.refusal = LaneRefusal::NONE;
    }

    /// Takes what was measured; what was decided, if anything was. Without a bulk lane (the link is
    /// down or collapsed) nothing is.
    pub fn handle_sample(&mut self, now: MonoTime, sample: &LaneSample) -> Option<LaneDecision> {
        let time = self.sampled_at.map_or(Duration::ZERO, |at| now.saturating_since(at));
        let time = time.min(SAMPLE_TIME_MAX);
        self.sampled_at = Some(now);
        let lanes_before = std::mem::replace(&mut self.bulk_lanes, sample.bulk_lanes);
        if sample.bulk_lanes == 0 {
            self.begin_anew();
            self.phase = Phase::Steady;
            return None;
        }
        if lanes_before != sample.bulk_lanes {
            self.begin_anew();
        }
        self.measure(time, sample);
        if sample.is_let_go && self.has_use_for(lanes_before) {
            return Some(self.note_refused(now, sample));
        }
        match self.phase {
            Phase::Steady => self.decide(now, sample),
            Phase::Opening { .. } => self.watch_opening(now, sample),
            Phase::Trial { .. } => self.watch_trial(now, time, lanes_before, sample),
        }
    }

    fn begin_anew(&mut self) {
        self.occupied_for = Duration::ZERO;
        self.empty_for = Duration::ZERO;
        self.occupied = MeanGoodput::default();
    }

    fn measure(&mut self, time: Duration, sample: &LaneSample) {
        let limits = &self.limits;
        let occupancy = u64::from(sample.occupancy_permille.min(1000));
        let smoothed = smooth(u64::from(self.occupancy_permille), occupancy);
        self.occupancy_permille = u32::try_from(smoothed).unwrap_or(1000);
        self.goodput = smooth(self.goodput, sample.goodput);
        self.received = smooth(self.received, sample.received);
        let between =
            |is_high, value, low, high| if is_high { value >= low } else { value >= high };
        self.is_buffer_high = between(
            self.is_buffer_high,
            self.occupancy_permille,
            limits.occupancy_low_permille,
            limits.occupancy_high_permille,
        );
        self.is_rtt_high = between(
            self.is_rtt_high,
            inflation_permille(sample),
            limits.inflation_low_permille,
            limits.inflation_high_permille,
        );
        let misses_target = limits.goodput_target.is_none_or(|target| self.goodput < target);
        if self.is_buffer_high && self.is_rtt_high && misses_target {
            self.occupied_for = self.occupied_for.saturating_add(time);
            self.occupied.add(sample.goodput, time);
            self.occupied.forget_beyond(limits.occupied_for);
        } else {
            // Not back to zero by one quiet sample; but who is occupied less than two thirds of the
            // time never gets there.
            self.occupied_for = self.occupied_for.saturating_sub(time.saturating_mul(2));
        }
        if self.occupied_for.is_zero() {
            self.occupied = MeanGoodput::default();
        }
        let is_empty = self.occupancy_permille < limits.occupancy_empty_permille;
        // A lane may be one too many here and full at the other end, which knows.
        let is_unused = self.received < limits.idle_goodput;
        if is_empty && is_unused && self.goodput < self.spare_goodput(self.bulk_lanes) {
            self.empty_for = self.empty_for.saturating_add(time);
        } else {
            self.empty_for = Duration::ZERO;
        }
    }

    /// What one lane fewer than so many carried under full load; 0 if unknown.
    fn baseline(&self, lanes: u8) -> u64 {
        self.baselines.get(usize::from(lanes)).copied().unwrap_or(0)
    }

    /// Below this goodput one of so many lanes is one too many.
    fn spare_goodput(&self, lanes: u8) -> u64 {
        let carried = self.baseline(lanes);
        let spare = carried.saturating_mul(SPARE_PERMILLE).checked_div(1000).unwrap_or(0);
        spare.max(self.limits.idle_goodput)
    }

    /// This side has asked for the last of so many lanes, and is to try it or needs it still.
    fn has_use_for(&self, lanes: u8) -> bool {
        match self.phase {
            Phase::Opening { .. } | Phase::Trial { .. } => true,
            Phase::Steady => self.baseline(lanes) > 0 && self.goodput >= self.spare_goodput(lanes),
        }
    }

    fn note_refused(&mut self, now: MonoTime, sample: &LaneSample) -> LaneDecision {
        let LanePolicyLimits { refused_for, refused_for_max, .. } = self.limits;
        let lanes = sample.bulk_lanes;
        let until = self.refusal.refuse(now, lanes, refused_for, refused_for_max);
        self.phase = Phase::Steady;
        self.change(now, sample, LaneVerdict::Refused { lanes, until })
    }

    fn lanes_max(&self) -> u8 {
        self.limits.bulk_lanes_max.clamp(1, BULK_LANES_MAX)
    }

    fn decide(&mut self, now: MonoTime, sample: &LaneSample) -> Option<LaneDecision> {
        let lanes = sample.bulk_lanes;
        let too_many = lanes > self.lanes_max() || self.empty_for >= self.limits.empty_for;
        if lanes > 1 && too_many && now >= self.cool_until {
            return Some(self.change(now, sample, LaneVerdict::Close));
        }
        let occupied_for = if sample.is_striped {
            self.limits.occupied_striped_for
        } else {
            self.limits.occupied_for
        };
        if self.occupied_for < occupied_for {
            if self.occupied_for.is_zero() {
                self.forget_held(now);
            }
            return None;
        }
        if lanes >= self.lanes_max() {
            return self.hold(now, sample, LaneVerdict::HeldAtCap);
        }
        if let Some(until) = self.refusal.bars(now, lanes) {
            return self.hold(now, sample, LaneVerdict::HeldRefused { until });
        }
        if now < self.barred_until {
            return self.hold(now, sample, LaneVerdict::HeldBarred { until: self.barred_until });
        }
        if now < self.cool_until && !sample.is_striped {
            return self.hold(now, sample, LaneVerdict::HeldCoolDown { until: self.cool_until });
        }
        let baseline = self.occupied.mean();
        let decision = self.change(now, sample, LaneVerdict::Open);
        if !self.limits.dry_run {
            self.phase = Phase::Opening { since: now, lanes_before: lanes, baseline };
        }
        Some(decision)
    }

    fn watch_opening(&mut self, now: MonoTime, sample: &LaneSample) -> Option<LaneDecision> {
        let Phase::Opening { since, lanes_before, baseline } = self.phase else { return None };
        if sample.bulk_lanes > lanes_before {
            if let Some(known) = self.baselines.get_mut(usize::from(sample.bulk_lanes)) {
                *known = baseline;
            }
            let goodput = MeanGoodput::default();
            self.phase = Phase::Trial { since: now, baseline, goodput, busy_for: Duration::ZERO };
            return None;
        }
        if now.saturating_since(since) < self.limits.open_within {
            return None;
        }
        self.phase = Phase::Steady;
        Some(self.change(now, sample, LaneVerdict::OpenFailed))
    }

    fn watch_trial(
        &mut self,
        now: MonoTime,
        time: Duration,
        lanes_before: u8,
        sample: &LaneSample,
    ) -> Option<LaneDecision> {
        let is_buffer_high = self.is_buffer_high;
        let Phase::Trial { since, baseline, ref mut goodput, ref mut busy_for } = self.phase else {
            return None;
        };
        let changed = lanes_before != sample.bulk_lanes;
        if !changed && now.saturating_since(since) <= self.limits.trial_settle {
            return None;
        }
        goodput.add(sample.goodput, time);
        if is_buffer_high {
            *busy_for = busy_for.saturating_add(time);
        }
        if !changed && goodput.over < self.limits.trial_for {
            return None;
        }
        let trial_goodput = goodput.mean();
        let gain_permille = gain_permille(baseline, trial_goodput);
        let was_busy = busy_for.saturating_mul(2) >= goodput.over;
        self.phase = Phase::Steady;
        if !changed {
            // The peer has kept it.
            self.refusal = LaneRefusal::NONE;
        }
        let verdict = if changed {
            LaneVerdict::Inconclusive
        } else if gain_permille >= i64::from(self.limits.gain_min_permille) {
            LaneVerdict::Confirmed { gain_permille }
        } else if was_busy {
            self.barred_until = now.saturating_add(self.limits.barred_for);
            LaneVerdict::Undone { gain_permille, barred_until: self.barred_until }
        } else {
            LaneVerdict::Inconclusive
        };
        let mut decision = self.change(now, sample, verdict);
        decision.baseline_goodput = baseline;
        decision.trial_goodput = trial_goodput;
        Some(decision)
    }

    /// Reports why a wish is not followed: once, until the wish has gone away.
    fn hold(
        &mut self,
        now: MonoTime,
        sample: &LaneSample,
        verdict: LaneVerdict,
    ) -> Option<LaneDecision> {
        if self.held.is_some_and(|(held, _)| held == verdict) {
            return None;
        }
        self.held = Some((verdict, now));
        Some(self.decision(now, sample, verdict))
    }

    /// A wish that comes and goes is reported once in a cool-down.
    fn forget_held(&mut self, now: MonoTime) {
        let pause = self.limits.cool_down;
        self.held = self.held.filter(|&(_, at)| now.saturating_since(at) < pause);
    }

    /// The number of lanes changes, or is settled: measures begin anew.
    fn change(&mut self, now: MonoTime, sample: &LaneSample, verdict: LaneVerdict) -> LaneDecision {
        let decision = self.decision(now, sample, verdict);
        self.cool_until = now.saturating_add(self.limits.cool_down);
        self.held = None;
        self.begin_anew();
        decision
    }

    fn decision(&self, at: MonoTime, sample: &LaneSample, verdict: LaneVerdict) -> LaneDecision {
        LaneDecision {
            at,
            verdict,
            sample: *sample,
            occupancy_permille: self.occupancy_permille,
            inflation_permille: inflation_permille(sample),
            occupied_for: self.occupied_for,
            empty_for: self.empty_for,
            cool_down_left: self.cool_until.saturating_since(at),
            barred_left: self.barred_until.saturating_since(at),
            peer_lanes_max: self.refusal.cap(at),
            baseline_goodput: self.baseline(self.bulk_lanes),
            trial_goodput: 0,
            limits: self.limits,
        }
    }
}

/// A quarter of the way to the sample.
fn smooth(before: u64, sample: u64) -> u64 {
    let weighted = u128::from(before).saturating_mul(3).saturating_add(u128::from(sample));
    u64::try_from(weighted >> 2_u32).unwrap_or(u64::MAX)
}

/// Thousandths of the shortest round trip; 0 if one of them is unknown.
fn inflation_permille(sample: &LaneSample) -> u32 {
    let inflated = sample.srtt.as_nanos().saturating_mul(1000);
    let permille = inflated.checked_div(sample.min_rtt.as_nanos()).unwrap_or(0);
    u32::try_from(permille).unwrap_or(u32::MAX)
}

fn gain_permille(before: u64, after: u64) -> i64 {
    let gained = i128::from(after).saturating_sub(i128::from(before)).saturating_mul(1000);
    let unknown = if after > 0 { i128::from(i64::MAX) } else { 0 };
    let gain = gained.checked_div(i128::from(before)).unwrap_or(unknown);
    i64::try_from(gain).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
