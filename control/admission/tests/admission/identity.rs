use hawser_admission::{Fault, LocalNode, Stage, dial};
use hawser_session::SessionError;
use hawser_wire::{CloseReason, FrameKind, Hello, MeshId, NodeId};
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::mesh::{Mesh, Running, assert_refused, fault, now_unix_s, options, within};
use crate::raw_peer::{RawPeer, encoded, hello};

const TWO_DAYS_S: u64 = 2 * 86_400;

fn tls_error(fault: Fault) -> (Stage, TlsError, String) {
    let text = fault.to_string();
    match fault {
        Fault::Session { stage, source: SessionError::Tls(error) } => (stage, error, text),
        other => panic!("expected a TLS error, got {other:?}"),
    }
}

#[tokio::test]
async fn wrong_mesh_id() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let mut a = mesh.member("a");
    a.mesh = MeshId::from_bytes([7; 16]);
    let part = mesh.id.to_string();
    assert_refused(running.dial(&a).await, CloseReason::WrongMesh, &part);
    running.refused("wrong mesh").await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn node_id_other_than_the_certificate() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let mut a = mesh.member("a");
    let certified = a.node;
    a.node = NodeId::from_bytes([7; 16]);
    assert_refused(running.dial(&a).await, CloseReason::IdentityRefused, &certified.to_string());
    running.refused("identity refused").await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn name_is_the_certificates() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let mut a = mesh.member("a");
    a.name = "b".to_owned();
    running.dial(&a).await.unwrap();
    assert_eq!(running.next_lane().await.peer_name, "a");
}

#[tokio::test]
async fn expired_certificate_of_the_dialler() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let old = mesh.member_since("old", now_unix_s() - TWO_DAYS_S);
    let (_, error, text) = tls_error(fault(running.dial(&old).await));
    assert_eq!(error, TlsError::AlertReceived(AlertDescription::CertificateExpired));
    assert!(text.contains("join again"), "{text}");
    running.refused("certificate expired").await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn expired_certificate_of_the_acceptor() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member_since("old", now_unix_s() - TWO_DAYS_S));
    let (stage, error, text) = tls_error(fault(running.dial(&mesh.member("a")).await));
    assert_eq!(stage, Stage::Tls);
    assert!(
        matches!(error, TlsError::InvalidCertificate(CertificateError::ExpiredContext { .. })),
        "{error}"
    );
    assert!(text.contains("has expired"), "{text}");
    running.refused("CertificateExpired").await;
}

#[tokio::test]
async fn acceptor_of_another_mesh() {
    let (ours, theirs) = (Mesh::new(), Mesh::new());
    let mut running = Running::start(&theirs.member("b"));
    let (stage, error, text) = tls_error(fault(running.dial(&ours.member("a")).await));
    assert_eq!(stage, Stage::Tls);
    assert_eq!(error, TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
    assert!(text.contains("not of this mesh"), "{text}");
    running.refused("UnknownCA").await;
    running.still_serves(&theirs).await;
}

#[tokio::test]
async fn dialler_with_a_certificate_of_another_authority() {
    let (ours, theirs) = (Mesh::new(), Mesh::new());
    let mut running = Running::start(&ours.member("b"));
    let mut stranger = theirs.member("x");
    stranger.client = ours.stranger(&stranger);
    let (_, error, text) = tls_error(fault(running.dial(&stranger).await));
    assert_eq!(error, TlsError::AlertReceived(AlertDescription::UnknownCA));
    assert!(text.contains("same mesh"), "{text}");
    running.refused("not of this mesh").await;
    running.still_serves(&ours).await;
}

#[tokio::test]
async fn lane_without_a_certificate() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let mut anonymous = mesh.member("a");
    let pin = hawser_identity::fingerprint(mesh.authority.certificate_der());
    anonymous.client = hawser_identity::join_client_config(pin).unwrap();
    match fault(running.dial(&anonymous).await) {
        Fault::Http { status, text } => {
            assert_eq!(status, 403);
            assert!(text.contains("client certificate"), "{text}");
        }
        other => panic!("expected HTTP 403, got {other:?}"),
    }
    running.refused("HTTP 403").await;

    // What is sent behind the request finds nobody.
    let mut peer = RawPeer::connect(running.address, &anonymous.client).await;
    assert_eq!(peer.upgrade("/lane").await, 403);
    running.refused("HTTP 403").await;
    peer.send_message(b"x").await;
    peer.read_to_end().await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn secrets_are_in_no_output() {
    let mesh = Mesh::new();
    let b = mesh.member("b");
    let mut running = Running::start(&b);
    let lane = running.dial(&mesh.member("a")).await.unwrap();
    let theirs = running.next().await;
    let error = within(dial(&b, "127.0.0.1:1", &options())).await.unwrap_err();
    let shown = format!("{b:?} {lane:?} {theirs:?} {error:?} {error}");
    let key = mesh.authority.key_pkcs8();
    for window in key.windows(6) {
        let numbers = format!("{window:?}");
        assert!(!shown.contains(numbers.trim_matches(['[', ']'])));
    }
    assert!(!shown.contains("PrivateKey") && !shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_refusal_says_whom_the_certificate_names_and_which_lane_was_asked_for() {
    let mesh = Mesh::new();
    let b = mesh.member("b");
    let mut running = Running::start(&b);
    let a = mesh.member("a");
    let lane = Some((options().lane, options().class));

    let elsewhere = LocalNode { mesh: MeshId::from_bytes([7; 16]), ..a.clone() };
    running.dial(&elsewhere).await.unwrap_err();
    let (_, peer, asked) = running.refused_one("wrong mesh").await;
    assert_eq!((peer, asked), (Some(a.node), lane));

    b.barred.bar(a.node);
    running.dial(&a).await.unwrap_err();
    let (_, peer, asked) = running.refused_one("comes back by itself").await;
    assert_eq!((peer, asked), (Some(a.node), lane));

    // Of another version nothing but that is known, and the certificate.
    let mut newer = RawPeer::connect(running.address, &a.client).await;
    assert_eq!(newer.upgrade("/lane").await, 101);
    let other = Hello { version_min: 7, version_max: 9, ..hello(&a) };
    newer.send_frame(FrameKind::Hello, &encoded(&other)).await;
    let (_, peer, asked) = running.refused_one("speaks 7 to 9").await;
    assert_eq!((peer, asked), (Some(a.node), None));

    let mut lost = RawPeer::connect(running.address, &a.client).await;
    assert_eq!(lost.upgrade("/nowhere").await, 404);
    let (_, peer, asked) = running.refused_one("HTTP 404").await;
    assert_eq!((peer, asked), (Some(a.node), None));

    let foreign = Mesh::new().member("a");
    running.dial(&foreign).await.unwrap_err();
    let (_, peer, asked) = running.refused_one("").await;
    assert_eq!((peer, asked), (None, None), "nobody whom this mesh knows");
}
