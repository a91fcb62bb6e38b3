use std::collections::VecDeque;

use super::*;
use crate::ack_interval::AckInterval;
use crate::turn_delay::TurnDelay;

const FLOOR: u64 = 2 << 10;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// What the other end acknowledges: half of what may be in flight at once, as it is asked to, and the
/// rest a millisecond after it came.
#[derive(Default)]
struct Acks {
    interval: AckInterval,
    came: Vec<(u64, MonoTime, SendSnapshot)>,
    bytes: u64,
    due: Option<MonoTime>,
}

impl Acks {
    fn handle_send(&mut self, in_flight: u64, bound: u64) {
        if let Some(bytes) = self.interval.handle_send(in_flight, bound, 256 << 10) {
            self.interval.handle_peer(bytes);
        }
    }

    fn handle_arrival(&mut self, at: MonoTime, piece: (u64, MonoTime, SendSnapshot)) {
        self.bytes += piece.0;
        self.came.push(piece);
        let is_due = self.interval.is_due(self.bytes);
        let due = if is_due { at } else { at.saturating_add(Duration::from_millis(1)) };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    fn poll(&mut self, now: MonoTime) -> Vec<(u64, MonoTime, SendSnapshot)> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        (self.bytes, self.due) = (0, None);
        std::mem::take(&mut self.came)
    }
}

/// A bottleneck of `rate` bytes per second and `rtt` there and back, kept as full as the bound
/// allows for `seconds`; delivered bytes per second over the second half, longest queue there.
fn run(rate: u64, rtt: Duration, seconds: u64, pings: bool) -> (u64, Duration) {
    run_shaped(rate, rtt, seconds, pings, Duration::ZERO)
}

/// The same, with a bucket that holds `bucket` of the rate, and if that is something, a pause of the
/// sender twice a second in which it fills.
fn run_shaped(
    rate: u64,
    rtt: Duration,
    seconds: u64,
    pings: bool,
    bucket: Duration,
) -> (u64, Duration) {
    let mut estimate = DeliveryRate::new();
    let step = Duration::from_micros(50);
    let (mut now, mut free_at) = (MonoTime::from_nanos(1), MonoTime::ZERO);
    let mut flight: VecDeque<(MonoTime, u64, MonoTime, SendSnapshot)> = VecDeque::new();
    let mut in_flight = 0;
    let (mut delivered, mut longest) = (0, Duration::ZERO);
    let mut ping_at = MonoTime::ZERO;
    let mut echoes: VecDeque<(MonoTime, Duration)> = VecDeque::new();
    let mut acks = Acks::default();
    let half = MonoTime::from_nanos(seconds * 500_000_000);
    while now < MonoTime::from_nanos(seconds * 1_000_000_000) {
        while flight.front().is_some_and(|&(back, ..)| back <= now) {
            let (arrived, bytes, sent_at, snapshot) = flight.pop_front().unwrap();
            acks.handle_arrival(arrived, (bytes, sent_at, snapshot));
        }
        for (bytes, sent_at, snapshot) in acks.poll(now) {
            in_flight -= bytes;
            estimate.handle_ack(now, bytes, sent_at, snapshot);
            delivered += if now >= half { bytes } else { 0 };
        }
        while echoes.front().is_some_and(|&(back, _)| back <= now) {
            let (_, sample) = echoes.pop_front().unwrap();
            estimate.handle_round_trip(now, sample);
        }
        if pings && now >= ping_at {
            let tick = Duration::from_millis(100);
            estimate.handle_tick(now, tick);
            ping_at = now.saturating_add(tick);
            let sample = rtt + free_at.saturating_since(now);
            echoes.push_back((now.saturating_add(sample), sample));
        }
        let bound = estimate.in_flight_bound(FLOOR, Duration::ZERO);
        let piece = (bound / 4).clamp(512, 128 << 10);
        let pauses = !bucket.is_zero() && now.as_nanos() % 500_000_000 < 40_000_000;
        while in_flight + piece <= bound && !pauses {
            let snapshot = estimate.handle_send(now, in_flight == 0, false);
            in_flight += piece;
            acks.handle_send(in_flight, bound);
            // The bucket has gathered so much, at most.
            let full = MonoTime::from_nanos(now.as_nanos().saturating_sub(nanos(bucket)));
            free_at = free_at
                .max(full)
                .saturating_add(Duration::from_nanos(piece * 1_000_000_000 / rate));
            let back = free_at.max(now).saturating_add(rtt);
            flight.push_back((back, piece, now, snapshot));
        }
        if now >= half {
            longest = longest.max(free_at.saturating_since(now));
        }
        now = now.saturating_add(step);
    }
    (delivered * 2 / seconds, longest)
}

#[test]
fn a_bottleneck_is_used_whole_and_its_queue_stays_short() {
    let links = [
        (25_000, 10),
        (250_000, 10),
        (1_250_000, 1),
        (12_500_000, 0),
        (12_500_000, 20),
        (125_000_000, 50),
        (2_500_000_000, 0),
    ];
    for (rate, rtt_ms) in links {
        let rtt = Duration::from_millis(rtt_ms) + Duration::from_micros(100);
        let (used, queue) = run(rate, rtt, 6, true);
        assert!(used >= rate * 95 / 100, "{used} of {rate} at {rtt:?}");
        let floor = Duration::from_nanos(FLOOR * 1_000_000_000 / rate);
        // A rate over two lumps of acknowledgements is too high by up to a fifth.
        let most = (rtt.mul_f64(0.8) + slack_at(rate) + Duration::from_millis(2)).max(floor);
        assert!(queue <= most, "{queue:?} of queue at {rate} and {rtt:?}");
    }
}

#[test]
fn the_first_record_is_through_in_some_round_trips_and_no_queue_is_left_of_it() {
    for (rate, rtt_us, most_us) in [
        (1_250_000, 200, 55_000),
        (12_500_000, 200, 6000),
        (125_000_000, 100, 1500),
        (2_500_000_000, 50, 800),
        (12_500_000, 20_000, 100_000),
    ] {
        let (through, queue) = first_record(rate, Duration::from_micros(rtt_us));
        assert!(through <= Duration::from_micros(most_us), "{through:?} at {rate} and {rtt_us}");
        assert!(queue <= Duration::from_millis(10), "{queue:?} of queue at {rate} and {rtt_us}");
    }
}

/// How long 64 KiB take on a link that has measured its round trip and carried nothing, and the longest
/// queue there.
fn first_record(rate: u64, rtt: Duration) -> (Duration, Duration) {
    let mut estimate = DeliveryRate::new();
    let begin = MonoTime::from_nanos(1_000_000_000);
    let (mut now, mut free_at, mut longest) = (begin, begin, Duration::ZERO);
    let mut flight: VecDeque<(MonoTime, u64, MonoTime, SendSnapshot)> = VecDeque::new();
    let (mut in_flight, mut left) = (0, 64 << 10);
    estimate.handle_round_trip(now, rtt);
    while left > 0 || in_flight > 0 {
        while flight.front().is_some_and(|&(back, ..)| back <= now) {
            let (_, bytes, sent_at, snapshot) = flight.pop_front().unwrap();
            in_flight -= bytes;
            estimate.handle_ack(now, bytes, sent_at, snapshot);
        }
        let bound = estimate.in_flight_bound(FLOOR, Duration::ZERO);
        while left > 0 && in_flight + 512.min(left) <= bound {
            let piece = (bound / 4).clamp(512, 128 << 10).min(left);
            let snapshot = estimate.handle_send(now, in_flight == 0, false);
            (in_flight, left) = (in_flight + piece, left - piece);
            let takes = Duration::from_nanos(piece * 1_000_000_000 / rate);
            free_at = free_at.max(now).saturating_add(takes);
            longest = longest.max(free_at.saturating_since(now));
            flight.push_back((free_at.saturating_add(rtt), piece, now, snapshot));
        }
        now = now.saturating_add(Duration::from_micros(10));
    }
    (now.saturating_since(begin), longest)
}

#[test]
fn what_a_shaper_lets_pass_at_once_is_not_its_rate() {
    for (rate, rtt_ms) in [(1_250_000, 0), (12_500_000, 0), (12_500_000, 10), (125_000_000, 1)] {
        let rtt = Duration::from_millis(rtt_ms) + Duration::from_micros(200);
        let (used, queue) = run_shaped(rate, rtt, 6, true, Duration::from_millis(10));
        assert!(used >= rate * 90 / 100, "{used} of {rate} at {rtt:?}");
        let most = rtt.mul_f64(1.2) + slack_at(rate) + Duration::from_millis(5);
        assert!(queue <= most, "{queue:?} of queue at {rate} and {rtt:?}");
    }
}

#[test]
fn the_queue_does_not_raise_its_own_bound_however_long_it_stands() {
    let (used, queue) = run(12_500_000, Duration::from_millis(10), 100, true);
    assert!(used >= 12_500_000 * 95 / 100, "{used}");
    assert!(queue <= Duration::from_millis(25), "{queue:?}");
}

#[test]
fn a_link_that_is_not_filled_learns_a_longer_round_trip_without_holding_back() {
    let mut estimate = DeliveryRate::new();
    let tick = Duration::from_millis(100);
    estimate.handle_round_trip(MonoTime::from_nanos(1), Duration::from_millis(1));
    for n in 1..=120 {
        let now = MonoTime::ZERO.saturating_add(tick * n);
        estimate.handle_idle(0);
        assert!(!estimate.handle_tick(now, tick), "holds back at {now:?}");
        estimate.handle_round_trip(now, Duration::from_millis(3 + u64::from(n % 5)));
    }
    assert_eq!(estimate.min_rtt(), Some(Duration::from_millis(3)));
}

#[test]
fn a_probe_ends_when_no_shorter_round_trip_shows() {
    let mut estimate = DeliveryRate::new();
    let (tick, ms) = (Duration::from_millis(100), Duration::from_millis(1));
    let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
    estimate.handle_round_trip(at(1), ms);
    let snapshot = estimate.handle_send(at(1), true, false);
    estimate.handle_ack(at(2), 1000, at(1), snapshot);
    assert!(estimate.handle_tick(at(20_000), tick), "a filled link is to be emptied");
    let samples = [9, 7, 5, 6, 5, 6];
    for (n, &sample) in (0..).zip(&samples) {
        assert!(estimate.in_flight_bound(FLOOR, Duration::ZERO) <= 25, "half of 50 bytes");
        estimate.handle_round_trip(at(20_030 + n * 5), ms * sample);
    }
    assert_eq!(estimate.min_rtt(), Some(ms * 5));
    assert!(estimate.in_flight_bound(FLOOR, Duration::ZERO) >= FLOOR);
}

/// A least round trip that queues of both directions have made long, at a rate that is taken for nearly
/// twice what it is: what both ends leave in flight while they measure is a shorter one.
#[test]
fn a_probe_shows_less_than_what_is_in_doubt_while_both_directions_are_full() {
    let (is, taken_for): (u64, u64) = (25_000, 48_000);
    let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
    let mut estimate = DeliveryRate::new();
    let doubtful = Duration::from_millis(400);
    estimate.handle_round_trip(at(1), doubtful);
    let snapshot = estimate.handle_send(at(1), true, false);
    estimate.handle_ack(at(1001), taken_for, at(1), snapshot);
    assert_eq!(estimate.rate(), taken_for);
    estimate.handle_peer_probe(at(2000), Duration::from_millis(100));
    let in_flight = estimate.in_flight_bound(FLOOR, Duration::ZERO);
    let shows = Duration::from_millis(2 * in_flight * 1000 / is);
    assert!(shows < doubtful, "{shows:?}");
    assert!(in_flight > taken_for / 20, "the link is not left empty: {in_flight}");
}

/// However long the way is, one end's wish to measure is over once both have measured.
#[test]
fn two_ends_do_not_keep_each_other_measuring() {
    let tick = Duration::from_millis(100);
    for (one_way_ms, jitter_ms) in [(1, 0), (60, 0), (125, 3), (150, 0), (300, 7), (700, 0)] {
        let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
        let mut ends = [DeliveryRate::new(), DeliveryRate::new()];
        // When they arrive at each end: heartbeats, with what they ask for, and echoes, with their age.
        let mut beats: [VecDeque<(u64, bool, u64)>; 2] = Default::default();
        let mut echoes: [VecDeque<(u64, u64)>; 2] = Default::default();
        for end in &mut ends {
            end.handle_round_trip(at(1), Duration::from_millis(2 * one_way_ms));
            let snapshot = end.handle_send(at(1), true, false);
            end.handle_ack(at(2), 1_000_000, at(1), snapshot);
        }
        let (mut measuring, last) = (0_u64, 60_000);
        for now in 9_000..last {
            for end in 0..2 {
                let takes = one_way_ms + (now * 7 + end) % (jitter_ms + 1);
                let (end, other) =
                    (usize::try_from(end).unwrap(), usize::try_from(1 - end).unwrap());
                let is_due = |arrives: u64| arrives <= now;
                while let Some((_, asks, sent)) = beats[end].pop_front_if(|beat| is_due(beat.0)) {
                    if asks {
                        ends[end].handle_peer_probe(at(now), tick);
                    }
                    echoes[other].push_back((now + takes, sent));
                }
                while let Some((_, sent)) = echoes[end].pop_front_if(|echo| is_due(echo.0)) {
                    ends[end].handle_round_trip(at(now), Duration::from_millis(now - sent));
                }
                let mut asks = None;
                if (now + 37 * u64::try_from(end).unwrap()).is_multiple_of(100) {
                    asks = Some(ends[end].handle_tick(at(now), tick));
                }
                if ends[end].handle_probe(at(now)) {
                    asks = Some(ends[end].asks_peer());
                }
                if let Some(asks) = asks {
                    beats[other].push_back((now + takes, asks, now));
                }
                measuring += u64::from(ends[end].is_measuring());
            }
        }
        let share = measuring * 100 / (2 * (last - 9_000));
        assert!(measuring > 0 && share < 25, "{share} % of the time, {one_way_ms} ms each way");
    }
}

#[test]
fn what_the_application_leaves_unused_lowers_nothing() {
    let mut estimate = DeliveryRate::new();
    let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
    let snapshot = estimate.handle_send(at(1), true, false);
    estimate.handle_ack(at(21), 2_000_000, at(1), snapshot);
    assert_eq!(estimate.rate(), 100_000_000);
    for second in 1..100 {
        estimate.handle_idle(0);
        let snapshot = estimate.handle_send(at(second * 1000), true, false);
        estimate.handle_ack(at(second * 1000 + 10), 100, at(second * 1000), snapshot);
    }
    assert_eq!(estimate.rate(), 100_000_000);
    assert_eq!(estimate.in_flight_bound(FLOOR, Duration::ZERO), FLOOR, "no round trip is known");
}

/// An end that has its core for some time and then waits for it for another, each from so many
/// microseconds to so many.
struct Turns {
    state: u64,
    has: (u64, u64),
    waits: (u64, u64),
    runs: bool,
    until: MonoTime,
}

impl Turns {
    fn runs(&mut self, now: MonoTime) -> bool {
        while self.until <= now {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let drawn = self.state >> 33;
            self.runs = !self.runs;
            let (least, most) = if self.runs { self.has } else { self.waits };
            let micros = least + drawn % (most - least);
            self.until = self.until.saturating_add(Duration::from_micros(micros));
        }
        self.runs
    }
}

#[test]
fn ends_that_wait_for_their_cores_do_not_wait_for_each_other_with_nothing_in_flight() {
    // What an end has of its core and then waits for it, in microseconds, and the part that is used.
    let turns = [
        ((1000, 5000), (5000, 31_000), 80),
        ((50, 300), (300, 1500), 95),
        ((200, 1000), (200, 1000), 93),
        ((100, 200), (100, 500), 97),
    ];
    for (has, waits, percent) in turns {
        for rate in [2_500_000, 12_500_000, 2_500_000_000] {
            for seed in 0..5 {
                let used = run_in_turns(rate, seed, (has, waits));
                let least = rate * percent / 100;
                assert!(used >= least, "{used} of {rate}, seed {seed}, {has:?} and {waits:?}");
            }
        }
    }
}

/// Ten seconds of a bottleneck of `rate` bytes per second whose ends take turns with others; delivered
/// bytes per second, after the first.
fn run_in_turns(rate: u64, seed: u64, (has, waits): ((u64, u64), (u64, u64))) -> u64 {
    let mut estimate = DeliveryRate::new();
    let rtt = Duration::from_micros(50);
    let turns = |state| Turns { state, has, waits, runs: false, until: MonoTime::ZERO };
    let mut ends = [turns(seed), turns(seed + 1000)];
    let mut delays = [TurnDelay::default(), TurnDelay::default()];
    let begin = MonoTime::from_nanos(1_000_000_000);
    let mut ticks = [begin, begin.saturating_add(Duration::from_millis(37))];
    let (mut now, mut free_at) = (begin, begin);
    let mut on_wire: VecDeque<(MonoTime, u64, MonoTime, SendSnapshot)> = VecDeque::new();
    let mut answered = on_wire.clone();
    let (mut in_flight, mut delivered) = (0, 0);
    estimate.handle_round_trip(now, rtt);
    while now < begin.saturating_add(Duration::from_secs(11)) {
        let runs = ends.each_mut().map(|end| end.runs(now));
        for at in 0..2 {
            if runs[at] && ticks[at] <= now {
                let told = delays[at].handle_tick(now.saturating_since(ticks[at]));
                ticks[at] = now.saturating_add(Duration::from_millis(100));
                delays[1 - at].handle_peer(told.unwrap_or_default());
            }
        }
        let [sender_runs, receiver_runs] = runs;
        while receiver_runs && on_wire.front().is_some_and(|&(at, ..)| at <= now) {
            answered.extend(on_wire.pop_front());
        }
        if sender_runs {
            while let Some((_, bytes, sent_at, snapshot)) = answered.pop_front() {
                in_flight -= bytes;
                estimate.handle_ack(now, bytes, sent_at, snapshot);
                let counts = now >= begin.saturating_add(Duration::from_secs(1));
                delivered += if counts { bytes } else { 0 };
            }
            let bound = estimate.in_flight_bound(FLOOR, delays[0].both());
            let piece = (bound / 4).clamp(512, 128 << 10);
            while in_flight + piece <= bound {
                let snapshot = estimate.handle_send(now, in_flight == 0, false);
                in_flight += piece;
                let takes = Duration::from_nanos(piece * 1_000_000_000 / rate);
                free_at = free_at.max(now).saturating_add(takes);
                on_wire.push_back((free_at.saturating_add(rtt), piece, now, snapshot));
            }
        }
        now = now.saturating_add(Duration::from_micros(50));
    }
    delivered / 10
}
