//! Lanes through an HTTP CONNECT proxy, a small but real one.

use std::net::SocketAddr;

use hawser_admission::{AdmissionError, DialOptions, JoinOptions, dial};
use hawser_wire::CloseReason;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::mesh::{Mesh, Running, assert_refused, limits_of, options, within};

/// Serves one tunnel; the first line of the request.
async fn tunnel_once(listener: TcpListener) -> String {
    let (client, _) = listener.accept().await.unwrap();
    let mut client = BufReader::new(client);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        client.read_line(&mut request).await.unwrap();
    }
    let first = request.lines().next().unwrap().to_owned();
    let target = first.split(' ').nth(1).unwrap();
    assert!(client.buffer().is_empty(), "nothing may be sent before the answer");
    let mut client = client.into_inner();
    let mut server = TcpStream::connect(target).await.unwrap();
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
        .await
        .unwrap();
    let _ended = copy_bidirectional(&mut client, &mut server).await;
    first
}

/// Answers one request with this and closes.
async fn answer_once(listener: TcpListener, answer: &'static [u8]) {
    let (mut client, _) = listener.accept().await.unwrap();
    client.write_all(answer).await.unwrap();
    let mut rest = Vec::new();
    let _closed = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut rest).await;
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn lane_through_a_proxy() {
    let mesh = Mesh::new();
    let (a, b) = (mesh.member("a"), mesh.member("b"));
    let mut running = Running::start(&b);
    let (listener, proxy) = listener().await;
    let serving = tokio::spawn(tunnel_once(listener));
    let through = DialOptions { proxy: Some(proxy.to_string()), ..options() };
    let address = running.address.to_string();
    let ours = within(dial(&a, &address, &through)).await.unwrap();
    let theirs = running.next_lane().await;
    assert_eq!((ours.peer, theirs.peer), (b.node, a.node));
    assert_eq!(ours.remote, proxy);
    drop((ours, theirs));
    let first = within(serving).await.unwrap();
    assert_eq!(first, format!("CONNECT {address} HTTP/1.1"));
}

#[tokio::test]
async fn refusal_comes_through_the_proxy() {
    let mesh = Mesh::new();
    let mut a = mesh.member("a");
    a.mesh = hawser_wire::MeshId::default();
    let running = Running::start(&mesh.member("b"));
    let (listener, proxy) = listener().await;
    let serving = tokio::spawn(tunnel_once(listener));
    let through = DialOptions { proxy: Some(proxy.to_string()), ..options() };
    let result = within(dial(&a, &running.address.to_string(), &through)).await;
    assert_refused(result, CloseReason::WrongMesh, "mesh");
    within(serving).await.unwrap();
}

#[tokio::test]
async fn proxy_that_does_not_connect() {
    let mesh = Mesh::new();
    let a = mesh.member("a");
    for (answer, part) in [
        (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], "HTTP 403"),
        (b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n", "login"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "HTTP 502"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP/1.1"),
        (b"", "closed by the other side"),
        (&[b'x'; 10_000], "more than 8192 bytes"),
    ] {
        let (listener, proxy) = listener().await;
        let serving = if answer.is_empty() {
            tokio::spawn(async move { drop(listener.accept().await.unwrap()) })
        } else {
            tokio::spawn(answer_once(listener, answer))
        };
        let through = DialOptions { proxy: Some(proxy.to_string()), ..options() };
        let error = within(dial(&a, "node.example:7480", &through)).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, AdmissionError::Proxy { .. }), "{error:?}");
        for part in [part, "node.example:7480", &proxy.to_string()] {
            assert!(text.contains(part), "{text:?} has no {part:?}");
        }
        within(serving).await.unwrap();
    }
}

#[tokio::test]
async fn silent_proxy() {
    let a = Mesh::new().member("a");
    let (_listener, proxy) = listener().await;
    let through = DialOptions {
        proxy: Some(proxy.to_string()),
        limits: limits_of(std::time::Duration::from_millis(500)),
        ..options()
    };
    let error = within(dial(&a, "node.example:7480", &through)).await.unwrap_err();
    assert!(error.to_string().contains("CONNECT was not done after 500ms"), "{error}");
    assert!(error.is_unreachable());
}

#[tokio::test]
async fn proxy_address_is_checked() {
    let a = Mesh::new().member("a");
    let through = DialOptions { proxy: Some("http://proxy:3128".to_owned()), ..options() };
    let error = within(dial(&a, "127.0.0.1:1", &through)).await.unwrap_err();
    assert!(matches!(error, AdmissionError::Address { .. }), "{error:?}");
    assert_eq!(JoinOptions::default().proxy, None);
}
