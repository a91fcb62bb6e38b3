use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hawser_identity::{Credentials, MeshAuthority, NodeKey, lane_server_name};
use hawser_proto::client;
use hawser_proto::v1::{
    AddRouteReq, DrainNodeReq, Filter, MeshStatus, OpenClientDataStreamReq, StopMeshReq,
    UndrainNodeReq,
};
use hawser_wire::MeshId;
use rustls::ClientConfig;
use tokio::sync::watch;
use tonic::Code;

use crate::node::Node;

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn authority() -> MeshAuthority {
    MeshAuthority::generate(MeshId::from_bytes([1; 16]), "test", now_unix_s()).unwrap()
}

fn credentials(authority: &MeshAuthority, name: &str) -> Credentials {
    credentials_of(&NodeKey::generate().unwrap(), authority, name)
}

fn credentials_of(key: &NodeKey, authority: &MeshAuthority, name: &str) -> Credentials {
    let csr = key.csr(name).unwrap();
    let day = Duration::from_secs(86_400);
    let (_, certificate) = authority.sign_csr(&csr, name, now_unix_s(), day).unwrap();
    Credentials::new(key, &certificate, authority.certificate_der()).unwrap()
}

async fn connect(address: &str, config: &ClientConfig) -> Result<String, String> {
    let name = lane_server_name().unwrap();
    let channel = client::connect_tls(address, name, config).await.map_err(|e| e.to_string())?;
    // With TLS 1.3 a client learns only now whether its certificate is liked.
    let status = client::mesh(channel).get_mesh_status(()).await.map_err(|e| e.to_string())?;
    Ok(status.into_inner().node_name)
}

#[tokio::test]
async fn only_members_are_served_and_only_while_there_is_a_mesh() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (config, configured) = watch::channel(None);
    let node = Node::start_with(Some((listener, configured)), Duration::ZERO).await;

    let authority = authority();
    let server = credentials(&authority, "node-a");
    let member = credentials(&authority, "node-b").lane_client_config();
    connect(&address, &member).await.unwrap_err();

    config.send_replace(Some(server.api_server_config()));
    assert_eq!(connect(&address, &member).await.unwrap(), "node-a");

    let stranger = credentials(&self::authority(), "node-b").lane_client_config();
    connect(&address, &stranger).await.unwrap_err();
    let nameless = ClientConfig::builder_with_provider(Arc::clone(member.crypto_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates({
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.certificate_der().to_vec().into()).unwrap();
            roots
        })
        .with_no_client_auth();
    connect(&address, &nameless).await.unwrap_err();

    // Others are not affected.
    assert_eq!(connect(&address, &member).await.unwrap(), "node-a");

    // A node that has left the mesh serves its members no longer.
    let name = lane_server_name().unwrap();
    let mut mesh = client::mesh(client::connect_tls(&address, name, &member).await.unwrap());
    let mut events = mesh.watch_mesh_events(Filter::default()).await.unwrap().into_inner();
    config.send_replace(None);
    tokio::time::timeout(crate::PATIENCE, events.message()).await.unwrap().unwrap_err();
    connect(&address, &member).await.unwrap_err();
    drop(node);
}

#[tokio::test]
async fn over_tcp_a_node_is_changed_by_its_operators_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let authority = authority();
    let key = NodeKey::generate().unwrap();
    let server = credentials(&authority, "node-a").api_server_config();
    let (_config, configured) = watch::channel(Some(server));
    let tcp = Some((listener, configured));
    let node = Node::start_for(tcp, vec![key.node_id()], Duration::ZERO).await;
    node.plane.seed_mesh("test", "").await.unwrap();

    let connect = async |credentials: Credentials| {
        let name = lane_server_name().unwrap();
        let config = credentials.lane_client_config();
        client::mesh(client::connect_tls(&address, name, &config).await.unwrap())
    };
    let mut member = connect(credentials(&authority, "node-b")).await;
    let refused = [
        member.drain_node(DrainNodeReq::default()).await.unwrap_err(),
        member.add_route(AddRouteReq::default()).await.unwrap_err(),
        member.stop_mesh(StopMeshReq::default()).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        assert!(status.message().contains("api.operators"), "{status:?}");
    }
    // It reads, watches and uses streams as before, and what it was refused has changed nothing.
    let is_drained = |status: MeshStatus| status.nodes.iter().any(|node| node.drained);
    assert!(!is_drained(member.get_mesh_status(()).await.unwrap().into_inner()));
    member.watch_mesh_events(Filter::default()).await.unwrap();
    let open = OpenClientDataStreamReq {
        name: "orders".to_owned(),
        dst_nodes: vec!["node-a".to_owned()],
        ..Default::default()
    };
    member.open_client_data_stream(open).await.unwrap();

    let mut operator = connect(credentials_of(&key, &authority, "node-c")).await;
    let status = operator.drain_node(DrainNodeReq::default()).await.unwrap().into_inner();
    assert!(is_drained(status.clone()), "{status:?}");
    let status = node.mesh().await.undrain_node(UndrainNodeReq::default()).await.unwrap();
    assert!(!is_drained(status.into_inner()), "the unix socket is an operator's");
}
