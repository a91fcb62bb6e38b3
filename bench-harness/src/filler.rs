//! What a publisher writes: stamped messages of one size, and when each is due.

use crate::stamp::{STAMP_BYTES, Stamp};

/// Makes messages, one behind the other, each between a constant prefix and suffix (the framing of
/// a protocol that has one).
///
/// The messages stay where they are from batch to batch; only their stamps change.
#[derive(Debug)]
pub(crate) struct Filler {
    /// As many whole entries as the largest batch holds.
    entries: Vec<u8>,
    entry_bytes: usize,
    stamp_offset: usize,
    next_seq: u64,
}

impl Filler {
    /// Batches hold at most `batch_max` messages.
    pub(crate) fn new(
        prefix: &[u8],
        payload_bytes: usize,
        suffix: &[u8],
        batch_max: usize,
    ) -> Self {
        let mut entry = prefix.to_vec();
        entry.extend((0..payload_bytes).map(|n| (n % 251) as u8));
        entry.extend_from_slice(suffix);
        Self {
            entries: entry.repeat(batch_max),
            entry_bytes: entry.len(),
            stamp_offset: prefix.len(),
            next_seq: 1,
        }
    }

    /// Sequence of the message that comes next.
    pub(crate) const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The next `messages` messages (or the largest batch, if that is less) on the wire; `at_ns`
    /// says what time a sequence is stamped with.
    pub(crate) fn fill(&mut self, messages: usize, at_ns: impl Fn(u64) -> u64) -> &[u8] {
        let length = (messages * self.entry_bytes).min(self.entries.len());
        let batch = self.entries.get_mut(..length).unwrap_or_default();
        for entry in batch.chunks_exact_mut(self.entry_bytes) {
            let seq = self.next_seq;
            if let Some(place) = entry.get_mut(self.stamp_offset..self.stamp_offset + STAMP_BYTES) {
                place.copy_from_slice(&Stamp { seq, at_ns: at_ns(seq) }.encode());
            }
            self.next_seq += 1;
        }
        batch
    }
}

/// An open-loop timetable: message n is due at start + (n - 1) / rate, whatever became of the ones
/// before it. Latency is taken from that moment, so that a stall is not hidden by the pause that
/// it causes (coordinated omission).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timetable {
    start_ns: u64,
    per_s: f64,
}

impl Timetable {
    pub(crate) const fn new(start_ns: u64, per_s: f64) -> Self {
        Self { start_ns, per_s }
    }

    /// When message `seq` (from 1) is due.
    pub(crate) fn due_ns(&self, seq: u64) -> u64 {
        self.start_ns + (seq.saturating_sub(1) as f64 * 1e9 / self.per_s) as u64
    }

    /// How many messages from `next_seq` on are due at `now_ns`.
    pub(crate) fn due(&self, next_seq: u64, now_ns: u64) -> u64 {
        let elapsed_ns = now_ns.saturating_sub(self.start_ns);
        let mut through = (elapsed_ns as f64 * self.per_s / 1e9) as u64 + 1;
        // The product may have been rounded either way; the timetable decides.
        if now_ns < self.due_ns(through) {
            through -= 1;
        } else if now_ns >= self.due_ns(through + 1) {
            through += 1;
        }
        through.saturating_sub(next_seq - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_sequence_and_their_own_time() {
        let mut filler = Filler::new(b"PUB b 20\r\n", 20, b"\r\n", 3);
        let mut out = filler.fill(2, |seq| seq * 100).to_vec();
        out.extend_from_slice(filler.fill(9, |seq| seq * 100));
        assert_eq!(out.len(), 5 * 32, "no more than a batch");
        assert_eq!(filler.next_seq(), 6);
        for (n, entry) in (1..).zip(out.chunks_exact(32)) {
            assert!(entry.starts_with(b"PUB b 20\r\n") && entry.ends_with(b"\r\n"));
            assert_eq!(Stamp::decode(&entry[10..30]), Some(Stamp { seq: n, at_ns: n * 100 }));
        }
    }

    #[test]
    fn the_timetable_neither_skips_nor_waits_for_a_late_message() {
        let timetable = Timetable::new(1_000, 1_000_000.0);
        assert_eq!(timetable.due(1, 1_000), 1);
        assert_eq!(timetable.due(2, 1_999), 0);
        assert_eq!(timetable.due(2, 2_000), 1);
        assert_eq!(timetable.due(2, 1_000 + 50_000), 50, "a stall's backlog is due at once");
        assert_eq!(timetable.due_ns(51), 51_000);
        for per_s in [3.0, 7_777.0, 123_456.7] {
            let timetable = Timetable::new(5, per_s);
            for seq in 1..10_000 {
                assert!(timetable.due(seq, timetable.due_ns(seq)) >= 1, "{per_s}/s, {seq}");
            }
        }
    }
}
