use std::net::SocketAddr;
use std::sync::Arc;

use hawser_exchange::LaneHandover;
use hawser_identity::{lane_server_name, peer_identity};
use hawser_session::LaneSession;
use hawser_wire::{
    CloseReason, FrameKind, Hello, LaneClose, LaneId, LinkEpoch, NodeId, TrafficClass, capability,
};
use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;

use crate::address::check_address;
use crate::connection::{Answer, Connection, Deadline};
use crate::hello::{LaneName, check_echo, check_hello, own_hello};
use crate::http::{LANE_PATH, Upgrade, printable};
use crate::limits::prepare;
use crate::proxy::open_tunnel;
use crate::{AdmissionError, AdmissionLimits, Fault, Handover, LocalNode, SocketOptions, Stage};

/// Which lane to dial, and how.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Which lane of the link.
    pub lane: LaneId,
    /// Its class.
    pub class: TrafficClass,
    /// Counts this node's connections for that lane.
    pub epoch: LinkEpoch,
    /// `host:port` of an HTTP CONNECT proxy to go through.
    pub proxy: Option<String>,
    /// The only node that may answer; any of the mesh if absent.
    pub expect: Option<NodeId>,
    /// The deadline and the bounds of what the peer may send.
    pub limits: AdmissionLimits,
    /// Options of the socket.
    pub sockets: SocketOptions,
}

/// Dials a lane: connects, proves both identities, upgrades, exchanges Hello.
///
/// Safe to drop at any time: the connection then closes.
///
/// # Errors
/// [`AdmissionError`] says what refused whom. Nothing is left of the attempt.
pub async fn dial(
    local: &LocalNode,
    address: &str,
    options: &DialOptions,
) -> Result<Handover, AdmissionError> {
    let route = Route {
        address,
        proxy: options.proxy.as_deref(),
        limits: options.limits,
        sockets: options.sockets,
    };
    let mut connection = route.connect(Arc::clone(&local.client)).await?;
    match dial_lane(&mut connection, local, address, options).await {
        Ok((hello, peer, frame_body_max)) => {
            let remote = connection.remote();
            let (socket, session) =
                connection.into_parts().map_err(|fault| route.handshake_error(fault))?;
            Ok(LaneHandover {
                peer: peer.node,
                peer_name: peer.name,
                peer_incarnation: hello.incarnation,
                peer_life: hello.life,
                peer_stripes: hello.capabilities & capability::STRIPING != 0,
                peer_takes_priority: hello.capabilities & capability::PRIORITY != 0,
                peer_takes_several: hello.capabilities & capability::SEVERAL_ADVERTISEMENTS != 0,
                lane: options.lane,
                class: options.class,
                epoch: options.epoch,
                dialled: true,
                frame_body_max,
                remote,
                socket,
                session,
            })
        }
        Err(failure) => Err(route.give_up(connection, failure).await),
    }
}

async fn dial_lane(
    connection: &mut Connection,
    local: &LocalNode,
    address: &str,
    options: &DialOptions,
) -> Result<(Hello, hawser_identity::PeerIdentity, u32), Failure> {
    connection.tls_handshake().await?;
    let certificates = connection.session().peer_certificates().unwrap_or_default();
    let peer = peer_identity(certificates).map_err(|error| LaneClose {
        reason: CloseReason::IdentityRefused,
        detail: error.to_string(),
    })?;
    if peer.node == local.node {
        let detail = format!("this node ({}) answers there itself", local.node);
        return Err(LaneClose { reason: CloseReason::SelfConnect, detail }.into());
    }
    if let Some(expected) = options.expect.filter(|expected| *expected != peer.node) {
        let detail = format!("expected node {expected}, node {} answers", peer.node);
        return Err(LaneClose { reason: CloseReason::IdentityRefused, detail }.into());
    }
    // A link that is cut for a while is decided about where the lane is offered.
    let refusal = local.barred.refusal(peer.node);
    if let Some(refusal) = refusal.filter(|refusal| refusal.close.reason == CloseReason::Evicted) {
        return Err(refusal.close.into());
    }
    upgrade(connection, address, LANE_PATH, options.limits).await?;
    connection.enter(Stage::Hello, options.limits.request_bytes_max);
    let lane = LaneName { lane: options.lane, class: options.class, epoch: options.epoch };
    let mut body = Vec::new();
    own_hello(local, lane).encode(&mut body);
    connection.send_frame(FrameKind::Hello, &body).await?;
    let body = match connection.read_frame(FrameKind::Hello).await? {
        Answer::Body(body) => body,
        Answer::Close(close, evidence) => return Err(Failure::Refused(close, evidence)),
    };
    let hello =
        Hello::decode(&body).map_err(|source| Fault::Decode { stage: Stage::Hello, source })?;
    let frame_body_max = check_hello(&hello, &peer, local)?;
    check_echo(&hello, lane)?;
    Ok((hello, peer, frame_body_max))
}

/// Asks for `path` and takes the answer's head; a refusal brings its text.
pub(crate) async fn upgrade(
    connection: &mut Connection,
    address: &str,
    path: &'static str,
    limits: AdmissionLimits,
) -> Result<(), Fault> {
    connection.enter(Stage::Upgrade, limits.request_bytes_max);
    let (request, upgrade) = Upgrade::request(address, path)?;
    connection.send_plaintext(&request).await?;
    let head = connection.read_head().await?;
    match upgrade.finish(&head) {
        Err(Fault::Http { status, .. }) => {
            let text = printable(&connection.read_to_end().await);
            Err(Fault::Http { status, text })
        }
        result => result,
    }
}

/// Why a connection that was dialled is no use.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It broke.
    Fault(Fault),
    /// The peer refuses.
    /// With evidence, which need not be any.
    Refused(LaneClose, Vec<u8>),
    /// This side refuses.
    Unacceptable(LaneClose),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<LaneClose> for Failure {
    fn from(close: LaneClose) -> Self {
        Self::Unacceptable(close)
    }
}

/// The way to an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) address: &'a str,
    pub(crate) proxy: Option<&'a str>,
    pub(crate) limits: AdmissionLimits,
    pub(crate) sockets: SocketOptions,
}

impl Route<'_> {
    /// A connection with a session of its own; nothing is said over it yet.
    pub(crate) async fn connect(
        &self,
        config: Arc<ClientConfig>,
    ) -> Result<Connection, AdmissionError> {
        check_address(self.address)?;
        let session = LaneSession::client(config, lane_server_name()?)?;
        let deadline = Deadline::after(self.limits.handshake_timeout);
        let (socket, remote) = match self.proxy {
            None => self.connect_tcp(self.address, deadline).await?,
            Some(proxy) => {
                check_address(proxy)?;
                let (socket, remote) = self.connect_tcp(proxy, deadline).await?;
                let head_bytes_max = self.limits.request_bytes_max;
                open_tunnel(&socket, proxy, self.address, deadline, head_bytes_max).await?;
                (socket, remote)
            }
        };
        Ok(Connection::new(socket, session, remote, deadline))
    }

    async fn connect_tcp(
        &self,
        address: &str,
        deadline: Deadline,
    ) -> Result<(TcpStream, SocketAddr), AdmissionError> {
        let unreachable =
            |source| AdmissionError::Unreachable { address: address.to_owned(), source };
        let handshake = |fault| AdmissionError::Handshake { address: address.to_owned(), fault };
        let resolved = deadline.limit(Stage::Connect, lookup_host(address)).await;
        let candidates: Vec<_> = resolved.map_err(handshake)?.map_err(unreachable)?.collect();
        let mut swallowed = false;
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for (index, candidate) in candidates.iter().enumerate() {
            // An address that swallows packets must leave time for the next one.
            let left = u32::try_from(candidates.len() - index).unwrap_or(u32::MAX);
            let share = deadline.at.saturating_duration_since(Instant::now()) / left;
            let attempt = Deadline { at: Instant::now() + share, after: deadline.after };
            let connecting = async {
                let socket = self.sockets.socket(*candidate)?.connect(*candidate).await?;
                prepare(&socket)?;
                Ok(socket)
            };
            match attempt.limit(Stage::Connect, connecting).await {
                Ok(Ok(socket)) => return Ok((socket, *candidate)),
                Ok(Err(error)) => last = error,
                Err(fault) if left == 1 => return Err(handshake(fault)),
                Err(_timeout) => swallowed = true,
            }
        }
        if swallowed {
            // What has cost so much was not refused at once.
            let text = format!("another of its addresses does not answer; this one: {last}");
            last = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
        }
        Err(unreachable(last))
    }

    pub(crate) fn handshake_error(&self, fault: Fault) -> AdmissionError {
        AdmissionError::Handshake { address: self.address.to_owned(), fault }
    }

    /// Tells the peer, if it is this side that refuses, and the caller.
    pub(crate) async fn give_up(&self, connection: Connection, failure: Failure) -> AdmissionError {
        match failure {
            Failure::Fault(fault) => {
                connection.refuse_fault(&fault).await;
                self.handshake_error(fault)
            }
            Failure::Refused(LaneClose { reason, detail }, evidence) => {
                connection.finish().await;
                AdmissionError::Refused { reason, detail, evidence }
            }
            Failure::Unacceptable(close) => {
                connection.refuse(&close).await;
                let LaneClose { reason, detail } = close;
                AdmissionError::Unacceptable { address: self.address.to_owned(), reason, detail }
            }
        }
    }
}
