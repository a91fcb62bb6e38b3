use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hawser_proto::v1::ClientData;
use hawser_wire::Record;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::failure::stopping;
use crate::publish_call::len_u64;
use crate::session::SessionHandle;

/// The pump is told at the latest after so many payload bytes were handed out; sooner whenever the
/// queue is empty.
const NOTE_BYTES: u64 = 256 << 10;

/// A subscription's records, as HTTP/2 takes them.
///
/// A record counts as handed out when the next one is asked for: HTTP/2 asks again only when it has
/// room for more. So its flow control reaches the stream's source by way of the credit.
#[derive(Debug)]
pub(crate) struct RecordQueue {
    handle: SessionHandle,
    records: mpsc::Receiver<Box<Record>>,
    /// What was taken last: behind which offset it ends, and its credit.
    taken: Option<(u64, u64)>,
    /// Credit of what was handed out since the pump was told.
    unnoted_bytes: u64,
    /// Something was, if only empty messages.
    unnoted: bool,
}

impl RecordQueue {
    pub(crate) const fn new(handle: SessionHandle, records: mpsc::Receiver<Box<Record>>) -> Self {
        Self { handle, records, taken: None, unnoted_bytes: 0, unnoted: false }
    }

    /// The whole of `record` is what is handed out next.
    pub(crate) fn take(&mut self, record: &Record) {
        self.taken = Some((record.header.stream_end().0, record.charge_bytes()));
    }

    /// What was taken before has been handed out.
    fn hand_out(&mut self) {
        let Some((next, bytes)) = self.taken.take() else { return };
        self.handle.hand_out(next, bytes);
        self.unnoted = true;
        self.unnoted_bytes += bytes;
        if self.unnoted_bytes >= NOTE_BYTES {
            self.note();
        }
    }

    fn note(&mut self) {
        self.unnoted = false;
        self.unnoted_bytes = 0;
        self.handle.note();
    }

    /// The next record; what was taken before counts as handed out.
    pub(crate) fn poll_record(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Box<Record>, Status>>> {
        self.hand_out();
        match self.records.poll_recv(cx) {
            Poll::Ready(Some(record)) => Poll::Ready(Some(Ok(record))),
            Poll::Ready(None) => Poll::Ready(self.end().map(Err)),
            Poll::Pending => {
                if self.unnoted {
                    self.note();
                }
                Poll::Pending
            }
        }
    }

    /// Why the queue is closed; `None` if the stream has ended in order.
    fn end(&self) -> Option<Status> {
        let shared = &self.handle.shared;
        match shared.end.get() {
            Some(Ok(())) => None,
            Some(Err(failure)) => Some(failure.status(shared.stream)),
            None => Some(stopping()),
        }
    }
}

/// The response of `SubscribeClientData`: one answer a message, each a slice of its record.
#[derive(Debug)]
pub(crate) struct MessageStream {
    queue: RecordQueue,
    stream_id: String,
    /// What is left of the record that was taken last.
    lengths: Bytes,
    payload: Bytes,
    next_seq: u64,
    /// Credit of the record that its messages have not taken yet.
    owed: u64,
    ended: bool,
}

impl MessageStream {
    pub(crate) fn new(handle: SessionHandle, records: mpsc::Receiver<Box<Record>>) -> Self {
        let stream_id = handle.shared.stream.to_string();
        Self {
            queue: RecordQueue::new(handle, records),
            stream_id,
            lengths: Bytes::new(),
            payload: Bytes::new(),
            next_seq: 0,
            owed: 0,
            ended: false,
        }
    }

    /// The next message of the record that was taken last; `None` if there is none left.
    ///
    /// Records were checked when they came in, so lengths that do not describe the payload are
    /// this node's own fault.
    fn next_message(&mut self) -> Option<Result<ClientData, Status>> {
        if self.lengths.is_empty() {
            return None;
        }
        let Some(payload) = prost::decode_length_delimiter(&mut self.lengths)
            .ok()
            .filter(|&len| len <= self.payload.len())
            .map(|len| self.payload.split_to(len))
        else {
            let seq = self.next_seq;
            return Some(Err(Status::internal(format!(
                "stream {}: the record of message {seq} contradicts itself",
                self.stream_id
            ))));
        };
        let seq = self.next_seq;
        self.next_seq = seq.saturating_add(1);
        // Sequence n is offset n - 1: n is the offset behind it.
        let last = self.lengths.is_empty();
        let credit = if last { self.owed } else { len_u64(payload.len()).min(self.owed) };
        self.owed -= credit;
        self.queue.taken = Some((seq, credit));
        Some(Ok(ClientData { stream_id: self.stream_id.clone(), seq, payload }))
    }
}

impl Stream for MessageStream {
    type Item = Result<ClientData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.queue.hand_out();
        loop {
            if let Some(message) = self.next_message() {
                self.ended = message.is_err();
                return Poll::Ready(Some(message));
            }
            match ready!(self.queue.poll_record(cx)) {
                Some(Ok(record)) => {
                    self.next_seq = record.header.stream_base.0.saturating_add(1);
                    self.owed = record.charge_bytes();
                    self.lengths = record.lengths;
                    self.payload = record.payload;
                }
                Some(Err(status)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(status)));
                }
                None => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
            }
        }
    }
}
