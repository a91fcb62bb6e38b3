use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hawser_identity::{Credentials, MeshAuthority, NodeKey, lane_server_name};
use hawser_proto::client;
use hawser_proto::v1::Filter;
use hawser_wire::MeshId;
use rustls::ClientConfig;
use tokio::sync::watch;

use crate::node::Node;

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn authority() -> MeshAuthority {
    MeshAuthority::generate(MeshId::from_bytes([1; 16]), "test", now_unix_s()).unwrap()
}

fn credentials(authority: &MeshAuthority, name: &str) -> Credentials {
    let key = NodeKey::generate().unwrap();
    let csr = key.csr(name).unwrap();
    let day = Duration::from_secs(86_400);
    let (_, certificate) = authority.sign_csr(&csr, name, now_unix_s(), day).unwrap();
    Credentials::new(&key, &certificate, authority.certificate_der()).unwrap()
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
