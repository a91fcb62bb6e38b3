use std::collections::VecDeque;
use std::time::Duration;

use hawser_wire::{Heartbeat, MonoTime};

use crate::allowance::Allowance;

/// Watches one lane: how long it was silent, its round trip, and how often the peer asks for echoes.
///
/// Any received byte is life. A tick counts only if this side ran and read what its sockets had: after
/// a stall of its own it has no right to call the peer silent.
#[derive(Debug)]
pub(crate) struct LaneWatch {
    silent_ticks: u32,
    /// Since the last echo, once there was one.
    unanswered_ticks: u32,
    srtt: Duration,
    min_rtt: Duration,
    /// Heartbeats whose echoes have not come, the oldest first.
    asked: VecDeque<Heartbeat>,
    /// What the peer may still have answered, each heartbeat as the time after which there may be another.
    allowance: Allowance,
}

/// Seconds' worth of heartbeats that may come at once.
const BURST: Duration = Duration::from_secs(10);

/// Echoes that are awaited at once; what is asked beyond it is asked in vain, until one has come.
const ASKED_MAX: usize = 256;

impl LaneWatch {
    pub(crate) const fn new(now: MonoTime) -> Self {
        Self {
            silent_ticks: 0,
            unanswered_ticks: 0,
            srtt: Duration::ZERO,
            min_rtt: Duration::ZERO,
            asked: VecDeque::new(),
            allowance: Allowance::new(now, BURST),
        }
    }

    /// Bytes arrived.
    pub(crate) const fn handle_bytes(&mut self) {
        self.silent_ticks = 0;
    }

    /// A tick passed in which this side ran.
    pub(crate) const fn handle_tick(&mut self) {
        self.silent_ticks = self.silent_ticks.saturating_add(1);
        if !self.srtt.is_zero() {
            self.unanswered_ticks = self.unanswered_ticks.saturating_add(1);
        }
    }

    /// Ticks since the last byte.
    pub(crate) const fn silent_ticks(&self) -> u32 {
        self.silent_ticks
    }

    /// Ticks since the last byte or, if that is longer, since the first heartbeat that should have
    /// been answered and was not: a lane that is heard need not be heard at its other end.
    pub(crate) fn missed_ticks(&self, tick: Duration) -> u32 {
        // Asked for with each message that comes: what an echo may take is divided out only if one is late.
        if self.unanswered_ticks <= 1 {
            return self.silent_ticks;
        }
        let trip = self.srtt.as_nanos().checked_div(tick.as_nanos()).unwrap_or(0);
        let trip = u32::try_from(trip).unwrap_or(u32::MAX).saturating_add(1);
        self.silent_ticks.max(self.unanswered_ticks.saturating_sub(trip))
    }

    /// The peer wants what costs as much as `beats` heartbeats, of which `per_second` may come; false
    /// if it wants far too much.
    pub(crate) fn spend(&mut self, now: MonoTime, beats: u32, per_second: u32) -> bool {
        let cost = Duration::from_secs(1).saturating_mul(beats).checked_div(per_second);
        self.allowance.spend(now, cost.unwrap_or(Duration::MAX))
    }

    /// The peer is asked for an echo.
    pub(crate) fn handle_asked(&mut self, beat: Heartbeat) {
        if self.asked.len() < ASKED_MAX {
            self.asked.push_back(beat);
        }
    }

    /// An echo arrived: the round trip, or `None` if this was not asked, or answered before. Nobody
    /// else can make it shorter than it is: a time that was not sent is no echo.
    pub(crate) fn handle_echo(&mut self, now: MonoTime, beat: Heartbeat) -> Option<Duration> {
        let at = self.asked.iter().position(|&asked| asked == beat)?;
        // A lane is first in, first out: no echo of earlier ones will come.
        self.asked.drain(..=at);
        let sample = now.saturating_since(MonoTime::from_nanos(beat.sent_nanos));
        self.handle_round_trip(sample);
        Some(sample)
    }

    /// Smoothed as in RFC 6298 §2.
    fn handle_round_trip(&mut self, sample: Duration) {
        self.unanswered_ticks = 0;
        self.min_rtt = if self.srtt.is_zero() { sample } else { self.min_rtt.min(sample) };
        self.srtt = if self.srtt.is_zero() {
            sample
        } else {
            self.srtt.saturating_mul(7).saturating_add(sample).checked_div(8).unwrap_or(sample)
        };
    }

    /// Least round trip of the connection; zero before the first echo.
    pub(crate) const fn min_rtt(&self) -> Duration {
        self.min_rtt
    }

    /// Smoothed round trip; zero before the first echo.
    pub(crate) const fn srtt(&self) -> Duration {
        self.srtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_in_any_sensible_rhythm_pass_and_a_storm_does_not() {
        let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
        let mut watch = LaneWatch::new(at(0));
        for tick in 0..10_000 {
            assert!(watch.spend(at(tick * 10), 1, 500));
        }
        let now = at(200_000);
        let taken = (0..10_000).take_while(|_| watch.spend(now, 1, 500)).count();
        assert_eq!(taken, 5000);
        let now = at(202_000);
        let taken = (0..10_000).take_while(|_| watch.spend(now, 20, 500)).count();
        assert_eq!(taken, 50, "what is dearer is allowed less often");
    }

    #[test]
    fn an_echo_is_of_a_heartbeat_that_was_sent_and_counts_once() {
        let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
        let beat = |ms: u64| Heartbeat { sent_nanos: at(ms).as_nanos() };
        let ms = Duration::from_millis;
        let mut watch = LaneWatch::new(at(0));
        assert_eq!(watch.handle_echo(at(10), beat(9)), None, "nothing was asked");
        assert_eq!(watch.srtt(), Duration::ZERO);
        for sent in [100, 200, 300] {
            watch.handle_asked(beat(sent));
        }
        assert_eq!(watch.handle_echo(at(205), beat(299)), None);
        assert_eq!(watch.handle_echo(at(205), beat(200)), Some(ms(5)));
        assert_eq!(watch.handle_echo(at(205), beat(200)), None, "a second time");
        assert_eq!(watch.handle_echo(at(206), beat(100)), None, "one that was passed by");
        assert_eq!(watch.handle_echo(at(304), beat(300)), Some(ms(4)));
        assert_eq!(watch.min_rtt(), ms(4));
    }

    #[test]
    fn echoes_that_are_late_by_many_heartbeats_still_show_the_round_trip() {
        let at = |ms: u64| MonoTime::from_nanos(ms * 1_000_000);
        let beat = |ms: u64| Heartbeat { sent_nanos: at(ms).as_nanos() };
        let mut watch = LaneWatch::new(at(0));
        let tick = 10;
        let late = tick * 2 * u64::try_from(ASKED_MAX).expect("small");
        let mut heard = 0;
        for now in (0..5 * late).step_by(10) {
            watch.handle_asked(beat(now));
            if now >= late {
                let sample = watch.handle_echo(at(now), beat(now - late));
                assert!(sample.is_none_or(|sample| sample == Duration::from_millis(late)));
                heard += u64::from(sample.is_some());
            }
        }
        assert!(heard > 4 * late / tick / 3, "{heard}: more than each third one is heard");
        assert!(watch.asked.len() <= ASKED_MAX);
    }

    #[test]
    fn a_byte_ends_silence() {
        let mut watch = LaneWatch::new(MonoTime::ZERO);
        watch.handle_bytes();
        watch.handle_tick();
        watch.handle_tick();
        assert_eq!(watch.silent_ticks(), 2);
        watch.handle_bytes();
        assert_eq!(watch.silent_ticks(), 0);
    }

    #[test]
    fn bytes_without_echoes_are_no_proof_of_being_heard() {
        let tick = Duration::from_millis(100);
        let mut watch = LaneWatch::new(MonoTime::ZERO);
        let run = |watch: &mut LaneWatch, ticks: u32| {
            for _ in 0..ticks {
                watch.handle_tick();
                watch.handle_bytes();
            }
            watch.missed_ticks(tick)
        };
        assert_eq!(run(&mut watch, 10), 0, "no echo yet: nothing is missed");
        watch.handle_round_trip(Duration::from_millis(250));
        assert_eq!(run(&mut watch, 3), 0, "an echo takes that long");
        assert_eq!(run(&mut watch, 2), 2);
        watch.handle_round_trip(Duration::from_millis(250));
        assert_eq!(watch.missed_ticks(tick), 0);
    }
}
