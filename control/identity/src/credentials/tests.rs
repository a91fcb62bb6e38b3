use std::time::Duration;

use hawser_wire::MeshId;
use rustls::{ClientConnection, Connection, ServerConnection};

use super::*;
use crate::{MeshAuthority, fingerprint, join_client_config, random_id};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn authority() -> MeshAuthority {
    MeshAuthority::generate(MeshId::from_bytes(random_id().unwrap()), "test mesh", now()).unwrap()
}

fn member(authority: &MeshAuthority, now: u64) -> (NodeKey, Credentials) {
    let key = NodeKey::generate().unwrap();
    let (_, der) = authority.sign_csr(&key.csr("a").unwrap(), "a", now, DAY).unwrap();
    let credentials = Credentials::new(&key, &der, authority.certificate_der()).unwrap();
    (key, credentials)
}

/// Both ends in memory until both are done or one refuses.
fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(Connection, Connection), rustls::Error> {
    let client = ClientConnection::new(client, lane_server_name().unwrap())?;
    let (mut client, mut server) =
        (Connection::from(client), Connection::from(ServerConnection::new(server)?));
    for _ in 0..8 {
        for turn in [true, false] {
            let (from, to) =
                if turn { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let mut bytes = Vec::new();
            while from.wants_write() {
                from.write_tls(&mut bytes).unwrap();
            }
            let mut bytes = bytes.as_slice();
            while !bytes.is_empty() {
                to.read_tls(&mut bytes).unwrap();
                to.process_new_packets()?;
            }
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn refused(client: Arc<ClientConfig>, server: Arc<ServerConfig>, part: &str) {
    let text = match handshake(client, server) {
        Ok(_) => panic!("accepted, expected {part:?}"),
        Err(error) => error.to_string(),
    };
    assert!(text.contains(part), "{text:?} has no {part:?}");
}

#[test]
fn members_see_each_other() {
    let authority = authority();
    let ((a, dialler), (b, acceptor)) = (member(&authority, now()), member(&authority, now()));
    let (client, server) =
        handshake(dialler.lane_client_config(), acceptor.lane_server_config()).unwrap();
    assert_eq!(peer_identity(client.peer_certificates().unwrap()).unwrap().node, b.node_id());
    assert_eq!(peer_identity(server.peer_certificates().unwrap()).unwrap().node, a.node_id());
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
}

#[test]
fn second_connection_is_a_full_handshake_again() {
    let authority = authority();
    let ((_, dialler), (_, acceptor)) = (member(&authority, now()), member(&authority, now()));
    for _ in 0..2 {
        let (client, server) =
            handshake(dialler.lane_client_config(), acceptor.lane_server_config()).unwrap();
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert!(server.peer_certificates().is_some());
    }
}

#[test]
fn another_mesh_is_refused_on_either_side() {
    let ((_, a), (_, b)) = (member(&authority(), now()), member(&authority(), now()));
    refused(a.lane_client_config(), b.lane_server_config(), "UnknownIssuer");
    // The acceptor must refuse too, if the dialler believes everything that it should not.
    let trusting = join_client_config([0; 32]).unwrap();
    refused(trusting, b.lane_server_config(), "UnknownIssuer");
}

#[test]
fn acceptor_refuses_a_dialler_of_another_mesh() {
    let (ours, theirs) = (authority(), authority());
    let (_, acceptor) = member(&ours, now());
    let key = NodeKey::generate().unwrap();
    let (_, der) = theirs.sign_csr(&key.csr("x").unwrap(), "x", now(), DAY).unwrap();
    // A stranger that knows our authority and shows its own mesh's certificate.
    let root = CertificateDer::from(ours.certificate_der().to_vec());
    let stranger = Credentials::of_chain(&key, CertificateDer::from(der), root).unwrap();
    refused(stranger.lane_client_config(), acceptor.lane_server_config(), "UnknownIssuer");
}

#[test]
fn expired_certificate_is_refused_on_either_side() {
    let authority = authority();
    let ((_, good), (_, old)) = (member(&authority, now()), member(&authority, now() - 2 * 86_400));
    refused(old.lane_client_config(), good.lane_server_config(), "xpired");
    refused(good.lane_client_config(), old.lane_server_config(), "xpired");
}

#[test]
fn certificate_of_tomorrow_is_refused() {
    let authority = authority();
    let ((_, good), (_, early)) =
        (member(&authority, now()), member(&authority, now() + 2 * 86_400));
    refused(early.lane_client_config(), good.lane_server_config(), "not valid yet");
}

#[test]
fn joiner_believes_the_pinned_authority_only() {
    let authority = authority();
    let (_, acceptor) = member(&authority, now());
    let pinned = join_client_config(fingerprint(authority.certificate_der())).unwrap();
    let (_, server) = handshake(pinned, acceptor.lane_server_config()).unwrap();
    assert!(server.peer_certificates().is_none(), "a joiner has no certificate to show");
    let mut wrong = fingerprint(authority.certificate_der());
    wrong[31] ^= 1;
    let wrong = join_client_config(wrong).unwrap();
    refused(wrong, acceptor.lane_server_config(), "UnknownIssuer");
}

#[test]
fn joiner_refuses_a_stranger_that_shows_the_pinned_authority() {
    let (ours, theirs) = (authority(), authority());
    let key = NodeKey::generate().unwrap();
    let (_, der) = theirs.sign_csr(&key.csr("x").unwrap(), "x", now(), DAY).unwrap();
    // Its chain ends in the pinned certificate, which did not sign it.
    let root = CertificateDer::from(ours.certificate_der().to_vec());
    let stranger = Credentials::of_chain(&key, CertificateDer::from(der), root).unwrap();
    let pinned = join_client_config(fingerprint(ours.certificate_der())).unwrap();
    refused(pinned, stranger.lane_server_config(), "invalid peer certificate");
}

#[test]
fn joiner_refuses_an_expired_member() {
    let authority = authority();
    let (_, old) = member(&authority, now() - 2 * 86_400);
    let pinned = join_client_config(fingerprint(authority.certificate_der())).unwrap();
    refused(pinned, old.lane_server_config(), "xpired");
}

#[test]
fn api_demands_a_certificate() {
    let authority = authority();
    let (_, server) = member(&authority, now());
    let pinned = join_client_config(fingerprint(authority.certificate_der())).unwrap();
    let mut pinned = ClientConfig::clone(&pinned);
    pinned.alpn_protocols = vec![b"h2".to_vec()];
    refused(Arc::new(pinned), server.api_server_config(), "sent no certificates");
}

#[test]
fn certificate_of_another_key_is_refused() {
    let authority = authority();
    let (a, b) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
    let (_, der) = authority.sign_csr(&a.csr("a").unwrap(), "a", now(), DAY).unwrap();
    let error = Credentials::new(&b, &der, authority.certificate_der()).unwrap_err();
    assert!(matches!(error, IdentityError::KeyMismatch { .. }), "{error}");
    let error = Credentials::new(&a, b"junk", authority.certificate_der()).unwrap_err();
    assert!(matches!(error, IdentityError::Certificate { .. }), "{error}");
    let error = Credentials::new(&a, &der, b"junk").unwrap_err();
    assert!(matches!(error, IdentityError::Certificate { .. }), "{error}");
    let mut changed = der;
    changed[40] ^= 1;
    assert!(Credentials::new(&a, &changed, authority.certificate_der()).is_err());
}

#[test]
fn certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let key = NodeKey::generate().unwrap();
    let (_, der) = theirs.sign_csr(&key.csr("a").unwrap(), "a", now(), DAY).unwrap();
    let error = Credentials::new(&key, &der, ours.certificate_der()).unwrap_err();
    assert!(error.to_string().contains("did not sign"), "{error}");
    Credentials::new(&key, &der, theirs.certificate_der()).unwrap();
}

#[test]
fn debug_output_keeps_the_secret() {
    let (key, credentials) = member(&authority(), now());
    let configs = (credentials.lane_client_config(), credentials.lane_server_config());
    let shown = format!("{credentials:?} {configs:?}");
    for window in key.pkcs8().windows(6).skip(10) {
        assert!(!shown.contains(&format!("{window:?}")[1..]));
    }
}
