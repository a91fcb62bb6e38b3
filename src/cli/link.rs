//! `hawser link`.

use clap::{Subcommand, ValueEnum};
use hawser_proto::v1::{LinkStatus, SetLinkModeReq};
use serde::Serialize;

use super::client::Target;
use super::failure::Failure;
use super::output::{Output, bytes_text, kbps_text, micros_text, percent_text};
use super::table::{Align, Table, clean};

#[derive(Debug, Subcommand)]
pub(crate) enum LinkCommand {
    /// List this node's links.
    Ls,
    /// Change how a link of this node uses its lanes, until the link's session ends.
    Mode {
        /// The neighbour, by name or id.
        peer: String,
        /// Lanes for each class, or one lane for all traffic.
        mode: Mode,
    },
}

/// How a link uses its lanes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// Lanes of their own for control, priority and bulk.
    Separate,
    /// One lane for all of them, control first.
    Collapsed,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Separate => "separate",
            Self::Collapsed => "collapsed",
        }
    }
}

/// A link, as printed.
#[derive(Debug, Serialize)]
pub(crate) struct LinkRow<'a> {
    a: &'a str,
    a_name: &'a str,
    b: &'a str,
    b_name: &'a str,
    up: bool,
    /// None while it is down.
    mode: Option<&'a str>,
    lanes: u32,
    rtt_us: u64,
    /// 0: not known.
    bandwidth_kbps: u32,
    loss_ppm: u32,
    utilization_permille: u32,
    sent_bytes: u64,
    received_bytes: u64,
    queued_bytes: u64,
    control_dropped_frames: u64,
    dropped_frames: u64,
    adjacency_index: u32,
}

impl<'a> From<&'a LinkStatus> for LinkRow<'a> {
    fn from(link: &'a LinkStatus) -> Self {
        Self {
            a: &link.a,
            a_name: &link.a_name,
            b: &link.b,
            b_name: &link.b_name,
            up: link.up,
            mode: link.mode.as_deref(),
            lanes: link.lanes,
            rtt_us: link.rtt_us,
            bandwidth_kbps: link.bandwidth_kbps,
            loss_ppm: link.loss_ppm,
            utilization_permille: link.utilization_permille,
            sent_bytes: link.sent_bytes,
            received_bytes: link.received_bytes,
            queued_bytes: link.queued_bytes,
            control_dropped_frames: link.control_dropped_frames,
            dropped_frames: link.dropped_frames,
            adjacency_index: link.adjacency_index,
        }
    }
}

impl LinkRow<'_> {
    pub(crate) const fn state(&self) -> &'static str {
        if self.up { "up" } else { "down" }
    }

    pub(crate) fn rtt(&self) -> String {
        if self.rtt_us == 0 { "-".to_owned() } else { micros_text(self.rtt_us) }
    }

    fn bandwidth(&self) -> String {
        if self.bandwidth_kbps == 0 { "-".to_owned() } else { kbps_text(self.bandwidth_kbps) }
    }

    /// Of the bandwidth.
    fn used(&self) -> String {
        if self.bandwidth_kbps == 0 {
            "-".to_owned()
        } else {
            percent_text(self.utilization_permille)
        }
    }
}

/// # Errors
/// Whatever the node answers.
pub(crate) async fn run(command: LinkCommand, target: Target, out: Output) -> Result<(), Failure> {
    match command {
        LinkCommand::Ls => list(target, out).await,
        LinkCommand::Mode { peer, mode } => set_mode(peer, mode, target, out).await,
    }
}

#[derive(Serialize)]
struct ModeRow<'a> {
    peer_id: &'a str,
    peer_name: &'a str,
    mode: &'a str,
}

async fn set_mode(peer: String, mode: Mode, target: Target, out: Output) -> Result<(), Failure> {
    let request = SetLinkModeReq { peer, mode: mode.name().to_owned() };
    let report = target.mesh().await?.set_link_mode(request).await?.into_inner();
    let peer = report.peer.unwrap_or_default();
    let row = ModeRow { peer_id: &peer.node_id, peer_name: &peer.name, mode: &report.mode };
    out.value(&row, || {
        let name = if peer.name.is_empty() { &peer.node_id } else { &peer.name };
        format!("the link to {} is {} now\n", clean(name), row.mode)
    })
}

async fn list(target: Target, out: Output) -> Result<(), Failure> {
    let links = target.mesh().await?.list_links(()).await?.into_inner().links;
    let rows: Vec<LinkRow<'_>> = links.iter().map(LinkRow::from).collect();
    out.rows(&rows, || {
        let mut table = Table::new(
            &[
                ("PEER", Align::Left),
                ("STATE", Align::Left),
                ("MODE", Align::Left),
                ("LANES", Align::Right),
                ("RTT", Align::Right),
                ("BANDWIDTH", Align::Right),
                ("USED", Align::Right),
                ("LOSS", Align::Right),
                ("SENT", Align::Right),
                ("RECEIVED", Align::Right),
                ("QUEUED", Align::Right),
                ("DROPPED", Align::Right),
                ("CONTROL DROPPED", Align::Right),
                ("INDEX", Align::Right),
            ],
            "no links",
        );
        for row in &rows {
            let peer = if row.b_name.is_empty() { row.b } else { row.b_name };
            table.row([
                peer.to_owned(),
                row.state().to_owned(),
                row.mode.unwrap_or("-").to_owned(),
                row.lanes.to_string(),
                row.rtt(),
                row.bandwidth(),
                row.used(),
                percent_text(row.loss_ppm / 1000),
                bytes_text(row.sent_bytes),
                bytes_text(row.received_bytes),
                bytes_text(row.queued_bytes),
                row.dropped_frames.to_string(),
                row.control_dropped_frames.to_string(),
                row.adjacency_index.to_string(),
            ]);
        }
        table
    })
}
