//! Which way a message went: what the shard says, with names.

use std::time::Duration;

use hawser_exchange::{
    MessageDestination, MessageReport, MessageSending, MessageWay, ShardToControl,
};
use hawser_plane::{MessageState, MessageView, OpenStream, PlaneError};
use hawser_wire::{NodeId, PathId, StreamId, StreamOffset, TrafficClass};

use crate::node::{Node, chain};
use crate::shard::Told;

async fn told_explain(node: &mut Node) -> (u64, StreamId, StreamOffset) {
    loop {
        match node.told().await {
            Told::Explain(ticket, stream, offset) => return (ticket, stream, offset),
            Told::Open(_) | Told::Hosted(..) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Asks A for the third message; its shard answers with these destinations, and an end.
async fn ask(
    a: &mut Node,
    stream: StreamId,
    end: Option<u64>,
    destinations: Vec<MessageDestination>,
) -> Result<MessageView, PlaneError> {
    let handle = a.handle.clone();
    let asking = tokio::spawn(async move { handle.explain_message("orders".into(), 3).await });
    let (ticket, asked, offset) = told_explain(a).await;
    assert_eq!((asked, offset), (stream, StreamOffset(2)));
    let report = MessageReport { ticket, end: end.map(StreamOffset), destinations };
    // An answer that nobody waits for is no harm.
    let stray = MessageReport { ticket: ticket + 1, ..report.clone() };
    for report in [stray, report] {
        a.say(stream, ShardToControl::MessageReport(Box::new(report)));
    }
    asking.await.expect("asked")
}

fn destination(node: NodeId, received: bool, way: MessageWay) -> MessageDestination {
    MessageDestination { node, received, way }
}

#[tokio::test]
async fn the_way_of_a_message_is_told_with_names() {
    let (mut a, b, c) = chain().await;
    let request = OpenStream {
        tenant: String::new(),
        name: "orders".into(),
        destinations: vec!["a".into(), "c".into()],
        qos: 0,
        striped: false,
        class: TrafficClass::Bulk,
    };
    let stream = a.handle.open_stream(request).await.expect("opens").stream;
    let (id_a, id_b, id_c) = (a.id(), b.id(), c.id());
    let sending = MessageSending {
        first_ago: Duration::from_millis(1500),
        last_ago: Duration::from_millis(700),
        again: true,
        path: PathId(9),
        generation: 4,
        lsdb_digest: 77,
        nodes: [id_b, id_c].into(),
        detour: Some((id_b, Duration::from_millis(100))),
    };
    let ways = vec![
        destination(id_a, true, MessageWay::Here),
        destination(id_c, false, MessageWay::Sent(vec![sending])),
    ];
    let view = ask(&mut a, stream, Some(5), ways).await.expect("known");
    assert_eq!((view.stream, view.name.as_str(), view.seq), (stream, "orders", 3));
    let [here, there] = view.destinations.as_slice() else { panic!("{view:?}") };
    assert_eq!((here.node.name.as_str(), here.state), ("a", MessageState::Received));
    assert_eq!(here.sendings, []);
    assert_eq!((there.node.name.as_str(), there.state), ("c", MessageState::Sent));
    let [sent] = there.sendings.as_slice() else { panic!("{there:?}") };
    assert_eq!(sent.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!((sent.path, sent.generation, sent.lsdb_digest), (PathId(9), 4, 77));
    assert_eq!(sent.until_unix_us - sent.from_unix_us, 800_000);
    let (at, heard_us) = sent.detour.clone().expect("rerouted");
    assert_eq!((at.name.as_str(), heard_us - sent.until_unix_us), ("b", 600_000));
    assert!(sent.again);

    let waiting = vec![destination(id_c, false, MessageWay::NotSent)];
    let view = ask(&mut a, stream, Some(5), waiting).await.expect("known");
    assert_eq!(view.destinations[0].state, MessageState::Waiting);
    // One that is forgotten for one destination is told for the others.
    let known_from = Some(StreamOffset(40));
    let forgotten = |node| destination(node, true, MessageWay::Forgotten { known_from });
    let some = vec![forgotten(id_c), destination(id_a, true, MessageWay::Here)];
    assert!(ask(&mut a, stream, Some(50), some).await.is_ok());
    let error = ask(&mut a, stream, Some(50), vec![forgotten(id_c)]).await;
    assert!(
        matches!(error, Err(PlaneError::MessageForgotten { seq: 3, known_from: Some(41), .. })),
        "{error:?}"
    );
    let error = ask(&mut a, stream, Some(2), Vec::new()).await;
    assert!(matches!(error, Err(PlaneError::NoMessage { last_seq: 2, .. })), "{error:?}");
    let error = ask(&mut a, stream, None, Vec::new()).await;
    assert!(matches!(error, Err(PlaneError::UnknownStream { .. })), "{error:?}");

    let error = a.handle.explain_message("orders".into(), 0).await;
    assert!(matches!(error, Err(PlaneError::NameInvalid { .. })), "{error:?}");
    let error = a.handle.explain_message("order".into(), 1).await;
    assert!(matches!(error, Err(PlaneError::UnknownStream { .. })), "{error:?}");
    let error = c.handle.explain_message("orders".into(), 1).await;
    assert!(matches!(error, Err(PlaneError::NotSource { .. })), "{error:?}");
    for node in [a, b, c] {
        node.stop().await;
    }
}
