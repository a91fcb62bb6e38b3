use std::time::Duration;

use hawser_exchange::LinkEventReport;
use hawser_link::{LaneDecision, LaneVerdict};
use hawser_wire::NodeId;

use crate::lane_supervisor::SampledLane;

/// What the control thread is told of a decision about the number of lanes, with all its inputs.
pub(crate) fn decision_of(
    peer: NodeId,
    decision: &LaneDecision,
    lanes: &[SampledLane],
) -> LinkEventReport {
    let LaneDecision { sample, limits, .. } = decision;
    let target = limits.goodput_target.map_or_else(|| "none".to_owned(), |rate| rate.to_string());
    let (peer_lanes_max, refused_left) = decision.peer_lanes_max.map_or_else(
        || ("none".to_owned(), Duration::ZERO),
        |(lanes, left)| (lanes.to_string(), left),
    );
    let mut inputs = vec![
        ("verdict", decision.verdict.name().to_owned()),
        ("dry_run", limits.dry_run.to_string()),
        ("bulk_lanes", sample.bulk_lanes.to_string()),
        ("bulk_lanes_max", limits.bulk_lanes_max.to_string()),
        ("occupancy_permille", decision.occupancy_permille.to_string()),
        ("occupancy_high_permille", limits.occupancy_high_permille.to_string()),
        ("occupancy_low_permille", limits.occupancy_low_permille.to_string()),
        ("rtt_us", sample.srtt.as_micros().to_string()),
        ("min_rtt_us", sample.min_rtt.as_micros().to_string()),
        ("inflation_permille", decision.inflation_permille.to_string()),
        ("inflation_high_permille", limits.inflation_high_permille.to_string()),
        ("inflation_low_permille", limits.inflation_low_permille.to_string()),
        ("goodput_bytes_per_s", sample.goodput.to_string()),
        ("goodput_target_bytes_per_s", target),
        ("received_bytes_per_s", sample.received.to_string()),
        ("idle_bytes_per_s", limits.idle_goodput.to_string()),
        ("let_go", sample.is_let_go.to_string()),
        ("striped", sample.is_striped.to_string()),
        ("loss_permille", sample.loss_permille.to_string()),
        ("turn_delay_us", sample.turn_delay.as_micros().to_string()),
        ("occupied_ms", decision.occupied_for.as_millis().to_string()),
        ("occupied_for_ms", limits.occupied_for.as_millis().to_string()),
        ("empty_ms", decision.empty_for.as_millis().to_string()),
        ("empty_for_ms", limits.empty_for.as_millis().to_string()),
        ("cool_down_left_ms", decision.cool_down_left.as_millis().to_string()),
        ("barred_left_ms", decision.barred_left.as_millis().to_string()),
        ("peer_bulk_lanes_max", peer_lanes_max),
        ("refused_left_ms", refused_left.as_millis().to_string()),
        ("baseline_bytes_per_s", decision.baseline_goodput.to_string()),
        ("trial_bytes_per_s", decision.trial_goodput.to_string()),
        ("lane_queued_bytes", by_lane(lanes, |lane| lane.status.queued_bytes.to_string())),
        ("lane_goodput_bytes_per_s", by_lane(lanes, |lane| lane.goodput.to_string())),
        ("lane_received_bytes_per_s", by_lane(lanes, |lane| lane.received.to_string())),
        ("lane_rtt_us", by_lane(lanes, |lane| lane.status.srtt.as_micros().to_string())),
        ("lane_silent_ticks", by_lane(lanes, |lane| lane.status.silent_ticks.to_string())),
    ];
    match decision.verdict {
        LaneVerdict::Confirmed { gain_permille } | LaneVerdict::Undone { gain_permille, .. } => {
            inputs.push(("gain_permille", gain_permille.to_string()));
            inputs.push(("gain_min_permille", limits.gain_min_permille.to_string()));
        }
        LaneVerdict::HeldCoolDown { until }
        | LaneVerdict::HeldBarred { until }
        | LaneVerdict::HeldRefused { until } => {
            let held = until.saturating_since(decision.at);
            inputs.push(("held_ms", held.as_millis().to_string()));
        }
        _ => {}
    }
    LinkEventReport { peer, name: "lane-policy", inputs }
}

/// What was measured of each lane, behind its number.
fn by_lane(lanes: &[SampledLane], value: impl Fn(&SampledLane) -> String) -> String {
    let lanes = lanes.iter().map(|lane| format!("{}:{}", lane.status.id.lane, value(lane)));
    lanes.collect::<Vec<_>>().join(",")
}
