//! The peer's publisher: writes as fast as the server takes.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, TryRecvError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::filler::Filler;
use crate::machine::now_ns;
use crate::nats::SUBJECT;
use crate::nats::connection::Connection;
use crate::worker::{Event, Order, orders, report};

/// Bytes written at once, about: as many as our own publisher writes.
const WRITE_BYTES: usize = 256 << 10;

/// How often the server's pings are looked for.
const PING_INTERVAL_NS: u64 = 1_000_000_000;

/// What the publisher has to know.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) server: SocketAddr,
    pub(crate) payload_bytes: usize,
}

pub(crate) fn run(spec: &Spec) -> Result<()> {
    let orders = orders();
    let mut connection = Connection::open(spec.server)?;
    report(&Event::Ready)?;
    let probe = vec![0; spec.payload_bytes];
    while orders.recv().context("orders")? == Order::Probe {
        connection.publish(SUBJECT, &probe)?;
    }
    let messages = publish(&mut connection, spec.payload_bytes, &orders)?;
    report(&Event::Published { messages })
}

/// Publishes until the next order. Returns how many messages.
fn publish(connection: &mut Connection, payload: usize, orders: &Receiver<Order>) -> Result<u64> {
    let prefix = format!("PUB {SUBJECT} {payload}\r\n");
    let batch = (WRITE_BYTES / (prefix.len() + payload + 2)).max(1);
    let mut filler = Filler::new(prefix.as_bytes(), payload, b"\r\n", batch);
    let mut pings_due_ns = now_ns() + PING_INTERVAL_NS;
    while matches!(orders.try_recv(), Err(TryRecvError::Empty)) {
        let now = now_ns();
        connection.write(filler.fill(batch, |_| now))?;
        if now >= pings_due_ns {
            connection.answer_pings()?;
            pings_due_ns = now + PING_INTERVAL_NS;
        }
    }
    connection.flush()?;
    Ok(filler.next_seq() - 1)
}
