//! Routes as the API's messages: the paths in use, and why others are not.

use hawser_plane::{
    CandidateView, K_MAX, NodeRef, ObstacleView, OperatorRouteView, RouteHopView, RouteView,
    RoutesView, VerdictView,
};
use hawser_proto::v1;
use hawser_wire::TrafficClass;
use tonic::Status;

/// Paths that are explained unless the caller wants another number.
const PATHS_DEFAULT: usize = 4;

/// The class that a request names; bulk if it names none.
///
/// # Errors
/// An invalid argument, if there is no such class.
pub(crate) fn class_of(name: &str) -> Result<TrafficClass, Status> {
    if name.is_empty() {
        return Ok(TrafficClass::Bulk);
    }
    TrafficClass::ALL.into_iter().find(|class| class.name() == name).ok_or_else(|| {
        Status::invalid_argument(format!(
            "traffic_class {name:?} is none: there are \"control\", \"priority\" and \"bulk\""
        ))
    })
}

/// The paths that the node uses, to all destinations or to the one that was named.
pub(crate) fn route_list(view: &RoutesView, class: TrafficClass) -> v1::RouteList {
    let only = view.resolved().first().copied();
    let (routes, set) = (view.routes(class, only), view.operator_routes(view.node(), only));
    v1::RouteList {
        generation: view.generation(),
        lsdb_digest: digest_text(view.snapshot_digest()),
        routes: routes.into_iter().map(route_status).collect(),
        complete: view.is_complete(),
        operator_routes: set.into_iter().map(operator_route).collect(),
    }
}

fn operator_route(view: OperatorRouteView) -> v1::OperatorRoute {
    use v1::operator_route::Obstacle;
    let obstacle = view.obstacle.map(|obstacle| match obstacle {
        ObstacleView::NoLink(from, to) => Obstacle::NoLink(v1::RouteLink {
            from: Some(route_node(from)),
            to: Some(route_node(to)),
        }),
        ObstacleView::NoTransit(node) => Obstacle::NoTransit(route_node(node)),
    });
    v1::OperatorRoute {
        destination: view.destination.node.to_string(),
        destination_name: view.destination.name,
        nodes: view.nodes.into_iter().map(route_node).collect(),
        obstacle,
    }
}

fn route_status(view: RouteView) -> v1::RouteStatus {
    v1::RouteStatus {
        destination: view.destination.node.to_string(),
        destination_name: view.destination.name,
        path_id: view.path.0,
        cost: view.cost,
        weight: view.weight,
        disjoint: view.is_disjoint,
        operator: view.is_operators,
        nodes: view.nodes.into_iter().map(route_node).collect(),
    }
}

/// The best paths between the two nodes that were named; `paths` of them, or four if that is 0.
///
/// # Errors
/// An invalid argument, if it is one node, or more paths are wanted than are ever computed.
pub(crate) fn route_explanation(
    view: &RoutesView,
    class: TrafficClass,
    paths: u32,
) -> Result<v1::RouteExplanation, Status> {
    let &[from, to] = view.resolved() else {
        return Err(Status::invalid_argument("two nodes are to be named"));
    };
    if from == to {
        return Err(Status::invalid_argument("source and destination are one node"));
    }
    let paths = match usize::try_from(paths).unwrap_or(usize::MAX) {
        0 => PATHS_DEFAULT,
        paths if paths <= K_MAX => paths,
        paths => {
            let why = format!("paths is {paths}; at most {K_MAX} are computed");
            return Err(Status::invalid_argument(why));
        }
    };
    Ok(v1::RouteExplanation {
        generation: view.generation(),
        lsdb_digest: digest_text(view.lsdb_digest()),
        traffic_class: class.name().to_owned(),
        candidates: view.explain(class, (from, to), paths).into_iter().map(candidate).collect(),
        operator_route: view.operator_routes(from, Some(to)).pop().map(operator_route),
    })
}

fn candidate(view: CandidateView) -> v1::RouteCandidate {
    let (verdict, by, no_transit) = match view.verdict {
        VerdictView::Operator => ("operator", 0, None),
        VerdictView::Overruled => ("overruled", 0, None),
        VerdictView::Best => ("best", 0, None),
        VerdictView::Dearer(by) => ("dearer", by, None),
        VerdictView::Longer(by) => ("longer", by, None),
        VerdictView::Later => ("later", 0, None),
        VerdictView::NoTransit(node) => ("no-transit", 0, Some(route_node(node))),
    };
    v1::RouteCandidate {
        cost: view.cost,
        verdict: verdict.to_owned(),
        by,
        no_transit,
        hops: view.hops.into_iter().map(route_hop).collect(),
        path_id: view.used.map(|(path, _)| path.0),
        weight: view.used.map(|(_, weight)| weight),
    }
}

fn route_hop(view: RouteHopView) -> v1::RouteHop {
    let RouteHopView { from, to, terms } = view;
    v1::RouteHop {
        from: Some(route_node(from)),
        to: Some(route_node(to)),
        latency_cost: terms.latency,
        bandwidth_cost: terms.bandwidth,
        loss_cost: terms.loss,
        hop_cost: terms.hop,
        cost: terms.total(),
    }
}

pub(crate) fn route_node(node: NodeRef) -> v1::RouteNode {
    v1::RouteNode { node_id: node.node.to_string(), name: node.name }
}

pub(crate) fn digest_text(digest: u64) -> String {
    format!("{digest:016x}")
}
