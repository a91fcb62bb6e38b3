#![allow(clippy::all)]
use crate::session::SessionHandle;
use crate::subscription::RecordQueue;
use hawser_proto::v1::ClientDataBatch;
use hawser_wire::Record;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;
pub(crate) fn old(side: &str) -> bool {
    std::env::var("HAWSER_OLD").is_ok_and(|v| v.contains(side))
}
/// The response of `SubscribeClientDataBatches`: one batch a record.
#[derive(Debug)]
pub(crate) struct BatchStream {
    queue: RecordQueue,
    stream_id: String,
    ended: bool,
}

impl BatchStream {
    pub(crate) fn new(handle: SessionHandle, records: mpsc::Receiver<Box<Record>>) -> Self {
        let stream_id = handle.shared.stream.to_string();
        let queue = RecordQueue::new(handle, records);
        Self { queue, stream_id, ended: false }
    }
}

impl Stream for BatchStream {
    type Item = Result<ClientDataBatch, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let record = match ready!(self.queue.poll_record(cx)) {
            Some(Ok(record)) => record,
            Some(Err(status)) => {
                self.ended = true;
                return Poll::Ready(Some(Err(status)));
            }
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        let credit = record.charge_bytes();
        let _ = credit;
        self.queue.take(&record);
        Poll::Ready(Some(Ok(ClientDataBatch {
            stream_id: self.stream_id.clone(),
            first_seq: record.header.stream_base.0.saturating_add(1),
            lengths: record.message_lengths().collect(),
            payload: record.payload,
        })))
    }
}
