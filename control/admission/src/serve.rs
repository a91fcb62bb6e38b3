//! One accepted connection, from its first byte to a lane, an admission, or a refusal.

use std::net::SocketAddr;
use std::sync::Arc;

use hawser_exchange::LaneHandover;
use hawser_identity::{PeerIdentity, csr_node, peer_identity};
use hawser_session::LaneSession;
use hawser_wire::{
    CloseReason, FrameKind, Hello, JoinRequest, LaneClose, LaneId, NodeId, TrafficClass, capability,
};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::connection::{Answer, Connection, Deadline};
use crate::hello::{LaneName, check_hello, own_hello};
use crate::http::{HttpRefusal, Target, answer_request};
use crate::limits::prepare;
use crate::{Accepted, AdmissionLimits, Fault, JoinAttempt, LocalNode, Refusal, Stage};

/// Why a connection came to nothing, and what the peer has been or is to be told.
#[derive(Debug)]
enum Failure {
    Fault(Fault),
    Http(HttpRefusal),
    Close(LaneClose),
    /// The peer closed, with its reason.
    ClosedByPeer(LaneClose),
    /// The peer gets no lane.
    Barred(Refusal),
    /// Nobody takes the result: this node stops.
    Stopping,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<LaneClose> for Failure {
    fn from(close: LaneClose) -> Self {
        Self::Close(close)
    }
}

/// Who has connected, as far as the handshake has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    remote: SocketAddr,
    /// From its certificate, which TLS has checked.
    peer: Option<NodeId>,
    /// What its Hello asks for.
    lane: Option<(LaneId, TrafficClass)>,
}

impl Caller {
    pub(crate) const fn stranger(remote: SocketAddr) -> Self {
        Self { remote, peer: None, lane: None }
    }

    /// Best effort: if the receiver is behind, only the log has it.
    pub(crate) fn report(self, sink: &mpsc::Sender<Accepted>, reason: String) {
        let Self { remote, peer, lane } = self;
        tracing::debug!(%remote, reason, "connection refused");
        let _receiver_is_behind = sink.try_send(Accepted::Refused { remote, peer, lane, reason });
    }
}

/// What the request was for, once it has been answered with an upgrade.
enum Upgraded {
    Lane(PeerIdentity),
    Join,
}

/// Serves the connection; refusals are reported, best effort, so that a flood of them waits for
/// nobody.
pub(crate) async fn serve(
    socket: TcpStream,
    remote: SocketAddr,
    local: Arc<LocalNode>,
    limits: AdmissionLimits,
    sink: mpsc::Sender<Accepted>,
) {
    let sink = &sink;
    let deadline = Deadline::after(limits.handshake_timeout);
    let mut caller = Caller::stranger(remote);
    if let Err(error) = prepare(&socket) {
        return caller.report(sink, error.to_string());
    }
    let session = match LaneSession::server(Arc::clone(&local.server)) {
        Ok(session) => session,
        Err(error) => return caller.report(sink, error.to_string()),
    };
    let mut connection = Connection::new(socket, session, remote, deadline);
    let failure = match upgrade(&mut connection, limits, &mut caller).await {
        Ok(Upgraded::Lane(peer)) => {
            match serve_lane(&mut connection, &local, &peer, &mut caller).await {
                Ok((hello, frame_body_max)) => {
                    return hand_over(connection, hello, peer, frame_body_max, caller, sink).await;
                }
                Err(failure) => failure,
            }
        }
        Ok(Upgraded::Join) => match serve_join(&mut connection, sink).await {
            Ok(()) => return connection.finish().await,
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    refuse(connection, failure, caller, sink).await;
}

async fn upgrade(
    connection: &mut Connection,
    limits: AdmissionLimits,
    caller: &mut Caller,
) -> Result<Upgraded, Failure> {
    connection.tls_handshake().await?;
    connection.enter(Stage::Upgrade, limits.request_bytes_max);
    let head = match connection.read_head().await {
        Err(Fault::TooLarge { .. }) => return Err(Failure::Http(HttpRefusal::HEAD_TOO_LARGE)),
        head => head?,
    };
    // A request can only be read once the whole handshake is done, the client's certificate and
    // its proof of possession included: what is absent now stays absent.
    let certificates = connection.session().peer_certificates().filter(|shown| !shown.is_empty());
    let identity = certificates.map(peer_identity);
    caller.peer = identity.as_ref().and_then(|identity| Some(identity.as_ref().ok()?.node));
    let (target, response) = answer_request(&head).map_err(Failure::Http)?;
    let upgraded = match (target, identity) {
        (Target::Join, _) => Upgraded::Join,
        (Target::Lane, None) => return Err(Failure::Http(HttpRefusal::NO_CERTIFICATE)),
        (Target::Lane, Some(identity)) => Upgraded::Lane(identity.map_err(|error| LaneClose {
            reason: CloseReason::IdentityRefused,
            detail: error.to_string(),
        })?),
    };
    connection.send_plaintext(&response).await?;
    let stage = match upgraded {
        Upgraded::Lane(_) => Stage::Hello,
        Upgraded::Join => Stage::Join,
    };
    connection.enter(stage, limits.request_bytes_max);
    Ok(upgraded)
}

async fn serve_lane(
    connection: &mut Connection,
    local: &LocalNode,
    peer: &PeerIdentity,
    caller: &mut Caller,
) -> Result<(Hello, u32), Failure> {
    let body = match connection.read_frame(FrameKind::Hello).await? {
        Answer::Body(body) => body,
        Answer::Close(close, _) => return Err(Failure::ClosedByPeer(close)),
    };
    let hello =
        Hello::decode(&body).map_err(|source| Fault::Decode { stage: Stage::Hello, source })?;
    // Under a version that is not shared its other fields may mean anything.
    caller.lane = hello.shared_version().map(|_| (hello.lane, hello.class));
    let frame_body_max = check_hello(&hello, peer, local)?;
    if let Some(refusal) = local.barred.refusal(peer.node) {
        return Err(Failure::Barred(refusal));
    }
    let mut answer = Vec::new();
    own_hello(local, LaneName::of(&hello)).encode(&mut answer);
    connection.send_frame(FrameKind::Hello, &answer).await?;
    Ok((hello, frame_body_max))
}

async fn hand_over(
    connection: Connection,
    hello: Hello,
    peer: PeerIdentity,
    frame_body_max: u32,
    caller: Caller,
    sink: &mpsc::Sender<Accepted>,
) {
    let (socket, session) = match connection.into_parts() {
        Ok(parts) => parts,
        Err(fault) => return caller.report(sink, fault.to_string()),
    };
    let handover = LaneHandover {
        peer: peer.node,
        peer_name: peer.name,
        peer_incarnation: hello.incarnation,
        peer_life: hello.life,
        peer_stripes: hello.capabilities & capability::STRIPING != 0,
        peer_takes_priority: hello.capabilities & capability::PRIORITY != 0,
        peer_takes_several: hello.capabilities & capability::SEVERAL_ADVERTISEMENTS != 0,
        lane: hello.lane,
        class: hello.class,
        epoch: hello.link_epoch,
        dialled: false,
        frame_body_max,
        remote: caller.remote,
        socket,
        session,
    };
    // Nobody takes it: this node stops, and the connection closes with the value.
    let _stopping = sink.send(Accepted::Lane(Box::new(handover))).await;
}

async fn serve_join(
    connection: &mut Connection,
    sink: &mpsc::Sender<Accepted>,
) -> Result<(), Failure> {
    let stage = Stage::Join;
    let body = match connection.read_frame(FrameKind::JoinRequest).await? {
        Answer::Body(body) => body,
        Answer::Close(close, _) => return Err(Failure::ClosedByPeer(close)),
    };
    let request = JoinRequest::decode(&body).map_err(|source| Fault::Decode { stage, source })?;
    let node = csr_node(&request.csr).map_err(|error| LaneClose {
        reason: CloseReason::IdentityRefused,
        detail: error.to_string(),
    })?;
    let (answer, answered) = oneshot::channel();
    let attempt = JoinAttempt { remote: connection.remote(), request, node, answer };
    let deadline = connection.deadline();
    let decided = deadline
        .limit(stage, async {
            sink.send(Accepted::Join(attempt)).await.ok()?;
            answered.await.ok()
        })
        .await?;
    let reply = decided.ok_or(Failure::Stopping)??;
    let body = reply.encode().map_err(|source| Fault::Decode { stage, source })?;
    connection.send_frame(FrameKind::JoinReply, &body).await?;
    Ok(())
}

async fn refuse(
    mut connection: Connection,
    failure: Failure,
    caller: Caller,
    sink: &mpsc::Sender<Accepted>,
) {
    match failure {
        Failure::Fault(fault) => {
            caller.report(sink, fault.to_string());
            connection.refuse_fault(&fault).await;
        }
        Failure::Http(refusal) => {
            let status = refusal.status.as_u16();
            caller.report(sink, format!("HTTP {status}: {}", refusal.text));
            if connection.send_plaintext(&refusal.encode()).await.is_ok() {
                connection.finish().await;
            }
        }
        Failure::Close(close) => {
            caller.report(sink, format!("{}: {}", close.reason.text(), close.detail));
            connection.refuse(&close).await;
        }
        Failure::Barred(Refusal { close, evidence }) => {
            caller.report(sink, format!("{}: {}", close.reason.text(), close.detail));
            connection.refuse_with(&close, &evidence).await;
        }
        Failure::ClosedByPeer(LaneClose { reason, detail }) => {
            caller.report(sink, format!("closed by the peer: {}: {detail}", reason.text()));
            connection.finish().await;
        }
        Failure::Stopping => {
            let detail = "the node stops".to_owned();
            connection.refuse(&LaneClose { reason: CloseReason::Shutdown, detail }).await;
        }
    }
}
