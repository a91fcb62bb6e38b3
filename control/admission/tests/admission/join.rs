use std::time::Duration;

use hawser_admission::{
    Accepted, AdmissionError, Fault, JoinAttempt, JoinOptions, LocalNode, Stage, dial, join,
};
use hawser_identity::{Credentials, JoinToken, NodeKey, fingerprint, token_digest};
use hawser_wire::{
    CloseReason, FrameKind, Incarnation, JoinReply, JoinRequest, LaneClose, LifeNonce,
};

use crate::mesh::{
    DAY, Mesh, Running, assert_refused, assert_unacceptable, fault, limits_of, now_unix_s, within,
};
use crate::raw_peer::RawPeer;

fn token(mesh: &Mesh, running: &Running) -> JoinToken {
    JoinToken {
        mesh: mesh.id,
        authority_fingerprint: fingerprint(mesh.authority.certificate_der()),
        secret: JoinToken::new_secret().unwrap(),
        address: running.address.to_string(),
        expires_unix_s: now_unix_s() + 60,
        node: None,
    }
}

impl Running {
    async fn next_join(&mut self) -> JoinAttempt {
        match self.next().await {
            Accepted::Join(attempt) => attempt,
            other => panic!("expected a join, got {other:?}"),
        }
    }
}

fn grant(mesh: &Mesh, request: &JoinRequest) -> JoinReply {
    let (_, certificate) =
        mesh.authority.sign_csr(&request.csr, &request.name, now_unix_s(), DAY).unwrap();
    JoinReply {
        mesh: mesh.id,
        mesh_name: "test mesh".to_owned(),
        certificate,
        authority: mesh.authority.certificate_der().to_vec(),
    }
}

/// A node asks, the authority answers like that.
async fn answered(
    mesh: &Mesh,
    running: &mut Running,
    decide: impl FnOnce(&JoinRequest) -> Result<JoinReply, LaneClose>,
) -> Result<JoinReply, AdmissionError> {
    let token = token(mesh, running);
    let csr = NodeKey::generate().unwrap().csr("new").unwrap();
    let options = JoinOptions::default();
    let address = token.address.clone();
    let authority = async {
        let attempt = running.next_join().await;
        attempt.answer.send(decide(&attempt.request)).unwrap();
    };
    let asking = join(&token, &address, csr, "new", &options);
    let ((), result) = within(async { tokio::join!(authority, asking) }).await;
    result
}

#[tokio::test]
async fn from_token_to_lane() {
    let mesh = Mesh::new();
    let seed = mesh.member("seed");
    let mut running = Running::start(&seed);
    let token = JoinToken::parse(&token(&mesh, &running).encode()).unwrap();
    let key = NodeKey::generate().unwrap();
    let csr = key.csr("new").unwrap();
    let options = JoinOptions::default();
    let authority = async {
        let attempt = running.next_join().await;
        assert_eq!(attempt.node, key.node_id());
        assert_eq!(attempt.request.name, "new");
        assert_eq!(token_digest(&attempt.request.secret), token_digest(token.secret.as_slice()));
        let shown = format!("{attempt:?}");
        assert!(!shown.contains(&format!("{:?}", &token.secret[..4])[1..]), "{shown}");
        attempt.answer.send(Ok(grant(&mesh, &attempt.request))).unwrap();
    };
    let asking = join(&token, &token.address, csr, "new", &options);
    let ((), reply) = within(async { tokio::join!(authority, asking) }).await;
    let reply = reply.unwrap();
    assert_eq!((reply.mesh, reply.mesh_name.as_str()), (mesh.id, "test mesh"));

    let credentials = Credentials::new(&key, &reply.certificate, &reply.authority).unwrap();
    let local = LocalNode {
        node: key.node_id(),
        name: "new".to_owned(),
        mesh: reply.mesh,
        incarnation: Incarnation(1),
        life: LifeNonce(1),
        client: credentials.lane_client_config(),
        server: credentials.lane_server_config(),
        barred: Default::default(),
    };
    let lane = within(dial(&local, &token.address, &crate::mesh::options())).await.unwrap();
    assert_eq!(lane.peer, seed.node);
    assert_eq!(running.next_lane().await.peer, key.node_id());
}

#[tokio::test]
async fn wrong_fingerprint_keeps_the_secret() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    // The token leads to a node of another mesh.
    let mut running = Running::start(&other.member("b"));
    let token = token(&mesh, &running);
    let csr = NodeKey::generate().unwrap().csr("new").unwrap();
    let options = JoinOptions::default();
    let result = within(join(&token, &token.address, csr, "new", &options)).await;
    assert!(matches!(fault(result), Fault::Session { stage: Stage::Tls, .. }));
    running.refused("UnknownCA").await;
    running.still_serves(&other).await;
}

#[tokio::test]
async fn refusals_come_with_their_reason() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("seed"));
    for (reason, part) in
        [(CloseReason::TokenRefused, "used already"), (CloseReason::NameTaken, "is node")]
    {
        let close = LaneClose { reason, detail: part.to_owned() };
        let result = answered(&mesh, &mut running, |_| Err(close)).await;
        assert_refused(result, reason, part);
        running.refused(part).await;
    }
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn the_authoritys_words_are_printable() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("seed"));
    let detail = "\x1b[2Jused\r\nalready".to_owned();
    let close = LaneClose { reason: CloseReason::TokenRefused, detail };
    let result = answered(&mesh, &mut running, |_| Err(close)).await;
    let part = "\\u{1b}[2Jused\\r\\nalready";
    assert_refused(result, CloseReason::TokenRefused, part);
}

#[tokio::test]
async fn what_fits_in_no_frame_is_not_sent() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("seed"));
    let result = answered(&mesh, &mut running, |request| {
        Ok(JoinReply { certificate: vec![0; (8 << 10) + 1], ..grant(&mesh, request) })
    });
    assert_refused(result.await, CloseReason::ProtocolViolation, "is 8193, more than 8192");
    running.refused("is 8193, more than 8192").await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn answers_that_do_not_fit_are_not_believed() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let mut running = Running::start(&mesh.member("seed"));
    let result = answered(&mesh, &mut running, |request| {
        Ok(JoinReply { mesh: other.id, ..grant(&mesh, request) })
    });
    assert_unacceptable(result.await, CloseReason::WrongMesh, &other.id.to_string());
    let result = answered(&mesh, &mut running, |request| {
        let authority = other.authority.certificate_der().to_vec();
        Ok(JoinReply { authority, ..grant(&mesh, request) })
    });
    assert_unacceptable(result.await, CloseReason::ProtocolViolation, "not the token's");
    let result = answered(&mesh, &mut running, |request| {
        let csr = NodeKey::generate().unwrap().csr("x").unwrap();
        Ok(grant(&mesh, &JoinRequest { csr, ..request.clone() }))
    });
    assert_unacceptable(result.await, CloseReason::ProtocolViolation, "certificate is node");
    let result = answered(&mesh, &mut running, |request| {
        Ok(JoinReply { certificate: vec![1, 2, 3], ..grant(&mesh, request) })
    });
    assert_unacceptable(result.await, CloseReason::ProtocolViolation, "malformed");
}

#[tokio::test]
async fn no_answer() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("seed"));
    let token = token(&mesh, &running);
    let csr = || NodeKey::generate().unwrap().csr("new").unwrap();
    let options = JoinOptions::default();
    let authority = async { drop(running.next_join().await) };
    let asking = join(&token, &token.address, csr(), "new", &options);
    let ((), result) = within(async { tokio::join!(authority, asking) }).await;
    assert_refused(result, CloseReason::Shutdown, "stops");

    let limits = limits_of(Duration::from_millis(500));
    let mut running = Running::with_limits(&mesh.member("seed"), limits);
    let address = running.address.to_string();
    let authority = async {
        let attempt = running.next_join().await;
        running.refused("the join request was not done after 500ms").await;
        assert!(attempt.answer.is_closed());
    };
    let asking = join(&token, &address, csr(), "new", &options);
    let ((), result) = within(async { tokio::join!(authority, asking) }).await;
    assert!(matches!(fault(result), Fault::Closed { stage: Stage::Join }));
}

#[tokio::test]
async fn requests_that_are_not_asked_on() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("seed"));
    let pin = fingerprint(mesh.authority.certificate_der());
    let anonymous = hawser_identity::join_client_config(pin).unwrap();
    let good = NodeKey::generate().unwrap().csr("new").unwrap();
    let encoded = |csr: Vec<u8>| {
        let secret = vec![1; 32].into();
        JoinRequest { secret, csr, name: "new".to_owned() }.encode().unwrap().to_vec()
    };
    let mut changed = good.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    for (body, reason, part) in [
        (encoded(changed), CloseReason::IdentityRefused, "signature"),
        (encoded(b"junk".to_vec()), CloseReason::IdentityRefused, "malformed"),
        (encoded(good)[..50].to_vec(), CloseReason::ProtocolViolation, "truncated"),
        (vec![0xff; 100], CloseReason::ProtocolViolation, "more than 8192"),
        (encoded(vec![0; 8 << 10]), CloseReason::ProtocolViolation, "more than 8192"),
    ] {
        let mut peer = RawPeer::connect(running.address, &anonymous).await;
        assert_eq!(peer.upgrade("/join").await, 101);
        peer.send_frame(FrameKind::JoinRequest, &body).await;
        let close = peer.read_close().await;
        assert_eq!(close.reason, reason, "{}", close.detail);
        assert!(close.detail.contains(part), "{:?} has no {part:?}", close.detail);
        running.refused(part).await;
    }
    let mut peer = RawPeer::connect(running.address, &anonymous).await;
    assert_eq!(peer.upgrade("/join").await, 101);
    peer.send_frame(FrameKind::Hello, b"").await;
    assert_eq!(peer.read_close().await.reason, CloseReason::ProtocolViolation);
    running.refused("expected JoinRequest").await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn unusable_request_is_not_sent() {
    let mesh = Mesh::new();
    let running = Running::start(&mesh.member("seed"));
    let token = token(&mesh, &running);
    let options = JoinOptions::default();
    let result = within(join(&token, &token.address, b"junk".to_vec(), "new", &options)).await;
    assert!(matches!(result, Err(AdmissionError::Identity(_))), "{result:?}");
}
