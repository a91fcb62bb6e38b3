//! What is measured of one link, and what the mesh is told of it: damped, so that routes do not
//! follow noise. Pure.
//!
//! Each metric is smoothed (an exponentially weighted mean, a quarter of it new), told anew only if it
//! has moved by more than a fifth of what was told and by more than a floor below which it is noise,
//! and not before the hold time of the last telling has ended.

use std::time::Duration;

use hawser_exchange::LinkReport;
use hawser_routing::AdjacencyMetrics;
use hawser_wire::MonoTime;

/// What was told stays for so long.
const HOLD: Duration = Duration::from_secs(10);
/// Told before the first measurement, in microseconds.
const LATENCY_UNKNOWN_US: u32 = 1_000;
/// Moves below these are noise.
const LATENCY_FLOOR_US: u32 = 50;
const BANDWIDTH_FLOOR_KBPS: u32 = 1_000;
const LOSS_FLOOR_PPM: u32 = 5_000;
/// Utilisation moves all the time and costs no path anything: only large moves are told.
const UTILIZATION_FLOOR_PERMILLE: u32 = 100;
/// Samples that are closer together say nothing about rates.
const SPAN_MIN: Duration = Duration::from_millis(100);

/// The metrics of one link.
#[derive(Debug)]
pub(crate) struct LinkMetrics {
    latency_us: Smoothed,
    bandwidth_kbps: Smoothed,
    loss_ppm: Smoothed,
    utilization_permille: Smoothed,
    /// The last report of this session.
    before: Option<(MonoTime, LinkReport)>,
    told: AdjacencyMetrics,
    /// When the told ones were told; `None` before the first measurement of this session.
    told_at: Option<MonoTime>,
}

/// `None` before the first sample.
#[derive(Clone, Copy, Debug, Default)]
struct Smoothed(Option<u32>);

impl Smoothed {
    fn add(&mut self, sample: u32) {
        self.0 = Some(self.0.map_or(sample, |old| {
            // Rounded to the nearest, so that it comes to where the samples are.
            let sum = u64::from(old) * 3 + u64::from(sample) + 2;
            u32::try_from(sum / 4).unwrap_or(u32::MAX)
        }));
    }

    /// Whether it is worth telling, after `told`.
    fn has_moved(self, told: u32, floor: u32, relative: bool) -> bool {
        let Some(now) = self.0 else { return false };
        let by = now.abs_diff(told);
        by > floor && (!relative || u64::from(by) * 5 > u64::from(told))
    }
}

impl Default for LinkMetrics {
    fn default() -> Self {
        let latency_us = LATENCY_UNKNOWN_US;
        Self {
            latency_us: Smoothed::default(),
            bandwidth_kbps: Smoothed::default(),
            loss_ppm: Smoothed::default(),
            utilization_permille: Smoothed::default(),
            before: None,
            told: AdjacencyMetrics { latency_us, ..AdjacencyMetrics::default() },
            told_at: None,
        }
    }
}

impl LinkMetrics {
    /// What the mesh is told.
    pub(crate) const fn told(&self) -> AdjacencyMetrics {
        self.told
    }

    /// The link came up: what was measured before was another one. What was told stands until the
    /// first measurement, but for what the operator adds, in hops.
    pub(crate) fn handle_link_up(&mut self, admin: u16) {
        let told = AdjacencyMetrics { admin, ..self.told };
        *self = Self { told, ..Self::default() };
    }

    /// The shard has reported on the link. True if the mesh is to be told.
    pub(crate) fn handle_report(&mut self, now: MonoTime, report: &LinkReport) -> bool {
        self.measure(now, report);
        let told = &self.told;
        let moved = self.latency_us.has_moved(told.latency_us, LATENCY_FLOOR_US, true)
            || self.bandwidth_kbps.has_moved(told.bandwidth_kbps, BANDWIDTH_FLOOR_KBPS, true)
            || self.loss_ppm.has_moved(told.loss_ppm, LOSS_FLOOR_PPM, true)
            || self.utilization_permille.has_moved(
                told.utilization_permille.into(),
                UTILIZATION_FLOOR_PERMILLE,
                false,
            );
        let held = self.told_at.is_some_and(|told_at| now.saturating_since(told_at) < HOLD);
        // Latency is what every path is chosen by: its first measurement is always told.
        let is_first = self.told_at.is_none() && self.latency_us.0.is_some();
        if !(is_first || moved) || held {
            return false;
        }
        let before = self.told;
        self.told = AdjacencyMetrics {
            latency_us: self.latency_us.0.unwrap_or(before.latency_us),
            bandwidth_kbps: self.bandwidth_kbps.0.unwrap_or(0),
            loss_ppm: self.loss_ppm.0.unwrap_or(0).min(AdjacencyMetrics::LOSS_PPM_END - 1),
            utilization_permille: permille(self.utilization_permille.0.unwrap_or(0)),
            admin: before.admin,
        };
        self.told_at = Some(now);
        self.told != before
    }

    fn measure(&mut self, now: MonoTime, report: &LinkReport) {
        if !report.rtt.is_zero() {
            let half = u32::try_from((report.rtt / 2).as_micros()).unwrap_or(u32::MAX);
            self.latency_us.add(half.max(1));
        }
        let bandwidth_kbps = kbps(report.bandwidth, Duration::from_secs(1));
        if bandwidth_kbps > 0 {
            self.bandwidth_kbps.add(bandwidth_kbps);
        }
        let Some((at, before)) = &self.before else {
            self.before = Some((now, report.clone()));
            return;
        };
        let span = now.saturating_since(*at);
        if span < SPAN_MIN {
            return;
        }
        // Counts that fell are those of another session: they begin anew.
        let grown = |now: u64, before: u64| now.checked_sub(before);
        if let Some(ticks) = grown(report.heartbeat_ticks, before.heartbeat_ticks)
            && let Some(missed) = grown(report.heartbeats_missed, before.heartbeats_missed)
            && ticks > 0
        {
            self.loss_ppm.add(ratio(missed, ticks, 1_000_000));
        }
        if let Some(sent_bytes) = grown(report.sent_bytes, before.sent_bytes)
            && let Some(capacity_kbps) = self.bandwidth_kbps.0.filter(|kbps| *kbps > 0)
        {
            let used_kbps = kbps(sent_bytes, span);
            self.utilization_permille.add(ratio(used_kbps.into(), capacity_kbps.into(), 1000));
        }
        self.before = Some((now, report.clone()));
    }
}

/// Kilobits a second.
fn kbps(bytes: u64, span: Duration) -> u32 {
    let bits_per_ms = u128::from(bytes) * 8 * 1_000_000 / span.as_nanos().max(1);
    u32::try_from(bits_per_ms).unwrap_or(u32::MAX)
}

/// `part` of `whole`, in so many parts of one; at most all of them.
fn ratio(part: u64, whole: u64, parts: u32) -> u32 {
    let ratio = u128::from(part) * u128::from(parts) / u128::from(whole.max(1));
    u32::try_from(ratio).unwrap_or(parts).min(parts)
}

fn permille(utilization: u32) -> u16 {
    u16::try_from(utilization)
        .unwrap_or(AdjacencyMetrics::UTILIZATION_PERMILLE_MAX)
        .min(AdjacencyMetrics::UTILIZATION_PERMILLE_MAX)
}

#[cfg(test)]
mod tests {
    use hawser_wire::NodeId;

    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::ZERO.saturating_add(Duration::from_millis(ms))
    }

    fn report(rtt_us: u64) -> LinkReport {
        LinkReport {
            peer: NodeId::from_bytes([2; 16]),
            lanes: 1,
            rtt: Duration::from_micros(rtt_us),
            sent_bytes: 0,
            received_bytes: 0,
            queued_bytes: 0,
            dropped_frames: 0,
            control_dropped_frames: 0,
            bandwidth: 0,
            heartbeat_ticks: 0,
            heartbeats_missed: 0,
        }
    }

    #[test]
    fn the_first_latency_is_told_at_once_then_only_what_is_no_noise() {
        let mut link = LinkMetrics::default();
        assert_eq!(link.told().latency_us, LATENCY_UNKNOWN_US);
        assert!(!link.handle_report(at(0), &report(0)), "no measurement");
        assert!(link.handle_report(at(500), &report(4000)));
        assert_eq!(link.told().latency_us, 2000);
        // Noise of 15 % for an hour, whatever its pattern.
        let mut noise = 1_u64;
        for second in 10..3600 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let rtt_us = 3400 + (noise >> 33) % 1200;
            assert!(!link.handle_report(at(second * 1000), &report(rtt_us)), "{second} s");
        }
        let told: Vec<u64> = (3600..3700)
            .filter(|second| link.handle_report(at(second * 1000), &report(20_000)))
            .collect();
        assert!(told.len() <= 4 && told[0] == 3600, "{told:?}");
        assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{told:?}");
        assert!((8_500..=10_000).contains(&link.told().latency_us), "{:?}", link.told());
    }

    #[test]
    fn microseconds_are_noise_on_a_fast_link() {
        let mut link = LinkMetrics::default();
        assert!(link.handle_report(at(0), &report(60)));
        for second in 10..200 {
            let rtt_us = if second % 20 < 10 { 60 } else { 140 };
            assert!(!link.handle_report(at(second * 1000), &report(rtt_us)));
        }
    }

    #[test]
    fn bandwidth_loss_and_utilisation_are_measured() {
        let mut link = LinkMetrics::default();
        link.handle_report(at(0), &report(2000));
        for second in 1..=120 {
            let seen = LinkReport {
                // A link of 100 Mbit/s, two fifths of it in use; one heartbeat in twenty is missed.
                bandwidth: 12_500_000,
                sent_bytes: second * 5_000_000,
                heartbeat_ticks: second * 20,
                heartbeats_missed: second,
                ..report(2000)
            };
            link.handle_report(at(second * 1000), &seen);
        }
        let told = link.told();
        assert_eq!((told.latency_us, told.bandwidth_kbps), (1000, 100_000));
        assert!((350..=400).contains(&told.utilization_permille), "{told:?}");
        assert!((45_000..=50_000).contains(&told.loss_ppm), "{told:?}");
    }

    #[test]
    fn counts_that_begin_anew_are_no_measurement() {
        let mut link = LinkMetrics::default();
        let seen = LinkReport { heartbeat_ticks: 1000, heartbeats_missed: 900, ..report(2000) };
        link.handle_report(at(0), &seen);
        let anew = LinkReport { heartbeat_ticks: 10, heartbeats_missed: 0, ..report(2000) };
        link.handle_report(at(20_000), &anew);
        assert_eq!(link.loss_ppm.0, None);
        let late = LinkReport { heartbeat_ticks: 20, heartbeats_missed: 10, ..report(2000) };
        assert!(link.handle_report(at(40_000), &late));
        assert_eq!(link.told().loss_ppm, 999_999, "all of them, which no link may say");
        link.handle_link_up(7);
        let told = link.told();
        assert_eq!((told.loss_ppm, told.admin), (999_999, 7), "until it is measured");
        assert!(link.handle_report(at(40_001), &report(2000)), "the new link holds nothing back");
        let told = link.told();
        assert_eq!((told.loss_ppm, told.admin), (0, 7), "what is measured is no operator's word");
    }

    #[test]
    fn a_clock_that_jumps_tells_nothing_twice() {
        let mut link = LinkMetrics::default();
        assert!(link.handle_report(at(1_000_000), &report(3000)));
        assert!(!link.handle_report(at(5), &report(9000)), "held");
        assert!(!link.handle_report(at(6), &report(9000)), "held");
        assert!(link.handle_report(at(9_000_000), &report(9000)));
    }
}
