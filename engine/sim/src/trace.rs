use std::fmt;

use hawser_wire::MonoTime;

/// Events that are kept to be shown with a violation.
const RECENT_MAX: usize = 64;

/// Something that happened, in a form that costs nothing to keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceEvent {
    /// When.
    pub at: MonoTime,
    /// The node that it happened to, numbered from 0.
    pub node: u16,
    /// What.
    pub what: &'static str,
    /// Two numbers that say more; what they mean depends on `what`.
    pub numbers: [u64; 2],
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.as_nanos().checked_div(1000).unwrap_or(0);
        let (seconds, micros) =
            (micros.checked_div(1_000_000).unwrap_or(0), micros.checked_rem(1_000_000));
        let [a, b] = self.numbers;
        let (micros, node, what) = (micros.unwrap_or(0), self.node, self.what);
        write!(f, "{seconds:>6}.{micros:06} s  node {node}  {what:<18} {a} {b}")
    }
}

/// A hash over everything that happened, and the last of it.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    hash: u64,
    recent: Vec<TraceEvent>,
    /// Where the next event goes once `recent` is full: over the oldest.
    oldest: usize,
    events: u64,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        let mut trace =
            Self { hash: 0, recent: Vec::with_capacity(RECENT_MAX), oldest: 0, events: 0 };
        trace.mix(seed);
        trace
    }

    /// One step of a multiply–xorshift hash: order matters, and no bit of a word is without effect.
    const fn mix(&mut self, word: u64) {
        let mixed = (self.hash.rotate_left(23) ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
        self.hash = mixed ^ (mixed >> 32);
    }

    pub(crate) fn record(&mut self, event: TraceEvent) {
        self.mix(event.at.as_nanos());
        self.mix(u64::from(event.node));
        let (words, rest) = event.what.as_bytes().as_chunks();
        words.iter().for_each(|&word| self.mix(u64::from_be_bytes(word)));
        if !rest.is_empty() {
            self.mix(rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)));
        }
        let [a, b] = event.numbers;
        self.mix(a);
        self.mix(b);
        self.events = self.events.saturating_add(1);
        if self.recent.len() < RECENT_MAX {
            self.recent.push(event);
        } else if let Some(slot) = self.recent.get_mut(self.oldest) {
            *slot = event;
            self.oldest = self.oldest.saturating_add(1).checked_rem(RECENT_MAX).unwrap_or(0);
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    /// The last events, oldest first.
    pub(crate) fn recent(&self) -> Vec<TraceEvent> {
        let (newer, older) = self.recent.split_at_checked(self.oldest).unwrap_or((&[], &[]));
        [older, newer].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u64) -> TraceEvent {
        TraceEvent { at: MonoTime::from_nanos(n), node: 0, what: "test", numbers: [n, 0] }
    }

    #[test]
    fn the_last_events_are_kept_in_order() {
        let mut trace = Trace::new(1);
        for n in 0..200 {
            trace.record(event(n));
        }
        let kept: Vec<u64> = trace.recent().iter().map(|event| event.at.as_nanos()).collect();
        assert_eq!(kept, (136..200).collect::<Vec<u64>>());
        assert_eq!(trace.events(), 200);
    }

    #[test]
    fn every_field_and_their_order_change_the_hash() {
        let hash = |events: &[TraceEvent]| {
            let mut trace = Trace::new(1);
            events.iter().for_each(|&event| trace.record(event));
            trace.hash()
        };
        let base = hash(&[event(1), event(2)]);
        assert_eq!(base, hash(&[event(1), event(2)]));
        assert_ne!(base, hash(&[event(2), event(1)]));
        assert_ne!(base, hash(&[event(1), TraceEvent { node: 1, ..event(2) }]));
        assert_ne!(base, hash(&[event(1), TraceEvent { what: "tset", ..event(2) }]));
        assert_ne!(base, hash(&[event(1), TraceEvent { numbers: [2, 1], ..event(2) }]));
        assert_ne!(base, Trace::new(2).hash());
    }
}
