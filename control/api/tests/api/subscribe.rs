use std::time::Duration;

use bytes::Bytes;
use hawser_proto::v1::{ClientDataBatch, ConsumerCommit, PublishBatch, StreamSelector};
use hawser_wire::StreamOffset;
use tonic::{Code, Status, Streaming};

use crate::node::Node;
use crate::shard::Order;

/// Payload bytes that may be under way to a subscriber that reads nothing: the shard's window, and
/// what HTTP/2 takes at both ends.
const UNDER_WAY_BYTES_MAX: u64 = (4 << 20) + (8 << 20) + (8 << 20);

fn selector(stream_id: &str) -> StreamSelector {
    StreamSelector { stream_id: stream_id.to_owned(), ..StreamSelector::default() }
}

/// Publishes `count` messages of `bytes` each, message `n` filled with `n`.
async fn publish(node: &Node, stream: &str, count: u64, bytes: usize) {
    let per_batch = (256 * 1024 / bytes.max(1)).clamp(1, 1000) as u64;
    let mut batches = Vec::new();
    let mut first_seq = 1;
    while first_seq <= count {
        let last = (first_seq + per_batch - 1).min(count);
        let payload: Vec<u8> =
            (first_seq..=last).flat_map(|seq| vec![seq.to_le_bytes()[0]; bytes]).collect();
        batches.push(PublishBatch {
            stream_id: stream.to_owned(),
            first_seq,
            lengths: vec![u32::try_from(bytes).unwrap(); (last - first_seq + 1) as usize],
            payload: Bytes::from(payload),
            ..PublishBatch::default()
        });
        first_seq = last + 1;
    }
    let mut mesh = node.mesh().await;
    let call = mesh.publish_client_data_batches(tokio_stream::iter(batches)).await.unwrap();
    let mut results = call.into_inner();
    let mut acked = 0;
    while let Some(result) = results.message().await.unwrap() {
        acked = result.acked_seq;
    }
    assert_eq!(acked, count);
}

async fn subscribe(
    node: &Node,
    selector: StreamSelector,
) -> Result<Streaming<ClientDataBatch>, Status> {
    let mut data = node.data().await;
    Ok(data.subscribe_client_data_batches(selector).await?.into_inner())
}

/// Reads batches up to sequence `through`, checking order and content.
async fn read_through(batches: &mut Streaming<ClientDataBatch>, mut next: u64, through: u64) {
    while next <= through {
        let batch = batches.message().await.unwrap().unwrap();
        assert_eq!(batch.first_seq, next);
        let mut payload = batch.payload.as_ref();
        for length in batch.lengths {
            let (message, rest) = payload.split_at(length as usize);
            assert!(message.iter().all(|&byte| byte == next.to_le_bytes()[0]), "message {next}");
            payload = rest;
            next += 1;
        }
        assert!(payload.is_empty());
    }
    assert_eq!(next, through + 1);
}

#[tokio::test]
async fn messages_come_in_order_in_batches_and_one_by_one() {
    for spin in [Duration::ZERO, Duration::from_micros(50)] {
        let (mut node, stream) = Node::with_stream_and_spin(spin).await;
        let mut batches = subscribe(&node, selector(&stream)).await.unwrap();
        publish(&node, &stream, 5000, 100).await;
        read_through(&mut batches, 1, 5000).await;
        node.shard.wait(|seen| seen.handed_out == 5000).await;

        let mut data = node.data().await;
        let request = StreamSelector { consumer: "second".to_owned(), ..selector("orders") };
        let mut messages = data.subscribe_client_data(request).await.unwrap().into_inner();
        for seq in 1..=5000_u64 {
            let message = messages.message().await.unwrap().unwrap();
            assert_eq!((message.seq, message.stream_id.as_str()), (seq, stream.as_str()));
            assert_eq!(message.payload, vec![seq.to_le_bytes()[0]; 100]);
        }
    }
}

#[tokio::test]
async fn empty_messages_are_messages() {
    let (mut node, stream) = Node::with_stream().await;
    publish(&node, &stream, 3, 0).await;
    let mut data = node.data().await;
    let mut messages = data.subscribe_client_data(selector(&stream)).await.unwrap().into_inner();
    for seq in 1..=3 {
        let message = messages.message().await.unwrap().unwrap();
        assert_eq!((message.seq, message.payload.len()), (seq, 0));
    }
    node.shard.wait(|seen| seen.handed_out == 3).await;
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_stops_the_shard_and_loses_nothing() {
    const COUNT: u64 = 640;
    let (mut node, stream) = Node::with_stream().await;
    let mut batches = subscribe(&node, selector(&stream)).await.unwrap();
    publish(&node, &stream, COUNT, 64 << 10).await;
    // Whenever one looks: what was delivered is within the windows.
    let seen = node.shard.wait(|seen| seen.delivered_bytes > 4 << 20).await;
    assert!(seen.delivered_bytes <= UNDER_WAY_BYTES_MAX, "{}", seen.delivered_bytes);
    read_through(&mut batches, 1, 1).await;
    let seen = node.shard.seen.borrow().clone();
    assert!(seen.granted_bytes <= UNDER_WAY_BYTES_MAX, "{}", seen.granted_bytes);
    read_through(&mut batches, 2, COUNT).await;
    let seen = node.shard.wait(|seen| seen.handed_out == COUNT).await;
    assert_eq!(seen.violations, [""; 0]);
}

#[tokio::test]
async fn a_subscriber_says_where_to_begin() {
    let (node, stream) = Node::with_stream().await;
    publish(&node, &stream, 50, 10).await;
    let from = |from_seq| StreamSelector { from_seq, ..selector(&stream) };
    let mut batches = subscribe(&node, from(20)).await.unwrap();
    read_through(&mut batches, 20, 50).await;

    node.shard.order(Order::Trim(StreamOffset(30)));
    let status = loop {
        // The order takes effect on the shard's own thread.
        match subscribe(&node, from(20)).await {
            Err(status) => break status,
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("below sequence 31"), "{status}");
    let mut batches = subscribe(&node, from(31)).await.unwrap();
    read_through(&mut batches, 31, 50).await;
}

#[tokio::test]
async fn a_newer_subscription_of_the_same_consumer_takes_over() {
    let (node, stream) = Node::with_stream().await;
    let mut old = subscribe(&node, selector(&stream)).await.unwrap();
    let _new = subscribe(&node, selector(&stream)).await.unwrap();
    let status = old.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().contains("took over"), "{status}");
}

#[tokio::test]
async fn what_is_not_here_cannot_be_subscribed() {
    let (node, _stream) = Node::with_stream().await;
    let status = subscribe(&node, selector("no-such")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("no-such"), "{status}");
    let consumer = StreamSelector { consumer: "two words".to_owned(), ..selector("orders") };
    assert_eq!(subscribe(&node, consumer).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_shard_hears_of_a_client_that_goes() {
    let (mut node, stream) = Node::with_stream().await;
    let batches = subscribe(&node, selector(&stream)).await.unwrap();
    drop(batches);
    node.shard.wait(|seen| seen.ended_subscribe == 1).await;
}

#[tokio::test]
async fn the_end_of_a_stream_ends_the_call_behind_the_last_message() {
    let (mut node, stream) = Node::with_stream().await;
    publish(&node, &stream, 100, 1000).await;
    let mut batches = subscribe(&node, selector(&stream)).await.unwrap();
    node.shard.wait(|seen| seen.delivered_bytes == 100_000).await;
    node.shard.order(Order::EndSubscriptions);
    read_through(&mut batches, 1, 100).await;
    assert!(batches.message().await.unwrap().is_none());
    // The last of it is confirmed before the session ends.
    let seen = node.shard.wait(|seen| seen.ended_subscribe == 1).await;
    assert_eq!(seen.handed_out, 100);
    assert_eq!(seen.violations, [""; 0]);
}

#[tokio::test]
async fn consumers_confirm_what_they_were_given() {
    let (mut node, stream) = Node::with_stream().await;
    publish(&node, &stream, 10, 10).await;
    let mut data = node.data().await;
    let commit = |through_seq| ConsumerCommit {
        stream_id: stream.clone(),
        consumer: "billing".to_owned(),
        through_seq,
    };
    data.commit_consumer(commit(7)).await.unwrap();
    assert_eq!(node.shard.wait(|seen| seen.committed.is_some()).await.committed, Some(7));
    let status = data.commit_consumer(commit(11)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("sequence 10"), "{status}");
}

#[tokio::test]
async fn subscribers_are_told_that_the_node_stops() {
    let (mut node, stream) = Node::with_stream().await;
    let mut batches = subscribe(&node, selector(&stream)).await.unwrap();
    node.stop_api();
    let status = batches.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("stopping"), "{status}");
    node.join_api().await.unwrap();
}
