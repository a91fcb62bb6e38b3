//! Five nodes in a ring with a chord, each in a network namespace of its own: links that are reset and
//! cannot come back, links that fall silent, and a relay that is killed cost nothing.

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::link_faults::Traffic;
use crate::namespaces::{are_allowed, hold, inside, within};
use crate::process::{Guarded, Node, Spec, wait_for};
use crate::triangle::nodes_of;

/// A, B, C, D, E stand in a ring; B and D are joined by a chord. From A to C the way over B has the
/// fewest hops, and is taken unless what was measured says that another is faster.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;
const E: usize = 4;
const LINKS: usize = 6;

/// Whom each node dials, beside A, where they all join.
const DIALS: [&[usize]; 5] = [&[], &[C, D], &[D], &[E], &[]];

struct Ring {
    // In this order: processes end before what they run in goes.
    nodes: Vec<Node>,
    _spaces: Vec<Guarded>,
    router: Guarded,
    _directory: TempDir,
}

fn address(node: usize) -> String {
    format!("10.79.{}.1", node + 1)
}

impl Ring {
    /// `None` where there are no namespaces to be had.
    fn start() -> Option<Self> {
        if !are_allowed() {
            return None;
        }
        let router = hold();
        let hub = router.0.id();
        within(hub, "sysctl -qw net.ipv4.ip_forward=1");
        within(hub, "nft add table inet walls");
        within(hub, "nft add chain inet walls forward { type filter hook forward priority 0 ; }");
        let spaces: Vec<Guarded> = NAMES.iter().map(|_| hold()).collect();
        for (node, space) in spaces.iter().enumerate() {
            let (end, gateway) = (space.0.id(), format!("10.79.{}.2", node + 1));
            let hop = format!("hop{node}");
            let veth = format!("ip link add lane0 netns {end} type veth peer name {hop}");
            crate::namespaces::execute(&format!("{veth} netns {hub}"));
            within(end, "ip link set lo up");
            within(end, &format!("ip address add {}/30 dev lane0", address(node)));
            within(end, "ip link set lane0 up");
            within(end, &format!("ip route add default via {gateway}"));
            within(hub, &format!("ip address add {gateway}/30 dev {hop}"));
            within(hub, &format!("ip link set {hop} up"));
        }
        let directory = tempfile::tempdir().unwrap();
        let lanes = |node: usize| format!("{}:7480", address(node));
        let nodes = NAMES.iter().enumerate().map(|(number, &name)| {
            let dial: Vec<String> = DIALS[number].iter().map(|&other| lanes(other)).collect();
            // It is read once, by a process of its own.
            let config: &'static str = format!("[lanes]\ndial = {dial:?}\n").leak();
            let spec = Spec { name, listen: lanes(number), config };
            let command = inside(spaces[number].0.id(), &spec.command(directory.path()));
            Node::start_with(directory.path(), &spec, command)
        });
        let nodes: Vec<Node> = nodes.collect();
        nodes[A].run(&["mesh", "seed", "test"]).ok();
        // Who is dialled by another has joined before.
        for node in [E, D, C, B] {
            let token = nodes[A].json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
            nodes[node].run(&["mesh", "join", &token]).ok();
        }
        let ring = Self { nodes, _spaces: spaces, router, _directory: directory };
        ring.reset(A, C);
        ring.reset(A, D);
        for node in &ring.nodes {
            wait_for("the links of the ring and no others", || {
                let status = node.json(&["mesh", "status"]);
                let [links, nodes] = ["links", "nodes"].map(|key| status[key].as_array().unwrap());
                let up = links.iter().filter(|link| link["up"] == true).count();
                let reached = nodes.iter().filter(|node| node["reachable"] == true).count();
                (up == LINKS && reached == NAMES.len()).then_some(())
            });
        }
        let opened = ring.nodes[A].json(&["stream", "open", "s", "--to", "c"]);
        assert!(opened["pending_dst_nodes"].as_array().unwrap().is_empty(), "{opened}");
        Some(ring)
    }

    fn await_hops(&self, from: usize, to: usize, hops: u64) {
        wait_for("a path of the ring", || {
            let status = self.nodes[from].json(&["mesh", "status"]);
            let nodes = status["nodes"].as_array().unwrap();
            let is = |node: &Value| node["name"] == NAMES[to] && node["hops"] == hops;
            nodes.iter().any(is).then_some(())
        });
    }

    fn wall(&self, a: usize, b: usize, verdict: &str) {
        for (from, to) in [(a, b), (b, a)] {
            let (from, to) = (address(from), address(to));
            let rule = format!("ip saddr {from} ip daddr {to} {verdict}");
            within(self.router.0.id(), &format!("nft add rule inet walls forward {rule}"));
        }
    }

    /// From now on whoever sends to the other gets a RST, be it on a connection or to make one.
    fn reset(&self, a: usize, b: usize) {
        self.wall(a, b, "meta l4proto tcp reject with tcp reset");
    }

    /// From now on nothing gets through, and nobody is told.
    fn silence(&self, a: usize, b: usize) {
        self.wall(a, b, "drop");
    }
}

#[test]
fn links_that_are_reset_for_good_or_fall_silent_cost_nothing() {
    let Some(ring) = Ring::start() else { return };
    let traffic = Traffic::start(&ring.nodes[A], &ring.nodes[C], 32, None);
    traffic.await_more(1_000);
    // Without this link all ways begin with A, E, D.
    ring.reset(A, B);
    traffic.await_more(5_000);
    // And without this one they end with D, B, C.
    ring.silence(C, D);
    traffic.await_more(5_000);
    ring.await_hops(A, C, 4);
    traffic.finish(&ring.nodes[A]);
}

#[test]
fn a_relay_that_is_killed_under_load_costs_nothing() {
    let Some(ring) = Ring::start() else { return };
    // Over B, whatever was measured.
    let a = &ring.nodes[A];
    a.run(&["route", "add", "c", "--via", "b"]).ok();
    wait_for("the way over B to be in force", || {
        let rows = a.json(&["route", "ls", "c"]);
        (rows[0]["operator"] == true && nodes_of(&rows[0]) == "a b c").then_some(())
    });
    let traffic = Traffic::start(&ring.nodes[A], &ring.nodes[C], 32, None);
    traffic.await_more(1_000);
    let latest = format!("s:{}", traffic.received());
    let told = a.json(&["route", "explain", "--message", &latest]);
    let sendings = told["destinations"][0]["sendings"].as_array().unwrap();
    assert_eq!(sendings.iter().map(nodes_of).collect::<Vec<_>>(), ["a b c"], "{told}");
    ring.nodes[B].process.signal(Signal::KILL);
    traffic.await_more(5_000);
    ring.await_hops(A, C, 3);
    traffic.finish(&ring.nodes[A]);
}
