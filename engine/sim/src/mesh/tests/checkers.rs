//! Each checker against a state that was forged: a mesh that has settled, and one thing in it that is
//! not as it should be.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use hawser_wire::{AdjacencyIndex, TrafficClass};

use super::*;
use crate::mesh::phase::Excuse;

/// A ring that has settled.
fn settled(faults: MeshFaults) -> MeshSimulation {
    let mut simulation = mesh(GraphKind::Ring, 12, faults, 5);
    simulation.start();
    assert_eq!(simulation.violation, None);
    simulation
}

const QUIET: MeshFaults = MeshFaults { link_cuts: 0, ..CUT };

/// Cuts a link, or lets it carry again; no node notices.
fn set_cut(simulation: &mut MeshSimulation, link: u32, cut: bool) {
    simulation.reality.links[usize::try_from(link).unwrap()].cut = cut;
    simulation.reality.find_pieces();
}

fn set_alive(simulation: &mut MeshSimulation, node: usize, alive: bool) {
    simulation.reality.alive[node] = alive;
    simulation.reality.find_pieces();
}

/// All links of a node.
fn links_of(simulation: &MeshSimulation, node: usize) -> Vec<u32> {
    simulation.reality.adjacent[node].iter().map(|(_, link)| *link).collect()
}

fn violated(simulation: &MeshSimulation) -> Option<Property> {
    simulation.violation.as_ref().map(|violation| violation.property)
}

/// The node says something new, and nobody hears it.
fn speak(simulation: &mut MeshSimulation, node: u32) {
    let (now, lsa) = (simulation.now(), simulation.advertise(node).unwrap());
    simulation.node_mut(node).flooding.originate(now, lsa).unwrap();
}

#[test]
fn databases_that_differ_are_seen_where_nodes_are_connected() {
    let mut simulation = settled(QUIET);
    assert_eq!(simulation.disagreement(), None);
    // One lacks an origin, though the digests of the others agree.
    let lost = simulation.id(7);
    assert!(simulation.node_mut(3).flooding.handle_evicted(lost));
    assert_eq!(simulation.disagreement(), Some((3, 3)));
    // As many origins, and another word of one of them.
    let mut simulation = settled(QUIET);
    speak(&mut simulation, 4);
    assert_eq!(simulation.disagreement(), Some((0, 4)));
    // The dead need not agree, nor do pieces of a mesh.
    set_alive(&mut simulation, 4, false);
    assert_eq!(simulation.disagreement(), None);
    set_alive(&mut simulation, 4, true);
    // Nor do they keep what the living say from being compared.
    set_alive(&mut simulation, 0, false);
    assert_eq!(simulation.disagreement(), Some((1, 4)));
    set_alive(&mut simulation, 0, true);
    for link in links_of(&simulation, 4) {
        set_cut(&mut simulation, link, true);
    }
    assert_eq!(simulation.disagreement(), None);
}

#[test]
fn paths_of_an_earlier_database_are_seen() {
    let mut simulation = settled(QUIET);
    assert_eq!(simulation.behind(), None);
    speak(&mut simulation, 4);
    assert_eq!(simulation.behind(), Some(4));
    set_alive(&mut simulation, 4, false);
    assert_eq!(simulation.behind(), None, "the dead publish nothing");
}

#[test]
fn who_is_wrong_about_members_is_seen() {
    let said = |change: &dyn Fn(&mut MeshSimulation)| {
        let mut simulation = settled(QUIET);
        assert_eq!(simulation.wrong_about_members(), None);
        change(&mut simulation);
        simulation.wrong_about_members().unwrap_or_default()
    };
    // One too many, one too few, the wrong one, a suspect among the living, one that is missing.
    assert!(
        said(&|s| {
            s.node_mut(2).dead.insert(5);
        })
        .contains("takes 1 members for dead")
    );
    assert!(said(&|s| set_alive(s, 5, false)).contains("1 are dead or out of reach"));
    let wrong = said(&|s| {
        set_alive(s, 5, false);
        for node in 0..12 {
            s.node_mut(node).dead.insert(if node == 3 { 6 } else { 5 });
        }
    });
    assert_eq!(wrong, "node 3 takes node 6 for dead, and not another");
    assert!(said(&|s| s.node_mut(8).suspects = 1).contains("1 for suspect"));
    let forgotten = said(&|s| {
        let (now, id) = (s.now(), s.id(9));
        s.node_mut(1).membership.dismiss(now, id);
    });
    assert_eq!(forgotten, "node 1 has admitted 11 members alone");
    // What is right is not called wrong.
    let right = said(&|s| {
        set_alive(s, 5, false);
        for node in 0..12 {
            s.node_mut(node).dead.insert(5);
        }
    });
    assert_eq!(right, "");
}

#[test]
fn a_suspect_is_nothing_special_where_messages_are_lost() {
    let mut simulation = settled(LOSS);
    simulation.node_mut(8).suspects = 1;
    assert_eq!(simulation.wrong_about_members(), None);
}

#[test]
fn events_that_do_not_say_what_the_machine_thinks_are_seen() {
    let mut simulation = settled(QUIET);
    simulation.check_members();
    assert_eq!(violated(&simulation), None);
    // Told of a death, and of no end of it: right about the mesh, and not what its machine says.
    set_alive(&mut simulation, 11, false);
    for node in 0..12 {
        simulation.node_mut(node).dead.insert(11);
    }
    assert_eq!(simulation.wrong_about_members(), None);
    simulation.check_members();
    assert_eq!(violated(&simulation), Some(Property::Membership));
}

#[test]
fn a_verdict_is_false_unless_it_is_excused() {
    let after = |excuse, faults, change: &dyn Fn(&mut MeshSimulation)| {
        let mut simulation = settled(faults);
        let now = simulation.now();
        if let Some(excuse) = excuse {
            simulation.begin_phase(now, Vec::new(), excuse, false);
        }
        change(&mut simulation);
        simulation.note_verdict(2, 5);
        let tally = (simulation.tally.false_positives, simulation.tally.late_verdicts);
        (tally, violated(&simulation))
    };
    let nothing = |_: &mut MeshSimulation| {};
    let wrong = ((1, 0), Some(Property::NoFalseVerdict));
    assert_eq!(after(None, QUIET, &nothing), wrong);
    assert_eq!(after(Some(Excuse::Nobody), QUIET, &nothing), wrong);
    assert_eq!(after(Some(Excuse::Node(6)), QUIET, &nothing), wrong, "another one's excuse");
    assert_eq!(after(Some(Excuse::Node(5)), QUIET, &nothing), ((0, 0), None));
    assert_eq!(after(Some(Excuse::Everybody), QUIET, &nothing), ((0, 1), None));
    // On who is dead, or cannot be reached, a verdict is right.
    assert_eq!(after(None, QUIET, &|s| set_alive(s, 5, false)), ((0, 0), None));
    let parted = |s: &mut MeshSimulation| {
        for link in links_of(s, 5) {
            set_cut(s, link, true);
        }
    };
    assert_eq!(after(None, QUIET, &parted), ((0, 0), None));
    // More loss than members bear: it is counted, and no violation.
    let heavy = MeshFaults { loss_ppm: 200_000, ..QUIET };
    assert_eq!(after(None, heavy, &nothing), ((1, 0), None));
    assert_eq!(after(None, LOSS, &nothing), wrong);
}

/// What the check of all paths finds after a change that no node has heard of.
fn paths_after(change: &dyn Fn(&mut MeshSimulation)) -> Option<String> {
    let mut simulation = settled(QUIET);
    change(&mut simulation);
    simulation.check_paths();
    let property = violated(&simulation);
    assert!(property.is_none_or(|property| property == Property::Paths), "{property:?}");
    simulation.violation.map(|violation| violation.detail)
}

#[test]
fn paths_over_what_is_not_there_are_seen() {
    assert_eq!(paths_after(&|_| ()), None);
    // A link that carries nothing, though both ends announce it.
    let gone = paths_after(&|s| set_cut(s, 0, true)).unwrap();
    assert!(gone.contains("costs") || gone.contains("have no link"), "{gone}");
    // A node that is gone.
    assert!(paths_after(&|s| set_alive(s, 5, false)).is_some());
    // A link that costs more than is said, and one that costs less.
    for latency_us in [1, 500_000] {
        let other = paths_after(&|s| {
            for metrics in &mut s.reality.links[0].metrics {
                metrics.latency_us = latency_us;
            }
        });
        assert!(other.unwrap().contains("cost"), "{latency_us}");
    }
}

#[test]
fn paths_to_where_nothing_leads_are_seen() {
    use hawser_routing::{LinkMetrics, NodeFlags, Topology, Weights};
    // The last node is on nobody's way.
    let mut topology = Topology::new(vec![NodeFlags::default(); 4], [Weights::default(); 3]);
    let metrics = LinkMetrics { latency_us: 700, ..LinkMetrics::default() };
    for ends in [(0, 1), (1, 2), (0, 2), (2, 3)] {
        topology.add_link(ends, metrics, metrics).unwrap();
    }
    let graph = MeshGraph::of_topology(&topology);
    let mut simulation = MeshSimulation::new(&graph, QUIET, 1, Box::new(TestKeys(1)));
    simulation.start();
    assert_eq!(simulation.violation, None);
    let link = links_of(&simulation, 3)[0];
    set_cut(&mut simulation, link, true);
    simulation.check_paths();
    let detail = simulation.violation.unwrap().detail;
    assert!(detail.contains("there is a path and no way"), "{detail}");
}

/// Cuts the link between node 0 and its first neighbour, so that all know it soon; that neighbour and
/// the link.
fn without_a_link(simulation: &mut MeshSimulation) -> (u32, u32) {
    let end = simulation.node(0).ends[0];
    set_cut(simulation, end.link, true);
    simulation.end_session(end.link, false);
    simulation.run_until(simulation.now().saturating_add(Duration::from_secs(2)));
    simulation.check_paths();
    assert_eq!(simulation.violation, None);
    (end.neighbour, end.link)
}

#[test]
fn a_better_way_that_nobody_takes_is_seen() {
    let mut simulation = settled(QUIET);
    let (_, link) = without_a_link(&mut simulation);
    // It is there again, and nobody notices.
    set_cut(&mut simulation, link, false);
    simulation.check_paths();
    let detail = simulation.violation.unwrap().detail;
    assert!(detail.contains("the best path costs"), "{detail}");
}

#[test]
fn a_frame_begins_over_a_link_that_is_heard() {
    use crate::mesh::node::End;
    let mut simulation = settled(QUIET);
    let End { neighbour, index, .. } = simulation.node(0).ends[0];
    let (class, destination) = (TrafficClass::Control, simulation.id(neighbour));
    let first = |simulation: &mut MeshSimulation| {
        let path = simulation.path_of(class, 0, destination, End::is_usable);
        path.and_then(|(_, hops)| hops.first().copied())
    };
    assert_eq!(first(&mut simulation), Some(index), "straight");
    simulation.node_mut(0).end_to_mut(neighbour).unwrap().quiet = true;
    let around = first(&mut simulation);
    assert!(around.is_some_and(|around| around != index), "{around:?}");
}

#[test]
fn a_link_that_is_in_no_mesh_any_more_has_the_best_path_as_its_backup() {
    for trees in [true, false] {
        let graph = MeshGraph::draw(GraphKind::Ring, 12, 5);
        let (keys, scale) = (Box::new(TestKeys(5)), Scale { full_start: false, trees });
        let mut simulation = MeshSimulation::at_scale(&graph, QUIET, 5, keys, scale);
        simulation.start();
        let (neighbour, _) = without_a_link(&mut simulation);
        let (class, destination) = (TrafficClass::Bulk, simulation.id(neighbour));
        let best = simulation.path_of(class, 0, destination, |_| true).map(|(_, hops)| hops);
        assert!(best.is_some());
        assert_eq!(simulation.backup_of(class, 0, neighbour, destination), best);
    }
}

#[test]
fn a_node_that_has_published_nothing_has_no_paths() {
    let nothing = paths_after(&|s| s.node_mut(0).routes = routes::NodeRoutes::new(false));
    assert!(nothing.unwrap().contains("there is a way and no path"));
}

/// A list of hops is followed link by link.
#[test]
fn a_list_is_whole_costs_what_it_says_and_names_no_node_twice() {
    let mut simulation = settled(QUIET);
    let class = TrafficClass::Bulk;
    let hop = |from: u32, to: u32| {
        let end = simulation.node(from).ends.iter().find(|end| end.neighbour == to).unwrap();
        (end.index, simulation.reality.cost(class, from, end.link))
    };
    let next = simulation.node(0).ends[0].neighbour;
    let after = simulation.node(next).ends.iter().map(|end| end.neighbour).find(|&n| n != 0);
    let after = after.unwrap();
    let ((there, cost), (on, more), (back, less)) = (hop(0, next), hop(next, after), hop(next, 0));
    let walk = |to, cost, hops: &[AdjacencyIndex]| simulation.walk(0, to, class, cost, hops);
    assert_eq!(walk(after, cost + more, &[there, on]), Ok(()));
    assert!(walk(after, cost + more + 1, &[there, on]).unwrap_err().contains("is said to cost"));
    assert!(walk(after, cost, &[there]).unwrap_err().contains("ends at node"));
    let loops = walk(next, cost + less + cost, &[there, back, there]).unwrap_err();
    assert_eq!(loops, "node 0 is on the path twice");
    let unknown = walk(next, cost, &[AdjacencyIndex(9_999)]).unwrap_err();
    assert!(unknown.contains("has no adjacency"));
    let link = simulation.reality.link_between(0, next).unwrap();
    set_cut(&mut simulation, link, true);
    let cut = simulation.walk(0, after, class, cost + more, &[there, on]).unwrap_err();
    assert!(cut.contains("have no link"), "{cut}");
}

#[test]
fn a_link_that_is_cut_silently_is_a_hole_of_some_tenths_of_a_second() {
    let holes: Vec<u64> =
        (1..=8).map(|seed| run(mesh(GraphKind::Ring, 12, CUT, seed)).blackhole_ms).collect();
    // Half are told at once, the others are noticed after two to three ticks.
    assert!(holes.iter().any(|ms| *ms <= 60), "{holes:?}");
    assert!(holes.iter().any(|ms| (150..=400).contains(ms)), "{holes:?}");
    assert!(holes.iter().all(|ms| *ms <= 1_300), "{holes:?}");
}

#[test]
fn time_is_not_given_without_end() {
    let simulation = settled(QUIET);
    let (deaths, healed) = (simulation.members_within(true), simulation.members_within(false));
    assert!((Duration::from_secs(20)..Duration::from_secs(120)).contains(&deaths), "{deaths:?}");
    assert!((Duration::from_secs(20)..Duration::from_secs(80)).contains(&healed), "{healed:?}");
    // A node that hears nothing is seen five seconds after the first event that it misses.
    let deaf = mesh(GraphKind::Ring, 16, CUT, 5).with_mutation(MeshMutation::DeafToLinkState);
    let failure = deaf.run(&mut |_| {}).unwrap_err();
    let started = mesh(GraphKind::Ring, 16, QUIET, 5);
    let began = {
        let mut s = started;
        s.start();
        s.now()
    };
    let took = failure.violation.at.saturating_since(began);
    assert!((5..12).contains(&took.as_secs()), "{took:?}");
}
