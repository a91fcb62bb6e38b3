//! A token bucket for each bulk lane, on the router between two nodes.
//!
//! The lane is known by its dialler's port; the bucket is a class of the kernel's `htb` with a queue of
//! its own, so that no lane takes what another leaves.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::chaos::namespaces::Namespaces;
use crate::chaos::pair::Pair;

/// What is no bulk lane passes as if nothing were there.
const WIDE_MBIT: u32 = 10_000;

/// What a bucket lets through at once: a few packets.
const BURST_BYTES: u32 = 16 << 10;

/// A queue holds so much time, as that of a router with too much memory.
const QUEUE_MS: u32 = 200;

/// A packet on the veth.
const PACKET_BITS: u32 = 1514 * 8;

/// The buckets of one router.
#[derive(Debug)]
pub(crate) struct LaneShaper<'a> {
    namespaces: &'a Namespaces,
    lane_mbit: u32,
    /// Ports that have one.
    shaped: BTreeSet<u16>,
}

impl<'a> LaneShaper<'a> {
    /// No bucket yet; each will let `lane_mbit` megabits a second pass.
    pub(crate) async fn start(namespaces: &'a Namespaces, lane_mbit: u32) -> Result<Self> {
        let device = Namespaces::towards_b();
        for command in [
            format!("tc qdisc add dev {device} root handle 1: htb default 1"),
            format!(
                "tc class add dev {device} parent 1: classid 1:1 htb rate {WIDE_MBIT}mbit burst 1mb"
            ),
        ] {
            namespaces.route(&command).await?;
        }
        Ok(Self { namespaces, lane_mbit, shaped: BTreeSet::new() })
    }

    /// Gives each bulk lane that is new its bucket; how many bulk lanes there are.
    pub(crate) async fn shape(&mut self, pair: &Pair) -> Result<usize> {
        let lanes = pair.lanes().await?.unwrap_or_default();
        let mut bulk = 0;
        for lane in lanes.iter().filter(|lane| lane.lane_class == "bulk") {
            bulk += 1;
            let port = lane.remote_address.rsplit(':').next().and_then(|port| port.parse().ok());
            let port: u16 = port.with_context(|| format!("address {}", lane.remote_address))?;
            if self.shaped.insert(port) {
                self.add(port).await?;
            }
        }
        Ok(bulk)
    }

    async fn add(&self, port: u16) -> Result<()> {
        let (device, rate) = (Namespaces::towards_b(), self.lane_mbit);
        // Class numbers are hexadecimal, and the first is taken.
        let class = format!("{:x}", self.shaped.len() + 1);
        let burst = format!("burst {BURST_BYTES}b cburst {BURST_BYTES}b");
        let packets = (rate * 1000 * QUEUE_MS / PACKET_BITS).max(10);
        for command in [
            format!(
                "tc class add dev {device} parent 1: classid 1:{class} htb rate {rate}mbit \
                 ceil {rate}mbit {burst}"
            ),
            format!("tc qdisc add dev {device} parent 1:{class} pfifo limit {packets}"),
            format!(
                "tc filter add dev {device} parent 1: protocol ip prio 1 u32 \
                 match ip sport {port} 0xffff flowid 1:{class}"
            ),
        ] {
            self.namespaces.route(&command).await?;
        }
        Ok(())
    }
}
