use std::sync::Arc;

use hawser_admission::{Fault, Stage, dial};
use hawser_wire::{CloseReason, FrameKind, Hello, LaneId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::mesh::{Mesh, Running, assert_unacceptable, fault, options, within};
use crate::raw_peer::{RawPeer, encoded, frame, hello, request};

/// A member dials, upgrades, and then says this; the acceptor answers and reports like that, and
/// goes on serving others.
async fn check_hello(make: impl FnOnce(Hello) -> Vec<u8>, expected: CloseReason, part: &str) {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let a = mesh.member("a");
    let mut peer = RawPeer::connect(running.address, &a.client).await;
    assert_eq!(peer.upgrade("/lane").await, 101);
    peer.send_message(&make(hello(&a))).await;
    let close = peer.read_close().await;
    assert_eq!(close.reason, expected, "{}", close.detail);
    assert!(close.detail.contains(part), "{:?} has no {part:?}", close.detail);
    running.refused(part).await;
    peer.read_to_end().await;
    running.still_serves(&mesh).await;
}

/// The same with bytes that need be no message.
async fn check_bytes(bytes: &[u8], part: &str) {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let a = mesh.member("a");
    let mut peer = RawPeer::connect(running.address, &a.client).await;
    assert_eq!(peer.upgrade("/lane").await, 101);
    peer.send_plaintext(bytes).await;
    let close = peer.read_close().await;
    assert_eq!(close.reason, CloseReason::ProtocolViolation);
    assert!(close.detail.contains(part), "{:?} has no {part:?}", close.detail);
    running.refused(part).await;
    peer.read_to_end().await;
    running.still_serves(&mesh).await;
}

fn hello_frame(hello: &Hello) -> Vec<u8> {
    frame(FrameKind::Hello, &encoded(hello))
}

#[tokio::test]
async fn version_not_shared() {
    let newer = |hello: Hello| hello_frame(&Hello { version_min: 7, version_max: 9, ..hello });
    check_hello(newer, CloseReason::VersionNotShared, "speaks 7 to 9").await;
}

#[tokio::test]
async fn newer_version_that_speaks_ours_too() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let a = mesh.member("a");
    let mut peer = RawPeer::connect(running.address, &a.client).await;
    assert_eq!(peer.upgrade("/lane").await, 101);
    let mut body = encoded(&Hello { version_max: 9, ..hello(&a) });
    body.extend_from_slice(b"fields of a later version");
    peer.send_frame(FrameKind::Hello, &body).await;
    let (kind, body) = peer.read_frame().await.unwrap();
    assert_eq!(kind, FrameKind::Hello);
    assert_eq!(Hello::decode(&body).unwrap().shared_version(), Some(1));
    running.next_lane().await;
}

#[tokio::test]
async fn oversized_hello() {
    let long = |hello: Hello| {
        let mut body = encoded(&hello);
        body.resize(8 << 10, 0);
        frame(FrameKind::Hello, &body)
    };
    check_hello(long, CloseReason::ProtocolViolation, "more than 8192 bytes").await;
}

#[tokio::test]
async fn much_oversized_hello() {
    let long = |hello: Hello| {
        let mut body = encoded(&hello);
        body.resize(1 << 20, 0);
        frame(FrameKind::Hello, &body)
    };
    check_hello(long, CloseReason::ProtocolViolation, "more than 8192 bytes").await;
}

#[tokio::test]
async fn truncated_hello() {
    let cut = |hello: Hello| frame(FrameKind::Hello, &encoded(&hello)[..20]);
    check_hello(cut, CloseReason::ProtocolViolation, "truncated hello").await;
}

#[tokio::test]
async fn truncated_frame() {
    let cut = |hello: Hello| {
        let mut batch = hello_frame(&hello);
        batch.pop();
        batch
    };
    check_hello(cut, CloseReason::ProtocolViolation, "truncated frame body").await;
}

#[tokio::test]
async fn changed_frame_header() {
    let changed = |hello: Hello| {
        let mut batch = hello_frame(&hello);
        batch[0] ^= 1;
        batch
    };
    check_hello(changed, CloseReason::ProtocolViolation, "checksum").await;
}

#[tokio::test]
async fn other_frame_than_hello() {
    let other = |_| frame(FrameKind::Record, b"x");
    check_hello(other, CloseReason::ProtocolViolation, "expected Hello").await;
}

#[tokio::test]
async fn two_frames_in_the_first_message() {
    let two = |hello: Hello| [hello_frame(&hello), hello_frame(&hello)].concat();
    check_hello(two, CloseReason::ProtocolViolation, "more than one frame").await;
}

#[tokio::test]
async fn empty_message() {
    check_bytes(&[0x82, 0x80, 1, 2, 3, 4], "empty message").await;
}

#[tokio::test]
async fn text_frame() {
    check_bytes(&[0x81, 0x81, 1, 2, 3, 4, b'x'], "text frame").await;
}

#[tokio::test]
async fn unmasked_frame() {
    check_bytes(&[0x82, 0x01, b'x'], "not masked").await;
}

#[tokio::test]
async fn reserved_bits() {
    check_bytes(&[0xc2, 0x81, 1, 2, 3, 4, b'x'], "reserved bits").await;
}

#[tokio::test]
async fn fragment_flood() {
    // Empty fragments without end; the first bound reached closes.
    let mut bytes = vec![0x02, 0x80, 0, 0, 0, 0];
    for _ in 0..1000 {
        bytes.extend_from_slice(&[0x00, 0x80, 0, 0, 0, 0]);
    }
    check_bytes(&bytes, "fragments").await;
}

#[tokio::test]
async fn message_that_is_announced_large_and_never_comes() {
    // 1 MiB announced, more than a request may take sent.
    let mut bytes = vec![0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    bytes.resize(20_000, 0);
    check_bytes(&bytes, "more than 8192 bytes").await;
}

#[tokio::test]
async fn garbage_instead_of_tls() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 300], b"\x16\x03\x01\x00\x05hello"]
    {
        let mut socket = within(TcpStream::connect(running.address)).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        // An alert at most, then the end.
        let _reset = within(socket.read_to_end(&mut answer)).await;
        assert!(answer.len() < 100, "{answer:?}");
        running.refused("the TLS handshake").await;
    }
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn endless_tls_handshake_message() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let mut socket = within(TcpStream::connect(running.address)).await.unwrap();
    // A client hello of 60,000 bytes, in records of 1,000.
    let mut bytes = Vec::new();
    for index in 0..60 {
        bytes.extend_from_slice(&[0x16, 0x03, 0x03, 0x03, 0xe8]);
        let start: &[u8] = if index == 0 { &[0x01, 0x00, 0xea, 0x60] } else { &[0; 4] };
        bytes.extend_from_slice(start);
        bytes.resize(bytes.len() + 996, 0);
    }
    let _reset = within(socket.write_all(&bytes)).await;
    running.refused("the TLS handshake").await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn garbage_after_the_tls_handshake() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let mut peer = RawPeer::connect(running.address, &mesh.member("a").client).await;
    peer.send_ciphertext(b"\x17\x03\x03\x00\x20not encrypted under any key....!").await.unwrap();
    running.refused("TLS").await;
    peer.read_to_end().await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn requests_that_are_not_served() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let client = mesh.member("a").client;
    let good = request("/lane");
    for (request, expected) in [
        (request("/"), "404"),
        (request("/metrics"), "404"),
        (good.replace("hawser.v1", "chat"), "400"),
        (good.replace("Sec-WebSocket-Protocol: hawser.v1\r\n", ""), "400"),
        (good.replace("GET", "DELETE"), "405"),
        (good.replace("Upgrade: websocket\r\n", ""), "426"),
        ("\0\0\0\r\n\r\n".to_owned(), "400"),
        (good.replace("Host: h:1", &format!("X: {}", "x".repeat(9000))), "431"),
    ] {
        let mut peer = RawPeer::connect(running.address, &client).await;
        let answer = peer.request(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{request:?}: {answer:?}");
        let text = String::from_utf8(peer.read_to_end().await).unwrap();
        assert!(text.ends_with('\n'), "{text:?}");
        running.refused(&format!("HTTP {expected}")).await;
    }
    running.still_serves(&mesh).await;
}

/// A member answers the dialler's Hello with this.
async fn answered_with(
    make: impl FnOnce(Hello) -> Vec<u8>,
) -> Result<hawser_admission::Handover, hawser_admission::AdmissionError> {
    let mesh = Mesh::new();
    let (a, b) = (mesh.member("a"), mesh.member("b"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = make(hello(&b));
    let acceptor = async {
        let mut peer = RawPeer::accept(&listener, &b).await.unwrap();
        peer.answer_upgrade().await;
        peer.read_frame().await.unwrap();
        peer.send_message(&answer).await;
        peer.read_to_end().await;
    };
    let options = options();
    let dialler = async {
        // The lane is dropped, so that the acceptor sees its end.
        dial(&a, &address, &options).await.map(drop)
    };
    let ((), result) = within(async { tokio::join!(acceptor, dialler) }).await;
    match result {
        Ok(()) => panic!("a lane was made"),
        Err(error) => Err(error),
    }
}

#[tokio::test]
async fn dialler_checks_the_answer() {
    let result = answered_with(|hello| hello_frame(&Hello { lane: LaneId(9), ..hello })).await;
    assert_unacceptable(result, CloseReason::ProtocolViolation, "LaneId(9)");
    let result = answered_with(|hello| hello_frame(&Hello { version_min: 9, ..hello })).await;
    assert_unacceptable(result, CloseReason::VersionNotShared, "upgrade");
    let result = answered_with(|hello| {
        hello_frame(&Hello { mesh: hawser_wire::MeshId::default(), ..hello })
    })
    .await;
    assert_unacceptable(result, CloseReason::WrongMesh, "mesh");
    let result = answered_with(|_| b"junk".to_vec()).await;
    assert!(matches!(fault(result), Fault::Decode { stage: Stage::Hello, .. }));
    let result = answered_with(|_| vec![0; 100_000]).await;
    assert!(matches!(fault(result), Fault::TooLarge { stage: Stage::Hello, .. }));
}

#[tokio::test]
async fn acceptor_that_is_no_websocket_server() {
    let mesh = Mesh::new();
    let (a, b) = (mesh.member("a"), mesh.member("b"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = async {
        let mut peer = RawPeer::accept(&listener, &b).await.unwrap();
        peer.send_plaintext(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>\x1b[m").await;
    };
    let options = options();
    let ((), result) = within(async { tokio::join!(acceptor, dial(&a, &address, &options)) }).await;
    match fault(result) {
        Fault::Http { status: 200, text } => assert_eq!(text, "<html>[m"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn certificates_are_asked_for_by_every_acceptor() {
    // A dialler must not talk to a server that speaks TLS without being a member at all.
    let mesh = Mesh::new();
    let (a, b) = (mesh.member("a"), Mesh::new().member("b"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = async { RawPeer::accept(&listener, &Arc::new(b)).await.map(|_| ()) };
    let options = options();
    let (accepted, result) =
        within(async { tokio::join!(acceptor, dial(&a, &address, &options)) }).await;
    assert!(accepted.is_err());
    assert!(matches!(fault(result), Fault::Session { stage: Stage::Tls, .. }));
}
