//! The mesh as a whole, as the API's messages: coverage, topology, drills.

use std::sync::Arc;
use std::time::Duration;

use hawser_plane::{CoverageView, DrillView, LinkMetrics, NodeRef, RoutesView, TopologyNodeView};
use hawser_proto::v1;
use hawser_wire::TrafficClass;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::route_status::{digest_text, route_node};

/// The coverage of all nodes is computed for no more than so many: it takes about as long as all their
/// tables of best paths, some seconds here.
const SURVEYED_MAX: usize = 2000;
/// Destinations that are listed in one answer; those beyond are counted.
const LISTED_MAX: usize = 20_000;

/// The right to survey the whole mesh, until it is dropped: each survey takes a processor for seconds.
///
/// # Errors
/// Resource exhausted, while no further survey may be computed.
pub(crate) fn survey_turn(surveys: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(surveys).try_acquire_owned().map_err(|_none_left| {
        Status::resource_exhausted(
            "the coverage of all nodes is being computed for another caller: ask again in some \
             seconds, or ask for this node's own",
        )
    })
}

/// How much goes on when a link breaks: of what this node sends, or of what each node sends.
///
/// # Errors
/// A failed precondition, if the mesh is too large for the latter.
pub(crate) fn coverage_report(
    view: &RoutesView,
    class: TrafficClass,
    all_nodes: bool,
) -> Result<v1::CoverageReport, Status> {
    if all_nodes && view.nodes() > SURVEYED_MAX {
        return Err(Status::failed_precondition(format!(
            "the mesh has {} nodes, and the coverage of all is computed for up to {SURVEYED_MAX}: \
             ask a node for its own",
            view.nodes()
        )));
    }
    let only = (!all_nodes).then_some(view.node());
    let mut room = LISTED_MAX;
    let nodes = view.coverage(class, only).into_iter().map(|node| coverage(node, &mut room));
    Ok(v1::CoverageReport {
        generation: view.generation(),
        lsdb_digest: digest_text(view.lsdb_digest()),
        traffic_class: class.name().to_owned(),
        nodes: nodes.collect(),
    })
}

fn coverage(view: CoverageView, room: &mut usize) -> v1::NodeCoverage {
    let unprotected: Vec<_> = view.unprotected.into_iter().take(*room).collect();
    *room = room.saturating_sub(unprotected.len());
    let unreachable_nodes = count(view.unreachable.len());
    let unreachable: Vec<_> = view.unreachable.into_iter().take(*room).collect();
    *room = room.saturating_sub(unreachable.len());
    let at_risk = |(destination, neighbour)| v1::UnprotectedDestination {
        destination: Some(route_node(destination)),
        neighbour: Some(route_node(neighbour)),
    };
    v1::NodeCoverage {
        source: Some(route_node(view.source)),
        destinations: count(view.reachable),
        protected: count(view.protected),
        unreachable_nodes,
        unprotected: unprotected.into_iter().map(at_risk).collect(),
        unreachable: unreachable.into_iter().map(route_node).collect(),
    }
}

/// The mesh that paths are computed from.
pub(crate) fn topology(view: &RoutesView) -> v1::Topology {
    let found = view.topology();
    v1::Topology {
        generation: view.generation(),
        lsdb_digest: digest_text(view.lsdb_digest()),
        nodes: found.nodes.into_iter().map(topology_node).collect(),
        links: found
            .links
            .iter()
            .map(|&(a, b, there, back)| v1::TopologyLink {
                a: place(a),
                b: place(b),
                ab: Some(metrics(there)),
                ba: Some(metrics(back)),
            })
            .collect(),
        weights: found
            .weights
            .into_iter()
            .map(|(class, weights)| v1::ClassWeights {
                traffic_class: class.name().to_owned(),
                latency: weights.latency,
                bandwidth: weights.bandwidth,
                loss: weights.loss,
                utilization: weights.utilization,
                hop: weights.hop,
            })
            .collect(),
    }
}

/// What a drill has found.
pub(crate) fn drill_report(view: DrillView) -> v1::DrillReport {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let DrillView { peer, cut_for, measured } = view;
    v1::DrillReport {
        peer: Some(route_node(peer)),
        cut_us: micros(cut_for),
        pause_us: micros(measured.pause),
        pause_at_return_us: micros(measured.pause_at_return),
        back_after_us: measured.back_after.map(micros),
        probes: count(measured.probes),
        lost: count(measured.lost),
        duplicated: count(measured.duplicated),
    }
}

fn topology_node(view: TopologyNodeView) -> v1::TopologyNode {
    let NodeRef { node, name } = view.node;
    v1::TopologyNode { node_id: node.to_string(), name, stub: view.stub, overload: view.overload }
}

/// As they were announced: in integers, of which the metrics are made.
fn metrics(metrics: LinkMetrics) -> v1::TopologyMetrics {
    // A conversion to an integer saturates.
    let units = |amount: f64, unit: f64| (amount * unit).round() as u32;
    v1::TopologyMetrics {
        latency_us: metrics.latency_us,
        bandwidth_kbps: metrics.bandwidth_mbps.map_or(0, |mbps| units(mbps, 1e3)),
        loss_ppm: units(metrics.loss, 1e6),
        utilization_permille: units(metrics.utilization, 1e3),
        admin: metrics.admin,
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn place(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn the_mesh_is_surveyed_for_one_caller_at_a_time() {
        let surveys = Arc::new(Semaphore::new(1));
        let first = survey_turn(&surveys).unwrap();
        let refused = survey_turn(&surveys).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("another caller"), "{refused}");
        drop(first);
        assert!(survey_turn(&surveys).is_ok());
    }
}
