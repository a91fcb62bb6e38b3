//! `hawser lane`.

use clap::Subcommand;
use hawser_proto::v1::LaneStatus;
use serde::Serialize;

use super::client::Target;
use super::failure::Failure;
use super::output::{Output, bytes_text, micros_text};
use super::table::{Align, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum LaneCommand {
    /// List this node's lanes.
    Ls,
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

/// # Errors
/// Whatever the node answers.
pub(crate) async fn list(target: Target, out: Output) -> Result<(), Failure> {
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
