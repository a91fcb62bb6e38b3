use std::time::Duration;

use hawser_wire::{MonoTime, StreamOffset};

use crate::DeliveryLimits;

/// What a consumer takes longer for than this stands in a queue: it is slow. Longer than consumers take
/// between two confirmations.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// How much of one stream a destination would have under way and in its memory.
///
/// It begins small and doubles, at most once in a round trip, while the source says that it waits for
/// credit ([`CREDIT_LIMITED`]) and the consumer keeps up: so it becomes what the way there and back
/// and the consumer's own delay take, without a measure of either, as neither a source that has
/// nothing to send nor a path that takes no more is limited by credit. A consumer keeps up if what
/// comes is consumed within [`SLOW_AFTER`], or if it has emptied the queue since the window grew (as
/// CoDel tells a standing queue from a burst, RFC 8289). One that was handed everything, while the
/// source has spent its credit, keeps up as well: it may wait for more before it confirms any of it.
///
/// [`CREDIT_LIMITED`]: hawser_wire::FrameFlags::CREDIT_LIMITED
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    bytes: u64,
    max_bytes: u64,
    /// What was granted when it grew last: what is sent below that does not know of it.
    edge_bytes: u64,
    keeps_up: bool,
    /// Behind a record that came in order, and when it came.
    waiting: Option<(StreamOffset, MonoTime)>,
}

impl ReceiveWindow {
    pub(crate) fn new(limits: &DeliveryLimits) -> Self {
        Self {
            bytes: limits.window_initial_bytes.min(limits.window_bytes),
            max_bytes: limits.window_bytes,
            edge_bytes: 0,
            keeps_up: false,
            waiting: None,
        }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Credit is counted anew. A source of an earlier release does not say that it waits for credit: it
    /// has the whole window.
    pub(crate) const fn begin(&mut self, source_says: bool) {
        self.edge_bytes = 0;
        self.waiting = None;
        if !source_says {
            self.bytes = self.max_bytes;
        }
    }

    /// All below `frontier` has come in order.
    pub(crate) fn handle_taken(&mut self, now: MonoTime, frontier: StreamOffset) {
        self.waiting.get_or_insert((frontier, now));
    }

    /// All below `consumed` is consumed, which is everything if it `is_empty`.
    pub(crate) fn handle_consumed(
        &mut self,
        now: MonoTime,
        consumed: StreamOffset,
        is_empty: bool,
    ) {
        if let Some((_, came)) = self.waiting.take_if(|(end, _)| consumed >= *end) {
            self.keeps_up |= is_empty || now.saturating_since(came) <= SLOW_AFTER;
        }
    }

    /// The source waits for credit, of which it has used `taken_bytes` in order and was granted
    /// `granted_bytes`.
    pub(crate) fn handle_limited(&mut self, taken_bytes: u64, granted_bytes: u64) {
        if self.keeps_up {
            self.grow(taken_bytes, granted_bytes);
        }
    }

    /// Every consumer was handed all that came in order, or nobody is subscribed, and the source has spent
    /// what it was granted.
    pub(crate) const fn handle_handed_out(&mut self, taken_bytes: u64, granted_bytes: u64) {
        self.grow(taken_bytes, granted_bytes);
    }

    const fn grow(&mut self, taken_bytes: u64, granted_bytes: u64) {
        if taken_bytes <= self.edge_bytes || self.bytes >= self.max_bytes {
            return;
        }
        let doubled = self.bytes.saturating_mul(2);
        self.bytes = if doubled < self.max_bytes { doubled } else { self.max_bytes };
        // The last record may end above what was granted.
        self.edge_bytes = if taken_bytes > granted_bytes { taken_bytes } else { granted_bytes };
        self.keeps_up = false;
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::arithmetic_side_effects,
        reason = "a test that overflows fails, as it should"
    )]

    use super::*;

    const KIB: u64 = 1 << 10;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_nanos((ms + 1) * 1_000_000)
    }

    /// The window after so many round trips of 20 ms, each of which brings what was granted; what comes
    /// is consumed after `holds_ms`, and the source is limited by credit or not.
    fn after(trips: u64, holds_ms: u64, is_limited: bool) -> u64 {
        let limits = DeliveryLimits {
            window_initial_bytes: 64 * KIB,
            window_bytes: 1024 * KIB,
            ..DeliveryLimits::default()
        };
        let mut window = ReceiveWindow::new(&limits);
        window.begin(true);
        let (mut taken, mut waiting) = (0, std::collections::VecDeque::new());
        for trip in 1..=trips {
            let now = trip * 20;
            taken += window.bytes();
            window.handle_taken(at(now), StreamOffset(taken));
            waiting.push_back((now + holds_ms, taken));
            while let Some((_, end)) = waiting.pop_front_if(|(due, _)| *due <= now) {
                window.handle_consumed(at(now), StreamOffset(end), false);
            }
            if is_limited {
                window.handle_limited(taken, taken);
            }
        }
        window.bytes()
    }

    #[test]
    fn it_doubles_each_round_trip_while_credit_is_what_limits_the_source() {
        assert_eq!(
            [1, 2, 3, 4, 5, 50].map(|trips| after(trips, 0, true) / KIB),
            [128, 256, 512, 1024, 1024, 1024]
        );
    }

    #[test]
    fn it_stays_if_something_else_limits_the_source() {
        assert_eq!(after(100, 0, false), 64 * KIB);
    }

    #[test]
    fn it_stays_if_the_consumer_is_slow_and_grows_if_it_is_only_seldom_heard_of() {
        assert_eq!(after(100, 300, true), 64 * KIB);
        assert_eq!(after(100, 200, true), 1024 * KIB);
    }

    #[test]
    fn it_grows_once_in_a_round_trip_and_by_what_was_emptied() {
        let limits = DeliveryLimits::default();
        let mut window = ReceiveWindow::new(&limits);
        window.begin(true);
        let initial = window.bytes();
        // A consumer that takes its time, and then all of it.
        window.handle_taken(at(0), StreamOffset(1));
        window.handle_consumed(at(900), StreamOffset(1), true);
        window.handle_limited(100, initial);
        assert_eq!(window.bytes(), 2 * initial);
        window.handle_taken(at(901), StreamOffset(2));
        window.handle_consumed(at(901), StreamOffset(2), true);
        window.handle_limited(initial, initial);
        assert_eq!(window.bytes(), 2 * initial, "that was sent before it could know");
        window.handle_limited(initial + 1, 2 * initial);
        assert_eq!(window.bytes(), 4 * initial);
    }

    #[test]
    fn it_grows_once_if_the_record_that_was_limited_is_handed_out_too() {
        let mut window = ReceiveWindow::new(&DeliveryLimits::default());
        window.begin(true);
        let initial = window.bytes();
        window.handle_taken(at(0), StreamOffset(1));
        window.handle_consumed(at(0), StreamOffset(1), true);
        window.handle_limited(initial + 100, initial);
        window.handle_handed_out(initial + 100, initial);
        assert_eq!(window.bytes(), 2 * initial);
        window.handle_handed_out(2 * initial + 100, 2 * initial + 100);
        assert_eq!(window.bytes(), 4 * initial);
    }

    #[test]
    fn what_was_seen_before_credit_is_counted_anew_counts_no_more() {
        let mut window = ReceiveWindow::new(&DeliveryLimits::default());
        window.begin(true);
        let initial = window.bytes();
        window.handle_handed_out(1 << 30, 1 << 30);
        window.handle_taken(at(0), StreamOffset(1));
        window.begin(true);
        assert_eq!(window.bytes(), 2 * initial, "what it has it keeps");
        // Nothing that came before stands in a queue, and nothing was granted yet.
        window.handle_taken(at(1_000), StreamOffset(2));
        window.handle_consumed(at(1_001), StreamOffset(2), false);
        window.handle_limited(1, 1);
        assert_eq!(window.bytes(), 4 * initial);
    }

    #[test]
    fn one_that_was_slow_is_not_held_to_it_and_one_that_has_kept_up_may_be_slow_once() {
        let mut window = ReceiveWindow::new(&DeliveryLimits::default());
        window.begin(true);
        let initial = window.bytes();
        let consume = |window: &mut ReceiveWindow, came: u64, after: u64, end: u64| {
            window.handle_taken(at(came), StreamOffset(end));
            window.handle_consumed(at(came + after), StreamOffset(end), false);
        };
        consume(&mut window, 0, 300, 1);
        window.handle_limited(initial, initial);
        assert_eq!(window.bytes(), initial, "it is slow");
        consume(&mut window, 1000, 10, 2);
        consume(&mut window, 2000, 300, 3);
        window.handle_limited(initial, initial);
        assert_eq!(window.bytes(), 2 * initial);
        window.handle_limited(2 * initial, 2 * initial);
        assert_eq!(window.bytes(), 2 * initial, "what it did before it grew counts no more");
    }

    #[test]
    fn it_is_never_larger_than_it_may_be() {
        for (window_kib, expected) in [(64, [64, 64, 64]), (700, [256, 512, 700])] {
            let window_bytes = window_kib * KIB;
            let limits = DeliveryLimits { window_bytes, ..DeliveryLimits::default() };
            let mut window = ReceiveWindow::new(&limits);
            window.begin(true);
            let sizes = [1, 2, 3].map(|trip| {
                let bytes = window.bytes();
                window.handle_handed_out(trip << 30, trip << 30);
                bytes / KIB
            });
            assert_eq!(sizes, expected);
            assert_eq!(window.bytes(), window_bytes);
        }
    }

    #[test]
    fn what_stood_in_a_queue_before_it_grew_says_nothing_of_now() {
        let mut window = ReceiveWindow::new(&DeliveryLimits::default());
        window.begin(true);
        let initial = window.bytes();
        window.handle_taken(at(0), StreamOffset(1));
        window.handle_handed_out(initial, initial);
        window.handle_consumed(at(10), StreamOffset(1), false);
        window.handle_limited(2 * initial, 2 * initial);
        assert_eq!(window.bytes(), 2 * initial);
    }

    #[test]
    fn a_source_that_does_not_say_what_limits_it_has_all_of_it() {
        let limits = DeliveryLimits::default();
        let mut window = ReceiveWindow::new(&limits);
        window.begin(false);
        assert_eq!(window.bytes(), limits.window_bytes);
    }
}
