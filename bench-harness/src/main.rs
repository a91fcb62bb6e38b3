//! Load, latency and peer comparison of whole daemons, from outside.
//!
//! Starts real `hawser` processes, joins them to a mesh, and lets a publisher and a subscriber,
//! which are processes too, work through them. Owns no protocol of the mesh: it only speaks the
//! gRPC interface, as any application does.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::chaos::ChaosSpec;
use crate::cli::{
    ChainArgs, ChaosArgs, Cli, Command, LoadArgs, NatsArgs, PeersArgs, ProfileName, RerouteArgs,
    StripeArgs, WorkerCommand,
};
use crate::cores::Placement;
use crate::load::LoadSpec;
use crate::peers::PeersSpec;
use crate::report::{Report, Rows, decimals, print, progress};
use crate::reroute::RerouteSpec;
use crate::run::Load;
use crate::stripe::StripeSpec;

mod batch;
mod chain;
mod chaos;
mod cli;
mod cores;
mod diagnosis;
mod filler;
mod http2;
mod intake;
mod load;
mod machine;
mod mesh;
mod nats;
mod node;
mod peers;
mod process;
mod publisher;
mod report;
mod reroute;
mod round_trip;
mod run;
mod stamp;
mod stripe;
mod subscriber;
mod tally;
mod worker;

/// Messages were lost or duplicated, or, in chaos, reordered.
const EXIT_LOSS: u8 = 6;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Worker(command) => work(command).map(|()| false),
        command => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("runtime")
            .and_then(|runtime| {
                let outcome = runtime.block_on(until_signal(measure(command)));
                // A chain that is under way ends by itself; nobody waits for it.
                runtime.shutdown_background();
                outcome
            }),
    };
    match outcome {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(EXIT_LOSS),
        Err(error) => {
            // Nothing is left to do if even that cannot be said.
            let _ = writeln!(io::stderr(), "hawser-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `task`; a signal to end drops it, and with it every process and directory that it made.
async fn until_signal<T>(task: impl Future<Output = Result<T>>) -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        outcome = task => outcome,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
        _ = hangup.recv() => bail!("the terminal is gone"),
    }
}

/// Runs a command of the user's. True if something was lost or came twice.
async fn measure(command: Command) -> Result<bool> {
    match command {
        Command::Load(args) => measure_load(args).await,
        Command::Peers(args) => measure_peers(args).await,
        Command::Chaos(args) => measure_chaos(args).await,
        Command::Stripe(args) => measure_stripe(args).await,
        Command::Reroute(args) => measure_reroute(args).await,
        Command::Chain(args) => measure_chain(&args).await,
        Command::Nats(args) => measure_nats(args).await,
        Command::Worker(_) => bail!("a worker needs no runtime"),
    }
}

async fn measure_load(args: LoadArgs) -> Result<bool> {
    let hawser = find_hawser(args.ours.hawser.as_deref())?;
    let load = Load {
        hops: usize::from(args.hops),
        payload_bytes: args.payload,
        warmup_s: args.ours.warmup,
        window_s: args.seconds,
        rate_per_s: args.rate,
    };
    let profile = args.ours.profile.map(ProfileName::as_str);
    let placement = args.ours.placement.as_ref();
    let row = load::measure(LoadSpec { hawser: &hawser, profile, load, placement }).await?;
    print(&row, args.ours.json)?;
    Ok(row.has_loss())
}

async fn measure_peers(args: PeersArgs) -> Result<bool> {
    let hawser = find_hawser(args.ours.hawser.as_deref())?;
    let nats = nats::install::find(args.nats.as_deref()).await?;
    progress(&format!("peer: nats-server {}, {}", nats.version, nats.path.display()));
    let spec = PeersSpec {
        hawser: &hawser,
        profile: args.ours.profile.map(ProfileName::as_str),
        nats: &nats,
        seconds: args.seconds,
        warmup_s: args.ours.warmup,
        runs: usize::from(args.runs),
        placement: args.ours.placement.as_ref(),
    };
    let mut has_loss = false;
    for &hops in &args.hops {
        let hops = usize::from(hops);
        let lone = spec.measure_lone(hops).await?;
        for &payload in &args.payload {
            let row = spec.measure(hops, payload, &lone).await?;
            print(&row, args.ours.json)?;
            has_loss |= row.has_loss();
        }
    }
    Ok(has_loss)
}

async fn measure_chaos(args: ChaosArgs) -> Result<bool> {
    let hawser = find_hawser(args.ours.hawser.as_deref())?;
    let spec = ChaosSpec {
        hawser: &hawser,
        profile: args.ours.profile.map(ProfileName::as_str),
        placement: args.ours.placement.as_ref(),
        scenario: args.scenario,
        faults: args.faults.map(|faults| faults as usize),
        seconds: args.seconds,
        seed: args.seed,
        payload_bytes: args.payload as usize,
        rate_per_s: args.rate,
        control_s: args.control_seconds,
        warmup_s: args.ours.warmup,
        delay: Duration::from_millis(args.delay_ms.into()),
        collapsed: args.collapsed,
        stripe: args.stripe,
        rate_mbit: args.rate_mbit,
        window_s: args.window_seconds,
    };
    let row = chaos::measure(&spec).await?;
    print(&row, args.ours.json)?;
    Ok(row.has_loss())
}

async fn measure_stripe(args: StripeArgs) -> Result<bool> {
    let hawser = find_hawser(args.ours.hawser.as_deref())?;
    let spec = StripeSpec {
        hawser: &hawser,
        profile: args.ours.profile.map(ProfileName::as_str),
        placement: args.ours.placement.as_ref(),
        lane_mbit: args.lane_mbit,
        payload_bytes: args.payload as usize,
        runs: usize::from(args.runs),
        window_s: args.seconds,
        control_s: args.control_seconds,
        warmup_s: args.ours.warmup,
    };
    let row = stripe::measure(&spec).await?;
    print(&row, args.ours.json)?;
    Ok(row.has_loss())
}

async fn measure_reroute(args: RerouteArgs) -> Result<bool> {
    let hawser = find_hawser(args.hawser.as_deref())?;
    let mut has_loss = false;
    for fault in args.fault {
        let spec = RerouteSpec {
            hawser: &hawser,
            profile: args.profile.map(ProfileName::as_str),
            fault,
            rounds: usize::from(args.rounds),
            payload_bytes: args.payload,
            rate_per_s: args.rate,
        };
        let row = reroute::measure(&spec).await?;
        print(&row, args.json)?;
        has_loss |= row.has_loss();
    }
    Ok(has_loss)
}

async fn measure_nats(args: NatsArgs) -> Result<bool> {
    let nats = nats::install::find(args.nats.as_deref()).await?;
    let load = Load {
        hops: usize::from(args.hops),
        payload_bytes: args.payload,
        warmup_s: args.warmup,
        window_s: args.seconds,
        rate_per_s: None,
    };
    print(&nats::alone::measure(&nats, &load, args.placement.as_ref()).await?, args.json)?;
    Ok(false)
}

/// The chain alone.
#[derive(Serialize)]
struct ChainRow {
    hops: usize,
    chain_bytes_per_s: f64,
}

impl Report for ChainRow {
    fn has_loss(&self) -> bool {
        false
    }

    fn rows(&self) -> Rows {
        let sockets = self.hops + 2;
        vec![("chain", format!("{sockets} sockets, {:.0} MB/s", self.chain_bytes_per_s / 1e6))]
    }
}

async fn measure_chain(args: &ChainArgs) -> Result<bool> {
    let hops = usize::from(args.hops);
    let placement = Placement::choose(hops, None)?;
    let rate = chain::measure_aside(placement.chain, args.seconds).await?;
    print(&ChainRow { hops, chain_bytes_per_s: decimals(rate, 0) }, args.json)?;
    Ok(false)
}

/// The `hawser` that the user named, or the one beside this program.
fn find_hawser(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => env::current_exe()
            .context("this program's own path")?
            .parent()
            .map(|directory| directory.join("hawser"))
            .context("this program has no directory")?,
    };
    if !Path::is_file(&path) {
        bail!(
            "{}: no such file; build it with `cargo build --release`, or name one with --hawser",
            path.display()
        );
    }
    path.canonicalize().with_context(|| path.display().to_string())
}

/// Does what the harness started this process for.
fn work(command: WorkerCommand) -> Result<()> {
    match command {
        WorkerCommand::Exec { parent, cores, program } => process::exec(parent, &cores, &program),
        WorkerCommand::Publisher { spec } => worker::run(&spec, publisher::run),
        WorkerCommand::Subscriber { spec } => worker::run(&spec, subscriber::run),
        WorkerCommand::Pinger { spec } => worker::run(&spec, round_trip::run_pinger),
        WorkerCommand::Echo { spec } => worker::run(&spec, round_trip::run_echo),
        WorkerCommand::NatsPublisher { spec } => worker::run(&spec, nats::publisher::run),
        WorkerCommand::NatsSubscriber { spec } => worker::run(&spec, nats::subscriber::run),
        WorkerCommand::NatsPinger { spec } => worker::run(&spec, nats::round_trip::run_pinger),
        WorkerCommand::NatsEcho { spec } => worker::run(&spec, nats::round_trip::run_echo),
    }
}
