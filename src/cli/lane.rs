//! `hawser lane`.

use std::collections::BTreeMap;

use clap::{Subcommand, ValueEnum};
use hawser_proto::v1::{LaneEvent, LaneEventsReq, LaneStatus, SetLanePolicyReq};
use serde::Serialize;

use super::client::Target;
use super::failure::Failure;
use super::output::{Output, bytes_text, micros_text, time_text};
use super::table::{Align, Table, clean};

#[derive(Debug, Subcommand)]
pub(crate) enum LaneCommand {
    /// List this node's lanes.
    Ls,
    /// Show what happened on links, each with what led to it: the latest 4,096 events.
    Events {
        /// Go on with whatever happens next.
        #[arg(long, short)]
        follow: bool,
        /// Only of the link to this node, by name or id.
        #[arg(long, value_name = "NODE", default_value = "")]
        peer: String,
    },
    /// Bound the bulk lanes of the link to a neighbour. It holds over restarts.
    Cap {
        /// The neighbour, by name or id.
        peer: String,
        /// Most bulk lanes, 1 to 4; `default`, or 0, goes back to what is configured.
        #[arg(value_parser = cap)]
        lanes: u32,
    },
    /// Say whether bulk lanes of the link to a neighbour are opened and closed by need. It holds over
    /// restarts; `default` goes back to what is configured.
    Policy {
        /// The neighbour, by name or id.
        peer: String,
        /// What becomes of decisions.
        policy: Policy,
    },
}

/// Most bulk lanes, as the interface says it.
fn cap(text: &str) -> Result<u32, String> {
    match text {
        "default" => Ok(0),
        _ => match text.parse() {
            Ok(lanes @ 0..=4) => Ok(lanes),
            _ => Err("expected 1 to 4, or default (0)".to_owned()),
        },
    }
}

/// What becomes of the lane policy's decisions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Policy {
    /// They are told and acted on.
    On,
    /// They are told, and nothing follows.
    DryRun,
    /// None is made.
    Off,
    /// As configured.
    Default,
}

impl Policy {
    const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::DryRun => "dry-run",
            Self::Off => "off",
            Self::Default => "default",
        }
    }
}

/// # Errors
/// Whatever the node answers.
pub(crate) async fn run(command: LaneCommand, target: Target, out: Output) -> Result<(), Failure> {
    match command {
        LaneCommand::Ls => list(target, out).await,
        LaneCommand::Events { follow, peer } => {
            events(LaneEventsReq { peer, follow }, target, out).await
        }
        LaneCommand::Cap { peer, lanes } => {
            let bulk_lanes_max = Some(lanes);
            let request = SetLanePolicyReq { peer, bulk_lanes_max, ..SetLanePolicyReq::default() };
            set_policy(request, target, out).await
        }
        LaneCommand::Policy { peer, policy } => {
            let policy = policy.name().to_owned();
            let request = SetLanePolicyReq { peer, policy, ..SetLanePolicyReq::default() };
            set_policy(request, target, out).await
        }
    }
}

#[derive(Serialize)]
struct PolicyRow<'a> {
    peer_id: &'a str,
    peer_name: &'a str,
    bulk_lanes_max: u32,
    policy: &'a str,
}

async fn set_policy(request: SetLanePolicyReq, target: Target, out: Output) -> Result<(), Failure> {
    let report = target.mesh().await?.set_lane_policy(request).await?.into_inner();
    let peer = report.peer.unwrap_or_default();
    let row = PolicyRow {
        peer_id: &peer.node_id,
        peer_name: &peer.name,
        bulk_lanes_max: report.bulk_lanes_max,
        policy: &report.policy,
    };
    out.value(&row, || {
        let name = if peer.name.is_empty() { &peer.node_id } else { &peer.name };
        let (most, policy) = (row.bulk_lanes_max, row.policy);
        format!("link to {}: at most {most} bulk lanes, lane policy {policy}\n", clean(name))
    })
}

#[derive(Serialize)]
struct LaneRow<'a> {
    peer_id: &'a str,
    peer_name: &'a str,
    lane_id: u32,
    lane_class: &'a str,
    epoch: u64,
    dialled: bool,
    remote_address: &'a str,
    shard: u32,
    sent_bytes: u64,
    received_bytes: u64,
    sent_frames: u64,
    received_frames: u64,
    rtt_us: u64,
}

impl<'a> From<&'a LaneStatus> for LaneRow<'a> {
    fn from(lane: &'a LaneStatus) -> Self {
        Self {
            peer_id: &lane.peer_id,
            peer_name: &lane.peer_name,
            lane_id: lane.lane_id,
            lane_class: &lane.lane_class,
            epoch: lane.epoch,
            dialled: lane.dialled,
            remote_address: &lane.remote_address,
            shard: lane.shard,
            sent_bytes: lane.sent_bytes,
            received_bytes: lane.received_bytes,
            sent_frames: lane.sent_frames,
            received_frames: lane.received_frames,
            rtt_us: lane.rtt_us,
        }
    }
}

async fn list(target: Target, out: Output) -> Result<(), Failure> {
    let lanes = target.mesh().await?.list_lanes(()).await?.into_inner().lanes;
    let rows: Vec<LaneRow<'_>> = lanes.iter().map(LaneRow::from).collect();
    out.rows(&rows, || {
        let mut table = Table::new(
            &[
                ("PEER", Align::Left),
                ("LANE", Align::Right),
                ("CLASS", Align::Left),
                ("DIRECTION", Align::Left),
                ("REMOTE", Align::Left),
                ("EPOCH", Align::Right),
                ("SHARD", Align::Right),
                ("RTT", Align::Right),
                ("SENT", Align::Right),
                ("RECEIVED", Align::Right),
            ],
            "no lanes",
        );
        for row in &rows {
            let peer = if row.peer_name.is_empty() { row.peer_id } else { row.peer_name };
            table.row([
                peer.to_owned(),
                row.lane_id.to_string(),
                row.lane_class.to_owned(),
                if row.dialled { "dialled" } else { "accepted" }.to_owned(),
                row.remote_address.to_owned(),
                row.epoch.to_string(),
                row.shard.to_string(),
                if row.rtt_us == 0 { "-".to_owned() } else { micros_text(row.rtt_us) },
                bytes_text(row.sent_bytes),
                bytes_text(row.received_bytes),
            ]);
        }
        table
    })
}

#[derive(Serialize)]
struct EventRow<'a> {
    seq: u64,
    unix_us: u64,
    peer_id: &'a str,
    peer_name: &'a str,
    name: &'a str,
    inputs: BTreeMap<&'a str, &'a str>,
}

impl<'a> From<&'a LaneEvent> for EventRow<'a> {
    fn from(event: &'a LaneEvent) -> Self {
        let inputs = event.inputs.iter();
        Self {
            seq: event.seq,
            unix_us: event.unix_us,
            peer_id: &event.peer_id,
            peer_name: &event.peer_name,
            name: &event.name,
            inputs: inputs.map(|input| (input.name.as_str(), input.value.as_str())).collect(),
        }
    }
}

/// The cells of an event for people; inputs in the order of the node.
fn event_cells(event: &LaneEvent) -> [String; 4] {
    let peer = if event.peer_name.is_empty() { &event.peer_id } else { &event.peer_name };
    let inputs: Vec<String> =
        event.inputs.iter().map(|input| format!("{}={}", input.name, input.value)).collect();
    [time_text(event.unix_us), peer.clone(), event.name.clone(), inputs.join(" ")]
}

const EVENT_COLUMNS: [(&str, Align); 4] =
    [("TIME", Align::Left), ("PEER", Align::Left), ("EVENT", Align::Left), ("INPUTS", Align::Left)];

async fn events(request: LaneEventsReq, target: Target, out: Output) -> Result<(), Failure> {
    let follow = request.follow;
    let mut stream = target.mesh().await?.watch_lane_events(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await? {
        if follow {
            // Nobody knows how wide what comes will be: each event is a line of its own.
            out.value(&EventRow::from(&event), || {
                event_cells(&event).map(|cell| clean(&cell)).join("  ") + "\n"
            })?;
        } else {
            events.push(event);
        }
    }
    if follow {
        return Ok(());
    }
    let rows: Vec<EventRow<'_>> = events.iter().map(EventRow::from).collect();
    out.rows(&rows, || {
        let mut table = Table::new(&EVENT_COLUMNS, "no events");
        for event in &events {
            table.row(event_cells(event));
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use hawser_proto::v1::LaneEventInput;

    use super::*;

    #[test]
    fn an_event_shows_all_its_inputs() {
        let input =
            |name: &str, value: &str| LaneEventInput { name: name.into(), value: value.into() };
        let event = LaneEvent {
            seq: 7,
            peer_id: "id".into(),
            peer_name: "harbour".into(),
            name: "hedged".into(),
            inputs: vec![input("silent_ticks", "3"), input("from_lane", "2")],
            unix_us: 1_700_000_000_123_456,
        };
        let expected =
            ["2023-11-14T22:13:20.123Z", "harbour", "hedged", "silent_ticks=3 from_lane=2"];
        assert_eq!(event_cells(&event), expected);
        let row = serde_json::to_value(EventRow::from(&event)).unwrap();
        assert_eq!(row["inputs"]["silent_ticks"], "3");
        assert_eq!(row["unix_us"], 1_700_000_000_123_456_u64);
    }
}
