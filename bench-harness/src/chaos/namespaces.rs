//! Two network namespaces, and a third one between them that routes through a bottleneck.
//!
//! The bottleneck is a host of its own because the kernel keeps a socket from filling a queue of
//! its own host (TCP small queues), and so would hide what the nodes do.
//!
//! Each lives as long as a process that does nothing in it, so that even a SIGKILL of the harness
//! leaves nothing behind. Needs root, and the commands `unshare`, `nsenter`, `sysctl`, `ip` and `tc`.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::time::sleep;

use crate::process::{self, Process};

/// How long the kernel may take to make a namespace.
const PATIENCE: Duration = Duration::from_secs(5);

/// The device of A and of B in their namespaces; towards the router both look alike.
const DEVICE: &str = "hawser0";

/// Where B accepts lanes: the namespaces are empty, so every port is free.
const LANES: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 2, 1)), 7480);

/// Address of a node, and of the router towards it.
const ENDS: [(&str, &str); 2] = [("10.77.1.1", "10.77.1.2"), ("10.77.2.1", "10.77.2.2")];

/// The queue of a bottleneck holds so much time, as that of a router with too much memory: it is
/// up to the nodes to leave it short.
const QUEUE_MS: u64 = 200;

/// What a bottleneck lets through at once, in bytes: a few packets.
const BURST_BYTES_MIN: u64 = 16 << 10;

/// The namespaces of A and B and of the router between them.
#[derive(Debug)]
pub(crate) struct Namespaces {
    ends: [Process; 2],
    router: Process,
}

impl Namespaces {
    /// Makes them, with a bottleneck of `rate_mbit` megabits a second in each direction.
    pub(crate) async fn start(rate_mbit: u32) -> Result<Self> {
        let namespaces = Self::start_wide().await?;
        // The timer may run no more than a hundred times a second: that must do for the rate.
        let burst_bytes = (u64::from(rate_mbit) * 1_000_000 / 8 / 100).max(BURST_BYTES_MIN);
        let bottleneck = format!("rate {rate_mbit}mbit burst {burst_bytes}b latency {QUEUE_MS}ms");
        for n in 0..ENDS.len() {
            namespaces.route(&format!("tc qdisc add dev hop{n} root tbf {bottleneck}")).await?;
        }
        Ok(namespaces)
    }

    /// Makes them without a bottleneck.
    pub(crate) async fn start_wide() -> Result<Self> {
        let router = hold().await?;
        let ends = [hold().await?, hold().await?];
        let hub = router.pid();
        let control = loss_based_control()?;
        for (n, (end, (address, gateway))) in ends.iter().zip(ENDS).enumerate() {
            let (end, hop) = (end.pid(), format!("hop{n}"));
            let peer = format!("peer name {hop} netns {hub}");
            run(&format!("ip link add {DEVICE} netns {end} type veth {peer}")).await?;
            for (pid, command) in [
                (end, "ip link set lo up".to_owned()),
                // Packets as they would be on a wire: the bottleneck counts each.
                (end, format!("ip link set {DEVICE} gso_max_segs 1")),
                (end, format!("ip address add {address}/30 dev {DEVICE}")),
                (end, format!("ip link set {DEVICE} up")),
                (hub, format!("ip address add {gateway}/30 dev {hop}")),
                (hub, format!("ip link set {hop} up")),
                (end, format!("ip route add default via {gateway}")),
                // What Linux does unless told otherwise, and what fills queues.
                (end, format!("sysctl -qw net.ipv4.tcp_congestion_control={control}")),
                // A process sees these of its own namespace.
                (hub, "sysctl -qw net.ipv4.ip_forward=1".to_owned()),
            ] {
                run(&format!("nsenter --target {pid} --net -- {command}")).await?;
            }
        }
        Ok(Self { ends, router })
    }

    /// Runs a command, whose words contain no spaces, in the router.
    pub(crate) async fn route(&self, command: &str) -> Result<()> {
        run(&format!("nsenter --target {} --net -- {command}", self.router.pid())).await
    }

    /// The router's device towards B.
    pub(crate) const fn towards_b() -> &'static str {
        "hop1"
    }

    /// Where B is to listen.
    pub(crate) const fn address() -> SocketAddr {
        LANES
    }

    /// What A and B are to run behind.
    pub(crate) fn prefixes(&self) -> [Vec<OsString>; 2] {
        self.ends.each_ref().map(|end| {
            let pid = end.pid().to_string();
            ["nsenter", "--target", &pid, "--net", "--"].map(OsString::from).to_vec()
        })
    }
}

/// A congestion control that fills queues, as most hosts have one, of those that a namespace may
/// choose.
fn loss_based_control() -> Result<&'static str> {
    let path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = fs::read_to_string(path).context(path)?;
    Ok(if allowed.split_whitespace().any(|name| name == "cubic") { "cubic" } else { "reno" })
}

/// A process in a network namespace of its own.
pub(crate) async fn hold() -> Result<Process> {
    let mut command = process::command(Path::new("unshare"), &[]);
    // It ends when its input does.
    command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = Process::spawn("network namespace", command)?;
    let own = fs::read_link("/proc/self/ns/net").context("/proc/self/ns/net")?;
    let path = format!("/proc/{}/ns/net", process.pid());
    let deadline = Instant::now() + PATIENCE;
    loop {
        process.ensure_running().context("network namespaces need root")?;
        if fs::read_link(&path).is_ok_and(|namespace| namespace != own) {
            return Ok(process);
        }
        if Instant::now() > deadline {
            bail!("no network namespace within {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Runs a command, whose words contain no spaces, to its end.
pub(crate) async fn run(command: &str) -> Result<()> {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().context("no command")?)
        .args(words)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| command.to_owned())?;
    if !output.status.success() {
        bail!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
