//! One stream that carries messages: a publisher, which is a process, and the subscriber that
//! accounts for them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::sleep;

use super::watcher::{Account, Watcher};
use crate::publisher;
use crate::worker::{Event, Order, Worker};

/// How long the publisher may take to do what it is told.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the harness looks whether messages come.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What is to be carried, from where to where.
#[derive(Debug)]
pub(crate) struct FlowSpec<'a> {
    /// Sockets of the nodes.
    pub(crate) from: &'a Path,
    pub(crate) to: &'a Path,
    pub(crate) stream_id: String,
    pub(crate) payload_bytes: usize,
    /// Messages a second, sent when they are due whatever happens; none: full speed.
    pub(crate) rate_per_s: Option<f64>,
    /// Of the publisher.
    pub(crate) cores: &'a [usize],
}

/// A stream in use.
#[derive(Debug)]
pub(crate) struct Flow {
    publisher: Worker,
    pub(crate) watcher: Watcher,
}

impl Flow {
    /// Subscribes, publishes, and waits for the first message.
    pub(crate) async fn start(spec: FlowSpec<'_>) -> Result<Self> {
        let FlowSpec { from, to, stream_id, payload_bytes, rate_per_s, cores } = spec;
        let watcher = Watcher::start(to, &stream_id, payload_bytes)?;
        let from =
            publisher::Spec { socket: from.to_owned(), stream_id, payload_bytes, rate_per_s };
        let mut publisher = Worker::spawn("__publisher", &from, cores)?;
        publisher.expect(&Event::Ready, PATIENCE).await?;
        publisher.order(Order::Start).await?;
        let mut flow = Self { publisher, watcher };
        flow.await_messages().await?;
        Ok(flow)
    }

    async fn await_messages(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.watcher.received() == 0 {
            self.watcher.ensure_running()?;
            if Instant::now() > deadline {
                bail!("no message came within {} s", PATIENCE.as_secs());
            }
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// Ends the publisher once all that it sent is acknowledged, and accounts for it.
    pub(crate) async fn finish(mut self) -> Result<Account> {
        self.publisher.order(Order::Stop).await?;
        match self.publisher.event(PATIENCE).await? {
            Event::Published { messages } => self.watcher.finish(messages).await,
            event => bail!("the publisher said {event:?} at its end"),
        }
    }
}
