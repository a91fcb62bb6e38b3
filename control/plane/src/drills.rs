//! Drills: the link is cut, traffic to its far end is measured, the link is restored.

use std::time::Duration;

use hawser_exchange::ControlToShard;
use hawser_wire::{CloseReason, DrillProbe, MonoTime, NodeId, TrafficClass};

use crate::control::Control;
use crate::datagram::Datagram;
use crate::directory::resolve_node;
use crate::drill::{Drill, DrillMeasured, Step};
use crate::handle::Answer;
use crate::{NodeRef, PlaneError};

/// The longest cut.
const CUT_MAX: Duration = Duration::from_secs(60);
/// Probes are not sent, and not sent back, while more messages than this wait for room in the rings. They
/// count as lost.
const WAITING_MAX: usize = 1024;
/// Destinations that are named to who would cut them off.
const NAMED_MAX: usize = 8;

/// What a drill has found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DrillView {
    /// The far end of the link.
    pub peer: NodeRef,
    /// How long it was cut.
    pub cut_for: Duration,
    /// What came of it.
    pub measured: DrillMeasured,
}

/// The drill that runs, and the last one's number.
#[derive(Debug, Default)]
pub(crate) struct Drills {
    running: Option<Running>,
    number_last: u64,
}

#[derive(Debug)]
struct Running {
    drill: Drill,
    cut_for: Duration,
    /// Also if something has no backup.
    force: bool,
    answer: Answer<DrillView>,
}

impl Drills {
    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.running.as_ref().map(|running| running.drill.poll_timeout())
    }
}

impl Control {
    /// Begins a drill of the link between two nodes, of which this is one.
    pub(crate) fn start_drill(
        &mut self,
        ends: [&str; 2],
        cut_for: Duration,
        force: bool,
        answer: Answer<DrillView>,
    ) {
        match self.prepare_drill(ends, cut_for, force) {
            Ok(peer) => {
                let now = self.now();
                self.drills.number_last = self.drills.number_last.saturating_add(1);
                let drill = Drill::new(now, self.drills.number_last, peer, cut_for);
                self.drills.running = Some(Running { drill, cut_for, force, answer });
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// The far end of the link, if it can be cut.
    fn prepare_drill(
        &self,
        ends: [&str; 2],
        cut_for: Duration,
        force: bool,
    ) -> Result<NodeId, PlaneError> {
        let mesh = self.mesh.as_ref().ok_or(PlaneError::NoMesh)?;
        if mesh.record.stopped {
            return Err(PlaneError::MeshStopped);
        }
        if self.leaving.is_some() {
            return Err(PlaneError::Leaving);
        }
        let resolve = |name: &str| {
            resolve_node(self.flooding.lsdb(), self.node, &self.config.node_name, name)
        };
        let [a, b] = [resolve(ends[0])?, resolve(ends[1])?];
        let [a_name, b_name] = [a, b].map(|node| self.called(node));
        let peer = match self.node {
            _ if a == b => {
                let rule = "a link has two ends";
                return Err(PlaneError::NameInvalid {
                    what: "link to itself,",
                    value: a_name,
                    rule,
                });
            }
            node if node == a => b,
            node if node == b => a,
            _ => return Err(PlaneError::NotLinkEnd { a: a_name, b: b_name }),
        };
        if cut_for.is_zero() || cut_for > CUT_MAX {
            let (what, value) = ("cut of", format!("{} ms", cut_for.as_millis()));
            let rule = "from 1 to 60000 ms";
            return Err(PlaneError::NameInvalid { what, value, rule });
        }
        self.check_links(&[], peer)?;
        let cut = match &self.drills.running {
            Some(running) => {
                let of = self.called(running.drill.peer());
                Err(format!("a drill of the link to {of} runs"))
            }
            None => self.check_cut(peer, force),
        };
        match cut {
            Ok(()) => Ok(peer),
            Err(why) => Err(PlaneError::DrillRefused { a: a_name, b: b_name, why }),
        }
    }

    /// Whether the link to `peer` can be cut now; why not, else.
    fn check_cut(&self, peer: NodeId, force: bool) -> Result<(), String> {
        if self.leaving.is_some() {
            return Err("this node is leaving the mesh".to_owned());
        }
        if !self.links.is_link_up(peer) {
            return Err("it is down".to_owned());
        }
        let begins_there = |class: TrafficClass, to: NodeId| {
            let first = self.routes.routes_to(class, to)?.routes().first()?.nodes.first()?;
            (*first == peer).then_some(())
        };
        if begins_there(TrafficClass::Control, peer).is_none() {
            return Err("what this node sends there takes another way now".to_owned());
        }
        if force {
            return Ok(());
        }
        let alone = self.hops.keys().copied().filter(|&to| {
            TrafficClass::ALL.into_iter().any(|class| {
                let backup = || self.routes.backup(class, peer, to);
                begins_there(class, to).is_some() && backup().is_none()
            })
        });
        let alone: Vec<String> = alone.take(NAMED_MAX).map(|to| self.called(to)).collect();
        if alone.is_empty() {
            return Ok(());
        }
        let names = alone.join(", ");
        Err(format!("what goes over it to {names} has no backup; force it to see"))
    }

    /// Does what is due of a drill. One whose mesh is gone ends.
    pub(crate) fn advance_drill(&mut self) {
        let now = self.now();
        if !self.is_running()
            && let Some(ended) = self.drills.running.take()
        {
            self.restore_link(ended.drill.peer());
            let _caller_gone = ended.answer.send(Err(PlaneError::MeshStopped));
        }
        while let Some(running) = &mut self.drills.running {
            let peer = running.drill.peer();
            match running.drill.poll_step(now) {
                None => return,
                Some(Step::Probe(probe)) => {
                    let drill = running.drill.number();
                    self.send_probe(peer, &Datagram::Probe(DrillProbe { drill, probe }));
                }
                Some(Step::Cut) => {
                    let Running { cut_for, force, .. } = *running;
                    // Since it was asked for, the link or the other way may have gone, perhaps by
                    // another node's drill.
                    match self.check_cut(peer, force) {
                        Ok(()) => self.cut_link(peer, cut_for),
                        Err(why) => self.end_drill(Err(&why)),
                    }
                }
                Some(Step::Restore) => self.restore_link(peer),
                Some(Step::NoAnswer) => {
                    self.end_drill(Err("the far end does not answer probes"));
                }
                Some(Step::Done(measured)) => self.end_drill(Ok(measured)),
            }
        }
    }

    fn end_drill(&mut self, outcome: Result<DrillMeasured, &str>) {
        let Some(Running { drill, cut_for, answer, .. }) = self.drills.running.take() else {
            return;
        };
        let peer = self.node_ref(drill.peer());
        let view = match outcome {
            Ok(measured) => Ok(DrillView { peer, cut_for, measured }),
            Err(why) => {
                let [a, b] = [self.node, peer.node].map(|node| self.called(node));
                Err(PlaneError::DrillRefused { a, b, why: why.to_owned() })
            }
        };
        let _caller_gone = answer.send(view);
    }

    /// Closes the lanes to a neighbour and lets no new ones come up.
    fn cut_link(&mut self, peer: NodeId, cut_for: Duration) {
        let inputs = vec![("cut_ms", cut_for.as_millis().to_string())];
        self.note_lane_event(peer, "drill-cut", inputs);
        if let Some(mesh) = &self.mesh {
            mesh.local.barred.bar(peer);
        }
        for cut in self.links.bar(peer) {
            let (lane, serial) = (cut.lane, cut.serial);
            let reason = CloseReason::Barred;
            let close = ControlToShard::CloseLane { peer, lane, serial, reason };
            self.shards.send_to_link(peer, close);
        }
    }

    /// Lets lanes to a neighbour come up again, and has them dialled. Nothing happens if they may.
    fn restore_link(&mut self, peer: NodeId) {
        if let Some(mesh) = &self.mesh {
            mesh.local.barred.admit(peer);
        }
        if !self.links.admit(peer) {
            return;
        }
        self.note_lane_event(peer, "drill-restored", Vec::new());
        for &(lane, class) in self.config.lanes.standing() {
            self.handle_want_lane(peer, lane, class);
        }
    }

    /// A neighbour of a drill, or any other node, wants its probe back.
    pub(crate) fn handle_probe(&mut self, from: NodeId, drill: u64, probe: u64) {
        self.send_probe(from, &Datagram::ProbeAnswer(DrillProbe { drill, probe }));
    }

    fn send_probe(&mut self, to: NodeId, message: &Datagram) {
        if self.shards.waiting() < WAITING_MAX {
            self.send_datagram(to, message);
        }
    }

    /// A probe has come back.
    pub(crate) fn handle_probe_answer(&mut self, from: NodeId, drill: u64, probe: u64) {
        let now = self.now();
        if let Some(running) = &mut self.drills.running {
            running.drill.handle_answer(now, from, drill, probe);
        }
    }

    /// A lane of a link is up: perhaps of the one that was cut.
    pub(crate) fn tell_drill_of_link(&mut self, peer: NodeId) {
        let now = self.now();
        if let Some(running) = &mut self.drills.running {
            running.drill.handle_link_up(now, peer);
        }
    }
}
