//! What the two applications know of every message, by the number that the publisher wrote into it.

use std::time::Instant;

use hdrhistogram::Histogram;

/// Bytes of the number in front of each message.
pub(super) const NUMBER_BYTES: usize = 8;

/// Longest latency that is told from longer ones: ten minutes, in microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Account of one transfer. Numbers count from 0.
#[derive(Debug)]
pub(super) struct Ledger {
    /// When each message was handed to the node.
    published: Vec<Instant>,
    /// How often each was delivered.
    delivered: Vec<u32>,
    next: usize,
    /// Deliveries that were not the one behind the last.
    pub(super) out_of_order: u64,
    /// Messages that nobody published.
    pub(super) unknown: u64,
    /// Microseconds from publication to delivery.
    latency_us: Histogram<u64>,
    /// Batches as they came: the stream's sequence of their last message, and when.
    batches: Vec<(u64, Instant)>,
}

/// Counts at the two applications.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
}

impl Ledger {
    pub(super) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            published: Vec::new(),
            delivered: Vec::new(),
            next: 0,
            out_of_order: 0,
            unknown: 0,
            latency_us: Histogram::new_with_max(LATENCY_US_MAX, 3)?,
            batches: Vec::new(),
        })
    }

    /// The next `messages` messages are handed over.
    pub(super) fn publish(&mut self, messages: usize, now: Instant) {
        self.published.resize(self.published.len() + messages, now);
    }

    /// A message came; returns it without its number, or none if it is to be ignored: unknown, or
    /// here before.
    pub(super) fn deliver<'m>(&mut self, message: &'m [u8], now: Instant) -> Option<&'m [u8]> {
        let known = message.split_first_chunk::<NUMBER_BYTES>().and_then(|(number, rest)| {
            let number = usize::try_from(u64::from_le_bytes(*number)).ok()?;
            self.published.get(number).map(|at| (number, *at, rest))
        });
        let Some((number, published_at, rest)) = known else {
            self.unknown += 1;
            return None;
        };
        if self.delivered.len() <= number {
            self.delivered.resize(number + 1, 0);
        }
        let times = self.delivered.get_mut(number)?;
        *times += 1;
        if *times > 1 {
            return None;
        }
        if number != self.next {
            self.out_of_order += 1;
        }
        self.next = number + 1;
        let micros = now.saturating_duration_since(published_at).as_micros();
        self.latency_us.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
        Some(rest)
    }

    /// A batch came whose last message has the sequence `last_seq` in the stream.
    pub(super) fn batch(&mut self, last_seq: u64, now: Instant) {
        self.batches.push((last_seq, now));
    }

    /// When the first message behind `seq` of the stream was delivered.
    pub(super) fn first_behind(&self, seq: u64) -> Option<Instant> {
        self.batches.iter().find(|(last_seq, _)| *last_seq > seq).map(|(_, at)| *at)
    }

    pub(super) fn counts(&self) -> Counts {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let distinct = count(self.delivered.iter().filter(|times| **times > 0).count());
        let all: u64 = self.delivered.iter().map(|times| u64::from(*times)).sum();
        let published = count(self.published.len());
        Counts {
            published,
            delivered: distinct,
            lost: published.saturating_sub(distinct),
            duplicated: all.saturating_sub(distinct),
        }
    }

    /// Behind the last message delivered in order.
    pub(super) fn delivered(&self) -> usize {
        self.next
    }

    /// Latency that this share of the messages (in percent) did not exceed, in microseconds.
    pub(super) fn latency_us(&self, percent: f64) -> u64 {
        self.latency_us.value_at_percentile(percent)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(number: u64) -> Vec<u8> {
        let mut message = number.to_le_bytes().to_vec();
        message.push(b'x');
        message
    }

    #[test]
    fn losses_duplicates_and_disorder_are_counted() {
        let now = Instant::now();
        let mut ledger = Ledger::new().unwrap();
        ledger.publish(5, now);
        assert_eq!(ledger.deliver(&message(0), now), Some(&b"x"[..]));
        assert_eq!(ledger.deliver(&message(2), now), Some(&b"x"[..]));
        assert_eq!(ledger.deliver(&message(2), now), None);
        assert_eq!(ledger.deliver(&message(1), now), Some(&b"x"[..]));
        assert_eq!(ledger.deliver(&message(9), now), None);
        assert_eq!(ledger.deliver(b"short", now), None);
        let counts = Counts { published: 5, delivered: 3, lost: 2, duplicated: 1 };
        assert_eq!(ledger.counts(), counts);
        assert_eq!((ledger.out_of_order, ledger.unknown), (2, 2));
    }

    #[test]
    fn latency_is_from_publication_to_delivery() {
        let now = Instant::now();
        let mut ledger = Ledger::new().unwrap();
        ledger.publish(2, now);
        ledger.deliver(&message(0), now + Duration::from_millis(1));
        ledger.deliver(&message(1), now + Duration::from_secs(2));
        assert!((999..1002).contains(&ledger.latency_us(50.0)));
        assert!((1_990_000..2_010_000).contains(&ledger.latency_us(99.0)));
    }

    #[test]
    fn the_first_delivery_behind_a_sequence_is_found() {
        let now = Instant::now();
        let later = now + Duration::from_millis(1);
        let mut ledger = Ledger::new().unwrap();
        ledger.batch(10, now);
        ledger.batch(20, later);
        assert_eq!(ledger.first_behind(9), Some(now));
        assert_eq!(ledger.first_behind(10), Some(later));
        assert_eq!(ledger.first_behind(20), None);
    }
}
