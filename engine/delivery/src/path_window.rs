use std::time::Duration;

use hawser_wire::{MonoTime, RECORD_BYTES_TARGET};

use crate::ResendTimer;

/// One, in the fixed point that the marked fraction is kept in (as RFC 8257 §4.1).
const FRACTION_ONE: u64 = 1 << 20;

/// g = 1/16 (RFC 8257 §4.2): so much of each window's marked fraction enters the mean.
const GAIN_SHIFT: u32 = 4;

const RECORD_BYTES: u64 = 64 << 10;
const _: () = assert!(RECORD_BYTES_TARGET == 64 << 10);

/// Bounds of what one source has under way on one path.
#[derive(Clone, Copy, Debug)]
pub struct PathWindowLimits {
    /// Window of a new path, and of one that was idle.
    pub initial_bytes: u64,
    /// The window never falls below this: a few records. Relays must be able to queue as much for
    /// each source and path.
    pub min_bytes: u64,
    /// Nor does it rise above this.
    pub max_bytes: u64,
    /// The window rises by so much for each window that arrives unmarked, once it was reduced.
    pub step_bytes: u64,
    /// Without progress for this long (or four round trips, if that is more) all is taken for lost.
    pub resend_after: Duration,
}

impl Default for PathWindowLimits {
    fn default() -> Self {
        Self {
            initial_bytes: 8 * RECORD_BYTES,
            min_bytes: 2 * RECORD_BYTES,
            max_bytes: 64 << 20,
            step_bytes: RECORD_BYTES / 4,
            resend_after: Duration::from_secs(1),
        }
    }
}

/// What one stream has under way on one path. Kept beside the stream's cursor for a destination.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathShare {
    in_flight_bytes: u64,
    /// Timeouts of the path until this was last looked at: what was under way then is lost.
    timeouts: u64,
}

/// Congestion window of one path at its source, in bytes that records are charged.
///
/// As DCTCP (RFC 8257): the window shrinks by half the mean fraction of bytes that relays marked, at
/// most once per window; by half if a relay dropped something, as any TCP does (§3.5); it rises by
/// slow start and by steps (RFC 5681 §3.1), but only while the source uses it (RFC 9002 §7.8).
/// Streams share the window and each keeps its [`PathShare`], so that one that begins anew or leaves
/// takes away what is its own.
///
/// Invariant: `in_flight_bytes` is the sum of all shares that were touched since the last timeout.
#[derive(Debug)]
pub struct PathWindow {
    limits: PathWindowLimits,
    window_bytes: u64,
    /// Below it the window doubles each round trip (RFC 5681's ssthresh).
    slow_start_below_bytes: u64,
    in_flight_bytes: u64,
    /// Ever, with what was sent again.
    sent_bytes: u64,
    /// The window was full since the present round began.
    is_limited: bool,
    /// Mean marked fraction (RFC 8257's DCTCP.Alpha), at most [`FRACTION_ONE`].
    marked_fraction: u64,
    /// The present round ends when all that was sent below has arrived or is lost.
    round_end: u64,
    round_acked_bytes: u64,
    round_marked_bytes: u64,
    /// As `round_end`: until then the window is not reduced again.
    reduced_until: u64,
    /// When that was.
    reduced_at: MonoTime,
    last_sent: MonoTime,
    timer: ResendTimer,
    timeouts: u64,
}

impl PathWindow {
    /// A path that nothing was sent on.
    #[must_use]
    pub const fn new(limits: PathWindowLimits) -> Self {
        Self {
            limits,
            window_bytes: limits.initial_bytes,
            slow_start_below_bytes: u64::MAX,
            in_flight_bytes: 0,
            sent_bytes: 0,
            is_limited: false,
            marked_fraction: FRACTION_ONE,
            round_end: 0,
            round_acked_bytes: 0,
            round_marked_bytes: 0,
            reduced_until: 0,
            reduced_at: MonoTime::ZERO,
            last_sent: MonoTime::ZERO,
            timer: ResendTimer::new(limits.resend_after),
            timeouts: 0,
        }
    }

    /// What may be under way now, in bytes.
    #[must_use]
    pub const fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// What is under way, in bytes.
    #[must_use]
    pub const fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Mean fraction of bytes that were marked, in thousandths.
    #[must_use]
    pub fn marked_permille(&self) -> u64 {
        self.marked_fraction.saturating_mul(1000).checked_div(FRACTION_ONE).unwrap_or(0)
    }

    /// Smoothed round trip; zero before the first sample.
    #[must_use]
    pub const fn srtt(&self) -> Duration {
        self.timer.srtt()
    }

    /// May a record of `len_bytes` be sent now? One always may if nothing is under way; after a
    /// timeout no second one before the first is acknowledged.
    pub fn is_open(&mut self, now: MonoTime, len_bytes: u64) -> bool {
        if self.in_flight_bytes == 0 {
            self.restart_if_idle(now);
            return true;
        }
        let fits = self.in_flight_bytes.saturating_add(len_bytes) <= self.window_bytes;
        self.is_limited |= !fits;
        fits && !self.timer.is_backed_off()
    }

    /// A record that is small enough may be sent now.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        let is_full = self.in_flight_bytes >= self.window_bytes || self.timer.is_backed_off();
        self.in_flight_bytes == 0 || !is_full
    }

    /// A record was sent, new or again.
    pub fn handle_sent(&mut self, now: MonoTime, share: &mut PathShare, len_bytes: u64) {
        self.refresh(share);
        share.in_flight_bytes = share.in_flight_bytes.saturating_add(len_bytes);
        self.in_flight_bytes = self.in_flight_bytes.saturating_add(len_bytes);
        self.sent_bytes = self.sent_bytes.saturating_add(len_bytes);
        self.is_limited |= self.in_flight_bytes >= self.window_bytes;
        self.last_sent = now;
        self.timer.handle_sent(now);
    }

    /// A stream's destination has received `acked_bytes` more, of which relays marked
    /// `marked_bytes`. `rtt` if a record of that stream was timed and not sent twice (Karn).
    ///
    /// Call once for each acknowledgement that brings news; what exceeds the stream's share was
    /// taken for lost before, and counts as progress only.
    pub fn handle_acked(
        &mut self,
        now: MonoTime,
        share: &mut PathShare,
        acked_bytes: u64,
        marked_bytes: u64,
        rtt: Option<Duration>,
    ) {
        if let Some(rtt) = rtt {
            self.timer.handle_rtt(rtt);
        }
        self.refresh(share);
        let marked_bytes = marked_bytes.min(acked_bytes);
        self.take_out(share, acked_bytes);
        if acked_bytes > 0 {
            self.timer.handle_progress(now, self.in_flight_bytes > 0);
        }
        self.round_acked_bytes = self.round_acked_bytes.saturating_add(acked_bytes);
        self.round_marked_bytes = self.round_marked_bytes.saturating_add(marked_bytes);
        if marked_bytes > 0 {
            self.reduce(now, self.marked_fraction >> 1);
        }
        if self.is_limited {
            self.grow(acked_bytes.saturating_sub(marked_bytes));
        }
        self.end_round_if_due();
    }

    /// A relay dropped a record of this path, or a gap showed that one was lost.
    pub fn handle_loss(&mut self, now: MonoTime) {
        // What goes out again is not told from what it replaces, and a burst of losses comes as many
        // notices: of those within one round trip only the first says something new.
        if now.saturating_since(self.reduced_at) >= self.timer.srtt() {
            self.reduce(now, FRACTION_ONE >> 1);
        }
    }

    /// The stream sends all that is not acknowledged again, ends, or takes another path: what it had
    /// under way does not count any more.
    pub fn handle_forgotten(&mut self, share: &mut PathShare) {
        self.refresh(share);
        self.take_out(share, u64::MAX);
        if self.in_flight_bytes == 0 {
            self.timer.stop();
        }
    }

    /// True if there was no progress for too long: all that is under way is taken for lost, and the
    /// path takes one record, the probe, until something is acknowledged. The driver then has one of
    /// the path's streams send its first unacknowledged record again.
    pub fn handle_timeout(&mut self, now: MonoTime) -> bool {
        if !self.timer.handle_timeout(now) {
            return false;
        }
        // A second expiry says nothing new about what the path carries (RFC 5681 §3.1).
        if self.window_bytes > self.limits.min_bytes {
            self.slow_start_below_bytes = (self.window_bytes >> 1).max(self.limits.min_bytes);
            self.window_bytes = self.limits.min_bytes;
        }
        self.in_flight_bytes = 0;
        self.timeouts = self.timeouts.saturating_add(1);
        self.reduced_until = self.sent_bytes;
        self.begin_round();
        true
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<MonoTime> {
        self.timer.poll_timeout()
    }

    /// What was under way at a timeout is not counted since.
    const fn refresh(&self, share: &mut PathShare) {
        if share.timeouts != self.timeouts {
            *share = PathShare { in_flight_bytes: 0, timeouts: self.timeouts };
        }
    }

    fn take_out(&mut self, share: &mut PathShare, bytes: u64) {
        let bytes = bytes.min(share.in_flight_bytes);
        share.in_flight_bytes = share.in_flight_bytes.saturating_sub(bytes);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
    }

    /// All that was sent before the byte `sent` has arrived, or was taken for lost.
    const fn is_settled(&self, sent: u64) -> bool {
        self.sent_bytes.saturating_sub(self.in_flight_bytes) >= sent
    }

    /// Shrinks the window by a fraction, once per window.
    fn reduce(&mut self, now: MonoTime, fraction: u64) {
        if !self.is_settled(self.reduced_until) {
            return;
        }
        let part = u128::from(self.window_bytes).saturating_mul(u128::from(fraction));
        let part = part.checked_div(u128::from(FRACTION_ONE)).unwrap_or(0);
        let reduced = self.window_bytes.saturating_sub(u64::try_from(part).unwrap_or(u64::MAX));
        self.window_bytes = reduced.max(self.limits.min_bytes);
        self.slow_start_below_bytes = self.window_bytes;
        self.reduced_until = self.sent_bytes;
        self.reduced_at = now;
    }

    fn grow(&mut self, acked_bytes: u64) {
        let grown = if self.window_bytes < self.slow_start_below_bytes {
            acked_bytes
        } else {
            let part = u128::from(self.limits.step_bytes).saturating_mul(u128::from(acked_bytes));
            let part = part.checked_div(u128::from(self.window_bytes)).unwrap_or(0);
            u64::try_from(part).unwrap_or(0)
        };
        self.window_bytes = self.window_bytes.saturating_add(grown).min(self.limits.max_bytes);
    }

    fn end_round_if_due(&mut self) {
        if self.round_acked_bytes == 0 || !self.is_settled(self.round_end) {
            return;
        }
        let marked = u128::from(self.round_marked_bytes).saturating_mul(u128::from(FRACTION_ONE));
        let marked = marked.checked_div(u128::from(self.round_acked_bytes)).unwrap_or(0);
        let marked = u64::try_from(marked).unwrap_or(FRACTION_ONE).min(FRACTION_ONE);
        let kept = self.marked_fraction.saturating_sub(self.marked_fraction >> GAIN_SHIFT);
        self.marked_fraction = kept.saturating_add(marked >> GAIN_SHIFT);
        self.begin_round();
    }

    const fn begin_round(&mut self) {
        self.round_end = self.sent_bytes;
        self.round_acked_bytes = 0;
        self.round_marked_bytes = 0;
        self.is_limited = self.in_flight_bytes >= self.window_bytes;
    }

    /// A window that was not used says nothing about the path as it is now (RFC 5681 §4.1).
    fn restart_if_idle(&mut self, now: MonoTime) {
        if now.saturating_since(self.last_sent) > self.timer.wait() {
            self.window_bytes = self.window_bytes.min(self.limits.initial_bytes);
        }
    }
}

#[cfg(test)]
mod tests;
