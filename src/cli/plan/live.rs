//! The mesh of a running node: what it computes paths from.

use std::collections::BTreeMap;

use hawser_proto::v1;
use hawser_routing::{LinkMetrics, NodeFlags, NodeNumber, Topology, Weights};
use hawser_wire::TrafficClass;

use super::mesh::PlanMesh;
use crate::cli::client::Target;
use crate::cli::failure::Failure;

/// The mesh that the node at `target` knows. Nodes are called by their names, those without one, or
/// with one that others have, too, by their ids; and every node by its id as well.
///
/// # Errors
/// Whatever the node answers.
pub(super) async fn fetch(target: &Target) -> Result<PlanMesh, Failure> {
    let found = target.mesh().await?.get_topology(v1::TopologyReq {}).await?.into_inner();
    build(&found).ok_or_else(|| Failure::plain("the node has answered with what is no topology"))
}

fn build(found: &v1::Topology) -> Option<PlanMesh> {
    let mut weights = [Weights::default(); TrafficClass::ALL.len()];
    for (class, weights) in TrafficClass::ALL.into_iter().zip(&mut weights) {
        let own = found.weights.iter().find(|own| own.traffic_class == class.name())?;
        let &v1::ClassWeights { latency, bandwidth, loss, utilization, hop, .. } = own;
        *weights = Weights { latency, bandwidth, loss, utilization, hop };
    }
    let flags = |node: &v1::TopologyNode| NodeFlags {
        stub: node.stub,
        overload: node.overload,
        left: false,
    };
    let mut topology = Topology::new(found.nodes.iter().map(flags).collect(), weights);
    for link in &found.links {
        let (there, back) = (metrics(link.ab.as_ref()?), metrics(link.ba.as_ref()?));
        topology.add_link((link.a, link.b), there, back).ok()?;
    }
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for node in &found.nodes {
        *named.entry(&node.name).or_default() += 1;
    }
    let called = |node: &v1::TopologyNode| match node.name.as_str() {
        "" => node.node_id.clone(),
        name if named.get(name) != Some(&1) => node.node_id.clone(),
        name => name.to_owned(),
    };
    let ids: Vec<String> = found.nodes.iter().map(called).collect();
    let by_id = (0..).zip(&found.nodes).map(|(number, node)| (node.node_id.clone(), number));
    let mut numbers: BTreeMap<String, NodeNumber> = by_id.collect();
    numbers.extend((0..).zip(&ids).map(|(number, id)| (id.clone(), number)));
    Some(PlanMesh { ids, numbers, topology, demands: None, generation: found.generation })
}

fn metrics(metrics: &v1::TopologyMetrics) -> LinkMetrics {
    let mbps = f64::from(metrics.bandwidth_kbps) / 1e3;
    LinkMetrics {
        latency_us: metrics.latency_us,
        bandwidth_mbps: (metrics.bandwidth_kbps > 0).then_some(mbps),
        loss: f64::from(metrics.loss_ppm) / 1e6,
        utilization: f64::from(metrics.utilization_permille) / 1e3,
        admin: metrics.admin,
    }
}
