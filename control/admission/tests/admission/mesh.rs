//! A mesh with its authority, its members, and acceptors that run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hawser_admission::{
    Accepted, Acceptor, AdmissionError, AdmissionLimits, DialOptions, Fault, Handover, LocalNode,
    SocketOptions, dial,
};
use hawser_identity::{Credentials, MeshAuthority, NodeKey, random_id};
use hawser_wire::{
    CloseReason, Incarnation, LaneId, LifeNonce, LinkEpoch, MeshId, NodeId, TrafficClass,
};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("still waiting after 30 s")
}

pub(crate) fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) struct Mesh {
    pub(crate) id: MeshId,
    pub(crate) authority: MeshAuthority,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let id = MeshId::from_bytes(random_id().unwrap());
        let authority = MeshAuthority::generate(id, "test mesh", now_unix_s()).unwrap();
        Self { id, authority }
    }

    pub(crate) fn member(&self, name: &str) -> LocalNode {
        self.member_since(name, now_unix_s())
    }

    /// Its certificate is valid for a day from then.
    pub(crate) fn member_since(&self, name: &str, since_unix_s: u64) -> LocalNode {
        let key = NodeKey::generate().unwrap();
        let csr = key.csr(name).unwrap();
        let (node, der) = self.authority.sign_csr(&csr, name, since_unix_s, DAY).unwrap();
        let root = self.authority.certificate_der();
        let credentials = Credentials::new(&key, &der, root).unwrap();
        LocalNode {
            node,
            name: name.to_owned(),
            mesh: self.id,
            incarnation: Incarnation(11),
            life: LifeNonce(1),
            client: credentials.lane_client_config(),
            server: credentials.lane_server_config(),
            barred: Default::default(),
        }
    }

    /// Believes this mesh, shows the other node's certificate.
    pub(crate) fn stranger(&self, other: &LocalNode) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.member("x").client);
        config.client_auth_cert_resolver = Arc::clone(&other.client.client_auth_cert_resolver);
        Arc::new(config)
    }
}

/// Its address, its id and the lane that it asked for.
pub(crate) type RefusedOne = (SocketAddr, Option<NodeId>, Option<(LaneId, TrafficClass)>);

/// An acceptor that runs, and what it reports.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) accepted: mpsc::Receiver<Accepted>,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(local: &LocalNode) -> Self {
        Self::with_limits(local, AdmissionLimits::default())
    }

    pub(crate) fn with_limits(local: &LocalNode, limits: AdmissionLimits) -> Self {
        let local = Arc::new(local.clone());
        let acceptor =
            Acceptor::bind("127.0.0.1:0", local, limits, SocketOptions::default()).unwrap();
        let address = acceptor.local_addr();
        let (sink, accepted) = mpsc::channel(64);
        let task = tokio::spawn(acceptor.run(sink));
        Self { address, accepted, task }
    }

    pub(crate) async fn dial(&self, local: &LocalNode) -> Result<Handover, AdmissionError> {
        within(dial(local, &self.address.to_string(), &options())).await
    }

    pub(crate) async fn next(&mut self) -> Accepted {
        within(self.accepted.recv()).await.expect("the acceptor has ended")
    }

    pub(crate) async fn next_lane(&mut self) -> Handover {
        match self.next().await {
            Accepted::Lane(lane) => *lane,
            other => panic!("expected a lane, got {other:?}"),
        }
    }

    /// The next report is a refusal that says this.
    pub(crate) async fn refused(&mut self, part: &str) -> SocketAddr {
        self.refused_one(part).await.0
    }

    /// Likewise; who it was and what it asked for beside its address.
    pub(crate) async fn refused_one(&mut self, part: &str) -> RefusedOne {
        match self.next().await {
            Accepted::Refused { remote, peer, lane, reason } => {
                assert!(reason.contains(part), "{reason:?} has no {part:?}");
                (remote, peer, lane)
            }
            other => panic!("expected a refusal with {part:?}, got {other:?}"),
        }
    }

    /// The acceptor serves others as if nothing had happened.
    pub(crate) async fn still_serves(&mut self, mesh: &Mesh) {
        let good = mesh.member("good");
        let dialled = self.dial(&good).await.unwrap();
        assert_eq!(self.next_lane().await.peer, good.node);
        drop(dialled);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn options() -> DialOptions {
    DialOptions {
        lane: LaneId(2),
        class: TrafficClass::Bulk,
        epoch: LinkEpoch(5),
        proxy: None,
        expect: None,
        limits: AdmissionLimits::default(),
        sockets: SocketOptions::default(),
    }
}

pub(crate) fn limits_of(handshake_timeout: Duration) -> AdmissionLimits {
    AdmissionLimits { handshake_timeout, ..AdmissionLimits::default() }
}

/// The peer said why, with these words.
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, AdmissionError>,
    expected: CloseReason,
    part: &str,
) {
    match result {
        Err(AdmissionError::Refused { reason, detail, .. }) => {
            assert_eq!(reason, expected, "{detail}");
            assert!(detail.contains(part), "{detail:?} has no {part:?}");
        }
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

/// This side refused, with these words.
pub(crate) fn assert_unacceptable<T: std::fmt::Debug>(
    result: Result<T, AdmissionError>,
    expected: CloseReason,
    part: &str,
) {
    match result {
        Err(AdmissionError::Unacceptable { reason, detail, .. }) => {
            assert_eq!(reason, expected, "{detail}");
            assert!(detail.contains(part), "{detail:?} has no {part:?}");
        }
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

pub(crate) fn fault<T: std::fmt::Debug>(result: Result<T, AdmissionError>) -> Fault {
    match result {
        Err(AdmissionError::Handshake { fault, .. }) => fault,
        other => panic!("expected a fault of the handshake, got {other:?}"),
    }
}
