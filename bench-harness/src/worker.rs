//! Publishers, subscribers and their like: this program again, in a process of its own.
//!
//! A worker gets a JSON specification as its argument. It reads orders from its standard input and
//! reports events on its standard output, one JSON value a line. It ends when its input does.

use std::io::{self, BufRead, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::intake::{Quantiles, Received, Turn};
use crate::process::{self, Process};

/// What the harness tells a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Publisher: send one probe.
    Probe,
    /// Publisher, pinger: begin.
    Start,
    /// Publisher: send no more, and report.
    Stop,
    /// Subscriber: report as soon as this many different messages arrived, or none does any more.
    Finish { published: u64 },
}

/// What a worker tells the harness.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub(crate) enum Event {
    /// Connected, subscribed.
    Ready,
    /// Subscriber: the first probe came through.
    Probed,
    /// Subscriber: the warm-up is over.
    Opened,
    /// Subscriber: the window is over.
    Closed,
    /// Publisher: the last word.
    Published { messages: u64 },
    /// Subscriber: the last word.
    Received(Received),
    /// Pinger: the last word.
    RoundTrips { rounds: u64, round_trip: Quantiles },
    /// Any: it cannot go on.
    Failed { detail: String },
}

impl From<Turn> for Event {
    fn from(turn: Turn) -> Self {
        match turn {
            Turn::Opened => Self::Opened,
            Turn::Closed => Self::Closed,
        }
    }
}

/// A worker as the harness sees it.
#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    process: Process,
    orders: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts `hawser-bench SUBCOMMAND SPEC` on `cores`.
    pub(crate) fn spawn(subcommand: &str, spec: &impl Serialize, cores: &[usize]) -> Result<Self> {
        let mut command = process::command_of_self(cores);
        command.arg(subcommand).arg(serde_json::to_string(spec)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let name = subcommand.trim_start_matches('_').to_owned();
        let mut process = Process::spawn(&name, command)?;
        let orders = process.child_mut().stdin.take().context("no standard input")?;
        let events = process.child_mut().stdout.take().context("no standard output")?;
        Ok(Self { name, process, orders, events: BufReader::new(events).lines() })
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends an order.
    pub(crate) async fn order(&mut self, order: Order) -> Result<()> {
        let mut line = serde_json::to_string(&order)?;
        line.push('\n');
        self.orders.write_all(line.as_bytes()).await.with_context(|| self.name.clone())
    }

    /// The next event.
    ///
    /// # Errors
    /// If the worker failed, ended, or said nothing for `patience`.
    pub(crate) async fn event(&mut self, patience: Duration) -> Result<Event> {
        let event = self.event_within(patience).await?;
        event.with_context(|| format!("the {} said nothing for {patience:?}", self.name))
    }

    /// The next event, or nothing if none came within `patience`.
    ///
    /// # Errors
    /// If the worker failed or ended.
    pub(crate) async fn event_within(&mut self, patience: Duration) -> Result<Option<Event>> {
        let Ok(line) = timeout(patience, self.events.next_line()).await else {
            return Ok(None);
        };
        let Some(line) = line.with_context(|| self.name.clone())? else {
            let status = self.process.child_mut().wait().await?;
            bail!("the {} ended: {status}", self.name);
        };
        let event = serde_json::from_str(&line)
            .with_context(|| format!("the {} said {line:?}", self.name))?;
        match event {
            Event::Failed { detail } => bail!("{}: {detail}", self.name),
            event => Ok(Some(event)),
        }
    }

    /// The next event, which must be `expected`.
    pub(crate) async fn expect(&mut self, expected: &Event, patience: Duration) -> Result<()> {
        let event = self.event(patience).await?;
        if std::mem::discriminant(&event) != std::mem::discriminant(expected) {
            bail!("the {} said {event:?} where {expected:?} was due", self.name);
        }
        Ok(())
    }
}

/// Worker's side: reports an event.
pub(crate) fn report(event: &Event) -> Result<()> {
    let mut line = serde_json::to_string(event)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("the harness is gone")
}

/// Worker's side: hands each order to `handle`, on a thread of its own, and ends the process when
/// the harness closes the line.
fn read_orders(mut handle: impl FnMut(Order) + Send + 'static) {
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            match serde_json::from_str(&line) {
                Ok(order) => handle(order),
                Err(_) => break,
            }
        }
        std::process::exit(0);
    });
}

/// Worker's side: the orders.
pub(crate) fn orders() -> mpsc::Receiver<Order> {
    let (to, orders) = mpsc::channel();
    read_orders(move |order| {
        // The worker may have done its work already.
        let _ = to.send(order);
    });
    orders
}

/// Worker's side: runs `work` with the specification in `spec`; a failure is reported as an event,
/// then waits for the harness to end this process.
pub(crate) fn run<S: DeserializeOwned>(
    spec: &str,
    work: impl FnOnce(&S) -> Result<()>,
) -> Result<()> {
    // Started through /proc, it would be called `exe`.
    rustix::thread::set_name(c"hawser-bench").context("prctl")?;
    let outcome = serde_json::from_str(spec).context("specification").and_then(|spec| work(&spec));
    if let Err(error) = &outcome {
        report(&Event::Failed { detail: format!("{error:#}") })?;
    }
    // The figures in /proc are gone with the process, so the harness decides when it ends.
    loop {
        std::thread::park();
    }
}
