//! Deadlines, slots and rates.

use std::net::SocketAddr;
use std::time::Duration;

use hawser_admission::{
    Accepted, AdmissionError, AdmissionLimits, DialOptions, Fault, Stage, dial,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::mesh::{Mesh, Running, fault, limits_of, options, within};
use crate::raw_peer::RawPeer;

const SHORT: Duration = Duration::from_millis(500);

async fn assert_closed(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let _reset = within(socket.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn silence_before_tls() {
    let mesh = Mesh::new();
    let mut running = Running::with_limits(&mesh.member("b"), limits_of(SHORT));
    let mut silent = within(TcpStream::connect(running.address)).await.unwrap();
    let remote = running.refused("the TLS handshake was not done after 500ms").await;
    assert_eq!(remote, silent.local_addr().unwrap());
    assert_closed(&mut silent).await;
}

#[tokio::test]
async fn half_a_client_hello() {
    let mesh = Mesh::new();
    let mut running = Running::with_limits(&mesh.member("b"), limits_of(SHORT));
    let mut slow = within(TcpStream::connect(running.address)).await.unwrap();
    slow.write_all(b"\x16\x03\x01\x02\x00\x01\x00").await.unwrap();
    running.refused("the TLS handshake was not done").await;
    assert_closed(&mut slow).await;
}

#[tokio::test]
async fn one_byte_after_another() {
    let mesh = Mesh::new();
    let mut running = Running::with_limits(&mesh.member("b"), limits_of(SHORT));
    let mut slow = within(TcpStream::connect(running.address)).await.unwrap();
    slow.write_all(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc").await.unwrap();
    // Each byte comes soon after the last; the deadline is one for all of them.
    let dribble = async {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while slow.write_all(&[0]).await.is_ok() {
            pace.tick().await;
        }
    };
    let (_, ()) =
        within(async { tokio::join!(running.refused("TLS handshake was not done"), dribble) })
            .await;
}

#[tokio::test]
async fn silence_after_tls_and_after_the_upgrade() {
    let mesh = Mesh::new();
    let client = mesh.member("a").client;
    // One deadline for all of a handshake: long enough for what is to come before the silence.
    let limits = limits_of(Duration::from_secs(5));
    let silent_after = async |path: Option<&str>, refusal: &str| {
        let mut running = Running::with_limits(&mesh.member("b"), limits);
        let mut silent = RawPeer::connect(running.address, &client).await;
        if let Some(path) = path {
            assert_eq!(silent.upgrade(path).await, 101);
        }
        running.refused(refusal).await;
        silent.read_to_end().await;
    };
    tokio::join!(
        silent_after(None, "the HTTP upgrade was not done"),
        silent_after(Some("/lane"), "Hello was not done"),
        silent_after(Some("/join"), "the join request was not done"),
    );
}

#[tokio::test]
async fn a_peer_that_leaves_is_reported() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    drop(within(TcpStream::connect(running.address)).await.unwrap());
    running.refused("closed by the other side during the TLS handshake").await;
    drop(RawPeer::connect(running.address, &mesh.member("a").client).await);
    running.refused("closed by the other side during the HTTP upgrade").await;
}

#[tokio::test]
async fn others_are_served_while_some_are_silent() {
    let mesh = Mesh::new();
    let mut running = Running::start(&mesh.member("b"));
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(within(TcpStream::connect(running.address)).await.unwrap());
    }
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn slots_are_bounded() {
    let mesh = Mesh::new();
    let limits = AdmissionLimits { handshakes_max: 1, ..AdmissionLimits::default() };
    let mut running = Running::with_limits(&mesh.member("b"), limits);
    let first = within(TcpStream::connect(running.address)).await.unwrap();
    let mut second = within(TcpStream::connect(running.address)).await.unwrap();
    assert_closed(&mut second).await;
    let remote = running.refused("1 handshakes are under way already").await;
    assert_eq!(remote, second.local_addr().unwrap());
    drop(first);
    running.refused("closed by the other side").await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn slots_come_back_at_the_deadline() {
    let mesh = Mesh::new();
    let limits = AdmissionLimits { handshakes_max: 1, ..limits_of(SHORT) };
    let mut running = Running::with_limits(&mesh.member("b"), limits);
    let _silent = within(TcpStream::connect(running.address)).await.unwrap();
    running.refused("was not done after 500ms").await;
    // It has the slot: it is refused for its own silence. A handshake is no proof of that, for on a
    // busy machine it may take longer than the deadline allows.
    let next = within(TcpStream::connect(running.address)).await.unwrap();
    let remote = running.refused("was not done after 500ms").await;
    assert_eq!(remote, next.local_addr().unwrap());
}

async fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(source.parse().unwrap()).unwrap();
    within(socket.connect(address)).await.unwrap()
}

#[tokio::test]
async fn one_address_cannot_take_every_slot() {
    let mesh = Mesh::new();
    let limits = AdmissionLimits { handshakes_max: 4, ..AdmissionLimits::default() };
    let mut running = Running::with_limits(&mesh.member("b"), limits);
    let _first = connect_from("127.0.0.9:0", running.address).await;
    let _second = connect_from("127.0.0.9:0", running.address).await;
    let mut third = connect_from("127.0.0.9:0", running.address).await;
    assert_closed(&mut third).await;
    running.refused("2 handshakes from 127.0.0.9").await;
    running.still_serves(&mesh).await;
}

#[tokio::test]
async fn rate_limit_is_per_address() {
    let mesh = Mesh::new();
    let limits =
        AdmissionLimits { accepts_per_second_per_address: 2, ..AdmissionLimits::default() };
    let mut running = Running::with_limits(&mesh.member("b"), limits);
    // However slow this machine is, it opens more than two connections per second.
    let mut flood = Vec::new();
    for _ in 0..50 {
        flood.push(connect_from("127.0.0.9:0", running.address).await);
    }
    let part = "rate limited: more than 2 connections per second from 127.0.0.9";
    running.refused(part).await;
    // Another address is served meanwhile; in between the flood may be reported again.
    let good = mesh.member("good");
    let dialled = running.dial(&good).await.unwrap();
    let mut reports = 1;
    loop {
        match running.next().await {
            Accepted::Lane(lane) => break assert_eq!(lane.peer, good.node),
            Accepted::Refused { reason, .. } => {
                assert!(reason.contains(part), "{reason}");
                reports += 1;
            }
            other @ Accepted::Join(_) => panic!("{other:?}"),
        }
    }
    assert!(reports < 25, "a flood is reported once per spell, not {reports} times");
    drop(dialled);
}

#[tokio::test]
async fn dialler_does_not_wait_for_ever() {
    let mesh = Mesh::new();
    let a = mesh.member("a");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let impatient = DialOptions { limits: limits_of(SHORT), ..options() };
    let error = within(dial(&a, &address, &impatient)).await.unwrap_err();
    assert!(error.is_unreachable());
    assert!(error.to_string().contains(&address), "{error}");
    assert!(matches!(fault::<()>(Err(error)), Fault::Timeout { stage: Stage::Tls, .. }));
}

#[tokio::test]
async fn nobody_there() {
    let mesh = Mesh::new();
    let a = mesh.member("a");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = within(dial(&a, &address, &options())).await.unwrap_err();
    assert!(matches!(error, AdmissionError::Unreachable { .. }), "{error:?}");
    assert!(error.is_unreachable());
    assert!(error.to_string().contains(&address), "{error}");
    for wrong in ["", "nowhere", "host:99999", "a b:1", "evil\r\nHost: x:1"] {
        let error = within(dial(&a, wrong, &options())).await.unwrap_err();
        assert!(matches!(error, AdmissionError::Address { .. }), "{wrong:?}: {error:?}");
        assert!(!error.is_unreachable());
    }
}
