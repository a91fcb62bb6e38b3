//! The congestion control of lanes' sockets where the system's own paces: near lanes go without, far
//! ones get it back, and it is kept where the configuration says so.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::link_faults::sees;
use crate::namespaces::{are_allowed, hold, inside, within};
use crate::process::{Guarded, Node, Spec, finish, skip, wait_for};
use crate::relay::{Passage, Relay};

/// Where B accepts lanes: the namespace is empty, so the port is free.
const LANES: &str = "127.0.0.1:7480";
/// Control, priority and at least one for bulk, of either end.
const SOCKETS_MIN: usize = 6;
/// What makes a lane a far one is 1 ms there and back.
const FAR: Passage =
    Passage { delay: Duration::from_millis(2), bytes_per_s: 12_500_000, held: false };

/// Two nodes in one network namespace, whose congestion control paces; A dials B.
struct World {
    // In this order: processes end before what they run in goes.
    a: Node,
    b: Node,
    space: Guarded,
    _directory: TempDir,
}

impl World {
    /// With such lines of configuration, and lanes through a relay that passes like that if one is
    /// wanted. `None` where there is no such namespace to be had.
    fn start(config: &'static str, passage: Option<Passage>) -> Option<Self> {
        if !are_allowed() {
            return None;
        }
        let allowed = fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control");
        let allowed = allowed.unwrap();
        if !["bbr", "cubic"].iter().all(|&name| allowed.split_whitespace().any(|it| it == name)) {
            skip("this kernel does not let sockets have both bbr and cubic");
            return None;
        }
        let space = hold();
        let pid = space.0.id();
        within(pid, "ip link set lo up");
        within(pid, "sysctl -qw net.ipv4.tcp_congestion_control=bbr");
        let directory = tempfile::tempdir().unwrap();
        let start = |spec: Spec, advertise: Option<&str>| {
            let mut command = inside(pid, &spec.command(directory.path()));
            command.envs(advertise.map(|address| ("HAWSER_LANES__ADVERTISE", address)));
            Node::start_with(directory.path(), &spec, command)
        };
        let relay = passage.map(|passage| relay_in(pid, passage));
        let listening = Spec { config, listen: LANES.to_owned(), ..Spec::dialling("b") };
        let b = start(listening, relay.as_ref().map(|relay| relay.address.as_str()));
        b.run(&["mesh", "seed", "test"]).ok();
        let a = start(Spec { config, ..Spec::dialling("a") }, None);
        let token = b.json(&["token", "issue"])["token"].as_str().unwrap().to_owned();
        a.run(&["mesh", "join", &token]).ok();
        let world = Self { a, b, space, _directory: directory };
        wait_for("both nodes to see each other", || {
            (sees(&world.a, "b") && sees(&world.b, "a")).then_some(())
        });
        Some(world)
    }

    /// Waits until all lanes of both nodes are there and have this congestion control.
    fn await_sockets(&self, control: &str) {
        wait_for(&format!("lanes with {control}"), || {
            let sockets = self.sockets();
            let all = sockets.iter().all(|line| line.split_whitespace().any(|it| it == control));
            (sockets.len() >= SOCKETS_MIN && all).then_some(())
        });
    }

    /// What the kernel says of each connection that a node has.
    fn sockets(&self) -> Vec<String> {
        let mut command = Command::new("ss");
        command.args(["--tcp", "--info", "--processes", "--no-header", "--oneline"]);
        let said = finish(&mut inside(self.space.0.id(), &command), None).ok();
        said.text().lines().filter(|line| line.contains("\"hawser\"")).map(str::to_owned).collect()
    }
}

/// A relay to [`LANES`] in the network namespace of a process.
fn relay_in(pid: u32, passage: Passage) -> Relay {
    let space = File::open(format!("/proc/{pid}/ns/net")).unwrap();
    // Of a thread of its own: those that the relay starts are in the namespace of this one.
    let started = std::thread::spawn(move || {
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        Relay::start(LANES, passage)
    });
    started.join().unwrap()
}

#[test]
fn near_lanes_are_not_paced_and_far_ones_get_what_the_system_gives() {
    let Some(near) = World::start("", None) else { return };
    near.await_sockets("cubic");
    let Some(far) = World::start("", Some(FAR)) else { return };
    far.await_sockets("bbr");
    // Those came later and have been measured: so have these.
    near.await_sockets("cubic");
}

#[test]
fn lanes_keep_what_the_system_gives_where_that_is_configured() {
    let config = "[sockets]\ncongestion_control = \"system\"\n";
    let Some(world) = World::start(config, None) else { return };
    world.await_sockets("bbr");
}
