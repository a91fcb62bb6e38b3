//! How long an exchange of the control class takes.
//!
//! Opening a stream is the one that an application can cause: A stores it, says so to B on the
//! control lane, B stores it and confirms it there, and A answers. So the figure holds two small
//! synced writes beside the round trip; they are in the idle and in the loaded one alike.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::sleep;

use super::pair::Pair;

/// Pause between two exchanges: one at a time, and far less than the lane carries.
const PAUSE: Duration = Duration::from_millis(5);

/// Exchanges before the first that counts.
const WARM_UP: usize = 5;

/// Latency of each exchange, in microseconds, ascending.
#[derive(Clone, Debug)]
pub(crate) struct ControlLatency {
    sorted_us: Vec<f64>,
}

impl ControlLatency {
    /// Opens streams, one after the other, for `window`. `prefix` is of their names, which must be
    /// new.
    pub(crate) async fn measure(pair: &Pair, prefix: &str, window: Duration) -> Result<Self> {
        let mut sorted_us = Vec::new();
        let mut deadline = Instant::now() + window;
        for n in 0.. {
            if n == WARM_UP {
                sorted_us.clear();
                deadline = Instant::now() + window;
            }
            let began = Instant::now();
            if n > WARM_UP && began >= deadline {
                break;
            }
            // One that B does not confirm in time counts with the time that the node waited.
            let handle = pair.open_stream(&format!("{prefix}-{n}"), false).await?;
            sorted_us.push(began.elapsed().as_secs_f64() * 1e6);
            pair.close_stream(handle).await?;
            sleep(PAUSE).await;
        }
        if sorted_us.is_empty() {
            bail!("no exchange within {} s", window.as_secs_f64());
        }
        sorted_us.sort_by(f64::total_cmp);
        Ok(Self { sorted_us })
    }

    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        quantile(&self.sorted_us, share).unwrap_or_default()
    }

    pub(crate) const fn exchanges(&self) -> usize {
        self.sorted_us.len()
    }
}

/// The smallest of `sorted` that at least `share` of them do not exceed (nearest rank); none of
/// nothing.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        for (values, share, expected) in [
            (&hundred[..], 0.99, Some(99.0)),
            (&hundred[..], 0.5, Some(50.0)),
            (&hundred[..20], 0.99, Some(20.0)),
            (&hundred[..1], 0.5, Some(1.0)),
            (&[], 0.5, None),
        ] {
            assert_eq!(quantile(values, share), expected, "{share} of {}", values.len());
        }
    }
}
