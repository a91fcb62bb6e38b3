//! Our subscriber: batches over the node's unix socket.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hawser_proto::client;
use hawser_proto::v1::{ClientDataBatch, StreamSelector};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tonic::{Code, Streaming};

use crate::intake::Intake;
use crate::machine::now_ns;
use crate::worker::{Event, Order, next_order, orders, report};

/// What never came for so long after the publisher's end never comes.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// How long the stream may take to become known at this node.
const STREAM_PATIENCE: Duration = Duration::from_secs(10);

/// What the subscriber has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) socket: PathBuf,
    pub(crate) stream_id: String,
    pub(crate) payload_bytes: usize,
    pub(crate) warmup_s: f64,
    pub(crate) window_s: f64,
}

pub(crate) async fn run(spec: Spec) -> Result<()> {
    let mut orders = orders();
    let mut intake = Intake::new(spec.payload_bytes, spec.warmup_s, spec.window_s)?;
    let mut batches = subscribe(&spec.socket, &spec.stream_id).await?;
    report(&Event::Ready)?;
    let published = loop {
        tokio::select! {
            batch = batches.message() => {
                let batch = batch?.context("the node ended the subscription")?;
                if let Some(turn) = take(&batch, &mut intake)? {
                    report(&turn)?;
                }
            }
            order = next_order(&mut orders) => match order {
                Order::Finish { published } => break published,
                order => bail!("{order:?} is no order for a subscriber"),
            },
        }
    };
    // What does not come any more is lost, and the account says so.
    while intake.distinct() < published {
        match timeout(DRAIN_PATIENCE, batches.message()).await {
            Ok(batch) => {
                let batch = batch?.context("the node ended the subscription")?;
                take(&batch, &mut intake)?;
            }
            Err(_elapsed) => break,
        }
    }
    report(&Event::Received(intake.report(published)?))
}

/// Takes all messages of `batch`.
fn take(batch: &ClientDataBatch, intake: &mut Intake) -> Result<Option<Event>> {
    let now = now_ns();
    let mut rest: &[u8] = &batch.payload;
    for &length in &batch.lengths {
        let Some((message, after)) = rest.split_at_checked(length as usize) else {
            bail!("a batch whose lengths exceed its payload of {} bytes", batch.payload.len());
        };
        intake.handle_message(message, now)?;
        rest = after;
    }
    if !rest.is_empty() {
        bail!("a batch with {} bytes beyond its messages", rest.len());
    }
    Ok(intake.end_batch(now).map(Event::from))
}

/// Subscribes to a stream from its first message; waits until the node knows the stream.
pub(crate) async fn subscribe(
    socket: &Path,
    stream_id: &str,
) -> Result<Streaming<ClientDataBatch>> {
    let mut data = client::mesh_data(client::connect_unix(socket).await?);
    let deadline = Instant::now() + STREAM_PATIENCE;
    loop {
        let selector = StreamSelector {
            stream_id: stream_id.to_owned(),
            consumer: "bench".to_owned(),
            from_seq: 1,
            manual_commit: false,
        };
        match data.subscribe_client_data_batches(selector).await {
            Ok(batches) => return Ok(batches.into_inner()),
            Err(status) if status.code() == Code::NotFound && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(status) => return Err(status).context("subscribe"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;

    #[test]
    fn a_batch_must_add_up() {
        let mut payload = Vec::new();
        for seq in 1..=3 {
            payload.extend_from_slice(&Stamp { seq, at_ns: 1 }.encode());
        }
        let mut intake = Intake::new(16, 1.0, 1.0).unwrap();
        let mut batch = ClientDataBatch {
            first_seq: 1,
            lengths: vec![16; 3],
            payload: payload.into(),
            ..ClientDataBatch::default()
        };
        take(&batch, &mut intake).unwrap();
        assert_eq!(intake.distinct(), 3);
        batch.lengths.push(1);
        assert!(take(&batch, &mut intake).is_err());
        batch.lengths = vec![16; 2];
        assert!(take(&batch, &mut intake).is_err());
    }
}
