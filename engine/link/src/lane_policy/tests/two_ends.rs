//! Both ends of one link, each with its policy.

use super::*;

const BOTH: [usize; 2] = [0, 1];

struct TwoEnds {
    policies: [LanePolicy; 2],
    random: Seeded,
    now: MonoTime,
    lanes: u8,
    /// What each end has for the other, in bytes per second; a lane carries `LANE` each way.
    demand: [u64; 2],
    noise_permille: u64,
    /// Whether each end has still to see that the other has let go of a lane.
    let_go: [bool; 2],
    decisions: [Vec<LaneDecision>; 2],
}

impl TwoEnds {
    fn new(lanes: u8, demand: [u64; 2]) -> Self {
        Self {
            policies: BOTH.map(|_| LanePolicy::new(LanePolicyLimits::default())),
            random: Seeded(1),
            now: MonoTime::from_nanos(1),
            lanes,
            demand,
            noise_permille: 0,
            let_go: [false; 2],
            decisions: [Vec::new(), Vec::new()],
        }
    }

    fn cap(&mut self, end: usize, bulk_lanes_max: u8) {
        let limits = LanePolicyLimits { bulk_lanes_max, ..LanePolicyLimits::default() };
        self.policies[end].set_limits(limits);
    }

    /// The ends take their samples in turn.
    fn run(&mut self, seconds: u64) {
        let until = self.now.saturating_add(Duration::from_secs(seconds));
        while self.now < until {
            for end in BOTH {
                self.now = self.now.saturating_add(SAMPLE_EVERY / 2);
                let sample = self.sample(end);
                let decision = self.policies[end].handle_sample(self.now, &sample);
                let Some(decision) = decision else { continue };
                match decision.action() {
                    Some(LaneAction::Open) => self.lanes += 1,
                    Some(LaneAction::Close) => {
                        self.lanes -= 1;
                        self.let_go[1 - end] = true;
                    }
                    None => {}
                }
                self.decisions[end].push(decision);
            }
        }
    }

    fn sample(&mut self, end: usize) -> LaneSample {
        let carries = LANE * u64::from(self.lanes);
        let is_loaded = self.demand[end] > carries;
        // Heartbeats of either end wait in the queue that one of them fills.
        let is_slow = self.demand.iter().any(|&demand| demand > carries);
        let noise = self.noise_permille;
        let sent = self.demand.map(|demand| self.random.around(demand.min(carries), noise));
        LaneSample {
            bulk_lanes: self.lanes,
            occupancy_permille: if is_loaded { 900 } else { self.demand[end] * 100 / carries }
                as u32,
            srtt: Duration::from_micros(if is_slow { 16_000 } else { 10_500 }),
            min_rtt: Duration::from_millis(10),
            goodput: sent[end],
            received: sent[1 - end],
            is_let_go: std::mem::take(&mut self.let_go[end]),
            ..LaneSample::default()
        }
    }

    fn verdicts(&self, end: usize) -> Vec<&'static str> {
        self.decisions[end].iter().map(|decision| decision.verdict.name()).collect()
    }

    fn count(&self, end: usize, name: &str) -> usize {
        self.verdicts(end).iter().filter(|&&verdict| verdict == name).count()
    }
}

#[test]
fn the_end_that_receives_closes_nothing_that_the_other_one_fills() {
    for (noise_permille, demand) in [(0, 25), (200, 25), (200, 90), (200, 15)] {
        let mut ends = TwoEnds::new(1, [LANE * demand / 10, 0]);
        ends.noise_permille = noise_permille;
        ends.run(HOUR);
        assert_eq!(ends.count(1, "close"), 0, "{:?}", ends.verdicts(0));
        assert_eq!(ends.count(0, "open"), usize::from(ends.lanes) - 1, "each lane once");
        assert!(ends.lanes > 1);
    }
}

#[test]
fn a_lane_that_neither_end_uses_is_closed_by_one_of_them_after_a_minute() {
    for demand in [[0, 0], [40 << 10, 0], [40 << 10, 40 << 10]] {
        let mut ends = TwoEnds::new(2, demand);
        ends.run(59);
        assert_eq!(ends.lanes, 2);
        ends.run(3);
        assert_eq!((ends.lanes, ends.count(0, "close") + ends.count(1, "close")), (1, 1));
        ends.run(HOUR);
        assert_eq!(ends.decisions.iter().map(Vec::len).sum::<usize>(), 1);
    }
}

/// Traffic that has turned: who opened the lanes needs them no more, who did not does.
#[test]
fn lanes_are_kept_for_the_other_direction_and_closed_after_it() {
    let mut ends = TwoEnds::new(1, [LANE * 25 / 10, 0]);
    ends.run(300);
    assert_eq!(ends.lanes, 3);
    ends.demand = [0, LANE * 25 / 10];
    ends.run(HOUR);
    assert_eq!(ends.lanes, 3);
    ends.demand = [0, 0];
    ends.run(200);
    assert_eq!(ends.lanes, 1);
}

#[test]
fn a_cap_of_the_peer_is_tried_ever_less_often() {
    let mut ends = TwoEnds::new(1, [LANE * 9, 0]);
    ends.cap(1, 1);
    ends.run(60);
    assert_eq!(ends.verdicts(0), ["open", "refused", "held_refused"]);
    let refused = ends.decisions[0][1];
    let pause = LanePolicyLimits::default().refused_for;
    assert_eq!(refused.peer_lanes_max, Some((1, pause)));
    assert!(refused.to_string().contains("the peer has left 1: no more for another 600s"));
    // Ten minutes, twenty, forty, then once an hour.
    ends.run(2 * HOUR);
    assert_eq!((ends.count(0, "open"), ends.count(0, "refused")), (4, 4));
    ends.run(3 * HOUR);
    assert_eq!((ends.count(0, "open"), ends.count(0, "refused")), (7, 7));
    assert_eq!((ends.lanes, ends.count(1, "close")), (1, 7));
    // A cap that is raised is found the next time, and what was is forgotten.
    ends.cap(1, 4);
    ends.run(2 * HOUR);
    assert_eq!(ends.lanes, 4);
    ends.decisions = Default::default();
    ends.cap(1, 3);
    ends.run(60);
    let LaneVerdict::Refused { lanes, until } = ends.decisions[0][0].verdict else { panic!() };
    assert_eq!((lanes, until.saturating_since(ends.decisions[0][0].at)), (3, pause));
}

#[test]
fn a_cap_that_the_peer_lowers_is_one_refusal_lane_by_lane() {
    let mut ends = TwoEnds::new(1, [LANE * 9, 0]);
    ends.run(300);
    assert_eq!(ends.lanes, 4);
    ends.decisions = Default::default();
    ends.cap(1, 1);
    ends.run(600);
    assert_eq!((ends.lanes, ends.count(1, "close")), (1, 3));
    assert_eq!((ends.count(0, "refused"), ends.count(0, "open")), (3, 0));
    let last = ends.decisions[0].iter().rfind(|decision| decision.verdict.name() == "refused");
    assert_eq!(last.unwrap().peer_lanes_max, Some((1, LanePolicyLimits::default().refused_for)));
}

#[test]
fn a_refusal_is_forgotten_with_the_session_and_by_an_operator() {
    let forget: [fn(&mut TwoEnds); 2] =
        [|ends| ends.policies[0].handle_session_ended(), |ends| ends.cap(0, 4)];
    for forget in forget {
        let mut ends = TwoEnds::new(1, [LANE * 9, 0]);
        ends.cap(1, 1);
        ends.run(60);
        assert_eq!(ends.count(0, "open"), 1);
        forget(&mut ends);
        ends.run(30);
        assert_eq!(ends.count(0, "open"), 2);
    }
}

/// An end that has no use for a lane takes nothing amiss.
#[test]
fn a_lane_that_is_closed_as_needless_is_no_refusal() {
    let mut ends = TwoEnds::new(2, [0, 0]);
    ends.run(70);
    assert_eq!(ends.lanes, 1);
    ends.demand = [LANE * 9, LANE * 9];
    ends.run(100);
    assert_eq!(ends.count(0, "refused") + ends.count(1, "refused"), 0);
    assert!(ends.lanes > 1);
}
