use std::time::Duration;

use hawser_wire::MonoTime;

use crate::delivery_marks::{DeliveryMarks, Mark, SPAN_MIN};
use crate::proportion::proportion;
use crate::rate_maximum::{RateMaximum, half_window, rate_of};

/// What was delivered when a batch was sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SendSnapshot {
    delivered: Mark,
    app_limited: bool,
}

/// Delivery rate and least round trip of a link, and what may be in flight by them.
///
/// A sample is what was acknowledged between the sending of a batch and its acknowledgement, over the
/// longer of the times that its sending and its acknowledgement took, so that acknowledgements that
/// come in one lump do not inflate it (draft-cheng-iccrg-delivery-rate-estimation §3); the rate is the
/// windowed maximum, as in BBR. What the application left unused lowers no estimate.
///
/// A sample reaches back for 20 ms at least. A shaper lets pass, at the speed of the wire, what its
/// bucket has gathered while nothing came: over one short round trip that looks like many times its
/// rate, and the maximum would hold on to it, and fill its queue, for a second.
///
/// The bound, rate × (1.5 × least round trip + slack), is more than the link holds, so that the rate
/// finds its way up from any estimate, by half of itself each round trip at least. Until the rate has
/// ceased to grow for the first time, it is rate × (2.5 × least round trip + slack), as in BBR's startup;
/// before that, until a queue shows, at least twice what the last round trip carried.
///
/// Ends that wait for their cores ([`crate::turn_delay`]) take longer than the least round trip, which is
/// one of ends that ran. With no more in flight than that holds, nothing is under way while they wait, and
/// the rate falls with the bound that follows it; so what they wait is slack, too. It is measured by
/// their own clocks. How acknowledgements come does not show it: those that a queue of the other
/// direction holds up come in lumps as well, and a bound that follows lumps makes such queues.
#[derive(Debug)]
pub(crate) struct DeliveryRate {
    /// Up to the last acknowledgement; while nothing is in flight, as if it had been a moment ago.
    delivered: Mark,
    /// What is sent before this much is delivered does not show what the link can do.
    app_limited_until: u64,
    rate: RateMaximum,
    marks: DeliveryMarks,
    /// A sample that is not the application's doing has shown what the link can do.
    is_proven: bool,
    startup: Option<Startup>,
    /// What may be in flight in slow start, which is over once a queue shows.
    slow_start: Option<u64>,
    /// Trips in a row that were so long as if there were one, those that are heard of at once counted
    /// as one, and when the last was heard of.
    long_trips: (u8, MonoTime),
    min_rtt: Option<Duration>,
    min_rtt_at: MonoTime,
    /// The least sample since then.
    recent_rtt: Option<Duration>,
    /// When the last probe began.
    probed_at: MonoTime,
    /// The last sample that the queues of both directions explain.
    explained_at: MonoTime,
    /// Without one for so long the least round trip is looked for.
    patience: Duration,
    /// In flight is held low, so that a round trip without a queue shows.
    probe: Option<Probe>,
}

/// The time before the rate has ceased to grow.
#[derive(Clone, Copy, Debug, Default)]
struct Startup {
    /// The largest sample of a round that brought a quarter more than the one before.
    rate: u64,
    /// Rounds since then.
    level_rounds: u8,
    /// A round ends when what is sent after this much was delivered is acknowledged, and no sooner
    /// than a sample has reached back over it.
    round_end: u64,
    round_since: MonoTime,
}

/// Startup is over after so many rounds without a quarter more.
const LEVEL_ROUNDS: u8 = 3;

/// What a trip may take beside the least one without a queue: turns of both ends, and a timer.
const QUEUE_MIN: Duration = Duration::from_millis(3);

/// So many long trips in a row are a queue: one is an end that waited for its core.
const LONG_TRIPS: u8 = 3;

/// A time with little in flight.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// This end has begun it, and asks the other one to measure, too.
    is_own: bool,
    /// The queue is gone: what is sent from then on shows the round trip.
    from: MonoTime,
    until: MonoTime,
    /// When heartbeats are to be sent, beside those of the ticks.
    ask_at: MonoTime,
    /// The least that was measured of it so far.
    best: Option<Duration>,
    /// Samples since then.
    level_samples: u8,
}

/// A probe is over when so many samples in a row have shown no shorter round trip.
const LEVEL_SAMPLES: u8 = 3;

/// What may be in flight beside what the round trips hold, as time at the link's rate: what comes to a
/// bottleneck waits for the packet that is on its wire, and threads of both ends take turns.
fn slack_at(rate: u64) -> Duration {
    let packet = Duration::from_nanos(PACKET_NANO_BYTES.checked_div(rate).unwrap_or(0));
    turns_at(rate).saturating_add(packet).min(SLACK_MAX)
}

/// What of it is for the turns of threads on their cores. On a slow link it stands in the queue of the
/// bottleneck, before control, and is short; where the ends are the bottleneck it waits for their threads.
fn turns_at(rate: u64) -> Duration {
    let more = Duration::from_nanos(rate.checked_div(SLACK_RATE_PER_NANO).unwrap_or(0));
    SLACK_MIN.saturating_add(more).min(SLACK_MAX)
}

const SLACK_MIN: Duration = Duration::from_micros(650);
const SLACK_MAX: Duration = Duration::from_millis(10);
/// Bytes per second for each nanosecond more: a millisecond for 125 MB/s.
const SLACK_RATE_PER_NANO: u64 = 125;
/// A packet of most paths, in bytes, times the nanoseconds of a second.
const PACKET_NANO_BYTES: u64 = 1500 * 1_000_000_000;

/// Data and its acknowledgement are handled in three turns, of the peer, of its timer for
/// acknowledgements and of this end, and a turn's wait is as often above its mean as below.
const TURNS: u64 = 4;

/// The least round trip is looked for again after this long.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);

/// It is looked for sooner if for so long no sample was explained by it: what may be in flight on a path
/// that has become longer falls with the rate that this little shows. Twice as long each time that it
/// has not become longer.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// How often heartbeats are sent while a round trip is looked for, if it is not longer.
const PROBE_ASK_EVERY: Duration = Duration::from_millis(5);

/// A peer makes this side hold back no more often than so.
const PROBE_GAP: Duration = Duration::from_secs(1);

impl SendSnapshot {
    /// What was delivered then does not show what the link can do.
    pub(crate) const fn is_app_limited(&self) -> bool {
        self.app_limited
    }
}

impl DeliveryRate {
    pub(crate) const fn new() -> Self {
        Self {
            delivered: Mark {
                delivered_bytes: 0,
                delivered_at: MonoTime::ZERO,
                sent_at: MonoTime::ZERO,
            },
            app_limited_until: 1,
            rate: RateMaximum::new(),
            marks: DeliveryMarks::new(),
            is_proven: false,
            startup: Some(Startup {
                rate: 0,
                level_rounds: 0,
                round_end: 0,
                round_since: MonoTime::ZERO,
            }),
            slow_start: Some(0),
            long_trips: (0, MonoTime::ZERO),
            min_rtt: None,
            min_rtt_at: MonoTime::ZERO,
            recent_rtt: None,
            probed_at: MonoTime::ZERO,
            explained_at: MonoTime::ZERO,
            patience: PATIENCE_MIN,
            probe: None,
        }
    }

    /// A batch is sent. `is_first`: nothing was in flight, over any lane. `is_sparse`: more was not to be
    /// sent.
    pub(crate) fn handle_send(
        &mut self,
        now: MonoTime,
        is_first: bool,
        is_sparse: bool,
    ) -> SendSnapshot {
        if is_first {
            let Mark { delivered_bytes, delivered_at, .. } = self.delivered;
            if now.saturating_since(delivered_at) > SPAN_MIN {
                self.marks.restart(now, delivered_bytes);
            }
            self.delivered = Mark { delivered_bytes, delivered_at: now, sent_at: now };
        }
        SendSnapshot {
            delivered: self.delivered,
            app_limited: is_sparse || self.app_limited_until > self.delivered.delivered_bytes,
        }
    }

    /// There was room for more, and nothing to send.
    pub(crate) const fn handle_idle(&mut self, in_flight_bytes: u64) {
        let until = self.delivered.delivered_bytes.saturating_add(in_flight_bytes);
        self.app_limited_until = until.saturating_add(1);
    }

    /// `bytes` were acknowledged, the newest of them sent at `sent_at`.
    pub(crate) fn handle_ack(
        &mut self,
        now: MonoTime,
        bytes: u64,
        sent_at: MonoTime,
        snapshot: SendSnapshot,
    ) {
        let delivered_bytes = self.delivered.delivered_bytes.saturating_add(bytes);
        self.delivered = Mark { delivered_bytes, delivered_at: now, sent_at };
        let mark = self.marks.handle_ack(self.delivered);
        let flight = delivered_bytes.saturating_sub(snapshot.delivered.delivered_bytes);
        self.update_slow_start(now, flight, now.saturating_since(sent_at));
        let is_longer = mark.delivered_bytes < snapshot.delivered.delivered_bytes;
        let from = if is_longer { mark } else { snapshot.delivered };
        let sending = sent_at.saturating_since(from.sent_at);
        let acking = now.saturating_since(from.delivered_at);
        let bytes = delivered_bytes.saturating_sub(from.delivered_bytes);
        let rate = rate_of(bytes, sending.max(acking).max(SPAN_MIN));
        let is_app_limited = snapshot.app_limited || self.app_limited_until > from.delivered_bytes;
        if is_app_limited && rate < self.rate() {
            return;
        }
        if !is_app_limited {
            self.is_proven = true;
            self.update_startup(now, rate, snapshot.delivered.delivered_bytes);
        }
        self.rate.handle_sample(now, rate, half_window(self.min_rtt.unwrap_or_default()));
    }

    /// `flight` bytes were delivered while one batch took so long: twice as much may follow.
    ///
    /// Samples of the rate reach back for longer than many round trips of a short path, in which the
    /// first record would wait. A queue ends it as in HyStart++ (RFC 9406 §4.2).
    fn update_slow_start(&mut self, now: MonoTime, flight: u64, trip: Duration) {
        let (Some(window), Some(least)) = (self.slow_start, self.min_rtt) else { return };
        let eighth = least.checked_div(8).unwrap_or_default();
        let with_queue = least.saturating_add(eighth).saturating_add(QUEUE_MIN);
        let (trips, at) = self.long_trips;
        self.long_trips = match trip > with_queue {
            true if now == at => (trips, at),
            true => (trips.saturating_add(1), now),
            false => (0, at),
        };
        let is_over = self.long_trips.0 >= LONG_TRIPS || self.startup.is_none();
        self.slow_start = (!is_over).then(|| window.max(flight.saturating_mul(2)));
    }

    fn update_startup(&mut self, now: MonoTime, rate: u64, delivered_when_sent: u64) {
        let Some(startup) = &mut self.startup else { return };
        if rate >= startup.rate.saturating_add(startup.rate >> 2) {
            (startup.rate, startup.level_rounds) = (rate, 0);
        }
        let lasted = now.saturating_since(startup.round_since);
        if delivered_when_sent >= startup.round_end && lasted >= SPAN_MIN {
            (startup.round_end, startup.round_since) = (self.delivered.delivered_bytes, now);
            startup.level_rounds = startup.level_rounds.saturating_add(1);
            if startup.level_rounds > LEVEL_ROUNDS {
                self.startup = None;
            }
        }
    }

    /// A round trip was measured.
    pub(crate) fn handle_round_trip(&mut self, now: MonoTime, sample: Duration) {
        let near = |least: Duration| {
            least
                .saturating_add(least.checked_div(8).unwrap_or_default())
                .saturating_add(Duration::from_micros(500))
        };
        let Some(least) = self.min_rtt.filter(|&least| sample >= least) else {
            self.set_min_rtt(now, sample);
            return;
        };
        // Half a round trip and the slack stand in the queue of either direction. Packets do not count: the
        // less the rate shows, the more they would explain.
        let queues = turns_at(self.rate()).saturating_mul(2).saturating_add(least);
        if sample <= near(least.saturating_add(queues)) {
            self.explained_at = now;
        }
        let sent = MonoTime::ZERO
            .saturating_add(now.saturating_since(MonoTime::ZERO).saturating_sub(sample));
        self.recent_rtt = Some(self.recent_rtt.map_or(sample, |recent| recent.min(sample)));
        let is_near = sample <= near(least);
        if is_near {
            (self.min_rtt_at, self.recent_rtt) = (now, None);
        }
        // Queues of the peer's side, and of others, may take longer to go than this one.
        let Some(probe) = self.probe.as_mut().filter(|probe| sent >= probe.from) else { return };
        match probe.best {
            Some(best) if sample >= best => {
                probe.level_samples = probe.level_samples.saturating_add(1);
            }
            _ => (probe.best, probe.level_samples) = (Some(sample), 0),
        }
        let best = probe.best.filter(|_| probe.level_samples >= LEVEL_SAMPLES);
        if is_near {
            self.patience = self.patience.saturating_mul(2).min(MIN_RTT_WINDOW);
            (self.probe, self.explained_at) = (None, now);
        } else if let Some(best) = best {
            self.set_min_rtt(now, best);
        }
    }

    fn set_min_rtt(&mut self, now: MonoTime, least: Duration) {
        (self.min_rtt, self.min_rtt_at, self.explained_at) = (Some(least), now, now);
        (self.recent_rtt, self.probe, self.patience) = (None, None, PATIENCE_MIN);
    }

    /// Heartbeats are about to be sent; the next one is due after `tick`.
    ///
    /// A queue that this link has filled itself raises all round trips, and a least one that follows
    /// them raises the bound and with it the queue. Therefore what may be in flight is lowered, now and
    /// then, before the least round trip is taken to have grown. A link that is not filled has no such
    /// queue: there the least of late is the least, and nothing has to wait for it.
    ///
    /// The peer's queue raises them no less: it is asked to hold back, too, by what this returns. Who
    /// measures because it was asked to does not ask: two ends would keep each other at it for ever.
    pub(crate) fn handle_tick(&mut self, now: MonoTime, tick: Duration) -> bool {
        let is_old = now.saturating_since(self.min_rtt_at) >= MIN_RTT_WINDOW;
        let is_unexplained = now.saturating_since(self.explained_at) >= self.patience;
        if (is_old || is_unexplained) && self.probe.is_none() {
            let is_filled = self.app_limited_until <= self.delivered.delivered_bytes;
            match self.recent_rtt.filter(|_| !is_filled) {
                Some(recent) => self.set_min_rtt(now, recent),
                None => self.start_probe(now, tick, true),
            }
        }
        self.asks_peer()
    }

    /// The round trip is measured because this end wants to know.
    pub(crate) fn asks_peer(&self) -> bool {
        self.probe.is_some_and(|probe| probe.is_own)
    }

    /// The peer measures the round trip: both ends measure at once, if this one has not done so just
    /// now.
    pub(crate) fn handle_peer_probe(&mut self, now: MonoTime, tick: Duration) {
        if now.saturating_since(self.probed_at) >= PROBE_GAP {
            self.start_probe(now, tick, false);
        }
    }

    fn start_probe(&mut self, now: MonoTime, tick: Duration, is_own: bool) {
        let Some(least) = self.min_rtt.filter(|_| self.probe.is_none()) else { return };
        (self.min_rtt_at, self.probed_at, self.explained_at) = (now, now, now);
        let trips = least.saturating_mul(2);
        let from = now.saturating_add(trips).saturating_add(Duration::from_millis(10));
        let until = from.saturating_add(trips).saturating_add(tick.saturating_mul(2));
        self.probe =
            Some(Probe { is_own, from, until, ask_at: from, best: None, level_samples: 0 });
    }

    /// In flight is held low to measure the round trip.
    pub(crate) const fn is_measuring(&self) -> bool {
        self.probe.is_some()
    }

    /// When heartbeats are to be sent beside those of the ticks, so that a probe is as short as it can
    /// be.
    pub(crate) fn poll_probe(&self) -> Option<MonoTime> {
        self.probe.map(|probe| probe.ask_at.min(probe.until))
    }

    /// They are to be sent now. A probe that is over has shown the least round trip.
    pub(crate) fn handle_probe(&mut self, now: MonoTime) -> bool {
        let Some(probe) = &mut self.probe else { return false };
        if probe.until <= now {
            // Without an answer it is longer than that.
            let waited = now.saturating_since(probe.from);
            let least = probe.best.unwrap_or(waited);
            self.set_min_rtt(now, least);
            return false;
        }
        let is_due = probe.ask_at <= now;
        if is_due {
            let least = self.min_rtt.unwrap_or_default();
            probe.ask_at = now.saturating_add(least.max(PROBE_ASK_EVERY));
        }
        is_due
    }

    /// The peer, or the way to it, is another one.
    pub(crate) fn reset(&mut self) {
        let delivered = self.delivered;
        let app_limited_until = delivered.delivered_bytes.saturating_add(1);
        *self = Self { delivered, app_limited_until, ..Self::new() };
    }

    /// Bytes per second; 0 while unknown.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.get()
    }

    /// Whether the rate shows what the link can do.
    pub(crate) const fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Least round trip, if one was measured.
    pub(crate) const fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }

    /// The slack is more than the path holds.
    pub(crate) fn is_near(&self) -> bool {
        self.min_rtt.is_none_or(|least| least <= slack_at(self.rate()))
    }

    /// Bulk bytes that may be in flight if both ends wait for their cores for `turn_delay` on average; no
    /// more than `floor_bytes` before anything is known.
    ///
    /// While the round trip is measured it is what half of the least one holds (as in BBRv3's ProbeRTT),
    /// so that the queue goes and the link does not stand still; on a slow link that is less than a
    /// message, and one at a time goes.
    pub(crate) fn in_flight_bound(&self, floor_bytes: u64, turn_delay: Duration) -> u64 {
        let Some(least) = self.min_rtt else { return floor_bytes };
        let rate = self.rate();
        // With each acknowledgement: of durations the seconds would be counted apart.
        let least = nanos(least);
        let at_rate = |nanos: u64| proportion(rate, nanos, 1_000_000_000).unwrap_or(0);
        let half = least >> 1;
        if self.probe.is_some() {
            // Half of it in either direction would be a round trip as long as the one that is in doubt, and
            // a rate that is taken for too high, or what a lost lane leaves behind, makes it longer.
            return at_rate(half >> 1);
        }
        let trips = if self.startup.is_some() {
            least.saturating_mul(2).saturating_add(half)
        } else {
            least.saturating_add(half)
        };
        let turns = nanos(turn_delay).saturating_mul(TURNS);
        let slack = nanos(slack_at(rate)).saturating_add(turns);
        let window = self.slow_start.unwrap_or(0).max(floor_bytes);
        at_rate(trips.saturating_add(slack)).max(window)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may panic")]
mod tests;
