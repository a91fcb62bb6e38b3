//! `hawser demo`: the main job on this machine, with real processes, files and sockets.
//!
//! A chain of nodes whose ends only dial; files of one end's application reach the other's while a
//! relay is killed and started again. Everything is checked at the two applications.

mod chain;
mod compare;
mod files;
mod ledger;
mod node;
mod receiver;
mod report;
mod transfer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::block_on;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Output, bytes_text, counted, say};
use chain::Chain;
use files::Selection;
use report::Report;
use transfer::Transfer;

/// The relay that is killed, by its place in the chain.
const VICTIM: usize = 1;

/// Name of the producer and of the consumer.
const CONSUMER: &str = "demo";
/// Name of the stream.
const STREAM: &str = "files";

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Send this directory [default: at most 64 MiB of ${CARGO_HOME:-~/.cargo}/registry/cache,
    /// else of the current directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Nodes in the chain.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=16))]
    nodes: u16,
    /// Leave the mesh running, and say what to try next.
    #[arg(long)]
    keep: bool,
}

/// # Errors
/// [`Exit::Loss`] on any loss, duplicate or difference; otherwise whatever kept it from running.
/// Processes and directories are gone when it returns, unless they were to be kept.
pub(crate) fn run(args: DemoArgs, out: Output) -> Result<(), Failure> {
    block_on(async {
        let interrupted = interruption()?;
        tokio::select! {
            done = show(args, out) => done,
            failure = interrupted => Err(failure),
        }
    })
}

/// Ready when the user has had enough. What is dropped then takes its processes with it.
fn interruption() -> Result<impl Future<Output = Failure>, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::plain(format!("cannot listen to signals: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _signal = interrupt.recv() => {}
            _signal = terminate.recv() => {}
            _signal = hangup.recv() => {}
        }
        Failure::plain("interrupted; the nodes are stopped and their directories removed")
    })
}

async fn show(args: DemoArgs, out: Output) -> Result<(), Failure> {
    let began = Instant::now();
    let tell = |text: &str| {
        if !out.is_json() {
            say(text);
        }
    };
    let selection = Selection::choose(args.dir)?;
    for warning in &selection.warnings {
        tell(&format!("warning: {warning}"));
    }
    tell(&format!(
        "sending {}, {} of {}",
        counted(selection.file_count(), "file"),
        bytes_text(selection.bytes()),
        selection.root.display(),
    ));
    let mut chain = Chain::start(usize::from(args.nodes)).await?;
    tell(&format!("mesh of {} processes: {}", args.nodes, chain.picture()));
    let transfer = Transfer::prepare(&mut chain, selection, out).await?;
    let outcome = transfer.run(&mut chain).await.map_err(|failure| chain.with_logs(failure))?;
    let report = Report::new(&outcome, began.elapsed());
    out.value(&report, || report.text())?;
    if args.keep {
        // Said with --json, too: nobody else knows of them.
        say(&chain.keep()?);
    } else {
        chain.stop().await;
    }
    report.verdict(&outcome)
}

/// Asks until there is an answer, or `within` has passed: then the last failure.
async fn poll_until<T, F>(within: Duration, mut ask: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<Option<T>, Failure>>,
{
    let deadline = Instant::now() + within;
    loop {
        let answer = ask().await;
        let late = Instant::now() >= deadline;
        match answer {
            Ok(Some(answer)) => return Ok(answer),
            Err(failure) if late => return Err(failure),
            Ok(None) if late => {
                let seconds = within.as_secs();
                return Err(Failure::new(
                    Exit::Unreachable,
                    format!("nothing came of it within {seconds} s"),
                ));
            }
            Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
