//! Which process runs on which cores.
//!
//! A daemon pins its threads, so two daemons that were left to themselves would choose the same
//! cores and fight. The harness therefore says for every process where it runs. The peer's servers
//! are left as they come (unpinned); its clients get the cores that ours get.

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

use crate::machine;

/// Cores of one node's threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeCores {
    pub(crate) control: usize,
    /// One API thread each.
    pub(crate) api: Vec<usize>,
    /// One shard each.
    pub(crate) shards: Vec<usize>,
}

/// Where everything of a run goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Publisher or pinger.
    pub(crate) near_client: Vec<usize>,
    /// Subscriber or echo.
    pub(crate) far_client: Vec<usize>,
    /// In the order of the row: A, B, C.
    pub(crate) nodes: Vec<NodeCores>,
    /// Source, relays and sink of the chain; an empty list is any core.
    pub(crate) chain: Vec<Vec<usize>>,
}

/// A row of the table: ordinals among the cores that there are.
struct Row {
    hops: usize,
    /// The row serves machines with at least so many cores.
    cores_min: usize,
    near_client: usize,
    far_client: usize,
    /// (control, api, shard) of each node.
    nodes: &'static [(usize, usize, usize)],
}

/// For each number of links, the roomiest row that fits is taken.
///
/// Two cores, one link: each core carries one end with its node, whole, so that a payload crosses once.
/// With the source's API thread beside the sink the cores are more level, but each message costs 25 %
/// more: 1.47 against 1.02 million messages of 1 KiB a second, 22.7 against 16.4 thousand of 64 KiB,
/// 20.9 against 14.9 million of 64 B (medians of three in turns, quiet, lanes that are not paced). While
/// lanes were paced (`docs/adr/0022-congestion-control.md`) it was the other way round on one machine.
///
/// Two cores, two links: the shards of source and relay have one core, the publisher with the source's
/// API thread and all of the sink the other. A payload crosses twice there, and the cores are level:
/// against all of the source on one core and the rest on the other 0.96-1.04 to 0.80-0.81 million
/// messages of 1 KiB a second, 12.9-14.5 to 11.9-12.1 thousand of 64 KiB, 13.7 to 11.6 million of 64 B,
/// CPU of a message the same or less. With the subscriber and the sink's API thread on the source's core
/// instead it is level at 64 KiB and 8 to 12 % behind at the others. With the publisher on the other core
/// than its API thread it is behind everywhere. The peer, whose clients go where ours do, is level with
/// both clients on one core or ahead by 12 %.
///
/// From there on, a core for each process that works hard, in the order of the row, then a core
/// for each node's shard apart from its API thread. Control threads do little and stay with the API
/// threads.
const TABLE: &[Row] = &[
    Row { hops: 1, cores_min: 1, near_client: 0, far_client: 0, nodes: &[(0, 0, 0), (0, 0, 0)] },
    Row { hops: 1, cores_min: 2, near_client: 0, far_client: 1, nodes: &[(0, 0, 0), (1, 1, 1)] },
    Row { hops: 1, cores_min: 4, near_client: 0, far_client: 3, nodes: &[(1, 1, 1), (2, 2, 2)] },
    Row { hops: 1, cores_min: 6, near_client: 0, far_client: 5, nodes: &[(1, 1, 2), (4, 4, 3)] },
    Row {
        hops: 2,
        cores_min: 1,
        near_client: 0,
        far_client: 0,
        nodes: &[(0, 0, 0), (0, 0, 0), (0, 0, 0)],
    },
    Row {
        hops: 2,
        cores_min: 2,
        near_client: 1,
        far_client: 1,
        nodes: &[(0, 1, 0), (0, 0, 0), (1, 1, 1)],
    },
    Row {
        hops: 2,
        cores_min: 3,
        near_client: 0,
        far_client: 2,
        nodes: &[(0, 0, 0), (1, 1, 1), (2, 2, 2)],
    },
    Row {
        hops: 2,
        cores_min: 5,
        near_client: 0,
        far_client: 4,
        nodes: &[(1, 1, 1), (2, 2, 2), (3, 3, 3)],
    },
    Row {
        hops: 2,
        cores_min: 7,
        near_client: 0,
        far_client: 6,
        nodes: &[(1, 1, 2), (3, 3, 3), (5, 5, 4)],
    },
];

impl Placement {
    /// The placement that the user wants, or else the table's, for `hops` links on this machine.
    ///
    /// # Errors
    /// If the user's has another number of nodes.
    pub(crate) fn choose(hops: usize, wanted: Option<&Self>) -> Result<Self> {
        let table = Self::new(hops, &machine::cores()?).context("one or two links")?;
        match wanted {
            None => Ok(table),
            Some(wanted) if wanted.nodes.len() == hops + 1 => {
                Ok(Self { chain: table.chain, ..wanted.clone() })
            }
            Some(wanted) => {
                bail!(
                    "--placement names {} nodes; {hops} links have {}",
                    wanted.nodes.len(),
                    hops + 1
                )
            }
        }
    }

    /// The placement of a run over `hops` links on a machine with these `cores`. None if the table
    /// knows no such run.
    pub(crate) fn new(hops: usize, cores: &[usize]) -> Option<Self> {
        let row = TABLE
            .iter()
            .filter(|row| row.hops == hops && row.cores_min <= cores.len())
            .max_by_key(|row| row.cores_min)?;
        let core = |ordinal: usize| cores.get(ordinal).copied();
        let nodes = row.nodes.iter().map(|&(control, api, shard)| {
            Some(NodeCores {
                control: core(control)?,
                api: vec![core(api)?],
                shards: vec![core(shard)?],
            })
        });
        Some(Self {
            near_client: vec![core(row.near_client)?],
            far_client: vec![core(row.far_client)?],
            nodes: nodes.collect::<Option<_>>()?,
            chain: chain(hops + 2, cores),
        })
    }
}

impl FromStr for Placement {
    type Err = Error;

    /// `publisher/A/B[/C]/subscriber`. A client is a list of cores, or `any`; a node is its
    /// control core, its API cores and its shard cores, separated by colons: `0/0:0:0/1:1:1/1`.
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let [near, nodes @ .., far] = parts.as_slice() else {
            bail!("publisher/A/B/subscriber or publisher/A/B/C/subscriber");
        };
        if !(2..=3).contains(&nodes.len()) {
            bail!("two or three nodes, not {}", nodes.len());
        }
        let client = |list| if list == "any" { Ok(Vec::new()) } else { core_list(list) };
        let node = |text: &&str| {
            let fields: Vec<&str> = text.split(':').collect();
            let [control, api, shards] = fields.as_slice() else {
                bail!("{text}: a node is control:api:shards");
            };
            let control = control.parse().with_context(|| format!("{control}: no core"))?;
            Ok(NodeCores { control, api: core_list(api)?, shards: core_list(shards)? })
        };
        Ok(Self {
            near_client: client(near)?,
            far_client: client(far)?,
            nodes: nodes.iter().map(node).collect::<Result<_>>()?,
            chain: Vec::new(),
        })
    }
}

/// Cores with commas between.
fn core_list(text: &str) -> Result<Vec<usize>> {
    let core = |core: &str| core.parse().with_context(|| format!("{core:?}: no core"));
    text.split(',').map(core).collect()
}

/// A chain of `sockets` sockets has one stage more than sockets. Neighbours share a core as far as
/// they can, the sink's half being the larger one. With five stages on two cores this was ahead in
/// each of three rounds beside a compiler: medians 4.2 GB/s, against 3.0 with the larger half at the
/// source, 1.6 with alternating and 2.4 with unpinned stages.
fn chain(sockets: usize, cores: &[usize]) -> Vec<Vec<usize>> {
    let stages = sockets + 1;
    let core = |stage: usize| cores.get(((stage + 1) * cores.len() - 1) / stages).copied();
    (0..stages).filter_map(|stage| Some(vec![core(stage)?])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_place_for_everything() {
        for count in 1..=16 {
            // Numbers with gaps, as in a container.
            let cores: Vec<usize> = (0..count).map(|n| 3 + 2 * n).collect();
            for hops in 1..=2 {
                let placement = Placement::new(hops, &cores).unwrap();
                assert_eq!(placement.nodes.len(), hops + 1);
                assert_eq!(placement.chain.len(), hops + 3);
                let mut used = [placement.near_client, placement.far_client].concat();
                for node in placement.nodes {
                    used.push(node.control);
                    used.extend(node.api.iter().chain(&node.shards));
                }
                used.extend(placement.chain.iter().flatten());
                assert!(used.iter().all(|core| cores.contains(core)), "{count} cores: {used:?}");
                if count > 1 {
                    used.sort_unstable();
                    used.dedup();
                    assert!(used.len() > 1, "{count} cores: all on one");
                }
            }
            assert_eq!(Placement::new(3, &cores), None);
        }
    }
    #[test]
    fn a_placement_can_be_written_down() {
        let placement: Placement = "0/0:0:0/1:1:1,2/any".parse().unwrap();
        assert_eq!(placement.near_client, [0]);
        assert!(placement.far_client.is_empty());
        let shards: Vec<_> = placement.nodes.iter().map(|node| node.shards.clone()).collect();
        assert_eq!(shards, [vec![0], vec![1, 2]]);
        for wrong in ["", "0/1", "0/0:0/1:1:1/1", "0/x:0:0/1:1:1/1", "0/0:0:0/1", "0/:0:0/1:1:1/1"]
        {
            assert!(wrong.parse::<Placement>().is_err(), "{wrong:?}");
        }
    }
}
