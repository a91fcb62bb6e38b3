use std::time::Instant;

use hawser_exchange::{ShardToControl, StreamSpec};
use hawser_plane::{EventKind, OpenStream, PlaneError, StatusView, StreamRole, StreamState};
use hawser_wire::{NodeId, StreamId, StreamOffset, TrafficClass};

use crate::node::{Node, chain, event, try_start};
use crate::shard::Told;

fn request(name: &str, destinations: &[&str]) -> OpenStream {
    OpenStream {
        tenant: String::new(),
        name: name.into(),
        destinations: destinations.iter().map(ToString::to_string).collect(),
        qos: 0,
        striped: false,
        class: TrafficClass::Bulk,
    }
}

async fn told_open(node: &mut Node) -> StreamSpec {
    match node.told().await {
        Told::Open(spec) => *spec,
        other => panic!("{other:?}"),
    }
}

async fn told_hosted(node: &mut Node) -> (StreamId, NodeId) {
    match node.told().await {
        Told::Hosted(stream, node) => (stream, node),
        other => panic!("{other:?}"),
    }
}

async fn told_close(node: &mut Node) -> StreamId {
    match node.told().await {
        Told::Close(stream) => stream,
        other => panic!("{other:?}"),
    }
}

async fn told_drop(node: &mut Node) -> StreamId {
    match node.told().await {
        Told::Drop(stream) => stream,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_is_opened_confirmed_and_closed_over_a_relay() {
    let (mut a, b, mut c) = chain().await;
    let opened = a.handle.open_stream(request("orders", &["c"])).await.expect("opens");
    assert_eq!(opened.pending, []);
    let at_source = told_open(&mut a).await;
    let source = at_source.source.expect("source");
    assert!(source.fresh && !source.closing);
    assert_eq!(source.destinations, [c.id()]);
    assert!(at_source.destination.is_none());
    assert_eq!(told_hosted(&mut a).await, (opened.stream, c.id()));
    let at_destination = told_open(&mut c).await;
    assert_eq!(at_destination.stream, opened.stream);
    assert_eq!(at_destination.tenant, at_source.tenant);
    assert_eq!(at_destination.destination.expect("destination").source, a.id());

    let again = a.handle.open_stream(request("orders", &["c"])).await.expect("the same");
    assert_eq!(again, opened);
    let by_name = c.handle.resolve_stream("orders").await.expect("known");
    assert_eq!((by_name.stream, by_name.is_destination), (opened.stream, true));
    assert!(matches!(
        c.handle.resolve_stream("order").await,
        Err(PlaneError::UnknownStream { nearest: Some(nearest), .. }) if nearest == "orders"
    ));
    let rows = a.handle.streams().await.expect("rows");
    assert_eq!((rows[0].role, rows[0].source.name.as_str()), (StreamRole::Source, "a"));
    assert_eq!(rows[0].destinations[0].name, "c");

    assert!(matches!(
        c.handle.close_stream(opened.stream).await,
        Err(PlaneError::NotSource { .. })
    ));
    a.handle.close_stream(opened.stream).await.expect("closes");
    a.handle.close_stream(opened.stream).await.expect("again is no error");
    assert_eq!(told_close(&mut a).await, opened.stream);
    assert!(matches!(
        a.handle.open_stream(request("orders", &["c"])).await,
        Err(PlaneError::StreamClosing { .. })
    ));
    // The destination forgets nothing before its source has forgotten it.
    let mut events = c.handle.events();
    let (stream, end) = (opened.stream, StreamOffset(42));
    c.say(stream, ShardToControl::StreamEnded { stream, end });
    event(&mut events, EventKind::StreamClosed).await;
    let rows = c.handle.streams().await.expect("rows");
    assert_eq!((rows.len(), rows[0].state), (1, StreamState::Closed));
    assert!(c.handle.resolve_stream("orders").await.is_ok(), "known until then");
    a.say(stream, ShardToControl::StreamEnded { stream, end });
    for node in [&mut a, &mut c] {
        assert_eq!(told_drop(node).await, stream);
        let gone = node.handle.resolve_stream("orders").await;
        assert!(matches!(gone, Err(PlaneError::UnknownStream { .. })), "{gone:?}");
        let rows = node.handle.streams().await.expect("rows");
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.stream, row.state), (stream, StreamState::Closed), "still shown");
        assert_eq!((row.last_seq, row.acked_seq), (42, 42));
    }
    let next = a.handle.open_stream(request("orders", &["c"])).await.expect("opens anew");
    assert_ne!(next.stream, opened.stream);
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn wrong_streams_are_refused() {
    let (a, b, c) = chain().await;
    let error = a.handle.open_stream(request("orders", &["d"])).await;
    assert!(matches!(error, Err(PlaneError::UnknownNode { .. })), "{error:?}");
    for (name, destinations) in [("a b", vec!["c"]), ("", vec!["c"]), ("orders", vec![])] {
        let error = a.handle.open_stream(request(name, &destinations)).await;
        assert!(matches!(error, Err(PlaneError::NameInvalid { .. })), "{error:?}");
    }
    for qos in [1, 2] {
        let error = a.handle.open_stream(OpenStream { qos, ..request("orders", &["c"]) }).await;
        assert!(matches!(error, Err(PlaneError::Unsupported { .. })), "{error:?}");
    }
    a.handle.open_stream(request("orders", &["c"])).await.expect("opens");
    let error = a.handle.open_stream(request("orders", &["b"])).await;
    assert!(matches!(error, Err(PlaneError::StreamDiffers { .. })), "{error:?}");
    let priority = OpenStream { class: TrafficClass::Priority, ..request("orders", &["c"]) };
    let error = a.handle.open_stream(priority.clone()).await;
    let differs = matches!(&error, Err(PlaneError::StreamDiffers { what: "traffic class", .. }));
    assert!(differs, "{error:?}");
    for refused in [
        OpenStream { striped: true, name: "both".into(), ..priority.clone() },
        OpenStream { class: TrafficClass::Control, name: "control".into(), ..priority },
    ] {
        let error = a.handle.open_stream(refused).await;
        assert!(matches!(error, Err(PlaneError::NameInvalid { .. })), "{error:?}");
    }
    let error = a.handle.close_stream(StreamId::from_bytes([3; 16])).await;
    assert!(matches!(error, Err(PlaneError::UnknownStream { .. })), "{error:?}");
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_stream_to_this_node_itself_needs_nobody() {
    let (mut a, b, c) = chain().await;
    let opened = a.handle.open_stream(request("loop", &["a", "c"])).await.expect("opens");
    assert_eq!(opened.pending, []);
    let spec = told_open(&mut a).await;
    assert!(spec.source.is_some() && spec.destination.is_some());
    let rows = a.handle.streams().await.expect("rows");
    assert_eq!(
        rows.iter().map(|row| row.role).collect::<Vec<_>>(),
        [StreamRole::Source, StreamRole::Destination]
    );
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_destination_that_is_away_is_told_when_it_comes_back() {
    let (mut a, b, c) = chain().await;
    let away = c.id();
    let (setup, directory) = c.kill().await;
    a.until_reaches(1).await;
    let opened = a.handle.open_stream(request("orders", &["c"])).await.expect("opens");
    assert_eq!(opened.pending, [away], "after five seconds without it");
    let mut c = try_start(setup, directory).await.expect("starts");
    assert_eq!(told_open(&mut c).await.stream, opened.stream);

    // What its shard forgets it is told again.
    told_open(&mut a).await;
    let mut events = c.handle.events();
    let gone = [&[4], opened.stream.as_bytes().as_slice()].concat();
    c.say(opened.stream, ShardToControl::Datagram { from: a.id(), via: b.id(), body: gone.into() });
    event(&mut events, EventKind::StreamClosed).await;
    assert_eq!(told_drop(&mut c).await, opened.stream);
    let unknown = ShardToControl::StreamUnknownAt { stream: opened.stream, node: away };
    // The confirmation of before may still be under way to A, whose word then comes too early.
    let told = loop {
        a.say(opened.stream, unknown_again(&unknown));
        tokio::select! {
            spec = told_open(&mut c) => break spec,
            status = a.handle.status() => { status.expect("status"); }
        }
    };
    assert_eq!(told.stream, opened.stream);
    for node in [a, b, c] {
        node.stop().await;
    }
}

fn unknown_again(message: &ShardToControl) -> ShardToControl {
    match message {
        &ShardToControl::StreamUnknownAt { stream, node } => {
            ShardToControl::StreamUnknownAt { stream, node }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn streams_and_consumers_outlive_a_restart() {
    let (mut a, b, mut c) = chain().await;
    let opened = a.handle.open_stream(request("orders", &["c"])).await.expect("opens");
    let stream = opened.stream;
    told_open(&mut a).await;
    told_open(&mut c).await;
    for next in [3, 7, 5] {
        let (consumer, next) = ("reader".into(), StreamOffset(next));
        c.say(stream, ShardToControl::Committed { stream, consumer, next });
    }
    // What was confirmed is written at the latest when the node stops; a call that is answered
    // comes behind it.
    c.handle.status().await.expect("status");
    let (setup, directory) = c.stop().await;
    let mut c = try_start(setup, directory).await.expect("starts");
    let spec = told_open(&mut c).await;
    let destination = spec.destination.expect("destination");
    assert_eq!(destination.consumers, [("reader".to_owned(), StreamOffset(7))]);
    assert_eq!(spec.epoch.0, 2);

    a.handle.close_stream(stream).await.expect("closes");
    let (setup, directory) = a.stop().await;
    let mut a = try_start(setup, directory).await.expect("starts");
    let source = told_open(&mut a).await.source.expect("source");
    assert!(!source.fresh && source.closing);
    let view = a.handle.resolve_stream("orders").await.expect("known");
    assert_eq!((view.stream, view.state), (stream, StreamState::Closing));
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_refused_stream_is_taken_back() {
    let (mut a, b, c) = chain().await;
    let destination = c.id();
    // A destination that cannot answer: the test answers in its place.
    let _gone = c.kill().await;
    a.until_reaches(1).await;
    let handle = a.handle.clone();
    let opening = tokio::spawn(async move { handle.open_stream(request("orders", &["c"])).await });
    let stream = told_open(&mut a).await.stream;
    let mut refusal = vec![3];
    refusal.extend_from_slice(stream.as_bytes());
    refusal.extend_from_slice(b"\x01\x08too many");
    let (via, body) = (b.id(), refusal.into());
    a.say(stream, ShardToControl::Datagram { from: destination, via, body });
    let error = opening.await.expect("no panic").expect_err("refused");
    assert!(
        matches!(&error, PlaneError::Refused { address, detail, .. }
            if address == "c" && detail == "too many"),
        "{error:?}"
    );
    assert_eq!(told_drop(&mut a).await, stream);
    assert_eq!(a.handle.streams().await.expect("rows"), []);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (a, b, c) = chain().await;
    let opened = a.handle.open_stream(request("orders", &["c"])).await.expect("opens");
    let before = a.handle.status().await.expect("status");
    let mut events = a.handle.events();
    let from = b.id();
    // An announcement that is cut off, a flooding message that is none, a stream of a stranger.
    let mut stolen = vec![1];
    stolen.extend_from_slice(opened.stream.as_bytes());
    stolen.extend_from_slice(b"\x01t\x01n\x00\x00");
    stolen.extend_from_slice(&[0; 8]);
    stolen.extend_from_slice(&[1, 0]);
    stolen.extend_from_slice(a.id().as_bytes());
    for (message, said) in [
        (ShardToControl::Datagram { from, via: from, body: vec![1, 2, 3].into() }, "truncated"),
        (ShardToControl::LinkControl { from, body: vec![1, 1, 2].into() }, "flooding"),
        (ShardToControl::Datagram { from, via: from, body: stolen.into() }, "taken"),
    ] {
        a.say(opened.stream, message);
        let refused = event(&mut events, EventKind::Refused).await;
        assert_eq!(refused.node, Some(from));
        assert!(refused.detail.contains(said), "{refused:?}");
    }
    // What comes again and again is counted, and told now and then.
    for number in 0..500_u16 {
        let [high, low] = number.to_be_bytes();
        let mut announce = [&[1, high, low][..], &[9; 14], b"\x01t\x01n\x00\x00"].concat();
        announce.extend_from_slice(&[0; 8]);
        announce.extend_from_slice(&[1, 0]);
        announce.extend_from_slice(b.id().as_bytes());
        let (from, via) = (c.id(), from);
        for body in [announce, vec![1, 2, 3]] {
            let body = body.into();
            a.say(opened.stream, ShardToControl::Datagram { from, via, body });
        }
    }
    let counts = |status: &StatusView| {
        let count = |of: &str| status.datagram_rejects.iter().find(|(reason, _)| *reason == of);
        ["malformed", "stream-invalid"].map(|of| count(of).map_or(0, |(_, count)| *count))
    };
    let began = Instant::now();
    let after = a.until("counting them", |status| counts(status) == [501, 501]).await;
    let told = std::iter::from_fn(|| events.try_recv().ok());
    let told = told.filter(|event| event.kind == EventKind::Refused).count();
    let most = 16 + began.elapsed().as_secs() as usize + 2;
    assert!((4..=most).contains(&told), "{told} of 1,000");
    assert_eq!(after.lsdb_digest, before.lsdb_digest);
    let view = a.handle.resolve_stream("orders").await.expect("still there");
    assert_eq!((view.source, view.destinations), (a.id(), vec![c.id()]));
    for node in [a, b, c] {
        node.stop().await;
    }
}
