use bytes::Bytes;
use hawser_proto::REQUEST_BYTES_MAX;
use hawser_proto::v1::mesh_service_client::MeshServiceClient;
use hawser_proto::v1::{PublishBatch, PublishResult};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use crate::node::Node;
use crate::shard::{Order, PUBLISH_WINDOW_BYTES};

struct Call {
    requests: mpsc::Sender<PublishBatch>,
    results: Streaming<PublishResult>,
}

impl Call {
    async fn open(node: &Node) -> Self {
        let (requests, from) = mpsc::channel(1);
        let mut mesh = node.mesh().await;
        let results = mesh.publish_client_data_batches(ReceiverStream::new(from)).await.unwrap();
        Self { requests, results: results.into_inner() }
    }

    async fn send(&self, batch: PublishBatch) {
        self.requests.send(batch).await.unwrap();
    }

    /// Half-closes; the last result, or the status.
    async fn end(self) -> Result<Option<PublishResult>, Status> {
        let Self { requests, mut results } = self;
        drop(requests);
        let mut last = None;
        while let Some(result) = results.message().await? {
            last = Some(result);
        }
        Ok(last)
    }
}

fn batch(stream_id: &str, first_seq: u64, messages: &[&'static str]) -> PublishBatch {
    PublishBatch {
        stream_id: stream_id.to_owned(),
        first_seq,
        lengths: messages.iter().map(|message| u32::try_from(message.len()).unwrap()).collect(),
        payload: Bytes::from(messages.concat()),
        ..PublishBatch::default()
    }
}

/// Publishes one batch in a call of its own.
async fn refused(node: &Node, batch: PublishBatch) -> Status {
    let call = Call::open(node).await;
    call.send(batch).await;
    call.end().await.unwrap_err()
}

#[tokio::test]
async fn results_say_where_to_go_on_and_what_is_acknowledged() {
    let (node, stream) = Node::with_stream().await;
    let mut call = Call::open(&node).await;
    call.send(batch(&stream, 1, &["a", "", "bcd"])).await;
    let first = call.results.message().await.unwrap().unwrap();
    assert_eq!((first.stream_id.as_str(), first.next_seq), (stream.as_str(), 1));
    call.send(batch("", 4, &["e"])).await;
    let last = call.end().await.unwrap().unwrap();
    assert_eq!((last.acked_seq, last.duplicates, last.next_seq), (4, 0, 5));

    // A later call of the same producer goes on, even if it repeats itself.
    let mut call = Call::open(&node).await;
    call.send(batch(&stream, 3, &["bcd", "e", "f"])).await;
    assert_eq!(call.results.message().await.unwrap().unwrap().next_seq, 5);
    let last = call.end().await.unwrap().unwrap();
    assert_eq!((last.acked_seq, last.duplicates, last.next_seq), (5, 2, 6));

    // Duplicates alone are acknowledged too.
    let call = Call::open(&node).await;
    call.send(batch(&stream, 1, &["a"])).await;
    let last = call.end().await.unwrap().unwrap();
    assert_eq!((last.acked_seq, last.duplicates, last.next_seq), (5, 1, 6));
}

#[tokio::test]
async fn an_empty_first_batch_opens_the_call() {
    let (node, stream) = Node::with_stream().await;
    let mut call = Call::open(&node).await;
    call.send(PublishBatch { stream_id: "orders".to_owned(), ..PublishBatch::default() }).await;
    let first = call.results.message().await.unwrap().unwrap();
    assert_eq!((first.stream_id.as_str(), first.next_seq), (stream.as_str(), 1));
    call.send(batch("", first.next_seq, &["a"])).await;
    assert_eq!(call.end().await.unwrap().unwrap().acked_seq, 1);
    // And nothing at all is a call too.
    assert!(Call::open(&node).await.end().await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_the_reason() {
    async fn check(node: &Node, batch: PublishBatch, code: Code, words: &[&str]) {
        let status = refused(node, batch).await;
        assert_eq!(status.code(), code, "{status}");
        for word in words {
            assert!(status.message().contains(word), "{word:?} in {status}");
        }
    }
    let (mut node, stream) = Node::with_stream().await;
    let stream = stream.as_str();
    let gap = batch(stream, 7, &["a"]);
    check(&node, gap, Code::FailedPrecondition, &[stream, "expected 1", "got 7"]).await;
    let zero = batch(stream, 0, &["a"]);
    check(&node, zero, Code::InvalidArgument, &["start at 1"]).await;
    let unknown = batch("no-such-stream", 1, &["a"]);
    check(&node, unknown, Code::NotFound, &["no-such-stream"]).await;
    let tenant = PublishBatch { tenant_id: "other".to_owned(), ..batch(stream, 1, &["a"]) };
    check(&node, tenant, Code::PermissionDenied, &["other"]).await;
    let mut sum = batch(stream, 1, &["abc"]);
    sum.lengths = vec![2];
    check(&node, sum, Code::InvalidArgument, &["2 bytes", "has 3"]).await;
    let crc = PublishBatch { checksum: 1, ..batch(stream, 1, &["123456789"]) };
    check(&node, crc, Code::InvalidArgument, &["0xe3069283"]).await;
    let producer = PublishBatch { producer: "a b".to_owned(), ..batch(stream, 1, &["a"]) };
    check(&node, producer, Code::InvalidArgument, &["producer", "a b"]).await;

    // Nothing of it was published, and the node serves on.
    let call = Call::open(&node).await;
    call.send(PublishBatch { checksum: 0xE306_9283, ..batch(stream, 1, &["123456789"]) }).await;
    assert_eq!(call.end().await.unwrap().unwrap().acked_seq, 1);
    let seen = node.shard.wait(|seen| seen.published_bytes >= 9).await;
    assert_eq!(seen.published_bytes, 9);
}

#[tokio::test]
async fn a_call_keeps_to_its_stream_and_producer() {
    let (node, stream) = Node::with_stream().await;
    let call = Call::open(&node).await;
    call.send(batch(&stream, 1, &["a"])).await;
    call.send(PublishBatch { producer: "other".to_owned(), ..batch("", 2, &["a"]) }).await;
    let status = call.end().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("other"), "{status}");
}

#[tokio::test]
async fn the_shards_credit_holds_the_client_back() {
    let (mut node, stream) = Node::with_stream().await;
    node.shard.order(Order::HoldAcks);
    let (chunk, batches) = (300_000_u32, 64_u64);
    let total = u64::from(chunk) * batches;
    assert!(total > 4 * PUBLISH_WINDOW_BYTES);
    let call = Call::open(&node).await;
    let Call { requests, results } = call;
    let id = stream.clone();
    let sender = tokio::spawn(async move {
        let payload = Bytes::from(vec![7; chunk as usize]);
        for first_seq in 1..=batches {
            let (lengths, payload) = (vec![chunk], payload.clone());
            let stream_id = id.clone();
            let batch =
                PublishBatch { stream_id, first_seq, lengths, payload, ..Default::default() };
            requests.send(batch).await.unwrap();
        }
        requests
    });
    // As much as fits the window arrives, and no more: the shard notes every excess.
    let fits = PUBLISH_WINDOW_BYTES / u64::from(chunk) * u64::from(chunk);
    node.shard.wait(|seen| seen.published_bytes == fits).await;
    node.shard.order(Order::ReleaseAcks);
    let requests = sender.await.unwrap();
    let last = Call { requests, results }.end().await.unwrap().unwrap();
    assert_eq!(last.acked_seq, batches);
    let seen = node.shard.wait(|seen| seen.published_bytes == total).await;
    assert_eq!(seen.violations, [""; 0]);
}

#[tokio::test]
async fn large_batches_are_cut() {
    let (mut node, stream) = Node::with_stream().await;
    let call = Call::open(&node).await;
    let lengths = vec![600_000, 600_000, 600_000];
    let payload = Bytes::from(vec![1; 1_800_000]);
    call.send(PublishBatch { lengths, payload, ..batch(&stream, 1, &[]) }).await;
    assert_eq!(call.end().await.unwrap().unwrap().acked_seq, 3);
    assert_eq!(node.shard.wait(|seen| seen.published_bytes == 1_800_000).await.batches, 3);
}

#[tokio::test]
async fn the_shard_hears_how_a_call_ended() {
    let (mut node, stream) = Node::with_stream().await;
    let call = Call::open(&node).await;
    call.send(batch(&stream, 1, &["a"])).await;
    call.end().await.unwrap();
    assert_eq!(node.shard.wait(|seen| !seen.ended_publish.is_empty()).await.ended_publish, [false]);

    let mut call = Call::open(&node).await;
    call.send(batch(&stream, 2, &["b"])).await;
    call.results.message().await.unwrap();
    drop(call);
    let seen = node.shard.wait(|seen| seen.ended_publish.len() > 1).await;
    assert_eq!(seen.ended_publish, [false, true]);
}

#[tokio::test]
async fn a_newer_call_of_the_same_producer_takes_over() {
    let (node, stream) = Node::with_stream().await;
    let mut old = Call::open(&node).await;
    old.send(batch(&stream, 1, &["a"])).await;
    old.results.message().await.unwrap().unwrap();
    let new = Call::open(&node).await;
    new.send(batch(&stream, 1, &["a"])).await;
    assert!(new.end().await.unwrap().is_some());
    assert_eq!(old.end().await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn stopping_and_a_lost_shard_are_said() {
    let (mut node, stream) = Node::with_stream().await;
    let mut call = Call::open(&node).await;
    call.send(batch(&stream, 1, &["a"])).await;
    call.results.message().await.unwrap().unwrap();
    node.shard.order(Order::Die);
    let status = loop {
        match call.results.message().await {
            Ok(result) => assert!(result.is_some(), "the end is said"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("shard"), "{status}");
    assert_eq!(refused(&node, batch(&stream, 1, &["a"])).await.code(), Code::Unavailable);
    node.join_api().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_the_shard_does_not_host_is_not_found() {
    let (node, stream) = Node::with_stream().await;
    node.shard.order(Order::Forget);
    let status = loop {
        // The order takes effect on the shard's own thread.
        let call = Call::open(&node).await;
        call.send(batch(&stream, 1, &["a"])).await;
        match call.end().await {
            Err(status) => break status,
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(&stream), "{status}");
}

#[tokio::test]
async fn what_is_no_batch_is_refused_as_tonic_refuses_it() {
    let (node, stream) = Node::with_stream().await;
    let requests = tokio_stream::once(batch(&stream, 1, &["a"]));
    let mut compressed = Request::new(requests);
    compressed.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    let status = node.mesh().await.publish_client_data_batches(compressed).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status}");

    let bytes = REQUEST_BYTES_MAX;
    let payload = Bytes::from(vec![0; bytes]);
    let lengths = vec![u32::try_from(bytes).unwrap()];
    let too_large = PublishBatch { lengths, payload, ..batch(&stream, 1, &[]) };
    let mut mesh = MeshServiceClient::new(node.channel().await);
    let call = mesh.publish_client_data_batches(tokio_stream::once(too_large)).await;
    let status = call.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
}
