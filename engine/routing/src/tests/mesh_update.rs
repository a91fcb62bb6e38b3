//! A mesh that is kept up to date is the one that is read anew.

use std::time::Duration;

use hawser_wire::{AdjacencyIndex, MonoTime, NodeId, TrafficClass};
use proptest::prelude::*;

use super::{lsa, node};
use crate::life::Life;
use crate::lsdb::Inserted;
use crate::{
    LsaFlags, Lsdb, MeshTopology, OperatorRoute, PathComputer, RouteSnapshot, Step, Weights,
};

const NODES: u8 = 9;
const SOURCE: u8 = 5;

/// Latency for bulk, hops for control, and how busy a link is for priority's shares.
const WEIGHTS: [Weights; TrafficClass::ALL.len()] = [
    Weights { latency: 0.0, bandwidth: 0.0, loss: 0.0, utilization: 0.0, hop: 1.0 },
    Weights { latency: 1.0, bandwidth: 0.0, loss: 0.0, utilization: 1.0, hop: 0.0 },
    Weights { latency: 1.0, bandwidth: 0.0, loss: 0.0, utilization: 0.0, hop: 0.0 },
];

/// What happens to a database.
#[derive(Clone, Debug)]
enum Event {
    /// A node lists a neighbour, whatever that one lists: latency, index and utilisation in permille.
    List { at: u8, to: u8, latency_us: u32, index: u32, used: u16 },
    /// A link is more or less busy, and all else is as it was.
    Use { at: u8, to: u8, used: u16 },
    /// A node lists a neighbour no longer.
    Unlist { at: u8, to: u8 },
    /// It says other things of itself; a farewell among them.
    Flags { at: u8, flags: u8 },
    /// An operator sets a path, or drops the last one that was set there.
    Operate { at: u8, to: u8, via: Option<u8> },
    /// It says the same once more.
    Refresh { at: u8 },
    /// Its advertisement is forgotten, as when it is evicted.
    Evict { at: u8 },
    /// Of all that is not renewed the oldest ends.
    Age,
}

fn event() -> impl Strategy<Value = Event> {
    let node = || 1..=NODES;
    // Few latencies: ties everywhere.
    let list = (node(), node(), 0..4_u32, 0..8_u32, prop::sample::select(vec![0, 150, 900]));
    prop_oneof![
        12 => list.prop_map(|(at, to, latency_us, salt, used)| {
            // Most often the index stays the same.
            let index = u32::from(to) + if salt == 0 { 100 } else { 0 };
            Event::List { at, to, latency_us, index, used }
        }),
        4 => (node(), node(), 0..900_u16).prop_map(|(at, to, used)| Event::Use { at, to, used }),
        3 => (node(), node()).prop_map(|(at, to)| Event::Unlist { at, to }),
        1 => (node(), 0..8_u8).prop_map(|(at, flags)| Event::Flags { at, flags }),
        1 => (node(), node(), prop::option::of(node()))
            .prop_map(|(at, to, via)| Event::Operate { at, to, via }),
        1 => node().prop_map(|at| Event::Refresh { at }),
        1 => node().prop_map(|at| Event::Evict { at }),
        1 => Just(Event::Age),
    ]
}

/// A database whose advertisements end in the order in which they came.
#[derive(Default)]
struct World {
    lsdb: Lsdb,
    sequence: u64,
}

impl World {
    fn happen(&mut self, event: &Event) {
        let (Event::List { at, .. }
        | Event::Use { at, .. }
        | Event::Unlist { at, .. }
        | Event::Flags { at, .. }
        | Event::Operate { at, .. }
        | Event::Refresh { at }
        | Event::Evict { at }) = *event
        else {
            let end = self.lsdb.poll_timeout().unwrap_or(MonoTime::MAX);
            self.lsdb.expire(end);
            return;
        };
        let mut said = self.lsdb.get(node(at)).cloned().unwrap_or_else(|| lsa(at, 1, 0, &[]));
        match *event {
            Event::List { to, latency_us, index, used, .. } => {
                let mut link = lsa(at, 1, 0, &[(to, latency_us)]).adjacencies[0];
                link.index = AdjacencyIndex(index);
                link.metrics.utilization_permille = used;
                said.adjacencies.retain(|known| known.neighbour != node(to));
                said.adjacencies.push(link);
            }
            Event::Use { to, used, .. } => {
                let links = said.adjacencies.iter_mut();
                for link in links.filter(|link| link.neighbour == node(to)) {
                    link.metrics.utilization_permille = used;
                }
            }
            Event::Unlist { to, .. } => {
                said.adjacencies.retain(|known| known.neighbour != node(to));
            }
            Event::Flags { flags, .. } => said.flags = LsaFlags(flags),
            Event::Operate { to, via, .. } => {
                let route = via.map(|via| OperatorRoute {
                    from: node(at),
                    to: node(to),
                    via: vec![node(via)],
                });
                said.routes.retain(|known| known.to != node(to));
                said.routes.extend(route.filter(|route| route.is_sound_at(node(at))));
            }
            Event::Evict { .. } => {
                self.lsdb.forget(node(at));
                return;
            }
            Event::Refresh { .. } | Event::Age => {}
        }
        self.sequence += 1;
        said.sequence = self.sequence;
        said.normalize();
        let mut encoding = Vec::new();
        said.encode(&mut encoding);
        let version = said.version_of(&encoding);
        assert_eq!(self.lsdb.judge(node(at), version, encoding.len()), Inserted::Newest);
        let life = Life::new(MonoTime::ZERO, Duration::from_secs(self.sequence));
        self.lsdb.store(said, version, encoding.into(), life);
    }

    fn read(&self) -> MeshTopology {
        MeshTopology::new(&self.lsdb, node(SOURCE), WEIGHTS)
    }
}

/// The last snapshot of a mesh.
fn settled(computer: &mut PathComputer, mesh: MeshTopology) -> RouteSnapshot {
    let mut last = computer.handle_mesh(7, mesh.into(), Vec::new()).unwrap();
    loop {
        match computer.advance(2) {
            Step::Working => {}
            Step::Published(snapshot) => last = snapshot,
            Step::Idle => return last,
        }
    }
}

/// All there is of a path but its id.
type Bare = (Vec<AdjacencyIndex>, Vec<NodeId>, u64, u32);

/// Everything that a snapshot says of the paths to `to`.
fn bare(
    snapshot: &RouteSnapshot,
    class: TrafficClass,
    to: NodeId,
) -> (Vec<Bare>, Vec<Vec<NodeId>>) {
    let set = snapshot.routes_to(class, to).cloned().unwrap_or_default();
    let routes = set.routes().iter();
    let routes = routes.map(|r| (r.hops.clone(), r.nodes.to_vec(), r.cost, r.weight)).collect();
    let pair = set.disjoint().into_iter().flatten().map(|route| route.nodes.to_vec());
    (routes, pair.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever is said, forgotten or ended, and however much of it at once: the mesh that is
    /// brought up to date is the one that is read from the whole database, and so are its paths.
    #[test]
    fn a_mesh_kept_up_to_date_is_the_one_that_is_read_anew(
        begin in prop::collection::vec(event(), 0..60),
        rounds in prop::collection::vec(prop::collection::vec(event(), 1..4), 1..12),
    ) {
        let mut world = World::default();
        for event in &begin {
            world.happen(event);
        }
        let first = world.read();
        let (mut mesh, mut computer) = (first.clone(), PathComputer::new(3));
        settled(&mut computer, mesh.clone());
        for round in &rounds {
            for event in round {
                world.happen(event);
            }
            let (updated, read) = (mesh.update(&world.lsdb), world.read());
            prop_assert!(updated == read, "another mesh");
            // One that has missed rounds catches up all the same.
            prop_assert!(first.update(&world.lsdb) == read, "another mesh");
            prop_assert!(first.detached().update(&world.lsdb) == read, "what was read is not kept");
            let kept = settled(&mut computer, updated.clone());
            let fresh = settled(&mut PathComputer::new(3), read);
            for class in TrafficClass::ALL {
                for to in (1..=NODES).map(node) {
                    prop_assert_eq!(bare(&kept, class, to), bare(&fresh, class, to));
                    for first in (1..=NODES).map(node) {
                        prop_assert_eq!(kept.backup(class, first, to), fresh.backup(class, first, to));
                    }
                }
            }
            mesh = updated;
        }
    }
}

/// The nodes of a mesh by what they are: what they say is shared with the mesh before.
#[test]
fn what_has_not_changed_is_shared_with_the_mesh_before() {
    let mut world = World::default();
    for at in 1..NODES {
        for (at, to) in [(at, at + 1), (at + 1, at)] {
            world.happen(&Event::List { at, to, latency_us: 3, index: to.into(), used: 0 });
        }
    }
    let old = world.read();
    assert!(old.update(&world.lsdb).is_same_map(&old));
    world.happen(&Event::List { at: 1, to: 2, latency_us: 4, index: 2, used: 0 });
    let new = old.update(&world.lsdb);
    assert!(std::ptr::eq(old.ids(), new.ids()), "no node came or went");
    let differ: Vec<_> = old.topology().differences(new.topology()).collect();
    assert_eq!(differ.len(), 1);
    // A node more is another mesh.
    world.happen(&Event::Refresh { at: 200 });
    assert_eq!(new.update(&world.lsdb).ids().len(), new.ids().len() + 1);
}
