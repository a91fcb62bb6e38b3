//! Answers that may still come to what is asked no more.

use std::collections::VecDeque;

use hawser_wire::NodeId;

/// Answers that are waited for at most; of more the oldest is forgotten.
const ANSWERS_MAX: usize = 256;

/// What a question was to be answered with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// The member lives.
    Ack,
    /// The relay has heard nothing of it so far.
    Nack,
}

/// Answers that had not come when their question was over: another answer came first, or none came
/// in time. Each may come once; it means nothing any more, and nobody is at fault.
#[derive(Clone, Debug, Default)]
pub(crate) struct LateAnswers(VecDeque<(u32, NodeId, Answer)>);

impl LateAnswers {
    /// The question with this `sequence` is over, and `from` may still answer it.
    pub(crate) fn expect(&mut self, sequence: u32, from: NodeId, answer: Answer) {
        if self.0.len() >= ANSWERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((sequence, from, answer));
    }

    /// An answer came: true, once, if it is a late one.
    pub(crate) fn take(&mut self, sequence: u32, from: NodeId, answer: Answer) -> bool {
        let late = self.0.iter().position(|late| *late == (sequence, from, answer));
        late.is_some_and(|at| self.0.remove(at).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_the_oldest_are_forgotten() {
        let node = NodeId::from_bytes([1; 16]);
        let mut late = LateAnswers::default();
        for sequence in 0..300 {
            late.expect(sequence, node, Answer::Ack);
        }
        assert!(!late.take(43, node, Answer::Ack), "forgotten");
        assert!(!late.take(44, node, Answer::Nack), "another answer");
        assert!(!late.take(44, NodeId::from_bytes([2; 16]), Answer::Ack), "of another");
        assert!(late.take(44, node, Answer::Ack));
        assert!(!late.take(44, node, Answer::Ack), "twice");
    }
}
