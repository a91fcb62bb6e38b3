//! Links in a few numbers: what each lane and all of them together carry, and what there is to
//! carry. Samples are noisy by a seed; a failure prints it.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "a test that overflows or misses fails, as it should"
)]

use super::*;
use crate::lane_decision::LaneAction;

const SAMPLE_EVERY: Duration = Duration::from_millis(250);
const HOUR: u64 = 3600;
const LANE: u64 = 10_000_000;

/// A small generator of its own, so that a seed means the same for ever (Vigna, splitmix64).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// `value` more or less by up to `permille`.
    fn around(&mut self, value: u64, permille: u64) -> u64 {
        value * (1000 - permille + self.below(2 * permille + 1)) / 1000
    }
}

struct World {
    policy: LanePolicy,
    random: Seeded,
    now: MonoTime,
    lanes: u8,
    /// Bytes per second that a lane carries, that all carry together, that there are to carry.
    lane: u64,
    bottleneck: u64,
    demand: u64,
    noise_permille: u64,
    lanes_come_up: bool,
    is_striped: bool,
    decisions: Vec<LaneDecision>,
}

impl World {
    fn new(limits: LanePolicyLimits, seed: u64) -> Self {
        Self {
            policy: LanePolicy::new(limits),
            random: Seeded(seed),
            now: MonoTime::from_nanos(1),
            lanes: 1,
            lane: LANE,
            bottleneck: 100 * LANE,
            demand: 0,
            noise_permille: 0,
            lanes_come_up: true,
            is_striped: false,
            decisions: Vec::new(),
        }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now.saturating_add(Duration::from_secs(seconds));
        while self.now < end {
            self.now = self.now.saturating_add(SAMPLE_EVERY);
            let sample = self.sample();
            let Some(decision) = self.policy.handle_sample(self.now, &sample) else { continue };
            match decision.action() {
                Some(LaneAction::Open) if self.lanes_come_up => self.lanes += 1,
                Some(LaneAction::Close) => self.lanes -= 1,
                _ => {}
            }
            assert!((1..=BULK_LANES_MAX).contains(&self.lanes), "{decision}");
            self.decisions.push(decision);
        }
    }

    fn sample(&mut self) -> LaneSample {
        let carries = (self.lane * u64::from(self.lanes)).min(self.bottleneck);
        let is_loaded = self.demand > carries;
        // What waits is as much as there is room for, or little more than the present write.
        let occupancy = if is_loaded { 900 } else { self.demand * 100 / carries };
        let srtt = if is_loaded { 16_000 } else { 10_500 };
        let noise = self.noise_permille;
        LaneSample {
            bulk_lanes: self.lanes,
            occupancy_permille: self.random.around(occupancy, noise).min(1000) as u32,
            srtt: Duration::from_micros(self.random.around(srtt, noise)),
            min_rtt: Duration::from_millis(10),
            goodput: self.random.around(self.demand.min(carries), noise),
            is_striped: self.is_striped,
            ..LaneSample::default()
        }
    }

    fn verdicts(&self) -> Vec<&'static str> {
        self.decisions.iter().map(|decision| decision.verdict.name()).collect()
    }

    fn count(&self, name: &str) -> usize {
        self.verdicts().iter().filter(|&&verdict| verdict == name).count()
    }

    /// Openings and closings other than of trials keep their distance.
    fn assert_cool(&self) {
        let mut last: Option<&LaneDecision> = None;
        for decision in &self.decisions {
            let is_change = matches!(decision.verdict, LaneVerdict::Open | LaneVerdict::Close);
            if let Some(last) = last.filter(|_| is_change) {
                let pause = decision.at.saturating_since(last.at);
                assert!(pause >= decision.limits.cool_down, "{last}\n{decision}");
            }
            if decision.action().is_some() {
                last = Some(decision);
            }
        }
    }
}

fn world(demand: u64) -> World {
    World { demand, ..World::new(LanePolicyLimits::default(), 1) }
}

#[test]
fn lanes_are_opened_up_to_what_is_to_be_carried_and_closed_when_idle() {
    let mut world = world(LANE * 25 / 10);
    world.run(4);
    assert_eq!(world.verdicts(), [""; 0]);
    world.run(200);
    assert_eq!(world.lanes, 3);
    let expected = ["open", "confirmed", "held_cool_down", "open", "confirmed"];
    assert_eq!(world.verdicts(), expected);
    world.assert_cool();
    world.demand = 0;
    world.run(55);
    assert_eq!(world.lanes, 3);
    world.run(120);
    assert_eq!((world.lanes, world.count("close")), (1, 2));
    world.run(HOUR);
    assert_eq!((world.lanes, world.decisions.len()), (1, 7));
}

#[test]
fn a_striped_stream_has_its_lanes_soon_unless_they_bring_nothing() {
    let mut world = World { is_striped: true, ..world(LANE * 10) };
    world.run(30);
    assert_eq!((world.lanes, world.count("open"), world.count("confirmed")), (4, 3, 3));
    let mut world = World { is_striped: true, bottleneck: LANE, ..self::world(LANE * 10) };
    world.run(300);
    assert_eq!((world.lanes, world.count("open"), world.count("undone")), (1, 1, 1));
}

#[test]
fn a_lane_that_brings_nothing_is_closed_and_none_opened_for_ten_minutes() {
    let mut world = world(5 * LANE);
    world.bottleneck = LANE * 105 / 100;
    world.run(60);
    assert_eq!((world.lanes, world.count("open"), world.count("undone")), (1, 1, 1));
    let undone = world.decisions[1];
    let until = undone.at.saturating_add(Duration::from_secs(600));
    assert_eq!(undone.verdict, LaneVerdict::Undone { gain_permille: 50, barred_until: until });
    assert_eq!((undone.baseline_goodput, undone.trial_goodput), (LANE, LANE * 105 / 100));
    world.run(540);
    assert_eq!(world.count("open"), 1);
    assert_eq!(world.decisions.last().map(|d| d.verdict), Some(LaneVerdict::HeldBarred { until }));
    world.run(60);
    assert_eq!((world.count("open"), world.count("undone")), (2, 2));
}

#[test]
fn load_that_is_reduced_in_a_trial_judges_nothing() {
    let mut world = world(2 * LANE);
    world.run(7);
    assert_eq!((world.lanes, world.verdicts()), (2, vec!["open"]));
    world.demand = LANE / 2;
    world.run(10);
    assert_eq!((world.lanes, world.verdicts()), (2, vec!["open", "inconclusive"]));
    world.run(70);
    assert_eq!((world.lanes, world.count("close")), (1, 1));
}

#[test]
fn a_lane_that_is_needed_is_kept_though_its_buffer_is_empty() {
    let mut world = world(LANE * 11 / 10);
    world.run(20);
    assert_eq!((world.lanes, world.count("open")), (2, 1));
    // Two lanes carry it with ease; one could not.
    world.demand = LANE * 8 / 10;
    world.run(HOUR);
    assert_eq!((world.lanes, world.count("close")), (2, 0));
}

#[test]
fn each_condition_is_needed() {
    let check = |change: fn(&mut LaneSample), limits: LanePolicyLimits| {
        let mut policy = LanePolicy::new(limits);
        let mut sample = LaneSample {
            bulk_lanes: 1,
            occupancy_permille: 900,
            srtt: Duration::from_millis(16),
            min_rtt: Duration::from_millis(10),
            goodput: LANE,
            is_striped: false,
            ..LaneSample::default()
        };
        change(&mut sample);
        (0..400).any(|step| {
            let now = MonoTime::from_nanos(step * 250_000_000);
            policy.handle_sample(now, &sample).is_some_and(|d| d.verdict == LaneVerdict::Open)
        })
    };
    let limits = LanePolicyLimits::default();
    let target = |bytes| LanePolicyLimits { goodput_target: Some(bytes), ..limits };
    assert!(check(|_| {}, limits));
    assert!(check(|_| {}, target(2 * LANE)));
    assert!(!check(|_| {}, target(LANE / 2)));
    assert!(!check(|sample| sample.occupancy_permille = 600, limits));
    assert!(!check(|sample| sample.srtt = Duration::from_millis(12), limits));
    assert!(!check(|sample| sample.min_rtt = Duration::ZERO, limits));
    assert!(!check(|sample| sample.bulk_lanes = 0, limits));
    assert!(!check(|_| {}, LanePolicyLimits { bulk_lanes_max: 1, ..limits }));
}

/// Between its two thresholds a quantity stays what it was: high if it came from above.
#[test]
fn a_value_between_its_thresholds_changes_nothing() {
    let opens = |first: (u32, u64), then: (u32, u64)| {
        let mut policy = LanePolicy::new(LanePolicyLimits::default());
        (0..80_u64).any(|step| {
            let (occupancy_permille, srtt_millis) = if step < 12 { first } else { then };
            let sample = LaneSample {
                bulk_lanes: 1,
                occupancy_permille,
                srtt: Duration::from_millis(srtt_millis),
                min_rtt: Duration::from_millis(100),
                goodput: LANE,
                ..LaneSample::default()
            };
            policy.handle_sample(MonoTime::from_nanos(step * 250_000_000), &sample).is_some()
        })
    };
    let (high, between, low) = ((900, 160), (550, 117), (300, 105));
    assert!(opens(high, between));
    assert!(!opens(low, between));
    assert!(!opens(between, between));
    assert!(!opens(high, low));
    // Each of the two for itself.
    assert!(!opens((300, 160), (550, 117)));
    assert!(!opens((900, 105), (550, 117)));
}

#[test]
fn a_dry_run_reports_and_does_nothing() {
    let limits = LanePolicyLimits { dry_run: true, ..LanePolicyLimits::default() };
    let mut world = World { demand: 3 * LANE, ..World::new(limits, 1) };
    world.run(90);
    assert_eq!(world.lanes, 1);
    assert_eq!(world.count("open"), 3, "{:?}", world.verdicts());
    assert!(world.decisions.iter().all(|decision| decision.action().is_none()));
    assert!(world.decisions[0].to_string().starts_with("open (dry run): 1 of 4 bulk lanes"));
    world.assert_cool();
}

#[test]
fn why_a_lane_is_not_opened_is_said_once() {
    let limits = LanePolicyLimits { bulk_lanes_max: 2, ..LanePolicyLimits::default() };
    let mut world = World { demand: 9 * LANE, ..World::new(limits, 1) };
    world.run(HOUR);
    assert_eq!(world.verdicts(), ["open", "confirmed", "held_at_cap"]);
    assert!(world.decisions[2].occupied_for >= limits.occupied_for);
}

#[test]
fn a_lane_that_does_not_come_up_is_asked_for_again_after_a_cool_down() {
    let mut world = World { lanes_come_up: false, ..world(9 * LANE) };
    world.run(50);
    assert_eq!(world.verdicts(), ["open", "open_failed", "held_cool_down", "open"]);
    world.assert_cool();
}

#[test]
fn a_stall_of_the_sampler_is_no_load() {
    let mut policy = LanePolicy::new(LanePolicyLimits::default());
    let sample = LaneSample {
        bulk_lanes: 1,
        occupancy_permille: 1000,
        srtt: Duration::from_millis(99),
        min_rtt: Duration::from_millis(10),
        goodput: 1,
        ..LaneSample::default()
    };
    for second in [0_u64, 1, 2, 3, 100] {
        let now = MonoTime::from_nanos(second * 1_000_000_000);
        assert_eq!(policy.handle_sample(now, &sample), None);
    }
}

#[test]
fn lanes_above_a_lowered_cap_are_closed() {
    let mut world = world(9 * LANE);
    world.run(300);
    assert_eq!(world.lanes, 4);
    world.policy.set_limits(LanePolicyLimits { bulk_lanes_max: 2, ..LanePolicyLimits::default() });
    world.run(100);
    assert_eq!((world.lanes, world.count("close")), (2, 2));
    world.assert_cool();
}

#[test]
fn what_a_dry_run_has_decided_holds_nothing_up() {
    let limits = LanePolicyLimits::default();
    let mut world = World::new(LanePolicyLimits { dry_run: true, ..limits }, 1);
    world.demand = 9 * LANE;
    world.run(10);
    assert_eq!((world.lanes, world.verdicts()), (1, vec!["open"]));
    let [wished] = world.decisions[..] else { panic!("one decision") };
    assert_eq!((wished.action(), wished.cool_down_left), (None, Duration::ZERO));
    world.run(10);
    let held = world.decisions[1];
    assert!(matches!(held.verdict, LaneVerdict::HeldCoolDown { .. }), "{held}");
    assert!(held.cool_down_left > Duration::from_secs(20), "{:?}", held.cool_down_left);
    world.policy.set_limits(limits);
    world.run(1);
    assert_eq!(world.lanes, 2);
    // A change that was made is followed by its cool-down, whatever the limits are set to.
    world.policy.set_limits(limits);
    world.run(15);
    assert_eq!(world.lanes, 2);
}

#[test]
fn a_decision_says_how_long_none_is_opened() {
    let mut world = world(5 * LANE);
    world.bottleneck = LANE;
    world.run(300);
    let undone = world.decisions.iter().find(|decision| decision.verdict.name() == "undone");
    assert_eq!(undone.unwrap().barred_left, LanePolicyLimits::default().barred_for);
    let held = world.decisions.last().unwrap();
    assert!(matches!(held.verdict, LaneVerdict::HeldBarred { .. }), "{held}");
    assert!(held.barred_left > Duration::from_secs(300), "{:?}", held.barred_left);
}

/// Steady load and noisy samples, two hours: no lane is closed but after a trial, and there are as
/// few trials as the bar allows.
#[test]
fn noise_brings_no_oscillation() {
    for seed in 0..60 {
        let mut draw = Seeded(seed);
        let noise_permille = 50 + draw.below(250);
        let demand = draw.below(6 * LANE);
        let bottleneck = LANE / 2 + draw.below(5 * LANE);
        let mut world = World::new(LanePolicyLimits::default(), seed);
        (world.demand, world.bottleneck, world.noise_permille) =
            (demand, bottleneck, noise_permille);
        world.run(2 * HOUR);
        let seen = format!("seed {seed}: {demand} over {bottleneck} ±{noise_permille}‰");
        world.assert_cool();
        assert_eq!(world.count("close"), 0, "{seen}");
        assert!(world.count("undone") <= 12, "{seen}: {:?}", world.verdicts());
        let kept = world.count("open") - world.count("undone");
        assert!(kept < usize::from(BULK_LANES_MAX), "{seen}: {:?}", world.verdicts());
        let needed = demand.min(bottleneck).div_ceil(LANE).clamp(1, 4) as u8;
        assert!(world.lanes.abs_diff(needed) <= 1, "{seen}: {} for {needed}", world.lanes);
        // Reports of a wish that comes and goes with the noise are bounded too.
        assert!(world.decisions.len() <= 300, "{seen}: {} decisions", world.decisions.len());
    }
}

/// Load that comes and goes: the number of lanes follows no faster than the limits allow.
#[test]
fn alternating_load_changes_lanes_no_faster_than_the_limits() {
    for seed in 0..40 {
        let mut draw = Seeded(seed);
        let mut world =
            World { noise_permille: 200, ..World::new(LanePolicyLimits::default(), seed) };
        let mut seconds = 0;
        while seconds < 2 * HOUR {
            let span = 2 + draw.below(90);
            world.demand = if draw.below(2) == 0 { draw.below(LANE / 10) } else { 5 * LANE };
            world.run(span);
            seconds += span;
        }
        world.assert_cool();
        let limits = LanePolicyLimits::default();
        let closings = world.count("close") as u64;
        assert!(closings <= seconds / limits.empty_for.as_secs(), "seed {seed}: {closings}");
    }
}

mod two_ends;
