//! Evicting nodes: decided by the node that holds the mesh's authority until the mesh decides
//! together, flooded, kept, and carried out by every node on its own.

use hawser_exchange::ControlToShard;
use hawser_identity::{MeshAuthority, verify_by_authority};
use hawser_store::{MeshRecord, Store, StoreError};
use hawser_wire::{
    CloseReason, Eviction, EvictionDigest, MeshId, MonoTime, NAME_BYTES_MAX, NodeId, printable,
};

use crate::control::{Control, unix_s};
use crate::directory::resolve_node;
use crate::evictions::EVICTIONS_MAX;
use crate::handle::Answer;
use crate::{EventKind, PlaneError};

/// Records are not sent while more messages than this wait for room in the rings.
const WAITING_MAX: usize = 1024;

impl Control {
    /// Evicts a node, for good: only the node that holds the authority can.
    pub(crate) fn evict_node(&mut self, name: &str, reason: &str, answer: Answer<()>) {
        let (record, known) = match self.prepare_eviction(name, reason) {
            Ok(prepared) => prepared,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let (name, reason, by) = (name.to_owned(), reason.to_owned(), self.node);
        self.store.run(
            move |store| decide(store, &record, known, (&name, &reason), by),
            move |control, decided: Result<Result<Option<Eviction>, PlaneError>, StoreError>| {
                let decided = decided.map_err(PlaneError::from).and_then(|decided| decided);
                let _caller_gone = answer.send(decided.and_then(|eviction| match eviction {
                    Some(eviction) => control.carry_out(eviction, None),
                    None => Ok(()),
                }));
            },
        );
    }

    /// What the decision is made of, and the node if it is known here.
    fn prepare_eviction(
        &self,
        name: &str,
        reason: &str,
    ) -> Result<(MeshRecord, Option<NodeId>), PlaneError> {
        let mesh = self.mesh.as_ref().ok_or(PlaneError::NoMesh)?;
        if self.leaving.is_some() {
            return Err(PlaneError::Leaving);
        }
        if mesh.record.authority_key.is_none() {
            return Err(PlaneError::NoAuthority { mesh: mesh.record.name.clone() });
        }
        if reason.len() > NAME_BYTES_MAX {
            let (what, value) = ("reason", reason.chars().take(64).collect());
            return Err(PlaneError::NameInvalid { what, value, rule: "at most 255 bytes" });
        }
        match resolve_node(self.flooding.lsdb(), self.node, &self.config.node_name, name) {
            Ok(node) if node == self.node => {
                let why =
                    "it holds the mesh's authority, without which nobody is let in or evicted";
                Err(PlaneError::EvictionRefused { node: name.to_owned(), why })
            }
            Ok(node) => Ok((mesh.record.clone(), Some(node))),
            // It may be down for so long that the mesh has forgotten it, or be out already.
            Err(PlaneError::UnknownNode { .. }) => Ok((mesh.record.clone(), None)),
            Err(error) => Err(error),
        }
    }

    /// A neighbour tells of an eviction.
    pub(crate) fn handle_eviction(&mut self, from: NodeId, eviction: Eviction) {
        let now = self.now();
        if !self.evictions.handle_offer(now, from, &eviction) {
            return;
        }
        if self.is_authoritys(&eviction) {
            self.take_eviction(eviction, Some(from));
        } else {
            let why = "an eviction that the mesh's authority has not signed";
            self.tell_refused(from, why.to_owned());
        }
    }

    /// A node that was dialled refuses this one as evicted: true if it has shown that it is so.
    pub(crate) fn handle_refused_as_evicted(&mut self, detail: &str, evidence: &[u8]) -> bool {
        let record = Eviction::decode(evidence).ok();
        match record.filter(|record| record.node == self.node && self.is_authoritys(record)) {
            Some(eviction) => {
                self.take_eviction(eviction, None);
                true
            }
            None => {
                self.refused_as_evicted = Some(printable(detail));
                false
            }
        }
    }

    /// The authority of this node's mesh has signed it.
    fn is_authoritys(&self, eviction: &Eviction) -> bool {
        self.mesh.as_ref().is_some_and(|mesh| {
            let (bytes, signature) = (eviction.signed_bytes(), &eviction.signature);
            eviction.mesh == mesh.record.mesh
                && verify_by_authority(&mesh.record.authority, &bytes, signature)
        })
    }

    /// Carries out what the authority has decided, and keeps it.
    fn take_eviction(&mut self, eviction: Eviction, from: Option<NodeId>) {
        let (node, record) = (eviction.node, encoded(&eviction));
        // What it means holds from now on, kept or not: neighbours tell it again.
        if self.carry_out(eviction, from).is_err() {
            return;
        }
        self.store.run(
            move |store| store.put_eviction(node, &record),
            |control, stored| {
                if let Err(error) = stored {
                    let detail = format!("an eviction is not kept over a restart: {error}");
                    control.events.emit(EventKind::Refused, None, detail);
                }
            },
        );
    }

    /// A neighbour says how many evictions it knows.
    pub(crate) fn handle_eviction_digest(&mut self, from: NodeId, digest: EvictionDigest) {
        let now = self.now();
        self.evictions.handle_digest(now, from, digest);
    }

    /// Sends what is due of evictions.
    pub(crate) fn advance_evictions(&mut self) {
        let now = self.now();
        while self.shards.waiting() < WAITING_MAX {
            let Some((peer, body)) = self.evictions.poll_transmit(now) else { break };
            let body = body.into();
            let message = ControlToShard::LinkControl { peer, body };
            self.shards.send_to_link(peer, message);
        }
    }

    /// When [`Self::advance_evictions`] has something to do; while the rings are full their room
    /// decides.
    pub(crate) fn evictions_timeout(&self) -> Option<MonoTime> {
        self.evictions.poll_timeout().filter(|_| self.shards.waiting() < WAITING_MAX)
    }

    /// Does what an eviction means here, if it is news.
    ///
    /// # Errors
    /// [`PlaneError::NoMesh`] if this node has left the mesh since it was decided: nothing changes,
    /// for another mesh may be entered next.
    fn carry_out(&mut self, eviction: Eviction, from: Option<NodeId>) -> Result<(), PlaneError> {
        if self.mesh.as_ref().is_none_or(|mesh| mesh.record.mesh != eviction.mesh) {
            return Err(PlaneError::NoMesh);
        }
        let node = eviction.node;
        let told = told(&eviction, |node| self.node_name(node));
        let record = encoded(&eviction);
        if !self.evictions.insert(eviction, from) {
            return Ok(());
        }
        // Who is out hears it with the others, before its lanes close.
        self.advance_evictions();
        self.events.emit(EventKind::NodeEvicted, Some(node), told.clone());
        if node == self.node {
            tracing::error!("this node was evicted from its mesh: {told}");
            self.withdraw();
            return Ok(());
        }
        self.lsdb_changed |= self.flooding.handle_evicted(node);
        self.bar_evicted(node, told, record);
        for old in self.links.evict(node) {
            let (lane, serial, reason) = (old.lane, old.serial, CloseReason::Evicted);
            let close = ControlToShard::CloseLane { peer: node, lane, serial, reason };
            self.shards.send_to_link(node, close);
        }
        Ok(())
    }

    /// Bars who was evicted before: this node takes part in the mesh from now on.
    pub(crate) fn bar_all_evicted(&mut self) {
        let evicted: Vec<_> = self
            .evictions
            .iter()
            .map(|eviction| {
                let told = told(eviction, |node| self.node_name(node));
                (eviction.node, told, encoded(eviction))
            })
            .collect();
        for (node, told, record) in evicted {
            self.bar_evicted(node, told, record);
            let _none_yet = self.links.evict(node);
        }
    }

    fn bar_evicted(&self, node: NodeId, told: String, record: Vec<u8>) {
        if let Some(mesh) = &self.mesh {
            mesh.local.barred.evict(node, told, record.into());
        }
    }

    /// The mesh has evicted this node.
    pub(crate) fn is_evicted(&self) -> bool {
        self.evictions.contains(self.node)
    }
}

/// Decides that a node is out, and keeps it; none if it is out already. Runs on the store's thread.
fn decide(
    store: &Store,
    mesh: &MeshRecord,
    known: Option<NodeId>,
    (name, reason): (&str, &str),
    by: NodeId,
) -> Result<Result<Option<Eviction>, PlaneError>, StoreError> {
    let members = store.members()?;
    let id = known.or_else(|| name.parse().ok());
    let is_meant = |node: NodeId, called: &str| match known {
        Some(known) => node == known,
        None => Some(node) == id || called == name,
    };
    let member = members.iter().find(|member| is_meant(member.node, &member.name));
    let kept = kept_evictions(store, mesh.mesh)?;
    // A name that became free may be another member's by now: members come first.
    let is_out = |eviction: &Eviction| is_meant(eviction.node, &eviction.name);
    if member.is_none() && kept.iter().any(is_out) {
        return Ok(Ok(None));
    }
    let (node, called) = match (member, known) {
        (Some(member), _) => (member.node, member.name.clone()),
        (None, Some(node)) => (node, name.to_owned()),
        (None, None) => {
            let names = members.iter().map(|member| member.name.as_str());
            let nearest = crate::directory::nearest(name, names);
            return Ok(Err(PlaneError::UnknownNode { name: name.to_owned(), nearest }));
        }
    };
    if kept.len() >= EVICTIONS_MAX {
        let why = "as many nodes are evicted as can be";
        return Ok(Err(PlaneError::EvictionRefused { node: name.to_owned(), why }));
    }
    let Some(key) = &mesh.authority_key else {
        return Ok(Err(PlaneError::NoAuthority { mesh: mesh.name.clone() }));
    };
    let authority = match MeshAuthority::from_parts(&mesh.authority, key) {
        Ok(authority) => authority,
        Err(error) => return Ok(Err(error.into())),
    };
    let mut eviction = Eviction {
        mesh: mesh.mesh,
        node,
        by,
        evicted_unix_s: unix_s(),
        name: called,
        reason: reason.to_owned(),
        signature: [0; 64],
    };
    eviction.signature = authority.sign(&eviction.signed_bytes());
    store.put_eviction(node, &encoded(&eviction))?;
    Ok(Ok(Some(eviction)))
}

/// The evictions of a mesh that the store has. Runs on the store's thread.
pub(crate) fn kept_evictions(store: &Store, mesh: MeshId) -> Result<Vec<Eviction>, StoreError> {
    let kept = store.evictions()?;
    let decoded = kept.iter().filter_map(|(_, record)| Eviction::decode(record).ok());
    Ok(decoded.filter(|eviction| eviction.mesh == mesh).collect())
}

fn encoded(eviction: &Eviction) -> Vec<u8> {
    let mut record = Vec::new();
    eviction.encode(&mut record);
    record
}

/// For people: who is out, by whom, why.
fn told(eviction: &Eviction, name: impl Fn(NodeId) -> String) -> String {
    let reason = printable(&eviction.reason);
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("node {} was evicted by {}{why}", printable(&eviction.name), name(eviction.by))
}
