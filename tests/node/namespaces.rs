//! Network namespaces: two for nodes, and one between them whose router can lose, reset and slow
//! down what it forwards.
//!
//! Each lives as long as a process within it, which lives as long as this one: nothing is left
//! behind, whatever becomes of the tests.

use std::fs;
use std::process::{Command, Stdio};

use crate::process::{Guarded, finish, skip, wait_for};

/// Where a node in the second namespace accepts lanes.
pub(crate) const FAR_LANES: &str = "10.78.2.1:7480";

/// Address of a node, and of the router towards it.
const ENDS: [(&str, &str); 2] = [("10.78.1.1", "10.78.1.2"), ("10.78.2.1", "10.78.2.2")];

/// What the router's faults are in.
const TABLE: &str = "inet faults";

/// What the router does to packets, besides forwarding them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Drops all of them, silently.
    BlackHole,
    /// Drops those of the connections from this port of the first namespace.
    Silence { port: u16 },
    /// Answers those with a RST.
    Reset { port: u16 },
    /// Answers all of them with a RST.
    ResetAll,
}

/// The namespaces.
#[derive(Debug)]
pub(crate) struct Namespaces {
    ends: [Guarded; 2],
    router: Guarded,
}

impl Namespaces {
    /// Makes them, with a bottleneck of so many megabits a second in each direction if one is
    /// wanted. `None`, with a word on standard error: this process may not have any.
    pub(crate) fn start(bottleneck_mbit: Option<u32>) -> Option<Self> {
        if !are_allowed() {
            return None;
        }
        let namespaces = Self { ends: [hold(), hold()], router: hold() };
        let hub = namespaces.router.0.id();
        let control = loss_based_control();
        for (n, (end, (address, gateway))) in namespaces.ends.iter().zip(ENDS).enumerate() {
            let (end, hop) = (end.0.id(), format!("hop{n}"));
            let link = format!("ip link add lane0 netns {end} type veth peer name {hop}");
            execute(&format!("{link} netns {hub}"));
            within(end, "ip link set lo up");
            // Packets as they would be on a wire: the bottleneck counts each.
            within(end, "ip link set lane0 gso_max_segs 1");
            within(end, &format!("ip address add {address}/30 dev lane0"));
            within(end, "ip link set lane0 up");
            within(end, &format!("ip route add default via {gateway}"));
            // What Linux does unless told otherwise, and what fills queues.
            within(end, &format!("sysctl -qw net.ipv4.tcp_congestion_control={control}"));
            within(hub, &format!("ip address add {gateway}/30 dev {hop}"));
            within(hub, &format!("ip link set {hop} up"));
            if let Some(mbit) = bottleneck_mbit {
                let bottleneck = format!("tbf rate {mbit}mbit burst 16kb latency 200ms");
                within(hub, &format!("tc qdisc add dev {hop} root {bottleneck}"));
            }
        }
        within(hub, "sysctl -qw net.ipv4.ip_forward=1");
        Some(namespaces)
    }

    /// The same command, in the first namespace or in the second.
    pub(crate) fn command(&self, end: usize, inner: &Command) -> Command {
        inside(self.ends[end].0.id(), inner)
    }

    /// The router does this from now on.
    pub(crate) fn begin(&self, fault: Fault) {
        let hub = self.router.0.id();
        within(hub, &format!("nft add table {TABLE}"));
        let hook = "{ type filter hook forward priority 0 ; }";
        within(hub, &format!("nft add chain {TABLE} forward {hook}"));
        let of_port = |port: u16, verdict: &str| {
            ["sport", "dport"].map(|side| format!("tcp {side} {port} {verdict}")).to_vec()
        };
        let rules = match fault {
            Fault::BlackHole => vec!["drop".to_owned()],
            Fault::Silence { port } => of_port(port, "drop"),
            Fault::Reset { port } => of_port(port, "reject with tcp reset"),
            Fault::ResetAll => vec!["meta l4proto tcp reject with tcp reset".to_owned()],
        };
        for rule in rules {
            within(hub, &format!("nft add rule {TABLE} forward {rule}"));
        }
    }

    /// The router only forwards again.
    pub(crate) fn end(&self) {
        within(self.router.0.id(), &format!("nft delete table {TABLE}"));
    }
}

/// A congestion control that fills queues, as most hosts have one, of those that a namespace may
/// choose.
fn loss_based_control() -> &'static str {
    let allowed = fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap();
    if allowed.split_whitespace().any(|name| name == "cubic") { "cubic" } else { "reno" }
}

/// Whether this process may have namespaces; if not, the test is said to be skipped.
pub(crate) fn are_allowed() -> bool {
    let allowed = finish(Command::new("unshare").args(["--net", "true"]), None);
    if allowed.code != 0 {
        skip(&format!("no network namespaces without root ({})", allowed.stderr.trim_end()));
    }
    allowed.code == 0
}

/// The same command, in the namespace of a process.
pub(crate) fn inside(pid: u32, inner: &Command) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--net", "--"]);
    command.arg(inner.get_program()).args(inner.get_args());
    for (variable, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command
}

/// A process in a network namespace of its own, which ends when its input does.
pub(crate) fn hold() -> Guarded {
    let mut command = Command::new("unshare");
    command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let holder = Guarded(command.spawn().unwrap());
    let path = format!("/proc/{}/ns/net", holder.0.id());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    wait_for("a network namespace", || fs::read_link(&path).ok().filter(|space| *space != own));
    holder
}

/// Runs a command, whose words contain no spaces, and fails the test if it fails.
pub(crate) fn execute(command: &str) {
    let mut words = command.split_whitespace();
    let done = finish(Command::new(words.next().unwrap()).args(words), None);
    assert_eq!(done.code, 0, "{command}: {done:?}");
}

/// The same, in the namespace of a process.
pub(crate) fn within(pid: u32, command: &str) {
    execute(&format!("nsenter --target {pid} --net -- {command}"));
}
