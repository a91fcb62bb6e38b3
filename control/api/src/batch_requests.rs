use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hawser_proto::REQUEST_BYTES_MAX;
use hawser_proto::v1::PublishBatch;
use prost::Message;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::codegen::Body as HttpBody;
use tonic::{Code, Status};

use crate::message_reader::MessageReader;

/// A payload below that is copied: it may be kept for long, and must not keep a whole frame.
const KEPT_SLICE_BYTES_MIN: usize = 4 << 10;

/// The requests of a `PublishClientDataBatches` call, each payload a slice of the DATA frame that it
/// came in.
///
/// Ends behind the first error. A client that cancels its call ends it in order, as with tonic.
#[derive(Debug)]
pub(crate) struct BatchRequests {
    body: Body,
    reader: MessageReader,
    ended: bool,
}

impl BatchRequests {
    pub(crate) const fn new(body: Body) -> Self {
        Self { body, reader: MessageReader::new(REQUEST_BYTES_MAX), ended: false }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<PublishBatch>, Status>> {
        loop {
            if let Some(message) = self.reader.next_message()? {
                return Poll::Ready(decode(message).map(Some));
            }
            let data = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame.into_data().ok(),
                Some(Err(status)) if status.code() == Code::Cancelled => {
                    return Poll::Ready(Ok(None));
                }
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None => None,
            };
            // Trailers mean the end too.
            let Some(data) = data else {
                self.reader.end()?;
                return Poll::Ready(Ok(None));
            };
            self.reader.feed(data);
        }
    }
}

impl Stream for BatchRequests {
    type Item = Result<PublishBatch, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let batch = ready!(self.poll_batch(cx)).transpose();
        self.ended = !matches!(batch, Some(Ok(_)));
        Poll::Ready(batch)
    }
}

fn decode(message: Bytes) -> Result<PublishBatch, Status> {
    // Code and words are tonic's.
    let mut batch =
        PublishBatch::decode(message).map_err(|error| Status::internal(error.to_string()))?;
    if batch.payload.len() < KEPT_SLICE_BYTES_MIN {
        batch.payload = Bytes::copy_from_slice(&batch.payload);
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use http_body::Frame;
    use tonic::codegen::http::HeaderMap;

    use super::*;

    /// A client's request body: these frames, then its end.
    struct Frames(VecDeque<Result<Frame<Bytes>, Status>>);

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn encoded(batch: &PublishBatch) -> Vec<u8> {
        let message = batch.encode_to_vec();
        let len = u32::try_from(message.len()).unwrap();
        [&[0], len.to_be_bytes().as_slice(), &message].concat()
    }

    fn batch(bytes: usize) -> PublishBatch {
        PublishBatch {
            stream_id: "s".to_owned(),
            first_seq: 1,
            lengths: vec![u32::try_from(bytes).unwrap()],
            payload: (0..bytes).map(|at| (at % 251) as u8).collect::<Vec<_>>().into(),
            ..PublishBatch::default()
        }
    }

    fn read(
        frames: impl IntoIterator<Item = Result<Frame<Bytes>, Status>>,
    ) -> Vec<Result<PublishBatch, Status>> {
        let body = Body::new(Frames(frames.into_iter().collect()));
        let mut requests = BatchRequests::new(body);
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Some(batch)) = Pin::new(&mut requests).poll_next(&mut cx) {
            read.push(batch);
        }
        assert!(requests.ended);
        read
    }

    fn data(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(bytes.into()))
    }

    #[test]
    fn large_payloads_are_slices_of_their_frame_and_small_ones_are_not() {
        let (small, large) = (batch(KEPT_SLICE_BYTES_MIN - 1), batch(KEPT_SLICE_BYTES_MIN));
        let frame = Bytes::from([encoded(&small), encoded(&large)].concat());
        let read = read([data(frame.clone())]);
        let [Ok(first), Ok(second)] = read.as_slice() else { panic!("two batches") };
        assert_eq!((first, second), (&small, &large));
        assert!(!frame.as_ptr_range().contains(&first.payload.as_ptr()));
        assert!(frame.as_ptr_range().contains(&second.payload.as_ptr()));
    }

    #[test]
    fn a_batch_in_many_frames_is_whole() {
        let large = batch(100_000);
        let bytes = encoded(&large);
        let read = read(bytes.chunks(16_384).map(|chunk| data(chunk.to_vec())));
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].as_ref().unwrap(), &large);
    }

    #[test]
    fn how_a_client_ends_is_how_the_requests_end() {
        fn check(last: Option<Result<Frame<Bytes>, Status>>, expected: Option<Code>) {
            let frames = [data(encoded(&batch(1)))].into_iter().chain(last);
            let read = read(frames);
            assert_eq!(read[0].as_ref().unwrap(), &batch(1));
            let error = read.get(1).map(|last| last.as_ref().unwrap_err().code());
            assert_eq!(error, expected);
            assert!(read.len() <= 2);
        }
        check(None, None);
        check(Some(Ok(Frame::trailers(HeaderMap::new()))), None);
        check(Some(Err(Status::cancelled("reset"))), None);
        check(Some(Err(Status::unavailable("lost"))), Some(Code::Unavailable));
        check(Some(data(&[0_u8, 0, 0, 0, 9, 1][..])), Some(Code::Internal));
        // No protobuf.
        check(Some(data(&[0_u8, 0, 0, 0, 1, 0xFF][..])), Some(Code::Internal));
        let too_large = u32::try_from(REQUEST_BYTES_MAX + 1).unwrap().to_be_bytes();
        let prefix = [&[0], too_large.as_slice()].concat();
        check(Some(data(prefix)), Some(Code::OutOfRange));
    }
}
