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
