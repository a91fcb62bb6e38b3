//! `hawser-bench nats`: the peer alone, to see what the harness makes of it.

use anyhow::Result;
use serde::Serialize;

use crate::cores::Placement;
use crate::nats::install::NatsServer;
use crate::report::{Report, Rows, decimals};
use crate::run::{self, Load, Side};

/// The row that is printed.
#[derive(Debug, Serialize)]
pub(crate) struct AloneRow {
    peer: String,
    hops: usize,
    payload: usize,
    msgs_per_s: f64,
    bytes_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    lost: u64,
    duplicated: u64,
    cpu_s_per_million: f64,
    rss_peak_mib: f64,
    /// Of a message of this size that travels alone, there and back.
    lone_p50_us: f64,
    lone_p99_us: f64,
    steal: f64,
    foreign_cpu: f64,
}

/// One run of a load and one of lone messages.
pub(crate) async fn measure(
    nats: &NatsServer,
    load: &Load,
    wanted: Option<&Placement>,
) -> Result<AloneRow> {
    let placement = Placement::choose(load.hops, wanted)?;
    let side = Side::Peer { nats };
    let run = run::load(side, load, &placement).await?;
    let lone = run::lone(side, load, &placement).await?;
    let received = &run.received;
    let msgs_per_s = received.messages_per_s();
    Ok(AloneRow {
        peer: format!("nats-server {}", nats.version),
        hops: load.hops,
        payload: load.payload_bytes,
        msgs_per_s: decimals(msgs_per_s, 1),
        bytes_per_s: decimals(msgs_per_s * load.payload_bytes as f64, 0),
        p50_us: decimals(received.latency.p50_us, 1),
        p99_us: decimals(received.latency.p99_us, 1),
        lost: received.lost,
        duplicated: received.duplicated,
        cpu_s_per_million: decimals(run.cpu_s_per_million(), 3),
        rss_peak_mib: decimals(run.rss_peak_bytes as f64 / f64::from(1 << 20), 1),
        lone_p50_us: decimals(lone.round_trip.p50_us, 1),
        lone_p99_us: decimals(lone.round_trip.p99_us, 1),
        steal: decimals(run.consumption.steal, 4),
        foreign_cpu: decimals(run.consumption.foreign_cpu, 4),
    })
}

impl Report for AloneRow {
    /// What the peer loses is its own affair.
    fn has_loss(&self) -> bool {
        false
    }

    fn rows(&self) -> Rows {
        let lone = format!("p50 {:.0} µs, p99 {:.0} µs", self.lone_p50_us, self.lone_p99_us);
        vec![
            ("links, payload", format!("{}, {} B", self.hops, self.payload)),
            ("messages", format!("{:.0} /s, {}", self.msgs_per_s, self.peer)),
            ("bytes", format!("{:.1} MB/s", self.bytes_per_s / 1e6)),
            ("lost, duplicated", format!("{}, {}", self.lost, self.duplicated)),
            ("CPU", format!("{:.3} µs/message", self.cpu_s_per_million)),
            ("lone round trip", lone),
        ]
    }
}
