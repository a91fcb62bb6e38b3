//! The map of the mesh: this node's advertisement, flooding, shortest paths, route snapshots.

use std::sync::Arc;
use std::time::Duration;

use hawser_admission::check_address;
use hawser_exchange::{ControlToShard, ShardReport};
use hawser_identity::{check_node_name, node_id, verify};
use hawser_routing::{Flooding, Lsa, LsaFlags, MeshTopology, RejectReason, RouteSnapshot, Weights};
use hawser_wire::{MonoTime, NodeId, TrafficClass};

use crate::EventKind;
use crate::control::Control;
use crate::datagram::{LinkMessage, flooding_envelope};
use crate::directory::members;
use crate::path_worker::Task;
use crate::reports::ReportUse;

/// Flooding waits while more messages than this wait for room in the rings.
const WAITING_MAX: usize = 1024;
/// An advertisement is made anew after so long, even without a change.
const REFRESH: Duration = Duration::from_secs(30 * 60);
/// Heartbeats of a link that came up are given so long before its latency is read.
const LATENCY_FIRST: Duration = Duration::from_millis(500);
/// Latencies are read this often.
const LATENCY_EVERY: Duration = Duration::from_secs(10);

impl Control {
    /// The first lane of a link is up.
    pub(crate) fn handle_link_up(&mut self, peer: NodeId) {
        let now = self.now();
        self.flooding.handle_neighbour_up(now, peer);
        let sample = now.saturating_add(LATENCY_FIRST);
        self.latencies_due = Some(self.latencies_due.map_or(sample, |due| due.min(sample)));
        if self.adjacencies.handle_link_up(now, peer) {
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

    /// What a neighbour floods is not taken. It repeats it every second: said once, then counted.
    fn refuse_link_state(&mut self, from: NodeId, why: String) {
        let (count, last) = self.refused_link_state.entry(from).or_default();
        *count = count.saturating_add(1);
        if *last == why {
            tracing::debug!(%from, why, count, "link state refused again");
        } else {
            last.clone_from(&why);
            self.events.emit(EventKind::Refused, Some(from), why);
        }
    }

    /// The last lane of a link is gone.
    pub(crate) fn handle_link_lost(&mut self, peer: NodeId) {
        let now = self.now();
        self.flooding.handle_neighbour_down(now, peer);
        self.adjacencies.handle_link_down(now, peer);
        self.refused_link_state.remove(&peer);
    }

    /// A neighbour's control plane says something.
    pub(crate) fn handle_link_control(&mut self, from: NodeId, body: &[u8]) {
        match LinkMessage::decode(body) {
            Ok(Some(LinkMessage::Flooding(message))) => self.handle_flooding(from, message),
            Ok(Some(LinkMessage::DialBack(request))) => self.handle_dial_back(from, &request),
            Ok(None) => tracing::debug!(%from, "link message of unknown kind"),
            Err(error) => self.refuse_link_state(from, format!("link message: {error}")),
        }
    }

    fn handle_flooding(&mut self, from: NodeId, message: &[u8]) {
        let (now, local) = (self.now(), self.node);
        let mut fault = None;
        let mut verify = |lsa: &Lsa| {
            fault = check_word(lsa, local).err();
            fault.is_none()
        };
        match self.flooding.handle_message(now, from, message, &mut verify) {
            Ok(changed) => self.lsdb_changed |= changed,
            Err(reason @ (RejectReason::NotNeighbour { .. } | RejectReason::UnknownKind(_))) => {
                tracing::debug!(%from, %reason, "flooding message skipped");
            }
            Err(reason) => {
                let why = match (reason, fault) {
                    (RejectReason::Unverified { origin }, Some(fault)) => {
                        format!("link-state advertisement of {origin}: {fault}")
                    }
                    _ => reason.to_string(),
                };
                self.refuse_link_state(from, why);
            }
        }
        if self.flooding.must_originate() {
            self.adjacencies.gather(now);
        }
    }

    /// Makes this node's advertisement anew, signed, and floods it.
    pub(crate) fn originate(&mut self) {
        let now = self.now();
        let (incarnation, sequence) = self.flooding.next_version(self.incarnation());
        // Who leaves has no links any more: paths through it end before its lanes do.
        let (flags, adjacencies) = match self.leaving {
            Some(_) => (LsaFlags::LEFT, Vec::new()),
            None => (LsaFlags::default(), self.adjacencies.told()),
        };
        let mut lsa = Lsa {
            origin: self.node,
            incarnation,
            sequence,
            name: self.config.node_name.clone(),
            address: self.advertised_address().unwrap_or_default(),
            public_key: self.key.public_key(),
            flags,
            adjacencies,
            signature: [0; 64],
        };
        lsa.signature = self.key.sign(&lsa.signed_bytes());
        match self.flooding.originate(now, lsa) {
            Ok(()) => self.lsdb_changed = true,
            Err(error) => tracing::error!(%error, "cannot advertise this node"),
        }
        self.refresh_due = Some(now.saturating_add(REFRESH));
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
        let refresh = self.refresh_due.is_some_and(|due| due <= now);
        if self.adjacencies.take_due(now) || refresh {
            self.originate();
        }
        if self.flooding.poll_timeout().is_some_and(|due| due <= now) {
            self.flooding.handle_timeout(now);
        }
        self.transmit_flooding();
        if self.latencies_due.is_some_and(|due| due <= now) {
            self.latencies_due = Some(now.saturating_add(LATENCY_EVERY));
            self.reports.ask(ReportUse::Latencies);
        }
        if std::mem::take(&mut self.lsdb_changed) {
            self.handle_lsdb_changed();
        }
    }

    /// When flooding has something to do; while the rings are full their room decides.
    pub(crate) fn flooding_timeout(&self) -> Option<MonoTime> {
        self.flooding.poll_timeout().filter(|_| self.shards.waiting() < WAITING_MAX)
    }

    fn transmit_flooding(&mut self) {
        while self.shards.waiting() < WAITING_MAX {
            let Some((peer, message)) = self.flooding.poll_transmit() else { break };
            let body = flooding_envelope(&message).into();
            self.shards.send_to_link(peer, ControlToShard::LinkControl { peer, body });
        }
    }

    /// The database has changed: paths are to be computed, and who is in the mesh is to be told.
    fn handle_lsdb_changed(&mut self) {
        let lsdb = self.flooding.lsdb();
        let weights = [Weights::default(); TrafficClass::ALL.len()];
        self.paths.give(Task::Mesh {
            lsdb_digest: lsdb.digest(),
            mesh: Arc::new(MeshTopology::new(lsdb, self.node, weights)),
            adjacencies: self.adjacencies.indices(),
        });
        self.tell_members();
    }

    /// Paths were computed. What belongs to a mesh that this node has left in the meantime is
    /// followed by what does not.
    pub(crate) fn handle_routes(&mut self, routes: Arc<RouteSnapshot>) {
        let now = self.now();
        self.hops = routes.reachable().collect();
        self.routes = routes;
        self.shards.publish(Arc::clone(&self.routes));
        self.announcements.handle_routes_changed(now);
        let (generation, reachable) = (self.routes.generation, self.hops.len());
        let detail = format!("generation {generation}, paths to {reachable} nodes");
        self.events.emit(EventKind::RoutesChanged, None, detail);
    }

    fn tell_members(&mut self) {
        let members: std::collections::BTreeSet<NodeId> =
            members(self.flooding.lsdb()).map(|lsa| lsa.origin).collect();
        let joined: Vec<_> = members.difference(&self.known).copied().collect();
        let left: Vec<_> = self.known.difference(&members).copied().collect();
        self.known = members;
        for (nodes, kind) in [(joined, EventKind::NodeJoined), (left, EventKind::NodeLeft)] {
            for node in nodes.into_iter().filter(|&node| node != self.node) {
                let name = self.flooding.lsdb().get(node).map_or("", |lsa| lsa.name.as_str());
                let detail = format!("node {name}");
                self.events.emit(kind, Some(node), detail);
            }
        }
    }

    /// Takes the latencies out of a round of reports.
    pub(crate) fn handle_latencies(&mut self, reports: &[ShardReport]) {
        let now = self.now();
        for link in reports.iter().flat_map(|report| &report.links) {
            self.adjacencies.handle_rtt(now, link.peer, link.rtt);
        }
    }

    /// Forgets the map; indices stay. Shards get a snapshot without paths.
    pub(crate) fn clear_topology(&mut self) {
        self.flooding = Flooding::new(self.node);
        self.adjacencies.clear();
        self.refresh_due = None;
        self.latencies_due = None;
        self.lsdb_changed = false;
        self.known.clear();
        self.refused_link_state.clear();
        self.hops.clear();
        self.paths.give(Task::Clear);
        self.tell_members();
    }
}

/// Whether an advertisement is its origin's own word, and what it says about itself can be shown
/// and dialled. What is out under this node's own name from an earlier life is only overtaken.
///
/// # Errors
/// What is wrong with it, printable.
fn check_word(lsa: &Lsa, local: NodeId) -> Result<(), String> {
    if node_id(&lsa.public_key) != lsa.origin
        || !verify(&lsa.public_key, &lsa.signed_bytes(), &lsa.signature)
    {
        return Err("origin, key and signature do not agree".to_owned());
    }
    if lsa.origin == local {
        return Ok(());
    }
    check_node_name(&lsa.name).map_err(|error| error.to_string())?;
    if !lsa.address.is_empty() {
        check_address(&lsa.address).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hawser_identity::NodeKey;
    use hawser_wire::Incarnation;

    use super::*;

    fn check(key: &NodeKey, local: NodeId, name: &str, address: &str, expected: Option<&str>) {
        let mut lsa = Lsa {
            origin: key.node_id(),
            incarnation: Incarnation(1),
            sequence: 1,
            name: name.to_owned(),
            address: address.to_owned(),
            public_key: key.public_key(),
            flags: LsaFlags::default(),
            adjacencies: Vec::new(),
            signature: [0; 64],
        };
        lsa.signature = key.sign(&lsa.signed_bytes());
        match (check_word(&lsa, local), expected) {
            (Ok(()), None) => {}
            (Err(why), Some(part)) => {
                assert!(why.contains(part), "{why:?} has no {part:?}");
                assert!(!why.contains(char::is_control), "{why:?}");
            }
            (found, _) => panic!("{name:?} {address:?}: {found:?}, expected {expected:?}"),
        }
        lsa.signature[0] ^= 1;
        let why = check_word(&lsa, local).expect_err("forged");
        assert!(why.contains("do not agree"), "{why:?}");
    }

    #[test]
    fn a_word_must_be_its_origins_own_and_printable() {
        let key = NodeKey::generate().expect("key");
        let local = NodeId::from_bytes([0; 16]);
        check(&key, local, "b", "", None);
        check(&key, local, "b", "b.example:7480", None);
        check(&key, local, "", "", Some("empty"));
        check(&key, local, "\x1b[31mb", "", Some("control characters"));
        check(&key, local, "b c", "", Some("only letters"));
        check(&key, local, &"b".repeat(65), "", Some("longer than 64"));
        check(&key, local, "b", "b", Some("no port"));
        check(&key, local, "b", "b\x1b[31m:7480", Some("characters that no host has"));
        check(&key, key.node_id(), "an earlier name of mine", "", None);
    }
}
