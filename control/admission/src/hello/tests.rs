use std::sync::Arc;
use std::time::Duration;

use hawser_identity::{Credentials, MeshAuthority, NodeKey};
use hawser_wire::{Incarnation, LifeNonce, MeshId, NodeId};

use super::*;

const LANE: LaneName = LaneName { lane: LaneId(2), class: TrafficClass::Bulk, epoch: LinkEpoch(7) };

fn local() -> LocalNode {
    let mesh = MeshId::from_bytes([1; 16]);
    let authority = MeshAuthority::generate(mesh, "m", 0).unwrap();
    let key = NodeKey::generate().unwrap();
    let (node, der) =
        authority.sign_csr(&key.csr("a").unwrap(), "a", 0, Duration::from_secs(60)).unwrap();
    let credentials = Credentials::new(&key, &der, authority.certificate_der()).unwrap();
    let (client, server) = (credentials.lane_client_config(), credentials.lane_server_config());
    let name = "a".to_owned();
    let barred = Arc::default();
    let life = LifeNonce(4);
    LocalNode { node, name, mesh, incarnation: Incarnation(3), life, client, server, barred }
}

fn peer() -> PeerIdentity {
    let node = NodeId::from_bytes([2; 16]);
    PeerIdentity { node, name: "b".to_owned(), not_after_unix_s: 1 }
}

fn check(change: impl FnOnce(&mut Hello), expected: Result<u32, CloseReason>) {
    let local = local();
    let mut hello = Hello { node: peer().node, ..own_hello(&local, LANE) };
    change(&mut hello);
    let found = check_hello(&hello, &peer(), &local).map_err(|close| {
        assert!(!close.detail.is_empty());
        close.reason
    });
    assert_eq!(found, expected);
}

#[test]
fn frame_bound_is_the_smaller_one() {
    let own = u32::try_from(FRAME_BODY_BYTES_MAX).unwrap();
    check(|_| {}, Ok(own));
    check(|hello| hello.frame_body_max = u32::MAX, Ok(own));
    check(|hello| hello.frame_body_max = 65_536, Ok(65_536));
    check(|hello| hello.frame_body_max = 1, Err(CloseReason::ProtocolViolation));
}

#[test]
fn versions_must_meet() {
    check(|hello| hello.version_max = 9, Ok(u32::try_from(FRAME_BODY_BYTES_MAX).unwrap()));
    check(
        |hello| (hello.version_min, hello.version_max) = (2, 9),
        Err(CloseReason::VersionNotShared),
    );
    check(
        |hello| (hello.version_min, hello.version_max) = (0, 0),
        Err(CloseReason::VersionNotShared),
    );
    // Whatever else is wrong: under another version the fields may mean anything.
    check(
        |hello| (hello.version_min, hello.mesh) = (2, MeshId::default()),
        Err(CloseReason::VersionNotShared),
    );
}

#[test]
fn mesh_node_and_capabilities_must_fit() {
    check(|hello| hello.mesh = MeshId::default(), Err(CloseReason::WrongMesh));
    check(|hello| hello.node = NodeId::default(), Err(CloseReason::IdentityRefused));
    check(|hello| hello.capabilities = 0, Err(CloseReason::ProtocolViolation));
}

#[test]
fn own_certificate_is_oneself() {
    let local = local();
    let peer = PeerIdentity { node: local.node, ..peer() };
    let close = check_hello(&own_hello(&local, LANE), &peer, &local).unwrap_err();
    assert_eq!(close.reason, CloseReason::SelfConnect);
}

#[test]
fn echo_must_be_of_the_same_lane() {
    let hello = own_hello(&local(), LANE);
    assert_eq!(check_echo(&hello, LANE), Ok(()));
    for other in [
        LaneName { lane: LaneId(3), ..LANE },
        LaneName { class: TrafficClass::Control, ..LANE },
        LaneName { epoch: LinkEpoch(8), ..LANE },
    ] {
        let close = check_echo(&hello, other).unwrap_err();
        assert_eq!(close.reason, CloseReason::ProtocolViolation);
    }
}

#[test]
fn debug_output_of_a_node_keeps_its_keys() {
    let local = Arc::new(local());
    let shown = format!("{local:?}");
    assert!(shown.contains(&local.node.to_string()));
    assert!(!shown.contains("Config"), "{shown}");
}
