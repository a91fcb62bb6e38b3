//! Our subscriber: batches over the node's unix socket.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use hawser_proto::v1::StreamSelector;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::batch::BatchReader;
use crate::diagnosis;
use crate::http2::{Call, Outgoing, Wait};
use crate::intake::Intake;
use crate::machine::now_ns;
use crate::worker::{Event, Order, orders, report};

/// The method, by its path.
const SUBSCRIBE: &str = "/hawser.v1.MeshDataService/SubscribeClientDataBatches";

/// How often a subscriber without traffic looks for orders.
const TICK: Duration = Duration::from_millis(20);

/// What never came for so long after the publisher's end never comes.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// What the subscriber has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) socket: PathBuf,
    pub(crate) stream_id: String,
    pub(crate) payload_bytes: usize,
    pub(crate) warmup_s: f64,
    pub(crate) window_s: f64,
}

pub(crate) fn run(spec: &Spec) -> Result<()> {
    let orders = orders();
    let mut intake = Intake::new(spec.payload_bytes, spec.warmup_s, spec.window_s)?;
    let mut reader = BatchReader::new();
    let mut call = subscribe(&spec.socket, &spec.stream_id)?;
    call.set_patience(TICK)?;
    report(&Event::Ready)?;
    let mut published = None;
    let mut heard = Instant::now();
    loop {
        let (mut now, mut messages) = (0, 0_u64);
        call.receive(Wait::Patience, |data| {
            if now == 0 {
                now = now_ns();
            }
            reader.feed(data, |length, stamp| {
                messages += 1;
                intake.handle_message(length, stamp, now).map(drop)
            })
        })?;
        if messages > 0 {
            heard = Instant::now();
            intake.end_batch(now).map_or(Ok(()), |turn| report(&turn.into()))?;
        }
        if let Ok(Order::Finish { published: messages }) = orders.try_recv() {
            published = Some(messages);
            heard = Instant::now();
        }
        // What does not come any more is lost, and the account says so.
        if let Some(published) = published
            && (intake.distinct() >= published || heard.elapsed() >= DRAIN_PATIENCE)
        {
            return report(&Event::Received(intake.report(published)?));
        }
        if call.is_ended() {
            let error = diagnosis::subscription(&spec.socket, selector(&spec.stream_id));
            return Err(error.context(format!("{} messages came", intake.distinct())));
        }
    }
}

/// Subscribes to a stream that the node knows, from its first message.
pub(crate) fn subscribe(socket: &Path, stream_id: &str) -> Result<Call> {
    let mut call = Call::open(socket, SUBSCRIBE)?;
    call.send(&[Outgoing { head: &selector(stream_id).encode_to_vec(), body: &[] }])?;
    call.finish()?;
    Ok(call)
}

/// All of a stream.
pub(crate) fn selector(stream_id: &str) -> StreamSelector {
    StreamSelector {
        stream_id: stream_id.to_owned(),
        consumer: "bench".to_owned(),
        from_seq: 1,
        manual_commit: false,
    }
}
