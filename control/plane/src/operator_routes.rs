//! Paths that operators have set for what this node sends: checked, kept, announced.
//!
//! Until the mesh decides on them together, each node announces its own, in its advertisement, and
//! steers nothing but its own traffic.

use std::collections::BTreeMap;
use std::time::Duration;

use hawser_routing::{MeshTopology, OPERATOR_ROUTES_MAX, OperatorRoute, VIA_MAX};
use hawser_wire::{MonoTime, NodeId};

use crate::PlaneError;
use crate::control::Control;
use crate::directory::resolve_node;
use crate::handle::Answer;

/// Nobody waits longer than this for a path that was set or dropped to be so.
const PATIENCE: Duration = Duration::from_secs(5);
/// Neighbours that are named to who asked for a link that there is not.
const NEIGHBOURS_SHOWN: usize = 16;

/// The paths, and who waits for them.
#[derive(Debug, Default)]
pub(crate) struct OperatorRoutes {
    /// The nodes between, by the node that a path leads to. A new one is here while it is on its way
    /// to the store, one that goes until it is gone from there.
    routes: BTreeMap<NodeId, Vec<NodeId>>,
    /// Calls that changed something, until paths are computed with it, and how long at most.
    waiting: Vec<(MonoTime, Answer<u64>)>,
}

impl OperatorRoutes {
    /// Those that the store has.
    pub(crate) fn new(kept: Vec<(NodeId, Vec<NodeId>)>) -> Self {
        Self { routes: kept.into_iter().collect(), waiting: Vec::new() }
    }

    /// As `node` advertises them.
    pub(crate) fn told(&self, node: NodeId) -> Vec<OperatorRoute> {
        let told = |(&to, via): (&NodeId, &Vec<NodeId>)| OperatorRoute {
            from: node,
            to,
            via: via.clone(),
        };
        self.routes.iter().map(told).collect()
    }

    /// Forgets all of them: this node leaves the mesh.
    pub(crate) fn clear(&mut self) {
        self.routes.clear();
    }

    /// When the first of those who wait has waited long enough.
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.waiting.iter().map(|(deadline, _)| *deadline).min()
    }
}

impl Control {
    /// Sets a path, durably, and has it announced.
    pub(crate) fn add_route(
        &mut self,
        from: Option<&str>,
        to: &str,
        via: &[String],
        answer: Answer<u64>,
    ) {
        let (to, via) = match self.prepare_route(from, to, via) {
            Ok(prepared) => prepared,
            Err(error) => return drop(answer.send(Err(error))),
        };
        self.operator_routes.routes.insert(to, via.clone());
        self.store.run(
            move |store| store.put_operator_route(to, &via),
            move |control, stored| match stored {
                Ok(()) => control.announce_routes(answer),
                Err(error) => {
                    control.operator_routes.routes.remove(&to);
                    // It may have been announced on its way to the store.
                    control.originate_routes();
                    let _caller_gone = answer.send(Err(error.into()));
                }
            },
        );
    }

    /// Drops a path, durably.
    pub(crate) fn drop_route(&mut self, from: Option<&str>, to: &str, answer: Answer<u64>) {
        let to = match self.find_route(from, to) {
            Ok(to) => to,
            Err(error) => return drop(answer.send(Err(error))),
        };
        self.store.run(
            move |store| store.remove_operator_route(to),
            move |control, stored| match stored {
                Ok(true) => {
                    control.operator_routes.routes.remove(&to);
                    control.announce_routes(answer);
                }
                // Another call was first.
                Ok(false) => drop(answer.send(Err(control.no_route(control.called(to))))),
                Err(error) => drop(answer.send(Err(error.into()))),
            },
        );
    }

    /// Where a path is to lead, and the nodes between, if it is one that can be taken now but for nodes
    /// that are drained or stubs.
    fn prepare_route(
        &self,
        from: Option<&str>,
        to: &str,
        via: &[String],
    ) -> Result<(NodeId, Vec<NodeId>), PlaneError> {
        let mesh = self.mesh.as_ref().ok_or(PlaneError::NoMesh)?;
        if mesh.record.stopped {
            return Err(PlaneError::MeshStopped);
        }
        if self.leaving.is_some() {
            return Err(PlaneError::Leaving);
        }
        self.check_begin(from)?;
        let resolve = |name: &str| {
            resolve_node(self.flooding.lsdb(), self.node, &self.config.node_name, name)
        };
        let destination = resolve(to)?;
        let invalid = |what, value: &str, rule| {
            Err(PlaneError::NameInvalid { what, value: value.to_owned(), rule })
        };
        if destination == self.node {
            return invalid("destination", to, "a route leads to another node");
        }
        if via.len() > VIA_MAX {
            let rule = "a route has at most 63 nodes between its ends";
            return invalid("count of nodes", &via.len().to_string(), rule);
        }
        let mut nodes = Vec::new();
        for name in via {
            let node = resolve(name)?;
            if node == self.node || node == destination || nodes.contains(&node) {
                let rule = "a route names each node once, and between its ends neither of them";
                return invalid("node", name, rule);
            }
            nodes.push(node);
        }
        if let Some(set) = self.operator_routes.routes.get(&destination) {
            let path = match set.as_slice() {
                [] => "over the link to it".to_owned(),
                set => {
                    let names: Vec<String> = set.iter().map(|&node| self.called(node)).collect();
                    format!("by {}", names.join(", "))
                }
            };
            return Err(PlaneError::RouteExists { to: self.called(destination), path });
        }
        if self.operator_routes.routes.len() >= OPERATOR_ROUTES_MAX {
            return Err(PlaneError::TooMany { what: "operator routes", max: OPERATOR_ROUTES_MAX });
        }
        self.check_links(&nodes, destination)?;
        Ok((destination, nodes))
    }

    /// Each node has a link to the next one.
    pub(crate) fn check_links(&self, via: &[NodeId], to: NodeId) -> Result<(), PlaneError> {
        let (mesh, _) = &self.mesh_known;
        let mut at = self.node;
        for &next in via.iter().chain([&to]) {
            if !has_link(mesh, at, next) {
                let neighbours = mesh.ids().iter().filter(|&&other| has_link(mesh, at, other));
                let neighbours = neighbours.take(NEIGHBOURS_SHOWN).map(|&node| self.called(node));
                return Err(PlaneError::NoLink {
                    from: self.called(at),
                    to: self.called(next),
                    neighbours: neighbours.collect(),
                });
            }
            at = next;
        }
        Ok(())
    }

    /// A path begins here, or it is another node's.
    fn check_begin(&self, from: Option<&str>) -> Result<(), PlaneError> {
        let Some(from) = from else { return Ok(()) };
        let lsdb = self.flooding.lsdb();
        let node = resolve_node(lsdb, self.node, &self.config.node_name, from)?;
        if node == self.node {
            return Ok(());
        }
        Err(PlaneError::RouteOfOther { node: self.called(node) })
    }

    /// Where the path leads that is set to the node called `to`. It may have left the mesh, and then
    /// has only its id.
    fn find_route(&self, from: Option<&str>, to: &str) -> Result<NodeId, PlaneError> {
        if self.mesh.is_none() {
            return Err(PlaneError::NoMesh);
        }
        self.check_begin(from)?;
        let is_set = |node: &NodeId| self.operator_routes.routes.contains_key(node);
        if let Some(node) = to.parse().ok().filter(is_set) {
            return Ok(node);
        }
        let lsdb = self.flooding.lsdb();
        let node = resolve_node(lsdb, self.node, &self.config.node_name, to)?;
        if is_set(&node) { Ok(node) } else { Err(self.no_route(to.to_owned())) }
    }

    fn no_route(&self, to: String) -> PlaneError {
        let others = self.operator_routes.routes.keys().map(|&node| self.called(node));
        PlaneError::NoRoute { to, others: others.collect() }
    }

    /// Tells the mesh; the call is answered once paths are computed with the change.
    fn announce_routes(&mut self, answer: Answer<u64>) {
        self.originate_routes();
        let deadline = self.now().saturating_add(PATIENCE);
        self.operator_routes.waiting.push((deadline, answer));
    }

    fn originate_routes(&mut self) {
        if self.is_running() && self.leaving.is_none() {
            self.originate();
        }
    }

    /// The paths are announced as they are set.
    fn are_announced(&self) -> bool {
        let own = self.flooding.lsdb().get(self.node);
        own.is_some_and(|lsa| lsa.routes == self.operator_routes.told(self.node))
    }

    /// Answers calls whose change is in force, or late: it will be, then.
    pub(crate) fn answer_route_changes(&mut self) {
        if self.operator_routes.waiting.is_empty() {
            return;
        }
        let (now, generation) = (self.now(), self.routes.generation);
        let in_force = !self.is_running() || (self.are_announced() && self.has_present_routes());
        let waiting = &mut self.operator_routes.waiting;
        for (_, answer) in waiting.extract_if(.., |(deadline, _)| in_force || *deadline <= now) {
            let _caller_gone = answer.send(Ok(generation));
        }
    }

    /// A node's name, or its id if it has none that is known.
    pub(crate) fn called(&self, node: NodeId) -> String {
        let name = self.node_ref(node).name;
        if name.is_empty() { node.to_string() } else { name }
    }
}

fn has_link(mesh: &MeshTopology, from: NodeId, to: NodeId) -> bool {
    let ends = mesh.number(from).zip(mesh.number(to));
    ends.is_some_and(|(from, to)| mesh.index(from, to).is_some())
}
