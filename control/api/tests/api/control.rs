use hawser_proto::client;
use hawser_proto::v1::{
    AddRouteReq, DrainNodeReq, DropRouteReq, EvictNodeReq, Filter, IssueTokenReq, JoinMeshReq,
    LaneEventsReq, LeaveMeshReq, MeshStatus, NodeUpdate, OpenClientDataStreamReq, SeedMeshReq,
    SetLinkModeReq, StreamHandle, SubscribeReq, UndrainNodeReq,
};
use hawser_wire::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::node::{NAME, Node};
use crate::shard::Order;

fn check(status: &Status, code: Code, words: &[&str]) {
    assert_eq!(status.code(), code, "{status}");
    for word in words {
        assert!(status.message().contains(word), "{word:?} in {status}");
    }
}

fn open(name: &str, dst: &str, qos: i32) -> OpenClientDataStreamReq {
    let (name, dst_nodes) = (name.to_owned(), vec![dst.to_owned()]);
    OpenClientDataStreamReq { name, dst_nodes, qos, ..OpenClientDataStreamReq::default() }
}

#[tokio::test]
async fn a_mesh_is_seeded_and_shown() {
    let node = Node::start().await;
    let mut mesh = node.mesh().await;
    let status = mesh.get_mesh_status(()).await.unwrap().into_inner();
    assert_eq!((status.state.as_str(), status.node_name.as_str()), ("none", NAME));
    let refused = mesh.open_client_data_stream(open("orders", NAME, 0)).await.unwrap_err();
    check(&refused, Code::FailedPrecondition, &["no mesh"]);

    let seed = SeedMeshReq { name: "test".to_owned(), description: String::new() };
    let status = mesh.seed_mesh(seed.clone()).await.unwrap().into_inner();
    assert_eq!((status.state.as_str(), status.name.as_str()), ("running", "test"));
    assert_eq!(status.node_id, node.plane.node().to_string());
    check(&mesh.seed_mesh(seed).await.unwrap_err(), Code::AlreadyExists, &["test"]);

    let opened = mesh.open_client_data_stream(open("orders", NAME, 0)).await.unwrap().into_inner();
    assert_eq!(opened.pending_dst_nodes, [""; 0]);
    let again = mesh.open_client_data_stream(open("orders", NAME, 0)).await.unwrap().into_inner();
    assert_eq!(again.stream_id, opened.stream_id);
    let streams = mesh.list_streams(()).await.unwrap().into_inner().streams;
    assert!(streams.iter().all(|stream| stream.stream_id == opened.stream_id));
    assert_eq!(streams.first().map(|stream| stream.state.as_str()), Some("open"));
    assert_eq!(mesh.list_links(()).await.unwrap().into_inner().links.len(), 0);
    assert_eq!(mesh.list_lanes(()).await.unwrap().into_inner().lanes.len(), 0);

    let stream_id = opened.stream_id;
    mesh.close_client_data_stream(StreamHandle { stream_id, ..Default::default() }).await.unwrap();
    assert!(mesh.leave_mesh(LeaveMeshReq {}).await.unwrap().into_inner().success);
    let status = mesh.get_mesh_status(()).await.unwrap().into_inner();
    assert_eq!(status.state, "none");
}

#[tokio::test]
async fn bad_requests_are_refused_with_the_reason() {
    let (node, _stream) = Node::with_stream().await;
    let mut mesh = node.mesh().await;
    let refused = mesh.open_client_data_stream(open("a", "node-x", 0)).await.unwrap_err();
    check(&refused, Code::NotFound, &["node-x"]);
    let refused = mesh.open_client_data_stream(open("a b", NAME, 0)).await.unwrap_err();
    check(&refused, Code::InvalidArgument, &["a b"]);
    let refused = mesh.open_client_data_stream(open("a", NAME, 9)).await.unwrap_err();
    check(&refused, Code::InvalidArgument, &["qos 9"]);
    let token = IssueTokenReq { node_id: "nobody".to_owned(), ..IssueTokenReq::default() };
    check(&mesh.issue_token(token).await.unwrap_err(), Code::InvalidArgument, &["nobody"]);
    let handle = StreamHandle { stream_id: "no-such".to_owned(), ..StreamHandle::default() };
    let refused = mesh.close_client_data_stream(handle).await.unwrap_err();
    check(&refused, Code::NotFound, &["no-such"]);
    mesh.leave_mesh(LeaveMeshReq {}).await.unwrap();
    let join = JoinMeshReq { token: "hawser-nonsense".to_owned(), address: String::new() };
    check(&mesh.join_mesh(join).await.unwrap_err(), Code::PermissionDenied, &["token"]);
}

#[tokio::test]
async fn a_node_is_drained_and_undrained() {
    let (node, _stream) = Node::with_stream().await;
    let mut mesh = node.mesh().await;
    let drained = |status: &MeshStatus| {
        let own = status.nodes.iter().find(|known| known.node_id == status.node_id);
        own.map(|own| (own.drained, own.stub))
    };
    for _ in 0..2 {
        let status = mesh.drain_node(DrainNodeReq {}).await.unwrap().into_inner();
        assert_eq!(drained(&status), Some((true, false)));
    }
    let status = mesh.get_mesh_status(()).await.unwrap().into_inner();
    assert_eq!(drained(&status), Some((true, false)));
    let status = mesh.undrain_node(UndrainNodeReq {}).await.unwrap().into_inner();
    assert_eq!(drained(&status), Some((false, false)));
}

#[tokio::test]
async fn routes_that_cannot_be_are_refused() {
    let (node, _stream) = Node::with_stream().await;
    let mut mesh = node.mesh().await;
    let route = |from: &str, to: &str| AddRouteReq {
        from: from.to_owned(),
        to: to.to_owned(),
        via: Vec::new(),
    };
    let own = mesh.add_route(route("", NAME)).await.unwrap_err();
    check(&own, Code::InvalidArgument, &[NAME, "another node"]);
    let unknown = mesh.add_route(route(NAME, "nobody")).await.unwrap_err();
    check(&unknown, Code::NotFound, &["nobody"]);
    let unknown = mesh.add_route(route("nobody", NAME)).await.unwrap_err();
    check(&unknown, Code::NotFound, &["nobody"]);
    let drop_route = DropRouteReq { from: String::new(), to: NAME.to_owned() };
    let none = mesh.drop_route(drop_route).await.unwrap_err();
    check(&none, Code::NotFound, &["no route", NAME]);
}

#[tokio::test]
async fn modes_of_links_that_cannot_be_are_refused() {
    let (node, _stream) = Node::with_stream().await;
    let mut mesh = node.mesh().await;
    let mode =
        |peer: &str, mode: &str| SetLinkModeReq { peer: peer.to_owned(), mode: mode.to_owned() };
    let no_mode = mesh.set_link_mode(mode(NAME, "one")).await.unwrap_err();
    check(&no_mode, Code::InvalidArgument, &["\"one\"", "separate", "collapsed"]);
    let unknown = mesh.set_link_mode(mode("nobody", "separate")).await.unwrap_err();
    check(&unknown, Code::NotFound, &["nobody"]);
    let own = mesh.set_link_mode(mode(NAME, "collapsed")).await.unwrap_err();
    check(&own, Code::NotFound, &["no link", NAME]);
}

#[tokio::test]
async fn nodes_that_cannot_be_evicted_are_refused() {
    let (node, _stream) = Node::with_stream().await;
    let mut mesh = node.mesh().await;
    let evict = |node: &str| EvictNodeReq { node: node.to_owned(), reason: String::new() };
    let own = mesh.evict_node(evict(NAME)).await.unwrap_err();
    check(&own, Code::FailedPrecondition, &[NAME, "authority"]);
    let unknown = mesh.evict_node(evict("nobody")).await.unwrap_err();
    check(&unknown, Code::NotFound, &["nobody"]);
    assert!(mesh.get_mesh_status(()).await.unwrap().into_inner().evictions.is_empty());
}

#[tokio::test]
async fn what_is_not_built_yet_says_so() {
    let (node, stream) = Node::with_stream().await;
    let (mut mesh, mut data) = (node.mesh().await, node.data().await);
    for (answer, what) in [
        (mesh.send_node_update(NodeUpdate::default()).await.map(drop), "SendNodeUpdate"),
        (
            data.subscribe_node_updates(SubscribeReq::default()).await.map(drop),
            "SubscribeNodeUpdates",
        ),
        (mesh.open_client_data_stream(open("a", NAME, 1)).await.map(drop), "AT_MOST_ONCE"),
        (mesh.open_client_data_stream(open("a", NAME, 2)).await.map(drop), "QUORUM"),
    ] {
        check(&answer.unwrap_err(), Code::Unimplemented, &[what, "needs"]);
    }
    assert!(!stream.is_empty());
}

#[tokio::test]
async fn events_are_watched_and_filtered() {
    let mut node = {
        let node = Node::start().await;
        node.plane.seed_mesh("test", "").await.unwrap();
        node
    };
    let mut mesh = node.mesh().await;
    let unknown = Filter { kinds: vec!["stream_open".to_owned()] };
    let refused = mesh.watch_mesh_events(unknown).await.unwrap_err();
    check(&refused, Code::InvalidArgument, &["stream_open", "stream_opened"]);
    let filter = Filter { kinds: vec!["stream_opened".to_owned()] };
    let mut events = mesh.watch_mesh_events(filter).await.unwrap().into_inner();
    node.open("orders").await;
    let event = events.message().await.unwrap().unwrap();
    assert_eq!(event.kind, "stream_opened");
    node.stop_api();
    loop {
        match events.message().await {
            Ok(Some(event)) => assert_eq!(event.kind, "stream_opened"),
            Ok(None) => panic!("the end is said"),
            Err(status) => break check(&status, Code::Unavailable, &["stopping"]),
        }
    }
}

#[tokio::test]
async fn events_of_links_are_listed_and_followed() {
    let mut node = Node::start().await;
    node.plane.seed_mesh("test", "").await.unwrap();
    let mut mesh = node.mesh().await;
    let watch = |peer: &str, follow| LaneEventsReq { peer: peer.to_owned(), follow };
    let refused = mesh.watch_lane_events(watch("node-b", false)).await.unwrap_err();
    check(&refused, Code::NotFound, &["node-b"]);
    let mut listed = mesh.watch_lane_events(watch("", false)).await.unwrap().into_inner();
    assert_eq!(listed.message().await.unwrap(), None, "nothing has happened");

    let peer = NodeId::from_bytes([7; 16]);
    let mut followed = mesh.watch_lane_events(watch("", true)).await.unwrap().into_inner();
    node.shard.order(Order::TellLinkEvent(peer));
    let first = followed.message().await.unwrap().unwrap();
    assert_eq!((first.seq, first.name.as_str()), (1, "hedged"));
    assert_eq!((first.peer_id.clone(), first.peer_name.as_str()), (peer.to_string(), ""));
    let inputs: Vec<_> =
        first.inputs.iter().map(|input| (input.name.as_str(), input.value.as_str())).collect();
    assert_eq!(inputs, [("from_lane", "2"), ("silent_ticks", "3")]);
    assert!(first.unix_us > 0);

    // Of one peer, past and to come.
    let other = NodeId::from_bytes([8; 16]);
    let of_peer = watch(&peer.to_string(), true);
    let mut of_peer = mesh.watch_lane_events(of_peer).await.unwrap().into_inner();
    for to in [other, peer] {
        node.shard.order(Order::TellLinkEvent(to));
    }
    assert_eq!(of_peer.message().await.unwrap(), Some(first));
    assert_eq!(of_peer.message().await.unwrap().unwrap().seq, 3);
    let mut listed = mesh.watch_lane_events(watch("", false)).await.unwrap().into_inner();
    for seq in 1..=3 {
        assert_eq!(listed.message().await.unwrap().unwrap().seq, seq);
    }
    assert_eq!(listed.message().await.unwrap(), None);
    assert_eq!(followed.message().await.unwrap().unwrap().seq, 2);
    assert_eq!(followed.message().await.unwrap().unwrap().seq, 3);
    node.stop_api();
    check(&followed.message().await.unwrap_err(), Code::Unavailable, &["stopping"]);
}

#[tokio::test]
async fn health_is_served() {
    let node = Node::start().await;
    let mut health = HealthClient::new(node.channel().await);
    for service in ["", "hawser.v1.MeshService", "hawser.v1.MeshDataService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_named() {
    let mut node = Node::start().await;
    node.join_api().await.unwrap();
    // As a process that was killed leaves it.
    drop(std::os::unix::net::UnixListener::bind(node.socket()).unwrap());
    let error = client::connect_unix(node.socket()).await.unwrap_err();
    assert_eq!(error.io().map(std::io::Error::kind), Some(std::io::ErrorKind::ConnectionRefused));
    assert!(error.to_string().contains("api.sock"), "{error}");
}

#[tokio::test]
async fn a_client_that_names_the_sockets_path_as_authority_is_served() {
    let node = Node::start().await;
    let path = node.socket().display().to_string();
    // As gRPC's C core and Java write it.
    for authority in [path.trim_start_matches('/').replace('/', "%2F"), path.clone()] {
        let mut block = vec![0x83, 0x86, 0x44];
        for text in ["/grpc.health.v1.Health/Check", ":authority", &authority] {
            if text == ":authority" {
                block.push(0x40);
            }
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
        block.extend_from_slice(b"\x5f\x10application/grpc\x40\x02te\x08trailers");
        let mut socket = UnixStream::connect(node.socket()).await.unwrap();
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let length = u8::try_from(block.len()).unwrap();
        socket.write_all(&[0, 0, length, 0x1, 0x4, 0, 0, 0, 1]).await.unwrap();
        socket.write_all(&block).await.unwrap();
        // An empty request, and the end of the client's side.
        socket.write_all(b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0").await.unwrap();
        let kind = loop {
            let mut header = [0; 9];
            socket.read_exact(&mut header).await.unwrap();
            let [high, middle, low, kind, _, .., stream] = header;
            let length = u32::from_be_bytes([0, high, middle, low]);
            socket.read_exact(&mut vec![0; length as usize]).await.unwrap();
            if stream == 1 {
                break kind;
            }
        };
        assert_eq!(kind, 0x1, "HEADERS and not RST_STREAM, for {authority}");
    }
}
