//! A mesh to plan with, and what its nodes are called.

use std::collections::BTreeMap;

use hawser_routing::{Demand, LinkMetrics, NodeNumber, Topology};
use hawser_wire::TrafficClass;
use serde_json::{Map, Value, json};

use crate::cli::failure::{Exit, Failure};

/// A topology and what its nodes are called.
#[derive(Debug)]
pub(super) struct PlanMesh {
    /// By number.
    pub(super) ids: Vec<String>,
    /// By whatever a node may be called.
    pub(super) numbers: BTreeMap<String, NodeNumber>,
    pub(super) topology: Topology,
    pub(super) demands: Option<Vec<Demand>>,
    /// Of the routes of a node; a file has 0.
    pub(super) generation: u64,
}

impl PlanMesh {
    pub(super) fn find(&self, id: &str) -> Option<NodeNumber> {
        self.numbers.get(id).copied()
    }

    pub(super) fn known(&self, id: &str) -> Result<NodeNumber, String> {
        self.find(id).ok_or_else(|| format!("there is no node {id:?}"))
    }

    /// # Errors
    /// [`Exit::NotFound`].
    pub(super) fn node(&self, id: &str) -> Result<NodeNumber, Failure> {
        self.known(id).map_err(|wrong| Failure::new(Exit::NotFound, wrong))
    }

    /// The two nodes that `text` names, with a comma between them. Ids may have commas, too.
    ///
    /// # Errors
    /// [`Exit::NotFound`], and [`Exit::Usage`] without a comma.
    pub(super) fn pair(&self, text: &str) -> Result<(NodeNumber, NodeNumber), Failure> {
        let splits = || text.match_indices(',').map(|(at, _)| (&text[..at], &text[at + 1..]));
        if let Some(pair) = splits().find_map(|(a, b)| Some((self.find(a)?, self.find(b)?))) {
            return Ok(pair);
        }
        let (a, b) = splits().next().ok_or_else(|| {
            Failure::usage(format!("{text:?} is no link: name its two nodes, as in A,B"))
        })?;
        Ok((self.node(a)?, self.node(b)?))
    }

    pub(super) fn id(&self, node: NodeNumber) -> &str {
        usize::try_from(node).ok().and_then(|at| self.ids.get(at)).map_or("", String::as_str)
    }

    /// What the ends of pairs are called.
    pub(super) fn named(
        &self,
        pairs: &[(NodeNumber, NodeNumber)],
    ) -> impl Iterator<Item = [&str; 2]> {
        pairs.iter().map(|&(a, b)| [self.id(a), self.id(b)])
    }

    /// `topology`, which has the nodes of this mesh, as a topology file.
    pub(super) fn file(&self, topology: &Topology) -> Value {
        let nodes = self.ids.iter().zip(topology.flags()).map(|(id, flags)| {
            let mut node = Map::from_iter([("id".to_owned(), json!(id))]);
            for (key, set) in [("stub", flags.stub), ("overload", flags.overload)] {
                if set {
                    node.insert(key.to_owned(), json!(true));
                }
            }
            Value::Object(node)
        });
        let links = topology.arcs().filter(|((a, b), _)| a < b).map(|((a, b), there)| {
            let back = topology.metrics(b, a).unwrap_or(there);
            // What the way back leaves out is as on the way there, and no bandwidth is left out.
            let turned = there.bandwidth_mbps.is_some() && back.bandwidth_mbps.is_none();
            let ((a, b), (there, back)) =
                if turned { ((b, a), (back, there)) } else { ((a, b), (there, back)) };
            let mut link = metrics(there);
            link.insert("a".to_owned(), json!(self.id(a)));
            link.insert("b".to_owned(), json!(self.id(b)));
            if back != there {
                link.insert("ba".to_owned(), Value::Object(metrics(back)));
            }
            Value::Object(link)
        });
        let weights = TrafficClass::ALL.map(|class| {
            let of = topology.weights(class);
            let entry = json!({
                "latency": of.latency, "bandwidth": of.bandwidth, "loss": of.loss,
                "utilization": of.utilization, "hop": of.hop,
            });
            (class.name().to_owned(), entry)
        });
        let mut file = json!({
            "nodes": nodes.collect::<Vec<_>>(),
            "links": links.collect::<Vec<_>>(),
            "weights": Map::from_iter(weights),
        });
        if let Some(demands) = &self.demands {
            let demand = |demand: &Demand| {
                let (from, to) = (self.id(demand.from), self.id(demand.to));
                json!({"from": from, "to": to, "mbps": demand.mbps})
            };
            file["demands"] = demands.iter().map(demand).collect();
        }
        file
    }
}

fn metrics(metrics: &LinkMetrics) -> Map<String, Value> {
    let mut entry = Map::from_iter([
        ("latency_us".to_owned(), json!(metrics.latency_us)),
        ("loss".to_owned(), json!(metrics.loss)),
        ("utilization".to_owned(), json!(metrics.utilization)),
        ("admin".to_owned(), json!(metrics.admin)),
    ]);
    if let Some(mbps) = metrics.bandwidth_mbps {
        entry.insert("bandwidth_mbps".to_owned(), json!(mbps));
    }
    entry
}
