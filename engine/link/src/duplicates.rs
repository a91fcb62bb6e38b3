use hawser_wire::{LINK_SEQUENCE_WINDOW, LinkSequence};

const WORD_BITS: u64 = 64;

/// Most that the first one may be. Who counts from one on never gets there, and a window that began near
/// the end of numbers would take all that follows for duplicates.
const FIRST_MAX: u64 = u64::MAX >> 1;

/// Which link sequences have arrived, over the newest [`LINK_SEQUENCE_WINDOW`]: a frame that was sent
/// over two lanes is taken once (as the anti-replay window of RFC 4303 §3.4.3).
///
/// The sender keeps what is in flight within the window, so that whatever stands behind it arrived or
/// will not come.
#[derive(Debug, Default)]
pub(crate) struct DuplicateWindow {
    /// A bit per sequence, in a ring; empty until the first arrives.
    words: Vec<u64>,
    highest: u64,
}

/// What a link sequence is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arrival {
    Fresh,
    Duplicate,
    /// Further ahead than anything that can be in flight; not taken.
    Jump {
        highest: LinkSequence,
    },
}

impl DuplicateWindow {
    /// What a sequence is; nothing is taken.
    pub(crate) fn check(&self, sequence: LinkSequence) -> Arrival {
        let sequence = sequence.0;
        if self.words.is_empty() {
            return if sequence > FIRST_MAX {
                Arrival::Jump { highest: LinkSequence::default() }
            } else {
                Arrival::Fresh
            };
        }
        if let Some(ahead) = sequence.checked_sub(self.highest).filter(|&ahead| ahead > 0) {
            return if ahead > LINK_SEQUENCE_WINDOW {
                Arrival::Jump { highest: LinkSequence(self.highest) }
            } else {
                Arrival::Fresh
            };
        }
        let is_old = self.highest.saturating_sub(sequence) >= LINK_SEQUENCE_WINDOW;
        let word = self.words.get(word_of(sequence)).copied().unwrap_or(u64::MAX);
        let seen = word & (1_u64 << (sequence & 63)) != 0;
        if is_old || seen { Arrival::Duplicate } else { Arrival::Fresh }
    }

    /// The highest that has arrived, if any has.
    #[cfg(test)]
    pub(crate) fn highest(&self) -> Option<u64> {
        (!self.words.is_empty()).then_some(self.highest)
    }

    /// Takes a sequence.
    pub(crate) fn insert(&mut self, sequence: LinkSequence) -> Arrival {
        let sequence = sequence.0;
        if self.words.is_empty() {
            if sequence > FIRST_MAX {
                return Arrival::Jump { highest: LinkSequence::default() };
            }
            let words = LINK_SEQUENCE_WINDOW.checked_div(WORD_BITS).unwrap_or(1);
            self.words = vec![0; usize::try_from(words).unwrap_or(1)];
            self.highest = sequence;
        } else if sequence > self.highest {
            if sequence.saturating_sub(self.highest) > LINK_SEQUENCE_WINDOW {
                return Arrival::Jump { highest: LinkSequence(self.highest) };
            }
            self.advance(sequence);
        } else if self.highest.saturating_sub(sequence) >= LINK_SEQUENCE_WINDOW {
            return Arrival::Duplicate;
        }
        let Some(word) = self.words.get_mut(word_of(sequence)) else { return Arrival::Duplicate };
        let bit = 1_u64 << (sequence & 63);
        let seen = *word & bit != 0;
        *word |= bit;
        if seen { Arrival::Duplicate } else { Arrival::Fresh }
    }

    /// Makes `sequence` the highest, which it was not; the bits that come into the window are cleared. What
    /// lies between the first word and the last is cleared at once: a peer may skip nearly all of them with
    /// each frame.
    fn advance(&mut self, sequence: u64) {
        let next = self.highest.saturating_add(1);
        let from_next = u64::MAX << (next & 63);
        let to_sequence = u64::MAX >> (63_u64.saturating_sub(sequence & 63));
        let words = (sequence >> 6).saturating_sub(next >> 6);
        if words == 0 {
            self.clear(next, from_next & to_sequence);
        } else {
            self.clear(next, from_next);
            self.clear(sequence, to_sequence);
            self.clear_words(word_of(next), words.saturating_sub(1));
        }
        self.highest = sequence;
    }

    /// Clears bits of the word of a sequence.
    fn clear(&mut self, sequence: u64, mask: u64) {
        if let Some(word) = self.words.get_mut(word_of(sequence)) {
            *word &= !mask;
        }
    }

    /// Clears so many words behind the one that stands `at` a place of the ring.
    fn clear_words(&mut self, at: usize, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let behind = self.words.get_mut(at.saturating_add(1)..).unwrap_or_default();
        let to_end = count.min(behind.len());
        behind.iter_mut().take(to_end).for_each(|word| *word = 0);
        let rest = count.saturating_sub(to_end);
        self.words.iter_mut().take(rest).for_each(|word| *word = 0);
    }
}

/// Where the bit of a sequence stands.
fn word_of(sequence: u64) -> usize {
    let word = sequence.checked_rem(LINK_SEQUENCE_WINDOW).unwrap_or(0) >> 6;
    usize::try_from(word).unwrap_or(0)
}

const _: () = assert!(LINK_SEQUENCE_WINDOW.is_power_of_two() && LINK_SEQUENCE_WINDOW >= WORD_BITS);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(window: &mut DuplicateWindow, sequence: u64, expected: Arrival) {
        assert_eq!(window.check(LinkSequence(sequence)), expected, "{sequence}");
        assert_eq!(window.insert(LinkSequence(sequence)), expected, "{sequence}");
    }

    #[test]
    fn each_sequence_is_fresh_once() {
        let mut window = DuplicateWindow::default();
        for sequence in [500, 501, 499, 1, 564, 563] {
            check(&mut window, sequence, Arrival::Fresh);
            check(&mut window, sequence, Arrival::Duplicate);
        }
    }

    #[test]
    fn bounds_of_the_window() {
        const W: u64 = LINK_SEQUENCE_WINDOW;
        let mut window = DuplicateWindow::default();
        check(&mut window, 10, Arrival::Fresh);
        check(&mut window, 10 + W + 1, Arrival::Jump { highest: LinkSequence(10) });
        check(&mut window, 10 + W, Arrival::Fresh);
        check(&mut window, 10, Arrival::Duplicate);
        check(&mut window, 11, Arrival::Fresh);
        check(&mut window, u64::MAX, Arrival::Jump { highest: LinkSequence(10 + W) });
    }

    #[test]
    fn whatever_is_skipped_is_fresh() {
        const W: u64 = LINK_SEQUENCE_WINDOW;
        for (from, step) in
            (0..70).step_by(13).flat_map(|from| [(from, W), (from, W - from), (from, W / 2 + from)])
        {
            let mut window = DuplicateWindow::default();
            let mut highest = from + 1;
            check(&mut window, highest, Arrival::Fresh);
            for _ in 0..4 {
                highest += step;
                check(&mut window, highest, Arrival::Fresh);
                check(&mut window, highest, Arrival::Duplicate);
                let skipped = highest - (step - 1).min(W - 1)..highest;
                let is_fresh = |n: u64| window.check(LinkSequence(n)) == Arrival::Fresh;
                assert!(skipped.clone().all(is_fresh), "from {from} by {step}");
                let filled = skipped.filter(|_| step < W);
                filled.for_each(|n| assert_eq!(window.insert(LinkSequence(n)), Arrival::Fresh));
            }
        }
    }

    #[test]
    fn numbers_end_and_nothing_waits_there() {
        for first in [FIRST_MAX + 1, u64::MAX - 200, u64::MAX] {
            let mut window = DuplicateWindow::default();
            check(&mut window, first, Arrival::Jump { highest: LinkSequence(0) });
            check(&mut window, 1, Arrival::Fresh);
        }
        let mut window = DuplicateWindow::default();
        check(&mut window, FIRST_MAX, Arrival::Fresh);
        for before in [0, 1, 63, 64, 200] {
            window.highest = u64::MAX - before - 1;
            check(&mut window, u64::MAX, Arrival::Fresh);
            check(&mut window, u64::MAX, Arrival::Duplicate);
        }
    }

    #[test]
    fn it_agrees_with_a_set_under_any_order_within_the_window() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut window, mut set, mut highest) =
            (DuplicateWindow::default(), BTreeSet::new(), 1000);
        check(&mut window, highest, Arrival::Fresh);
        set.insert(highest);
        for _ in 0..200_000 {
            let step = if random(100) == 0 { 5000 } else { 50 };
            let sequence = (highest + random(step)).saturating_sub(random(2 * step)).max(1);
            let fresh = set.insert(sequence);
            highest = highest.max(sequence);
            let expected = if fresh { Arrival::Fresh } else { Arrival::Duplicate };
            check(&mut window, sequence, expected);
        }
        assert!(highest > 2 * LINK_SEQUENCE_WINDOW, "the ring went round");
    }
}
