use std::time::Duration;

use hawser_wire::{BootEpoch, MonoTime, NodeId, StreamAck, StreamOffset};

use crate::outbox::Outbox;
use crate::{DeliveryLimits, PathShare, PathWindow, RefusedBy, StreamViolation};

/// First wait for an answer to a sync; doubles up to [`SYNC_RETRY_MAX`].
const SYNC_RETRY_MIN: Duration = Duration::from_millis(200);
const SYNC_RETRY_MAX: Duration = Duration::from_secs(2);

/// The wait for progress doubles with each expiry up to so many times.
const BACKOFF_SHIFT_MAX: u32 = 4;

/// Loss is answered at most this often, however short the round trip.
const RESEND_AGAIN_MIN: Duration = Duration::from_millis(20);

/// How far source and destination agree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SyncState {
    /// The source began a new life and asks where the stream goes on.
    Asking,
    /// The destination is told where it goes on.
    Telling,
    /// Records flow.
    Ready,
}

/// What the window of the path to a destination has not been told yet.
#[derive(Debug, Default)]
struct PathNews {
    acked_bytes: u64,
    marked_bytes: u64,
    rtt: Option<Duration>,
    is_lost: bool,
    is_forgotten: bool,
    sent_bytes: u64,
}

/// What the source knows of one destination.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) node: NodeId,
    pub(crate) sync: SyncState,
    /// First offset that this destination was told.
    pub(crate) base: StreamOffset,
    /// The offset from which the destination counts credit.
    pub(crate) origin: StreamOffset,
    /// Outbox bytes before it.
    pub(crate) origin_bytes: u64,
    pub(crate) receiver_epoch: Option<BootEpoch>,
    pub(crate) received: StreamOffset,
    pub(crate) consumed: StreamOffset,
    pub(crate) credit_bytes: u64,
    /// Of what was received since `origin`, what relays had marked and the path's window knows of.
    pub(crate) marked_bytes: u64,
    /// What this stream has under way on the path.
    share: PathShare,
    news: PathNews,
    /// Number of the next record to send.
    pub(crate) next_number: u64,
    /// Records below were sent at least once.
    pub(crate) sent_number: u64,
    /// Nothing above was ever sent to this destination.
    pub(crate) sent_end: StreamOffset,
    /// The stream is refused at it, or for it, in this life of it.
    pub(crate) refused: Option<(BootEpoch, RefusedBy)>,
    pub(crate) reachable: bool,
    /// The destination knows where the closed stream ends.
    pub(crate) end_acked: bool,
    /// When the next sync is due; while `Ready` only for the end of a closed stream.
    pub(crate) sync_at: Option<MonoTime>,
    sync_retry: Duration,
    /// The sync that is due only asks for credit.
    querying: bool,
    /// When to probe if nothing moves.
    pub(crate) resend_at: Option<MonoTime>,
    /// A loss may not be made good yet: what was received when that was last looked at, and when to
    /// look again.
    pub(crate) look_at: Option<(StreamOffset, MonoTime)>,
    /// Something behind this offset has arrived before what is there, since then.
    gap: Option<(StreamOffset, MonoTime)>,
    /// Times that nothing had moved for too long since a round trip was measured.
    expiries: u32,
    /// The first unreceived record is to be sent once more.
    pub(crate) probe: bool,
    /// When what was lost was last sent again.
    resent_at: Option<MonoTime>,
    /// Nothing had moved for too long: if the probe gets through, all behind it goes out again.
    pub(crate) probing: bool,
    /// Smoothed round trip of record and acknowledgement (RFC 6298 §2); zero before the first.
    pub(crate) srtt: Duration,
    /// A record being timed: it ends at this offset and was sent at this time.
    pub(crate) timed: Option<(StreamOffset, MonoTime)>,
}

impl Destination {
    pub(crate) fn new(node: NodeId, sync: SyncState) -> Self {
        Self {
            node,
            sync,
            base: StreamOffset(0),
            origin: StreamOffset(0),
            origin_bytes: 0,
            receiver_epoch: None,
            received: StreamOffset(0),
            consumed: StreamOffset(0),
            credit_bytes: 0,
            marked_bytes: 0,
            share: PathShare::default(),
            news: PathNews::default(),
            next_number: 0,
            sent_number: 0,
            sent_end: StreamOffset(0),
            refused: None,
            reachable: false,
            end_acked: false,
            sync_at: Some(MonoTime::ZERO),
            sync_retry: SYNC_RETRY_MIN,
            querying: false,
            resend_at: None,
            look_at: None,
            gap: None,
            expiries: 0,
            probe: false,
            resent_at: None,
            probing: false,
            srtt: Duration::ZERO,
            timed: None,
        }
    }

    /// Begins to agree anew, at once.
    pub(crate) fn restart_sync(&mut self, sync: SyncState) {
        self.sync = sync;
        self.receiver_epoch = None;
        self.credit_bytes = 0;
        self.end_acked = false;
        self.querying = false;
        self.sync_at_once();
        self.resend_at = None;
        self.look_at = None;
        self.gap = None;
        self.probe = false;
        self.probing = false;
        self.forget_sent();
    }

    /// The destination counts credit from `origin` on, beginning anew.
    pub(crate) fn set_origin(&mut self, origin: StreamOffset, outbox: &Outbox) {
        self.origin = origin;
        self.origin_bytes = outbox.bytes_before(outbox.number_at(origin));
        self.credit_bytes = 0;
        self.marked_bytes = 0;
    }

    /// Records may go there.
    pub(crate) fn takes_records(&self) -> bool {
        self.sync == SyncState::Ready && self.refused.is_none()
    }

    /// Whether what it says can be. Of acknowledgements that overtook each other only the last one brings
    /// news, so that a lower credit in one that does was taken back. While there is a gap it may be for
    /// what came early: earlier releases took that out of the credit.
    pub(crate) fn check(&self, ack: &StreamAck) -> Result<(), StreamViolation> {
        if ack.seen > self.sent_end {
            return Err(StreamViolation::AckAhead { seen: ack.seen, sent: self.sent_end });
        }
        let is_news = ack.received > self.received || ack.consumed > self.consumed;
        let is_counted = ack.origin == self.origin && self.sync == SyncState::Ready;
        let is_same_life = self.receiver_epoch == Some(ack.receiver_epoch);
        let has_gap = ack.seen > ack.received;
        if is_news && is_counted && is_same_life && !has_gap && ack.credit_bytes < self.credit_bytes
        {
            let (from, to) = (self.credit_bytes, ack.credit_bytes);
            return Err(StreamViolation::CreditReturned { from, to });
        }
        Ok(())
    }

    /// Nothing more goes there while it lives as `epoch`; what is under way counts for nothing.
    pub(crate) fn handle_refused(
        &mut self,
        now: MonoTime,
        epoch: BootEpoch,
        by: RefusedBy,
        outbox: &Outbox,
    ) {
        self.refused = Some((epoch, by));
        self.resend_at = None;
        self.look_at = None;
        self.gap = None;
        self.probe = false;
        self.probing = false;
        self.roll_back(outbox);
        self.ask_seldom(now);
    }

    /// It is asked now and then whether it has begun a new life.
    pub(crate) fn ask_seldom(&mut self, now: MonoTime) {
        self.querying = false;
        self.sync_retry = SYNC_RETRY_MAX;
        self.sync_at = Some(now.saturating_add(SYNC_RETRY_MAX));
    }

    /// A sync was sent; sets the time of the next.
    pub(crate) fn sync_sent(&mut self, now: MonoTime) {
        self.sync_at = Some(now.saturating_add(self.sync_retry));
        self.sync_retry = self.sync_retry.saturating_mul(2).min(SYNC_RETRY_MAX);
    }

    /// The path changed or came back: what is under way may be lost. Repeats at once, and asks, if
    /// the destination `owes` something, whether it still remembers.
    pub(crate) fn path_changed(&mut self, owes: bool) {
        self.querying |= self.sync_at.is_none() && owes;
        if self.querying || self.sync_at.is_some() {
            self.sync_at_once();
        }
        self.timed = None;
    }

    /// A sync is due now; if that one is not answered, pauses begin anew.
    pub(crate) const fn sync_at_once(&mut self) {
        self.sync_at = Some(MonoTime::ZERO);
        self.sync_retry = SYNC_RETRY_MIN;
    }

    /// Everything that was sent is acknowledged.
    pub(crate) fn is_settled(&self, outbox: &Outbox) -> bool {
        !self.probe && self.next_number <= outbox.number_at(self.received)
    }

    /// What is sent from now on takes another path, on which it may overtake what is under way. That is
    /// not lost for being late; should it be, a probe finds out soon.
    pub(crate) fn path_left(&mut self, now: MonoTime, outbox: &Outbox) {
        self.path_changed(!outbox.is_empty());
        if !self.is_settled(outbox) {
            self.resent_at = Some(now);
            self.look_soon(now);
        }
    }

    /// How long to wait for progress.
    pub(crate) fn wait(&self, limits: &DeliveryLimits) -> Duration {
        let wait = limits.resend_after.max(self.srtt.saturating_mul(4));
        wait.saturating_mul(1_u32 << self.expiries.min(BACKOFF_SHIFT_MAX))
    }

    /// Credit is used up: a sync, which is answered with the present credit, is due in a while.
    pub(crate) fn query_credit(&mut self, now: MonoTime, limits: &DeliveryLimits) {
        if self.sync_at.is_none() {
            self.sync_retry = self.wait(limits);
            self.sync_at = Some(now.saturating_add(self.sync_retry));
            self.querying = true;
        }
    }

    /// The stream was closed: its end is to be told, whatever was asked for before.
    pub(crate) const fn tell_end(&mut self) {
        self.querying = false;
        self.sync_at = Some(MonoTime::ZERO);
    }

    /// The destination answered: no need to ask.
    pub(crate) const fn forget_query(&mut self) {
        if self.querying {
            self.querying = false;
            self.sync_at = None;
        }
    }

    /// May what was lost be sent again now? Once in two round trips: what is sent again is still on
    /// its way when the next sign of the same loss arrives.
    pub(crate) fn wants_resend(&mut self, now: MonoTime) -> bool {
        let wait = self.resend_pause();
        let wants = self.resent_at.is_none_or(|at| now.saturating_since(at) > wait);
        if wants {
            self.resent_at = Some(now);
        }
        wants
    }

    /// Nothing has arrived on the path for too long. All goes out again, as fast as the path's window
    /// opens: the first record is the probe.
    pub(crate) fn handle_path_timeout(&mut self, now: MonoTime, outbox: &Outbox) {
        self.probe = false;
        self.probing = false;
        self.resend_at = None;
        self.look_at = None;
        self.resent_at = Some(now);
        self.roll_back(outbox);
    }

    /// How long what was sent again has to show itself.
    fn resend_pause(&self) -> Duration {
        self.srtt.saturating_mul(2).max(RESEND_AGAIN_MIN)
    }

    /// A sign of a loss came too early to send anything again. It may be about what was just sent
    /// again, and be the last one: see soon whether anything moves.
    pub(crate) fn look_soon(&mut self, now: MonoTime) {
        if self.look_at.is_none() {
            self.look_at = Some((self.received, now.saturating_add(self.resend_pause())));
        }
    }

    /// Sees whether anything has moved, if it is time; if not, a probe finds out why.
    pub(crate) fn handle_look(&mut self, now: MonoTime) {
        let Some((received, at)) = self.look_at else { return };
        if at > now {
            return;
        }
        self.look_at = None;
        if self.received > received {
            self.look_soon(now);
        } else {
            self.start_probe();
        }
    }

    /// The destination has, or has not, something behind what it has in order. True if that is so for
    /// long enough to say that what is missing was lost.
    pub(crate) fn note_gap(
        &mut self,
        now: MonoTime,
        has_gap: bool,
        limits: &DeliveryLimits,
    ) -> bool {
        let known = self.gap.filter(|&(offset, _)| has_gap && offset == self.received);
        self.gap = known.or_else(|| has_gap.then_some((self.received, now)));
        self.gap_lasts_from(limits).is_some_and(|at| at <= now)
    }

    /// When a gap will have lasted for too long.
    pub(crate) fn gap_lasts_from(&self, limits: &DeliveryLimits) -> Option<MonoTime> {
        let wait = self.srtt.saturating_mul(2).max(limits.gap_after);
        self.gap.map(|(_, since)| since.saturating_add(wait))
    }

    /// When it is to be told or asked something, or something counts as lost, without another event.
    pub(crate) fn due(&self, limits: &DeliveryLimits) -> Option<MonoTime> {
        let look_at = self.look_at.map(|(_, at)| at);
        let told_or_lost = sooner(self.resend_at, self.sync_at);
        sooner(told_or_lost, sooner(look_at, self.gap_lasts_from(limits)))
    }

    /// What is missing is taken for lost: all goes out again, if what was sent again before has had
    /// the time to show itself.
    pub(crate) fn handle_lost(&mut self, now: MonoTime, outbox: &Outbox) {
        self.gap = None;
        if self.wants_resend(now) {
            self.probing = false;
            self.news.is_lost = true;
            self.roll_back(outbox);
        } else {
            self.look_soon(now);
        }
    }

    /// Nothing has moved for too long: a probe finds out why.
    pub(crate) const fn handle_expiry(&mut self) {
        self.resend_at = None;
        self.expiries = self.expiries.saturating_add(1);
        self.start_probe();
    }

    /// The first record that is not acknowledged goes out again.
    pub(crate) const fn start_probe(&mut self) {
        self.probe = true;
        self.probing = true;
        self.forget_sent();
    }

    /// Everything that is not acknowledged goes out again.
    pub(crate) fn roll_back(&mut self, outbox: &Outbox) {
        self.next_number = outbox.number_at(self.received);
        self.forget_sent();
    }

    /// What is under way counts as lost. Should it arrive all the same, nobody can tell it from what
    /// is sent again: it is not timed (Karn's algorithm, RFC 6298 §3).
    const fn forget_sent(&mut self) {
        self.timed = None;
        self.news.is_forgotten = true;
    }

    /// Number of the record that goes out next, should there be one.
    pub(crate) fn number_to_send(&self, outbox: &Outbox) -> u64 {
        if self.probe {
            outbox.number_at(self.received)
        } else {
            self.next_number.max(outbox.first_number())
        }
    }

    /// A record was sent.
    pub(crate) const fn note_sent(&mut self, bytes: u64) {
        self.news.sent_bytes = self.news.sent_bytes.saturating_add(bytes);
    }

    /// The destination has received so many bytes more, and `marked_bytes` that were marked since
    /// `origin`.
    pub(crate) fn note_acked(&mut self, bytes: u64, marked_bytes: u64, rtt: Option<Duration>) {
        if bytes == 0 {
            return; // Marks of what came early count once the gap before it is filled.
        }
        let marked = marked_bytes.saturating_sub(self.marked_bytes);
        self.marked_bytes = self.marked_bytes.max(marked_bytes);
        self.news.acked_bytes = self.news.acked_bytes.saturating_add(bytes);
        self.news.marked_bytes = self.news.marked_bytes.saturating_add(marked);
        self.news.rtt = rtt.or(self.news.rtt);
    }

    /// Tells the window of the path what has happened on it; how many bytes were sent.
    pub(crate) fn settle_path(&mut self, now: MonoTime, window: &mut PathWindow) -> u64 {
        let news = std::mem::take(&mut self.news);
        if news.acked_bytes > 0 {
            let (acked, marked) = (news.acked_bytes, news.marked_bytes);
            window.handle_acked(now, &mut self.share, acked, marked, news.rtt);
        }
        if news.is_lost {
            window.handle_loss(now);
        }
        if news.is_forgotten {
            window.handle_forgotten(&mut self.share);
        }
        if news.sent_bytes > 0 {
            window.handle_sent(now, &mut self.share, news.sent_bytes);
        }
        news.sent_bytes
    }

    /// The stream does not use the path of `window` any more.
    pub(crate) fn leave_path(&mut self, window: &mut PathWindow) {
        window.handle_forgotten(&mut self.share);
        self.share = PathShare::default();
        self.news = PathNews::default();
    }

    /// Takes a round-trip sample if the timed record has arrived.
    pub(crate) fn sample_rtt(&mut self, now: MonoTime) -> Option<Duration> {
        let (_, sent) = self.timed.take_if(|(end, _)| self.received >= *end)?;
        self.expiries = 0;
        let sample = now.saturating_since(sent);
        self.srtt = if self.srtt.is_zero() {
            sample
        } else {
            self.srtt.saturating_mul(7).saturating_add(sample).checked_div(8).unwrap_or(sample)
        };
        Some(sample)
    }
}

/// The earlier of two times, of which either may never come.
pub(crate) fn sooner(one: Option<MonoTime>, other: Option<MonoTime>) -> Option<MonoTime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
