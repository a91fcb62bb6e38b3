//! A drill: a link of this node is cut for a while, and what becomes of traffic to its far end is
//! measured. Pure.
//!
//! Probes are datagrams on the routed path, which the far end sends back. They go on from before the cut
//! until after the link's return. Whatever becomes of who asked, the link is restored at the deadline.

use std::time::Duration;

use hawser_wire::{MonoTime, NodeId};

/// One probe in so long: how fine the measurement is.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(5);
/// The link is cut after so many answers.
const ANSWERS_BEFORE: usize = 50;
/// And not at all if there are not as many after so long.
const PATIENCE_BEFORE: Duration = Duration::from_secs(5);
/// The link is given so long to come back.
const PATIENCE_AFTER: Duration = Duration::from_secs(30);
/// Probes go on for so long when it has.
const SETTLE: Duration = Duration::from_millis(500);
/// The last answers are awaited for so long.
const DRAIN: Duration = Duration::from_secs(5);

/// What a drill has measured, by probes, one every 5 ms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DrillMeasured {
    /// The longest time without an answer from the cut until the link was restored.
    pub pause: Duration,
    /// The same from then on.
    pub pause_at_return: Duration,
    /// From the end of the cut until the link was up; `None` if that took more than 30 s.
    pub back_after: Option<Duration>,
    /// Probes that were sent.
    pub probes: usize,
    /// Those without an answer, and those that were not sent as too many messages waited for room.
    pub lost: usize,
    /// Answers beyond the first to a probe.
    pub duplicated: usize,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Send this probe to the far end.
    Probe(u64),
    /// Cut the link.
    Cut,
    /// Restore it.
    Restore,
    /// It is over, and nothing was cut: the far end does not answer.
    NoAnswer,
    /// It is over.
    Done(DrillMeasured),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Before { until: MonoTime },
    Cut { until: MonoTime },
    Returning { until: MonoTime },
    Settling { until: MonoTime },
    Draining { until: MonoTime },
}

/// One drill, from its first probe to its report.
///
/// **Invariant:** [`Step::Cut`] is given once and is followed by [`Step::Restore`], at most `cut_for`
/// later if the driver comes when [`Self::poll_timeout`] says.
#[derive(Debug)]
pub(crate) struct Drill {
    number: u64,
    peer: NodeId,
    cut_for: Duration,
    phase: Phase,
    next_probe: MonoTime,
    /// How often each probe was answered.
    answers: Vec<u32>,
    answered: usize,
    last_answer: MonoTime,
    restored_at: Option<MonoTime>,
    measured: DrillMeasured,
}

impl Drill {
    /// Begins the drill with this number.
    pub(crate) fn new(now: MonoTime, number: u64, peer: NodeId, cut_for: Duration) -> Self {
        let measured = DrillMeasured {
            pause: Duration::ZERO,
            pause_at_return: Duration::ZERO,
            back_after: None,
            probes: 0,
            lost: 0,
            duplicated: 0,
        };
        Self {
            number,
            peer,
            cut_for,
            phase: Phase::Before { until: now.saturating_add(PATIENCE_BEFORE) },
            next_probe: now,
            answers: Vec::new(),
            answered: 0,
            last_answer: now,
            restored_at: None,
            measured,
        }
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// The far end of the link.
    pub(crate) const fn peer(&self) -> NodeId {
        self.peer
    }

    /// When [`Self::poll_step`] has something next.
    pub(crate) fn poll_timeout(&self) -> MonoTime {
        match self.phase {
            Phase::Draining { until } => until,
            Phase::Before { until }
            | Phase::Cut { until }
            | Phase::Returning { until }
            | Phase::Settling { until } => until.min(self.next_probe),
        }
    }

    /// What to do now; `None` until [`Self::poll_timeout`].
    pub(crate) fn poll_step(&mut self, now: MonoTime) -> Option<Step> {
        match self.phase {
            Phase::Before { .. } if self.answered >= ANSWERS_BEFORE => {
                self.phase = Phase::Cut { until: now.saturating_add(self.cut_for) };
                self.last_answer = now;
                return Some(Step::Cut);
            }
            Phase::Before { until } if until <= now => return Some(Step::NoAnswer),
            Phase::Cut { until } if until <= now => {
                self.measured.pause = self.measured.pause.max(self.since_answer(now));
                self.last_answer = now;
                self.restored_at = Some(now);
                self.phase = Phase::Returning { until: now.saturating_add(PATIENCE_AFTER) };
                return Some(Step::Restore);
            }
            Phase::Returning { until } | Phase::Settling { until } if until <= now => {
                let gap = self.since_answer(now);
                self.measured.pause_at_return = self.measured.pause_at_return.max(gap);
                self.phase = Phase::Draining { until: now.saturating_add(DRAIN) };
            }
            Phase::Draining { until } if until <= now || self.is_answered() => {
                self.measured.probes = self.answers.len();
                self.measured.lost = self.answers.len().saturating_sub(self.answered);
                return Some(Step::Done(self.measured));
            }
            _ => {}
        }
        let is_sending = !matches!(self.phase, Phase::Draining { .. });
        if !is_sending || self.next_probe > now {
            return None;
        }
        self.next_probe = now.saturating_add(PROBE_EVERY);
        self.answers.push(0);
        u64::try_from(self.answers.len()).ok().map(Step::Probe)
    }

    fn is_answered(&self) -> bool {
        self.answered == self.answers.len()
    }

    fn since_answer(&self, now: MonoTime) -> Duration {
        now.saturating_since(self.last_answer)
    }

    /// The far end has sent probe `number` of drill `drill` back.
    pub(crate) fn handle_answer(&mut self, now: MonoTime, from: NodeId, drill: u64, number: u64) {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let ours = (from, drill) == (self.peer, self.number);
        let Some(count) = at.filter(|_| ours).and_then(|at| self.answers.get_mut(at)) else {
            return;
        };
        *count = count.saturating_add(1);
        if *count > 1 {
            self.measured.duplicated = self.measured.duplicated.saturating_add(1);
            return;
        }
        self.answered = self.answered.saturating_add(1);
        let gap = self.since_answer(now);
        let longest = match self.phase {
            Phase::Before { .. } => None,
            Phase::Cut { .. } => Some(&mut self.measured.pause),
            _ => Some(&mut self.measured.pause_at_return),
        };
        if let Some(longest) = longest {
            *longest = gap.max(*longest);
        }
        self.last_answer = now;
    }

    /// A lane of the link to `peer` is up.
    pub(crate) fn handle_link_up(&mut self, now: MonoTime, peer: NodeId) {
        if let (Phase::Returning { .. }, Some(restored_at)) = (self.phase, self.restored_at)
            && peer == self.peer
        {
            self.measured.back_after = Some(now.saturating_since(restored_at));
            self.phase = Phase::Settling { until: now.saturating_add(SETTLE) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId::from_bytes([2; 16]);
    const CUT: Duration = Duration::from_secs(1);

    /// Runs a drill with a millisecond between looks. `answers` says when the answer to a probe that is
    /// sent at a time since the cut (ms; `None` before it) comes, after how many ms each.
    fn run(
        back_after_ms: u64,
        mut answers: impl FnMut(Option<u64>) -> Vec<u64>,
    ) -> (Vec<Step>, u64) {
        let at = |ms: u64| MonoTime::ZERO.saturating_add(Duration::from_millis(ms));
        let mut drill = Drill::new(at(0), 7, PEER, CUT);
        let (mut steps, mut coming) = (Vec::new(), Vec::<(u64, u64)>::new());
        let (mut cut_at, mut restored) = (None, None);
        for now in 0..100_000 {
            if restored == Some(now - back_after_ms.min(now)) {
                drill.handle_link_up(at(now), PEER);
            }
            for (_, number) in coming.extract_if(.., |(due, _)| *due <= now) {
                drill.handle_answer(at(now), PEER, 7, number);
            }
            while let Some(step) = drill.poll_step(at(now)) {
                match step {
                    Step::Probe(number) => {
                        let after = answers(cut_at.map(|cut| now - cut));
                        coming.extend(after.into_iter().map(|after| (now + after, number)));
                        continue;
                    }
                    Step::Cut => cut_at = Some(now),
                    Step::Restore => restored = Some(now),
                    Step::Done(_) | Step::NoAnswer => {
                        steps.push(step);
                        return (steps, now);
                    }
                }
                steps.push(step);
            }
            assert!(drill.poll_timeout() > at(now), "or it would be asked again at once");
        }
        panic!("it does not end: {steps:?}");
    }

    fn measured(steps: &[Step]) -> DrillMeasured {
        match steps {
            [Step::Cut, Step::Restore, Step::Done(measured)] => *measured,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cut_that_nobody_notices_measures_the_pace_of_the_probes() {
        let (steps, _) = run(300, |_| vec![2]);
        let found = measured(&steps);
        assert_eq!((found.pause, found.pause_at_return), (PROBE_EVERY, PROBE_EVERY));
        assert_eq!((found.lost, found.duplicated), (0, 0));
        assert_eq!(found.back_after, Some(Duration::from_millis(300)));
        // 50 answers, the cut, the return, and what follows.
        assert!((405..=412).contains(&found.probes), "{found:?}");
    }

    #[test]
    fn what_is_late_is_a_pause_what_never_comes_is_lost_what_comes_twice_is_counted() {
        let (steps, _) = run(10, |since_cut| match since_cut {
            Some(0..40) => vec![40],
            Some(100..140) => vec![],
            Some(200..210) => vec![1, 3],
            Some(1_005..1_050) => vec![],
            _ => vec![1],
        });
        let found = measured(&steps);
        // The answers of the first 40 ms come from 40 ms on, behind one of the cut's moment.
        assert!((40..=46).contains(&found.pause.as_millis()), "{found:?}");
        assert!((45..=56).contains(&found.pause_at_return.as_millis()), "{found:?}");
        assert_eq!((found.lost, found.duplicated), (8 + 9, 2));
    }

    #[test]
    fn a_cut_without_another_way_is_a_pause_of_its_whole_length_and_ends() {
        let (steps, _) =
            run(u64::MAX, |since_cut| if since_cut.is_none() { vec![1] } else { vec![] });
        let found = measured(&steps);
        assert_eq!((found.pause, found.back_after), (CUT, None));
        assert_eq!(found.pause_at_return, PATIENCE_AFTER, "nor is anything answered after it");
        assert!(found.lost > 5_000, "{found:?}");
    }

    #[test]
    fn a_pause_over_the_end_of_the_cut_counts_on_each_side_for_its_part() {
        let (steps, _) = run(200, |since_cut| match since_cut {
            Some(400..1_200) => vec![],
            _ => vec![1],
        });
        let found = measured(&steps);
        assert!((600..=606).contains(&found.pause.as_millis()), "{found:?}");
        assert!((200..=206).contains(&found.pause_at_return.as_millis()), "{found:?}");
    }

    #[test]
    fn nothing_is_cut_without_answers() {
        let (steps, ended_ms) = run(1, |_| vec![]);
        assert_eq!((steps, ended_ms), (vec![Step::NoAnswer], 5_000));
    }

    #[test]
    fn answers_of_others_and_of_other_drills_are_none() {
        let mut drill = Drill::new(MonoTime::ZERO, 7, PEER, CUT);
        assert_eq!(drill.poll_step(MonoTime::ZERO), Some(Step::Probe(1)));
        for (from, number, probe) in [
            (NodeId::default(), 7, 1),
            (PEER, 8, 1),
            (PEER, 7, 0),
            (PEER, 7, 2),
            (PEER, 7, u64::MAX),
        ] {
            drill.handle_answer(MonoTime::ZERO, from, number, probe);
            assert_eq!(drill.answered, 0, "{from} {number} {probe}");
        }
        drill.handle_answer(MonoTime::ZERO, PEER, 7, 1);
        assert_eq!(drill.answered, 1);
    }
}
