//! Who is alive: drives the membership machine over routed paths.
//!
//! Who is a member says the link-state database; the machine only asks whether they live. What it
//! finds is shown and told, and no route depends on it.

use std::collections::BTreeSet;

use hawser_membership::{Config, Event, Liveness, Membership, RejectReason, Version};
use hawser_routing::Lsdb;
use hawser_wire::{MonoTime, NodeId};

use crate::EventKind;
use crate::control::{Control, entropy};
use crate::datagram::membership_envelope;
use crate::directory::members;

/// Probes are not sent while more messages than this wait for room in the rings. They count as
/// lost; that this node is slow is for the machine to find out.
const WAITING_MAX: usize = 1024;

/// The machine, and what it was told of the mesh.
pub(crate) struct LivenessWatch {
    machine: Membership,
    /// The run that it belongs to, see [`Control::run`].
    run: u64,
    /// Of the database that `admitted` was read from.
    digest: u64,
    admitted: BTreeSet<NodeId>,
    /// Members whose messages make no sense; said once of each.
    refused: BTreeSet<NodeId>,
}

impl LivenessWatch {
    /// What is known of a member's life.
    pub(crate) fn member(&self, node: NodeId) -> Option<(Liveness, Version)> {
        self.machine.member(node)
    }

    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.machine.poll_timeout()
    }

    /// Brings the machine's members up to the database, if that has changed. `local` is this node.
    fn follow(&mut self, now: MonoTime, local: NodeId, lsdb: &Lsdb) {
        if std::mem::replace(&mut self.digest, lsdb.digest()) == lsdb.digest() {
            return;
        }
        // Who is gone makes room for who has come; nothing is kept of it.
        let present: BTreeSet<NodeId> = members(lsdb).map(|lsa| lsa.origin).collect();
        for &gone in self.admitted.difference(&present) {
            self.machine.dismiss(now, gone);
        }
        let mut admitted = BTreeSet::new();
        for lsa in members(lsdb).filter(|lsa| lsa.origin != local) {
            match self.machine.admit(now, lsa.origin, lsa.incarnation) {
                Ok(()) => drop(admitted.insert(lsa.origin)),
                Err(full) => tracing::warn!(node = %lsa.origin, "not probed: {full}"),
            }
        }
        self.refused.retain(|node| admitted.contains(node));
        self.admitted = admitted;
    }
}

impl Control {
    /// Does what is due of membership, and says what has changed.
    pub(crate) fn advance_liveness(&mut self) {
        let run = self.run;
        if !self.is_running() {
            self.liveness = None;
            return;
        }
        let now = self.now();
        let mut watch = match self.liveness.take_if(|watch| watch.run == run) {
            Some(watch) => watch,
            None => self.watch_liveness(now),
        };
        watch.follow(now, self.node, self.flooding.lsdb());
        if self.leaving.is_some() {
            watch.machine.leave(now);
        }
        if watch.machine.poll_timeout().is_some_and(|due| due <= now) {
            watch.machine.handle_timeout(now);
        }
        while let Some((to, message)) = watch.machine.poll_transmit() {
            if self.shards.waiting() < WAITING_MAX {
                self.send_datagram_body(to, membership_envelope(&message));
            }
        }
        while let Some(event) = watch.machine.poll_event() {
            self.tell_liveness(&event);
        }
        self.liveness = Some(watch);
    }

    fn watch_liveness(&self, now: MonoTime) -> LivenessWatch {
        let config = Config::every(self.config.probe_interval);
        let machine = Membership::new(now, self.node, self.incarnation(), config, entropy());
        let (admitted, refused) = (BTreeSet::new(), BTreeSet::new());
        LivenessWatch { machine, run: self.run, digest: 0, admitted, refused }
    }

    fn tell_liveness(&mut self, event: &Event) {
        let kind = match event.liveness {
            Liveness::Alive => EventKind::NodeAlive,
            Liveness::Suspect => EventKind::NodeSuspected,
            Liveness::Dead => EventKind::NodeFailed,
            // That is told when its last advertisement comes.
            Liveness::Left => return,
        };
        let name = self.node_name(event.node);
        let (life, before) = (event.version.incarnation, event.before.name());
        let detail = format!("node {name}, incarnation {life}, was {before}");
        self.events.emit(kind, Some(event.node), detail);
    }

    /// How often what members' machines say was not taken in this mesh, by reason.
    pub(crate) fn membership_rejects(&self) -> Vec<(&'static str, u64)> {
        let machine = self.liveness.as_ref().map(|watch| &watch.machine);
        machine.map(|machine| machine.rejected().iter().collect()).unwrap_or_default()
    }

    /// A member's machine says something.
    pub(crate) fn handle_membership(&mut self, from: NodeId, message: &[u8]) {
        let now = self.now();
        let Some(watch) = &mut self.liveness else { return };
        match watch.machine.handle_message(now, from, message) {
            Ok(()) => {}
            Err(reason @ (RejectReason::Malformed(_) | RejectReason::FarAhead { .. }))
                if watch.admitted.contains(&from) && watch.refused.insert(from) =>
            {
                self.events.emit(EventKind::Refused, Some(from), reason.to_string());
            }
            // They come late, or again, or from who has just left: counted by the machine.
            Err(reason) => tracing::debug!(%from, %reason, "membership message refused"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hawser_membership::MEMBERS_MAX;
    use hawser_routing::{CertificateHash, Lsa, LsaFlags};
    use hawser_wire::Incarnation;

    use super::*;

    fn node(number: usize) -> NodeId {
        NodeId::from_bytes(u128::try_from(number).unwrap().to_be_bytes())
    }

    fn say(lsdb: &mut Lsdb, number: usize, sequence: u64, flags: LsaFlags) {
        let _newest = lsdb.insert(Lsa {
            origin: node(number),
            incarnation: Incarnation(1),
            sequence,
            name: String::new(),
            address: String::new(),
            public_key: [0; 32],
            certificate: CertificateHash::default(),
            flags,
            adjacencies: Vec::new(),
            routes: Vec::new(),
            signature: [0; 64],
        });
    }

    #[test]
    fn at_the_bound_who_leaves_makes_room_for_who_comes_in_the_same_change() {
        let (now, local) = (MonoTime::ZERO, node(0));
        let config = Config::every(Duration::from_secs(1));
        let mut watch = LivenessWatch {
            machine: Membership::new(now, local, Incarnation(1), config, 1),
            run: 1,
            digest: 0,
            admitted: BTreeSet::new(),
            refused: BTreeSet::new(),
        };
        let mut lsdb = Lsdb::new();
        // As many as there is room for, with this node.
        for number in 1..MEMBERS_MAX {
            say(&mut lsdb, number, 1, LsaFlags::default());
        }
        watch.follow(now, local, &lsdb);
        assert_eq!(watch.admitted.len(), MEMBERS_MAX - 1);
        say(&mut lsdb, 7, 2, LsaFlags::LEFT);
        let newcomer = node(MEMBERS_MAX);
        say(&mut lsdb, MEMBERS_MAX, 1, LsaFlags::default());
        watch.follow(now, local, &lsdb);
        assert!(watch.member(newcomer).is_some(), "{} members", watch.admitted.len());
        assert!(watch.member(node(7)).is_none());
        assert_eq!(watch.admitted.len(), MEMBERS_MAX - 1);
    }
}
