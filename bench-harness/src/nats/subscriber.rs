//! The peer's subscriber.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::intake::Intake;
use crate::machine::now_ns;
use crate::nats::SUBJECT;
use crate::nats::connection::Connection;
use crate::stamp::Stamp;
use crate::worker::{Event, Order, orders, report};

/// How often a subscriber without traffic looks for orders.
const TICK: Duration = Duration::from_millis(20);

/// What never came for so long after the publisher's end never comes.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// What the subscriber has to know.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) server: SocketAddr,
    pub(crate) payload_bytes: usize,
    pub(crate) warmup_s: f64,
    pub(crate) window_s: f64,
}

pub(crate) fn run(spec: &Spec) -> Result<()> {
    let orders = orders();
    let mut intake = Intake::new(spec.payload_bytes, spec.warmup_s, spec.window_s)?;
    let mut connection = Connection::open(spec.server)?;
    connection.subscribe(SUBJECT)?;
    connection.set_patience(TICK)?;
    report(&Event::Ready)?;
    let mut probed = false;
    let mut published = None;
    let mut heard = Instant::now();
    loop {
        if connection.wait()? {
            let now = now_ns();
            let (mut messages, mut probes) = (0, 0);
            connection.drain(|message| {
                messages += 1;
                let stamp = Stamp::decode(message).context("a message without a stamp")?;
                probes += usize::from(intake.handle_message(message.len(), stamp, now)?);
                Ok(())
            })?;
            if probes > 0 && !probed {
                probed = true;
                report(&Event::Probed)?;
            }
            if messages > probes {
                heard = Instant::now();
                intake.end_batch(now).map_or(Ok(()), |turn| report(&turn.into()))?;
            }
        }
        if let Ok(Order::Finish { published: messages }) = orders.try_recv() {
            published = Some(messages);
        }
        if let Some(published) = published
            && (intake.distinct() >= published || heard.elapsed() >= DRAIN_PATIENCE)
        {
            return report(&Event::Received(intake.report(published)?));
        }
    }
}
