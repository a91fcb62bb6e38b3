use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use hawser_proto::REQUEST_BYTES_MAX;
use hawser_wire::Record;
use http_body::{Body, Frame};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codegen::http::HeaderMap;

use crate::publish_call::len_u64;
use crate::session::SessionHandle;
use crate::subscription::RecordQueue;

/// Field numbers of `ClientDataBatch` in hawser.proto.
mod field {
    pub(super) const STREAM_ID: u32 = 1;
    pub(super) const FIRST_SEQ: u32 = 2;
    pub(super) const LENGTHS: u32 = 3;
    pub(super) const PAYLOAD: u32 = 4;
}

/// Before each gRPC message: whether it is compressed, and its length, big-endian.
const PREFIX_BYTES: usize = 5;

/// A payload from there on is a DATA frame of its own. To copy a smaller one costs less than the
/// frame.
const OWN_FRAME_BYTES_MIN: usize = 4 << 10;

/// What is gathered is handed out from there on, even if more records wait.
const GATHERED_BYTES: usize = 32 << 10;

/// The response of `SubscribeClientDataBatches`: one batch a record, whose payload is handed to
/// HTTP/2 where it lies.
#[derive(Debug)]
pub(crate) struct BatchBody {
    queue: RecordQueue,
    stream_id: String,
    /// Encoded and not handed out yet.
    gathered: BytesMut,
    /// Follows what is gathered.
    payload: Option<Bytes>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// Behind what is gathered.
    Ending(Status),
    Ended,
}

impl BatchBody {
    pub(crate) fn new(handle: SessionHandle, records: mpsc::Receiver<Box<Record>>) -> Self {
        let stream_id = handle.shared.stream.to_string();
        let queue = RecordQueue::new(handle, records);
        Self { queue, stream_id, gathered: BytesMut::new(), payload: None, state: State::Open }
    }

    /// Gathers records until there is something to hand out; `Pending` if there is nothing.
    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.payload.is_none()
            && self.gathered.len() < GATHERED_BYTES
            && matches!(self.state, State::Open)
        {
            match self.queue.poll_record(cx) {
                Poll::Ready(Some(Ok(record))) => {
                    self.queue.take(&record);
                    if let Err(status) = encode_head(&self.stream_id, &record, &mut self.gathered) {
                        self.state = State::Ending(status);
                    } else if record.payload.len() < OWN_FRAME_BYTES_MIN {
                        self.gathered.put_slice(&record.payload);
                    } else {
                        self.payload = Some(record.payload);
                    }
                }
                Poll::Ready(Some(Err(status))) => self.state = State::Ending(status),
                Poll::Ready(None) => self.state = State::Ending(Status::ok("")),
                Poll::Pending if self.gathered.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    }
}

impl Body for BatchBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.poll_gather(cx).is_pending() {
            return Poll::Pending;
        }
        if !self.gathered.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.gathered.split().freeze()))));
        }
        if let Some(payload) = self.payload.take() {
            return Poll::Ready(Some(Ok(Frame::data(payload))));
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ending(status) => {
                let mut trailers = HeaderMap::new();
                let added = status.add_header(&mut trailers);
                Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
            }
            State::Open | State::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended)
    }
}

/// Appends the gRPC message of `record` up to its payload, which is to follow. A record's lengths
/// are encoded as protobuf packs them.
///
/// # Errors
/// OUT_OF_RANGE if the message is larger than a client expects; nothing was appended.
fn encode_head(stream_id: &str, record: &Record, to: &mut BytesMut) -> Result<(), Status> {
    let first_seq = record.header.stream_base.0.saturating_add(1);
    let (lengths, payload) = (&record.lengths, &record.payload);
    let len = field_len(field::STREAM_ID, stream_id.len())
        + key_len(field::FIRST_SEQ)
        + encoded_len_varint(first_seq)
        + field_len(field::LENGTHS, lengths.len())
        + field_len(field::PAYLOAD, payload.len());
    let announced = u32::try_from(len).ok().filter(|_| len <= REQUEST_BYTES_MAX).ok_or_else(|| {
        Status::out_of_range(format!(
            "the batch from sequence {first_seq} takes {len} bytes, more than {REQUEST_BYTES_MAX}"
        ))
    })?;
    let in_frame = if payload.len() < OWN_FRAME_BYTES_MIN { 0 } else { payload.len() };
    to.reserve(PREFIX_BYTES + len - in_frame);
    to.put_u8(0);
    to.put_u32(announced);
    put_field(field::STREAM_ID, stream_id.as_bytes(), to);
    encode_key(field::FIRST_SEQ, WireType::Varint, to);
    encode_varint(first_seq, to);
    put_field(field::LENGTHS, lengths, to);
    if !payload.is_empty() {
        encode_key(field::PAYLOAD, WireType::LengthDelimited, to);
        encode_varint(len_u64(payload.len()), to);
    }
    Ok(())
}

/// An empty field is left out.
fn field_len(tag: u32, len: usize) -> usize {
    if len == 0 { 0 } else { key_len(tag) + encoded_len_varint(len_u64(len)) + len }
}

fn put_field(tag: u32, bytes: &[u8], to: &mut BytesMut) {
    if !bytes.is_empty() {
        encode_key(tag, WireType::LengthDelimited, to);
        encode_varint(len_u64(bytes.len()), to);
        to.put_slice(bytes);
    }
}
