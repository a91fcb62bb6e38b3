//! How long an exchange of the control class takes.
//!
//! Opening a stream is the one that an application can cause: A stores it, says so to B on the
//! control lane, B stores it and confirms it there, and A answers. So the figure holds two small
//! synced writes beside the round trip; the nodes keep their data in memory, where those take no
//! time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::pair::Opener;

/// An exchange begins so often, whether those before it are over or not: one that takes long hides
/// none of those that were due meanwhile. Few enough to be no load themselves, at 10 Mbit/s too.
const PERIOD: Duration = Duration::from_millis(20);

/// Exchanges before the first that counts.
const WARM_UP: usize = 5;

/// Latency of each exchange, in microseconds, ascending.
#[derive(Clone, Debug)]
pub(crate) struct ControlLatency {
    sorted_us: Vec<f64>,
}

impl ControlLatency {
    /// Opens a stream every [`PERIOD`] for `window`. `prefix` is of their names, which must be new.
    pub(crate) async fn measure(opener: Opener, prefix: &str, window: Duration) -> Result<Self> {
        for n in 0..WARM_UP {
            exchange(opener.clone(), format!("{prefix}-warm-up-{n}")).await?;
        }
        let mut exchanges = JoinSet::new();
        let mut pace = interval(PERIOD);
        // Behind its time this program begins no two at once: that would be load of its own.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = Instant::now() + window;
        for n in 0.. {
            pace.tick().await;
            if n > 0 && Instant::now() >= deadline {
                break;
            }
            exchanges.spawn(exchange(opener.clone(), format!("{prefix}-{n}")));
        }
        let mut sorted_us = Vec::new();
        while let Some(latency) = exchanges.join_next().await {
            sorted_us.push(latency??.as_secs_f64() * 1e6);
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

/// One exchange; how long it took. One that B does not confirm in time counts with the time that the
/// node waited.
pub(crate) async fn exchange(opener: Opener, name: String) -> Result<Duration> {
    let began = Instant::now();
    let handle = opener.open_stream(&name).await?;
    let latency = began.elapsed();
    opener.close_stream(handle).await?;
    Ok(latency)
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
