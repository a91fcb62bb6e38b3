//! The peer's round trip: one message there, one back, one at a time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::intake::{Quantiles, histogram_ns};
use crate::machine::now_ns;
use crate::nats::connection::Connection;
use crate::nats::{SUBJECT_BACK, SUBJECT_THERE};
use crate::worker::{Event, Order, orders, report};

/// An answer that takes longer is none.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// How long one probe is waited for.
const PROBE_PATIENCE: Duration = Duration::from_millis(50);

/// How long the far side may take to hear of the subjects.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// What pinger and echo have to know.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) server: SocketAddr,
    pub(crate) payload_bytes: usize,
    pub(crate) warmup_s: f64,
    pub(crate) window_s: f64,
}

/// Sends every message on the way there back.
pub(crate) fn run_echo(spec: &Spec) -> Result<()> {
    let _orders = orders();
    let mut connection = Connection::open(spec.server)?;
    connection.subscribe(SUBJECT_THERE)?;
    connection.set_patience(Duration::from_secs(1))?;
    report(&Event::Ready)?;
    let mut answer = Vec::with_capacity(spec.payload_bytes + 64);
    loop {
        answer.clear();
        if !connection.wait()? {
            continue;
        }
        connection.drain(|message| {
            answer
                .extend_from_slice(format!("PUB {SUBJECT_BACK} {}\r\n", message.len()).as_bytes());
            answer.extend_from_slice(message);
            answer.extend_from_slice(b"\r\n");
            Ok(())
        })?;
        if !answer.is_empty() {
            connection.write(&answer)?;
        }
    }
}

/// Measures round trips, one in flight.
pub(crate) fn run_pinger(spec: &Spec) -> Result<()> {
    let orders = orders();
    let mut connection = Connection::open(spec.server)?;
    connection.subscribe(SUBJECT_BACK)?;
    connection.set_patience(PROBE_PATIENCE)?;
    let mut ping = vec![0; spec.payload_bytes];
    let deadline = Instant::now() + READY_PATIENCE;
    // Probes before the far side has heard of the subjects are lost; an answer to one that only
    // was slow must not be taken for an answer to a later one, so each carries its number.
    while !round(&mut connection, &mut ping)? {
        if Instant::now() > deadline {
            bail!("no probe came back for {} s", READY_PATIENCE.as_secs());
        }
    }
    report(&Event::Ready)?;
    let _start: Order = orders.recv().context("orders")?;
    connection.set_patience(ANSWER_PATIENCE)?;

    let mut histogram = histogram_ns()?;
    let open_ns = now_ns() + (spec.warmup_s * 1e9) as u64;
    let close_ns = open_ns + (spec.window_s * 1e9) as u64;
    let mut began = now_ns();
    while began < close_ns {
        if !round(&mut connection, &mut ping)? {
            bail!("no answer for {} s", ANSWER_PATIENCE.as_secs());
        }
        let ended = now_ns();
        if began >= open_ns {
            histogram.saturating_record(ended - began);
        }
        began = ended;
    }
    report(&Event::RoundTrips { rounds: histogram.len(), round_trip: Quantiles::of_ns(&histogram) })
}

/// One message there and back. False: no answer within the connection's patience.
fn round(connection: &mut Connection, ping: &mut [u8]) -> Result<bool> {
    let number = {
        let (number, _) = ping.split_first_chunk_mut::<8>().context("payload")?;
        *number = (u64::from_le_bytes(*number) + 1).to_le_bytes();
        *number
    };
    connection.publish(SUBJECT_THERE, ping)?;
    let mut answered = false;
    while !answered {
        if !connection.wait()? {
            return Ok(false);
        }
        connection.drain(|message| {
            answered |= message.starts_with(&number);
            Ok(())
        })?;
    }
    Ok(true)
}
