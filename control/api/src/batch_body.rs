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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use hawser_exchange::SessionId;
    use hawser_proto::v1::ClientDataBatch;
    use hawser_wire::{BootEpoch, ProducerId, RecordBuilder, StreamId, StreamOffset, TenantId};
    use prost::Message;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::failure::CallFailure;
    use crate::session::SessionShared;

    /// A record of messages of these lengths from `base` on.
    fn record(base: u64, lengths: &[u32]) -> Record {
        let mut encoded = Vec::new();
        for &length in lengths {
            hawser_wire::put_varint(&mut encoded, length);
        }
        let total = lengths.iter().sum::<u32>() as usize;
        let payload = (0..total).map(|at| (at % 251) as u8).collect::<Vec<_>>();
        RecordBuilder::new(
            TenantId::from_bytes([1; 16]),
            StreamId::from_bytes([2; 16]),
            BootEpoch(1),
        )
        .record(
            ProducerId(3),
            base + 1,
            StreamOffset(base),
            u32::try_from(lengths.len()).unwrap(),
            encoded.into(),
            payload.into(),
        )
    }

    fn batch(record: &Record) -> ClientDataBatch {
        ClientDataBatch {
            stream_id: StreamId::from_bytes([2; 16]).to_string(),
            first_seq: record.header.stream_base.0 + 1,
            lengths: record.message_lengths().collect(),
            payload: record.payload.clone(),
        }
    }

    /// What the body of a subscription to `records` yields, which then ends with `end`.
    fn frames(
        records: &[Record],
        end: Result<(), CallFailure>,
    ) -> (Vec<Bytes>, HeaderMap, Arc<SessionShared>) {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let shared =
            Arc::new(SessionShared::new(SessionId(1), StreamId::from_bytes([2; 16]), 0, place));
        shared.end.set(end).unwrap();
        let (notes, _notes_from) = mpsc::channel(1);
        let handle = SessionHandle::new(Arc::clone(&shared), notes);
        let (records_to, records_from) = mpsc::channel(records.len() + 1);
        for record in records {
            records_to.try_send(Box::new(record.clone())).unwrap();
        }
        drop(records_to);
        let mut body = BatchBody::new(handle, records_from);
        let mut cx = Context::from_waker(Waker::noop());
        let mut data = Vec::new();
        loop {
            let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) else {
                panic!("the body stalls, or ends without trailers")
            };
            match frame.unwrap().into_data() {
                Ok(frame) => data.push(frame),
                Err(frame) => {
                    assert!(body.is_end_stream());
                    assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(None)));
                    return (data, frame.into_trailers().unwrap(), shared);
                }
            }
        }
    }

    #[test]
    fn the_bytes_are_those_that_prost_writes() {
        let own = u32::try_from(OWN_FRAME_BYTES_MIN).unwrap();
        let shapes: [&[u32]; 7] =
            [&[0], &[1, 0, 127], &[128; 700], &[own - 1], &[own], &[65_536], &[0, 0]];
        let records: Vec<_> =
            (0..).zip(shapes).map(|(at, lengths)| record(at * 300, lengths)).collect();
        let mut expected = Vec::new();
        for record in &records {
            let message = batch(record).encode_to_vec();
            expected.push(0);
            expected.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            expected.extend(message);
        }
        let (data, trailers, shared) = frames(&records, Ok(()));
        assert!(data.concat() == expected);
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
        assert_eq!(trailers.len(), 1);
        let credit = records.iter().map(Record::charge_bytes).sum();
        assert_eq!(shared.handed(), (1802, credit));
    }

    #[test]
    fn large_payloads_are_not_copied_and_small_records_share_a_frame() {
        let (small, large) = (record(0, &[100]), record(2, &[65_536]));
        let records = [small.clone(), small.clone(), large.clone(), small.clone(), small];
        let (data, _, _) = frames(&records, Ok(()));
        assert_eq!(data.len(), 3);
        assert_eq!(data[1].as_ptr(), large.payload.as_ptr());
    }

    #[test]
    fn an_error_follows_what_was_delivered() {
        let (data, trailers, _) = frames(&[record(0, &[1])], Err(CallFailure::ShardGone));
        assert_eq!(data.len(), 1);
        let status = Status::from_header_map(&trailers).unwrap();
        let expected = CallFailure::ShardGone.status(StreamId::from_bytes([2; 16]));
        assert_eq!((status.code(), status.message()), (expected.code(), expected.message()));
    }

    #[test]
    fn a_record_larger_than_clients_take_is_refused() {
        let mut to = BytesMut::new();
        let length = u32::try_from(REQUEST_BYTES_MAX).unwrap();
        let status = encode_head("s", &record(0, &[length]), &mut to).unwrap_err();
        assert_eq!(status.code(), tonic::Code::OutOfRange);
        assert!(to.is_empty());
    }
}
