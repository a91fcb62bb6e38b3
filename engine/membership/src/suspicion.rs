//! How long a suspect has to contradict (Lifeguard §IV-B).

use std::time::Duration;

use hawser_wire::MonoTime;

use crate::claim::Suspecters;
use crate::{Config, SUSPECTERS_MAX};

/// One member is suspected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspicion {
    pub(crate) started: MonoTime,
    pub(crate) by: Suspecters,
    /// Without a contradiction by then it is dead.
    pub(crate) deadline: MonoTime,
    /// Others were asked once more, shortly before.
    pub(crate) asked: bool,
    /// The timer that runs.
    pub(crate) timer: MonoTime,
}

impl Suspicion {
    pub(crate) const fn new(now: MonoTime) -> Self {
        let by = Suspecters::empty();
        Self { started: now, by, deadline: now, asked: false, timer: now }
    }

    /// Sets the deadline for what is known now, and the timer.
    pub(crate) fn set(&mut self, now: MonoTime, lasts: Duration, config: &Config) {
        self.deadline = self.started.saturating_add(lasts);
        let before = lasts.saturating_sub(config.ack_timeout);
        let ask = self.started.saturating_add(before).max(now);
        self.timer = if self.asked { self.deadline } else { ask.min(self.deadline) };
    }
}

/// ln(c + 1) / ln(k + 1) in thousandths, for k confirmations that are wanted and c that there are.
const SHARES: [[u32; SUSPECTERS_MAX]; SUSPECTERS_MAX] =
    [[1000, 1000, 1000, 1000], [0, 1000, 1000, 1000], [0, 631, 1000, 1000], [0, 500, 792, 1000]];

/// How long a suspicion lasts that `suspecters` have, in a mesh of `members`, this node and the
/// suspect included: long while one alone suspects, short once others have confirmed it.
pub(crate) fn timeout(config: &Config, members: usize, suspecters: usize) -> Duration {
    let log = log10_thousandths(members).max(1000);
    let thousandths = log.saturating_mul(config.suspicion_min);
    let min = config.probe_interval.saturating_mul(thousandths).checked_div(1000);
    let min = min.unwrap_or(config.probe_interval);
    let max = min.saturating_mul(config.suspicion_max.max(1));
    // Neither the suspect nor the first suspecter can confirm.
    let wanted = members.saturating_sub(2).min(const { SUSPECTERS_MAX.saturating_sub(1) });
    let share = SHARES.get(wanted).and_then(|row| row.get(suspecters.saturating_sub(1)));
    let shorter = max.saturating_sub(min).saturating_mul(share.copied().unwrap_or(1000));
    max.saturating_sub(shorter.checked_div(1000).unwrap_or_default())
}

/// log10, with straight lines between the powers of two; at most 3 % too low.
fn log10_thousandths(n: usize) -> u32 {
    let n = u64::try_from(n).unwrap_or(u64::MAX).max(1);
    let whole = n.ilog2();
    let above = n.saturating_mul(1000).checked_shr(whole).unwrap_or(1000).saturating_sub(1000);
    let log2 = whole.saturating_mul(1000).saturating_add(u32::try_from(above).unwrap_or(0));
    log2.saturating_mul(301).checked_div(1000).unwrap_or(0)
}

/// How often a piece of news is sent, with `members` to hear it. With a factor of 3 and n members a
/// member fails to hear it with a probability of about n⁻³ (SWIM §4.1), times more under loss.
pub(crate) fn transmissions(config: &Config, members: usize) -> u32 {
    // ln n = log10 n · 2.303
    let log = log10_thousandths(members.saturating_add(1)).saturating_mul(2303);
    config.retransmit_factor.saturating_mul(log.div_ceil(1_000_000).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(members: usize, suspecters: usize, expected_ms: u128) {
        let config = Config { suspicion_min: 2, ..Config::every(Duration::from_millis(100)) };
        let found = timeout(&config, members, suspecters).as_millis();
        assert_eq!(found, expected_ms, "{suspecters} of {members}");
    }

    #[test]
    fn confirmations_shorten_a_suspicion() {
        check(1024, 1, 3612);
        check(1024, 2, 2107);
        check(1024, 3, 1228);
        check(1024, 4, 602);
    }

    #[test]
    fn a_small_mesh_waits_for_as_many_as_it_has() {
        check(2, 1, 200);
        check(3, 1, 1200);
        check(3, 2, 200);
        check(4, 2, 569);
        check(4, 3, 200);
        check(5, 4, 200);
    }

    #[test]
    fn logarithms_are_close() {
        for (n, expected) in [(0, 0), (1, 0), (2, 301), (10, 978), (1024, 3010), (1000, 2998)] {
            let found = log10_thousandths(n);
            assert!(found.abs_diff(expected) <= 15, "log10 {n}: {found}");
        }
    }

    #[test]
    fn news_is_sent_more_often_in_a_larger_mesh() {
        let config = Config::default();
        for (members, expected) in
            [(1, 3), (2, 6), (8, 9), (60, 15), (300, 18), (1000, 21), (5000, 27)]
        {
            assert_eq!(transmissions(&config, members), expected, "{members}");
        }
    }
}
