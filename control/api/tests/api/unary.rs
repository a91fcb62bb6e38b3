use bytes::Bytes;
use hawser_proto::v1::{Chunk, PublishBatch};
use tokio::task::JoinSet;
use tonic::Code;

use crate::node::Node;
use crate::shard::Order;

fn chunk(stream_id: &str, seq: u64, payload: &'static str) -> Chunk {
    let payload = Bytes::from_static(payload.as_bytes());
    Chunk { stream_id: stream_id.to_owned(), seq, payload, ..Chunk::default() }
}

#[tokio::test]
async fn one_message_is_answered_when_it_is_acknowledged() {
    let (mut node, stream) = Node::with_stream().await;
    node.shard.order(Order::HoldAcks);
    let mut mesh = node.mesh().await;
    let call = tokio::spawn(async move {
        mesh.publish_client_data(chunk(&stream, 1, "a")).await.map(tonic::Response::into_inner)
    });
    node.shard.wait(|seen| seen.batches == 1).await;
    assert!(!call.is_finished());
    node.shard.order(Order::ReleaseAcks);
    let result = call.await.unwrap().unwrap();
    assert_eq!((result.acked_seq, result.duplicates, result.next_seq), (1, 0, 2));
}

#[tokio::test]
async fn a_flood_shares_one_session() {
    const CALLS: u64 = 1000;
    let (mut node, stream) = Node::with_stream().await;
    let mesh = node.mesh().await;
    let mut calls = JoinSet::new();
    for seq in 1..=CALLS {
        let (mut mesh, stream) = (mesh.clone(), stream.clone());
        calls.spawn(async move { mesh.publish_client_data(chunk(&stream, seq, "abc")).await });
    }
    while let Some(result) = calls.join_next().await {
        let result = result.unwrap().unwrap().into_inner();
        assert_eq!((result.duplicates, result.stream_id.as_str()), (0, stream.as_str()));
    }
    let seen = node.shard.wait(|seen| seen.published_bytes == 3 * CALLS).await;
    assert_eq!(seen.publish_opened, 1);
    assert_eq!(seen.violations, [""; 0]);
}

#[tokio::test]
async fn sequences_are_checked() {
    let (node, stream) = Node::with_stream().await;
    let mut mesh = node.mesh().await;
    let status = mesh.publish_client_data(chunk(&stream, 0, "a")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("start at 1"), "{status}");

    mesh.publish_client_data(chunk(&stream, 1, "a")).await.unwrap();
    let status = mesh.publish_client_data(chunk(&stream, 3, "c")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("expected 2, got 3"), "{status}");

    let again = mesh.publish_client_data(chunk(&stream, 1, "a")).await.unwrap().into_inner();
    assert_eq!((again.duplicates, again.acked_seq, again.next_seq), (1, 1, 2));
    let next = mesh.publish_client_data(chunk(&stream, 2, "b")).await.unwrap().into_inner();
    assert_eq!((next.duplicates, next.acked_seq), (0, 2));

    // Another producer has sequences of its own, and a stream may be named.
    let other = Chunk { producer: "other".to_owned(), ..chunk("orders", 1, "x") };
    assert_eq!(mesh.publish_client_data(other).await.unwrap().into_inner().acked_seq, 1);
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_with_the_reason() {
    let (mut node, stream) = Node::with_stream().await;
    let mut mesh = node.mesh().await;
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    for (request, code, word) in [
        (Chunk { chunk_seq: 1, ..chunk(&stream, 1, "a") }, Code::Unimplemented, "chunk_seq"),
        (Chunk { checksum: 5, ..chunk(&stream, 1, "a") }, Code::InvalidArgument, "CRC32C"),
        (Chunk { payload: large, ..chunk(&stream, 1, "") }, Code::InvalidArgument, "1048577"),
        (chunk("gaytemzugu3doobzmfrggzdfmy", 1, "a"), Code::NotFound, "gaytemzugu3doobzmfrggzdfmy"),
        (chunk("no-such", 1, "a"), Code::NotFound, "no-such"),
        (
            Chunk { tenant_id: "other".to_owned(), ..chunk(&stream, 1, "a") },
            Code::PermissionDenied,
            "other",
        ),
    ] {
        let status = mesh.publish_client_data(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(word), "{word:?} in {status}");
    }
    mesh.publish_client_data(chunk(&stream, 1, "a")).await.unwrap();
    assert_eq!(node.shard.wait(|seen| seen.batches > 0).await.batches, 1);
}

#[tokio::test]
async fn calls_that_wait_are_told_that_the_node_stops() {
    let (mut node, stream) = Node::with_stream().await;
    node.shard.order(Order::HoldAcks);
    let mut mesh = node.mesh().await;
    let call = tokio::spawn(async move { mesh.publish_client_data(chunk(&stream, 1, "a")).await });
    node.shard.wait(|seen| seen.batches == 1).await;
    node.stop_api();
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
    node.join_api().await.unwrap();
}

#[tokio::test]
async fn a_batched_call_takes_the_producer_over_and_gives_it_back() {
    let (mut node, stream) = Node::with_stream().await;
    let mut mesh = node.mesh().await;
    mesh.publish_client_data(chunk(&stream, 1, "a")).await.unwrap();
    node.shard.order(Order::HoldAcks);
    let (mut waiting, id) = (mesh.clone(), stream.clone());
    let call = tokio::spawn(async move { waiting.publish_client_data(chunk(&id, 2, "b")).await });
    node.shard.wait(|seen| seen.batches == 2).await;

    let opening = PublishBatch { stream_id: stream.clone(), ..PublishBatch::default() };
    let batched = mesh.publish_client_data_batches(tokio_stream::iter([opening])).await.unwrap();
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "{status}");
    let first = batched.into_inner().message().await.unwrap().unwrap();
    assert_eq!(first.next_seq, 3);

    node.shard.order(Order::ReleaseAcks);
    let result = mesh.publish_client_data(chunk(&stream, 3, "c")).await.unwrap().into_inner();
    assert_eq!(result.acked_seq, 3);
    assert_eq!(node.shard.wait(|seen| seen.batches == 3).await.publish_opened, 3);
}
