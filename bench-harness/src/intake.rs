//! What a subscriber does with each message: count it, time it, open and close the window.

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::stamp::Stamp;
use crate::tally::Tally;

/// Longest latency that is told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// What a subscriber saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Messages within the window.
    pub(crate) window_messages: u64,
    /// Length of the window, in seconds.
    pub(crate) window_s: f64,
    /// Latency of the messages within the window, in microseconds.
    pub(crate) latency: Quantiles,
    /// Different messages from start to end, warm-up included.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
}

impl Received {
    pub(crate) fn messages_per_s(&self) -> f64 {
        self.window_messages as f64 / self.window_s
    }
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Quantiles {
    /// Of a histogram in nanoseconds.
    pub(crate) fn of_ns(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        Self {
            p50_us: us(histogram.value_at_quantile(0.5)),
            p99_us: us(histogram.value_at_quantile(0.99)),
            p999_us: us(histogram.value_at_quantile(0.999)),
            max_us: us(histogram.max()),
        }
    }
}

/// A histogram of nanoseconds.
pub(crate) fn histogram_ns() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(100, LATENCY_NS_MAX, 3).context("histogram")
}

/// The window passed one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Opened,
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum Window {
    /// Before the first message.
    Ahead,
    WarmUp {
        until_ns: u64,
    },
    Open {
        since_ns: u64,
    },
    Closed {
        messages: u64,
        length_ns: u64,
    },
}

/// Account of one subscription.
#[derive(Debug)]
pub(crate) struct Intake {
    payload_bytes: usize,
    warmup_ns: u64,
    length_ns: u64,
    window: Window,
    tally: Tally,
    /// Messages since the window opened.
    window_messages: u64,
    latency: Histogram<u64>,
    /// Messages of one batch share their stamp: they are recorded together.
    run: (Stamp, u64),
}

impl Intake {
    /// An account of messages of `payload_bytes`, whose window opens `warmup_s` after the first
    /// message and stays open for `window_s`.
    pub(crate) fn new(payload_bytes: usize, warmup_s: f64, window_s: f64) -> Result<Self> {
        Ok(Self {
            payload_bytes,
            warmup_ns: (warmup_s * 1e9) as u64,
            length_ns: (window_s * 1e9) as u64,
            window: Window::Ahead,
            tally: Tally::new(),
            window_messages: 0,
            latency: histogram_ns()?,
            run: (Stamp { seq: 0, at_ns: 0 }, 0),
        })
    }

    /// Takes one message of `length` bytes that arrived at `now_ns`. True for a probe, which is not
    /// counted.
    ///
    /// # Errors
    /// If the message is not as long as every message must be.
    pub(crate) fn handle_message(
        &mut self,
        length: usize,
        stamp: Stamp,
        now_ns: u64,
    ) -> Result<bool> {
        if length != self.payload_bytes {
            bail!("a message of {length} bytes, not {}", self.payload_bytes);
        }
        if stamp.seq == 0 {
            return Ok(true);
        }
        self.tally.handle_arrival(stamp.seq);
        if matches!(self.window, Window::Open { .. }) {
            self.window_messages += 1;
            if stamp.at_ns != self.run.0.at_ns {
                self.record_run(now_ns);
                self.run = (stamp, 0);
            }
            self.run.1 += 1;
        }
        Ok(false)
    }

    fn record_run(&mut self, now_ns: u64) {
        let (stamp, count) = self.run;
        if count > 0 {
            self.latency.saturating_record_n(now_ns.saturating_sub(stamp.at_ns), count);
            self.run.1 = 0;
        }
    }

    /// Call after each batch of messages that arrived at `now_ns`.
    pub(crate) fn end_batch(&mut self, now_ns: u64) -> Option<Turn> {
        self.record_run(now_ns);
        match self.window {
            Window::Ahead => {
                self.window = Window::WarmUp { until_ns: now_ns + self.warmup_ns };
                None
            }
            Window::WarmUp { until_ns } if now_ns >= until_ns => {
                self.window = Window::Open { since_ns: now_ns };
                Some(Turn::Opened)
            }
            Window::Open { since_ns } if now_ns >= since_ns + self.length_ns => {
                self.window =
                    Window::Closed { messages: self.window_messages, length_ns: now_ns - since_ns };
                Some(Turn::Closed)
            }
            _ => None,
        }
    }

    /// Different messages so far.
    pub(crate) const fn distinct(&self) -> u64 {
        self.tally.distinct()
    }

    /// The final account, when `published` messages were sent in all.
    ///
    /// # Errors
    /// If the window never closed.
    pub(crate) fn report(&self, published: u64) -> Result<Received> {
        let Window::Closed { messages, length_ns } = self.window else {
            bail!("the subscriber got {} messages and never a full window", self.distinct());
        };
        Ok(Received {
            window_messages: messages,
            window_s: length_ns as f64 / 1e9,
            latency: Quantiles::of_ns(&self.latency),
            delivered: self.tally.distinct(),
            lost: self.tally.lost(published),
            duplicated: self.tally.duplicated(),
            reordered: self.tally.reordered(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_counts_what_is_within_it_alone() {
        let second = 1_000_000_000;
        let mut intake = Intake::new(64, 1.0, 2.0).unwrap();
        let mut turns = Vec::new();
        // A message every half second, each half a millisecond old.
        for n in 1..=12_u64 {
            let now = 10 * second + n * second / 2;
            let stamp = Stamp { seq: n, at_ns: now - 500_000 };
            assert!(!intake.handle_message(64, stamp, now).unwrap());
            turns.extend(intake.end_batch(now).map(|turn| (n, turn)));
        }
        assert_eq!(turns, [(3, Turn::Opened), (7, Turn::Closed)]);
        let report = intake.report(13).unwrap();
        assert_eq!(report.window_messages, 4);
        assert!((report.window_s - 2.0).abs() < 1e-9);
        assert!((report.messages_per_s() - 2.0).abs() < 1e-9);
        assert!((report.latency.p50_us - 500.0).abs() < 1.0);
        assert_eq!((report.delivered, report.lost), (12, 1));
    }

    #[test]
    fn probes_and_wrong_lengths_are_no_messages() {
        let mut intake = Intake::new(64, 0.0, 1.0).unwrap();
        assert!(intake.handle_message(64, Stamp { seq: 0, at_ns: 5 }, 6).unwrap());
        assert!(intake.handle_message(63, Stamp { seq: 1, at_ns: 5 }, 6).is_err());
        assert_eq!(intake.distinct(), 0);
        assert!(intake.report(0).is_err());
    }
}
