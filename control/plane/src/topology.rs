//! The map of the mesh: this node's advertisement, shortest paths, route snapshots. What neighbours
//! flood comes in by `link_state`.

use std::sync::Arc;
use std::time::Duration;

use hawser_exchange::ShardReport;
use hawser_routing::{Lsa, LsaFlags, LsdbState, RouteSnapshot};
use hawser_wire::{MonoTime, NodeId};

use crate::EventKind;
use crate::certificates::certificate_hash;
use crate::control::Control;
use crate::directory::has_left;
use crate::path_worker::Task;
use crate::reports::ReportUse;

/// Heartbeats of a link that came up are given so long before its metrics are read.
const METRICS_FIRST: Duration = Duration::from_millis(500);
/// Metrics are read this often.
const METRICS_EVERY: Duration = Duration::from_secs(5);
/// While many advertisements come at once, paths are computed no more often than so.
const ROUTES_EVERY: Duration = Duration::from_millis(50);

impl Control {
    /// The first lane of a link is up.
    pub(crate) fn handle_link_up(&mut self, peer: NodeId) {
        let now = self.now();
        let takes_several = self.takes_several.contains(&peer);
        self.flooding.handle_neighbour_up(now, peer, takes_several);
        self.evictions.handle_neighbour_up(now, peer);
        let sample = now.saturating_add(METRICS_FIRST);
        self.metrics_due = Some(self.metrics_due.map_or(sample, |due| due.min(sample)));
        let admin = self.config.link_admin_of(&self.node_ref(peer));
        if self.adjacencies.handle_link_up(now, peer, admin) {
            self.store.run(
                move |store| store.adjacency_index(peer),
                move |control, index| match index {
                    Ok(index) => {
                        let now = control.now();
                        control.adjacencies.handle_index(now, peer, index);
                    }
                    Err(error) => {
                        let detail = format!("no adjacency index, the link is not used: {error}");
                        control.events.emit(EventKind::Refused, Some(peer), detail);
                    }
                },
            );
        }
    }

    /// The last lane of a link is gone.
    pub(crate) fn handle_link_lost(&mut self, peer: NodeId) {
        let now = self.now();
        self.flooding.handle_neighbour_down(now, peer);
        self.evictions.handle_neighbour_down(peer);
        self.adjacencies.handle_link_down(now, peer);
        self.refused.remove(&peer);
    }

    /// Makes this node's advertisement anew, signed, and floods it.
    pub(crate) fn originate(&mut self) {
        let now = self.now();
        let (incarnation, sequence) = self.flooding.next_version(self.incarnation());
        // Who leaves has no links any more: paths through it end before its lanes do.
        let said = [
            (self.config.stub, LsaFlags::STUB),
            (self.drained, LsaFlags::OVERLOADED),
            (self.leaving.is_some(), LsaFlags::LEFT),
        ];
        let said = said.into_iter().filter(|(so, _)| *so);
        let flags = said.fold(LsaFlags::default(), |flags, (_, flag)| flags.with(flag));
        let (adjacencies, routes) = match self.leaving {
            Some(_) => (Vec::new(), Vec::new()),
            None => (self.adjacencies.told(), self.operator_routes.told(self.node)),
        };
        let Some(mesh) = &self.mesh else { return };
        let certificate = certificate_hash(&mesh.record.certificate);
        let mut lsa = Lsa {
            origin: self.node,
            incarnation,
            sequence,
            public_key: self.key.public_key(),
            certificate,
            flags,
            name: self.config.node_name.clone(),
            address: self.advertised_address().unwrap_or_default(),
            adjacencies,
            routes,
            signature: [0; 64],
        };
        lsa.signature = self.key.sign(&lsa.signed_bytes());
        match self.flooding.originate(now, lsa) {
            Ok(()) => self.lsdb_changed = true,
            Err(error) => tracing::error!(%error, "cannot advertise this node"),
        }
        self.refresh.handle_originated(now);
    }

    /// Where this node's lanes can be dialled.
    pub(crate) fn advertised_address(&self) -> Option<String> {
        self.config.advertise.clone().or_else(|| {
            let address = self.listening.as_ref()?.address;
            (!address.ip().is_unspecified()).then(|| address.to_string())
        })
    }

    /// What is due of the map, in the order of cause and effect.
    pub(crate) fn advance_topology(&mut self) {
        if !self.is_running() {
            return;
        }
        let now = self.now();
        if self.adjacencies.take_due(now) || self.refresh.is_due(now) {
            self.originate();
        }
        self.advance_flooding();
        if self.metrics_due.is_some_and(|due| due <= now) {
            self.metrics_due = Some(now.saturating_add(METRICS_EVERY));
            self.reports.ask(ReportUse::Metrics);
        }
        if self.routes_due().is_some_and(|due| due <= now) {
            self.handle_lsdb_changed();
        }
    }

    /// When paths are to be computed: at once, unless more changes are about to follow.
    pub(crate) fn routes_due(&self) -> Option<MonoTime> {
        let due = if self.checks_wait {
            self.routes_computed.saturating_add(ROUTES_EVERY)
        } else {
            MonoTime::ZERO
        };
        self.lsdb_changed.then_some(due)
    }

    /// The database has changed: paths are to be computed, and who is in the mesh is to be told.
    pub(crate) fn handle_lsdb_changed(&mut self) {
        self.lsdb_changed = false;
        self.routes_computed = self.now();
        let lsdb = self.flooding.lsdb();
        let (mesh, _) = &self.mesh_known;
        let (mesh, lsdb_digest) = (Arc::new(mesh.update(lsdb)), lsdb.digest());
        self.mesh_known = (Arc::clone(&mesh), lsdb_digest);
        self.paths.give(Task::Mesh { lsdb_digest, mesh, adjacencies: self.adjacencies.indices() });
        self.tell_members();
    }

    /// The paths are those of the database as it is: none of a newer one are being computed.
    pub(crate) fn has_present_routes(&self) -> bool {
        let (_, known) = &self.mesh_known;
        !self.lsdb_changed && self.routes.lsdb_digest == *known
    }

    /// Paths were computed. What belongs to a mesh that this node has left in the meantime is
    /// followed by what does not.
    pub(crate) fn handle_routes(&mut self, routes: Arc<RouteSnapshot>) {
        let now = self.now();
        // Shards first: they have messages in their hands.
        self.shards.publish(Arc::clone(&routes));
        self.hops = routes.reachable().collect();
        // Costs move with every metric, and nobody need be told.
        let changed = !routes.has_same_paths(&self.routes);
        self.routes = routes;
        self.announcements.handle_routes_changed(now);
        if changed {
            let (generation, reachable) = (self.routes.generation, self.hops.len());
            let detail = format!("generation {generation}, paths to {reachable} nodes");
            self.events.emit(EventKind::RoutesChanged, None, detail);
        }
    }

    fn tell_members(&mut self) {
        let lsdb = self.flooding.lsdb();
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for (origin, _, is) in lsdb.changes_since(&self.told) {
            match is.filter(|lsa| !has_left(lsa)) {
                Some(lsa) => {
                    if self.known.insert(origin, lsa.name.clone()).is_none() {
                        joined.push((origin, lsa.name.clone()));
                    }
                }
                // The database may not know it any more.
                None => left.extend(self.known.remove_entry(&origin)),
            }
        }
        self.told = lsdb.state();
        for (nodes, kind) in [(joined, EventKind::NodeJoined), (left, EventKind::NodeLeft)] {
            for (node, name) in nodes.into_iter().filter(|&(node, _)| node != self.node) {
                self.events.emit(kind, Some(node), format!("node {name}"));
            }
        }
    }

    /// Takes the metrics of links out of a round of reports.
    pub(crate) fn handle_metrics(&mut self, reports: &[ShardReport]) {
        let now = self.now();
        for link in reports.iter().flat_map(|report| &report.links) {
            self.adjacencies.handle_report(now, link);
        }
    }

    /// Forgets the map; indices stay. Shards get a snapshot without paths.
    pub(crate) fn clear_topology(&mut self) {
        self.flooding = self.flooding.cleared();
        self.evictions.clear_neighbours();
        self.checks_wait = false;
        self.overtaken_told = 0;
        self.adjacencies.clear();
        self.refresh.clear();
        self.metrics_due = None;
        self.known.clear();
        self.told = LsdbState::default();
        self.refused.clear();
        self.refused_via.clear();
        self.dial_back_guard.clear_neighbours();
        self.hops.clear();
        self.mesh_known.0 = Arc::new(self.mesh_known.0.update(self.flooding.lsdb()));
        self.mesh_known.1 = self.flooding.lsdb().digest();
        self.paths.give(Task::Clear);
        self.tell_members();
    }
}
